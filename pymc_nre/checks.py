"""Compiled checks of what a kernel is given: is theta inside, are the data finite?"""

from __future__ import annotations

import numba
import numpy as np

from .kernels import OPTIONS

__all__ = ["finite_and_inside"]


@numba.njit(**OPTIONS, cache=True)
def finite_and_inside(theta, x, domain):
    """Whether all of x is finite, and whether each theta is inside the training domain.

    Parameters
    ----------
    theta : array, shape (m, D)
    x : array, shape (n, E)
    domain : array, shape (Q,)
        As `Domain.to_vector` gives it; empty if every theta counts as inside.

    Returns
    -------
    finite : bool
    inside : array of bool, shape (m,)
        The answers of `Domain.inside`.
    """
    total = 0.0
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            total += x[i, j] * 0.0
    inside = np.empty(len(theta), np.bool_)
    scores = np.empty(theta.shape[1])
    for i in range(len(theta)):
        inside[i] = domain.size == 0 or _is_inside(theta, i, domain, scores)
    return total == 0.0, inside


@numba.njit(**OPTIONS)
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
        within &= domain[d] <= t and t <= domain[size + d]
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
