"""Run them: ``python -m tests.benchmarks.problems``, from the root of the repository.

Each takes some five minutes on one core; a killed run goes on with the next. ``--quick`` trains
for a moment only. Writes the table that docs/benchmarks.md includes.
"""

import argparse
import os
import tempfile
from functools import partial
from pathlib import Path

# Before NumPy and torch are imported: the arrays are small, and other processes want cores too.
os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")

from ..results import Results
from ..tables import Table
from .boxes import EPIDEMIC, QUANTILES, RACE
from .counts import Counts
from .follow import follow
from .survival import Survival

PROBLEMS = (Survival(), EPIDEMIC, QUANTILES, RACE, Counts())
_QUICK = {"simulations": 2_000, "epochs": 2, "draws": 100}
_DOCS = Path(__file__).parents[3] / "docs" / "benchmarks"


def main():
    """Fill in what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    scratch = Path(tempfile.gettempdir()) / "pymc_nre_benchmarks"
    parser.add_argument("--work", type=Path, default=scratch)
    parser.add_argument("--out", type=Path, default=_DOCS)
    parser.add_argument("--only", nargs="+", default=[problem.name for problem in PROBLEMS])
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    name = "problems_quick.jsonl" if options.quick else "problems.jsonl"
    results = Results(options.work / name, ("problem",))
    for problem in PROBLEMS:
        if problem.name in options.only:
            tell = partial(print, problem.name, flush=True)
            compute = partial(follow, problem, tell=tell, **(_QUICK if options.quick else {}))
            results.get(compute, problem=problem.name)
    text = table(results.read()).markdown()
    print(text)
    if not options.quick:
        (options.out / "problems.inc").write_text(text)


def table(records):
    """A row for each station: errors and widths of all quantities, and what was said."""
    rows = []
    for problem in PROBLEMS:
        for station in records.get((problem.name,), {"stations": []})["stations"]:
            errors = ", ".join(f"{k} {v:+.2f}" for k, v in station["error"].items())
            widths = ", ".join(f"{v:.2f}" for v in station["width"].values())
            said = "; ".join(_short(words) for words in station["words"]) or "nothing"
            rows.append([f"{problem.name}: {station['station']}", errors, widths, said])
    title = "Errors of posterior means in exact standard deviations, and widths beside the exact"
    return Table(title, ("problem and station", "errors", "widths", "what was said"), rows)


def _short(words):
    first = words.replace("|", "/").replace("\n", " ").split(". ")[0]
    return first if len(first) <= 160 else first[:160] + "..."


if __name__ == "__main__":
    main()
