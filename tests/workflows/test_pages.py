"""Every snippet of the README and of every page runs, from top to bottom, and prints what is shown.

A page is one script: names that a snippet uses are made above it. All code runs as it stands; what
takes long does less of the same (`LESS`). Nothing is left out.
"""

import contextlib
import inspect
import io
import re
import sys
from pathlib import Path

import pymc as pm
import pytest

import pymc_nre as nre
from pymc_nre.many_trials import centering

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", *(str(page.relative_to(ROOT)) for page in sorted(ROOT.glob("docs/**/*.md")))]
BLOCK = re.compile(r"^( *)```(.*)\n((?:.*\n)*?)\1```$", flags=re.MULTILINE)
LANGUAGES = {
    "python", "text", "bash", "{include}", "{literalinclude}", "{toctree}", "{eval-rst}",
}  # fmt: skip
# Calls that take long, and how much of each runs.
LESS = [
    (nre, "simulate", {"n": 20_000}),
    (nre, "train", {"epochs": 3}),
    (nre, "rounds", {"n": 500}),
    (centering, "fine_tune", {"steps": 3}),
    (nre.diagnostics, "report", {"draws": 100}),
    (nre.diagnostics, "sbc_model", {"replicates": 4, "draws": 50, "tune": 50}),
    (nre.diagnostics, "log_marginal_ratio", {"draws": 100}),
    (pm, "sample", {"draws": 100, "tune": 100, "chains": 2, "cores": 1}),
]
# Half of the time; on the second Python the tests of the same functions speak for them.
ON_ONE_PYTHON = (
    *("docs/diagnostics.md", "docs/direct_ratios.md", "docs/many_trials.md", "docs/rounds.md"),
    "docs/howto/parallel_simulation.md",
)
WITH_SNIPPETS = [
    pytest.param(page, marks=[pytest.mark.one_python] if page in ON_ONE_PYTHON else [])
    for page in PAGES
    if "```python" in (ROOT / page).read_text()
]


def blocks(text):
    """``(line, language, body)`` of each fenced block."""
    return [
        (text.count("\n", 0, found.start()) + 1, found[2].split(" ")[0], found[3])
        for found in BLOCK.finditer(text)
    ]


def less(call, most):
    """The same function, with at most so much of each argument."""
    signature = inspect.signature(call)

    def shortened(*arguments, **options):
        given = signature.bind(*arguments, **options)
        for name, number in most.items():
            given.arguments[name] = min(given.arguments.get(name) or number, number)
        return call(*given.args, **given.kwargs)

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


@pytest.mark.parametrize("page", WITH_SNIPPETS)
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


def numbers(text):
    return [float(number) for number in re.findall(r"-?\d+\.\d+", text)]


@pytest.mark.slow
@pytest.mark.skipif(sys.version_info >= (3, 12), reason="ArviZ 1 prints another table.")
@pytest.mark.filterwarnings("ignore")
def test_the_readme_prints_its_numbers():
    """To the digits where draws were made in the same way; elsewhere as draws differ."""
    ((said, shown),) = printed((ROOT / "README.md").read_text())
    print(said)
    said = said[said.index(shown.splitlines()[0]) :]  # what is above it tells of progress
    assert numbers(said) == pytest.approx(numbers(shown), abs=0.1)


@pytest.mark.parametrize("page", PAGES)
def test_code_is_called_by_its_name(page):
    """So that no snippet runs by the name of another language, or indented out of sight."""
    text = (ROOT / page).read_text()
    named = [language for _, language, _ in blocks(text)]
    assert set(named) <= LANGUAGES
    assert 2 * len(named) == len(re.findall(r"^ *(?:```|~~~)", text, flags=re.MULTILINE))
    assert ">>>" not in text


def programs(text):
    """Files that the commands of a page run."""
    scripts = re.findall(r"(?:examples|tests)/[\w/]+\.py", text)
    modules = re.findall(r"-m (tests[\w.]+)", text)
    return {*scripts, *(module.rstrip(".").replace(".", "/") for module in modules)}


def test_commands_name_what_is_there():
    named = set().union(*(programs((ROOT / page).read_text()) for page in PAGES))
    there = {name for name in named if any((ROOT / f"{name}{end}").exists() for end in ("", ".py"))}
    assert named == there
    assert len(named) > 20


def test_examples_are_linked_and_shown():
    page = (ROOT / "docs/examples.md").read_text()
    for script in (ROOT / "examples").glob("*.py"):
        assert f"(../examples/{script.name})" in page
        assert f"```{{literalinclude}} ../examples/{script.name}\n" in page


def test_twin_undefined_names_and_other_outputs_are_seen():
    page = "```python\nprint(1)\n```\n\n```text\n2\n```\n"
    assert printed(page) == [("1\n", "2\n")]
    with pytest.raises(NameError, match="held_out"):
        printed(page + "\n```python\nprint(held_out)\n```\n")
    assert programs("`python -m tests.nowhere`, `python examples/none.py`") == {
        "tests/nowhere", "examples/none.py",
    }  # fmt: skip


def test_twin_less_is_less_and_never_more():
    def call(n, epochs=None, *, draws=1_000):
        return n, epochs, draws

    shortened = less(call, {"n": 20, "epochs": 3, "draws": 100})
    assert shortened(50) == (20, 3, 100)
    assert shortened(n=5, epochs=2, draws=7) == (5, 2, 7)
