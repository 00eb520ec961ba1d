"""Draws of the prior that posteriors are made of, and what pairs they can be made for."""

import numpy as np
import pytest
import torch
import xarray as xr
from controls import ranked

import pymc_nre as nre
from pymc_nre.diagnostics import coverage, normalization, sbc

TASK = nre.tasks.GaussianMean()
PAIRS = TASK.simulate(2_000, random_seed=1)


def ranks(ratio, pairs=PAIRS, **options):
    return ranked(ratio, pairs, **options)


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


def narrow(half_width):
    task = nre.tasks.GaussianMean(half_width=half_width)
    return task.estimator(), task.simulate(1_000, random_seed=11)


def test_more_draws_than_the_pool_would_hold_raise_no_alarm():
    ratio, pairs = narrow(3e3)
    found = ranks(ratio, pairs, draws=30_000)
    assert coverage(found).attrs["verdict"] == "right"
    assert sbc(found)["verdict"].item() == "right"


def test_an_unknown_prior_leaves_the_evidence_right():
    # A pair's own parameters among the draws would make it larger than one.
    ratio, pairs = narrow(100.0)
    bare = nre.Simulations(pairs.parameters, pairs.x)
    for draws in (900, 5_000):
        found = ranks(ratio, bare, draws=draws)
        assert normalization(found).attrs["verdict"] == "right"
        assert found.attrs["draws"] == min(draws, 999)


def test_simulations_that_failed_raise_no_alarm():
    def simulator(rng, mu):
        return np.where(mu > 0, rng.normal(mu, 1.0), np.nan)

    with pytest.warns(nre.SimulationWarning):
        pairs = nre.simulate(TASK.prior(), simulator, 4_000, batched=True, random_seed=1)
    found = ranks(TASK.estimator(), pairs)
    assert sbc(found)["verdict"].item() == "right"
    assert coverage(found).attrs["verdict"] == "right"


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


def test_bad_input():
    ratio = TASK.estimator()
    with pytest.raises(ValueError, match=r"expected the parameters .*mu.*, got .*rate"):
        ranks(ratio, nre.tasks.PoissonRate().simulate(100, random_seed=1))
    with pytest.raises(ValueError, match="at least 100 pairs, got 99"):
        ranks(ratio, TASK.simulate(99, random_seed=1))
    with pytest.raises(ValueError, match="draws: expected at least 10, got 9"):
        ranks(ratio, draws=9)
