"""The Op that chooses what a direct ratio compares with, anew whenever the data change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.compile import optdb
from pytensor.graph.basic import Apply, Variable
from pytensor.graph.op import Op
from pytensor.graph.rewriting.basic import dfs_rewriter, node_rewriter
from pytensor.link.numba.dispatch.basic import register_funcify_and_cache_key

from ..compat import OpOfBothMajors
from ..estimators.direct import best_reference
from ..estimators.estimator import RatioEstimator
from ..estimators.evaluator import same_numbers
from .gradients import not_in_x
from .held import HeldRatio, keep
from .wrappers import by_perform, host_callback, jax_op

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


register_funcify_and_cache_key(BestReference)(by_perform)


@node_rewriter([BestReference])
def become_jax_callback(fgraph: Any, node: Apply) -> list[Variable]:
    """Where PyTensor compiles for JAX, call back from there."""
    kept = node.op.held()

    def best(x: Any, kept: Any = kept) -> tuple[Any, ...]:
        return (host_callback(node.op.evaluate, x, (node.op.size,)),)

    return jax_op(node, best)


optdb.register("best_reference_to_jax", dfs_rewriter(become_jax_callback), "jax", position=100)
