r"""Log ratios of a program as JAX functions: what `pymc_nre.kernels.ratio` compiles, in jnp.

The steps of a program are known when JAX traces it, so its loop over them unrolls and XLA
sees one expression of matrix products and activations. Derivatives are JAX's own. With
:math:`r_i` the log ratio of row i, and a row :math:`\theta_i` for each,

.. math:: \nabla r_i = \frac{\partial}{\partial \theta_i} \sum_j r_j,

because no row sees another's parameters; the Hessian's product with v is the derivative of
that gradient along v.

Arguments are those of the kernels: ``theta`` is ``(1 or n, D)``, ``x`` ``(n, *event)`` or
features ``(n, K H)`` of K members, ``moments`` and ``weights`` are vectors. All are taken to
JAX's own precision. JAX is optional, so it is imported inside.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

from .program import Kind, Program, Step

__all__ = ["JaxEvaluator"]


@dataclass(frozen=True, eq=False)
class JaxEvaluator:
    """Log ratios and derivatives of a network of the known family, as JAX traces them.

    Parameters
    ----------
    program : Program
    moments, weights : array
        As in `pymc_nre.kernels.program.Exported`.
    """

    program: Program
    moments: Any
    weights: Any

    def value(self, theta: Any, x: Any) -> Any:
        """Log ratios ``(n,)``."""
        return _log_ratios(self.program, *_arrays(theta, x, self.moments, self.weights))

    def value_and_gradient(self, theta: Any, x: Any) -> tuple[Any, Any]:
        """Log ratios ``(n,)`` and the gradients of each row in its parameters, ``(n, D)``."""
        gradients, values = self._gradients(theta, x)
        return values, gradients

    def hessian_product(self, theta: Any, x: Any, v: Any) -> Any:
        """The Hessians of each row times ``v``; both ``(n, D)``."""
        import jax

        theta, x, v = _arrays(theta, x, v)
        _, products = jax.jvp(lambda t: self._gradients(t, x)[0], (_rows(theta, x),), (v,))
        return products

    def _gradients(self, theta: Any, x: Any) -> tuple[Any, Any]:
        import jax

        theta, *others = _arrays(theta, x, self.moments, self.weights)
        summed = jax.grad(partial(_sum, self.program), has_aux=True)
        return summed(_rows(theta, x), *others)


def _arrays(*values: Any) -> list[Any]:
    """JAX arrays in the precision that JAX was told to use."""
    import jax.numpy as jnp

    return [jnp.asarray(value, jnp.result_type(float)) for value in values]


def _rows(theta: Any, x: Any) -> Any:
    """A row of theta for each observation, ``(n, D)``."""
    import jax.numpy as jnp

    return jnp.broadcast_to(theta, (len(x), theta.shape[1]))


def _sum(program: Program, *arguments: Any) -> tuple[Any, Any]:
    """The sum of the log ratios, which is differentiated, and the log ratios."""
    values = _log_ratios(program, *arguments)
    return values.sum(), values


def _log_ratios(program: Program, theta: Any, x: Any, moments: Any, weights: Any) -> Any:
    """Log ratios ``(n,)``: of all members."""
    import jax

    first, members = program.steps[0], program.members
    joined = first.kind == Kind.JOIN
    size = 2 * members * (theta.shape[1] + (first.before if joined else 0))
    moments, correction = moments[:size], moments[size:]
    x = x.reshape(len(x), math.prod(x.shape[1:]))
    # Observations are for all members; features are their own.
    xs = [x] * members if joined else jax.numpy.split(x, members, axis=1)
    parts = zip(xs, *(jax.numpy.split(v, members) for v in (moments, weights)), strict=True)
    logits = jax.numpy.stack([_logits(program, theta, *part) for part in parts])
    taken_off = _correction(theta, correction) if len(correction) else 0.0
    if program.mean_of == "logits":
        return logits.mean(0) - taken_off
    return jax.nn.logsumexp(logits, axis=0) - math.log(members) - taken_off


def _correction(theta: Any, correction: Any) -> Any:
    """What a correction takes off, ``(1 or n,)``."""
    import jax.numpy as jnp

    size = theta.shape[1]
    vector, matrix = (size,), (size, size)
    center, turn, bounds, linear, quadratic, (edge, tau) = _parts(
        correction, vector, matrix, vector, vector, matrix, (2,)
    )
    u = jnp.clip(_product(theta - center, turn.T), -bounds, bounds)
    e = jnp.maximum((u * u).sum(-1) / edge - 1, 0)
    u = u * ((1 + e**3) ** (-1 / 6))[..., None]
    height = (u * (linear + _product(u, quadratic) / 2)).sum(-1)
    t = jnp.minimum(e, 1)
    return height + t**3 * (10 + t * (6 * t - 15)) * tau * jnp.logaddexp(0, -height / tau)


def _logits(program: Program, theta: Any, x: Any, moments: Any, weights: Any) -> Any:
    """Logits ``(n,)`` of a member: the steps of the program, one after another."""
    h = kept = _first(program.steps[0], theta, x, moments, weights)
    for kind, before, after, start in program.steps[1:]:
        if kind == Kind.ACTIVATE:
            h = _activate(program.activation, h)
        elif kind == Kind.KEEP:
            kept = h
        elif kind == Kind.ADD:
            h = h + kept
        else:
            h = _LAYERS[kind](h, weights[start:], before, after)
    return h[:, 0]


def _first(step: Step, theta: Any, x: Any, moments: Any, weights: Any) -> Any:
    """Parameters joined with observations or features, ``(n, H)``."""
    size, width, columns, weights = theta.shape[1], step.after, x.shape[1], weights[step.start :]
    if step.kind == Kind.FEATURES:
        (of_theta,) = _parts(weights, (size, width))
    else:
        shapes = (size, width), (width,), (columns, width)
        of_theta, shift, of_x = _parts(weights, *shapes)
        x = _product(_standardized(x, moments[2 * size :]), of_x) + shift
    return _product(_standardized(theta, moments), of_theta) + x


def _standardized(rows: Any, moments: Any) -> Any:
    mean, scale = _parts(moments, rows.shape[1:], rows.shape[1:])
    return (rows - mean) / scale


def _parts(vector: Any, *shapes: tuple[int, ...]) -> list[Any]:
    """Arrays of these shapes, out of the begin of a vector."""
    parts, start = [], 0
    for shape in shapes:
        stop = start + math.prod(shape)
        parts.append(vector[start:stop].reshape(shape))
        start = stop
    return parts


def _product(left: Any, right: Any) -> Any:
    import jax.numpy as jnp

    # Left to themselves accelerators round the factors to 8 or 11 bits. The errors of the log
    # ratios of a data set add up.
    return jnp.matmul(left, right, precision="highest")


def _linear(h: Any, weights: Any, before: int, after: int) -> Any:
    matrix, shift = _parts(weights, (after, before), (after,))
    return _product(h, matrix.T) + shift


def _affine(h: Any, weights: Any, before: int, after: int) -> Any:
    mean, factor, shift = _parts(weights, (before,), (before,), (before,))
    return (h - mean) * factor + shift


def _layer_norm(h: Any, weights: Any, before: int, after: int) -> Any:
    import jax.numpy as jnp

    factor, shift, epsilon = _parts(weights, (before,), (before,), (1,))
    centered = h - h.mean(-1, keepdims=True)
    spread = (centered * centered).mean(-1, keepdims=True)
    return centered / jnp.sqrt(spread + epsilon) * factor + shift


_LAYERS = {
    Kind.LINEAR: _linear,
    Kind.AFFINE: _affine,
    Kind.LAYER_NORM: _layer_norm,
}


def _activate(name: str, h: Any) -> Any:
    """Activations of an array, with torch's definitions."""
    import jax

    functions = {
        "silu": jax.nn.silu,
        "gelu": partial(jax.nn.gelu, approximate=False),
        "tanh": jax.numpy.tanh,
        "elu": _elu,
        "softplus": _softplus,
        "relu": jax.nn.relu,
    }
    return functions[name](h)


# Below, what `where` drops must be finite too: its derivative is multiplied by zero, and zero
# times infinity is NaN. So the functions see zero in the place of what they are not used for.


def _elu(h: Any) -> Any:
    import jax.numpy as jnp

    below = h < 0
    return jnp.where(below, jnp.expm1(jnp.where(below, h, 0)), h)


def _softplus(h: Any) -> Any:
    import jax.numpy as jnp

    linear = h > 20
    return jnp.where(linear, h, jnp.log1p(jnp.exp(jnp.where(linear, 0, h))))
