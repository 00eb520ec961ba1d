r"""Second derivatives in theta of the log ratios that `pymc_nre.kernels.ratio` computes.

The Hessian times a vector v is the derivative along v of the gradient. So everything on the
way forward and back is a *pair*: a number, and its derivative along v,

.. math:: (h, \dot h), \qquad \dot h = \lim_{t \to 0}
    \frac{h(\theta + t v) - h(\theta)}{t}.

Forward through the steps of the program, then backward with the gradients; what a step left
on the tape has its derivative along v beside it (Pearlmutter, 1994).

Samplers do not ask for this, only what looks at a mode does. It goes row by row, which needs
no memory that grows with their number, and always in double precision.
"""

from __future__ import annotations

import numpy as np

from .activations import activate
from .compilation import jit_entry, jit_inline
from .correction import subtract_curvature
from .inputs import check, row_of
from .program import Kind
from .ratio import mix_members, part_of, parts_of, step_of
from .wall import bend_back, confined, within

__all__ = ["hessian_product"]


@jit_entry
def hessian_product(theta, x, v, program, moments, weights, wall):
    """Row by row, the Hessian in theta of the log ratio times ``v``, ``(n, D)``.

    Parameters
    ----------
    theta : array, shape (1 or n, D)
        Parameters.
    x : array, shape (n, E)
        Observations; or features ``(n, K H)`` of the K members, if the program begins with
        `Kind.FEATURES`.
    v : array, shape (n, D)
        What to multiply with.
    program, moments, weights, wall
        As for `pymc_nre.kernels.ratio.value`.
    """
    check(theta, x)
    at, heights = confined(theta, wall)
    along = within(theta, at, heights, v)
    products = np.zeros(v.shape)
    width = _widest(program)
    # Pairs: [0] are the numbers, [1] their derivatives along v.
    h = np.empty((2, width))
    other, kept = np.empty_like(h), np.empty_like(h)
    tape = np.empty((len(program.steps), 2, width + 1))
    members, size = program.members, theta.shape[1]
    moments, correction = parts_of(moments, theta, program)
    # Of each member: its logit and the logit's slope along v; its gradient and H v.
    logits, results = np.empty((2, members)), np.empty((members, 2, size))
    for i in range(len(x)):
        for k in range(members):
            its, scales = part_of(k, program, weights), part_of(k, program, moments)
            _join(at, x, along, i, k, program, scales, its, h)
            h, other = _forward(program, its, h, other, kept, tape)
            logits[0, k], logits[1, k] = h[0, 0], h[1, 0]
            h[0, 0], h[1, 0] = 1, 0
            h, other = _backward(program, its, h, other, kept, tape)
            _to_theta(h, program, scales, its, results[k])
        _mix_members(logits, results, program, products[i])
    subtract_curvature(at, correction, along, products)
    bend_back(theta, heights, wall, v, products)
    return products


@jit_inline
def _mix_members(logits, results, program, product):
    """The Hessian of the log ratio times v, of those of the members.

    The share p of a member in a mean of ratios varies too: along v by p (a - A), where a is
    the slope of its logit and A the mean of all slopes.
    """
    mix_members(logits[0], program)
    mean = 0.0
    for k in range(len(results)):
        mean += logits[0, k] * logits[1, k]
    for k in range(len(results)):
        change = 0.0 if program.mean_of_logits else logits[1, k] - mean
        for d in range(len(product)):
            product[d] += logits[0, k] * (results[k, 1, d] + change * results[k, 0, d])


@jit_inline
def _widest(program):
    width = 1
    for s in range(len(program.steps)):
        width = max(width, program.steps[s, 2])
    return width


@jit_inline
def _join(theta, x, v, i, k, program, moments, weights, h):
    """The first step of member ``k`` for row ``i``."""
    kind, _, width, begin = step_of(program, 0)
    size, features = theta.shape[1], kind == Kind.FEATURES
    bias, from_x = begin + size * width, begin + (size + 1) * width
    for c in range(width):
        h[0, c] = x[i, k * width + c] if features else weights[bias + c]
        h[1, c] = 0
    row = row_of(theta, i)
    for d in range(size):
        t = (theta[row, d] - moments[d]) / moments[size + d]
        along = v[i, d] / moments[size + d]
        for c in range(width):
            h[0, c] += t * weights[begin + d * width + c]
            h[1, c] += along * weights[begin + d * width + c]
    columns = 0 if features else x.shape[1]
    for e in range(columns):
        z = (x[i, e] - moments[2 * size + e]) / moments[2 * size + columns + e]
        for c in range(width):
            h[0, c] += z * weights[from_x + e * width + c]


@jit_inline
def _to_theta(g, program, moments, weights, results):
    """A pair ``(2, D)`` of the pair ``g`` in the result of the first step."""
    _, _, width, begin = step_of(program, 0)
    size = results.shape[1]
    for d in range(size):
        results[0, d] = results[1, d] = 0
        for c in range(width):
            results[0, d] += g[0, c] * weights[begin + d * width + c]
            results[1, d] += g[1, c] * weights[begin + d * width + c]
        results[0, d] /= moments[size + d]
        results[1, d] /= moments[size + d]


