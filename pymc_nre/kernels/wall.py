r"""The wall around the training domain, as compiled code; see `pymc_nre.estimators.wall`.

Outside of the domain a log ratio is that of the nearest parameters within their ranges, less the
height of the wall. Rows inside pay for one look at them, nothing else.

As a vector: stiffness; low, high, below, above, left, width, center, each ``(D,)``; whiten
``(D, D)``; largest.
"""

from __future__ import annotations

import numpy as np

from .compilation import jit_inline
from .inputs import row_of

__all__ = ["bend_back", "confined", "lowered", "push_back", "within"]

_TINY = float(np.finfo(float).tiny)


@jit_inline
def confined(theta, wall):
    """Theta ``(m, D)`` taken back into the ranges, and the height of the wall there, ``(m,)``.

    ``wall`` is what `Wall.to_vector` gives, or empty if there is none. Where theta is not finite,
    neither is the height.
    """
    rows, size = theta.shape
    heights, at = np.zeros(rows), theta
    if not wall.size:
        return at, heights
    excess, scores, white = np.empty(size), np.empty(size), np.empty(size)
    for i in range(rows):
        square = _excess(theta, i, wall, excess)
        over, _ = _over(theta, i, wall, scores, white)
        square += over * over
        if square == 0:
            continue
        if not np.any(heights):
            at = theta.copy()
        heights[i] = wall[0] * square / 2 if square == square else np.inf
        for d in range(size):
            if excess[d] != 0:  # NaN to an end too: its row is dropped
                at[i, d] = wall[1 + size + d] if excess[d] > 0 else wall[1 + d]
    return at, heights


@jit_inline
def lowered(log_ratio, height):
    """A log ratio behind a wall of that height."""
    return log_ratio - height if height < np.inf else -np.inf


@jit_inline
def push_back(theta, heights, wall, gradients):
    """Turn gradients ``(n, D)`` of log ratios at the ranges into those behind the wall."""
    size = theta.shape[1]
    excess, scores, white = np.empty(size), np.empty(size), np.empty(size)
    for i in range(len(gradients)):
        t = row_of(theta, i)
        if _is_done(heights[t], gradients[i]):
            continue
        _excess(theta, t, wall, excess)
        over, root = _over(theta, t, wall, scores, white)
        for d in range(size):
            if excess[d] != 0:
                gradients[i, d] = -wall[0] * excess[d] / _tail(wall, size, d, excess[d])
            rise = _rise(theta, t, wall, d)
            gradients[i, d] -= wall[0] * over * rise * _turned(wall, size, d, white) / root


@jit_inline
def within(theta, at, heights, v):
    """Directions ``(n, D)`` without their parts along parameters that were taken back."""
    if not np.any(heights):
        return v
    along = v.copy()
    for i in range(len(v)):
        t = row_of(theta, i)
        for d in range(theta.shape[1]):
            if theta[t, d] != at[t, d]:
                along[i, d] = 0
    return along


@jit_inline
def bend_back(theta, heights, wall, v, products):
    """Turn products ``(n, D)`` of Hessians at the ranges into those behind the wall, times v."""
    size = theta.shape[1]
    excess, scores, white = np.empty(size), np.empty(size), np.empty(size)
    turned = np.empty(size)  # the change of the white scores along v
    for i in range(len(products)):
        t = row_of(theta, i)
        if _is_done(heights[t], products[i]):
            continue
        _excess(theta, t, wall, excess)
        over, root = _over(theta, t, wall, scores, white)
        along = 0.0  # the change of their length
        for j in range(size):
            turned[j] = 0
            for d in range(size):
                turned[j] += _whitening(wall, size, d, j) * _rise(theta, t, wall, d) * v[i, d]
            along += white[j] * turned[j] / root
        for d in range(size):
            if excess[d] != 0:
                tail = _tail(wall, size, d, excess[d])
                products[i, d] = -wall[0] * v[i, d] / (tail * tail)
            of_root = _turned(wall, size, d, white) / root
            bent = (_turned(wall, size, d, turned) - of_root * along) / root
            change = along * of_root + over * bent if over > 0 else 0.0
            products[i, d] -= wall[0] * _rise(theta, t, wall, d) * change


@jit_inline
def _is_done(height, row):
    """Whether derivatives stay as they are, inside, or are zero, where theta is not finite."""
    if height == np.inf:
        row[:] = 0
    return height == 0 or height == np.inf


@jit_inline
def _excess(theta, i, wall, excess):
    """How far each parameter is out of its range, in units of its tail; the sum of squares."""
    size, square = theta.shape[1], 0.0
    for d in range(size):
        t, low, high = theta[i, d], wall[1 + d], wall[1 + size + d]
        excess[d] = 0
        if t > high:
            excess[d] = (t - high) / wall[1 + 3 * size + d]
        elif not t >= low:
            excess[d] = (t - low) / wall[1 + 2 * size + d]
        square += excess[d] * excess[d]
    return square


@jit_inline
def _over(theta, i, wall, scores, white):
    """How much longer the white scores are than those of any draw, and their length, not zero."""
    size = theta.shape[1]
    for d in range(size):
        beyond, width = theta[i, d] - wall[1 + 4 * size + d], wall[1 + 5 * size + d]
        below, above = wall[1 + 2 * size + d], wall[1 + 3 * size + d]
        scores[d] = (2 * min(max(beyond / width, 0.0), 1.0) - 1) / 3
        scores[d] += max(beyond - width, 0.0) / above - max(-beyond, 0.0) / below
        scores[d] -= wall[1 + 6 * size + d]
    square = 0.0
    for j in range(size):
        white[j] = 0
        for d in range(size):
            white[j] += scores[d] * _whitening(wall, size, d, j)
        square += white[j] * white[j]
    largest = wall[wall.size - 1]
    return np.sqrt(max(square, largest * largest)) - largest, np.sqrt(max(square, _TINY))


@jit_inline
def _rise(theta, i, wall, d):
    """How fast the score of a parameter rises with it."""
    size = theta.shape[1]
    beyond, width = theta[i, d] - wall[1 + 4 * size + d], wall[1 + 5 * size + d]
    if beyond < 0:
        return 1 / wall[1 + 2 * size + d]
    return 2 / (3 * width) if beyond <= width else 1 / wall[1 + 3 * size + d]


@jit_inline
def _tail(wall, size, d, excess):
    """The length of the tail on the side of the excess."""
    return wall[1 + 3 * size + d] if excess > 0 else wall[1 + 2 * size + d]


@jit_inline
def _whitening(wall, size, d, j):
    return wall[1 + 7 * size + d * size + j]


@jit_inline
def _turned(wall, size, d, white):
    """Element ``d`` of the whitening matrix times a vector."""
    total = 0.0
    for j in range(size):
        total += _whitening(wall, size, d, j) * white[j]
    return total
