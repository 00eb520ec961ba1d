"""Three tasks about the mean of a normal distribution: conjugate, in a box, and a mixture."""

import numpy as np

from .priors import Box, Normal
from .task import Task

_SIZE = 10
_VARIANCE = 0.1  # of the noise, and of the conjugate prior
_WIDE, _NARROW = 1.0, 0.1  # standard deviations of the mixture's halves


def _add_noise(rng, theta):
    return rng.normal(theta, np.sqrt(_VARIANCE))


def _log_likelihood(theta, x):
    return -0.5 * np.square(x - theta).sum(-1) / _VARIANCE


def _mixture(rng, theta):
    scale = rng.choice([_WIDE, _NARROW], size=(len(theta), 1))  # one for both numbers
    return rng.normal(theta, scale)


def _mixture_log_likelihood(theta, x):
    squares = np.square(x - theta).sum(-1)
    return np.logaddexp(*(-0.5 * squares / s**2 - 2 * np.log(s) for s in (_WIDE, _NARROW)))


TASKS = (
    Task(
        "gaussian_linear",
        Normal.independent(np.zeros(_SIZE), np.full(_SIZE, np.sqrt(_VARIANCE))),
        _add_noise,
        _log_likelihood,
    ),
    Task("gaussian_linear_uniform", Box(-1.0, 1.0, _SIZE), _add_noise, _log_likelihood),
    Task("gaussian_mixture", Box(-10.0, 10.0, 2), _mixture, _mixture_log_likelihood),
)
