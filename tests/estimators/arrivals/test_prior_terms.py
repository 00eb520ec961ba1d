"""What a prior consists of is read off PyMC."""

import numpy as np
import pymc as pm
import pytest
import torch

from pymc_nre.estimators.arrivals.prior_terms import prior_density
from pymc_nre.simulation.parameters import Layout
from pymc_nre.simulation.prior import Prior

MATRIX = np.array([[1.0, 0.5], [0.5, 2.0]])
PRIORS = {
    "uniform": {"a": pm.Uniform.dist(-1, [1, 2], shape=2)},
    "normal": {"a": pm.Normal.dist(0.5, 2), "b": pm.MvNormal.dist([0.0, 1.0], MATRIX)},
    "matrix": {"a": pm.Normal.dist(np.ones((2, 3)), 2.0)},
    "rows": {"a": pm.MvNormal.dist([0.0, 1.0], MATRIX, shape=(3, 2))},
    "rows of their own": {"a": pm.MvNormal.dist([0.0, 1.0], np.stack([MATRIX, np.eye(2)]))},
    "positive": {"a": pm.HalfNormal.dist(2), "b": pm.Exponential.dist(3), "c": pm.Gamma.dist(2, 3)},
    "others": {"a": pm.LogNormal.dist(0, 1), "b": pm.Beta.dist(2, 3), "c": pm.Laplace.dist(0, 2)},
    "wide": {"a": pm.StudentT.dist(3, 0, sigma=2), "b": pm.Cauchy.dist(0, 1)},
    "half": {"a": pm.HalfCauchy.dist(2), "b": pm.HalfStudentT.dist(3, 2)},
    "more": {"a": pm.InverseGamma.dist(3, 2), "b": pm.Logistic.dist(0, 1)},
    "truncated": {"a": pm.TruncatedNormal.dist(0, 1, lower=-1, upper=2)},
}


@pytest.mark.parametrize("name", PRIORS)
def test_it_has_the_density_that_pymc_knows(name):
    prior = Prior.of(PRIORS[name])
    drawn = prior.draw(50, 1)
    theta = torch.tensor(Layout(prior.shapes).pack(drawn))
    off = prior_density(prior)(theta).numpy() - prior.log_density(drawn)
    assert np.ptp(off) < 1e-9


def test_what_is_not_known_is_said():
    with pm.Model() as levels:
        pm.Normal("b", 0, pm.HalfNormal("a", 1))
    for prior, told in (
        (levels, "b depends on others"),
        ({"a": pm.Dirichlet.dist(np.ones(3))}, "a is a Dirichlet"),
        ({"k": pm.Poisson.dist(3)}, "k is a Poisson"),
    ):
        assert prior_density(Prior.of(prior)) == told
