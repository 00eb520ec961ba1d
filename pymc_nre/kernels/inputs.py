"""Compiled: which parameters belong to an observation; as many of them, and finite data."""

from __future__ import annotations

from .compilation import jit_inline

__all__ = ["MISSING_DATA", "check", "row_of"]

MISSING_DATA = (
    "observed data of a RatioLikelihood must have no NaN or infinite values: a ratio is not a "
    "density in x and cannot impute them. Leave out incomplete observations. A ratio that was "
    "trained for them, nre.train(simulations, missing=observed), takes NaN where a number is "
    "missing."
)


@jit_inline
def row_of(of_theta, i):
    """The row that belongs to observation ``i``: its own, or the one that all share."""
    return i if len(of_theta) > 1 else 0


@jit_inline
def check(theta, x, whole):
    """Raise ValueError unless theta has one row or one for each, and whole observations no hole."""
    if len(theta) != 1 and len(theta) != len(x):
        raise ValueError("theta must have one row, or one for each observation.")
    if not whole:
        return
    total = 0.0
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            total += x[i, j] * 0.0
    if total != 0.0:
        raise ValueError(MISSING_DATA)
