"""Candidates near the true parameters: at the exact ratio no direction lowers the loss.

Each problem has an exact log likelihood and a prior of another kind: bounded, correlated, on a
simplex, of integers, with a point mass, above others. The derivative of the local term along some
directions is a mean over independent batches, tested by its t-statistic; laws of candidates and
densities with a mistake must be seen.
"""

import math
from dataclasses import dataclass

import numpy as np
import pymc as pm
import pytest
import torch

import pymc_nre as nre
from pymc_nre.losses import NREB, MultiScale
from pymc_nre.simulation.parameters import Layout
from pymc_nre.simulation.prior import Prior
from pymc_nre.training.contrasts import NearbyParameters

BATCHES, BATCH, NEAR, SCALES = 300, 512, 7, (0.05, 1.0)
T_LIMIT = 5.0  # of 300 normal numbers: once in a million directions
COVARIANCE = np.array([[1.0, 0.9], [0.9, 1.0]])


def mean_of(theta):
    return theta.sum(-1)


@dataclass(frozen=True)
class Problem:
    """x is normal around a function of packed parameters ``(n, D)``."""

    prior: dict
    mean: object = mean_of
    sd: float = 0.5

    def log_likelihood(self, theta, x):
        return -0.5 * ((x - self.mean(theta)) / self.sd) ** 2

    def draw(self, n, rng):
        known = Prior.of(self.prior)
        draws = known.draw(n, rng)
        layout = layout_of(known)
        theta = layout.pack(draws)
        return theta, rng.normal(self.mean(torch.tensor(theta)).numpy(), self.sd)


def layout_of(known):
    integer = [name for name, rv in known.variables.items() if rv.dtype.startswith("int")]
    return Layout(known.shapes, frozenset(integer))


def above_another():
    with pm.Model() as prior:
        pm.Normal("mu", 0, pm.HalfNormal("sigma", 1.0))
    return prior


PROBLEMS = {
    "uniform": Problem({"mu": pm.Uniform.dist(-1, 1)}),
    "normal": Problem({"mu": pm.Normal.dist(0, 1)}),
    "skew": Problem({"mu": pm.Exponential.dist(1.0)}),
    "correlated": Problem(
        {"mu": pm.MvNormal.dist([0.0, 0.0], COVARIANCE)}, lambda t: t[..., 0] - t[..., 1]
    ),
    "simplex": Problem(
        {"p": pm.Dirichlet.dist([0.8, 2.0, 3.0])}, lambda t: t[..., 0] + 2 * t[..., 1], 0.2
    ),
    "integer": Problem({"k": pm.Poisson.dist(2.0), "mu": pm.Normal.dist(0, 1)}),
    "point mass": Problem(
        {"mu": pm.HurdleGamma.dist(psi=0.6, alpha=2.0, beta=1.0), "nu": pm.Normal.dist(0, 0.5)}
    ),
    "above another": Problem(above_another(), lambda t: t[..., 1]),
}
DIRECTIONS = {
    "slope": lambda theta, x: torch.sin(theta[..., 0]),
    "skew": lambda theta, x: torch.tanh(theta[..., 0] - x),
    "sharpness": lambda theta, x: torch.exp(-((theta[..., 0] - x) ** 2)),
    "last": lambda theta, x: torch.cos(2 * theta[..., -1] - 0.3 * x),
}


def nearby(problem, scales=SCALES, near=NEAR, kind=NearbyParameters):
    known = Prior.of(problem.prior)
    layout = layout_of(known)
    draws = layout.pack(known.draw(4_000, np.random.default_rng(7)))
    return kind(layout, known, draws, near, scales)


def t_statistics(problem, law, change=lambda log_prior: log_prior):
    """Of the local term's derivative at the exact ratio, along each direction."""
    rng = np.random.default_rng(1)
    theta, x = problem.draw(BATCHES * BATCH, rng)
    candidates, log_prior = law.beside(theta, rng)
    everything = torch.tensor(np.concatenate([theta[:, None], candidates], 1))
    x = torch.tensor(x)[:, None]
    logits = problem.log_likelihood(everything, x) + torch.tensor(change(log_prior))
    weights = logits.softmax(1)
    found = {}
    for name, direction in DIRECTIONS.items():
        h = direction(everything, x)
        derivative = ((weights * h).sum(1) - h[:, 0]).reshape(BATCHES, BATCH).mean(1).numpy()
        found[name] = derivative.mean() / (derivative.std(ddof=1) / math.sqrt(BATCHES))
    return found


@pytest.mark.parametrize("name", PROBLEMS)
def test_exact_ratio_is_stationary(name):
    found = t_statistics(PROBLEMS[name], nearby(PROBLEMS[name]))
    assert max(map(abs, found.values())) < T_LIMIT, found


class AroundTheTruth(NearbyParameters):
    """Candidates drawn around the true parameters, which then are in the middle of all."""

    def _steps(self, scale, rng):
        steps = super()._steps(scale, rng)
        steps[:, 0] = 0
        return steps


class WiderWhereLarge(NearbyParameters):
    """Steps in proportion to the parameters."""

    def beside(self, theta, rng):
        self.theta = theta
        return super().beside(theta, rng)

    def _steps(self, scale, rng):
        return super()._steps(scale, rng) * (0.2 + np.abs(self.theta[:, None]))


class BetweenIntegers(NearbyParameters):
    """Integers take steps as other parameters do."""

    def _steps(self, scale, rng):
        self.whole = np.zeros_like(self.whole)
        return super()._steps(scale, rng)


class OffTheSimplex(NearbyParameters):
    """The last of tied parameters takes no part in a step, as if it were not tied."""

    def _steps(self, scale, rng):
        steps = super()._steps(scale, rng)
        steps[..., -1] = 0
        return steps


def inside_only(log_prior):
    return np.where(np.isfinite(log_prior), 0.0, -np.inf)


def everywhere(log_prior):
    return np.maximum(log_prior, -3.0)


BUGS = {
    "prior forgotten, normal": ("normal", NearbyParameters, inside_only),
    "prior forgotten, skew": ("skew", NearbyParameters, inside_only),
    "prior forgotten, correlated": ("correlated", NearbyParameters, inside_only),
    "prior forgotten, simplex": ("simplex", NearbyParameters, inside_only),
    "prior forgotten, integer": ("integer", NearbyParameters, inside_only),
    "prior forgotten, above another": ("above another", NearbyParameters, inside_only),
    "outside the support": ("uniform", NearbyParameters, everywhere),
    "around the truth": ("normal", AroundTheTruth, np.array),
    "wider where large": ("normal", WiderWhereLarge, np.array),
    "between integers": ("integer", BetweenIntegers, np.array),
    "off the simplex": ("simplex", OffTheSimplex, np.array),
}


@pytest.mark.parametrize("bug", BUGS)
def test_mistakes_are_seen(bug):
    name, kind, change = BUGS[bug]
    found = t_statistics(PROBLEMS[name], nearby(PROBLEMS[name], kind=kind), change)
    assert max(map(abs, found.values())) > T_LIMIT, found
