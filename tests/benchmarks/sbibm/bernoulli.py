"""A logistic regression of 100 spikes on nine lags of a noise stimulus, and an offset.

The prior is a normal whose precision penalizes second differences of the filter. The raw task
observes the spikes, the other one their sufficient statistics: the number of spikes and their
products with the lagged stimuli.
"""

import numpy as np
from scipy.special import log_expit

from .priors import Normal
from .task import Task

_LAGS = 9
_BINS = 100


def design_matrix():
    """Offset and lagged stimuli, ``(100, 10)``; the stimulus is that of the published files."""
    old = np.random.RandomState(42)  # the published files were made by it
    stimulus = old.randn(_BINS).astype(np.float32).astype(float)
    lagged = [np.r_[np.zeros(lag), stimulus[: _BINS - lag]] for lag in range(_LAGS)]
    return np.stack([np.ones(_BINS), *lagged], -1)


def prior_covariance():
    """Of offset and filter, ``(10, 10)``."""
    difference = np.eye(_LAGS) - np.eye(_LAGS, k=-1)
    root = difference @ difference + np.diag(np.sqrt(np.arange(_LAGS) / _LAGS))
    precision = np.zeros((_LAGS + 1, _LAGS + 1))
    precision[0, 0] = 0.5
    precision[1:, 1:] = root.T @ root
    return np.linalg.inv(precision)


_DESIGN = design_matrix()


def _spikes(rng, theta):
    return (rng.logistic(size=(len(theta), _BINS)) < theta @ _DESIGN.T).astype(float)


def _statistics(rng, theta):
    return _spikes(rng, theta) @ _DESIGN


def _log_likelihood(theta, statistics):
    """By the sufficient statistics ``(10,)`` of the spikes."""
    return theta @ statistics + log_expit(-theta @ _DESIGN.T).sum(-1)


def _raw_log_likelihood(theta, spikes):
    return _log_likelihood(theta, spikes @ _DESIGN)


_PRIOR = Normal(np.zeros(_LAGS + 1), prior_covariance())
TASKS = (
    Task("bernoulli_glm", _PRIOR, _statistics, _log_likelihood),
    Task(
        "bernoulli_glm_raw",
        _PRIOR,
        _spikes,
        _raw_log_likelihood,
        folder="bernoulli_glm",
        observation="observation_raw.csv",
        points=_BINS,
        design=_DESIGN[:, 1:],
    ),
)
