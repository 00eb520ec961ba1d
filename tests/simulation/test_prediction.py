"""Predictions: simulators that fail now and then, and those that are of something else."""

import sys

import numpy as np
import pymc as pm
import pytest
import xarray as xr
from untrained import make_estimator

import pymc_nre as nre
from pymc_nre.networks import MLP
from pymc_nre.simulation.prediction import failures_raise, predict

MU = np.linspace(-1, 1, 50)
WARNS = r"^The simulator {} failed in predictive sampling \({}\); these predictions are NaN\. Mend"


def predicted(simulator, batched=False, event_shape=(), mu=MU, seed=1):
    rng = np.random.default_rng(seed)
    return predict(nre.Simulator(simulator, batched), rng, {"mu": mu}, len(mu), event_shape)


def raising(rng, mu):
    if np.any(mu > 0.9):
        raise ZeroDivisionError(f"no such mu: {mu}")
    return rng.normal(mu)


def exiting(rng, mu):
    return sys.exit(1) if np.any(mu > 0.9) else rng.normal(mu)


def nothing(rng, mu):
    return np.where(mu > 0.9, np.inf, rng.normal(mu))


FAILING = {
    "raising": (raising, "ZeroDivisionError"),
    "exiting": (exiting, "SystemExit"),
    "nothing": (nothing, "NaN or infinite values"),
}


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("name", FAILING)
def test_a_simulator_that_fails_now_and_then_leaves_holes_and_a_warning(name, batched):
    simulator, kind = FAILING[name]
    with pytest.warns(nre.SimulationWarning, match=WARNS.format(name, kind)):
        x = predicted(simulator, batched)
    np.testing.assert_array_equal(np.isnan(x), MU > 0.9)
    with pytest.warns(nre.SimulationWarning):
        np.testing.assert_array_equal(predicted(simulator, batched), x)
    assert abs((x - MU)[MU <= 0.9].mean()) < 4 / 47**0.5


def test_predictions_of_simulators_that_work_are_those_that_were():
    rng = np.random.default_rng(1)
    np.testing.assert_array_equal(
        predicted(lambda rng, mu: rng.normal(mu)), [rng.normal(mu) for mu in MU]
    )
    rng = np.random.default_rng(1)
    np.testing.assert_array_equal(predicted(lambda rng, mu: rng.normal(mu), True), rng.normal(MU))


def model_of(simulator, batched, event_shape=()):
    """With the trace of 30 draws of mu."""
    ratio = make_estimator({"mu": ()}, event_shape, MLP((3,)))
    ratio = ratio.replace(simulator=nre.Simulator(simulator, batched))
    with pm.Model() as model:
        mu = pm.Normal("mu")
        data = np.zeros((4, *event_shape))
        nre.RatioLikelihood("x", ratio, observed=data, outside="ignore", mu=mu)
    return model, xr.Dataset({"mu": (("chain", "draw"), np.linspace(-1, 1, 30)[None])})


def posterior_predictive(*arguments):
    model, trace = model_of(*arguments)
    with model:
        drawn = pm.sample_posterior_predictive(trace, random_seed=1, progressbar=False)
    return trace["mu"].to_numpy(), drawn["posterior_predictive"]["x"].to_numpy()


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("name", FAILING)
def test_posterior_predictive_sampling_goes_on(name, batched):
    simulator, kind = FAILING[name]
    with pytest.warns(nre.SimulationWarning, match=WARNS.format(name, kind)) as caught:
        mu, x = posterior_predictive(simulator, batched)
    assert len({str(warning.message) for warning in caught}) == 1  # which Python shows once
    np.testing.assert_array_equal(np.isnan(x), np.broadcast_to(mu[..., None] > 0.9, x.shape))


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("name", FAILING)
def test_where_holes_are_of_no_use_the_first_is_told(name, batched):
    simulator, kind = FAILING[name]
    message = rf"^The simulator {name} failed at mu = 0\.918\d*: {kind}"
    with failures_raise(), pytest.raises(nre.SimulationError, match=message):
        predicted(simulator, batched)
    with pytest.warns(nre.SimulationWarning):  # outside of it they are as before
        predicted(simulator, batched)


WRONG = {
    "transposed": (lambda rng, mu: np.zeros((3, 2)), False, r"\(3, 2\)"),
    "flat": (lambda rng, mu: np.zeros(6), False, r"\(6,\)"),
    "one axis more": (lambda rng, mu: np.zeros((1, 2, 3)), False, r"\(1, 2, 3\)"),
    "a block transposed": (lambda rng, mu: np.zeros((len(mu), 3, 2)), True, r"\(3, 2\)"),
}


@pytest.mark.parametrize("name", WRONG)
def test_other_observations_than_the_ratio_knows_are_refused(name):
    simulator, batched, got = WRONG[name]
    message = rf"gives observations of shape {got}, and the ratio was trained on \(2, 3\)\. Pass si"
    with pytest.raises(ValueError, match=message):
        predicted(simulator, batched, (2, 3))
    if name == "transposed":  # as all of them, but slow to compile
        with pytest.raises(ValueError, match=message):
            posterior_predictive(simulator, batched, (2, 3))


@pytest.mark.parametrize(
    ("returned", "got"), [(np.zeros((2, 3, 50)), r"\(2, 3, 50\)"), (np.zeros(300), r"\(300,\)")]
)
def test_draws_must_come_first(returned, got):
    with pytest.raises(ValueError, match=rf"for each of its 50 draws, .* got shape {got}"):
        predicted(lambda rng, mu: returned, True, (2, 3))


def test_one_batched_for_a_single_draw_is_refused():
    """As a batched simulator that was attached without saying so: (1, 2, 3) for one draw."""
    with pytest.raises(ValueError, match=r"draws first, is Simulator\(function, batched=True\)"):
        predicted(lambda rng, mu: np.zeros((np.size(mu), 2, 3)), False, (2, 3))


@pytest.mark.parametrize("returned", [None, "no", 1j, np.ma.masked])
def test_what_is_no_observation_is_refused(returned):
    with pytest.raises((TypeError, ValueError), match="imulator returned"):
        predicted(lambda rng, mu: returned)


@pytest.mark.parametrize("batched", [False, True])
def test_a_simulator_of_other_parameters_is_refused(batched):
    def of_two(rng, mu, sigma):
        return rng.normal(mu, sigma)

    message = r"of_two\(rng, mu, sigma\) is called by .*of_two\(rng, mu=mu\): missing .* 'sigma'\."
    with pytest.raises(TypeError, match=message):
        predicted(of_two, batched)
    with pytest.raises(
        TypeError, match=r"<lambda>\(rng, nu\) is called by .*: missing .* 'nu'\. Pass"
    ):
        predicted(lambda rng, nu: nu, batched)


def test_nan_alone_may_stand_for_an_observation_that_failed():
    with pytest.warns(nre.SimulationWarning, match="NaN or infinite values"):
        x = predicted(lambda rng, mu: np.nan if mu > 0.9 else np.zeros(2), False, (2,))
    assert np.isnan(x).any(1).sum() == (MU > 0.9).sum()
