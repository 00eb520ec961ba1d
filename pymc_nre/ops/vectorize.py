"""How PyTensor vectorizes our Ops: batches become rows.

`vectorize_graph` puts axes before the inputs of a graph, as marginalization over a discrete parent
and LOO by moment matching do. Engines evaluate rows anyway, so an Op with batches is the same Op
with more rows: theta ``(*batch, n, D)`` and x ``(*batch, n, *event)`` are folded, what comes out is
unfolded. A theta that the observations of a batch share gets a row for each of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytensor.tensor as pt
from pytensor.graph.basic import Apply, Variable
from pytensor.graph.replace import _vectorize_node

from .embedding import Features
from .gradients import RowSum
from .ratio_ops import RatioOp

__all__ = ["vectorize_features", "vectorize_ratio", "vectorize_row_sum"]


@_vectorize_node.register(RatioOp)
def vectorize_ratio(op: RatioOp, node: Apply, *inputs: Variable) -> Apply | list[Variable]:
    """Fold the batches of theta, x and v into rows; constants have none."""
    constants = slice(2, 2 + op.engine.constants)
    of_rows = [*inputs[:2], *inputs[constants.stop :]]
    cores = [*node.inputs[:2], *node.inputs[constants.stop :]]
    given = zip(inputs[constants], node.inputs[constants], strict=True)
    if any(new.ndim != old.ndim for new, old in given):
        raise NotImplementedError(
            "A graph with a ratio was vectorized over the network of the ratio: its weights cannot "
            "have a batch. Vectorize over parameters and observations."
        )
    batch = _batch_of(of_rows, cores)
    length = of_rows[1].shape[of_rows[1].ndim - cores[1].ndim]
    folded = [_fold(new, old, batch, length) for new, old in zip(of_rows, cores, strict=True)]
    results = op.make_node(*folded[:2], *inputs[constants], *folded[2:]).outputs
    return [_unfold(result, batch, length) for result in results]


@_vectorize_node.register(Features)
def vectorize_features(
    op: Features, node: Apply, x: Variable, *known: Variable
) -> Apply | list[Variable]:
    """The same for observations that are embedded."""
    core = node.inputs[0]
    batch, length = _batch_of([x], [core]), x.shape[x.ndim - core.ndim]
    [features] = op.make_node(_fold(x, core, batch, length), *known).outputs
    return [_unfold(features, batch, length)]


@_vectorize_node.register(RowSum)
def vectorize_row_sum(op: RowSum, node: Apply, rows: Variable) -> list[Variable]:
    """A sum over the rows of each batch."""
    return [rows.sum(axis=-2, keepdims=True)]


def _batch_of(inputs: Sequence[Variable], cores: Sequence[Variable]) -> list[Any]:
    """The broadcast batch shape of inputs, whose cores have these axes."""
    batched = [new[(..., *[0] * old.ndim)] for new, old in zip(inputs, cores, strict=True)]
    return list(pt.broadcast_shape(*batched))


def _fold(new: Variable, old: Variable, batch: list[Any], length: Any) -> Variable:
    """Rows ``(*batch * n, ...)`` of ``(*batch, n, ...)``, one row taken for all n."""
    if old.type.broadcastable[0]:  # vectorized reshapes forget it
        new = pt.specify_broadcastable(new, new.ndim - old.ndim)
    rest = [new.shape[axis] for axis in range(new.ndim - old.ndim + 1, new.ndim)]
    rows = pt.broadcast_to(new, (*batch, length, *rest))
    return rows.reshape((-1, *rest), ndim=old.ndim)


def _unfold(result: Variable, batch: list[Any], length: Any) -> Variable:
    """The inverse for what comes out."""
    rest = [result.shape[axis] for axis in range(1, result.ndim)]
    return result.reshape((*batch, length, *rest), ndim=len(batch) + result.ndim)
