"""An exact ratio with a condition: a response to a known dose, and its simulator."""

import math

import numpy as np
import pymc as pm

import pymc_nre as nre
from pymc_nre.estimators.domain import Domain
from pymc_nre.networks import RatioNetwork
from pymc_nre.simulation.conditions.layout import Conditions
from pymc_nre.simulation.simulator import Simulator

SD = 2.0  # of the slope


class Exact(RatioNetwork):
    """log N(x; slope dose, 1) - log N(x; 0, 1 + SD^2 dose^2)."""

    def __init__(self):
        super().__init__(1, (2,))

    def embed(self, packed):
        return packed

    def head(self, theta, features):
        x, dose = features[..., 0], features[..., 1]
        variance = 1 + SD**2 * dose**2
        own = -((x - theta[..., 0] * dose) ** 2) / 2
        return own + x**2 / (2 * variance) + variance.log() / 2


def prior():
    return {"slope": pm.Normal.dist(0, SD)}


def response(rng, slope, dose):
    return rng.normal(slope * dose, 1.0)


def simulate(n, seed=1, **options):
    options = {"conditions": {"dose": pm.Uniform.dist(-1, 1)}, "batched": True} | options
    options = {"random_seed": seed, "progressbar": False} | options
    return nre.simulate(prior(), response, n, **options)


def exact_ratio(low=-1.0, high=1.0):
    theta = SD * np.random.default_rng(1).normal(size=(5_000, 1))
    x = simulate(100).packed().x
    return nre.RatioEstimator(
        Exact(),
        {"slope": ()},
        domain=Domain.from_draws(theta, -(theta[:, 0] ** 2) / (2 * SD**2)),
        probe_x=x,
        simulator=Simulator(response, batched=True),
        conditions=Conditions({"dose": ()}, (), (low,), (high,)),
    )


def posterior(x, dose):
    """Mean and standard deviation of the slope."""
    precision = (dose**2).sum() + 1 / SD**2
    return (x * dose).sum() / precision, math.sqrt(1 / precision)


def doses(n=20, seed=3):
    dose = np.linspace(-1, 1, n)
    return dose, response(np.random.default_rng(seed), 1.3, dose)


def log_density(x, slope, dose):
    """What the log ratio is, up to the evidence of x given its dose."""
    variance = 1 + SD**2 * dose**2
    own = -((x - slope * dose) ** 2) / 2
    return own + x**2 / (2 * variance) + np.log(variance) / 2
