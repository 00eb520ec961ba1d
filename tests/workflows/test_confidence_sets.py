"""The example of confidence sets: its exact answer, and that its ratio's sets hold the truth.

The slow test prints the table of docs/examples.md.
"""

import numpy as np
import pytest
from example_modules import imported
from scipy.optimize import minimize_scalar
from scipy.stats import poisson

RUNS = 5


@pytest.fixture(scope="module")
def example():
    with imported("confidence_sets") as modules:
        yield modules["confidence_sets"]


def test_the_exact_profile_is_that_of_scipy(example):
    rng = np.random.default_rng(1)
    x = example.simulator(rng, np.full(RUNS, 0.6), np.ones(RUNS))

    def lowest(s):
        def minus(b):
            return -poisson.logpmf(x, example.expected(s, b)).sum()

        return minimize_scalar(minus, bounds=(0.3, 2), method="bounded").fun

    s = np.array([0.1, 0.6, 1.5])
    best = minimize_scalar(lowest, bounds=(0, 4), method="bounded").fun
    exact = 2 * (np.array([lowest(each) for each in s]) - best)
    np.testing.assert_allclose(example.exact_profile(x, s), exact, atol=0.02)


def test_the_credible_level_holds_its_mass(example):
    density = np.random.default_rng(2).exponential(size=(50, 60))
    level = example.credible_level(density, 0.9)
    assert density[density >= level].sum() / density.sum() == pytest.approx(0.9, abs=2e-3)


@pytest.mark.slow
@pytest.mark.timeout(3_600)
@pytest.mark.usefixtures("closed_figures")
def test_learned_sets_hold_the_signal(example, capsys):
    with capsys.disabled():
        table = example.main()
    # 1,000 data sets: .0095, of which four, and what 2,000 simulated ones tell of a quantile.
    assert (table["ratio, learned"] - 0.9).abs().max() < 0.05
