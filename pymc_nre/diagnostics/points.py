"""Single points of the parameters that a check looks at, and data that are simulated there."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..estimators.checks import simulator_of
from ..estimators.estimator import RatioEstimator
from ..exceptions import CheckNotApplicable, SimulationError, SimulationWarning, warn
from ..runtime.arrays import finite_array
from ..simulation.calls import event_shape_error
from ..simulation.execution import repeat_at
from ..simulation.simulations import Simulations
from ..simulation.simulator import Simulator

__all__ = ["Trials", "needed_simulator", "points_of"]

_TRIES = 10  # simulations at a point for each that is needed, at most


def needed_simulator(
    who: str,
    given: Simulator | Callable[..., Any] | None,
    ratio: RatioEstimator,
    simulations: Simulations,
) -> Simulator:
    """The simulator that was given, else that of the ratio, else that of the simulations.

    It simulates what the packed simulations hold, conditions included.
    """
    try:
        found = simulator_of(ratio, given, who, otherwise=simulations.predictor)
        return simulations.packing(found)
    except ValueError as error:
        raise CheckNotApplicable(str(error)) from error


def points_of(ratio: RatioEstimator, at: Mapping[str, Any], who: str) -> np.ndarray:
    """Parameters ``(points, D)``, of one point ``(*own)`` or several ``(points, *own)``.

    Raises
    ------
    TypeError, ValueError
        If they are not that, or an integer's value is none.
    """
    points = np.atleast_2d(finite_array(ratio.layout.pack(at, who), f"{who}: at"))
    if points.ndim > 2 or not len(points):
        raise ValueError(
            f"{who}: at: expected one point, or several along one leading axis, got the batch "
            f"{points.shape[:-1]}. Give each parameter the shape (points, *own)."
        )
    if (ratio.layout.pack(ratio.layout.unpack(points)) != points).any():
        names = ", ".join(sorted(ratio.layout.integer))
        raise ValueError(
            f"{who}: at: {names} was an integer in training; expected whole numbers, got "
            f"{dict(at)}."
        )
    return points


class Trials:
    """Observations that are simulated at single points, and how many of the simulations failed.

    Others take the place of those that fail: a ratio that was trained on a simulator that fails
    is that of an observation given success, and these are such observations.
    """

    def __init__(
        self, who: str, simulator: Simulator, ratio: RatioEstimator, rng: np.random.Generator
    ) -> None:
        self._who, self._simulator, self._ratio, self._rng = who, simulator, ratio, rng
        self._tried = self._failed = 0

    def at(self, point: np.ndarray, n: int) -> np.ndarray:
        """Observations ``(n, *event)`` at one point ``(D,)``.

        Raises
        ------
        CheckNotApplicable
            If hardly any simulation succeeds there.
        ValueError
            If the ratio was trained on observations of another shape.
        """
        parts, tried, found = [], 0, 0
        while found < n:
            if tried >= _TRIES * n:
                raise CheckNotApplicable(
                    f"{self._who}: {tried - found:,} of {tried:,} simulations at "
                    f"{self._named(point)} failed. Mend the simulator, or look where it works."
                )
            more = min(math.ceil((n - found) * tried / max(found, 1)) or n, _TRIES * n - tried)
            parts.append(self._simulated(point, more))
            tried, found = tried + more, found + len(parts[-1])
        self._tried, self._failed = self._tried + tried, self._failed + tried - found
        return np.concatenate(parts)[:n]

    def _simulated(self, point: np.ndarray, n: int) -> np.ndarray:
        """Of n simulations those that succeeded."""
        event = self._ratio.event_shape
        try:
            x = repeat_at(self._simulator, self._ratio.layout, point, n, self._rng)[1]
        except SimulationError:
            return np.empty((0, *event))
        if x.shape[1:] != event:
            raise event_shape_error(self._simulator.function, x.shape[1:], event)
        missing = self._ratio.missing
        return x if missing is None else missing.masked(x, self._rng)

    def _named(self, point: np.ndarray) -> str:
        labels = self._ratio.layout.labels
        return ", ".join(f"{k} = {v:.3g}" for k, v in zip(labels, point, strict=True))

    def tell(self) -> None:
        """Warn of those that failed."""
        if self._failed:
            warn(
                f"{self._who}: {self._failed:,} of {self._tried:,} simulations failed, and others "
                "took their place. The check is of observations given that the simulation "
                "succeeded, which a ratio describes that was trained on the same simulator.",
                SimulationWarning,
            )
