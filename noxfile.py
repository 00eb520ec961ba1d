"""The checks of the project: nox -s lint tests doctests examples docs.

The sessions that run the library outside of its tests share one environment, .nox/checks or
the one that CHECKS_ENVIRONMENT names, so that torch is installed once for all of them.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nox

nox.options.sessions = ["lint", "tests", "doctests", "examples", "docs"]
nox.options.reuse_existing_virtualenvs = True

ROOT = Path(__file__).parent
CHECKS = Path(os.environ.get("CHECKS_ENVIRONMENT") or ROOT / ".nox" / "checks")
BINARIES = CHECKS / ("Scripts" if os.name == "nt" else "bin")
# Threads of small arrays wait for each other where other checks want the cores: a training took
# several times its processor time.
ONE_THREAD = {"OMP_NUM_THREADS": "1"}

# What differs between the two Pythons are the majors of PyMC, PyTensor and ArviZ, and with them
# numba, JAX and nutpie. These test modules that import none of them, so that Python 3.11 speaks
# for both; tests/workflows/test_second_python.py sees to it that they go on importing none.
SECOND_PYTHON = "3.12"
# It works with PyMC 6.4, asks for an older one, and needs nothing else that is not there.
PYMC_EXTRAS = "pymc-extras==0.15.1"
SAME_ON_BOTH = [
    "tests/diagnostics/classifier_tests",
    "tests/estimators/trial_budgets",
    "tests/losses",
    "tests/many_trials/test_fine_tuning.py",
    "tests/networks",
    "tests/point",
    "tests/runtime",
    "tests/sequential/test_kept.py",
    "tests/sequential/test_particles.py",
    "tests/sequential/test_proposals.py",
    "tests/training/test_identity.py",
    "tests/training/test_loop.py",
    "tests/training/test_members.py",
    "tests/training/test_precision.py",
    "tests/training/test_series.py",
    "tests/training/test_settings.py",
    "tests/training/test_start.py",
    "tests/training/test_trainer.py",
    "tests/training/test_trial.py",
    "tests/training/test_unseen.py",
]
# Nor are tests repeated there that are marked because others beside them, which are, go through
# the same of numba, JAX or PyMC.
FEWER = [*(f"--ignore={path}" for path in SAME_ON_BOTH), "-m", "not slow and not one_python"]


@nox.session(python=["3.11", SECOND_PYTHON])
def tests(session):
    """Run the tests, or what is named after --; on Python 3.12 those that can differ, or "all"."""
    session.install("-e", ".[test]")
    if session.python == SECOND_PYTHON:
        session.install("--no-deps", PYMC_EXTRAS)
    fewer = FEWER if session.python == SECOND_PYTHON and not session.posargs else []
    named = [] if session.posargs == ["all"] else session.posargs
    session.run("pytest", *fewer, *named)


@nox.session(python=False)
def lint(session):
    """Check style and format."""
    ruff = shared_environment(session, "ruff>=0.17,<0.18", name="ruff")
    session.run(ruff, "check", ".")
    session.run(ruff, "format", "--check", ".")


@nox.session(python=False)
def doctests(session):
    """Run the examples of the docstrings."""
    pytest = shared_environment(session, "-e", ".[test]", name="pytest")
    session.run(pytest, "--doctest-modules", "pymc_nre", *session.posargs, env=ONE_THREAD)


@nox.session(python=False)
def examples(session):
    """Run every example in its quick form."""
    python = shared_environment(session, "-e", ".[examples]", name="python")
    scripts = sorted((ROOT / "examples").glob("*.py"))
    if not scripts:
        session.error("There is nothing to run in examples/.")
    for script in scripts:
        session.run(
            python, str(script.relative_to(ROOT)), "--quick", env=ONE_THREAD | {"MPLBACKEND": "agg"}
        )


@nox.session(python=False)
def docs(session):
    """Build the documentation; a warning is an error."""
    sphinx_build = shared_environment(session, "-e", ".[docs]", name="sphinx-build")
    session.run(sphinx_build, "-W", "--keep-going", "-b", "html", "docs", "docs/_build/html")


def shared_environment(session, *requirements, name):
    """Install into the shared environment; the path of its program of that name."""
    python = str(BINARIES / "python")
    if not Path(python).exists():
        session.run(a_python(), "-m", "venv", str(CHECKS))
    session.run(python, "-m", "pip", "install", "--quiet", *requirements)
    return str(BINARIES / name)


def a_python():
    """Python 3.11 if it is here and runs, else the Python that runs nox."""
    found = shutil.which("python3.11")
    runs = found and subprocess.run([found, "--version"], capture_output=True).returncode == 0
    return found if runs else sys.executable
