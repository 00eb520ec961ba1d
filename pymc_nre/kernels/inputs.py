"""Compiled checks of what a kernel is given: is theta inside, are the data finite?"""

from __future__ import annotations

import numpy as np

from .compilation import jit_inline

__all__ = ["MISSING_DATA", "checked"]

_ROUNDING = float(np.finfo(np.float32).eps)  # as in `Domain.inside`
MISSING_DATA = (
    "observed data of a RatioLikelihood must have no NaN or infinite values: a ratio is not a "
    "density in x and cannot impute them. Leave out incomplete observations."
)


@jit_inline
def checked(theta, x, domain):
    """Which rows of theta ``(m, D)`` are inside the training domain; booleans ``(m,)``.

    The answers are those of `Domain.inside`, and ``domain`` is what `Domain.to_vector` gives,
    or empty if every theta counts as inside. Raises ValueError if theta has neither one row nor
    one for each observation, or if there are holes in the observations.
    """
    if len(theta) != 1 and len(theta) != len(x):
        raise ValueError("theta must have one row, or one for each observation.")
    total = 0.0
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            total += x[i, j] * 0.0
    if total != 0.0:
        raise ValueError(MISSING_DATA)
    inside = np.empty(len(theta), np.bool_)
    scores = np.empty(theta.shape[1])
    for i in range(len(theta)):
        inside[i] = domain.size == 0 or _is_inside(theta, i, domain, scores)
    return inside


@jit_inline
def _is_inside(theta, i, domain, scores):
    size = theta.shape[1]
    pieces = (domain.size - size * (size + 3) - 1) // (3 * size)
    knots = 2 * size
    widths = knots + size * pieces
    steps = widths + size * pieces
    start = steps + size * pieces
    whiten = start + size
    within = True
    for d in range(size):
        t = theta[i, d]
        low, high = domain[d], domain[size + d]
        slack = _ROUNDING * (abs(low) + abs(high))
        within &= low - slack <= t and t <= high + slack
        scores[d] = domain[start + d]
        for k in range(d * pieces, (d + 1) * pieces):
            ramp = min(max((t - domain[knots + k]) / domain[widths + k], 0.0), 1.0)
            scores[d] += ramp * domain[steps + k]
    rarity = 0.0
    for j in range(size):
        whitened = 0.0
        for d in range(size):
            whitened += scores[d] * domain[whiten + d * size + j]
        rarity += whitened * whitened
    return within and rarity <= domain[domain.size - 1]
