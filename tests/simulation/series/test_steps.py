"""A step that is repeated: whole series, pasts of them, and forecasts."""

import numpy as np
import pymc as pm
import pytest
import xarray as xr
from scipy import stats

import pymc_nre as nre

PRIOR = {"phi": pm.Uniform.dist(-0.9, 0.9)}


def step(rng, past, phi):
    return rng.normal(phi * past[-1], 1.0)


def steps_at_once(rng, past, phi):
    return rng.normal(phi * past[:, -1], 1.0)


def simulate(step=step, n=30, start=(0.5,), length=6, **options):
    options = {"random_seed": 1, "progressbar": False} | options
    return nre.simulate_series(PRIOR, step, n, start=start, length=length, **options)


def test_each_step_is_given_its_past():
    def counting(rng, past, phi):
        assert past.shape == (2, 3)
        return past.sum(0) + phi

    series = simulate(counting, start=np.arange(6.0).reshape(2, 3), length=5)
    assert series.event_shape == (5, 3)
    x, phi = series.x, series.parameters["phi"][:, None]
    np.testing.assert_array_equal(x[:, :2], np.broadcast_to(x[0, :2], (30, 2, 3)))
    for t in (2, 3, 4):
        np.testing.assert_allclose(x[:, t], x[:, t - 2] + x[:, t - 1] + phi)


def test_batched_steps_have_the_distribution_of_single_ones():
    one = simulate(n=1_000, length=30)
    other = simulate(steps_at_once, n=1_000, length=30, batched=True, random_seed=2)
    assert stats.ks_2samp(one.x[:, -1], other.x[:, -1]).pvalue > 1e-4


def test_first_values_may_be_drawn():
    def stationary(rng, phi):
        return rng.normal(0, 1 / np.sqrt(1 - phi**2), size=1)

    series = simulate(start=stationary, n=2_000, length=3)
    z = series.x * np.sqrt(1 - series.parameters["phi"] ** 2)[:, None]
    # Stationary at each time; that of a series from a fixed value is not at the first step.
    assert all(stats.kstest(z[:, t], "norm").pvalue > 1e-4 for t in range(3))
    series = simulate(n=4_000, length=3)
    z = series.x[:, 1] * np.sqrt(1 - series.parameters["phi"] ** 2)
    assert stats.kstest(z, "norm").pvalue < 1e-4


def test_a_step_may_not_change_what_was():
    def careless(rng, past, phi):
        past[:] = 100.0
        return 1.0

    assert simulate(careless).x.max() == 1.0


def test_series_that_explode_are_left_out():
    def exploding(rng, past, phi):
        return np.inf if phi > 0 else past[-1]

    with pytest.warns(nre.SimulationWarning, match="failed and were left out"):
        series = simulate(exploding)
    assert len(series) + series.n_failed == 30
    assert (series.parameters["phi"] <= 0).all()


def test_dependent_pasts_of_the_same_series_are_refused():
    """The spread of a past goes with phi, and so does its sign with a drift."""
    prior = {"drift": pm.Uniform.dist(-1, 1)}
    series = nre.simulate_series(
        prior,
        lambda rng, past, drift: rng.normal(drift + 0.5 * past[-1], 1.0),
        200,
        start=[0.0],
        length=20,
        random_seed=1,
        progressbar=False,
    )
    cut = nre.transitions(series)
    own = {"drift": series.parameters["drift"][cut.series]}
    with pytest.raises(ValueError, match="goes with the parameter drift"):
        nre.Simulations(own, cut.next, conditions={"past": cut.past})
    others = {"drift": np.random.default_rng(2).permutation(own["drift"])}
    nre.Simulations(others, cut.next, conditions={"past": cut.past})  # the twin is not


def test_forecast_goes_on_from_the_past():
    phi = np.repeat(0.8, 4_000)
    x = nre.forecast(steps_at_once, [9.0, 2.0], 3, {"phi": phi}, batched=True, random_seed=1)
    assert x.shape == (4_000, 3)
    for k in (1, 2, 3):
        variance = sum(0.64**j for j in range(k))
        z = (x[:, k - 1] - 2.0 * 0.8**k) / np.sqrt(variance)
        assert stats.kstest(z, "norm").pvalue > 1e-4
    assert stats.kstest(x[:, 1] - 2.0 * 0.8, "norm").pvalue < 1e-4  # which is the first step's


def test_forecast_of_a_posterior_keeps_chains_and_draws():
    def vector(rng, past, beta, c):
        return past[-1] * c + beta

    beta = xr.DataArray(np.arange(24.0).reshape(2, 3, 4), dims=("chain", "draw", "k"))
    draws = {"beta": beta.transpose("draw", "k", "chain"), "c": xr.ones_like(beta[..., 0])}
    x = nre.forecast(vector, np.zeros((1, 4)), 2, draws)
    assert x.shape == (2, 3, 2, 4)
    np.testing.assert_array_equal(x[:, :, 1], 2 * beta)


def test_a_failing_step_leaves_a_hole():
    def failing(rng, past, phi):
        if phi > 0.5:
            raise ArithmeticError("too large")
        return past[-1]

    with pytest.warns(nre.SimulationWarning, match="The simulator failing failed"):
        x = nre.forecast(failing, [1.0], 2, {"phi": [0.1, 0.9]})
    np.testing.assert_array_equal(x, [[1, 1], [np.nan, np.nan]])


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"start": 0.0}, ValueError, r"start: expected the values .* A single value is \[value\]"),
        ({"start": []}, ValueError, "start: expected the values"),
        ({"start": [np.nan]}, ValueError, "start: 1 of 1 values are NaN"),
        ({"start": lambda rng: [0.0]}, TypeError, r"is called by <lambda>\(rng, phi=phi\)"),
        (
            {"start": lambda rng, phi: 0.0},
            nre.SimulationError,
            "start: .* first values of a series",
        ),
        ({"length": 1}, ValueError, "length: expected at least 2"),
        ({"start": [0.0] * 6}, ValueError, "length: expected more than the 6 values"),
        ({"step": lambda rng, phi: 0.0}, TypeError, "A step is given its past and every"),
        (
            {"step": lambda rng, past, phi: past},
            nre.SimulationError,
            r"one value of shape \(\), .*\(1,\)",
        ),
        ({"step": lambda rng, past, phi: None}, nre.SimulationError, "returned None"),
        ({"step": 3}, TypeError, "step must be a function step"),
        ({"step": steps_at_once}, nre.SimulationError, "All of 30 simulations failed"),
    ],
)
def test_bad_steps_are_told(change, error, match):
    with pytest.raises(error, match=match):
        simulate(**change)


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"parameters": {}}, ValueError, "draws of one at least, got none"),
        ({"parameters": [0.5]}, TypeError, "parameters: expected draws by name, got list"),
        ({"parameters": {"phi": 0.5}}, ValueError, r"same draws of each.* phi: \(\)"),
        ({"parameters": {"phi": [0.5], "c": [1, 2]}}, ValueError, "same draws of each"),
        ({"parameters": {"psi": [0.5]}}, TypeError, "unexpected keyword|missing"),
        ({"past": 1.0}, ValueError, "past: expected the values"),
        ({"steps": 0}, ValueError, "steps: expected at least 1"),
        ({"step": None}, TypeError, "step must be a function"),
    ],
)
def test_bad_forecasts_are_told(change, error, match):
    given = {"step": step, "past": [1.0], "steps": 2, "parameters": {"phi": [0.5]}} | change
    with pytest.raises(error, match=match):
        nre.forecast(**given)
