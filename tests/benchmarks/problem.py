"""The problem that every contestant solves, as arrays: no library but NumPy.

The mean of a normal distribution, mu ~ U(-10, 10) and x ~ N(mu, 1), learned by NRE-C with an
MLP of two layers of 64. One trained network is handed to everybody, so that all of them
evaluate the same function.
"""

import numpy as np

LOW, HIGH = -10.0, 10.0
HIDDEN = (64, 64)
SIMULATIONS = 100_000
OBSERVED = 10
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


def exact_posterior(x):
    """Mean and standard deviation; the bounds of the prior are far away."""
    return x.mean(), 1 / np.sqrt(len(x))


def unbounded(mu):
    """The coordinate in which PyMC and sbi move a parameter between two bounds."""
    return np.log((mu - LOW) / (HIGH - mu))
