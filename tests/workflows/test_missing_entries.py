"""Posteriors of incomplete observations against exact marginals, from a training of seconds."""

import numpy as np
import pytest
from benchmarks.problems.posteriors import moments
from scipy import stats
from scipy.special import softmax

import pymc_nre as nre
from pymc_nre.networks import MLP

TIMES = np.linspace(-1.5, 1.5, 4)
NOISE = 0.7 ** np.abs(np.subtract.outer(np.arange(4), np.arange(4)))
SETS, DRAWS = 60, 2_000
# Errors of means, in standard deviations: .07 and .15 here, by .02 over sixty observations. Zeros
# in the place of what is missing give .41 and .69.
ALLOWED = 0.25


def location_scale(rng, n):
    """Three normal numbers with a common mean and scale."""
    mu, sigma = rng.normal(0, 2, n), rng.uniform(0.3, 2, n)
    return {"mu": mu, "sigma": sigma}, rng.normal(mu[:, None], sigma[:, None], (n, 3))


def of_location_scale(x, mu, sigma):
    return stats.norm.logpdf(x[~np.isnan(x)][:, None], mu, sigma).sum(0)


def line(rng, n):
    """Four points of a line with correlated noise."""
    a, b = rng.normal(0, 2, n), rng.normal(0, 1, n)
    noise = rng.multivariate_normal(np.zeros(4), NOISE, n)
    return {"a": a, "b": b}, a[:, None] + b[:, None] * TIMES + noise


def of_line(x, a, b):
    seen = ~np.isnan(x)
    rest = x[seen] - a[:, None] - b[:, None] * TIMES[seen]
    return stats.multivariate_normal.logpdf(rest, cov=NOISE[np.ix_(seen, seen)])


PROBLEMS = {"location and scale": (location_scale, of_location_scale), "line": (line, of_line)}


def errors_and_widths(ratio, x, given, log_likelihood, parameters):
    """Means over observations ``(n, d)``, of the ratio at what it is given."""
    theta = np.stack([*parameters.values()], -1)
    errors, widths = [], []
    for row, values in zip(x, ratio.log_ratio(given[:, None], **parameters), strict=True):
        mean, sd = moments(theta, softmax(log_likelihood(row, *parameters.values())))
        found, spread = moments(theta, softmax(values))
        errors.append(np.abs(found - mean) / sd)
        widths.append(spread / sd)
    return np.mean(errors), np.mean(widths)


@pytest.fixture(scope="module", params=PROBLEMS)
def problem(request):
    simulate, log_likelihood = PROBLEMS[request.param]
    return simulate, log_likelihood, nre.Simulations(*simulate(np.random.default_rng(1), 12_000))


def incomplete(x, rule, rng):
    x = x.copy()
    if rule == "by what is observed":
        x[x[:, 0] > 0, 1:-1] = np.nan
        return x
    x[rng.random(x.shape) < 0.4] = np.nan
    return x[~np.isnan(x).all(1)]


def train(simulations, **options):
    return nre.train(
        simulations,
        network=MLP((64, 64)),
        epochs=10,
        batch_size=128,
        learning_rate=0.02,
        measure_budget=False,
        random_seed=2,
        progressbar=False,
        **options,
    )


@pytest.fixture(scope="module")
def ratio(problem):
    return train(problem[2], missing=0.35)


@pytest.mark.parametrize("rule", ["at random", "by what is observed"])
def test_posteriors_are_those_of_what_is_there(problem, ratio, rule):
    simulate, log_likelihood, _ = problem
    rng = np.random.default_rng(4)
    parameters, _ = simulate(rng, DRAWS)
    x = incomplete(simulate(rng, SETS)[1], rule, rng)
    error, width = errors_and_widths(ratio, x, x, log_likelihood, parameters)
    assert error < ALLOWED
    assert width == pytest.approx(1, abs=0.12)


def test_twin_zeros_without_a_mask_are_wrong(problem):
    simulate, log_likelihood, simulations = problem
    rng = np.random.default_rng(4)
    parameters, _ = simulate(rng, DRAWS)
    x = incomplete(simulate(rng, SETS)[1], "at random", rng)
    naive = train(simulations)
    error, width = errors_and_widths(naive, x, np.nan_to_num(x), log_likelihood, parameters)
    assert error > ALLOWED
    assert width < 1 - 0.12
