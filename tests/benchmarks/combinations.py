"""A benchmark that measures combinations one by one, and goes on where it was killed."""

import argparse
from functools import partial
from pathlib import Path

import torch

from .results import Results

__all__ = ["measure_all", "parser_of"]

ROOT = Path(__file__).parents[2]


def parser_of(description):
    """Of the command line: where raw results go, and where the table does."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--work", type=Path, default=Path("benchmark_results"))
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks")
    return parser


def measure_all(name, keys, combinations, measured, table, options, tell=dict):
    """Fill in what is missing, on one thread, then write the table.

    Parameters
    ----------
    name : str
        Of the files.
    keys : tuple of str
        What the values of a combination are called.
    combinations : iterable of tuple
    measured : callable
        Values of a combination to a record of what was measured.
    table : callable
        All records, by values, to Markdown.
    options : argparse.Namespace
        Of `parser_of`.
    tell : callable
        What of a record is printed.
    """
    torch.set_num_threads(1)
    results = Results(options.work / f"{name}.jsonl", keys)
    for values in combinations:
        found = results.get(partial(measured, *values), **dict(zip(keys, values, strict=True)))
        print(*values, tell(found), flush=True)
    (options.out / f"{name}.inc").write_text(table(results.read()))
