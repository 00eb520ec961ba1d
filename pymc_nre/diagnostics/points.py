"""Single points of the parameters that a check looks at, and data that are simulated there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..estimators.checks import simulator_of
from ..estimators.estimator import RatioEstimator
from ..exceptions import CheckNotApplicable
from ..runtime.arrays import finite_array
from ..simulation.execution import repeat_at
from ..simulation.parameters import Layout
from ..simulation.simulations import Simulations
from ..simulation.simulator import Simulator

__all__ = ["needed_simulator", "points_of", "trials_at"]


def needed_simulator(
    who: str,
    given: Simulator | Callable[..., Any] | None,
    ratio: RatioEstimator,
    simulations: Simulations,
) -> Simulator:
    """The simulator that was given, else that of the ratio, else that of the simulations."""
    try:
        return simulator_of(ratio, given, who, otherwise=simulations.simulator)
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


def trials_at(
    simulator: Simulator, layout: Layout, point: np.ndarray, n: int, rng: np.random.Generator
) -> np.ndarray:
    """Observations ``(n, *event)`` at one point ``(D,)``; what only succeeded would be others."""
    succeeded, x = repeat_at(simulator, layout, point, n, rng)
    if not succeeded.all():
        where = ", ".join(f"{k} = {v:.3g}" for k, v in zip(layout.labels, point, strict=True))
        raise CheckNotApplicable(f"{(~succeeded).sum():,} of {n:,} simulations at {where} failed.")
    return x
