r"""Log ratios and their gradients in theta as compiled code; knows arrays only.

A network is a *program*, `Instructions` for its steps, and a vector of weights. Both are
arguments, so that one compiled function, kept on disk, serves every network and every data set.
The first step joins parameters and observations,

.. math:: h = W_\theta \, (\theta - \mu_\theta) / \sigma_\theta
              + W_x \, (x - \mu_x) / \sigma_x + b,

or takes features in the place of the terms in x. The other steps change h, and leave on a
*tape* what their derivatives need; the gradient goes through them backwards. The last step
leaves the logit.

An ensemble is one program that runs with the weights of each member in turn; its log ratio is
the logarithm of the mean of the members' ratios, or the mean of their logits. What is taken off
it in the end depends on the parameters alone (`pymc_nre.kernels.correction`).

Rows go through in blocks that fit the processor's cache, so memory stays bounded. Matrix
products are BLAS's; what is done once for each theta is not repeated for each observation.
"""

from __future__ import annotations

import numpy as np
from numba.extending import overload

from .activations import activate
from .compilation import jit_entry, jit_inline
from .correction import evaluate as evaluate_correction
from .inputs import check, row_of
from .program import AllSteps, Kind
from .wall import confined, lowered, push_back

__all__ = ["row_blocks", "value", "value_and_gradient"]

# With no more multiplications than these OpenBLAS stays on one thread; more threads would
# fight with those of other chains. For a width of 64 that is 64 rows, 32 kB for each layer.
_MOST_MULTIPLICATIONS = 64**3
_FEWEST_ROWS, _MOST_ROWS = 16, 128


@jit_entry
def value(theta, x, program, moments, weights, wall):
    """Log ratios ``(n,)``, behind the wall around the training domain.

    Parameters
    ----------
    theta : array, shape (1 or n, D)
        Parameters, in double precision.
    x : array, shape (n, E)
        Observations; or features ``(n, K H)`` of the K members, if the program begins with
        `Kind.FEATURES`.
    program : Instructions
        The steps.
    moments : array, shape (K (2 D + 2 E) + T,)
        Means and scales of theta and, for `Kind.JOIN`, of x; then a correction, if there is one.
    weights : array, shape (K P,)
        Of all steps. Theirs is the precision of the computation; results are double.
    wall : array, shape (Q,)
        As `pymc_nre.kernels.wall.confined` takes it.

    Raises
    ------
    ValueError
        If observations have holes, or theta the wrong number of rows.
    """
    check(theta, x)
    at, heights = confined(theta, wall)
    values = np.empty(len(x))
    rows, h, other, kept, tape = _buffers(program, len(x), weights)
    logits = np.empty((rows, program.members))
    moments, correction = parts_of(moments, theta, program)
    corrections = evaluate_correction(at, correction, np.empty(theta.shape))
    for start in range(0, len(x), rows):
        m = min(rows, len(x) - start)
        for k in range(program.members):
            its, scales = part_of(k, program, weights), part_of(k, program, moments)
            _join(at, x, start, m, k, program, scales, its, h)
            h, other = _forward(program, its, m, h, other, kept, tape, ())
            for r in range(m):
                logits[r, k] = h[r]
        for r in range(m):
            t = row_of(theta, start + r)
            logit = mix_members(logits[r], program)
            values[start + r] = lowered(logit - corrections[t], heights[t])
    return values


