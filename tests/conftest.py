"""What all tests share: one thread each, quiet property tests, a small estimator."""

import os

# Tests run on every core, a process on each: threads below them would fight over the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# C code is compiled for a few calls: what the compiler takes to make it fast is longer.
os.environ.setdefault("PYTENSOR_FLAGS", "gcc__cxxflags=-O0")

import pytest
from hypothesis import settings
from untrained import make_estimator

from pymc_nre import RatioEstimator

# The same examples on every run: a red test is red for everyone.
settings.register_profile("pymc_nre", derandomize=True, max_examples=30, deadline=None)
settings.load_profile("pymc_nre")


def pytest_collection_modifyitems(items):
    """Long tests first, so that all workers are busy until the end."""
    items.sort(key=lambda item: item.path.parent.name != "workflows")


@pytest.fixture
def estimator() -> RatioEstimator:
    """Parameters mu (scalar) and beta (two), observations of shape (3,)."""
    return make_estimator(event_shape=(3,))


@pytest.fixture
def closed_figures():
    """No figure stays open behind a test that draws."""
    import matplotlib.pyplot as plt

    yield
    plt.close("all")
