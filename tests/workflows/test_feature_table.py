"""The table of docs/pymc_features.md names tests; they must exist."""

import ast
import re
from functools import cache
from pathlib import Path

TESTS = Path(__file__).parents[1]
TABLE = TESTS.parent / "docs" / "pymc_features.md"


def rows(text):
    """Cells of each row of each table, without heads and rules."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if row[-1] != "proved by" and set(row[-1]) != {"-"}]


@cache
def functions(file):
    path = TESTS / file
    tree = ast.parse(path.read_text()) if path.exists() else ast.Module([], [])
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def unproved(text):
    """Rows that name no test, or one that is not there."""
    wrong = []
    for row in rows(text):
        named = re.fullmatch(r"`([\w/]+\.py)::(test_\w+)`", row[-1])
        if not named or named[2] not in functions(named[1]):
            wrong.append(row)
    return wrong


def test_every_feature_has_its_test():
    text = TABLE.read_text()
    assert len(rows(text)) > 40
    assert unproved(text) == []


def test_twin_made_up_tests_are_caught():
    head = "| feature | proved by |\n|---|---|\n"
    here = "workflows/test_feature_table.py"
    assert unproved(head + f"| a | `{here}::test_every_feature_has_its_test` |") == []
    for name in (f"`{here}::test_made_up`", "`test_nowhere.py::test_rows`", "a promise", ""):
        assert len(unproved(head + f"| a | {name} |")) == 1
