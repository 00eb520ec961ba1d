"""Quantiles of g and k, a race of two accumulators, and an epidemic: three of the five problems."""

import numpy as np
from scipy.special import gammaln

from .base import Box
from .densities import g_and_k, log_g_and_k, log_race, race

__all__ = ["EPIDEMIC", "QUANTILES", "RACE"]

_POPULATION, _FIRST, _REPORTED, _DAYS, _STEPS = 1_000, 5, 0.3, 30, 4


def infections(beta, gamma):
    """New infections a day ``(n, days)`` of a SIR model with rates ``(n,)``."""
    susceptible, infected = (np.full(np.shape(beta), float(s)) for s in (_POPULATION, _FIRST))
    days = np.zeros((*np.shape(beta), _DAYS))
    for day in range(_DAYS):
        for _ in range(_STEPS):
            new = susceptible * -np.expm1(-beta * infected / _POPULATION / _STEPS)
            susceptible, infected = susceptible - new, infected + new - gamma * infected / _STEPS
            days[..., day] += new
    return days


def _log_reports(x, beta, gamma):
    rate = _REPORTED * infections(beta, gamma)  # (g, 1, days)
    return (x * np.log(rate) - rate - gammaln(x + 1)).sum(-1)


QUANTILES = Box(
    "g-and-k",
    500,
    {"A": (0, 10), "B": (0, 5), "g": (0, 5), "k": (0, 1)},
    (3.0, 1.0, 2.0, 0.5),
    lambda rng, *p: np.arcsinh(g_and_k(rng.normal(size=len(p[0])), *p)),
    lambda x, *p: log_g_and_k(np.sinh(x), *p),
)
RACE = Box(
    "ballistic accumulator",
    300,
    {"v1": (0, 4), "v2": (0, 4), "A": (0.1, 1), "b": (0.1, 1)},
    (2.5, 1.5, 0.5, 0.5),
    race,
    log_race,
)
EPIDEMIC = Box(
    "epidemic series",
    1,
    {"beta": (0.1, 1.0), "gamma": (0.05, 0.5)},
    (0.5, 0.2),
    lambda rng, beta, gamma: rng.poisson(_REPORTED * infections(beta, gamma)).astype(float),
    _log_reports,
)
