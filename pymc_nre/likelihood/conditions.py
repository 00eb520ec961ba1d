"""Conditions in a model: data that are known beside observations, and join them for the network.

They are arrays or `pymc.Data`, never expressions of random variables: what a posterior is to tell
of is a parameter.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytensor.tensor as pt
from pymc.distributions.dist_math import check_parameters
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Constant
from pytensor.graph.traversal import ancestors
from pytensor.tensor import TensorVariable
from pytensor.tensor.random.op import RandomVariable

from ..estimators.checks import warn_if_outside
from ..estimators.estimator import RatioEstimator
from ..ops.guards import held_data, refuse_named_axes
from ..runtime.arrays import finite_array
from .tensors import as_tensor, holds_graph

__all__ = [
    "as_conditions",
    "warn_if_conditions_leave",
    "warn_if_new_conditions_leave",
    "with_conditions",
]

# The array that was looked at last, of conditions that can be replaced; by the ratio's digest.
_looked_at: weakref.WeakKeyDictionary[SharedVariable, dict[str, Any]] = weakref.WeakKeyDictionary()


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
    known.check_names(given, who)
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
    for tensor in filter(_can_be_replaced, conditions.values()):
        _looked_at.setdefault(tensor, {})[ratio.digest] = weakref.ref(held_data(tensor))
    if conditions and all(value is not None for value in values.values()):
        values = {name: finite_array(value, f"{who}: {name}") for name, value in values.items()}
        warn_if_outside(ratio, ratio.conditions.layout.pack(values, who), who)


def warn_if_new_conditions_leave(
    ratio: RatioEstimator, conditions: Mapping[str, TensorVariable]
) -> None:
    """The same for conditions that were replaced since they were looked at, by `pymc.set_data`."""
    for tensor in filter(_can_be_replaced, conditions.values()):
        known = _looked_at.get(tensor, {}).get(ratio.digest)
        if known is None or known() is not held_data(tensor):
            warn_if_conditions_leave("RatioLikelihood", ratio, conditions)


def _can_be_replaced(tensor: TensorVariable) -> bool:
    return isinstance(tensor, SharedVariable)


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
    rows = [_flat(x, ratio.observation_shape)]
    for name, own in ratio.conditions.shapes.items():
        flat = _of_batch(name, _flat(given[name], own), known, batch)
        rows.append(pt.broadcast_to(flat, (*batch, math.prod(own))))
    return pt.concatenate([row.astype("float64") for row in rows], axis=-1)


def _of_batch(
    name: str, value: TensorVariable, known: tuple[int | None, ...], batch: list[Any]
) -> TensorVariable:
    """A condition ``(*batch, size)``, checked where its lengths show only later."""
    first = len(batch) - (value.ndim - 1)
    differ = [
        pt.eq(value.shape[axis], batch[first + axis])
        for axis, length in enumerate(value.type.shape[:-1])
        if length != 1 and (length is None or length != known[first + axis])
    ]
    if not differ:
        return value
    message = (
        f"condition {name!r} must have the batch shape of the observations, or length one where "
        "all share it; got other lengths. Replace data and conditions together, pm.set_data"
    )
    return check_parameters(value, *differ, msg=message, can_be_replaced_by_ninf=False)


def _flat(value: TensorVariable, own: tuple[int, ...]) -> TensorVariable:
    """``(*batch, size)`` of ``(*batch, *own)``."""
    return value.flatten(value.ndim - len(own) + 1) if own else value[..., None]
