"""Ranks of true parameters among weighted draws, and what is read off them."""

import numpy as np
import pytest
import torch
import xarray as xr
from controls import changed
from scipy.integrate import quad
from scipy.stats import kstest, norm

import pymc_nre as nre
from pymc_nre.diagnostics import (
    coverage,
    normalization,
    posterior_ranks,
    reliability,
    sbc,
    tarp,
)
from pymc_nre.diagnostics.calibration import _shape, judge
from pymc_nre.diagnostics.ranks import _rank

TASK = nre.tasks.GaussianMean()
PAIRS = TASK.simulate(2_000, random_seed=1)


def ranks(ratio, pairs=PAIRS, draws=300, seed=2, **options):
    return posterior_ranks(
        ratio, pairs, draws=draws, random_seed=seed, progressbar=False, **options
    )


@pytest.fixture(scope="module")
def exact():
    return ranks(TASK.estimator())


def test_shapes_and_ranges(exact):
    assert dict(exact.sizes) == {"pair": 2_000, "parameter": 1}
    for name in ("pit", "density", "distance"):
        assert ((exact[name] >= 0) & (exact[name] <= 1)).all()
    assert ((exact["ess"] >= 1) & (exact["ess"] <= 300)).all()
    # Posteriors of sd 1 in a prior 20 wide: 1 / (E r^2 / (E r)^2) = 2 sqrt(pi) / 20 of the draws.
    assert abs(float(exact["ess"].median()) / 300 - 2 * np.pi**0.5 / 20) < 0.03


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


def test_thin_tails_are_named_though_the_middle_is_wide():
    rng = np.random.default_rng(13)
    u = np.concatenate([rng.uniform(0, 0.75, size=2_500), rng.uniform(0.95, 1, size=500)])
    made = xr.Dataset({"density": ("pair", u)}, attrs={"effective_pairs": 3_000})
    found = coverage(made, np.array([0.5, 0.95]))
    assert found["coverage"][0] > 0.53
    assert found["coverage"][1] < 0.94
    assert found.attrs["verdict"] == "too narrow"
    assert "95%" in found.attrs["summary"]


def test_ties_are_broken_at_random():
    rng = np.random.default_rng(8)
    counts = rng.integers(0, 3, (20_000, 20)).astype(float)  # the first is one of them
    assert kstest(_rank(counts, np.ones_like(counts), rng), "uniform").pvalue > 0.001


def test_the_exact_ratio_is_right(exact):
    assert coverage(exact).attrs["verdict"] == "right"
    assert sbc(exact)["verdict"].item() == "right"
    assert tarp(exact).attrs["verdict"] == "right"
    assert normalization(exact).attrs["verdict"] == "right"
    assert reliability(exact).attrs["verdict"] == "right"
    found = coverage(exact, np.array([0.5, 0.9]))
    assert np.all(np.abs(found["coverage"] - [0.5, 0.9]) < 4 * found["error"])


CONTROLS = {
    "sharp": ({"power": 1.5}, "too narrow", "too narrow", "too narrow", "too large", "too sure"),
    "wide": ({"power": 0.67}, "too wide", "too wide", "too wide", "too small", "too unsure"),
    # Shifted in theta regions hold the truth nearly as often.
    "theta": ({"of_theta": 0.3}, "right", "too low", "right", "right", None),
    "x": ({"of_x": 1.0}, "too narrow", "too high", "too narrow", "right", "too low"),
}


@pytest.mark.parametrize("control", CONTROLS)
def test_controls_are_caught_and_named(control):
    how, *expected = CONTROLS[control]
    found = ranks(changed(TASK.estimator(), **how))
    verdicts = [
        coverage(found).attrs["verdict"],
        sbc(found)["verdict"].item(),
        tarp(found).attrs["verdict"],
        normalization(found).attrs["verdict"],
        reliability(found).attrs["verdict"],
    ]
    for verdict, wanted in zip(verdicts, expected, strict=True):
        assert wanted in (None, verdict)
    assert sbc(found)["p_value"].item() < 1e-6


@pytest.mark.parametrize("name", ["LocationScale", "LinearGaussian", "PoissonRate"])
def test_other_exact_ratios_are_right(name):
    task = getattr(nre.tasks, name)()
    found = ranks(task.estimator(), task.simulate(1_000, random_seed=4), draws=300)
    assert coverage(found).attrs["verdict"] == "right"
    assert set(sbc(found)["verdict"].to_numpy()) == {"right"}
    assert tarp(found).attrs["verdict"] == "right"
    wrong = ranks(
        changed(task.estimator(), power=2.0), task.simulate(1_000, random_seed=4), draws=300
    )
    assert coverage(wrong).attrs["verdict"] == "too narrow"


