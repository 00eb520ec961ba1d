"""Functions that compiled code calls by name."""

import resource

import numba
import numpy as np
import pytest
from numba import types
from numba.core.errors import TypingError

from pymc_nre.kernels.compilation import call_by_name, outer

MATRIX = types.float64[:, ::1]


@outer
def halves(matrix, by):
    """Something with a tuple of arrays and an error."""
    if by == 0:
        raise ValueError("by must not be zero")
    return matrix / by, matrix.sum(axis=1)


CALL = call_by_name(halves, (MATRIX, types.int64))


@numba.njit
def through_a_name(matrix, by):
    return CALL((matrix, by))


def test_the_same_results():
    matrix = np.arange(6.0).reshape(2, 3)
    read_only = matrix.copy()
    read_only.flags.writeable = False
    for argument in (matrix, read_only):
        for mine, its in zip(through_a_name(argument, 4), halves(matrix, 4), strict=True):
            np.testing.assert_array_equal(mine, its)


def test_errors_come_through():
    with pytest.raises(ValueError, match="by must not be zero"):
        through_a_name(np.ones((2, 2)), 0)


def test_nothing_leaks():
    matrix = np.ones((1_000, 100))  # 800 kB
    through_a_name(matrix, 2)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(1_000):
        through_a_name(matrix, 2)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 100_000  # kB; a leak would be 800,000


@pytest.mark.parametrize("matrix", [np.ones((2, 4))[:, ::2], np.ones(2), np.ones((2, 2), int)])
def test_arrays_of_another_layout_are_refused(matrix):
    with pytest.raises(TypingError, match="pymc_nre_"):
        through_a_name(matrix, 2)


def test_the_caller_has_no_code_of_it():
    through_a_name(np.ones((2, 2)), 2)
    code = max(through_a_name.inspect_llvm().values(), key=len)
    assert "pymc_nre_" in code
    linked = numba.njit(lambda matrix, by: halves(matrix, by))
    linked(np.ones((2, 2)), 2)
    (with_it,) = linked.inspect_llvm().values()
    assert len(code) < len(with_it)
