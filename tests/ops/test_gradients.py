"""The sum over rows that PyTensor need not compile."""

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from bound import MODES

from pymc_nre.ops.gradients import RowSum, for_theta

ROWS = np.random.default_rng(1).normal(size=(4, 3))


@pytest.mark.parametrize("linker", MODES)
def test_the_sum_of_rows_and_its_gradient(linker):
    rows = pt.matrix("rows", dtype="float64")
    total = RowSum()(rows)
    gradient = pytensor.grad((total * np.array([1.0, 2.0, 3.0])).sum(), rows)
    got = pytensor.function([rows], [total, gradient, total.shape], mode=MODES[linker]())(ROWS)
    np.testing.assert_allclose(got[0], ROWS.sum(0, keepdims=True), rtol=1e-14)
    np.testing.assert_array_equal(got[1], np.tile([1.0, 2.0, 3.0], (4, 1)))
    assert tuple(got[2]) == (1, 3)


def test_only_a_shared_theta_gathers():
    by_row = pt.matrix("rows", dtype="float64")
    shared, own = (pt.tensor(shape=(n, 3), dtype="float64") for n in (1, None))
    assert isinstance(for_theta(shared, by_row).owner.op, RowSum)
    assert for_theta(own, by_row) is by_row
    one = pt.tensor(shape=(1, 3), dtype="float64")
    assert for_theta(shared, one) is one
