"""What is kept of a prior, by ratios that are exact."""

import math

import numpy as np
import pymc as pm
import pytest
from scipy.stats import chi2, norm, truncnorm

import pymc_nre as nre
from pymc_nre.sequential.kept import keep, usual_epsilon, within
from pymc_nre.sequential.study import DataSet, KnownPrior
from pymc_nre.simulation.prior import Prior

TASK = nre.tasks.GaussianMean()  # mu ~ U(-10, 10), x ~ N(mu, 1)
X = np.array([1.0, 2.0, 3.0])
N = 2_000


def data_set(task=TASK, x=X):
    return DataSet(KnownPrior(Prior.of(task.prior())), task.estimator(), x)


@pytest.fixture(scope="module")
def kept():
    return keep(data_set(), 1e-3, N, np.random.default_rng(1))


def test_the_threshold_lies_below_the_maximum(kept):
    highest = TASK.estimator().log_ratio(X, mu=X.mean()).sum()
    assert kept.threshold == pytest.approx(highest + math.log(1e-3), abs=1e-6)


def test_the_maximum_is_climbed_to():
    # So many trials that no draw of the posterior is near the best in all of ten numbers.
    rng = np.random.default_rng(2)
    task = nre.tasks.LinearGaussian()
    x = rng.normal(size=(50, 4))
    data = DataSet(KnownPrior(Prior.of(task.prior())), task.estimator(), x)
    found = keep(data, 1e-6, 500, np.random.default_rng(1))
    best = task.maximum_likelihood(x)
    packed = data.known.layout.pack({k: np.asarray(v)[None] for k, v in best.items()})
    highest = data.log_ratio(packed)[0]
    assert found.threshold - math.log(1e-6) == pytest.approx(highest, abs=0.01)
    assert found.posterior.log_ratio.max() < highest - 0.001


def test_volume_and_draws_are_those_of_the_prior_inside(kept):
    # n (mu - mean)^2 / 2 < log 1000
    half = math.sqrt(2 * math.log(1_000) / len(X))
    assert math.exp(kept.log_volume) == pytest.approx(2 * half / 20, rel=0.1)
    mu = kept.draws.theta[:, 0]
    assert np.abs(mu - X.mean()).max() <= half + 1e-6
    assert np.ptp(mu) > 2 * half * (1 - 20 / N)
    assert abs(mu.std() - half / math.sqrt(3)) < 4 * half / math.sqrt(N)


def test_what_is_lost_is_the_mass_outside(kept):
    # Of a posterior with this sd the ends are sqrt(2 log 1000) = 3.7 sds away.
    lost = 2 * norm.sf(math.sqrt(2 * math.log(1_000)))
    assert abs(kept.lost(kept.posterior) - lost) < 5 * math.sqrt(lost / N)
    wider = keep(data_set(x=X[:1]), 1e-3, N, np.random.default_rng(1)).posterior
    assert kept.lost(wider) > 0.03  # the twin


def test_parameters_that_are_integers_are_kept_whole():
    known = KnownPrior(Prior.of({"k": pm.Poisson.dist(5.0), "mu": pm.Normal.dist(0, 1)}))
    assert known.whole.tolist() == [True, False]
    assert known.layout.integer == {"k"}
    assert np.isneginf(known.log_prior(np.array([[-1.0, 0.0]])))


def test_a_set_is_cut_out_of_another(kept):
    """As if the prior were what the other keeps: its mass, draws, posterior and density."""
    data = data_set(x=np.array([4.0, 4.5]))  # whose set of half width 2.63 ends at 6.88
    half = math.sqrt(2 * math.log(1_000) / len(X))
    ends = 4.25 - math.sqrt(math.log(1_000)), X.mean() + half
    found = keep(within(data, kept), 1e-3, N, np.random.default_rng(2))
    mu, posterior = found.draws.theta[:, 0], found.posterior.theta[:, 0]
    assert found.log_volume == pytest.approx(math.log(np.ptp(ends) / 20), abs=0.1)
    assert (mu >= ends[0] - 1e-2).all()
    assert (np.append(mu, posterior) <= ends[1] + 1e-6).all()
    law = truncnorm(-np.inf, (ends[1] - 4.25) * math.sqrt(2), 4.25, math.sqrt(0.5))
    assert abs(posterior.mean() - law.mean()) < 5 * law.std() / math.sqrt(N)
    alone = keep(data, 1e-3, N, np.random.default_rng(2))
    assert abs(alone.posterior.theta.mean() - law.mean()) > 0.1  # the twin


@pytest.mark.parametrize("size", [1, 6, 10, 20, 50])
def test_many_parameters_are_cut_lower(size):
    """A normal posterior loses little, whatever their number; by a millionth it is 12 % of 20."""

    def lost(epsilon):
        return chi2.sf(-2 * math.log(epsilon), size)

    assert lost(usual_epsilon(size)) < 1.2e-4
    assert usual_epsilon(size) <= 1e-6
    assert (lost(1e-6) > 1e-3) == (size > 8)  # the twin
