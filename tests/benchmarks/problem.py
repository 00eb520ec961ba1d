"""The problem that every contestant solves, as arrays: no library but NumPy.

The mean of a normal distribution, mu ~ U(-10, 10) and x ~ N(mu, 1), learned by NRE-C with an
MLP of two layers of 64. One trained network is handed to everybody, so that all of them
evaluate the same function. Sampled are one mean of all observations, or the means of groups.
"""

from functools import partial

import numpy as np

LOW, HIGH = -10.0, 10.0
HIDDEN = (64, 64)
SIMULATIONS = 100_000
OBSERVED = 10
GROUPS, EACH = 20, 50
MEAN = 2.0
PROBES = np.linspace(1.2, 2.8, 8)  # values of mu at which functions are timed and compared


def simulations(n=SIMULATIONS, seed=1):
    """Parameters ``(n,)`` and observations ``(n,)``."""
    rng = np.random.default_rng(seed)
    mu = rng.uniform(LOW, HIGH, n)
    return mu, rng.normal(mu, 1.0)


def observations(n=OBSERVED):
    """Data ``(n,)``."""
    return np.random.default_rng(0).normal(MEAN, 1.0, n)


def grouped_observations():
    """Data ``(groups, each)``; the means of groups are spread around `MEAN` with sd 1."""
    rng = np.random.default_rng(0)
    means = rng.normal(MEAN, 1.0, (GROUPS, 1))
    return rng.normal(means, 1.0, (GROUPS, EACH))


DATA = {
    f"{OBSERVED} observations": observations,
    "1,000 observations": partial(observations, 1_000),
    f"{GROUPS} groups of {EACH} observations": grouped_observations,
}


def exact_posterior(x):
    """Mean and standard deviation; the bounds of the prior are far away."""
    return x.mean(), 1 / np.sqrt(len(x))


def unbounded(mu):
    """The coordinate in which PyMC and sbi move a parameter between two bounds."""
    return np.log((mu - LOW) / (HIGH - mu))
