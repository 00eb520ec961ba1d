"""What is particular to the engine that runs compiled kernels."""

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from bound import MODES, ROWS, Bound, perturbed

from pymc_nre.ops.ratio_ops import HessianProduct, LogRatioAndGradient

pytestmark = pytest.mark.parametrize("engine", ["compiled"], indirect=True)


@pytest.mark.parametrize("linker", MODES)
def test_compiled_engine_refuses_holes(case, theta, linker):
    x = pt.tensor("x", shape=case[4].shape, dtype="float64")
    function = pytensor.function([x], case[1](theta, x), mode=MODES[linker]())
    function(case[4])
    holes = case[4].copy()
    holes[1] = np.nan
    with pytest.raises(ValueError, match="no NaN or infinite values"):
        function(holes)


def test_compiled_ops_of_one_architecture_are_equal(case):
    ratio, both, *_ = case
    other = Bound(LogRatioAndGradient, "compiled", perturbed(ratio))
    assert other.op == both.op
    assert other != both


def test_directions_that_do_not_match_are_an_error(case):
    """The kernels would read what lies behind them."""
    _, both, _, size, x = case
    product = Bound(HessianProduct, "compiled", both.given[2])
    node = product.make_node(np.zeros((1, size)), x, np.zeros((1, size)))
    inputs = [np.zeros((1, size)), x, *(c.get_value() for c in product.constants)]
    with pytest.raises(ValueError, match=rf"v has 1 rows and x has {ROWS}"):
        product.op.perform(node, [*inputs, np.zeros((1, size))], [[None]])