@jit_entry
def value_and_gradient(theta, x, program, moments, weights, wall):
    """Log ratios ``(n,)`` and, row by row, their gradients in theta, ``(n, D)``."""
    check(theta, x)
    at, heights = confined(theta, wall)
    values, gradients = np.empty(len(x)), np.empty((len(x), theta.shape[1]))
    rows, h, other, kept, tape = _buffers(program, len(x), weights)
    logits = np.empty((rows, program.members))
    slopes = np.empty((program.members, rows, theta.shape[1]))
    moments, correction = parts_of(moments, theta, program)
    corrected_slopes = np.empty(theta.shape)
    corrections = evaluate_correction(at, correction, corrected_slopes)
    for start in range(0, len(x), rows):
        m = min(rows, len(x) - start)
        for k in range(program.members):
            its, scales = part_of(k, program, weights), part_of(k, program, moments)
            _join(at, x, start, m, k, program, scales, its, h)
            h, other = _forward(program, its, m, h, other, kept, tape, (tape,))
            for r in range(m):
                logits[r, k] = h[r]
                h[r] = 1
            h, other = _backward(program, its, m, h, other, kept, tape)
            _to_theta(h, m, program, scales, its, slopes[k])
        for r in range(m):
            t = row_of(theta, start + r)
            logit = mix_members(logits[r], program)
            values[start + r] = lowered(logit - corrections[t], heights[t])
            for d in range(theta.shape[1]):
                gradients[start + r, d] = -corrected_slopes[t, d]
                for k in range(program.members):  # by now each logit is the member's share
                    gradients[start + r, d] += logits[r, k] * slopes[k, r, d]
    push_back(theta, heights, wall, gradients)
    return values, gradients


@jit_inline
def step_of(program, s):
    """Kind, width before, width after, and where its weights begin, of step ``s``."""
    return program.steps[s, 0], program.steps[s, 1], program.steps[s, 2], program.steps[s, 3]


@jit_inline
def parts_of(moments, theta, program):
    """The moments of all members, and the correction."""
    kind, columns, _, _ = step_of(program, 0)
    size = 2 * program.members * (theta.shape[1] + (columns if kind == Kind.JOIN else 0))
    return moments[:size], moments[size:]


@jit_inline
def part_of(k, program, vector):
    """What of a vector belongs to member ``k``."""
    size = len(vector) // program.members
    return vector[k * size : (k + 1) * size]


@jit_inline
def mix_members(logits, program):
    """The log ratio of the members' ``logits``, which become their shares of its gradient."""
    members, total, largest = len(logits), 0.0, -np.inf
    if program.mean_of_logits:
        for k in range(members):
            total += logits[k] / members
            logits[k] = 1 / members
        return total
    for k in range(members):
        largest = max(largest, logits[k])
    for k in range(members):
        logits[k] = np.exp(logits[k] - largest)
        total += logits[k]
    for k in range(members):
        logits[k] /= total
    return largest + np.log(total / members)


@jit_inline
def _buffers(program, n, weights):
    """How many rows go through at once; room for them on their way, and for the tape."""
    rows, width, length = row_blocks(program, n)
    h = np.empty(rows * width, weights.dtype)
    return rows, h, np.empty_like(h), np.empty_like(h), np.empty(length, weights.dtype)


