"""The example of predators and prey: its equations, its exact posterior, and that of its ratio."""

import numpy as np
import pandas as pd
import pytest
from example_modules import EXAMPLES, imported
from scipy.integrate import solve_ivp
from scipy.stats import norm


@pytest.fixture(scope="module")
def example():
    with imported("lotka_volterra") as modules:
        yield modules["lotka_volterra"]


@pytest.fixture(scope="module")
def usual(example):
    return np.array(list(example.USUAL.values())).T


@pytest.fixture(scope="module")
def x():
    data = pd.read_csv(EXAMPLES / "hudson_bay.csv", comment="#")
    assert data["year"].tolist() == list(range(1900, 1921))
    return np.log(data[["hare", "lynx"]].to_numpy().T)


def test_animals_follow_the_equations_as_rates_say_them(example, usual):
    theta = usual[0] + 0.3 * usual[1] * np.array([1, -1, 1, -1, 1, -1, 1, -1])
    p = {name: value.item() for name, value in example.natural(theta[None]).items()}

    def slope(_, numbers):
        hares, lynx = numbers
        growth = p["alpha"] - p["beta"] * lynx, p["delta"] * hares - p["gamma"]
        return np.multiply(numbers, growth)

    start = p["hares_0"], p["lynx_0"]
    solved = solve_ivp(slope, (0, 20), start, t_eval=np.arange(21), rtol=1e-9, atol=1e-9)
    found = example.animals(theta[None], 21)[0]
    np.testing.assert_allclose(found, np.log(solved.y), atol=2e-3)
    assert np.ptp(found) > 1  # they do cycle


def test_parameters_go_there_and_back(example, usual):
    theta = np.random.default_rng(1).normal(*usual, (10, 8))
    back = example.of_ratio(np.log, **example.natural(theta))
    np.testing.assert_allclose(np.column_stack([back[name] for name in example.USUAL]), theta)


def prior_density(example, theta):
    """The log density of the model's prior, by a numerical Jacobian."""

    def values(at):
        return np.array([value.item() for value in example.natural(at[None]).values()])

    h = 1e-5
    slopes = [(values(theta + h * e) - values(theta - h * e)) / (2 * h) for e in np.eye(8)]
    logs = np.log(values(theta)[4:])
    rates = norm.logpdf(values(theta)[:4], *np.array(list(example.RATE_PRIOR.values())).T).sum()
    series = norm.logpdf(logs, *np.array(list(example.LOG_PRIOR.values())).T).sum() - logs.sum()
    return rates + series + np.linalg.slogdet(slopes)[1]


def test_the_prior_is_that_of_the_model(example, usual):
    theta = np.random.default_rng(2).normal(*usual, (5, 8))
    by_slopes = np.array([prior_density(example, own) for own in theta])
    found = example.log_prior(theta)
    np.testing.assert_allclose(found - found[0], by_slopes - by_slopes[0], atol=1e-6)


def means(example, x, usual, log_prior):
    theta, weights = example.weighted(
        lambda at: example.log_likelihood(at, x) + log_prior(at), *usual, seed=1
    )
    assert 1 / np.sum(weights**2) > 5_000
    return {name: example.moments(value, weights) for name, value in example.natural(theta).items()}


def furthest(example, found):
    """From the means of the case study, which have Monte Carlo errors of 1,000 or more draws."""
    return max(abs(found[name][0] - at) / found[name][1] for name, at in example.PUBLISHED.items())


def test_the_exact_posterior_is_the_published_one(example, usual, x):
    """Printed means are rounded: 0.0005 of delta, say, are 0.13 sd."""
    assert furthest(example, means(example, x, usual, example.log_prior)) < 0.15


def test_another_prior_is_told_from_it(example, usual, x):
    def other(theta):
        return example.log_prior(theta) - 20 * example.natural(theta)["alpha"]

    assert furthest(example, means(example, x, usual, other)) > 0.5


@pytest.mark.slow
@pytest.mark.timeout(3_600)
@pytest.mark.filterwarnings("default")  # PyMC tells of forks, ArviZ of its next version
def test_the_ratio_has_the_exact_posterior(example, capsys):
    table = example.main()
    with capsys.disabled():
        print(f"\n{table.round(3).to_string()}")
    assert table["ESS"].min() >= 2_000
    assert table["error / sd"].abs().max() <= 0.25
    assert (table["sd ratio"] - 1).abs().max() <= 0.15
