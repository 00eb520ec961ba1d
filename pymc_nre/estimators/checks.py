"""What an estimator can be given: checks of simulations, observations and simulators."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from ..exceptions import DomainWarning, warn
from ..networks.base import RatioNetwork, floating
from ..networks.composed.ensemble import members_of
from ..networks.tails import bulk, enough
from ..runtime.arrays import array_with_holes, finite_array
from ..runtime.kinds import check_kind
from ..simulation.parameters import check_event_shape
from ..simulation.series.cuts import next_and_past
from ..simulation.simulations import Simulations
from ..simulation.simulator import Simulator, as_simulator
from .estimator import RatioEstimator
from .parts import as_trained

__all__ = [
    "as_numbers",
    "as_observations",
    "as_taken",
    "check_fit",
    "check_observations",
    "check_parameters",
    "check_ratio",
    "check_simulations",
    "finite_observations",
    "fitting",
    "packed_with",
    "simulator_of",
    "told_of_decades",
    "warn_if_missing_as_never",
    "warn_if_of_any_data",
    "warn_if_other_data",
    "warn_if_outside",
]

_BEYOND = 0.05  # of simulations: tails of a prior that is as narrow as a domain
_BULK = 0.01  # half of a Student t of 2 degrees of freedom, 10,000 draws, is within 0.15 spreads


def check_ratio(ratio: Any, who: str, argument: str = "ratio", *, direct: bool = False) -> None:
    """Raise TypeError unless it is an estimator, a direct one only where those are taken."""
    remedy = "Pass what nre.train or nre.load gives."
    check_kind(ratio, RatioEstimator, f"{who}: {argument}", "a RatioEstimator", remedy)
    if ratio.is_direct and not direct:
        raise TypeError(
            f"{who}: {argument}: expected a ratio with a denominator of its own, got a direct "
            "ratio of two parameter vectors. Make an ordinary one of it: ratio.marginal(), the "
            "ratio to the evidence, or ratio.relative_to(...), that to fixed parameters."
        )


def check_simulations(simulations: Any, who: str) -> None:
    """Raise TypeError unless these are a set of simulations."""
    remedy = "Pass what nre.simulate gives, or wrap arrays: nre.Simulations({'mu': mu}, x)."
    check_kind(simulations, Simulations, f"{who}: simulations", "Simulations", remedy)


def check_fit(ratio: Any, simulations: Any, who: str) -> None:
    """Raise TypeError or ValueError unless these are a ratio and simulations of what it takes.

    Warn if the ratio was made for one data set, and these are of others.
    """
    check_ratio(ratio, who)
    check_simulations(simulations, who)
    check_parameters(ratio, simulations.layout.shapes)
    check_observations(ratio, simulations)
    if ratio.observed is not None:
        warn_if_of_any_data(ratio, ratio.layout.pack(simulations.parameters), who)


def warn_if_of_any_data(ratio: RatioEstimator, theta: np.ndarray, who: str) -> None:
    """Warn if a ratio that was made for one data set is judged, or mended, by simulations of any.

    Those of parameters ``(n, D)`` inside of its domain are as those that it was trained on.
    """
    if ratio.observed is None:
        return
    beyond = float((~ratio.domain.inside(theta)).mean())
    if beyond > _BEYOND:
        warn(
            f"{who}: this ratio was made for one data set, and {beyond:.0%} of the simulations are "
            f"of parameters outside of its domain, {ratio.describe_domain()}, where nobody trained "
            "it: what is found is not about its own data. Take a prior that is as narrow as the "
            "domain; or make a ratio for all data, by simulate and train.",
            DomainWarning,
        )


def fitting(ratio: Any, simulations: Any, who: str) -> Simulations:
    """The simulations as the ratio takes them, with their conditions packed; as `check_fit`."""
    check_fit(ratio, simulations, who)
    return as_taken(ratio, simulations)


def as_taken(ratio: RatioEstimator, simulations: Simulations) -> Simulations:
    """Simulations as the ratio was trained on them: conditions packed, and numbers missing.

    The same ones always, so that it does nothing to what it gave.
    """
    packed = simulations.packed()
    if ratio.missing is None:
        return packed
    return packed.with_x(ratio.missing.masked(packed.x, np.random.default_rng(0)))


def as_numbers(ratio: RatioEstimator, x: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Observations ``(n, *)`` as finite numbers ``(n, K)``, for whoever compares them.

    What is missing is the mean of simulations ``(m, *)`` like them, and the masks follow.
    """
    return x.reshape(len(x), -1) if ratio.missing is None else ratio.missing.beside(x, like)


