r"""Predators and prey: :math:`x' = x(\alpha - \beta y)`, :math:`y' = y(\delta x - \gamma)`.

Twenty noisy numbers, ten of each. Parameters and noise are log-normal, so both the ratio's
coordinates and its features are logarithms. The equations are solved for logarithms too: no
population can become negative, and a fixed step goes a long way.
"""

import numpy as np

from .priors import Normal
from .runge_kutta import solve
from .task import Task

_START = np.log([30.0, 1.0])
_EVERY, _TIMES = 2.1, 10
_STEPS = 105  # of 0.02: logarithms are right to 7e-4, the worst of 500 draws of the prior
_LOWEST, _HIGHEST = np.log([1e-10, 1e4])  # populations are clipped before the noise
_NOISE = 0.1


def log_populations(log_theta):
    """Of parameters ``(n, 4)``, ``(n, 20)``: prey at ten times, then predators."""
    alpha, beta, gamma, delta = np.exp(log_theta).T

    def slope(state):
        prey, predators = np.exp(state)
        return np.stack([alpha - beta * predators, delta * prey - gamma])

    start = np.repeat(_START[:, None], len(log_theta), 1)
    with np.errstate(over="ignore", invalid="ignore"):  # what fails becomes NaN, and is left out
        states = solve(slope, start, _EVERY, _TIMES, _STEPS)
    states = states.transpose(2, 1, 0).reshape(len(log_theta), 2 * _TIMES)
    failed = ~np.isfinite(states).all(-1, keepdims=True)
    return np.where(failed, np.nan, states.clip(_LOWEST, _HIGHEST))


def _simulate(rng, log_theta):
    return np.exp(rng.normal(log_populations(log_theta), _NOISE))


def _log_likelihood(log_theta, x):
    errors = (np.log(x) - log_populations(log_theta)) / _NOISE
    found = -0.5 * np.square(errors).sum(-1)
    return np.where(np.isnan(found), -np.inf, found)


TASKS = (
    Task(
        "lotka_volterra",
        Normal.independent([-0.125, -3.0, -0.125, -3.0], [0.5] * 4),
        _simulate,
        _log_likelihood,
        natural=np.exp,
        features=np.log,
    ),
)
