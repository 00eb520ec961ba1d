r"""A quadratic in the parameters that is taken off a log ratio, as compiled code.

It is a function of theta alone, around a center m. Where it was fitted it is

.. math:: \varphi(\theta) = c^\top u + \tfrac12\, u^\top B u,
    \qquad u = \min(\max(W(\theta - m), -a), a).

It is made where a posterior is (see `pymc_nre.many_trials.local`) and knows nothing elsewhere. So
beyond the ellipsoid :math:`|u|^2 = P` it is taken at :math:`q u`, which stays near that ellipsoid,
and what would raise a log ratio is taken back: all of it from :math:`|u|^2 = 2 P` on, where

.. math:: \psi = \varphi(q u) + k\, \tau \log(1 + e^{-\varphi(q u) / \tau}), \qquad
    q = (1 + e^3)^{-1/6}, \quad e = \max(|u|^2 / P - 1, 0)

is not negative, with k from zero at e = 0 to one at e = 1. It has continuous second derivatives.
Older corrections have bounds a and no P; those made now have a P, and bounds that are infinite.

As a vector: m ``(D,)``, W ``(D, D)``, a ``(D,)``, c ``(D,)``, B ``(D, D)``, P and tau; or nothing.
"""

from __future__ import annotations

import math

import numpy as np

from .compilation import jit_inline
from .inputs import row_of

__all__ = ["evaluate", "subtract_curvature"]


@jit_inline
def evaluate(theta, correction, slopes):
    """What to subtract for each row of theta, ``(m,)``; its gradients ``(m, D)`` in ``slopes``."""
    rows, size = theta.shape
    values = np.zeros(rows)
    slopes[:] = 0
    if not correction.size:
        return values
    u, inside, bent, still = np.empty(size), np.empty(size), np.empty(size), np.zeros(size)
    linear = correction[size * (size + 2) :]
    for i in range(rows):
        _coordinates(theta, i, correction, u, inside)
        forms, changes = _forms(correction, u, still, bent, still)
        values[i], (by_c, by_b, by_p), _ = _faded(forms, changes, correction)
        for d in range(size):
            slope = by_c * linear[d] + by_b * bent[d] + 2 * by_p * u[d]
            for e in range(size):
                slopes[i, e] += inside[d] * slope * correction[size * (d + 1) + e]
    return values


@jit_inline
def subtract_curvature(theta, correction, v, products):
    """Take its Hessian times ``v`` off ``products``, both ``(n, D)``."""
    size = theta.shape[1]
    if not correction.size:
        return
    u, inside, along = np.empty(size), np.empty(size), np.empty(size)
    bent, turned = np.empty(size), np.empty(size)  # B u and its change along v
    linear = correction[size * (size + 2) :]
    for i in range(len(v)):
        t = row_of(theta, i)
        _coordinates(theta, t, correction, u, inside)
        for d in range(size):
            along[d] = 0
            for e in range(size):
                along[d] += inside[d] * correction[size * (d + 1) + e] * v[i, e]
        forms, changes = _forms(correction, u, along, bent, turned)
        _, (_, by_b, by_p), (c_moves, b_moves, p_moves) = _faded(forms, changes, correction)
        for d in range(size):
            change = c_moves * linear[d] + b_moves * bent[d] + by_b * turned[d]
            change += 2 * (p_moves * u[d] + by_p * along[d])
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


@jit_inline
def _forms(correction, u, along, bent, turned):
    """c u, u B u / 2 and |u|^2, and their changes along a direction.

    B u comes back in ``bent``, B times the direction in ``turned``.
    """
    size = len(u)
    linear, quadratic = correction[size * (size + 2) :], correction[size * (size + 3) :]
    c, b, p, c_moves, b_moves, p_moves = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for d in range(size):
        of_u, of_direction = 0.0, 0.0
        for e in range(size):
            of_u += quadratic[d * size + e] * u[e]
            of_direction += quadratic[d * size + e] * along[e]
        c += linear[d] * u[d]
        b += u[d] * of_u / 2
        p += u[d] * u[d]
        c_moves += linear[d] * along[d]
        b_moves += along[d] * of_u
        p_moves += 2 * u[d] * along[d]
        turned[d] = of_direction
        bent[d] = of_u
    return (c, b, p), (c_moves, b_moves, p_moves)


@jit_inline
def _faded(forms, changes, correction):
    """psi, its derivatives by the three forms, and how these change along the direction."""
    (c, b, p), (c_moves, b_moves, p_moves) = forms, changes
    edge, tau = correction[-2], correction[-1]
    # q and k are functions of p: each with its first and its second derivative.
    e = max(p / edge - 1, 0.0)
    g = 1 + e * e * e
    q = g ** (-1 / 6)
    q_e = -e * e * q / (2 * g)
    q_ee = (-e * q - e * e * q_e / 2 + 1.5 * e * e * e * e * q / g) / g
    t = min(e, 1.0)
    k, k_p = t * t * t * (10 + t * (6 * t - 15)), 30 * t * t * (1 - t) * (1 - t) / edge
    k_pp = 60 * t * (1 - t) * (1 - 2 * t) / (edge * edge)
    q_p, q_pp = q_e / edge, q_ee / (edge * edge)
    # What raises a log ratio, and its derivatives by y.
    y = q * c + q * q * b
    y_p = q_p * c + 2 * q * q_p * b
    decay = math.exp(-abs(y) / tau)
    raised = max(-y, 0.0) + tau * math.log1p(decay)
    raised_y = -(decay if y > 0 else 1.0) / (1 + decay)
    raised_yy = decay / ((1 + decay) * (1 + decay) * tau)
    kept = 1 + k * raised_y
    slopes = kept * q, kept * q * q, kept * y_p + raised * k_p
    # The same along the direction.
    q_moves, k_moves = q_p * p_moves, k_p * p_moves
    y_moves = q * c_moves + q * q * b_moves + y_p * p_moves
    y_p_moves = q_pp * p_moves * c + q_p * c_moves + 2 * q * q_p * b_moves
    y_p_moves += 2 * (q_p * q_p + q * q_pp) * p_moves * b
    kept_moves = k_moves * raised_y + k * raised_yy * y_moves
    bends = (
        kept_moves * q + kept * q_moves,
        kept_moves * q * q + 2 * kept * q * q_moves,
        kept_moves * y_p + kept * y_p_moves + raised_y * y_moves * k_p + raised * k_pp * p_moves,
    )
    return y + k * raised, slopes, bends
