"""What a task is: a prior, a simulator, the likelihood behind it, and two changes of scale.

A ratio does not change when its parameters or its observations go through a one-to-one
function, but a network learns it more easily on some scales than on others. ``natural`` leads
from the coordinates that the ratio is trained in to the parameters that the reference draws are
of, ``features`` from an observation as published to what the network sees. The likelihood plays
no part in training: with it the sampler and the definitions are checked.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


def as_it_is(values):
    """No change of scale."""
    return values


@dataclass(frozen=True, eq=False)
class Task:
    """One problem of the benchmark.

    Attributes
    ----------
    prior : Box or Normal
        Of the coordinates ``(D,)``.
    simulate : callable
        ``simulate(rng, theta)``: coordinates ``(n, D)`` to observations ``(n, E)``, NaN where
        a simulation failed.
    log_likelihood : callable
        ``log_likelihood(theta, x)``: coordinates ``(n, D)`` and one observation ``(E,)`` to
        ``(n,)``, up to a constant.
    natural, features : callable
        Changes of scale, of coordinates ``(n, D)`` and of observations ``(n, E)``.
    folder : str
        Where the published files are; the task's own name unless two tasks share a reference.
    observation : str
        Name of the file of the observation.
    points : int
        How many points an observation consists of, which are independent given the parameters.
    design : array, shape (points, C), optional
        What is known of each point.
    """

    name: str
    prior: Any
    simulate: Callable[..., np.ndarray]
    log_likelihood: Callable[..., np.ndarray]
    natural: Callable[[np.ndarray], np.ndarray] = as_it_is
    features: Callable[[np.ndarray], np.ndarray] = as_it_is
    folder: str = ""
    observation: str = "observation.csv"
    points: int = 1
    design: Any = None

    def training_prior(self):
        """For `pymc_nre.simulate`."""
        return {"theta": self.prior.pymc()}

    def simulator(self, rng, theta):
        """For `pymc_nre.simulate`, batched: what the network sees, ``(n, E)``."""
        return self.features(self.simulate(rng, theta))

    def point_simulator(self, rng, theta):
        """The same as points ``(n, points, E / points)``."""
        return self.as_points(self.simulator(rng, theta))

    def as_points(self, features):
        """Of features ``(n, E)``: ``(n, points, E / points)``, with what is known of each point."""
        points = features.reshape(len(features), self.points, -1)
        if self.design is None:
            return points
        known = np.broadcast_to(self.design, (len(points), *self.design.shape))
        return np.concatenate([points, known], axis=-1)