@jit_inline
def row_blocks(program, n):
    """How many rows go through at once, the largest width on their way, the tape's length."""
    widest, most, taped = 1, 1, 0
    for s in range(len(program.steps)):
        kind, before, after, _ = step_of(program, s)
        if s:
            most = max(most, before * after)
        widest = max(widest, before, after)
        taped += _on_tape(kind, before, 1)
    rows = min(max(_MOST_MULTIPLICATIONS // most, _FEWEST_ROWS), _MOST_ROWS)
    rows = max(min(rows, n), 1)
    return rows, widest, rows * taped


@jit_inline
def _on_tape(kind, width, m):
    """How many numbers a step leaves on the tape."""
    if kind == Kind.ACTIVATE:
        return m * width
    return m * (width + 1) if kind == Kind.LAYER_NORM else 0


@jit_inline
def _join(theta, x, start, m, k, program, moments, weights, h):
    """The first step of member ``k`` for ``m`` rows from row ``start``, into ``h``."""
    own = len(theta) > 1
    for r in range(m if own else 1):
        _from_theta(theta, row_of(theta, start + r), program, moments, weights, h, r)
    kind, _, width, begin = step_of(program, 0)
    size = theta.shape[1]
    if not own:
        for r in range(1, m):
            for c in range(width):
                h[r * width + c] = h[c]
    if kind == Kind.FEATURES:
        for r in range(m):
            for c in range(width):
                h[r * width + c] += x[start + r, k * width + c]
        return
    columns, from_x = x.shape[1], begin + (size + 1) * width
    for r in range(m):
        for e in range(columns):
            v = (x[start + r, e] - moments[2 * size + e]) / moments[2 * size + columns + e]
            v = weights.dtype.type(v)
            for c in range(width):
                h[r * width + c] += v * weights[from_x + e * width + c]


@jit_inline
def _from_theta(theta, row, program, moments, weights, h, r):
    """What row ``r`` of ``h`` has from theta alone."""
    kind, _, width, begin = step_of(program, 0)
    size = theta.shape[1]
    bias = begin + size * width
    for c in range(width):
        h[r * width + c] = weights[bias + c] if kind == Kind.JOIN else 0
    for d in range(size):
        t = weights.dtype.type((theta[row, d] - moments[d]) / moments[size + d])
        for c in range(width):
            h[r * width + c] += t * weights[begin + d * width + c]


@jit_inline
def _to_theta(g, m, program, moments, weights, slopes):
    """Gradients in theta of the gradients ``g`` in the result of the first step."""
    _, _, width, begin = step_of(program, 0)
    size = slopes.shape[1]
    for r in range(m):
        for d in range(size):
            total = weights.dtype.type(0)
            for c in range(width):
                total += g[r * width + c] * weights[begin + d * width + c]
            slopes[r, d] = total / moments[size + d]


@jit_inline
def _forward(program, weights, m, h, other, kept, tape, slopes):
    """All steps but the first, on ``m`` rows in ``h``; the result, and the other buffer."""
    place = 0
    for s in range(1, len(program.steps)):
        kind, before, after, start = step_of(program, s)
        used, end = m * before, place + _on_tape(kind, before, m)
        if kind == Kind.ACTIVATE:
            activate(program.activation, h[:used], _part(slopes, place, end))
        elif kind == Kind.LINEAR:
            _linear(weights[start:], m, before, after, h, other)
            h, other = other, h
        else:
            _rare_step(program.known, kind, weights[start:], m, before, h, kept, tape[place:])
        place = end
    return h, other


@jit_inline
def _backward(program, weights, m, g, other, kept, tape):
    """From the gradients ``g`` in the result to those in the result of the first step."""
    place = 0
    for s in range(1, len(program.steps)):
        place += _on_tape(program.steps[s, 0], program.steps[s, 1], m)
    for s in range(len(program.steps) - 1, 0, -1):
        kind, before, after, start = step_of(program, s)
        used = m * before
        place -= _on_tape(kind, before, m)
        if kind == Kind.ACTIVATE:
            for i in range(used):
                g[i] *= tape[place + i]
        elif kind == Kind.LINEAR:
            _linear_backward(weights[start:], m, before, after, g, other)
            g, other = other, g
        else:
            _rare_step_backward(
                program.known, kind, weights[start:], m, before, g, kept, tape[place:]
            )
    return g, other


@jit_inline
def _linear(weights, m, before, after, h, out):
    bias = before * after
    if after > 1:
        _product(h, m, before, weights, after, True, out)
        for r in range(m):
            for c in range(after):
                out[r * after + c] += weights[bias + c]
        return
    for r in range(m):
        total = weights[bias]
        for c in range(before):
            total += h[r * before + c] * weights[c]
        out[r] = total


@jit_inline
def _linear_backward(weights, m, before, after, g, out):
    if after > 1:
        _product(g, m, after, weights, before, False, out)
        return
    for r in range(m):
        for c in range(before):
            out[r * before + c] = g[r] * weights[c]


@jit_inline
def _product(left, m, k, right, n, transposed, out):
    """``(m, k)`` times ``(k, n)``, or times the transpose of ``(n, k)``."""
    a, product = left[: m * k].reshape(m, k), out[: m * n].reshape(m, n)
    if transposed:
        np.dot(a, right[: n * k].reshape(n, k).T, product)
    else:
        np.dot(a, right[: k * n].reshape(k, n), product)


@jit_inline
def _affine(weights, m, width, h):
    for r in range(m):
        for c in range(width):
            i = r * width + c
            h[i] = (h[i] - weights[c]) * weights[width + c] + weights[2 * width + c]


@jit_inline
def _scale(factor, m, width, g):
    for r in range(m):
        for c in range(width):
            g[r * width + c] *= factor[c]


@jit_inline
def _layer_norm(weights, m, width, h, tape):
    """Leaves on the tape the normalized rows, then the reciprocals of their spreads."""
    one = weights.dtype.type(1)
    for r in range(m):
        first = r * width
        mean = spread = weights.dtype.type(0)
        for c in range(width):
            mean += h[first + c]
        mean /= width
        for c in range(width):
            centered = h[first + c] - mean
            tape[first + c] = centered
            spread += centered * centered
        shrink = one / np.sqrt(spread / width + weights[2 * width])
        tape[m * width + r] = shrink
        for c in range(width):
            tape[first + c] *= shrink
            h[first + c] = tape[first + c] * weights[c] + weights[width + c]


@jit_inline
def _layer_norm_backward(weights, m, width, g, tape):
    for r in range(m):
        first = r * width
        mean = slope = weights.dtype.type(0)
        for c in range(width):
            g[first + c] *= weights[c]
            mean += g[first + c]
            slope += g[first + c] * tape[first + c]
        mean /= width
        slope /= width
        for c in range(width):
            rest = g[first + c] - mean - tape[first + c] * slope
            g[first + c] = tape[m * width + r] * rest


@jit_inline
def _copy(numbers, source, target):
    for i in range(numbers):
        target[i] = source[i]


@jit_inline
def _add(numbers, source, total):
    for i in range(numbers):
        total[i] += source[i]


def _rare_step(known, kind, weights, m, width, h, kept, tape):
    raise NotImplementedError


@overload(_rare_step)
def _compiled_rare_step(known, kind, weights, m, width, h, kept, tape):
    def step(known, kind, weights, m, width, h, kept, tape):
        if kind == Kind.AFFINE:
            _affine(weights, m, width, h)
        elif kind == Kind.LAYER_NORM:
            _layer_norm(weights, m, width, h, tape)
        elif kind == Kind.KEEP:
            _copy(m * width, h, kept)
        elif kind == Kind.ADD:
            _add(m * width, kept, h)

    return step if known.instance_class is AllSteps else _no_step


def _rare_step_backward(known, kind, weights, m, width, g, kept, tape):
    raise NotImplementedError


@overload(_rare_step_backward)
def _compiled_rare_step_backward(known, kind, weights, m, width, g, kept, tape):
    def step(known, kind, weights, m, width, g, kept, tape):
        if kind == Kind.AFFINE:
            _scale(weights[width:], m, width, g)
        elif kind == Kind.LAYER_NORM:
            _layer_norm_backward(weights, m, width, g, tape)
        elif kind == Kind.ADD:
            _copy(m * width, g, kept)
        elif kind == Kind.KEEP:
            _add(m * width, kept, g)

    return step if known.instance_class is AllSteps else _no_step_backward


def _no_step(known, kind, weights, m, width, h, kept, tape):
    pass


def _no_step_backward(known, kind, weights, m, width, g, kept, tape):
    pass


def _part(tapes, start, end):
    """A part of each tape, where there is one; for compiled code."""
    raise NotImplementedError


@overload(_part)
def _compiled_part(tapes, start, end):
    if len(tapes):
        return lambda tapes, start, end: (tapes[0][start:end],)
    return lambda tapes, start, end: ()
