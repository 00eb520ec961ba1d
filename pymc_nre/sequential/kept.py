r"""The kept set: where the data are not less likely than a millionth of the best.

.. math:: K = \{\theta : \log r(\theta, x_o) - \max \log r > \log \varepsilon\}

The prior keeps its form inside. The maximum is climbed to by gradients: among draws of the prior
the best may be nats below it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from .particles import Cloud, Powers, Thresholds, draw
from .study import DataSet

__all__ = ["KeptSet", "keep"]

_CLIMBERS = 10  # the best draws of the posterior


@dataclass(frozen=True, eq=False)
class KeptSet:
    """What is kept after a round.

    Attributes
    ----------
    data : DataSet
        With the ratio of that round.
    threshold : float
        Of the log ratio.
    draws, posterior : Cloud
        Of the prior inside, and of the posterior.
    """

    data: DataSet
    threshold: float
    draws: Cloud
    posterior: Cloud

    @property
    def log_volume(self) -> float:
        """Log of the prior's mass inside."""
        return self.draws.log_mass

    def lost(self, posterior: Cloud) -> float:
        """Share of a posterior's draws outside."""
        return float((self.data.log_ratio(posterior.theta) <= self.threshold).mean())


def keep(data: DataSet, epsilon: float, n: int, rng: np.random.Generator) -> KeptSet:
    """The set, with ``n`` draws of the prior inside and of the posterior."""
    posterior = draw(data.known, data.log_ratio, Powers(), n, rng)
    threshold = _highest(data, posterior) + math.log(epsilon)
    inside = draw(data.known, data.log_ratio, Thresholds(threshold), n, rng)
    return KeptSet(data, threshold, inside, posterior)


def _highest(data: DataSet, posterior: Cloud) -> float:
    """The largest log ratio between the posterior's draws."""
    found = float(posterior.log_ratio.max())
    if data.known.whole.all():
        return found
    best = posterior.theta[np.argsort(posterior.log_ratio)[-_CLIMBERS:]]
    ends = posterior.theta.min(0), posterior.theta.max(0)
    return max(found, *(_climbed(data, start, *ends) for start in best))


def _climbed(data: DataSet, start: np.ndarray, low: np.ndarray, high: np.ndarray) -> float:
    """The log ratio at the end of a climb in the continuous parameters, within a box."""
    free = ~data.known.whole
    scale = np.where(high > low, high - low, 1.0)

    def down(u: np.ndarray) -> tuple[float, np.ndarray]:
        theta = start.copy()
        theta[free] += u * scale[free]
        value, gradient = data.value_and_gradient(theta)
        return -value, -(gradient * scale)[free]

    box = np.stack([low - start, high - start], -1)[free] / scale[free, None]
    climb = minimize(down, np.zeros(len(box)), jac=True, bounds=box, method="L-BFGS-B")
    return -float(climb.fun)
