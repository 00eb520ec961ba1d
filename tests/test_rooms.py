"""Who may import whom: the order of the modules, read off the source.

A module imports modules of lower floors only. What trains knows no PyTensor: PyMC is imported
inside the function that needs it there, and optional libraries always are.
"""

import ast
import sys
from pathlib import Path

import pytest

import pymc_nre

PACKAGE = "pymc_nre"
SOURCES = {path.stem: path.read_text() for path in Path(pymc_nre.__file__).parent.glob("*.py")}

FLOORS = {
    0: {
        "trials",
        "progress",
        "threads",
        "archive",
        "losses",
        "layers",
        "domain",
        "forward",
        "grids",
        "calibration",
        "classifiers",
        "plots",
        "weights",
    }
    | {"activations", "compilation"},
    1: {"embeddings", "convolutions", "checkpoint", "checks", "tilts"},
    2: {"networks", "data", "kernels", "ledger"},
    3: {"prior", "evaluate", "execution", "ensembles", "tilted", "curvature", "jax_kernels"},
    4: {"simulate", "estimator", "export"},
    5: {"online", "exact", "data_sets", "scores", "combine", "pool", "reweighting", "typicality"},
    6: {"batches", "budget", "tasks_gaussian", "tasks_counts", "tasks_latent"}
    | {"ranks", "local_test", "concentration"},
    7: {"descent", "tasks", "frequentist", "reports"},
    8: {"train", "jax_functions", "cotangents"},
    9: {"penalty", "ops", "compiled_ops", "features", "guard"},
    10: {"engines"},
    11: {"distribution", "tabulate", "weigh"},
    12: {"mapping", "replicates"},
    13: {"local", "evidence", "chains"},
    14: {"center", "model_ranks"},
    15: {"diagnostics"},
    16: {"__init__"},
}
FLOOR = {module: floor for floor, modules in FLOORS.items() for module in modules}

# Inside one function only, with the reason:
UPWARDS = {
    ("data", "prior"): "Simulations(..., prior=) takes the log density of ready-made draws",
}
KNOWS_PYTENSOR = {
    "cotangents",
    "features",
    "ops",
    "compiled_ops",
    "guard",
    "engines",
    "distribution",
    "mapping",
    "evidence",
    "replicates",
    "chains",
    "model_ranks",
    "diagnostics",
}
KNOWS_PYTENSOR |= {"activations", "compilation", "kernels"}  # numba only
PYTENSOR = {"pymc", "pytensor", "numba", "llvmlite"}  # numba comes with PyTensor, llvmlite with it
BASE = {"numpy", "scipy", "torch", "xarray", "rich", "cloudpickle"}  # may be imported anywhere


def imports(source):
    """Triples (imported module, is it one of ours, is it at the top level) of a source."""
    tree = ast.parse(source)
    inside = {
        node
        for function in ast.walk(tree)
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for node in ast.walk(function)
    }
    for_types_only = {
        node
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        if node in for_types_only:
            continue
        top = node not in inside
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _absolute(alias.name, top)
        elif isinstance(node, ast.ImportFrom) and node.level:
            names = [node.module] if node.module else [alias.name for alias in node.names]
            yield from ((name.split(".")[0], True, top) for name in names)
        elif isinstance(node, ast.ImportFrom) and node.module == PACKAGE:
            yield from ((alias.name, True, top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from _absolute(node.module, top)


def _absolute(name, top):
    first, *rest = name.split(".")
    yield (rest[0] if rest else "__init__", True, top) if first == PACKAGE else (first, False, top)


def violations(module, source):
    """What ``module`` with that ``source`` imports and must not."""
    found = []
    for name, ours, top in imports(source):
        if ours:
            lower = FLOOR.get(name, 99) < FLOOR[module]
            noted = not top and (module, name) in UPWARDS
            if not (lower or noted):
                found.append(f"{module} imports {name}")
        elif (top and name in PYTENSOR and module not in KNOWS_PYTENSOR) or (
            top and name not in BASE | PYTENSOR and name not in sys.stdlib_module_names
        ):
            found.append(f"{module} imports {name} at its top level")
    return found


def test_every_module_has_one_floor():
    assert set(FLOOR) == set(SOURCES)
    assert sum(map(len, FLOORS.values())) == len(FLOOR)


@pytest.mark.parametrize("module", sorted(SOURCES))
def test_imports_go_down(module):
    assert violations(module, SOURCES[module]) == []


def test_notes_are_still_needed():
    lazy = {
        (module, name)
        for module, source in SOURCES.items()
        for name, ours, top in imports(source)
        if ours and not top
    }
    assert set(UPWARDS) <= lazy
    assert all(FLOOR[module] <= FLOOR[name] for module, name in UPWARDS)
    knowing = {
        module
        for module, source in SOURCES.items()
        for name, _, top in imports(source)
        if top and name in PYTENSOR
    }
    assert knowing == KNOWS_PYTENSOR


@pytest.mark.parametrize(
    ("module", "source", "found"),
    [
        ("losses", "from .networks import MLP", "losses imports networks"),
        ("estimator", "from .train import train", "estimator imports train"),
        ("train", "def f():\n    from .ops import x", "train imports ops"),
        ("data", "from .prior import Prior", "data imports prior"),
        ("networks", "from . import data", "networks imports data"),
        ("domain", "import pymc_nre.simulation.parameters", "domain imports data"),
        ("domain", "from pymc_nre import data", "domain imports data"),
        ("domain", "from pymc_nre.simulation.parameters import x", "domain imports data"),
        ("train", "import pymc_nre", "train imports __init__"),
        ("train", "from .unknown import x", "train imports unknown"),
        ("train", "import pymc as pm", "train imports pymc at its top level"),
        ("prior", "import pytensor.tensor as pt", "prior imports pytensor at its top level"),
        ("prior", "if True:\n    from pymc.math import dot", "prior imports pymc at its top level"),
        ("diagnostics", "import matplotlib.pyplot", "diagnostics imports matplotlib at its top"),
        ("train", "try:\n    import sbi\nexcept ImportError:\n    pass", "train imports sbi at"),
        ("ops", "import jax", "ops imports jax at its top level"),
        ("distribution", "from nutpie import sample", "distribution imports nutpie at its top"),
    ],
)
def test_violations_are_seen(module, source, found):
    (violation,) = violations(module, source)
    assert violation.startswith(found)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("train", "from .losses import NREC\nimport torch\nimport math"),
        ("data", "def f():\n    from .prior import Prior"),
        ("prior", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import pymc"),
        ("prior", "def f():\n    import pymc as pm\n    import matplotlib"),
        ("ops", "import pytensor.tensor as pt\nfrom .estimator import RatioEstimator"),
    ],
)
def test_what_is_allowed_is_not_seen(module, source):
    assert violations(module, source) == []
