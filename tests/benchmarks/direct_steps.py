"""Direct ratios: what heads do to Metropolis, what to compare with, and what samplers get.

``python tests/benchmarks/direct_steps.py`` trains ratios by their defaults, keeps them, and goes
on where it was stopped; one part of it by name. Half an hour on a free core.
"""

import argparse
import importlib
import os
import sys
import tempfile
from functools import partial
from pathlib import Path

from worker import ONE_THREAD

os.environ |= ONE_THREAD

ROOT = Path(__file__).parents[2]
PARTS = ("laws", "evidence", "chains", "gradients")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    scratch = Path(tempfile.gettempdir()) / "pymc_nre_benchmarks"
    parser.add_argument("parts", nargs="*", default=PARTS)
    parser.add_argument("--work", type=Path, default=scratch)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    machine = importlib.import_module("machine")
    for part in options.parts:
        tables = importlib.import_module(f"direct_{part}").run(
            options.work, partial(print, flush=True)
        )
        text = "\n".join(table.markdown() for table in tables)
        path = options.out / f"direct_{part}.inc"
        path.write_text(f"{text}\nMeasured on {machine.describe()}.\n")
        print(text, path, sep="\n")


if __name__ == "__main__":
    sys.exit(main())
