"""The cases of tests of Ops: every engine, shape of parameters, and way to share them."""

import numpy as np
import pytest
from bound import ENGINES, ROWS, SIZES, Bound, smooth

from pymc_nre.ops.ratio_ops import LogRatio, LogRatioAndGradient


@pytest.fixture(params=ENGINES)
def engine(request):
    return request.param


@pytest.fixture(params=SIZES)
def case(request, engine):
    """Ratio, both Ops, how many parameters, observations."""
    size, event_shape = SIZES[request.param]
    ratio = smooth(size, event_shape)
    both, value = (Bound(kind, engine, ratio) for kind in (LogRatioAndGradient, LogRatio))
    x = np.random.default_rng(3).normal(size=(ROWS, *event_shape))
    return ratio, both, value, size, x


@pytest.fixture(params=["one row", "n rows"])
def theta(request, case):
    rows = 1 if request.param == "one row" else ROWS
    return np.random.default_rng(4).normal(size=(rows, case[3]))
