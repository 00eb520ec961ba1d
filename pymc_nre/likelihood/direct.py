r"""Direct ratios in a model: compared with fixed parameters, or with draws of the training prior.

With fixed ones it is an ordinary ratio, whose observations carry what they are compared with. With
draws :math:`\theta_j` it is a ratio to the evidence, in which trials are added up before the
average is taken,

.. math:: \log \frac{p(X \mid \theta)}{p(X)} =
    -\log \frac1S \sum_j \exp\Bigl(-\sum_i f(\theta, \theta_j, x_i)\Bigr).

A model wants a value for each observation. It gets what one more observation adds, which is
:math:`\log p(x_i \mid \theta) / p(x_i \mid x_1, \dots, x_{i-1})`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.tensor import TensorConstant, TensorVariable

from ..estimators.direct import against, beside_reference, best_reference
from ..estimators.estimator import RatioEstimator
from ..exceptions import TrialsWarning, warn
from ..ops.best_reference import BestReference
from ..ops.guards import held_data
from ..runtime.arrays import finite_array
from .batches import flat, likelihood_of, table_of

__all__ = ["Comparison", "comparison_of", "direct_likelihood", "warn_if_few_count"]

_MOST_ROWS = 2**21  # of observations with each of the draws: 17 MB for each number of them
_FEW = 2.0  # effective draws, below which one or two decide


@dataclass(frozen=True)
class Comparison:
    """What a direct ratio is compared with.

    Attributes
    ----------
    fixed : tuple of float, optional
        Packed parameters; where there are neither these nor draws, the best for the data.
    draws : int, optional
        Of the training prior.
    """

    fixed: tuple[float, ...] | None = None
    draws: int | None = None


def comparison_of(ratio: RatioEstimator, reference: Any, evidence: Any, who: str) -> Any:
    """What was asked for; None for ratios that have a denominator of their own.

    Raises
    ------
    TypeError, ValueError
        If something was asked for that this ratio does not take, or both.
    """
    if not ratio.is_direct:
        given = {"reference": reference, "evidence": evidence}
        odd = [name for name, value in given.items() if value is not None]
        if odd:
            raise TypeError(
                f"{who}: expected no {' or '.join(odd)}: this ratio has a denominator of its own. "
                "They are for direct ratios, trained with loss=DNRE(). Leave them out."
            )
        return None
    if reference is not None and evidence is not None:
        raise ValueError(
            f"{who}: expected reference= or evidence=, got both. Fixed parameters to compare with "
            "are given by the first, a number of prior draws by the second."
        )
    if evidence is not None:
        draws = ratio.references(evidence, f"{who}: evidence")
        return Comparison(draws=len(draws))
    if reference is None:
        return Comparison()
    if not isinstance(reference, Mapping):
        raise TypeError(
            f"{who}: reference: expected a value for each of {', '.join(ratio.parameters)} by "
            f"name, got {type(reference).__name__}. Write reference={{name: value, ...}}."
        )
    name = f"{who}: reference"
    theta = finite_array(ratio.layout.pack(reference, name), name)
    if theta.ndim != 1:
        raise ValueError(
            f"{name}: expected one value of each parameter, got a batch of shape "
            f"{theta.shape[:-1]}."
        )
    return Comparison(fixed=tuple(theta.tolist()))


def direct_likelihood(
    ratio: RatioEstimator,
    x: TensorVariable,
    parameters: Mapping[str, TensorVariable],
    comparison: Comparison,
    *,
    table: bool = False,
    **options: Any,
) -> TensorVariable:
    """Log ratios ``(*batch,)`` of observations ``(*batch, *event)``, one for each.

    A table broadcasts both, as `table_of` does.
    """
    view = beside_reference(ratio)
    if comparison.draws is not None:
        return _to_evidence(ratio, view, x, parameters, comparison.draws, options)
    joined = _beside(ratio, x, _reference(ratio, x, comparison))
    joined.name = x.name
    return (table_of if table else likelihood_of)(view, joined, parameters, **options)


def _reference(ratio: RatioEstimator, x: TensorVariable, comparison: Comparison) -> Any:
    """Packed parameters ``(D,)``, where they are known now, or a graph that chooses them."""
    if comparison.fixed is not None:
        return np.array(comparison.fixed)
    if isinstance(x, TensorConstant):
        return best_reference(ratio, np.asarray(x.data, float).reshape(-1, *ratio.event_shape))
    rows = x.astype("float64").reshape((-1, *ratio.event_shape))
    return BestReference(ratio.for_evaluation())(rows)


def _beside(ratio: RatioEstimator, x: TensorVariable, reference: Any) -> TensorVariable:
    """Vectors ``(*lead, *batch, K + D)`` of observations and references ``(*lead, D)``."""
    axes = x.ndim - len(ratio.event_shape)
    if isinstance(x, TensorConstant) and isinstance(reference, np.ndarray):
        rows = np.asarray(x.data, float).reshape(*x.data.shape[:axes], -1)
        lead, size = reference.shape[:-1], reference.shape[-1]
        reference = reference.reshape(*lead, *[1] * axes, size)
        batch = *lead, *rows.shape[:-1]
        parts = [np.broadcast_to(part, (*batch, part.shape[-1])) for part in (rows, reference)]
        return pt.constant(np.concatenate(parts, axis=-1))
    reference = pt.as_tensor_variable(reference)
    rows = flat(x.astype("float64"), ratio.event_shape)
    lead = [reference.shape[axis] for axis in range(reference.ndim - 1)]
    batch = [*lead, *(x.shape[axis] for axis in range(axes))]
    reference = reference.dimshuffle(*range(len(lead)), *["x"] * axes, len(lead))
    parts = [pt.broadcast_to(part, (*batch, part.shape[-1])) for part in (rows, reference)]
    return pt.concatenate(parts, axis=-1)


def _to_evidence(
    ratio: RatioEstimator,
    view: RatioEstimator,
    x: TensorVariable,
    parameters: Mapping[str, TensorVariable],
    draws: int,
    options: Mapping[str, Any],
) -> TensorVariable:
    joined = _beside(ratio, x, ratio.references(draws, "evidence"))
    known = joined.type.shape[:-1]
    if None not in known and np.prod(known) > _MOST_ROWS:
        raise ValueError(
            f"evidence={draws:,} compares {np.prod(known) // draws:,} observations with as many "
            f"draws each; expected at most {_MOST_ROWS:,} comparisons. With so many trials one or "
            "two draws decide anyway: leave evidence= out, and the best of 256 is the reference."
        )
    values = table_of(view, joined, parameters, **options)
    trials = _shared_axes(ratio, parameters, values.ndim - 1)
    groups = [axis for axis in range(values.ndim - 1) if axis not in trials]
    order = [*groups, *trials]
    shape = values.shape[1:]
    sizes = [shape[axis] for axis in groups]
    ordered = values.dimshuffle(0, *(1 + axis for axis in order))
    together = ordered.reshape((draws, *sizes, -1), ndim=2 + len(groups))
    # What the first observations say together, then the first two, and so on.
    summed = np.log(draws) - pt.logsumexp(-pt.cumsum(together, axis=-1), axis=0)
    added = pt.concatenate([summed[..., :1], pt.diff(summed, axis=-1)], axis=-1)
    back = added.reshape([shape[axis] for axis in order], ndim=len(order))
    return back.dimshuffle(*(order.index(axis) for axis in range(len(order))))


def _shared_axes(
    ratio: RatioEstimator, parameters: Mapping[str, TensorVariable], axes: int
) -> list[int]:
    """Axes of a batch along which no parameter is known to vary."""
    varying = set()
    for name, own in ratio.parameters.items():
        given = parameters[name].type.broadcastable
        batch = given[: len(given) - len(own)]
        varying |= {axes - len(batch) + k for k, one in enumerate(batch) if not one}
    return [axis for axis in range(axes) if axis not in varying]


def warn_if_few_count(
    who: str, ratio: RatioEstimator, x: TensorVariable, comparison: Comparison | None
) -> None:
    """Warn where hardly more than one of the draws makes the data likely, if these are known."""
    data = held_data(x)
    if comparison is None or comparison.draws is None or data is None:
        return
    rows = np.asarray(data, dtype=float).reshape(-1, *ratio.event_shape)
    best = best_reference(ratio, rows)
    others = ratio.references(comparison.draws, "evidence")
    logs = -against(ratio, best, others, rows)
    weights = np.exp(logs - logs.max())
    effective = weights.sum() ** 2 / (weights**2).sum()
    if effective < _FEW:
        warn(
            f"{who}: of the {comparison.draws:,} prior draws that evidence= averages over, "
            f"{effective:.1f} count for {len(rows):,} observations: the rest make them far less "
            "likely. Give it more draws, or leave it out, and the best of 256 is the reference.",
            TrialsWarning,
        )
