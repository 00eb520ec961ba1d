"""Statistics beside their closed forms; quantiles that are known; simulated designs."""

import conditioned
import numpy as np
import pytest
import torch
from formulas import normal, ratio_of
from scipy.stats import chi2
from untrained import make_estimator

import pymc_nre as nre
from pymc_nre.point.integrals import moments
from pymc_nre.point.quantiles import Quantiles
from pymc_nre.point.searches.summed import SummedRatio
from pymc_nre.point.simulated import Experiment
from pymc_nre.point.statistics import Statistic
from pymc_nre.simulation.conditions.missing import Missing

LEVELS = np.array([0.5, 0.9, 0.95])


@pytest.mark.parametrize("trials", [1, 10, 400])
def test_means_over_the_prior(trials):
    task = nre.tasks.GaussianMean()
    ratio = task.estimator()
    x = np.random.default_rng(1).normal(np.array([-9.5, 2.0, 5.0])[:, None], 1.0, (3, trials))
    statistic = Statistic(ratio, "waldo", np.array([0]))
    known = statistic.prepared(SummedRatio.of(ratio, x))
    found = moments(ratio, known.summed, known.found)
    exact = [task.posterior(one) for one in x]
    mean, sd = (np.array([getattr(e, k)["mu"] for e in exact]) for k in ("mean", "sd"))
    # 64 points of each half: a tenth of a standard deviation is two standard errors of a mean.
    assert (np.abs(found.mean[:, 0] - mean) < 0.25 * sd).all()
    assert (np.abs(np.sqrt(found.covariance[:, 0, 0]) / sd - 1) < 0.3).all()
    grid = np.linspace(-10, 10, 400_001)
    heights = np.zeros((3, len(grid)))
    for row, one in zip(heights, x, strict=True):
        row += -trials / 2 * (one.mean() - grid) ** 2
    at = ratio.log_ratio(x[..., None], mu=x.mean(1)[:, None, None]).sum((1, 2))
    exact = at + np.log(np.exp(heights).mean(1))
    np.testing.assert_allclose(found.log_mean, exact, atol=0.35)


def test_likelihood_ratio_and_waldo_of_a_mean():
    ratio = nre.tasks.GaussianMean().estimator()
    x = np.random.default_rng(2).normal(1.0, 1.0, (4, 25))
    which, held = np.arange(4), np.full((4, 1), 1.3)
    exact = 25 * (x.mean(1) - 1.3) ** 2
    for kind, close in (("likelihood_ratio", 1e-6), ("waldo", None)):
        statistic = Statistic(ratio, kind, np.array([0]))
        value, theta = statistic.at(statistic.prepared(SummedRatio.of(ratio, x)), which, held)
        np.testing.assert_array_equal(theta, held)
        if close:
            np.testing.assert_allclose(value, exact, atol=close)
        else:  # within what 64 points of the posterior tell
            assert np.corrcoef(value, exact)[0, 1] > 0.99
    outside = statistic.at(statistic.prepared(SummedRatio.of(ratio, x)), which, held + 10)[0]
    assert np.isposinf(outside).all()


def conditional_coverage(quantiles, scale, seed=3):
    """At new inputs, of values scale(z) times chi-square variables of two degrees."""
    z = np.random.default_rng(seed).normal(size=(3_000, 2))
    return chi2.cdf(quantiles.at(z) / scale(z)[:, None], 2)


@pytest.mark.one_python
def test_quantiles_follow_inputs_and_do_not_cross():
    rng = np.random.default_rng(4)
    z = rng.normal(size=(2_000, 2))

    def scale(z):
        return np.exp(0.7 * z[:, 0])

    values = scale(z) * rng.chisquare(2, 2_000)
    quantiles = Quantiles.fitted(z, values, LEVELS, 1)
    assert (np.diff(quantiles.at(z), axis=1) >= 0).all()
    found = conditional_coverage(quantiles, scale)
    np.testing.assert_allclose(found.mean(0), LEVELS, atol=0.03)
    assert np.quantile(found[:, 1], 0.1) > 0.8
    blind = Quantiles.fitted(np.zeros((500, 2)), values[:500], LEVELS, 1)
    assert np.quantile(conditional_coverage(blind, scale)[:, 1], 0.1) < 0.75


def test_quantiles_come_again_and_leave_random_numbers_of_torch_alone():
    z = np.linspace(-1, 1, 200)[:, None]
    values = np.random.default_rng(5).chisquare(1, 200)
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first, second = (Quantiles.fitted(z, values, LEVELS, 7).at(z) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert torch.equal(before, torch.random.get_rng_state())


def test_simulated_sets_have_the_observed_conditions():
    ratio, (dose, x) = conditioned.exact_ratio(), conditioned.doses()
    design = ratio.conditions.pack(x[None], {"dose": dose}, "test")
    experiment = Experiment(ratio, ratio.simulator, design)
    data = experiment.data(np.array([[5.0], [-5.0]]), np.random.default_rng(1))
    assert data.shape == (2, 20, 2)
    np.testing.assert_array_equal(data[..., 1], np.tile(dose, (2, 1)))
    for one, slope in zip(data, (5.0, -5.0), strict=True):
        error = (one[:, 0] * dose).sum() / (dose**2).sum() - slope
        assert abs(error) < 5 / np.sqrt((dose**2).sum())


def test_simulated_sets_miss_what_the_observed_miss():
    def simulator(rng, mu):
        return rng.normal(mu[:, None], 1.0, (len(mu), 3))

    ratio = make_estimator({"mu": ()}, (3,), missing=Missing.of(0.4, (3,)))
    design = np.zeros((1, 4, 3))
    design[0, 1, :2] = np.nan
    known = nre.Simulator(simulator, batched=True)
    data = Experiment(ratio, known, design).data(np.zeros((5, 1)), np.random.default_rng(1))
    np.testing.assert_array_equal(np.isnan(data), np.repeat(np.isnan(design), 5, axis=0))


def test_others_take_the_place_of_simulations_that_fail():
    def failing(rng, a):
        x = rng.normal(a, 1.0)
        return np.where(rng.random(len(a)) < 0.3, np.nan, x)

    ratio = ratio_of(lambda theta, x: -((x - theta[..., 0]) ** 2), normal, [10.0])
    known = nre.Simulator(failing, batched=True)
    experiment = Experiment(ratio, known, np.zeros((1, 50)))
    data = experiment.data(np.full((40, 1), 3.0), np.random.default_rng(1))
    assert np.isfinite(data).all()
    assert abs(data.mean() - 3.0) < 5 / np.sqrt(2_000)
    never = nre.Simulator(lambda rng, a: np.where(a > 0, np.nan, a), batched=True)
    with pytest.raises(nre.SimulationError, match="2,000 of 2,000 simulations failed 10 times"):
        Experiment(ratio, never, np.zeros((1, 50))).data(
            np.full((40, 1), 3.0), np.random.default_rng(1)
        )