def test_an_unknown_prior_is_said():
    bare = nre.Simulations(PAIRS.parameters, PAIRS.x)
    found = ranks(TASK.estimator(), bare)
    assert found.attrs["density"] == "ratio"
    assert found.attrs["effective_pairs"] == 1_000
    assert coverage(found).attrs["verdict"] == "right"
    known = ranks(TASK.estimator())
    assert known.attrs["density"] == "posterior"
    assert known.attrs["effective_pairs"] == pytest.approx(2_000 / 1.05)


def test_a_prior_that_is_not_flat_counts():
    # Regions of highest density are those of the posterior, not of the likelihood.
    task = nre.tasks.PoissonRate()
    pairs = task.simulate(300, random_seed=5)
    found = ranks(task.estimator(), pairs, draws=5_000)
    rate, x = pairs.parameters["rate"], pairs.x
    shape, inverse = task.shape + x, task.shape / task.mean + 1
    grid = np.linspace(1e-3, 60, 20_000)[:, None]
    log_p = (shape - 1) * np.log(grid) - inverse * grid
    log_truth = (shape - 1) * np.log(rate) - inverse * rate
    p = np.exp(log_p - log_p.max(0))
    level = np.where(log_p > log_truth, p, 0).sum(0) / p.sum(0)
    assert np.abs(found["density"] - level).mean() < 0.02


def test_a_ratio_that_is_not_normalized_has_no_evidence():
    ratio = TASK.estimator().replace(normalized=False)
    found = normalization(ranks(ratio))
    assert found.attrs["verdict"] == "not normalized"


def test_reliability_is_what_the_classifier_gets_right(exact):
    found = reliability(exact, bins=5)
    assert found["predicted"].sizes == {"bin": 5}
    assert np.all(np.diff(found["predicted"]) > 0)
    assert np.all(np.abs(found["observed"] - found["predicted"]) <= 4 * found["error"] + 1e-3)
    assert abs(found["balance"] - 1) < 4 * found["balance_error"]
    twice = reliability(ranks(changed(TASK.estimator(), power=3.0)), bins=5)
    assert twice["calibration_error"] > 3 * twice["calibration_error_of_chance"]
    shifted = TASK.estimator().replace(normalized=False)
    assert reliability(ranks(shifted)).attrs["verdict"] == "not normalized"
    with pytest.raises(ValueError, match="bins must be between 1 and 2000"):
        reliability(exact, bins=0)


def test_probabilities_that_tie_are_told_together():
    # An exact ratio of a binary parameter and a binary observation: two probabilities only.
    rng, n = np.random.default_rng(13), 5_000
    theta, other = rng.integers(2, size=(2, n))
    x = np.where(rng.random(n) < 0.8, theta, 1 - theta)
    values = {
        name: ("pair", np.log(np.where(t == x, 1.6, 0.4)))
        for name, t in (("log_ratio", theta), ("log_ratio_marginal", other))
    }
    found = reliability(xr.Dataset(values, attrs={"effective_pairs": n, "normalized": 1}))
    # An error of bins that share what they count is less than that of bins by themselves.
    assert found["calibration_error"] < 2 * found["calibration_error_of_chance"]
    assert np.all(np.abs(found["observed"] - found["predicted"]) < 4 * found["error"])


def test_memory_does_not_grow_with_draws(monkeypatch):
    # The same ranks, whether parameters are evaluated all at once or a few at a time.
    pairs = TASK.simulate(100, random_seed=12)
    monkeypatch.setattr(nre.diagnostics.ranks, "rows_at_once", lambda *_: 10)
    whole = ranks(TASK.estimator(), pairs)
    sizes = []
    head = type(TASK.estimator().network).head

    def watched(network, theta, features):
        logits = head(network, theta, features)
        sizes.append(logits.numel())
        return logits

    monkeypatch.setattr(type(TASK.estimator().network), "head", watched)
    monkeypatch.setattr("pymc_nre.estimators.evaluator._TABLE_NUMBERS", 64 * 50)
    xr.testing.assert_allclose(ranks(TASK.estimator(), pairs), whole)
    assert 25 < max(sizes) <= 50


def test_bounds_of_the_information(exact):
    # h(x) - h(x | mu); x has density Phi(t) / 20 at a distance t from either edge.
    edge = quad(lambda t: -norm.cdf(t) * norm.logcdf(t), -8, 8)[0] / 20
    exactly = np.log(20) + 2 * edge - 0.5 * np.log(2 * np.pi * np.e)
    found = normalization(exact)["information"]
    # log r has an sd of 1 / sqrt(2), from x - mu, in each of 2,000 pairs.
    assert np.all(np.abs(found - exactly) < 4 * 0.5**0.5 / 2_000**0.5)


