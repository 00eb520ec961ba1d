"""Two simulators of the five problems, with their exact densities."""

import numpy as np
from scipy.special import ndtr
from scipy.stats import norm

__all__ = ["g_and_k", "log_g_and_k", "log_race", "race"]


def g_and_k(z, a, b, g, k):
    return a + b * (1 + 0.8 * np.tanh(g * z / 2)) * z * (1 + z**2) ** k


_Z = np.concatenate([-np.geomspace(9, 1e-3, 700), [0], np.geomspace(1e-3, 9, 700)])


def log_g_and_k(x, a, b, g, k):
    """By the inverse of the quantile function, and its derivative."""
    rows = g_and_k(_Z, a, b, g, k)
    z = np.stack([np.interp(x, row, _Z) for row in rows])
    for _ in range(3):
        slope = _slope_of_g_and_k(z, b, g, k)
        z = np.clip(z - (g_and_k(z, a, b, g, k) - x) / slope, -9, 9)
    return norm.logpdf(z) - np.log(_slope_of_g_and_k(z, b, g, k))


def _slope_of_g_and_k(z, b, g, k):
    t, w = np.tanh(g * z / 2), 1 + z**2
    return b * w**k * ((1 + 0.8 * t) * (1 + 2 * k * z**2 / w) + 0.4 * g * z * (1 - t**2))


_DELAY = 0.2


def race(rng, *parameters):
    """Log response time and choice of a linear ballistic accumulator; drifts are positive."""
    v, (a, b) = np.stack(parameters[:2]), parameters[2:]
    drift = v + norm.isf(rng.uniform(size=v.shape) * ndtr(v))
    times = (a + b - a * rng.uniform(size=v.shape)) / drift
    return np.stack([np.log(_DELAY + times.min(0)), times.argmin(0)], -1)


def log_race(x, v1, v2, a, b):
    log_time, first = x[:, 0], x[:, 1] == 0
    time_ = np.maximum(np.exp(log_time) - _DELAY, 1e-9)
    density1, left1 = _accumulator(time_, v1, a, b)
    density2, left2 = _accumulator(time_, v2, a, b)
    density = np.where(first, density1 * left2, density2 * left1)
    return np.log(np.maximum(density, 1e-300)) + log_time


def _accumulator(t, v, a, b):
    """Density of a first passage at t, and the probability that it is later."""
    low, high = (b - t * v) / t, (a + b - t * v) / t
    density = (v * (ndtr(high) - ndtr(low)) + norm.pdf(low) - norm.pdf(high)) / a
    parts = (b - t * v) * ndtr(low) - (a + b - t * v) * ndtr(high)
    passed = 1 + (parts + t * (norm.pdf(low) - norm.pdf(high))) / a
    # Given a positive drift, which alone passes.
    return density / ndtr(v), np.clip(1 - passed / ndtr(v), 1e-300, 1)
