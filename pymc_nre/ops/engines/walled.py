"""A ratio behind the wall around its training domain, for JAX."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...estimators.evaluator import Evaluator
from ...estimators.wall import Wall

__all__ = ["Walled"]


@dataclass(frozen=True, eq=False)
class Walled:
    """An evaluator for JAX, behind a wall; rows that are not finite count for nothing.

    Parameters
    ----------
    evaluator : Evaluator
        Of arrays that JAX traces.
    vector : array, shape (Q,)
        What `Wall.to_vector` gives.
    """

    evaluator: Evaluator
    vector: Any

    def value(self, theta: Any, x: Any) -> Any:
        """Log ratios ``(n,)``."""
        import jax.numpy as jnp

        at, _ = self._confined(theta)
        heights = self._wall(theta).height(theta)
        return jnp.where(jnp.isfinite(heights), self.evaluator.value(at, x) - heights, -jnp.inf)

    def value_and_gradient(self, theta: Any, x: Any) -> tuple[Any, Any]:
        """Log ratios ``(n,)`` and their gradients ``(n, D)``."""
        import jax
        import jax.numpy as jnp

        at, free = self._confined(theta)
        values, gradients = self.evaluator.value_and_gradient(at, x)
        heights, back = jax.vjp(self._wall(theta).height, theta)
        (slopes,) = back(jnp.ones_like(heights))
        finite = jnp.isfinite(heights)
        values = jnp.where(finite, values - heights, -jnp.inf)
        return values, jnp.where(finite[:, None], gradients * free - slopes, 0.0)

    def hessian_product(self, theta: Any, x: Any, v: Any) -> Any:
        """Hessians times ``v``; both ``(n, D)``."""
        import jax
        import jax.numpy as jnp

        at, free = self._confined(theta)
        products = self.evaluator.hessian_product(at, x, v * free) * free
        height, rows = self._wall(theta).height, jnp.broadcast_to(theta, v.shape)
        _, bends = jax.jvp(jax.grad(lambda t: height(t).sum()), (rows,), (v,))
        return jnp.where(jnp.isfinite(height(theta))[:, None], products - bends, 0.0)

    def _wall(self, theta: Any) -> Wall:
        return Wall.from_vector(self.vector, theta.shape[1])

    def _confined(self, theta: Any) -> tuple[Any, Any]:
        """Theta within its ranges, and one for each of its elements that was there, or zero."""
        import jax.numpy as jnp

        wall = self._wall(theta)
        at = jnp.clip(jnp.nan_to_num(theta), wall.low, wall.high)
        return at, (at == theta).astype(theta.dtype)
