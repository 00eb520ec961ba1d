r"""The kept set: where the data are not much less likely than at the best.

.. math:: K = \{\theta : \log r(\theta, x_o) - \max \log r > \log \varepsilon\}

Of many parameters most of the posterior lies far below its maximum: if it is normal, by half of a
chi-squared number with as many degrees of freedom. Below a millionth lie .2 % of it of ten
parameters, and 12 % of twenty. So by default the cut is lower where such a posterior would lose
more than a ten-thousandth.

The prior keeps its form inside. The maximum is climbed to by gradients: among draws of the prior
the best may be nats below it.

A set is cut out of the whole prior, so that what an early ratio gave up can come back, and is
simulated next. The last one may be cut out of the set before: what lies beyond it nothing was
simulated to speak against.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize
from scipy.stats import chi2

from .particles import Cloud, Known, Powers, Thresholds, draw
from .study import DataSet

__all__ = ["Inside", "KeptSet", "keep", "usual_epsilon", "within"]

_CLIMBERS = 10  # the best draws of the posterior
_MILLIONTH = 1e-6
_GIVEN_UP = 1e-4  # of a normal posterior, at most


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
    seen : array, shape (m, D)
        Many times as many that are inside: how far the set reaches.
    """

    data: DataSet
    threshold: float
    draws: Cloud
    posterior: Cloud
    seen: np.ndarray

    @property
    def log_volume(self) -> float:
        """Log of the prior's mass inside."""
        return self.draws.log_mass

    def inside(self, theta: np.ndarray) -> np.ndarray:
        """Which of parameters ``(n, D)`` are kept."""
        return self.data.log_ratio(theta) > self.threshold

    def lost(self, posterior: Cloud) -> float:
        """Share of a posterior's draws outside."""
        return float((~self.inside(posterior.theta)).mean())


@dataclass(frozen=True, eq=False)
class Inside:
    """The prior inside of a kept set, with the density that it has there in the whole prior."""

    known: Known
    kept: KeptSet

    @property
    def whole(self) -> np.ndarray:
        """Which of the parameters are integers, ``(D,)``."""
        return self.known.whole

    @property
    def log_mass(self) -> float:
        """Of the prior inside."""
        return self.kept.log_volume

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """``n`` of the draws that there are, ``(n, D)``; particles move on from them."""
        return rng.choice(self.kept.draws.theta, n)

    def log_prior(self, theta: np.ndarray) -> np.ndarray:
        """``(n,)`` of ``(n, D)``; minus infinity outside."""
        found = self.known.log_prior(theta)
        possible = np.isfinite(found)
        found[possible] = np.where(self.kept.inside(theta[possible]), found[possible], -np.inf)
        return found


def keep(data: DataSet, epsilon: float, n: int, rng: np.random.Generator) -> KeptSet:
    """The set, with ``n`` draws of the prior inside and of the posterior."""
    seen: list[Cloud] = []
    posterior = draw(data.known, data.log_ratio, Powers(), n, rng, seen)
    threshold = _highest(data, posterior) + math.log(epsilon)
    inside = draw(data.known, data.log_ratio, Thresholds(threshold), n, rng, seen)
    kept = [cloud.theta[cloud.log_ratio > threshold] for cloud in seen]
    return KeptSet(data, threshold, inside, posterior, np.concatenate(kept))


def usual_epsilon(size: int) -> float:
    """A millionth, or what a normal posterior of so many parameters wants."""
    return min(_MILLIONTH, math.exp(-chi2.isf(_GIVEN_UP, size) / 2))


def within(data: DataSet, kept: KeptSet) -> DataSet:
    """The same data under the prior inside of a kept set."""
    return replace(data, known=Inside(data.known, kept))


def _highest(data: DataSet, posterior: Cloud) -> float:
    """The largest log ratio between the posterior's draws."""
    found = float(posterior.log_ratio.max())
    if data.known.whole.all():
        return found
    best = posterior.theta[np.argsort(posterior.log_ratio)[-_CLIMBERS:]]
    box = posterior.theta.min(0), posterior.theta.max(0)
    ends = np.stack([_climbed(data, start, *box) for start in best])
    possible = np.isfinite(data.known.log_prior(ends))
    return max(found, *data.log_ratio(ends[possible]))


def _climbed(data: DataSet, start: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Where a climb in the continuous parameters ends, within a box."""
    free = ~data.known.whole
    scale = np.where(high > low, high - low, 1.0)

    def at(u: np.ndarray) -> np.ndarray:
        theta = start.copy()
        theta[free] += u * scale[free]
        return theta

    def down(u: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = data.value_and_gradient(at(u))
        return -value, -(gradient * scale)[free]

    box = np.stack([low - start, high - start], -1)[free] / scale[free, None]
    return at(minimize(down, np.zeros(len(box)), jac=True, bounds=box, method="L-BFGS-B").x)
