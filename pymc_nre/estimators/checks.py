"""What an estimator can be given: checks of simulations, observations and simulators."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..runtime.arrays import finite_array
from ..runtime.kinds import check_kind
from ..simulation.parameters import check_event_shape
from ..simulation.simulations import Simulations
from ..simulation.simulator import Simulator, as_simulator
from .estimator import RatioEstimator

__all__ = [
    "check_fit",
    "check_observations",
    "check_parameters",
    "check_ratio",
    "check_simulations",
    "finite_observations",
    "simulator_of",
    "told_of_decades",
]

_BULK = 0.01  # half of a Student t of 2 degrees of freedom, 10,000 draws, is within 0.15 spreads


def check_ratio(ratio: Any, who: str, argument: str = "ratio") -> None:
    """Raise TypeError unless it is an estimator."""
    remedy = "Pass what nre.train or nre.load gives."
    check_kind(ratio, RatioEstimator, f"{who}: {argument}", "a RatioEstimator", remedy)


def check_simulations(simulations: Any, who: str) -> None:
    """Raise TypeError unless these are a set of simulations."""
    remedy = "Pass what nre.simulate gives, or wrap arrays: nre.Simulations({'mu': mu}, x)."
    check_kind(simulations, Simulations, f"{who}: simulations", "Simulations", remedy)


def check_fit(ratio: Any, simulations: Any, who: str) -> None:
    """Raise TypeError or ValueError unless these are a ratio and simulations of what it takes."""
    check_ratio(ratio, who)
    check_simulations(simulations, who)
    check_parameters(ratio, simulations.layout.shapes)
    check_observations(ratio, simulations.event_shape)


def finite_observations(ratio: RatioEstimator, observed: Any, who: str) -> np.ndarray:
    """Observations ``(n, *event)``, of which there is at least one, and none has holes."""
    observed = finite_array(observed, f"{who}: observed")
    check_event_shape(ratio.event_shape, observed.shape, f"{who}: observed")
    if not observed.size:
        raise ValueError(f"{who}: observed holds no observation, got shape {observed.shape}.")
    return observed.reshape(-1, *ratio.event_shape)


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


def check_observations(ratio: RatioEstimator, event_shape: tuple[int, ...]) -> None:
    """Raise ValueError unless simulations are of observations that the ratio takes."""
    if ratio.event_shape != event_shape:
        raise ValueError(
            "The simulations do not fit the ratio: expected observations of shape "
            f"{ratio.event_shape}, got {event_shape}."
        )


def told_of_decades(x: np.ndarray) -> str:
    """What to do where observations ``(n, *event)`` reach over many powers of ten; else empty.

    A network standardizes its inputs by their mean and spread. Where the spread is that of the few
    largest, half of all values come within a hundredth of it, and what tells them from each other
    is lost.
    """
    found = [*map(_reach, x.reshape(len(x), -1).T)]
    most = int(np.argmax(found))
    if not found[most]:
        return ""
    place = tuple(map(int, np.unravel_index(most, x.shape[1:])))
    return (
        f"x{f' (at {place})' if place else ''} reaches over {found[most]:.0f} powers of ten, so "
        "that to the network most values look alike: let the simulator return its logarithm, or "
        "np.arcsinh(x / scale) where it may be negative, and take the same of the data."
    )


def _reach(values: np.ndarray) -> float:
    """Powers of ten that values ``(n,)`` reach over; zero if that does no harm."""
    distance = np.abs(values - np.median(values))
    distance = distance[distance > 0]
    if not distance.size or np.median(distance) > _BULK * values.std():
        return 0.0
    low, high = np.quantile(np.abs(values[values != 0]), [0.01, 1])
    return float(np.log10(high / low))
