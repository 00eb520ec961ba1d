"""The exact answers are exact: checked against other ways of computing them."""

import numpy as np
import pytest
from scipy import integrate, stats

from pymc_nre import tasks

TASKS = {
    "Gaussian mean": tasks.GaussianMean(),
    "location-scale": tasks.LocationScale(),
    "linear Gaussian": tasks.LinearGaussian(),
}
TRUTHS = {
    "Gaussian mean": {"mu": 2.0},
    "location-scale": {"mu": 1.0, "log_sigma": -0.3},
    "linear Gaussian": {"theta": np.array([0.5, -1.0, 0.2])},
}


@pytest.fixture(params=TASKS)
def name(request):
    return request.param


def observations(name, n=10):
    task, rng = TASKS[name], np.random.default_rng(1)
    repeated = {k: np.repeat(np.asarray(v)[None], n, 0) for k, v in TRUTHS[name].items()}
    return task.simulator(rng, **repeated)


def log_likelihood(name, x, theta):
    """By scipy, one observation and one packed parameter vector."""
    if name == "Gaussian mean":
        return stats.norm.logpdf(x, theta[0], 1.0)
    if name == "location-scale":
        return stats.norm.logpdf(x, theta[0], np.exp(theta[1]))
    return stats.norm.logpdf(x, TASKS[name].matrix @ theta, 1.0).sum(-1)


def log_evidence(name, x):
    """By numerical integration, or as a multivariate normal."""
    if name == "Gaussian mean":
        density, _ = integrate.quad(lambda m: stats.norm.pdf(x, m) / 20, -10, 10, points=[x])
        return np.log(density)
    if name == "location-scale":

        def joint(m, log_s):
            return stats.norm.pdf(x, m, np.exp(log_s)) / 20

        density, _ = integrate.dblquad(joint, -1, 1, -5, 5, epsabs=1e-12, epsrel=1e-10)
        return np.log(density)
    matrix = TASKS[name].matrix
    return stats.multivariate_normal.logpdf(x, np.zeros(4), matrix @ matrix.T + np.eye(4))


def test_log_ratio_is_likelihood_over_evidence(name):
    task, rng = TASKS[name], np.random.default_rng(2)
    simulations = task.simulate(3, random_seed=2)
    ratio = task.estimator()
    for x, theta in zip(simulations.x, simulations.theta[rng.permutation(3)], strict=True):
        expected = log_likelihood(name, x, theta) - log_evidence(name, x)
        got = ratio.log_ratio(x, **ratio.layout.unpack(theta))
        assert got == pytest.approx(expected, abs=1e-8)


def test_ratio_has_mean_one_over_the_prior(name):
    # E[r(theta, x)] = 1 over theta ~ prior, for every x.
    task = TASKS[name]
    theta = task.simulate(100_000, random_seed=3).parameters
    ratio = task.estimator()
    for x in observations(name, n=2):
        weights = np.exp(ratio.log_ratio(x, **theta))
        error = weights.std() / len(weights) ** 0.5
        assert abs(weights.mean() - 1) < 5 * error
        assert error < 0.06  # a ratio shifted by 0.3 would be seen
    with pytest.raises(AssertionError):
        assert abs(1.35 * weights.mean() - 1) < 5 * error


def test_posterior_agrees_with_weighted_prior_draws(name):
    task = TASKS[name]
    x = observations(name)
    exact = task.posterior(x)
    draws = task.simulate(100_000, random_seed=4).parameters
    log_weights = task.estimator().log_ratio(x[:, None], **{k: v[None] for k, v in draws.items()})
    weights = np.exp(log_weights.sum(0) - log_weights.sum(0).max())
    weights /= weights.sum()
    effective = 1 / (weights**2).sum()
    assert effective > 100
    for key, value in draws.items():
        shaped = weights.reshape(-1, *[1] * (value.ndim - 1))
        mean = (shaped * value).sum(0)
        sd = np.sqrt((shaped * (value - mean) ** 2).sum(0))
        # Monte Carlo errors: sd / sqrt(ESS) of a mean, sd / sqrt(2 ESS) of a sd; 5 of them.
        np.testing.assert_array_less(np.abs(mean - exact.mean[key]), 5 * sd / effective**0.5)
        np.testing.assert_array_less(np.abs(sd - exact.sd[key]), 5 * sd / (2 * effective) ** 0.5)


def test_maximum_likelihood_beats_its_neighbors(name):
    task = TASKS[name]
    x = observations(name)
    fit = task.maximum_likelihood(x)
    ratio = task.estimator()

    def total(parameters):
        return ratio.log_ratio(x, **parameters).sum()

    rng = np.random.default_rng(5)
    for _ in range(20):
        near = {k: v + 1e-3 * rng.normal(size=np.shape(v)) for k, v in fit.items()}
        assert total(near) < total(fit)


def test_far_tails_keep_their_digits():
    # Both evidences are differences of normal cdfs; at x = 40 naive ones are 1 - 1 = 0.
    ratio = tasks.GaussianMean().estimator()
    x, mu = np.array([40.0, -40.0]), np.array([10.0, -10.0])
    # p(x) is a Gaussian tail integral: phi(30) / 30 * (1 - 1/900 + ...) / 20
    expected = np.log(20 * 30) + 1 / 900
    np.testing.assert_allclose(ratio.log_ratio(x, mu=mu), expected, atol=1e-5)
    assert np.isfinite(tasks.GaussianMean().log_evidence(np.array([-60.0, 60.0]))).all()


def test_log_likelihood_minus_log_ratio_is_the_evidence():
    task = tasks.GaussianMean()
    x = np.linspace(-12, 12, 7)
    for mu in (-3.0, 0.0, 8.0):
        difference = task.log_likelihood(x, mu) - task.log_ratio(x, mu=mu)
        np.testing.assert_allclose(difference, task.log_evidence(x), atol=1e-10)
