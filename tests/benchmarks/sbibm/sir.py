r"""An epidemic: :math:`S' = -\beta SI/N`, :math:`I' = \beta SI/N - \gamma I`, N = 1,000,000.

Ten times, 1,000 people are tested for being infected. Rates are log-normal, so the ratio's
coordinates are their logarithms; its features are square roots, which give counts a spread that
is nearly the same everywhere.
"""

import numpy as np
from scipy.special import xlog1py, xlogy

from .priors import Normal
from .runge_kutta import solve
from .task import Task

_POPULATION = 1e6
_TESTED = 1_000
_EVERY, _TIMES = 17.0, 10
_STEPS = 68  # of 0.25: shares are right to 4e-5, the worst of 500 draws of the prior


def infected(log_theta):
    """Shares ``(n, 10)`` of the population at ten times, of parameters ``(n, 2)``."""
    contact, recovery = np.exp(log_theta).T

    def slope(state):
        susceptible, ill = state
        new = contact * susceptible * ill
        return np.stack([-new, new - recovery * ill])

    first = 1 / _POPULATION
    start = np.repeat([[1 - first], [first]], len(log_theta), 1)
    return solve(slope, start, _EVERY, _TIMES, _STEPS)[:, 1].T.clip(0.0, 1.0)


def _simulate(rng, log_theta):
    return rng.binomial(_TESTED, infected(log_theta)).astype(float)


def _log_likelihood(log_theta, x):
    share = infected(log_theta)
    return (xlogy(x, share) + xlog1py(_TESTED - x, -share)).sum(-1)


TASKS = (
    Task(
        "sir",
        Normal.independent(np.log([0.4, 0.125]), [0.5, 0.2]),
        _simulate,
        _log_likelihood,
        natural=np.exp,
        features=np.sqrt,
    ),
)
