"""How the Ops of all engines are differentiated: what they share.

A theta that all observations share gathers the gradients of all rows. PyTensor has a sum for
that, but to compile it for numba takes longer than all else in a model (6 s of PyTensor 3);
`RowSum` takes a tenth of a second.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.compile import optdb
from pytensor.gradient import grad_not_implemented
from pytensor.graph.basic import Apply, Variable
from pytensor.graph.op import Op
from pytensor.graph.rewriting.basic import dfs_rewriter, node_rewriter
from pytensor.link.numba.dispatch.basic import numba_njit, register_funcify_default_op_cache_key

from ..compat import OpOfBothMajors
from .wrappers import version

__all__ = ["RowSum", "Variables", "for_theta", "not_in_x"]


Variables = Sequence[Variable]


class RowSum(OpOfBothMajors, Op):
    """The sum over the rows of a matrix ``(n, D)``, as ``(1, D)``."""

    __props__ = ()

    def make_node(self, rows: Any) -> Apply:
        """One input, ``(n, D)`` in float64."""
        rows = pt.as_tensor_variable(rows)
        out = pt.TensorType(rows.dtype, shape=(1, rows.type.shape[1]))()
        return Apply(self, [rows], [out])

    def perform(
        self, node: Apply, inputs: Sequence[np.ndarray], output_storage: list[list[Any]]
    ) -> None:
        """Evaluate for the linkers that call Python."""
        output_storage[0][0] = inputs[0].sum(axis=0, keepdims=True)

    def output_shapes(self, node: Apply, shapes: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Without an evaluation."""
        return [(1, shapes[0][1])]

    def pullback(
        self, inputs: Variables, outputs: Variables, cotangents: Variables
    ) -> list[Variable]:
        """Every row gets the cotangent of the sum."""
        return [cotangents[0] * pt.ones_like(inputs[0])]


def for_theta(theta: Variable, by_row: Variable) -> Variable:
    """The cotangent of theta ``(1 or n, D)`` from those of all rows ``(n, D)``."""
    if theta.type.broadcastable[0] and not by_row.type.broadcastable[0]:
        return RowSum()(by_row)
    return by_row


def not_in_x(op: Op, x: Variable, position: int = 1) -> Variable:
    """Asking for the derivative in x is an error, not a zero."""
    return grad_not_implemented(
        op,
        position,
        x,
        "A ratio is not differentiated in x: let its data not depend on parameters.",
    )


@register_funcify_default_op_cache_key(RowSum)
def _numba_row_sum(op: RowSum, node: Apply, **kwargs: Any) -> Any:
    @numba_njit
    def row_sum(rows):
        total = np.empty((1, rows.shape[1]))
        for j in range(rows.shape[1]):
            total[0, j] = 0.0
            for i in range(rows.shape[0]):
                total[0, j] += rows[i, j]
        return total

    return row_sum, version()


@node_rewriter([RowSum])
def spell_out(fgraph: Any, node: Apply) -> list[Variable]:
    """Where PyTensor compiles for JAX, its own sum serves."""
    return [node.inputs[0].sum(axis=0, keepdims=True)]


optdb.register("row_sum_to_jax", dfs_rewriter(spell_out), "jax", position=99)
