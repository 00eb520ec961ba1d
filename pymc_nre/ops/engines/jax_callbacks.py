r"""A ratio as JAX functions: its value, its gradient, its second derivatives.

JAX cannot see into a torch network, so it calls back into Python (`jax.pure_callback`), and
is told the derivatives by `jax.custom_jvp`: along a direction :math:`\dot\theta`,

.. math:: \dot r_i = \nabla r_i \cdot \dot\theta_i,
          \qquad \dot{\nabla r}_i = \nabla^2 r_i \, \dot\theta_i,

with the gradients from the callback that gives the values too, so that a value and its
gradient cost one evaluation. The rules are linear in the direction: JAX transposes them for
`jax.grad`, with whatever cotangent, and sums over observations that share their parameters.

``theta`` is ``(n, D)`` or ``(1, D)`` and ``x`` ``(n, *event)`` in JAX's own precision;
networks are evaluated in float64. JAX is optional, so it is imported inside.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ...estimators.estimator import RatioEstimator
from ...runtime.devices import one_thread_if

__all__ = ["JaxCallbacks"]

# Chains that JAX maps over are evaluated together up to so many rows: 3 times faster for 4
# chains of 10 rows, 1.5 times slower for 4 of 1,000, and memory stays bounded.
_TOGETHER = 500


@dataclass(frozen=True)
class JaxCallbacks:
    """The evaluator of an estimator, for JAX."""

    estimator: RatioEstimator

    def value(self, theta: Any, x: Any) -> Any:
        """Log ratios ``(n,)``."""
        return self._value(theta, x)

    def value_and_gradient(self, theta: Any, x: Any) -> tuple[Any, Any]:
        """Log ratios ``(n,)`` and gradients ``(n, D)``."""
        return self._value_and_gradient(theta, x)

    def hessian_product(self, theta: Any, x: Any, v: Any) -> Any:
        """Hessians times ``v``; both ``(n, D)``."""
        (products,) = self._call("hessian_product", [(self.estimator.layout.size,)], theta, x, v)
        return products

    @cached_property
    def _value(self) -> Callable[..., Any]:
        """With its derivative."""
        import jax

        @jax.custom_jvp
        def function(theta: Any, x: Any) -> Any:
            (values,) = self._call("value", [()], theta, x)
            return values

        def derivative(primals: Any, tangents: Any) -> Any:
            values, gradients = self._value_and_gradient(*primals)
            return values, (gradients * _direction(tangents)).sum(-1)

        function.defjvp(derivative, symbolic_zeros=True)
        return function

    @cached_property
    def _value_and_gradient(self) -> Callable[..., Any]:
        """With their derivatives."""
        import jax

        @jax.custom_jvp
        def function(theta: Any, x: Any) -> Any:
            cores = [(), (self.estimator.layout.size,)]
            return self._call("value_and_gradient", cores, theta, x)

        def derivative(primals: Any, tangents: Any) -> Any:
            direction = _direction(tangents)
            values, gradients = function(*primals)
            of_gradients = (self._hessians(*primals) * direction[:, None, :]).sum(-1)
            return (values, gradients), ((gradients * direction).sum(-1), of_gradients)

        function.defjvp(derivative, symbolic_zeros=True)
        return function

    def _hessians(self, theta: Any, x: Any) -> Any:
        """Column by column, ``(n, D, D)``.

        JAX transposes a product with a matrix, but not a callback. Only second derivatives use it.
        """
        import jax.numpy as jnp

        size = self.estimator.layout.size
        units = (jnp.broadcast_to(unit, (len(x), size)) for unit in jnp.eye(size))
        return jnp.stack([self.hessian_product(theta, x, unit) for unit in units], axis=-1)

    def _call(
        self, quantity: str, cores: list[tuple[int, ...]], theta: Any, x: Any, *v: Any
    ) -> tuple[Any, ...]:
        """Results ``(n, *core)`` of a method of the evaluator, called back from JAX."""
        import jax

        dtype = jax.numpy.result_type(float)  # float32, unless JAX was told to use 64 bits
        results = tuple(jax.ShapeDtypeStruct((len(x), *core), dtype) for core in cores)

        def host(*inputs: Any) -> tuple[np.ndarray, ...]:
            arrays = [np.asarray(value, dtype=np.float64) for value in inputs]
            # Samplers bring threads of their own, one for each chain.
            with one_thread_if(True):
                outputs = _batched(getattr(self.estimator.evaluator, quantity), *arrays)
            return tuple(output.astype(dtype, copy=False) for output in outputs)

        return jax.pure_callback(host, results, theta, x, *v, vmap_method="expand_dims")


def _direction(tangents: Any) -> Any:
    """The direction in theta; there is none in x."""
    import jax

    of_theta, of_x = tangents
    if not isinstance(of_x, jax.custom_derivatives.SymbolicZero):
        raise NotImplementedError(
            "A ratio has derivatives in its parameters, not in its observations, but x depends on "
            "what JAX differentiates in. Let x be data."
        )
    return of_theta


def _batched(
    evaluate: Callable[..., Any], theta: np.ndarray, x: np.ndarray, *v: np.ndarray
) -> list[np.ndarray]:
    """Evaluate inputs ``(*batch, n, ...)``, whose leading axes broadcast, in groups."""
    inputs, ndim = (theta, x, *v), theta.ndim - 2
    batch = np.broadcast_shapes(*(value.shape[:ndim] for value in inputs))
    inputs = [np.broadcast_to(value, (*batch, *value.shape[ndim:])) for value in inputs]
    members, n = list(np.ndindex(*batch)), x.shape[ndim]
    step = max(1, _TOGETHER // max(n, 1))
    parts = []
    for start in range(0, len(members), step):
        group = members[start : start + step]
        outputs = evaluate(*(_stack(value, group, n) for value in inputs))
        parts.append(outputs if isinstance(outputs, tuple) else (outputs,))
    joined = [np.concatenate(part) for part in zip(*parts, strict=True)]
    return [value.reshape(*batch, n, *value.shape[1:]) for value in joined]


def _stack(value: np.ndarray, group: list[tuple[int, ...]], n: int) -> np.ndarray:
    """The rows of a group's members under each other; one member's stay as they are."""
    if len(group) == 1:
        return value[group[0]]
    rows = [value[member] for member in group]
    return np.concatenate([np.broadcast_to(row, (n, *row.shape[1:])) for row in rows])
