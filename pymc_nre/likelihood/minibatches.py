"""The whole data behind minibatches.

What is chosen by data, and stays the same for all of them, must not be chosen anew at every step:
sums of log ratios to other denominators do not compare.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pytensor.tensor as pt
from pymc.data import MinibatchOp
from pytensor.graph.basic import Variable
from pytensor.graph.replace import clone_replace
from pytensor.graph.traversal import ancestors
from pytensor.tensor import TensorConstant, TensorVariable

__all__ = ["some_of_the_whole"]

_ROWS = 1_000  # of the whole; looked at once, or where data can be replaced at every step


def some_of_the_whole(
    x: TensorVariable, conditions: Mapping[str, TensorVariable] | None = None
) -> tuple[TensorVariable, Mapping[str, TensorVariable] | None]:
    """Observations and conditions, evenly spread over the data that minibatches are taken from.

    They are the same variables where there are no minibatches.
    """
    given = {} if conditions is None else conditions
    x, *values = _behind([x, *given.values()])
    return x, None if conditions is None else dict(zip(given, values, strict=True))


def _behind(variables: Sequence[Variable]) -> list[Any]:
    batches = [v for v in ancestors(variables) if _is_minibatch(v)]
    if not batches:
        return list(variables)
    wholes = {v: _spread(v.owner.inputs[v.owner.outputs.index(v)]) for v in batches}
    found = [wholes.get(v, v) for v in variables]  # constants stay constants
    return list(clone_replace(found, wholes, rebuild_strict=False))


def _is_minibatch(variable: Variable) -> bool:
    return variable.owner is not None and isinstance(variable.owner.op, MinibatchOp)


def _spread(whole: TensorVariable) -> TensorVariable:
    """Some rows of data, the same ones always."""
    if isinstance(whole, TensorConstant):
        return pt.constant(whole.data[:: max(1, math.ceil(len(whole.data) / _ROWS))])
    return whole[:: pt.maximum(1, (whole.shape[0] + _ROWS - 1) // _ROWS)]