def finite_observations(
    ratio: RatioEstimator,
    observed: Any,
    who: str,
    conditions: Mapping[str, Any] | None = None,
) -> np.ndarray:
    """Observations ``(n, *event)`` as networks take them: one at least, and no holes.

    Raises
    ------
    TypeError, ValueError
        If they are not that, or conditions are missing, unknown, or do not fit.
    """
    observed, conditions = next_and_past(observed, conditions, ratio.conditions, who)
    observed = as_observations(ratio, observed, f"{who}: observed")
    check_event_shape(ratio.observation_shape, observed.shape, f"{who}: observed")
    if not observed.size:
        raise ValueError(f"{who}: observed holds no observation, got shape {observed.shape}.")
    warn_if_other_data(ratio, observed.reshape(-1, *ratio.observation_shape), who)
    rows = packed_with(ratio, observed, conditions, who).reshape(-1, *ratio.event_shape)
    return rows if ratio.missing is None else rows[~ratio.missing.without_any(rows)]


def as_observations(ratio: RatioEstimator, x: Any, name: str) -> np.ndarray:
    """Observations ``(*batch, *event)``: finite numbers, and NaN where the ratio takes it.

    Raises
    ------
    TypeError, ValueError
        If they are not that, or all numbers are missing.
    """
    if ratio.missing is None:
        return finite_array(x, name)
    array = array_with_holes(x, name)
    if array.size and np.isnan(array).all():
        raise ValueError(
            f"{name}: all {array.size:,} values are missing, so that they tell nothing. Expected "
            "some to be there; what is left without data is the prior."
        )
    return array


def warn_if_missing_as_never(ratio: RatioEstimator, rows: np.ndarray, who: str) -> None:
    """Warn of observations ``(n, *)`` in which other numbers are missing than in training."""
    beyond = "" if ratio.missing is None or not len(rows) else ratio.missing.beyond(rows)
    if beyond:
        warn(
            f"{who}: numbers are missing as they never were in training "
            f"({ratio.missing.in_words()}): {beyond}. What the ratio says there is arbitrary. "
            "Train with masks like these, nre.train(simulations, missing=observed).",
            DomainWarning,
        )


def warn_if_other_data(ratio: RatioEstimator, rows: np.ndarray, who: str) -> None:
    """Warn of observations ``(n, *event)`` that are not those the ratio was made for, if it was."""
    own = ratio.observed
    if own is None or (len(own) == len(rows) and np.allclose(_sorted(own), _sorted(rows))):
        return
    warn(
        f"{who}: this ratio was made for one data set, of {len(own):,} observations, and these are "
        f"others ({len(rows):,}). It was trained where that one is likely, and what it says of "
        "others is arbitrary. Make one for these data, nre.rounds(..., observed=data), or one for "
        "all data by simulate and train.",
        DomainWarning,
    )


def _sorted(rows: np.ndarray) -> np.ndarray:
    """In an order that does not depend on theirs."""
    flat = rows.reshape(len(rows), -1)
    return flat[np.lexsort(flat.T)]


def packed_with(
    ratio: RatioEstimator, x: np.ndarray, conditions: Mapping[str, Any] | None, who: str
) -> np.ndarray:
    """Observations ``(*batch, *event)`` with the conditions that the ratio wants."""
    if ratio.conditions is None:
        if conditions:
            raise TypeError(
                f"{who}: conditions: expected none, got {', '.join(map(str, conditions))}: the "
                "ratio was trained without. Name them when simulating, nre.simulate(..., "
                "conditions=...)."
            )
        return x
    given = {} if conditions is None else dict(conditions.items())
    return ratio.conditions.pack(x, given, who)


