"""Densities of priors in torch are those of scipy, up to a constant."""

import numpy as np
import pytest
import torch
from scipy import stats

from pymc_nre.networks.prior_density import FAMILIES, PriorDensity

POINTS = np.linspace(0.05, 0.95, 7)
EXACT = {
    "UniformRV": ((-1.0, 2.0), stats.uniform(-1, 3)),
    "NormalRV": ((0.3, 0.7), stats.norm(0.3, 0.7)),
    "HalfNormalRV": ((0.0, 0.7), stats.halfnorm(0, 0.7)),
    "TruncatedNormalRV": ((0.3, 0.7, 0.0, 1.0), stats.truncnorm(-3 / 7, 1.0, 0.3, 0.7)),
    "LogNormalRV": ((0.2, 0.5), stats.lognorm(0.5, scale=np.exp(0.2))),
    "ExponentialRV": ((0.4,), stats.expon(scale=0.4)),
    "GammaRV": ((2.5, 0.4), stats.gamma(2.5, scale=0.4)),
    "InvGammaRV": ((2.5, 0.4), stats.invgamma(2.5, scale=0.4)),
    "BetaRV": ((2.5, 1.5), stats.beta(2.5, 1.5)),
    "StudentTRV": ((3.0, 0.1, 0.6), stats.t(3, 0.1, 0.6)),
    "HalfStudentTRV": ((3.0, 0.6), stats.t(3, 0.0, 0.6)),
    "CauchyRV": ((0.1, 0.6), stats.cauchy(0.1, 0.6)),
    "HalfCauchyRV": ((0.6,), stats.halfcauchy(0.0, 0.6)),
    "LaplaceRV": ((0.1, 0.6), stats.laplace(0.1, 0.6)),
    "LogisticRV": ((0.1, 0.6), stats.logistic(0.1, 0.6)),
}


def density(*parts, arguments):
    made = PriorDensity(parts).double()
    made.set_arguments([[np.asarray(each) for each in own] for own in arguments])
    return made


@pytest.mark.parametrize("family", EXACT)
def test_a_family_is_that_of_scipy(family):
    arguments, exact = EXACT[family]
    made = density((family, 1), arguments=[[np.array([each]) for each in arguments]])
    off = made(torch.tensor(POINTS[:, None])).numpy() - exact.logpdf(POINTS)
    assert np.ptp(off) < 1e-12


def test_every_family_is_looked_at():
    assert {*EXACT, "MvNormalRV"} == {*FAMILIES}


def test_parameters_that_go_together():
    covariance = np.array([[1.0, 0.6], [0.6, 2.0]])
    parts = ("NormalRV", 1), ("MvNormalRV", 2)
    own = [[np.array([0.5]), np.array([2.0])], [np.array([0.1, -0.2]), np.linalg.inv(covariance)]]
    theta = np.random.default_rng(1).normal(size=(5, 4, 3))
    exact = stats.norm(0.5, 2).logpdf(theta[..., 0])
    exact = exact + stats.multivariate_normal([0.1, -0.2], covariance).logpdf(theta[..., 1:])
    found = density(*parts, arguments=own)(torch.tensor(theta)).numpy()
    assert found.shape == (5, 4)
    assert np.ptp(found - exact) < 1e-12
