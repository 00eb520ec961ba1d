"""Conditions in a model: data that are known beside observations, and join them for the network.

They are arrays or `pymc.Data`, never expressions of random variables: what a posterior is to tell
of is a parameter.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Constant
from pytensor.graph.traversal import ancestors
from pytensor.tensor import TensorVariable
from pytensor.tensor.random.op import RandomVariable

from ..estimators.checks import warn_if_outside
from ..estimators.estimator import RatioEstimator
from ..ops.guards import LookedAt, held_data, refuse_named_axes
from ..runtime.arrays import finite_array
from .batches import flat, of_batch
from .tensors import as_tensor, holds_graph

__all__ = [
    "as_conditions",
    "warn_if_conditions_leave",
    "warn_if_new_conditions_leave",
    "with_conditions",
]

_looked_at = LookedAt()
_OTHER_LENGTHS = (
    "condition {!r} must have the batch shape of the observations, or length one where all share "
    "it; got other lengths. Replace data and conditions together, pm.set_data"
)


def as_conditions(
    ratio: RatioEstimator, given: Mapping[str, Any], batch: tuple[int | None, ...], who: str
) -> dict[str, TensorVariable]:
    """Tensors ``(*batch, *own)`` in the ratio's order.

    Raises
    ------
    TypeError, ValueError
        If one is missing or unknown, random, not finite, or of another shape.
    """
    known = ratio.conditions
    if known is None:
        return {}
    known.layout.check_names(given, who, "conditions")
    tensors = {}
    for name in known.shapes:
        label = f"{who}: {name}"
        refuse_named_axes(who, name, given[name])
        value = given[name] if holds_graph(given[name]) else finite_array(given[name], label)
        tensors[name] = as_tensor(value, label)
        _refuse_random(name, tensors[name], who)
        known.check_batch(name, tensors[name].type.shape, batch, who)
    return tensors


def warn_if_conditions_leave(
    who: str, ratio: RatioEstimator, conditions: Mapping[str, TensorVariable]
) -> None:
    """Warn of conditions that training has not seen, where their values are known now.

    Raises
    ------
    ValueError
        If they are not finite.
    """
    values = {name: held_data(tensor) for name, tensor in conditions.items()}
    for tensor in conditions.values():
        _looked_at.note(tensor, ratio)
    if conditions and all(value is not None for value in values.values()):
        values = {name: finite_array(value, f"{who}: {name}") for name, value in values.items()}
        warn_if_outside(ratio, ratio.conditions.layout.pack(values, who), who)


def warn_if_new_conditions_leave(
    ratio: RatioEstimator, conditions: Mapping[str, TensorVariable]
) -> None:
    """The same for conditions that were replaced since they were looked at, by `pymc.set_data`."""
    if any(_looked_at.is_new(tensor, ratio) for tensor in conditions.values()):
        warn_if_conditions_leave("RatioLikelihood", ratio, conditions)


def _refuse_random(name: str, tensor: TensorVariable, who: str) -> None:
    nodes = (variable.owner for variable in ancestors([tensor]))
    if any(node is not None and isinstance(node.op, RandomVariable) for node in nodes):
        raise ValueError(
            f"{who}: condition {name!r} depends on random variables; expected known data, an array "
            f"or pm.Data. What is inferred is a parameter: leave {name} out of conditions= when "
            "simulating, and train with it among the parameters."
        )


def with_conditions(
    who: str,
    ratio: RatioEstimator,
    x: TensorVariable,
    given: Mapping[str, TensorVariable] | None = None,
) -> TensorVariable:
    """Observations ``(*batch, *event)`` as the network takes them: with conditions, if any."""
    known = ratio.conditions
    if known is None or given is None:
        return x
    parts = [x, *given.values()]
    if all(isinstance(part, Constant) for part in parts):
        values = {name: tensor.data for name, tensor in given.items()}
        packed = pt.constant(known.pack(np.asarray(x.data, dtype=float), values, who))
    else:
        packed = _joined(ratio, x, given)
    packed.name = x.name
    return packed


def _joined(
    ratio: RatioEstimator, x: TensorVariable, given: Mapping[str, TensorVariable]
) -> TensorVariable:
    axes = x.ndim - len(ratio.observation_shape)
    known = x.type.shape[:axes]
    batch = [x.shape[i] if n is None else n for i, n in enumerate(known)]
    rows = [flat(x, ratio.observation_shape)]
    for name, own in ratio.conditions.shapes.items():
        value = of_batch(flat(given[name], own), known, batch, _OTHER_LENGTHS.format(name))
        rows.append(pt.broadcast_to(value, (*batch, math.prod(own))))
    return pt.concatenate([row.astype("float64") for row in rows], axis=-1)
