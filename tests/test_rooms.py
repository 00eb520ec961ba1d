"""Who may import whom: layers of packages, read off the source.

A package imports packages of lower layers only, never one beside it, and inside a package no two
modules import each other. What trains knows no PyTensor: PyMC is imported inside the function that
needs it there, and optional libraries always are.
"""

import ast
import re
import sys
from pathlib import Path

import pytest

import pymc_nre

PACKAGE = "pymc_nre"
HOME = Path(pymc_nre.__file__).parent

LAYERS = [  # from the ground up
    {"runtime"},
    {"simulation", "networks", "losses"},
    {"estimators", "kernels"},
    {"training", "ops", "tasks"},
    {"likelihood", "amortized"},
    {"diagnostics", "many_trials", "point", "sequential", "steps"},
    {"__init__"},
]
LAYER = {room: number for number, rooms in enumerate(LAYERS) for room in rooms}
BESIDE = {"exceptions", "compat", "plots"}  # any room may use them; they use none

PYTENSOR = {"pymc", "pytensor", "numba", "llvmlite"}  # numba comes with PyTensor, llvmlite with it
KNOW_PYTENSOR = {"ops", "likelihood", "diagnostics", "steps"}
KNOW_NUMBA = {"kernels"}
ANYWHERE = {"numpy", "scipy", "torch", "xarray", "rich", "cloudpickle"}

MOST_FILES, MOST_FOLDERS, MOST_IN_A_FOLDER = 5, 16, 14
MOST_LINES, DEEPEST = 60, 4
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def module_of(path):
    """``simulation.prior``; a package is called as its folder, the face ``__init__``."""
    parts = path.relative_to(HOME).with_suffix("").parts
    return ".".join(parts[:-1]) if parts[-1] == "__init__" and len(parts) > 1 else ".".join(parts)


PATHS = {module_of(path): path for path in HOME.rglob("*.py")}
SOURCES = {module: path.read_text() for module, path in PATHS.items()}
PACKAGES = {module for module, path in PATHS.items() if path.name == "__init__.py"} - {"__init__"}


