"""What every benchmark on these tasks is told on its command line."""

import argparse
import os
from pathlib import Path

from .catalog import TASKS

_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pymc_nre_sbibm"
_DOCS = Path(__file__).parents[3] / "docs" / "benchmarks"


def parser(program, description, work="work"):
    """A parser of what is to be measured, and of where things are; ``work`` is a folder's name."""
    found = argparse.ArgumentParser(
        f"python -m tests.benchmarks.{program}", description=description
    )
    found.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS), metavar="TASK")
    found.add_argument("--observations", nargs="+", type=int, default=[1, 2, 3, 4, 5], metavar="I")
    found.add_argument("--draws", type=int, default=10_000)
    found.add_argument("--seeds", nargs="+", type=int, default=[1], help="ten apart, for five")
    found.add_argument("--work", type=Path, default=_CACHE / work, help="networks and results")
    found.add_argument("--cache", type=Path, default=_CACHE, help="where the wheel is put")
    found.add_argument("--out", type=Path, default=_DOCS, help="where tables are written")
    return found
