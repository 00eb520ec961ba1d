"""The Op that chooses what a direct ratio compares with, anew whenever the data change."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.compile import optdb
from pytensor.graph.basic import Apply, Variable
from pytensor.graph.op import Op
from pytensor.graph.rewriting.basic import dfs_rewriter, node_rewriter
from pytensor.link.numba.dispatch.basic import (
    generate_fallback_impl,
    register_funcify_and_cache_key,
)

from ..compat import OpOfBothMajors
from ..estimators.direct import best_reference
from ..estimators.estimator import RatioEstimator
from ..estimators.evaluator import same_numbers
from .gradients import not_in_x
from .held import HeldRatio, keep
from .wrappers import jax_op

__all__ = ["BestReference"]


class BestReference(OpOfBothMajors, Op):
    """Packed parameters ``(D,)`` that make observations ``(n, *event)`` likely; no derivatives.

    Data that nobody has replaced since the last evaluation cost a comparison.
    """

    __props__ = ("held",)

    def __init__(self, estimator: RatioEstimator) -> None:
        self.held, self.size = HeldRatio(estimator), estimator.layout.size
        self._last: tuple[np.ndarray, np.ndarray] | None = None

    def make_node(self, x: Any) -> Apply:
        """One input, in float64."""
        x = pt.as_tensor_variable(x)
        return keep(Apply(self, [x], [pt.TensorType("float64", shape=(self.size,))()]), self.held())

    def evaluate(self, x: np.ndarray) -> np.ndarray:
        """The best of draws of the training prior."""
        if self._last is None or not same_numbers(self._last[0], x):
            self._last = x.copy(), best_reference(self.held(), x)
        return self._last[1].copy()

    def perform(
        self, node: Apply, inputs: Sequence[np.ndarray], output_storage: list[list[Any]]
    ) -> None:
        """Evaluate for the linkers that call Python."""
        output_storage[0][0] = self.evaluate(inputs[0])

    def output_shapes(self, node: Apply, shapes: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Without an evaluation."""
        return [(self.size,)]

    def pullback(self, inputs: Sequence[Variable], *others: Any) -> list[Variable]:
        """Refused: a ratio is not differentiated in x."""
        return [not_in_x(self, inputs[0], 0)]


@register_funcify_and_cache_key(BestReference)
def _numba_best(op: BestReference, node: Apply, **kwargs: Any) -> tuple[Callable[..., Any], None]:
    """Let Numba call ``op.perform``; such a graph is not cached (key None)."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Numba will use object mode", UserWarning)
        return generate_fallback_impl(op, node, **kwargs), None


@node_rewriter([BestReference])
def become_jax_callback(fgraph: Any, node: Apply) -> list[Variable]:
    """Where PyTensor compiles for JAX, call back from there."""
    import jax

    kept = node.op.held()

    def best(x: Any, kept: Any = kept) -> tuple[Any, ...]:
        dtype = jax.numpy.result_type(float)
        result = jax.ShapeDtypeStruct((node.op.size,), dtype)

        def host(x: Any) -> np.ndarray:
            return node.op.evaluate(np.asarray(x, dtype=np.float64)).astype(dtype, copy=False)

        return (jax.pure_callback(host, result, x, vmap_method="sequential"),)

    return jax_op(node, best)


optdb.register("best_reference_to_jax", dfs_rewriter(become_jax_callback), "jax", position=100)
