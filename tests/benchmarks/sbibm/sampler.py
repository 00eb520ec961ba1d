r"""Draws of posteriors with several modes: tempered particles that move by their differences.

All particles start from the prior. The likelihood (or ratio) comes in by small powers: the next
power is that at which the weights are still worth 70 % of the particles, by their effective sample
size :math:`(\sum w)^2 / \sum w^2`; then particles are drawn by their weights and moved. This
keeps the mass of each mode right, whatever lies between modes.

A move adds a multiple of the difference of two other particles, so proposals have the shape of
the target with nothing to tune. The particles are in two halves, at random; one moves by
differences of the other, which stands still, so the acceptance of Metropolis is exact.

References
----------
Del Moral, Doucet and Jasra (2006), doi:10.1111/j.1467-9868.2006.00553.x; ter Braak (2006),
doi:10.1007/s11222-006-8769-1.
"""

from dataclasses import dataclass, replace

import numpy as np

_START = 20  # prior draws for each particle: the first step is the longest
_WORTH = 0.7  # effective sample size, as a share of the particles, at the next power
_MOVES = 10  # at each power ...
_LAST_MOVES = 100  # ... and at the last, where draws must forget which particle they came from
_LOWEST = -1e10  # stands for a likelihood of zero, which has no small powers
_JUMPS = 0.5  # share of moves by whole differences, which lead from mode to mode


@dataclass(frozen=True)
class _Cloud:
    """Particles ``(n, D)``, their log prior and their log ratio ``(n,)``."""

    theta: np.ndarray
    log_prior: np.ndarray
    log_ratio: np.ndarray

    def take(self, rows):
        return _Cloud(self.theta[rows], self.log_prior[rows], self.log_ratio[rows])


def sample(prior, log_ratio, n, rng):
    """Draws ``(n, D)`` of the density proportional to prior times ratio.

    Parameters
    ----------
    prior : Box or Normal
        With ``draw(rng, n)`` and ``log_density(theta)``.
    log_ratio : callable
        Of parameters ``(m, D)`` inside the prior: log likelihoods or log ratios ``(m,)``, up to
        a constant.
    n : int
        Number of particles, and of draws.
    rng : numpy.random.Generator
    """

    def bounded(theta):
        return np.maximum(log_ratio(theta), _LOWEST)

    theta = prior.draw(rng, _START * n)
    cloud = _Cloud(theta, prior.log_density(theta), bounded(theta))
    power = 0.0
    while power < 1:
        step = _next_step(cloud.log_ratio, 1 - power, _WORTH * n)
        cloud = cloud.take(_resample(step * cloud.log_ratio, n, rng))
        power += step
        for _ in range(_MOVES if power < 1 else _LAST_MOVES):
            cloud = _move(cloud, prior, bounded, power, rng)
    return cloud.theta


def _worth(log_weights):
    """Effective number of particles."""
    weights = np.exp(log_weights - log_weights.max())
    return weights.sum() ** 2 / np.square(weights).sum()


def _next_step(log_ratio, rest, enough):
    """The step in power that leaves the weights worth enough particles, at most the rest."""
    if _worth(rest * log_ratio) >= enough:
        return rest
    low, high = 0.0, rest
    while high - low > 1e-3 * high:
        middle = 0.5 * (low + high)
        low, high = (middle, high) if _worth(middle * log_ratio) >= enough else (low, middle)
    return high  # never zero


def _resample(log_weights, n, rng):
    """``n`` rows by weight, with no more noise than whole numbers make (systematic)."""
    weights = np.exp(log_weights - log_weights.max())
    edges = np.cumsum(weights / weights.sum())
    rows = np.searchsorted(edges, (np.arange(n) + rng.uniform()) / n)
    return rows.clip(max=len(weights) - 1)  # rounding may leave the last edge below one


def _move(cloud, prior, log_ratio, power, rng):
    """Each half once, by differences of the other."""
    cloud = cloud.take(rng.permutation(len(cloud.theta)))
    half = len(cloud.theta) // 2
    halves = [cloud.take(slice(None, half)), cloud.take(slice(half, None))]
    halves[0] = _move_by(halves[1].theta, halves[0], prior, log_ratio, power, rng)
    halves[1] = _move_by(halves[0].theta, halves[1], prior, log_ratio, power, rng)
    columns = zip(*(vars(part).values() for part in halves), strict=True)
    return _Cloud(*map(np.concatenate, columns))


def _move_by(others, cloud, prior, log_ratio, power, rng):
    """A Metropolis step of every particle."""
    n, size = cloud.theta.shape
    first, second = rng.integers(len(others), size=(2, n))
    # 2.38 / sqrt(2 D) is best for a normal target; shorter moves serve curved ones.
    length = 2.38 / np.sqrt(2 * size) * rng.uniform(0.1, 1.0, (n, 1))
    length = np.where(rng.uniform(size=(n, 1)) < _JUMPS, 1.0, length)
    there = cloud.theta + length * (others[first] - others[second])
    # Identical particles have no difference: a little noise keeps all places in reach.
    there = there + 1e-4 * others.std(0) * rng.standard_normal((n, size))
    proposal = _Cloud(there, prior.log_density(there), np.full(n, -np.inf))
    inside = np.isfinite(proposal.log_prior)
    proposal.log_ratio[inside] = log_ratio(there[inside])
    gain = power * (proposal.log_ratio - cloud.log_ratio) + proposal.log_prior - cloud.log_prior
    accepted = np.log(rng.uniform(size=n)) < gain
    return replace(
        cloud,
        theta=np.where(accepted[:, None], proposal.theta, cloud.theta),
        log_prior=np.where(accepted, proposal.log_prior, cloud.log_prior),
        log_ratio=np.where(accepted, proposal.log_ratio, cloud.log_ratio),
    )
