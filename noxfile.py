"""The checks of the project: nox -s lint tests doctests examples docs.

The sessions that run the library outside of its tests share one environment, .nox/checks,
so that torch is installed once for all of them.
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
CHECKS = ROOT / ".nox" / "checks"
BINARIES = CHECKS / ("Scripts" if os.name == "nt" else "bin")


@nox.session(python=["3.11", "3.12"])
def tests(session):
    """Run the tests, or what is named after --."""
    session.install(".[test]")
    session.run("pytest", *session.posargs)


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
    session.run(pytest, "--doctest-modules", "pymc_nre", *session.posargs)


@nox.session(python=False)
def examples(session):
    """Run every example in its quick form."""
    python = shared_environment(session, "-e", ".[examples]", name="python")
    scripts = sorted((ROOT / "examples").glob("*.py"))
    if not scripts:
        session.error("There is nothing to run in examples/.")
    for script in scripts:
        session.run(python, str(script.relative_to(ROOT)), "--quick", env={"MPLBACKEND": "agg"})


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
