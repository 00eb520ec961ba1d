"""Log ratios of whole batches: which parameters meet which observation.

The likelihood of data has the batch of the data, whatever the parameters are: parameters that
would repeat an observation, ``(60,)`` of them beside data ``(60, 1)``, are an error, as the model
would count each observation many times. A table of log ratios is another thing: there both sides
are broadcast.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytensor.tensor as pt
from pymc.distributions.dist_math import check_parameters
from pytensor.tensor import TensorVariable

from ..estimators.estimator import RatioEstimator
from ..ops.engines.choice import as_data, as_rows, is_private, log_ratios
from ..ops.guards import held_data
from ..simulation.parameters import check_event_shape

__all__ = ["check_batch", "flat", "likelihood_of", "of_batch", "table_of"]

_Shape = Sequence[int | None]
_REPEATED = (
    "the parameters of a RatioLikelihood must have the batch shape of its observations, or length "
    "one where all share them; expected no parameter to be given for more observations than there "
    "are, or for fewer. Replace data and parameters together, pm.set_data, and give each axis that "
    "observations share a length of one, mu[:, None]"
)


def check_batch(
    name: str, ratio: RatioEstimator, batch: _Shape, parameters: Mapping[str, TensorVariable]
) -> None:
    """Raise ValueError if parameters are known to have another batch than observations.

    ``batch`` is that of the observations, with None for what is not known yet.
    """
    batch = tuple(batch)
    for parameter, own in ratio.parameters.items():
        shape = parameters[parameter].type.shape
        given = tuple(shape[: len(shape) - len(own)])
        extra = len(given) - len(batch)
        pairs = zip(given[max(extra, 0) :], batch[max(-extra, 0) :], strict=True)
        if extra > 0 or any(None not in (p, n) and p not in (1, n) for p, n in pairs):
            raise ValueError(
                f"{name}: parameter {parameter!r} has the batch shape {given}, but the "
                f"observations have {batch}; expected the same, or lengths of one. A likelihood "
                "does not repeat its data. Give the data or the parameter its axes in the same "
                f"order, observed=x[:, 0] or {parameter}={parameter}[:, None]; for a table of "
                "every observation with every parameter use nre.log_ratio, which broadcasts both."
            )


def likelihood_of(
    ratio: RatioEstimator,
    x: TensorVariable,
    parameters: Mapping[str, TensorVariable],
    **options: Any,
) -> TensorVariable:
    """Log ratios ``(*batch,)`` of observations ``(*batch, *event)``, one for each."""
    check_event_shape(ratio.event_shape, x.type.shape, "RatioLikelihood")
    name = x.name or "RatioLikelihood"
    known = x.type.shape[: x.ndim - len(ratio.event_shape)]
    check_batch(name, ratio, known, parameters)
    x, parts = as_data(ratio, x), _flat_parameters(ratio, parameters)
    batch = [x.shape[axis] if n is None else n for axis, n in enumerate(known)]
    parts = [of_batch(part, known, batch) for part in parts]
    return _evaluate(ratio, x, parts, batch, **options)


def table_of(
    ratio: RatioEstimator,
    x: TensorVariable,
    parameters: Mapping[str, TensorVariable],
    **options: Any,
) -> TensorVariable:
    """Log ratios with the broadcast batch shape of observations and parameters."""
    event = ratio.event_shape
    check_event_shape(event, x.type.shape, "log_ratio")
    _check_broadcast(ratio, x.type.shape[: x.ndim - len(event)], parameters)
    x, parts = as_data(ratio, x), _flat_parameters(ratio, parameters)
    observation = x[(..., *[0] * len(event))]
    if _shared(parts) and all(part.ndim - 1 <= observation.ndim for part in parts):
        return _evaluate(ratio, x, parts, list(observation.shape), **options)
    batch = list(pt.broadcast_shape(observation, *(part[..., 0] for part in parts)))
    if not _shared(parts) and (
        len(batch) > observation.ndim or any(observation.type.broadcastable)
    ):
        x = pt.broadcast_to(x, (*batch, *event))
    return _evaluate(ratio, x, parts, batch, **options)


def _check_broadcast(
    ratio: RatioEstimator, known: _Shape, parameters: Mapping[str, TensorVariable]
) -> None:
    """Raise ValueError where known lengths tell that parameters and observations do not fit."""
    for name, own in ratio.parameters.items():
        shape = parameters[name].type.shape
        batch = shape[: len(shape) - len(own)]
        pairs = zip(reversed(batch), reversed(known), strict=False)
        if any(None not in pair and 1 not in pair and pair[0] != pair[1] for pair in pairs):
            raise ValueError(
                f"log_ratio: {name}: its batch {batch} does not broadcast with that of x, {known}. "
                "Give one value for each observation, or a single one for all."
            )


def _evaluate(
    ratio: RatioEstimator,
    x: TensorVariable,
    parts: list[TensorVariable],
    batch: Sequence[Any],
    **options: Any,
) -> TensorVariable:
    """Log ratios ``(*batch,)`` of observations ``(*batch, *event)``; parts expand to the batch."""
    if _shared(parts):
        # Not by a reshape, which would forget the length of one when it is vectorized.
        rows = [part.dimshuffle("x", part.ndim - 1) for part in parts]
    else:
        expanded = [pt.broadcast_to(part, (*batch, part.shape[-1])) for part in parts]
        rows = [part.reshape((-1, part.shape[-1])) for part in expanded]
    theta = pt.concatenate(rows, axis=-1)
    rows = as_rows(x, ratio.event_shape)
    values = _of_what_is_there(ratio, rows, log_ratios(ratio, theta, rows, **options))
    return values if len(batch) == 1 else values.reshape(batch, ndim=len(batch))


def _of_what_is_there(
    ratio: RatioEstimator, rows: TensorVariable, values: TensorVariable
) -> TensorVariable:
    """Log ratios ``(n,)``, exactly zero where all numbers of an observation are missing."""
    if ratio.missing is None:
        return values
    data = held_data(rows)
    if data is not None and is_private(rows) and not ratio.missing.without_any(data).any():
        return values
    seen = rows.flatten(2)[:, : ratio.missing.size]
    return pt.switch(pt.isnan(seen).all(1), 0.0, values)


def _shared(parts: Sequence[TensorVariable]) -> bool:
    """Whether one theta serves all observations."""
    return all(all(part.type.broadcastable[:-1]) for part in parts)


def of_batch(
    part: TensorVariable, known: _Shape, batch: Sequence[Any], message: str = _REPEATED
) -> TensorVariable:
    """A parameter or condition ``(*batch, size)``, checked where its lengths show only later."""
    first = len(batch) - (part.ndim - 1)
    differ = [
        pt.eq(part.shape[axis], batch[first + axis])
        for axis, length in enumerate(part.type.shape[:-1])
        if length != 1 and (length is None or length != known[first + axis])
    ]
    if not differ:
        return part
    return check_parameters(part, *differ, msg=message, can_be_replaced_by_ninf=False)


def flat(value: TensorVariable, own: tuple[int, ...]) -> TensorVariable:
    """``(*batch, size)`` of ``(*batch, *own)``."""
    # Neither of these forgets which batch axes are known to have length one.
    return value.flatten(value.ndim - len(own) + 1) if own else value[..., None]


def _of_own_shape(name: str, own: tuple[int, ...], value: TensorVariable) -> TensorVariable:
    """A parameter ``(*batch, *own)``, checked where its own lengths show only later."""
    first = value.ndim - len(own)
    equal = [
        pt.eq(value.shape[first + axis], length)
        for axis, length in enumerate(own)
        if value.type.shape[first + axis] is None
    ]
    if not equal:
        return value
    message = (
        f"parameter {name!r} has own shape {own}, so it must have shape (*batch, "
        f"{', '.join(map(str, own))}), got other lengths. Replace its data by such a shape, own "
        "axes last"
    )
    return check_parameters(value, *equal, msg=message, can_be_replaced_by_ninf=False)


def _flat_parameters(
    ratio: RatioEstimator, parameters: Mapping[str, TensorVariable]
) -> list[TensorVariable]:
    """Each parameter ``(*batch, size)``, its own axes flattened into the last."""
    parts = []
    for name, own in ratio.parameters.items():
        value = _of_own_shape(name, own, parameters[name].astype("float64"))
        parts.append(flat(value, own))
    return parts
