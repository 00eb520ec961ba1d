"""What the second Python leaves out imports nothing whose major it changes."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CHANGED = {"pymc", "pytensor", "arviz", "numba", "llvmlite", "jax", "numpyro", "nutpie"}
CHANGED |= {"compat"}  # where our own code asks which of them is there


def left_out(source):
    """The list of paths in noxfile.py."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "SAME_ON_BOTH":
            return ast.literal_eval(node.value)
    return []


def modules_of(path):
    """Paths of the modules that a folder or file of tests mirrors."""
    package = ROOT / "pymc_nre" / Path(path).relative_to("tests").parent
    name = Path(path).name
    if name.endswith(".py"):
        return [package / name.removeprefix("test_")]
    return sorted((package / name).rglob("*.py"))


def imported(source):
    """Every name that is imported from or as, wherever it stands."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {*(node.module or "").split("."), *(alias.name for alias in node.names)}
    return found


PATHS = left_out((ROOT / "noxfile.py").read_text())


def test_something_is_left_out():
    assert len(PATHS) > 3


@pytest.mark.parametrize("path", PATHS)
def test_it_is_the_same_on_both(path):
    assert (ROOT / path).exists()
    modules = modules_of(path)
    assert modules
    assert {m.name: imported(m.read_text()) & CHANGED for m in modules} == {
        m.name: set() for m in modules
    }


@pytest.mark.parametrize(
    "source",
    ["import pymc as pm", "def f():\n    import jax.numpy", "from ..compat import posterior_of"],
)
def test_imports_are_seen(source):
    assert imported(source) & CHANGED
