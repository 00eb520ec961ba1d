r"""Draws of a prior that is bent towards where data are likely: particles that move together.

What is wanted is :math:`p(\theta)\,f(\theta)` for an f that may leave a millionth of the prior.
Particles start as draws of the prior. Step by step f comes in, each step no larger than the
particles bear; they are drawn anew by their weights, and moved by steps of Metropolis that leave
the density of the moment as it is. The mean weights of all steps multiply to the mass
:math:`\int p f`, and modes keep their shares, whatever lies between them.

A step of Metropolis adds a multiple of the difference of two others, so it has the shape of what is
drawn with nothing to tune. The particles are in two halves; one moves by differences of the other,
which stands still, so what is drawn is exact but for how much particles have forgotten of where
they were.

References
----------
Del Moral, Doucet and Jasra (2006), doi:10.1111/j.1467-9868.2006.00553.x; ter Braak (2006),
doi:10.1007/s11222-006-8769-1; Au and Beck (2001), doi:10.1016/S0266-8920(01)00019-4.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from scipy.special import logsumexp

from ..amortized.weights import normalized

__all__ = ["Cloud", "Powers", "Thresholds", "draw"]

_START = 20  # draws of the prior for each particle: the first step is the longest
_MOVES = 10  # after each step ...
_LAST_MOVES = 60  # ... and after the last, where particles must forget which others they were
_SEEN_EACH, _MOST_SEEN = 6, 4_000  # of the last moves; of the particles, in random order
_WORTH = 0.7  # effective share of the particles that a step of a power leaves ...
_KEPT = 0.3  # ... and share of them that a step of a threshold keeps
_JUMPS = 0.5  # share of moves by whole differences, which lead from mode to mode
_BEST = 2.38  # / sqrt(2 D): the longest step that is good for a normal density
_LITTLE = 0.01  # of a difference
_LOWEST = -1e10  # stands for a likelihood of zero, which has no small powers


class Known(Protocol):
    """A prior of packed parameters."""

    whole: np.ndarray  # which of them are integers, (D,)
    log_mass: float  # of its density

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """``(n, D)``."""

    def log_prior(self, theta: np.ndarray) -> np.ndarray:
        """``(n,)`` of ``(n, D)``."""


class Path(Protocol):
    """How f comes in: a family of functions of the log ratio, from one to f."""

    start: float
    end: float

    def log_factor(self, log_ratio: np.ndarray, at: float) -> np.ndarray:
        """Log of the function ``(n,)``."""

    def next(self, log_ratio: np.ndarray, at: float, n: int) -> float:
        """How far to go, with log ratios ``(m,)`` of particles and ``n`` wanted."""


@dataclass(frozen=True)
class Powers:
    """f is the ratio: its powers from zero to one."""

    start = 0.0
    end = 1.0

    def log_factor(self, log_ratio: np.ndarray, at: float) -> np.ndarray:
        """Log of the power."""
        return at * np.maximum(log_ratio, _LOWEST)

    def next(self, log_ratio: np.ndarray, at: float, n: int) -> float:
        """The step that leaves the weights worth enough particles."""
        g = np.maximum(log_ratio, _LOWEST)

        def enough(power: float) -> bool:
            return float(normalized((power - at) * g)[1]) >= _WORTH * n

        if enough(self.end):
            return self.end
        low, high = at, self.end
        while high - low > 1e-3 * (high - at):
            middle = 0.5 * (low + high)
            low, high = (middle, high) if enough(middle) else (low, middle)
        return high  # never zero


@dataclass(frozen=True)
class Thresholds:
    """f is one where the log ratio is above ``end``, and zero elsewhere: rising thresholds."""

    end: float
    start = -math.inf

    def log_factor(self, log_ratio: np.ndarray, at: float) -> np.ndarray:
        """Zero or minus infinity."""
        return np.where(log_ratio > at, 0.0, -np.inf)

    def next(self, log_ratio: np.ndarray, at: float, n: int) -> float:
        """The threshold that keeps enough of them."""
        kept = max(1, min(len(log_ratio) - 1, round(_KEPT * n)))
        return min(self.end, float(np.sort(log_ratio)[-kept - 1]))


@dataclass(frozen=True)
class Cloud:
    """Draws ``(n, D)``, their log prior and log ratio ``(n,)``, and the log of the mass."""

    theta: np.ndarray
    log_prior: np.ndarray
    log_ratio: np.ndarray
    log_mass: float = 0.0

    def __len__(self) -> int:
        return len(self.theta)

    def take(self, rows: np.ndarray) -> Cloud:
        """Some of them."""
        return replace(
            self,
            theta=self.theta[rows],
            log_prior=self.log_prior[rows],
            log_ratio=self.log_ratio[rows],
        )

    def beside(self, other: Cloud) -> Cloud:
        """All of both."""
        names = ("theta", "log_prior", "log_ratio")
        both = {k: np.concatenate([getattr(self, k), getattr(other, k)]) for k in names}
        return replace(self, **both)

    def where(self, chosen: np.ndarray, other: Cloud) -> Cloud:
        """The other's where it is ``chosen``, ``(n,)``."""
        return replace(
            self,
            theta=np.where(chosen[:, None], other.theta, self.theta),
            log_prior=np.where(chosen, other.log_prior, self.log_prior),
            log_ratio=np.where(chosen, other.log_ratio, self.log_ratio),
        )


