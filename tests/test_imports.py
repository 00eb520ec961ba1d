"""Importing the package only defines, and what it defines is documented."""

import inspect
import json
import subprocess
import sys
import textwrap

import pytest

import pymc_nre as nre

# Runs in a fresh interpreter: what the dependencies have set up, then what we add to it.
SCRIPT = """
import json, os, sys, warnings
warnings.simplefilter("ignore")
import numpy, scipy.stats, torch, xarray, rich.progress, cloudpickle, arviz, pymc, pytensor
import pytensor.link.numba.dispatch.basic

def state():
    return {
        "torch dtype": str(torch.get_default_dtype()),
        "torch threads": [torch.get_num_threads(), torch.get_num_interop_threads()],
        "torch grad": torch.is_grad_enabled(),
        "torch deterministic": torch.are_deterministic_algorithms_enabled(),
        "torch random": torch.get_rng_state().tolist(),
        "torch print": repr(torch._tensor_str.PRINT_OPTS),
        "pytensor": {
            key: str(getattr(pytensor.config, key))
            for key in ("floatX", "mode", "linker", "cxx", "optimizer", "cast_policy",
                        "exception_verbosity", "compiledir")
        },
        "numpy print": repr(numpy.get_printoptions()),
        "numpy errors": numpy.geterr(),
        "numpy random": str(numpy.random.get_state()),
        "warnings": [str(entry) for entry in warnings.filters],
        "environment": dict(os.environ),
        "rich": repr(vars(rich.get_console()).keys()) if rich._console else None,
        "hooks": [repr(sys.excepthook), repr(sys.displayhook), repr(sys.meta_path)],
        "recursion": sys.getrecursionlimit(),
        "context": str(__import__("multiprocessing").get_start_method(allow_none=True)),
    }

before, modules = state(), set(sys.modules)
if sys.argv[1:]:
    exec(sys.argv[1])  # the twin
import pymc_nre
after = state()
added = sorted({name.split(".")[0] for name in set(sys.modules) - modules})
changed = sorted(key for key in before if before[key] != after[key])
print(json.dumps({"added": added, "changed": changed}))
"""


def import_in_a_fresh_interpreter(*twin):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SCRIPT), *twin],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 1, "importing the package must print nothing"
    return json.loads(lines[0])


def test_importing_defines_and_does_nothing_else():
    report = import_in_a_fresh_interpreter()
    assert report["changed"] == []
    # Nothing optional comes along: what is imported are ourselves and the standard library.
    added = set(report["added"]) - set(sys.stdlib_module_names)
    assert added == {"pymc_nre"}


@pytest.mark.one_python
def test_a_package_that_does_more_is_seen():
    report = import_in_a_fresh_interpreter(
        "torch.set_default_dtype(torch.float64); numpy.set_printoptions(precision=3); "
        "warnings.simplefilter('error'); pytensor.config.floatX = 'float32'; torch.rand(1); "
        "import sqlite3, pip"
    )
    assert report["changed"] == [
        "numpy print",
        "pytensor",
        "torch dtype",
        "torch random",
        "warnings",
    ]
    assert "pip" in report["added"]


def public():
    """Every public object by its full name: ours, and those of the public modules."""
    for name in nre.__all__:
        thing = getattr(nre, name)
        if inspect.ismodule(thing):
            yield from ((f"{name}.{inner}", getattr(thing, inner)) for inner in thing.__all__)
        else:
            yield name, thing


PUBLIC = dict(public())
# Neither called nor built by users: warnings, errors, protocols, and what others return.
NO_EXAMPLE = {
    name
    for name, thing in PUBLIC.items()
    if inspect.isclass(thing) and issubclass(thing, BaseException)
} | {
    "losses.Loss",
    "networks.RatioNetwork",
    "networks.build",
    "networks.specification_from_dict",
    "tasks.Posterior",
}


def test_every_name_in_all_exists():
    assert len(set(nre.__all__)) == len(nre.__all__)
    missing = [name for name in nre.__all__ if not hasattr(nre, name)]
    assert missing == []
    assert {"simulate", "train", "load", "RatioLikelihood", "log_ratio"} <= set(nre.__all__)


def test_the_version_is_the_installed_one():
    from importlib.metadata import version

    assert nre.__version__ == version("pymc_nre")


@pytest.mark.parametrize("name", PUBLIC)
def test_docstrings(name):
    doc = inspect.getdoc(PUBLIC[name])
    assert doc, "no docstring"
    first, *rest = doc.splitlines()
    assert len(first) > 10
    assert not rest or rest[0] == ""
    if name not in NO_EXAMPLE:
        assert "\nExamples\n--------\n" in doc
        assert ">>> " in doc.split("Examples\n--------\n")[1]


@pytest.mark.parametrize(
    "name", [name for name in PUBLIC if inspect.isfunction(PUBLIC[name]) and name not in NO_EXAMPLE]
)
def test_every_argument_of_a_function_is_documented(name):
    doc = inspect.getdoc(PUBLIC[name])
    section = doc.split("Parameters\n----------\n")[1].split("\n\n")[0]
    described = {
        word.strip(" *")
        for line in section.splitlines()
        if not line.startswith(" ")
        for word in line.split(" : ")[0].split(",")
    }
    assert described == set(inspect.signature(PUBLIC[name]).parameters)