def warn_if_outside(ratio: RatioEstimator, packed: np.ndarray, who: str) -> None:
    """Warn of observations ``(*batch, K)`` whose conditions training has not seen."""
    outside = "" if ratio.conditions is None else ratio.conditions.outside(packed)
    if outside:
        warn(
            f"{who}: conditions lie outside of those that the ratio was trained with: {outside}. "
            "What it says there is arbitrary. Simulate with wider conditions, and train again; or "
            "leave these observations out.",
            DomainWarning,
        )


def simulator_of(
    ratio: RatioEstimator,
    given: Simulator | Callable[..., Any] | None,
    who: str,
    otherwise: Simulator | None = None,
) -> Simulator:
    """The simulator that was given, else that of the ratio, else another; ``who`` needs it."""
    simulator = as_simulator(given) or ratio.simulator or otherwise
    if simulator is None:
        raise ValueError(
            f"{who} needs the simulator, which is not saved with a ratio. Pass "
            "simulator=simulator, or nre.load(path, simulator=simulator)."
        )
    return simulator


def check_parameters(ratio: RatioEstimator, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise ValueError unless simulations are of the ratio's parameters."""
    if ratio.parameters != dict(shapes):
        raise ValueError(
            f"The simulations do not fit the ratio: expected the parameters {ratio.parameters}, "
            f"got {dict(shapes)}."
        )


def check_observations(ratio: RatioEstimator, simulations: Simulations) -> None:
    """Raise ValueError unless simulations are of observations that the ratio takes."""
    wanted = ratio.observation_shape, ratio.conditions and dict(ratio.conditions.shapes)
    known = simulations.known_conditions
    got = simulations.observation_shape, known and dict(known.shapes)
    if wanted[0] != got[0]:
        raise ValueError(
            "The simulations do not fit the ratio: expected observations of shape "
            f"{wanted[0]}, got {got[0]}."
        )
    if wanted[1] != got[1]:
        raise ValueError(
            f"The simulations do not fit the ratio: expected the conditions {wanted[1] or 'none'}, "
            f"got {got[1] or 'none'}. Simulate with the conditions that it was trained with."
        )


def told_of_decades(network: RatioNetwork, x: np.ndarray) -> str:
    """What to do where observations ``(n, *event)`` reach over many powers of ten; else empty.

    It is asked of what a network makes of them before its first layer. Where the spread is that of
    the few largest, half of all values come within a hundredth of it, and what tells them from each
    other is lost. Networks built here bear nearly all of it; those of a user's own may not.
    """
    some = x[: enough(math.prod(x.shape[1:]))]
    z = _standardized(network, some).reshape(len(some), -1)
    near = bulk(z)
    heavy = ((near > 0) & (near < _BULK * z.std(0))).nonzero()[0]
    if not heavy.size:
        return ""
    found = {k: _reach(some.reshape(len(some), -1)[:, k]) for k in heavy}
    most = max(found, key=found.__getitem__)
    place = tuple(map(int, np.unravel_index(most, x.shape[1:])))
    return (
        f"x{f' (at {place})' if place else ''} reaches over {found[most]:.0f} powers of ten, so "
        "that to the network most values look alike: let the simulator return its logarithm, or "
        "np.arcsinh(x / scale) where it may be negative, and take the same of the data."
    )


def _standardized(network: RatioNetwork, x: np.ndarray) -> np.ndarray:
    """Observations ``(n, *event)`` as a network's layers see them, if it tells."""
    network = as_trained(network)
    network = getattr(network, "inner", network)
    network = members_of(network)[0]
    module = getattr(network, "standardize_x", None)
    if module is None:
        return x
    like = floating(network)
    with torch.no_grad():
        z = module(torch.tensor(x, dtype=like.dtype, device=like.device)).cpu().double().numpy()
    return z if z.shape == x.shape else x


def _reach(values: np.ndarray) -> float:
    """Powers of ten that values ``(n,)`` reach over."""
    low, high = np.quantile(np.abs(values[values != 0]), [0.01, 1])
    return float(np.log10(high / low))
