"""Every snippet of the README and of every page runs, from top to bottom, and prints what is shown.

A page is one script: names that a snippet uses are made above it. All code runs as it stands; what
takes long does less of the same (`LESS`). Nothing is left out.
"""

import contextlib
import io
import re
from pathlib import Path

import pymc as pm
import pytest

import pymc_nre as nre
from pymc_nre.many_trials import centering

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", *(str(page.relative_to(ROOT)) for page in sorted(ROOT.glob("docs/**/*.md")))]
BLOCK = re.compile(r"^( *)```(.*)\n((?:.*\n)*?)\1```$", flags=re.MULTILINE)
LANGUAGES = {"python", "text", "bash", "{include}", "{toctree}", "{eval-rst}"}
# Calls that take long, and how much of each runs.
LESS = [
    (nre, "train", {"epochs": 3}),
    (centering, "fine_tune", {"steps": 3}),
    (nre.diagnostics, "report", {"draws": 100}),
    (nre.diagnostics, "sbc_model", {"replicates": 4, "draws": 50, "tune": 50}),
    (nre.diagnostics, "log_marginal_ratio", {"draws": 100}),
    (pm, "sample", {"draws": 100, "tune": 100, "chains": 2, "cores": 1}),
]


def blocks(text):
    """``(line, language, body)`` of each fenced block."""
    return [
        (text.count("\n", 0, found.start()) + 1, found[2].split(" ")[0], found[3])
        for found in BLOCK.finditer(text)
    ]


def less(call, most):
    """The same function, with at most so much of each option."""

    def shortened(*arguments, **options):
        few = {name: min(options.get(name, number), number) for name, number in most.items()}
        return call(*arguments, **options | few)

    return shortened


def printed(text, name="page"):
    """Run a page; what each of its snippets printed, beside the output that is shown for it."""
    space, said, outputs = {"__name__": "__main__"}, "", []
    for line, language, body in blocks(text):
        if language == "python":
            with contextlib.redirect_stdout(io.StringIO()) as out:
                # Blank lines above, so that a traceback has the line of the page.
                exec(compile("\n" * line + body, name, "exec"), space)
            said = out.getvalue()
        elif language == "text":
            outputs.append((said, body))
    return outputs


@pytest.mark.parametrize("page", [p for p in PAGES if "```python" in (ROOT / p).read_text()])
@pytest.mark.filterwarnings("ignore")  # networks that have learned for three epochs
@pytest.mark.usefixtures("closed_figures")
def test_snippets_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for owner, name, most in LESS:
        monkeypatch.setattr(owner, name, less(getattr(owner, name), most))
    outputs = printed((ROOT / page).read_text(), page)
    if page != "README.md":  # whose numbers are those of all epochs: below
        for said, shown in outputs:
            assert shown in said