def test_the_same_seed_gives_the_same_ranks(exact):
    xr.testing.assert_identical(ranks(TASK.estimator()), exact)


def test_bad_input():
    ratio = TASK.estimator()
    with pytest.raises(ValueError, match=r"expected the parameters .*mu.*, got .*rate"):
        ranks(ratio, nre.tasks.PoissonRate().simulate(100, random_seed=1))
    with pytest.raises(ValueError, match="at least 100 pairs, got 99"):
        ranks(ratio, TASK.simulate(99, random_seed=1))
    with pytest.raises(ValueError, match="draws must be at least 10, got 9"):
        ranks(ratio, draws=9)
    with pytest.raises(ValueError, match="levels must be numbers between 0 and 1"):
        coverage(ranks(ratio, TASK.simulate(100, random_seed=1)), np.array([0.0, 0.5]))


def test_p_values_are_those_of_scipy():
    rng = np.random.default_rng(6)
    for n in (100, 2_000):
        for _ in range(50):
            u = rng.uniform(size=n)
            assert _shape(u, n) == pytest.approx(kstest(u, "uniform").pvalue, rel=0.05, abs=1e-3)


def test_false_alarms_are_as_rare_as_they_say():
    # 1 in 100 of uniform ranks at most; the twin, a little too narrow, is found in most.
    rng = np.random.default_rng(9)
    alarms, found = 0, 0
    for _ in range(1_000):
        u = rng.uniform(size=500)
        alarms += judge(u, 500)[0] < 0.01
        found += judge(rng.beta(0.8, 0.8, size=500), 500)[0] < 0.01
    assert alarms <= 10 + 4 * 10**0.5
    assert found > 500


def narrow(half_width):
    task = nre.tasks.GaussianMean(half_width=half_width)
    return task.estimator(), task.simulate(1_000, random_seed=11)


def test_more_draws_than_the_pool_would_hold_raise_no_alarm():
    ratio, pairs = narrow(3e3)
    found = ranks(ratio, pairs, draws=30_000)
    assert coverage(found).attrs["verdict"] == "right"
    assert sbc(found)["verdict"].item() == "right"


def test_few_effective_draws_are_told():
    ratio, pairs = narrow(1e6)
    with pytest.warns(nre.PosteriorWarning, match=r"fewer than .* effective draws of 300"):
        found = ranks(ratio, pairs)
    assert sbc(found)["verdict"].item() == "right"
    assert normalization(found).attrs["verdict"] == "not known"


def test_an_unknown_prior_leaves_the_evidence_right():
    # A pair's own parameters among the draws would make it larger than one.
    ratio, pairs = narrow(100.0)
    found = ranks(ratio, nre.Simulations(pairs.parameters, pairs.x), draws=900)
    assert normalization(found).attrs["verdict"] == "right"
    assert (
        ranks(ratio, nre.Simulations(pairs.parameters, pairs.x), draws=5_000).attrs["draws"] == 999
    )


def test_simulations_that_failed_raise_no_alarm():
    def simulator(rng, mu):
        return np.where(mu > 0, rng.normal(mu, 1.0), np.nan)

    with pytest.warns(nre.SimulationWarning):
        pairs = nre.simulate(TASK.prior(), simulator, 4_000, batched=True, random_seed=1)
    found = ranks(TASK.estimator(), pairs)
    assert sbc(found)["verdict"].item() == "right"
    assert coverage(found).attrs["verdict"] == "right"


def test_a_ratio_that_knows_nothing_is_not_seen_but_tells_nothing():
    found = ranks(changed(TASK.estimator(), power=0.0))
    assert coverage(found).attrs["verdict"] == "right"
    assert normalization(found).attrs["verdict"] == "right"
    assert np.all(np.abs(normalization(found)["information"]) < 1e-6)


class WithHoles(type(TASK.estimator().network)):
    """NaN where parameters are large."""

    def head(self, theta, features):
        logits = super().head(theta, features)
        return torch.where(theta[..., 0] > 9.99, torch.nan, logits)


def test_a_ratio_with_holes_is_not_called_right():
    exact = TASK.estimator()
    network = WithHoles.__new__(WithHoles)
    network.__dict__.update(exact.network.__dict__)
    with pytest.raises(ValueError, match=r"NaN or infinite for .* observations"):
        ranks(exact.replace(network=network))