@jit_inline
def _forward(program, weights, h, other, kept, tape):
    """All steps but the first; the result, and the other buffer."""
    for s in range(1, len(program.steps)):
        kind, before, after, start = step_of(program, s)
        if kind == Kind.ACTIVATE:
            _activate(program, before, h, tape[s])
        elif kind == Kind.LINEAR:
            _linear(weights[start:], before, after, h, other)
            h, other = other, h
        else:
            _rare_step(kind, weights[start:], before, h, kept, tape[s])
    return h, other


@jit_inline
def _backward(program, weights, g, other, kept, tape):
    """From the gradients in the result to those in the result of the first step."""
    for s in range(len(program.steps) - 1, 0, -1):
        kind, before, after, start = step_of(program, s)
        if kind == Kind.ACTIVATE:
            _activate_backward(before, g, tape[s])
        elif kind == Kind.LINEAR:
            _linear_backward(weights[start:], before, after, g, other)
            g, other = other, g
        else:
            _rare_step_backward(kind, weights[start:], before, g, kept, tape[s])
    return g, other


@jit_inline
def _activate(program, width, h, tape):
    """Leaves on the tape the slopes, as pairs."""
    activate(program.activation, h[0][:width], (tape[0][:width], tape[1][:width]))
    for c in range(width):
        tape[1, c] *= h[1, c]
        h[1, c] *= tape[0, c]


@jit_inline
def _activate_backward(width, g, tape):
    for c in range(width):
        g[1, c] = tape[0, c] * g[1, c] + tape[1, c] * g[0, c]
        g[0, c] *= tape[0, c]


@jit_inline
def _rare_step(kind, weights, width, h, kept, tape):
    if kind == Kind.AFFINE:
        _affine(weights, width, h)
    elif kind == Kind.LAYER_NORM:
        _layer_norm(weights, width, h, tape)
    elif kind == Kind.KEEP:
        _copy(width, h, kept)
    elif kind == Kind.ADD:
        _add(width, kept, h)


@jit_inline
def _rare_step_backward(kind, weights, width, g, kept, tape):
    if kind == Kind.AFFINE:
        _scale(weights[width:], width, g)
    elif kind == Kind.LAYER_NORM:
        _layer_norm_backward(weights, width, g, tape)
    elif kind == Kind.ADD:
        _copy(width, g, kept)
    elif kind == Kind.KEEP:
        _add(width, kept, g)


@jit_inline
def _affine(weights, width, h):
    for c in range(width):
        h[0, c] = (h[0, c] - weights[c]) * weights[width + c]
        h[0, c] += weights[2 * width + c]
        h[1, c] *= weights[width + c]


@jit_inline
def _scale(factor, width, g):
    for c in range(width):
        g[0, c] *= factor[c]
        g[1, c] *= factor[c]


@jit_inline
def _copy(width, pair, target):
    for c in range(width):
        target[0, c] = pair[0, c]
        target[1, c] = pair[1, c]


@jit_inline
def _add(width, pair, total):
    for c in range(width):
        total[0, c] += pair[0, c]
        total[1, c] += pair[1, c]


@jit_inline
def _linear(weights, before, after, h, out):
    for r in range(after):
        total = along = 0.0
        for c in range(before):
            total += h[0, c] * weights[r * before + c]
            along += h[1, c] * weights[r * before + c]
        out[0, r], out[1, r] = total + weights[before * after + r], along


@jit_inline
def _linear_backward(weights, before, after, g, out):
    for c in range(before):
        out[0, c] = out[1, c] = 0
    for r in range(after):
        for c in range(before):
            out[0, c] += g[0, r] * weights[r * before + c]
            out[1, c] += g[1, r] * weights[r * before + c]


@jit_inline
def _layer_norm(weights, width, h, tape):
    """Leaves on the tape the normalized row, then the reciprocal of its spread, as pairs."""
    mean = along = square = product = 0.0
    for c in range(width):
        mean += h[0, c] / width
        along += h[1, c] / width
    for c in range(width):
        h[0, c] -= mean
        h[1, c] -= along
        square += h[0, c] * h[0, c] / width
        product += h[0, c] * h[1, c] / width
    shrink = 1 / np.sqrt(square + weights[2 * width])
    slope = shrink * product
    for c in range(width):
        tape[0, c] = shrink * h[0, c]
        tape[1, c] = shrink * (h[1, c] - tape[0, c] * slope)
        h[0, c] = tape[0, c] * weights[c] + weights[width + c]
        h[1, c] = tape[1, c] * weights[c]
    tape[0, width], tape[1, width] = shrink, -shrink * shrink * slope


@jit_inline
def _layer_norm_backward(weights, width, g, tape):
    mean = mean_along = slope = slope_along = 0.0
    for c in range(width):
        g[0, c] *= weights[c]
        g[1, c] *= weights[c]
        mean += g[0, c] / width
        mean_along += g[1, c] / width
        slope += g[0, c] * tape[0, c] / width
        slope_along += (g[1, c] * tape[0, c] + g[0, c] * tape[1, c]) / width
    for c in range(width):
        rest = g[0, c] - mean - tape[0, c] * slope
        along = g[1, c] - mean_along - tape[1, c] * slope - tape[0, c] * slope_along
        g[0, c] = tape[0, width] * rest
        g[1, c] = tape[1, width] * rest + tape[0, width] * along
