"""Compiled: observations must have no holes."""

from __future__ import annotations

from numba import njit

__all__ = ["MISSING_DATA", "check_finite"]

MISSING_DATA = (
    "observed data of a RatioLikelihood must have no NaN or infinite values: a ratio is not a "
    "density in x and cannot impute them. Leave out incomplete observations. A ratio that was "
    "trained for them, nre.train(simulations, missing=observed), takes NaN where a number is "
    "missing."
)


@njit(nogil=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)
def check_finite(x):
    """Raise ValueError if observations, contiguous, have holes."""
    total = 0.0
    for number in x.flat:
        total += number * 0.0
    if total != 0.0:
        raise ValueError(MISSING_DATA)
