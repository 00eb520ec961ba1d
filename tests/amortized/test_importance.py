"""Weighted draws against exact posteriors and grids, by the standard error of a weighted mean."""

import arviz as az
import numpy as np
import pymc as pm
import pytest
import xarray as xr
from controls import Changed
from many_data_sets import (
    GAUSSIAN,
    MEAN,
    NORMAL,
    SIGMAS,
    conjugate,
    data_sets,
    integer_ratio,
    standard_error,
)

import pymc_nre as nre
from pymc_nre import PosteriorWarning, posterior_grid, resample, weighted_draws
from pymc_nre.amortized.importance import _systematic
from pymc_nre.estimators.domain import Domain


@pytest.mark.parametrize("prior", [None, (1.0, 2.0)])
def test_weighted_draws_agree_with_exact_and_grid(prior):
    x = data_sets(5, 10)
    chosen = None if prior is None else {"mu": pm.Normal.dist(*prior)}
    got = weighted_draws(MEAN, x, chosen, draws=40_000, trials=True, random_seed=2)
    exact = [GAUSSIAN.posterior(row).mean["mu"] for row in x]
    mean = np.array(exact) if prior is None else conjugate(x, *prior)[0]
    error = standard_error(got).values[:, 0]
    assert np.all(np.abs(got["mean"].values[:, 0] - mean) < SIGMAS * error)
    # Twin: a prior five posterior standard errors or more away
    wrong = conjugate(x, 30.0, 2.0)[0]
    assert np.all(np.abs(got["mean"].values[:, 0] - wrong) > SIGMAS * error)
    # The sd of n effective draws of a normal posterior is sd / sqrt(2 n) off
    n = got["ess"].values
    sd = conjugate(x, *(prior or (0, 1e3)))[1]
    assert np.all(np.abs(got["sd"].values[:, 0] / sd - 1) < SIGMAS / np.sqrt(2 * n))
    grid = posterior_grid(MEAN, x, chosen or GAUSSIAN.prior(), trials=True)
    # The evidence is a mean of weights, with relative error 1 / sqrt(ess) at most
    assert np.all(np.abs(got["log_evidence"] - grid["log_evidence"]) < SIGMAS / np.sqrt(n))


def test_more_numbers_are_weighted():
    task = nre.tasks.LinearGaussian(noise=2.0)
    x = task.simulator(np.random.default_rng(1), np.tile([0.5, -0.5, 1.0], (5, 1)))
    got = weighted_draws(task.estimator(), x, trials=True)
    assert got["theta"].dims == ("draw", "theta_dim_0")
    assert list(got["parameter"].values) == ["theta[0]", "theta[1]", "theta[2]"]
    exact = task.posterior(x).mean["theta"]
    error = got["sd"].values / np.sqrt(got["ess"].item())
    assert np.all(np.abs(got["mean"] - exact) < SIGMAS * error)


def test_resampled_draws_are_of_equal_weight():
    x = data_sets(3, 2)
    weighted = weighted_draws(MEAN, x, trials=True, draws=2_000)
    idata = resample(weighted, draws=500, chains=4, random_seed=3)
    mu = idata["posterior"]["mu"]
    assert mu.dims == ("chain", "draw", "x_dim_0")
    assert mu.shape == (4, 500, 3)
    # Systematic draws are better than independent ones, whose standard error this is
    error = np.abs(mu.mean(("chain", "draw")) - weighted["mean"][:, 0])
    assert np.all(error < SIGMAS * weighted["sd"][:, 0] / np.sqrt(2_000))
    assert len(az.summary(idata)) == 3
    # In random order: chains agree to the standard error of their own means
    between = np.abs(mu.mean("draw") - mu.mean(("chain", "draw")))
    assert np.all(between < SIGMAS * mu.std(("chain", "draw")) / np.sqrt(500))


def test_integers_stay_integers_in_draws():
    got = weighted_draws(integer_ratio(), 2.0, {"mu": pm.DiscreteUniform.dist(-5, 5)}, draws=500)
    assert got["mu"].dtype.kind == "i"


def test_seeds_decide():
    prior = {"mu": pm.Normal.dist(0, 1)}
    same = [weighted_draws(MEAN, 0.0, prior, draws=200, random_seed=s)["mu"] for s in (1, 1, 2)]
    np.testing.assert_array_equal(same[0], same[1])
    assert not np.array_equal(same[0], same[2])


def test_few_effective_draws_are_told():
    with pytest.warns(PosteriorWarning, match=r"1 of 1 posteriors rest on fewer than 100.*MCMC"):
        weighted_draws(MEAN, np.full(1_000, 0.1), trials=True)


def test_one_draw_is_a_draw():
    with pytest.warns(PosteriorWarning, match="fewest: 1.0 of 1"):
        got = weighted_draws(MEAN, 0.0, NORMAL, draws=1, random_seed=1)
    assert got["weight"].shape == (1,)
    assert got["mean"].item() == got["mu"].item()


def test_dimensions_of_the_result_are_its_own():
    x = xr.DataArray(np.zeros((2, 3)), dims=("chain", "draw"))
    with pytest.raises(ValueError, match=r"result has chain, draw of its own.*rename"):
        weighted_draws(MEAN, x, random_seed=1)


def test_large_numbers_keep_their_spread():
    # Squares of 1e8 leave a variance of 1 nothing: 16 digits are gone.
    far = 1e8
    domain = Domain.from_draws(MEAN.domain.draws + far)
    network = Changed(MEAN.network, of_theta=-far)
    ratio = nre.RatioEstimator(network, {"mu": ()}, domain=domain, probe_x=MEAN.probe_x)
    x = data_sets(3, 4)
    got, near = (weighted_draws(which, x, trials=True) for which in (ratio, MEAN))
    np.testing.assert_allclose(got["mean"] - far, near["mean"], atol=1e-6)
    np.testing.assert_allclose(got["sd"], near["sd"], rtol=1e-6)


def test_systematic_draws_have_no_preference():
    # A single draw: with positions that are not drawn it would always be the likelier one.
    draws = [_systematic(np.array([0.3, 0.7]), 1, np.random.default_rng(s)) for s in range(2_000)]
    assert np.mean(draws) == pytest.approx(0.7, abs=SIGMAS * (0.21 / 2_000) ** 0.5)
