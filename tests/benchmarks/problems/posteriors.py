"""Exact posteriors: summed on grids, or drawn by tempering, which finds all modes."""

import numpy as np
from scipy.special import logsumexp

__all__ = ["moments", "on_grid", "posterior", "tempered"]

PARTICLES, MOVES = 1_000, 5


def posterior(log_p, ends, seed):
    """Points ``(n, D)`` and their weights ``(n,)``."""
    return on_grid(log_p, ends) if ends.shape[1] < 3 else tempered(log_p, ends, seed)


def on_grid(log_p, ends, cells=24, rounds=12):
    """Grids ever closer around all that has any mass; the last is fine."""
    low, high = ends
    cells = cells if len(low) > 1 else 600
    for _ in range(rounds):
        width = (high - low) / cells
        axes = [lo + w * (np.arange(cells) + 0.5) for lo, w in zip(low, width, strict=True)]
        theta = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(low))
        values = log_p(theta)
        kept = theta[values > values.max() - 25]
        closer = np.maximum(kept.min(0) - 2 * width, low), np.minimum(kept.max(0) + 2 * width, high)
        if np.all(closer[1] - closer[0] > 0.8 * (high - low)):
            break
        low, high = closer
    weights = np.exp(values - values.max())
    return theta, weights / weights.sum()


def tempered(log_p, ends, seed):
    """Particles from the prior to the posterior, by half of them at each step."""
    rng = np.random.default_rng(seed)
    low, high = ends
    theta = rng.uniform(low, high, (PARTICLES, len(low)))
    values, power = log_p(theta), 0.0
    while power < 1:
        power, weights = _next_power(values, power)
        rows = rng.choice(PARTICLES, PARTICLES, p=weights)
        theta, values = theta[rows], values[rows]
        for move in range(MOVES * (4 if power == 1 else 1)):
            # Differences of other particles fit every scale and mode; now and then from one to
            # another.
            one, other = rng.integers(PARTICLES, size=(2, PARTICLES))
            length = 1.0 if move % 4 == 3 else 2.38 / np.sqrt(2 * len(low))
            steps = length * (theta[one] - theta[other])
            steps += 1e-5 * (high - low) * rng.normal(size=steps.shape)
            there = log_p(theta + steps)
            moved = np.log(rng.random(PARTICLES)) < power * (there - values)
            theta[moved], values[moved] = (theta + steps)[moved], there[moved]
    return theta, np.full(PARTICLES, 1 / PARTICLES)


def _next_power(values, power):
    """The largest step at which half of the particles still count, and their weights."""

    def weights(at):
        logs = (at - power) * values
        return np.exp(logs - logsumexp(logs))

    def effective(at):
        return 1 / (weights(at) ** 2).sum()

    if effective(1.0) > PARTICLES / 2:
        return 1.0, weights(1.0)
    below, above = power, 1.0
    for _ in range(40):
        middle = (below + above) / 2
        below, above = (middle, above) if effective(middle) > PARTICLES / 2 else (below, middle)
    return above, weights(above)


def moments(theta, weights):
    mean = weights @ theta
    return mean, np.sqrt(weights @ (theta - mean) ** 2)
