r"""Direct ratios in a model: compared with fixed parameters, or with draws of the training prior.

With fixed ones it is an ordinary ratio, whose observations carry what they are compared with. With
draws :math:`\theta_j` it is a ratio to the evidence, in which trials are added up before the
average is taken,

.. math:: \log \frac{p(X \mid \theta)}{p(X)} =
    -\log \frac1S \sum_j \exp\Bigl(-\sum_i f(\theta, \theta_j, x_i)\Bigr).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.tensor import TensorConstant, TensorVariable

from ..estimators.direct import (
    against,
    beside_reference,
    best_reference,
    candidates,
    each_against,
)
from ..estimators.estimator import RatioEstimator
from ..exceptions import DomainWarning, TrialsWarning, warn
from ..ops.best_reference import BestReference
from ..ops.engines.choice import share
from ..ops.evidence import TrialEvidence
from ..ops.guards import held_data
from .batches import flat, likelihood_of, table_of

__all__ = ["Denominator", "check_denominator", "denominator_of", "direct_likelihood"]

_MOST_ROWS = 2**21  # of observations with each of the draws: 17 MB for each number of them
# Log ratios that the likeliest draw is behind the best of 256. Of posteriors by draws farther
# behind a third were off by a quarter of a standard deviation, of others 2 of 492.
_BEHIND = 10.0
_FEW = 2.0  # effective draws, below which posteriors are right and evidences off by 1 to 200
# The same of one observation alone, whose best is at its own place: noise of 5 standard deviations
# makes 12. Three groups of 4, 8 standard deviations apart, made 32, and were off by one of theirs.
_APART = 20.0
_SOME_GROUPS, _SOME_ROWS = 20, 100  # are looked at


@dataclass(frozen=True)
class Denominator:
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


def denominator_of(ratio: RatioEstimator, reference: Any, evidence: Any, who: str) -> Any:
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
        return Denominator(draws=len(draws))
    if reference is None:
        return Denominator()
    if not isinstance(reference, Mapping):
        raise TypeError(
            f"{who}: reference: expected a value for each of {', '.join(ratio.parameters)} by "
            f"name, got {type(reference).__name__}. Write reference={{name: value, ...}}."
        )
    theta = ratio.one_reference(reference, f"{who}: reference")
    return Denominator(fixed=tuple(theta.tolist()))


def direct_likelihood(
    ratio: RatioEstimator,
    x: TensorVariable,
    parameters: Mapping[str, TensorVariable],
    denominator: Denominator,
    *,
    whole: TensorVariable,
    table: bool = False,
    **options: Any,
) -> TensorVariable:
    """Log ratios ``(*batch,)`` of observations ``(*batch, *event)``, one for each.

    A table broadcasts both, as `table_of` does. By the ``whole``, the same unless these are a
    minibatch, a reference is chosen.
    """
    view = beside_reference(ratio)
    if denominator.draws is not None:
        return _to_evidence(ratio, view, x, parameters, denominator.draws, options)
    joined = _beside(ratio, x, _reference(ratio, whole, denominator))
    joined.name = x.name
    return (table_of if table else likelihood_of)(view, joined, parameters, **options)


def _reference(ratio: RatioEstimator, x: TensorVariable, denominator: Denominator) -> Any:
    """Packed parameters ``(D,)``, where they are known now, or a graph that chooses them."""
    if denominator.fixed is not None:
        return np.array(denominator.fixed)
    if isinstance(x, TensorConstant):
        return best_reference(ratio, np.asarray(x.data, float).reshape(-1, *ratio.event_shape))
    evaluated = ratio.for_evaluation()  # kept here until there is a node that keeps it
    return BestReference(evaluated)(x.astype("float64").reshape((-1, *ratio.event_shape)))


def _beside(ratio: RatioEstimator, x: TensorVariable, reference: Any) -> TensorVariable:
    """Vectors ``(*lead, *batch, K + D)`` of observations and references ``(*lead, D)``."""
    axes = x.ndim - len(ratio.event_shape)
    if isinstance(x, TensorConstant) and isinstance(reference, np.ndarray):
        rows = np.asarray(x.data, float).reshape(*x.data.shape[:axes], math.prod(ratio.event_shape))
        lead, size = reference.shape[:-1], reference.shape[-1]
        reference = reference.reshape(*lead, *[1] * axes, size)
        batch = *lead, *rows.shape[:-1]
        parts = [np.broadcast_to(part, (*batch, part.shape[-1])) for part in (rows, reference)]
        return pt.constant(np.concatenate(parts, axis=-1))
    if isinstance(reference, np.ndarray):  # compiled code is not kept on disk with large constants
        reference = pt.specify_shape(share("references", reference), reference.shape)
    rows, lead = flat(x.astype("float64"), ratio.event_shape), reference.ndim - 1
    reference = reference.dimshuffle(*range(lead), *["x"] * axes, lead)
    # Not by `broadcast_to`, which would ask whether lengths that are not known are equal.
    nothing = [pt.zeros_like(part[..., 0])[..., None] for part in (reference, rows)]
    return pt.concatenate([rows + nothing[0], reference + nothing[1]], axis=-1)


def _to_evidence(
    ratio: RatioEstimator,
    view: RatioEstimator,
    x: TensorVariable,
    parameters: Mapping[str, TensorVariable],
    draws: int,
    options: Mapping[str, Any],
) -> TensorVariable:
    joined = _beside(ratio, x, ratio.references(draws, "evidence"))
    values = table_of(view, joined, parameters, **options)
    axes = values.ndim - 1
    trials = _shared_axes(ratio, parameters, axes)
    order = [*(axis for axis in range(axes) if axis not in trials), *trials]
    values = values.dimshuffle(0, *(1 + axis for axis in order))
    evidence = TrialEvidence(len(trials))
    if options["outside"] == "reject":  # of all draws alike: they have no average
        rejected = pt.eq(values, -np.inf)
        found = pt.switch(rejected[0], -np.inf, evidence(pt.switch(rejected, 0.0, values)))
    else:
        found = evidence(values)
    return found.dimshuffle(*(order.index(axis) for axis in range(axes)))


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


def check_denominator(
    who: str,
    ratio: RatioEstimator,
    x: TensorVariable,
    parameters: Mapping[str, TensorVariable],
    reference: Any,
    evidence: Any,
) -> None:
    """Warn where what a direct ratio is compared with does not suit the data, if these are known.

    Raises
    ------
    ValueError
        If there are too many observations for so many draws.
    """
    if evidence is not None:
        _check_evidence(who, ratio, x, parameters, evidence)
    else:
        _warn_if_groups_differ(who, ratio, x, parameters, reference)


def _warn_if_groups_differ(
    who: str,
    ratio: RatioEstimator,
    x: TensorVariable,
    parameters: Mapping[str, TensorVariable],
    given: Mapping[str, Any] | None,
) -> None:
    """Warn where parameters vary, and one reference makes some observations far less likely."""
    data, axes = held_data(x), x.ndim - len(ratio.event_shape)
    if data is None or not data.size or len(_shared_axes(ratio, parameters, axes)) == axes:
        return
    rows = np.asarray(data, float).reshape(-1, *ratio.event_shape)
    reference = best_reference(ratio, rows) if given is None else ratio.layout.pack(given)
    others, some = candidates(ratio), rows[:: max(1, len(rows) // _SOME_ROWS)]
    behind = -each_against(ratio, reference, others, some).min(1)
    if behind.max() > _APART:
        warn(
            f"{who}: parameters vary between observations, and the one reference that all are "
            f"compared with makes {(behind > _APART).mean():.0%} of them less likely than others "
            f"do, by a log ratio of up to {behind.max():.0f}: there the network has seen nothing "
            "alike, and parameters of such groups may be biased. Give evidence=256, or each group "
            "a RatioLikelihood of its own.",
            DomainWarning,
        )


def _check_evidence(
    who: str,
    ratio: RatioEstimator,
    x: TensorVariable,
    parameters: Mapping[str, TensorVariable],
    draws: int,
) -> None:
    """Warn where all draws make the data far less likely than others do, if data are known.

    Raises
    ------
    ValueError
        If there are too many observations for so many draws.
    """
    data = held_data(x)
    if data is None:
        return
    axes = data.ndim - len(ratio.event_shape)
    observations = math.prod(data.shape[:axes])
    if observations * draws > _MOST_ROWS:
        raise ValueError(
            f"{who}: evidence={draws:,} compares {observations:,} observations with as many draws "
            f"each; expected at most {_MOST_ROWS:,} comparisons. With so many trials one or two "
            "draws decide anyway: leave evidence= out, and the best of 256 is the reference."
        )
    trials = _shared_axes(ratio, parameters, axes)
    groups = [axis for axis in range(axes) if axis not in trials]
    count = math.prod(data.shape[axis] for axis in groups)
    ordered = np.asarray(data, float).transpose(*groups, *trials, *range(axes, data.ndim))
    each = ordered.reshape(count, -1, *ratio.event_shape)[:: max(1, count // _SOME_GROUPS)]
    others = ratio.references(draws, "evidence")
    found = [_weighed(ratio, others, rows) for rows in each]
    behind = max((lead for lead, _ in found), default=0.0)
    effective = min((number for _, number in found), default=np.inf)
    told = f"{who}: of the {draws:,} prior draws that evidence= averages over, "
    count = f"{each.shape[1]:,} observations"
    if behind > _BEHIND:
        warn(
            f"{told}the likeliest makes {count} less likely than the best of 256 does, by a log "
            f"ratio of {behind:.0f}: there the network has seen nothing alike. Give it more draws, "
            "or leave it out, and the best of 256 is the reference.",
            TrialsWarning,
        )
    elif effective < _FEW:
        warn(
            f"{told}{effective:.1f} count for {count}. Posteriors are as good as by that one "
            "alone, but the evidence may be off by a log ratio of 1 and far more. If it matters, "
            "give it more draws; if not, leave it out.",
            TrialsWarning,
        )


def _weighed(ratio: RatioEstimator, others: np.ndarray, rows: np.ndarray) -> tuple[float, float]:
    """Log ratio of the best reference to the likeliest of parameters ``(S, D)``, how many count."""
    behind = against(ratio, best_reference(ratio, rows), others, rows)
    weights = np.exp(behind.min() - behind)
    return float(behind.min()), float(weights.sum() ** 2 / (weights**2).sum())
