"""Do posteriors close in on the truth as trials add up?"""

import numpy as np
import pymc as pm
import pytest
from controls import changed

import pymc_nre as nre
from pymc_nre.diagnostics import convergence
from pymc_nre.diagnostics.concentration import _result, _sum
from pymc_nre.estimators.evaluator import TorchEvaluator

TASK = nre.tasks.GaussianMean()
PAIRS = TASK.simulate(500, random_seed=1)


def follow(ratio, pairs=PAIRS, **options):
    options = {"n": (1, 10, 100), "random_seed": 2, "progressbar": False} | options
    return convergence(ratio, pairs, **options)


@pytest.fixture(scope="module")
def exact():
    return follow(TASK.estimator(), truths=40)


def test_at_the_rate_of_the_exact_posterior(exact):
    # Sd 1 / sqrt(n), but near the edges of the prior; 300 draws give it to 6 %, 40 truths to 1 %.
    spread = np.median(exact["spread"].isel(parameter=0), axis=0)
    np.testing.assert_allclose(spread, [1, 0.1**0.5, 0.1], rtol=0.06)
    error = exact["error"].isel(parameter=0, n=2).to_numpy()
    # The sd of 40 errors of sd 0.1 is known to 1 / sqrt(80).
    assert np.std(error) == pytest.approx(0.1, rel=4 / 80**0.5)
    assert exact.attrs["trials"] == 100
    assert exact.attrs["verdict"] == "right"
    assert np.all(exact["ess"] > 100)


def test_a_small_shift_is_found_where_trials_add_up():
    shifted = follow(changed(TASK.estimator(), of_theta=0.2), truths=40)
    assert list(shifted["verdict"].to_numpy()[[0, 2]]) == ["right", "too low"]
    assert list(shifted["worst"].to_numpy()[[0, 2]]) == ["", "mu"]
    assert (shifted.attrs["verdict"], shifted.attrs["parameter"]) == ("too low", "mu")
    assert shifted.attrs["trials"] in (1, 10)
    assert f"with {10 * shifted.trials} those of mu are too low" in shifted.attrs["summary"]
    mean = float(shifted["error"].isel(n=2).mean())
    assert mean == pytest.approx(-0.2, abs=4 * 0.1 / 40**0.5)


def test_two_parameters_and_a_start_beyond_one_trial():
    task = nre.tasks.LocationScale()
    found = follow(task.estimator(), task.simulate(500, random_seed=4), n=(20, 200))
    assert found.attrs["trials"] == 200


def test_a_prior_whose_parameters_depend_on_one_another():
    # Proposals leave the support, where the scale of another parameter would be negative.
    with pm.Model() as prior:
        sigma = pm.HalfNormal("sigma", 1.0)
        pm.Normal("m", 0.0, sigma)

    def simulator(rng, sigma, m):
        return rng.normal(m, 0.1 + sigma)

    pairs = nre.simulate(prior, simulator, 3_000, batched=True, random_seed=1, progressbar=False)
    ratio = nre.train(pairs, epochs=5, random_seed=1, progressbar=False)
    found = follow(ratio, pairs, n=(1, 10), truths=10)
    assert np.isfinite(found["spread"]).all()


def test_the_ratio_is_not_asked_outside_of_the_support(monkeypatch):
    # Small rates make posteriors at the edge of it; there the exact ratio is NaN.
    task, seen, table = nre.tasks.PoissonRate(mean=0.5), [], TorchEvaluator.table

    def recorded(evaluator, theta, x):
        seen.append(theta.min())
        return table(evaluator, theta, x)

    monkeypatch.setattr(TorchEvaluator, "table", recorded)
    follow(task.estimator(), task.simulate(500, random_seed=1), n=(1, 10), truths=10)
    assert min(seen) > 0


def test_more_draws_than_are_evaluated_at_once():
    found = follow(TASK.estimator(), n=(1, 2), truths=10, draws=300_000)
    assert np.isfinite(found["spread"]).all()


def test_nothing_known_is_not_called_wrong():
    found = _result(TASK.estimator(), np.full((20, 2, 4), np.nan), np.zeros((20, 1)), (1, 10))
    assert found.attrs["verdict"] == "not known"
    assert found.attrs["trials"] == 0
    assert "Too few posteriors" in found.attrs["summary"]


def test_bad_input():
    with pytest.raises(ValueError, match=r"growing numbers of trials, got \(10, 1\)"):
        follow(TASK.estimator(), n=(10, 1))
    with pytest.raises(ValueError, match="truths: expected at least 10, got 5"):
        follow(TASK.estimator(), truths=5)
    with pytest.raises(ValueError, match="do not know it"):
        follow(TASK.estimator(), nre.Simulations(PAIRS.parameters, PAIRS.x))


@pytest.mark.parametrize("holes", [[0], [0, 30, 31], [3, 99]])
def test_holes_are_counted_by_trial_and_cannot_cancel(holes):
    class Holed:
        """Plus infinity at one draw of a trial, beside minus infinity at another."""

        def table(self, theta, x):
            found = np.zeros((len(x), theta.shape[1]))
            rows = np.isin(x, holes)
            found[rows, 5], found[~rows, 5] = np.inf, -np.inf
            return found

    theta = np.zeros((10_000, 1))
    with pytest.raises(ValueError, match=f"infinite for {len(holes)} of 100 observations"):
        _sum(Holed(), theta, np.arange(100.0))


def test_minus_infinity_alone_is_a_log_ratio():
    class Cut:
        def table(self, theta, x):
            return np.where(theta[..., 0] > x[:, None], -np.inf, 1.0)

    found = _sum(Cut(), np.array([[0.0], [2.0]]), np.array([1.0, 5.0]))
    np.testing.assert_array_equal(found, [2.0, -np.inf])


def test_simulations_that_fail_now_and_then_do_not_stop_it():
    def failing(rng, mu):
        x = rng.normal(mu, 1.0)
        return np.where(rng.random(len(mu)) < 0.01, np.nan, x)

    simulator = nre.Simulator(failing, batched=True)
    with pytest.warns(nre.SimulationWarning, match=r"^convergence: \d+ of .* simulations failed"):
        found = follow(TASK.estimator(), simulator=simulator, truths=20)
    assert found.attrs["trials"] == 100


def test_posteriors_as_wide_as_the_prior_are_not_called_right():
    found = follow(changed(TASK.estimator(), power=0.0))
    assert found.attrs["verdict"] == "not known"
    assert found.attrs["trials"] == 0
    assert "as wide as the prior: nothing is known" in found.attrs["summary"]
