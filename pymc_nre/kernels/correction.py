r"""A quadratic in the parameters that is taken off a log ratio, as compiled code.

It is a function of theta alone, around a center m and no further than the bounds a,

.. math:: \varphi(\theta) = c^\top u + \tfrac12\, u^\top B u,
    \qquad u = \min(\max(W(\theta - m), -a), a).

It is made where a posterior is (see `pymc_nre.many_trials.local`). Beyond the bounds it stays what
it is there, so that a quadratic that opens downwards makes no second mode far away.

As a vector: m ``(D,)``, W ``(D, D)``, a ``(D,)``, c ``(D,)``, B ``(D, D)``; or nothing.
"""

from __future__ import annotations

import numpy as np

from .compilation import jit_inline

__all__ = ["evaluate", "subtract_curvature"]


@jit_inline
def evaluate(theta, correction, slopes):
    """What to subtract for each row of theta, ``(m,)``; its gradients ``(m, D)`` in ``slopes``."""
    rows, size = theta.shape
    values = np.zeros(rows)
    slopes[:] = 0
    if not correction.size:
        return values
    u, inside = np.empty(size), np.empty(size)
    linear, quadratic = correction[size * (size + 2) :], correction[size * (size + 3) :]
    for i in range(rows):
        _coordinates(theta, i, correction, u, inside)
        for d in range(size):
            change = 0.0
            for e in range(size):
                change += quadratic[d * size + e] * u[e]
            values[i] += u[d] * (linear[d] + change / 2)
            for e in range(size):
                slopes[i, e] += inside[d] * (linear[d] + change) * correction[size * (d + 1) + e]
    return values


@jit_inline
def subtract_curvature(theta, correction, v, products, there):
    """Take its Hessian times ``v`` off ``products``, both ``(n, D)``, where theta counts."""
    size = theta.shape[1]
    if not correction.size:
        return
    u, inside, along = np.empty(size), np.empty(size), np.empty(size)
    quadratic = correction[size * (size + 3) :]
    for i in range(len(v)):
        t = i if len(theta) > 1 else 0
        if not there[t]:
            continue
        _coordinates(theta, t, correction, u, inside)
        for d in range(size):
            along[d] = 0
            for e in range(size):
                along[d] += inside[d] * correction[size * (d + 1) + e] * v[i, e]
        for d in range(size):
            change = 0.0
            for e in range(size):
                change += quadratic[d * size + e] * along[e]
            for e in range(size):
                products[i, e] -= inside[d] * change * correction[size * (d + 1) + e]


@jit_inline
def _coordinates(theta, i, correction, u, inside):
    """u of row ``i``, and for each of its elements one, or zero where it is beyond the bounds."""
    size = theta.shape[1]
    bounds = correction[size * (size + 1) :]
    for d in range(size):
        u[d] = 0
        for e in range(size):
            u[d] += correction[size * (d + 1) + e] * (theta[i, e] - correction[e])
        inside[d] = 1.0 if abs(u[d]) < bounds[d] else 0.0
        u[d] = min(max(u[d], -bounds[d]), bounds[d])