def imports(module, source):
    """Triples (imported module, is it one of ours, is it at the top level) of a source."""
    tree = ast.parse(source)
    inside = {
        node
        for function in ast.walk(tree)
        if isinstance(function, (*FUNCTIONS, ast.Lambda))
        for node in ast.walk(function)
    }
    for_types = {
        node
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        top = node not in inside and node not in for_types
        if isinstance(node, ast.Import):
            yield from (_named(alias.name, None, top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            name = _absolute(module, node) if node.level else node.module
            yield from (_named(name, alias.name, top) for alias in node.names)


def _absolute(module, node):
    parts = [PACKAGE, *module.split(".")]
    own = parts if module in PACKAGES else parts[:-1]
    return ".".join([*own[: len(own) - node.level + 1], *filter(None, [node.module])])


def _named(name, attribute, top):
    """What is imported: of ours the module that is meant, of others the library."""
    first, *rest = name.split(".")
    if first != PACKAGE:
        return first, False, top
    deeper = ".".join([*rest, attribute]) if attribute else None
    known = [deeper] if deeper in SOURCES else [".".join(rest)]
    return known[0] or "__init__", True, top


def room(module):
    return module.split(".")[0]


def violations(module, source):
    """What ``module`` with that ``source`` imports and must not."""
    found = []
    own = room(module)
    for name, ours, top in imports(module, source):
        if ours:
            if own in BESIDE or not _is_below(room(name), own):
                found.append(f"{module} imports {name}")
        elif top and not _may_import(own, name):
            found.append(f"{module} imports {name} at its top level")
    return found


def _is_below(name, own):
    """Whether a room may be used by another: it lies lower, or beside all, or is the same."""
    lower = LAYER.get(name, 99) < LAYER.get(own, -1) or name in BESIDE
    return lower or (name == own and name != "__init__")


def _may_import(own, library):
    if library in ANYWHERE or library in sys.stdlib_module_names:
        return True
    if own in KNOW_PYTENSOR:
        return library in PYTENSOR
    return own in KNOW_NUMBA and library in {"numba", "llvmlite"}


def test_every_room_has_one_layer():
    assert sum(map(len, LAYERS)) == len(LAYER)
    assert {room(module) for module in SOURCES} == set(LAYER) | BESIDE


@pytest.mark.parametrize("module", sorted(SOURCES))
def test_imports_go_down(module):
    assert violations(module, SOURCES[module]) == []


def circles(edges):
    """Modules that import themselves by way of others, of edges (module, imported)."""
    reached = {module: {b for a, b in edges if a == module} for module, _ in edges}
    grown = True
    while grown:
        grown = False
        for known in reached.values():
            more = set().union(*(reached.get(module, set()) for module in known)) - known
            known |= more
            grown |= bool(more)
    return sorted(module for module, known in reached.items() if module in known)


def test_no_modules_import_each_other():
    """Imports for types alone and inside functions count too; packages gather their modules."""
    edges = {
        (module, name)
        for module, source in SOURCES.items()
        if module not in PACKAGES
        for name, ours, _ in imports(module, source)
        if ours
    }
    assert circles(edges) == []
    assert circles({("a", "b"), ("b", "c"), ("c", "a"), ("d", "a")}) == ["a", "b", "c"]


def test_what_may_know_pytensor_does():
    knowing = {
        room(module)
        for module, source in SOURCES.items()
        for name, _, top in imports(module, source)
        if top and name in {"pymc", "pytensor"}
    }
    assert knowing == KNOW_PYTENSOR


@pytest.mark.parametrize(
    ("module", "source", "found"),
    [
        ("losses.base", "from ..networks import MLP", "losses.base imports networks"),
        ("losses.base", "from ..networks.base import x", "losses.base imports networks.base"),
        (
            "estimators.files",
            "from ..training.members import train",
            "estimators.files imports train",
        ),
        ("estimators.files", "from ..kernels import inputs", "estimators.files imports kernels.i"),
        ("training.loop", "def f():\n    from ..ops.engines import x", "training.loop imports ops"),
        ("simulation.prior", "from .. import tasks", "simulation.prior imports tasks"),
        ("simulation.prior", "import pymc_nre.ops.guards", "simulation.prior imports ops.guards"),
        (
            "simulation.prior",
            "from pymc_nre import plots as p, ops",
            "simulation.prior imports ops",
        ),
        ("training.loop", "import pymc_nre", "training.loop imports __init__"),
        ("training.loop", "from ..unknown import x", "training.loop imports unknown"),
        ("plots", "from .exceptions import SimulationError", "plots imports exceptions"),
        (
            "losses.carl",
            "if TYPE_CHECKING:\n    from ..simulation.online import Online",
            "losses.carl imports simulation.online",
        ),
        ("training.loop", "import pymc as pm", "training.loop imports pymc at its top level"),
        ("kernels.inputs", "import pytensor", "kernels.inputs imports pytensor at its top level"),
        ("simulation.prior", "if True:\n    import numba", "simulation.prior imports numba at"),
        ("diagnostics.roc", "import matplotlib.pyplot", "diagnostics.roc imports matplotlib at"),
        (
            "training.loop",
            "try:\n    import sbi\nexcept ImportError:\n    pass",
            "training.loop im",
        ),
        ("ops.engines", "import jax", "ops.engines imports jax at its top level"),
        ("likelihood", "from nutpie import sample", "likelihood imports nutpie at its top level"),
    ],
)
def test_violations_are_seen(module, source, found):
    (violation,) = violations(module, source)
    assert violation.startswith(found)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("training.loop", "from ..losses.contrastive import NREC\nimport torch\nimport math"),
        ("simulation.joint", "from .prior import Prior\nfrom . import execution"),
        ("simulation.prior", "if TYPE_CHECKING:\n    import pymc"),
        ("simulation.prior", "def f():\n    import pymc as pm\n    import matplotlib"),
        ("ops.engines", "import pytensor.tensor as pt\nfrom ..estimators.files import load"),
        ("diagnostics.model_sbc.run", "from ..ranks import x\nfrom ...ops import guards"),
        ("networks", "from .base import RatioNetwork"),
        ("__init__", "from . import plots\nfrom .training.members import train"),
    ],
)
def test_what_is_allowed_is_not_seen(module, source):
    assert violations(module, source) == []


def test_the_page_for_developers_shows_every_room():
    docs = Path(__file__).parents[1] / "docs"
    if not docs.is_dir():
        pytest.skip("the documentation is not in the archive of the sources")
    page = (docs / "development.md").read_text()
    picture = (docs / "images" / "rooms.svg").read_text()
    for name in {room(module) for module in SOURCES} - {"__init__"}:
        assert f"`{name}`" in page
        assert f">{name}<" in picture


def test_the_listing_is_short():
    here = [p for p in HOME.iterdir() if p.name != "__pycache__"]
    assert sum(p.is_file() for p in here) <= MOST_FILES
    assert sum(p.is_dir() for p in here) <= MOST_FOLDERS
    folders = [p for p in HOME.rglob("*") if p.is_dir() and p.name != "__pycache__"]
    assert max(len(list(folder.glob("*.py"))) for folder in folders) <= MOST_IN_A_FOLDER


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_a_package_teaches_and_holds_no_code(package):
    """A docstring of more than a line; beside it at most its public names."""
    docstring, *rest = ast.parse(SOURCES[package]).body
    assert isinstance(docstring, ast.Expr)
    assert len(docstring.value.value.strip().splitlines()) > 2
    for node in rest:
        names = getattr(node, "targets", [getattr(node, "target", None)])
        assert isinstance(node, ast.ImportFrom) or ast.unparse(names[0]) == "__all__"


def body_lines(function):
    """Lines of a function without its signature and docstring."""
    statements = function.body
    if ast.get_docstring(function) is not None:
        statements = statements[1:]
    return statements[-1].end_lineno - statements[0].lineno + 1 if statements else 0


def depth(node):
    """How many blocks stand inside one another; functions in functions begin anew."""
    blocks = (ast.If, ast.For, ast.While, ast.With, ast.Try, ast.Match)
    deepest = 0
    for child in ast.iter_child_nodes(node):
        if isinstance(child, FUNCTIONS):
            continue
        deepest = max(deepest, isinstance(child, blocks) + depth(child))
    return deepest


@pytest.mark.parametrize("module", sorted(SOURCES))
def test_functions_fit_in_the_eye(module):
    for function in ast.walk(ast.parse(SOURCES[module])):
        if isinstance(function, FUNCTIONS):
            assert body_lines(function) <= MOST_LINES, function.name
            assert depth(function) <= DEEPEST, function.name


def test_long_and_deep_functions_are_seen():
    long = ast.parse("def f():\n    'Doc.'\n" + "    x = 1\n" * 61).body[0]
    assert body_lines(long) == 61
    deep = (
        "def f():\n" + "".join(f"{'    ' * (i + 1)}if x:\n" for i in range(5)) + "      " * 5 + "y"
    )
    assert depth(ast.parse(deep).body[0]) == 5


VERSIONS = re.compile(
    r"(?:pm|az|pymc|arviz|pytensor)\.__version__|L_op|hasattr\(step|\.groups\b|InferenceData\("
)


@pytest.mark.parametrize("module", sorted(set(SOURCES) - {"compat", "__init__"}))
def test_only_compat_asks_which_version_is_there(module):
    code = ast.parse(SOURCES[module])
    for node in ast.walk(code):  # docstrings may tell of it
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            node.value.value = ""
    assert VERSIONS.findall(ast.unparse(code)) == []
