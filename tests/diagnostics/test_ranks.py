"""Ranks of true parameters among the weighted draws of their posteriors."""

import numpy as np
import pytest
import xarray as xr
from controls import ranked
from scipy.stats import kstest, norm

import pymc_nre as nre
from pymc_nre.diagnostics import normalization, sbc
from pymc_nre.diagnostics.ranks import _rank

TASK = nre.tasks.GaussianMean()
PAIRS = TASK.simulate(2_000, random_seed=1)


def ranks(ratio, pairs=PAIRS, **options):
    return ranked(ratio, pairs, **options)


def test_shapes_and_ranges(exact_ranks):
    assert dict(exact_ranks.sizes) == {"pair": 2_000, "parameter": 1}
    for name in ("pit", "density", "distance"):
        assert ((exact_ranks[name] >= 0) & (exact_ranks[name] <= 1)).all()
    assert ((exact_ranks["ess"] >= 1) & (exact_ranks["ess"] <= 300)).all()
    # Posteriors of sd 1 in a prior 20 wide: 1 / (E r^2 / (E r)^2) = 2 sqrt(pi) / 20 of the draws.
    assert abs(float(exact_ranks["ess"].median()) / 300 - 2 * np.pi**0.5 / 20) < 0.03


def test_ranks_are_those_of_the_posterior():
    # With many draws: x ~ N(mu, 1), a flat prior, so u = Phi(mu - x) far from the edges.
    pairs = TASK.simulate(400, random_seed=3)
    found = ranks(TASK.estimator(), pairs, draws=20_000)
    mu, x = pairs.parameters["mu"], pairs.x
    inner = np.abs(x) < 6
    pit = found["pit"].to_numpy()[inner, 0]
    # 20,000 draws of a pool of 20,000 are as good as 10,000 that differ, 0.177 of them effective:
    # an sd of at most 0.5 / sqrt(1,770) = 0.012 for each of 240.
    assert np.abs(pit - norm.cdf(mu - x)[inner]).max() < 5 * 0.012
    level = found["density"].to_numpy()[inner]
    assert np.abs(level - (2 * norm.cdf(np.abs(mu - x)) - 1)[inner]).max() < 5 * 0.012
    np.testing.assert_allclose(found["log_ratio"], TASK.estimator().log_ratio(x, mu=mu), atol=1e-4)


def test_they_are_uniform_with_however_few_draws():
    # And without its own weight the truth is too often the first or the last.
    rng = np.random.default_rng(7)
    mu = rng.uniform(-10, 10, 20_000)
    x = rng.normal(mu, 1.0)
    theta = np.concatenate([mu[:, None], rng.uniform(-10, 10, (len(mu), 10))], axis=1)
    weights = np.exp(-0.5 * (x[:, None] - theta) ** 2)
    found = _rank(theta, weights, rng)
    assert kstest(found, "uniform").pvalue > 0.001
    others = np.where(theta < mu[:, None], weights, 0)[:, 1:].sum(1) / weights[:, 1:].sum(1)
    assert kstest(others, "uniform").pvalue < 1e-20


def test_ties_are_broken_at_random():
    rng = np.random.default_rng(8)
    counts = rng.integers(0, 3, (20_000, 20)).astype(float)  # the first is one of them
    assert kstest(_rank(counts, np.ones_like(counts), rng), "uniform").pvalue > 0.001


def test_the_same_seed_gives_the_same_ranks(exact_ranks):
    xr.testing.assert_identical(ranks(TASK.estimator()), exact_ranks)
    assert not ranks(TASK.estimator(), seed=3)["pit"].equals(exact_ranks["pit"])


def test_few_effective_draws_are_told():
    task = nre.tasks.GaussianMean(half_width=1e6)
    with pytest.warns(nre.PosteriorWarning, match=r"fewer than .* effective draws of 300"):
        found = ranks(task.estimator(), task.simulate(1_000, random_seed=11))
    # Uniform as ever, and nothing to go by: nearly all ratios would pass.
    assert kstest(found["pit"].to_numpy()[:, 0], "uniform").pvalue > 0.001
    assert sbc(found)["verdict"].item() == "not known"
    assert normalization(found).attrs["verdict"] == "not known"


def test_of_several_points_in_a_simulation_one_is_ranked():
    rng = np.random.default_rng(1)
    mu = rng.uniform(-10, 10, 120)
    x = rng.normal(mu[:, None], 1.0, (120, 5))
    several = ranks(TASK.estimator(), nre.Simulations({"mu": mu}, x, iid=True), draws=100)
    first = ranks(TASK.estimator(), nre.Simulations({"mu": mu}, x[:, 0]), draws=100)
    assert several.sizes["pair"] == 120
    xr.testing.assert_identical(several, first)