def draw(
    known: Known,
    log_ratio: Callable[[np.ndarray], np.ndarray],
    path: Path,
    n: int,
    rng: np.random.Generator,
    seen: list[Cloud] | None = None,
) -> Cloud:
    """``n`` draws of prior times f, in random order.

    Parameters
    ----------
    known : Known
    log_ratio : callable
        Of parameters ``(n, D)``, ``(n,)``.
    path : Path
    n : int
    rng : numpy.random.Generator
    seen : list, optional
        Takes where some particles were during the last moves: draws too, which depend on each
        other.
    """
    bent = _Bent(known, log_ratio, path)
    cloud, at = bent.cloud(known.draw(_START * n, rng)), path.start
    cloud = replace(cloud, log_mass=known.log_mass)
    while at < path.end:
        there = path.next(cloud.log_ratio, at, n)
        cloud = _reweighed(cloud, bent.gain(cloud, at, there), n, rng)
        at = there
        for move in range(_MOVES if at < path.end else _LAST_MOVES):
            cloud = bent.moved(cloud, at, rng)
            if seen is not None and at == path.end and not move % _SEEN_EACH:
                seen.append(cloud.take(np.arange(min(n, _MOST_SEEN))))
    return cloud.take(rng.permutation(n))


def _reweighed(cloud: Cloud, gain: np.ndarray, n: int, rng: np.random.Generator) -> Cloud:
    """``n`` of them by weight, with no more noise than whole numbers make."""
    below = np.cumsum(np.exp(gain - gain.max()))
    places = (np.arange(n) + rng.uniform()) / n * below[-1]
    rows = np.searchsorted(below, places, side="right")
    last = np.flatnonzero(np.isfinite(gain))[-1]  # rounding may lead beyond it
    mass = cloud.log_mass + float(logsumexp(gain)) - math.log(len(gain))
    return replace(cloud.take(np.minimum(rows, last)), log_mass=mass)


@dataclass(frozen=True)
class _Bent:
    """A prior times a function of a log ratio, and moves that leave it as it is."""

    known: Known
    log_ratio: Callable[[np.ndarray], np.ndarray]
    path: Path

    def cloud(self, theta: np.ndarray) -> Cloud:
        """What is known at parameters ``(n, D)``; where they are impossible no ratio is asked."""
        log_prior = self.known.log_prior(theta)
        possible = np.isfinite(log_prior)
        log_ratio = np.full(len(theta), -np.inf)
        log_ratio[possible] = self.log_ratio(theta[possible])
        return Cloud(theta, log_prior, log_ratio)

    def gain(self, cloud: Cloud, at: float, there: float) -> np.ndarray:
        """Log weights ``(n,)`` of a step."""
        after = self.path.log_factor(cloud.log_ratio, there)
        before = self.path.log_factor(cloud.log_ratio, at)
        return after - np.where(np.isfinite(after), before, 0.0)

    def moved(self, cloud: Cloud, at: float, rng: np.random.Generator) -> Cloud:
        """Each half once, by differences of the other."""
        halves = np.array_split(rng.permutation(len(cloud)), 2)
        one, other = (cloud.take(rows) for rows in halves)
        one = self._moved_by(other.theta, one, at, rng)
        return one.beside(self._moved_by(one.theta, other, at, rng))

    def _moved_by(
        self, others: np.ndarray, cloud: Cloud, at: float, rng: np.random.Generator
    ) -> Cloud:
        """A step of Metropolis for every particle."""
        there = self.cloud(cloud.theta + _steps(others, len(cloud), self.known.whole, rng))
        now, then = (self.path.log_factor(c.log_ratio, at) + c.log_prior for c in (cloud, there))
        return cloud.where(np.log(rng.uniform(size=len(cloud))) < then - now, there)


def _steps(others: np.ndarray, n: int, whole: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Multiples of differences ``(n, D)``; there and back are equally likely."""
    size = others.shape[1]
    one, two, three, four = rng.integers(len(others), size=(4, n))
    length = _BEST / math.sqrt(2 * size) * rng.uniform(0.1, 1.0, (n, 1))
    length = np.where(rng.uniform(size=(n, 1)) < _JUMPS, 1.0, length)
    # Particles that are equal have no difference. A little of another one keeps all places in
    # reach, and parameters that are tied to each other tied.
    little = _LITTLE * rng.standard_normal((n, 1)) * (others[three] - others[four])
    steps = length * (others[one] - others[two]) + little
    return np.where(whole, np.rint(steps), steps)
