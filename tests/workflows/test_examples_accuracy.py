"""The claims of the examples with exact answers; minutes each, so marked slow.

docs/examples.md holds the last tables that these printed. An example that takes its exact
answer from its own formula has that formula checked here, by means of its own.
"""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm

EXAMPLES = Path(__file__).parents[2] / "examples"


def load(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    return example


@pytest.mark.slow
@pytest.mark.timeout(3_600)
@pytest.mark.filterwarnings("default")  # PyMC tells of forks, ArviZ of its next version
@pytest.mark.parametrize("name", ["prior_swap", "regression", "marginalize_latents"])
def test_posteriors_are_exact(name, capsys):
    table = load(name).main()
    with capsys.disabled():
        print(f"\n{table.round(3).to_string()}")
    # 2,000 effective draws have an error of 0.02 sd in the mean and 2% in the sd: the rest of
    # what is allowed is the network's.
    assert table["ESS"].min() >= 2_000
    assert table["error / sd"].abs().max() <= 0.15
    assert (table["sd ratio"] - 1).abs().max() <= 0.1


def weighted_moments(log_weights, values):
    """Means and sds ``(k,)`` of values ``(n, k)``, and the effective number of draws."""
    weights = np.exp(log_weights - log_weights.max())
    weights /= weights.sum()
    mean = weights @ values
    n_effective = 1 / np.sum(weights**2)
    if n_effective < 5_000:
        raise RuntimeError(f"Too few effective draws to tell anything: {n_effective:.0f}.")
    return mean, (weights @ (values - mean) ** 2) ** 0.5, n_effective


# A mean of n weighted draws has an error of sd / sqrt(n), its sd about sd / sqrt(2 n) (more for
# heavy tails). Ten numbers and their sds: 5 errors happen once in 100,000 runs.
def assert_moments_agree(exact, drawn):
    (mean, sd), (mean_drawn, sd_drawn, n) = exact, drawn
    assert np.all(np.abs(mean - mean_drawn) < 5 * sd / n**0.5), "means differ"
    assert np.all(np.abs(sd / sd_drawn - 1) < 5 / n**0.5), "sds differ"


def hierarchy_by_importance(x, group, scale=1.5):
    """Draws of the prior, weighted by the likelihood."""
    rng, size = np.random.default_rng(1), 400_000
    tau = np.abs(rng.normal(0, scale, size))
    m = rng.normal(0, 2.5, size)
    mu = rng.normal(m[:, None], tau[:, None], (size, group.max() + 1))
    log_weights = norm.logpdf(x, mu[:, group], 1).sum(1)
    return weighted_moments(log_weights, np.column_stack([m, tau, mu]))


def regression_by_importance(time, x, new_time, spread=1.0):
    """The same for the regression; ``spread`` is the prior sd of a and b."""
    rng, size = np.random.default_rng(1), 400_000
    a, b = rng.normal(0, spread, (2, size, 1))
    c, d = rng.normal(0, 0.25, (2, size, 1))
    log_weights = norm.logpdf(x, a + b * time, np.exp(c + d * time)).sum(1)
    new = rng.normal(a + b * new_time, np.exp(c + d * new_time))
    return weighted_moments(log_weights, np.column_stack([a, b, c, d, new]))


GROUP = np.repeat(np.arange(4), [2, 3, 4, 5])
TIMES = np.linspace(-1, 1, 8)
NEW_TIMES = np.array([-1.0, 1.5])


def grouped_data():
    rng = np.random.default_rng(0)
    return rng.normal(rng.normal(1.0, 1.0, size=4)[GROUP], 1.0)


def regression_data():
    return np.random.default_rng(0).normal(0.5 + TIMES, np.exp(-0.2 + 0.3 * TIMES))


def test_exact_hierarchy_of_prior_swap():
    x = grouped_data()
    exact = load("prior_swap").exact_hierarchy(x, GROUP)
    assert_moments_agree(exact, hierarchy_by_importance(x, GROUP))


def test_another_hyperprior_is_told_from_it():
    x = grouped_data()
    exact = load("prior_swap").exact_hierarchy(x, GROUP)
    with pytest.raises(AssertionError, match="differ"):
        assert_moments_agree(exact, hierarchy_by_importance(x, GROUP, scale=1.2))


def test_exact_posterior_of_regression():
    x = regression_data()
    exact = load("regression").exact(TIMES, x, NEW_TIMES)
    assert_moments_agree(exact, regression_by_importance(TIMES, x, NEW_TIMES))


def test_another_prior_of_the_regression_is_told_from_it():
    x = regression_data()
    exact = load("regression").exact(TIMES, x, NEW_TIMES)
    with pytest.raises(AssertionError, match="differ"):
        assert_moments_agree(exact, regression_by_importance(TIMES, x, NEW_TIMES, spread=1.3))
