import numpy as np
import pandas as pd
import pymc as pm
import pytensor
import pytest
from jax_process import process_with_jax
from untrained import make_estimator

import pymc_nre as nre
from pymc_nre.exceptions import DomainWarning
from pymc_nre.networks import MLP, DeepSet
from pymc_nre.networks.beside import Beside
from pymc_nre.networks.incomplete import Incomplete
from pymc_nre.simulation.conditions.layout import Conditions
from pymc_nre.simulation.conditions.missing import Missing

NAN = np.nan
DATA = np.array([[0.5, NAN, 1.0], [NAN] * 3, [1.0, -2.0, NAN], [0.1, 0.2, 0.3]])
OPTIONS = {"shapes": {"mu": ()}, "event_shape": (3,)}
THERE = np.array([True, False, True, True])


def simulator(rng, mu):
    return rng.normal(mu, 1.0, 3)


def ratio(embedding=None, **options):
    network = MLP((8, 4), activation="tanh", embedding=Incomplete(embedding))
    law = Missing.of(0.4, (3,))
    return make_estimator(**OPTIONS, network=network, missing=law, **options)


def model(made, observed, engine="auto", **given):
    with pm.Model() as built:
        mu = pm.Normal("mu", 0, 1)
        nre.RatioLikelihood("x", made, mu=mu, observed=observed, engine=engine, **given)
    return built


def log_likelihoods(built, mu=0.7):
    """Of each observation, and the derivative of their sum."""
    [rv] = built.observed_RVs
    terms = built.logp(rv, sum=False)[0]
    gradient = pytensor.grad(terms.sum(), built.value_vars[0])
    return built.compile_fn([terms, gradient])({"mu": mu})


def derivative(made, mu=0.7, x=DATA):
    step = 1e-6
    up, down = (made.log_ratio(x, mu=mu + sign * step).sum() for sign in (1, -1))
    return (up - down) / (2 * step)


@pytest.mark.parametrize(("engine", "outside"), [("compiled", "repel"), ("torch", "ignore")])
def test_the_likelihood_is_that_of_what_is_there(engine, outside):
    made = ratio()
    built = model(made, DATA, engine, outside=outside)
    assert [rv.name for rv in built.free_RVs] == ["mu"]  # PyMC has imputed nothing
    values, gradient = log_likelihoods(built)
    np.testing.assert_allclose(values, made.log_ratio(DATA, mu=0.7), rtol=1e-9)
    assert values[1] == 0.0
    assert (values[THERE] != 0).all()
    assert gradient == pytest.approx(derivative(made), rel=1e-5)


@pytest.mark.parametrize(("engine", "outside"), [("compiled", "repel"), ("torch", "reject")])
def test_an_observation_without_numbers_counts_for_nothing_anywhere(engine, outside):
    with pm.Model() as built:
        mu = pm.Normal("mu", 0, 1, shape=4)
        nre.RatioLikelihood("x", ratio(), mu=mu, observed=DATA, engine=engine, outside=outside)
    terms = built.logp(built["x"], sum=False)[0]
    gradient = pytensor.grad(terms[1], built.value_vars[0])
    value, slope = built.compile_fn([terms[1], gradient])({"mu": np.full(4, 1e3)})  # far outside
    assert value == 0.0
    assert (slope == 0).all()


@pytest.mark.parametrize(
    "observed",
    [np.ma.masked_invalid(DATA), np.ma.array(np.nan_to_num(DATA, nan=7.0), mask=np.isnan(DATA)),
     pd.DataFrame(DATA), DATA.tolist()],
)  # fmt: skip
def test_masks_are_nan(observed):
    made = ratio()
    built = model(made, observed)
    np.testing.assert_array_equal(built.rvs_to_values[built["x"]].data, DATA)
    values = [each.log_ratio(of, mu=0.7) for each, of in ((made, observed), (made, DATA))]
    np.testing.assert_array_equal(*values)


@pytest.mark.parametrize("engine", ["compiled", "torch"])
def test_data_may_be_replaced_by_incomplete_ones(engine):
    made = ratio()
    with pm.Model() as built:
        data = pm.Data("data", np.zeros((2, 3)))
        mu = pm.Normal("mu", 0, 1)
        nre.RatioLikelihood("x", made, mu=mu, observed=data, engine=engine, shape=data.shape)
    function = built.compile_fn(built.logp(built["x"], sum=False)[0])
    for values in (DATA, DATA[:3] + 1, np.ones((2, 3))):
        data.set_value(values)
        expected = made.log_ratio(values, mu=0.7)
        np.testing.assert_allclose(function({"mu": 0.7}), expected, rtol=1e-9)


@pytest.mark.parametrize("engine", ["compiled", "torch"])
def test_set_data_may_bring_holes(engine):
    made = ratio(simulator=simulator)
    with pm.Model() as built:
        data = pm.Data("data", np.zeros((2, 3)))
        mu = pm.Normal("mu", 0, 1)
        x = nre.RatioLikelihood("x", made, mu=mu, observed=data, engine=engine, shape=data.shape)
        pm.set_data({"data": DATA})
    values = built.compile_fn(built.logp(x, sum=False)[0])({"mu": 0.7})
    np.testing.assert_allclose(values, made.log_ratio(DATA, mu=0.7), rtol=1e-9)
    with built:
        assert pm.sample_prior_predictive(3).prior_predictive["x"].shape == (1, 3, 4, 3)


def test_numbers_under_a_mask_of_replaced_data_are_refused():
    with pm.Model() as built:
        data = pm.Data("data", np.zeros((2, 3)))
        nre.RatioLikelihood("x", ratio(), mu=pm.Normal("mu"), observed=data)
        pm.set_data({"data": np.ma.masked_equal(np.eye(3)[:2], 0)})
    with pytest.raises(ValueError, match=r"4 numbers under a mask.*data\.filled\(np\.nan\)"):
        built.compile_logp()


@pytest.mark.parametrize("engine", ["compiled", "torch"])
def test_infinite_numbers_are_no_missing_ones(engine):
    made, observed = ratio(), np.where(np.isnan(DATA), -np.inf, DATA)
    with pytest.raises(ValueError, match="x: observed: 5 of 12 values are infinite"):
        model(made, observed)
    with pm.Model() as built:
        data = pm.Data("data", np.zeros((4, 3)))
        nre.RatioLikelihood("x", made, mu=pm.Normal("mu"), observed=data, engine=engine)
    function = built.compile_logp()
    data.set_value(observed)
    with pytest.raises((ValueError, pm.logprob.utils.ParameterValueError)):
        function({"mu": 0.7})


def test_wholly_missing_data_are_refused():
    made, empty = ratio(), np.full((4, 3), NAN)
    with pytest.raises(ValueError, match="x: observed: all 12 values are missing"):
        model(made, empty)
    with pytest.raises(ValueError, match="log_ratio: x: all 12 values are missing"):
        nre.log_ratio(made, empty, mu=0.5)
    with pytest.raises(ValueError, match="posterior_grid: x: all 12 values are missing"):
        nre.posterior_grid(made, empty, {"mu": pm.Normal.dist()})


def test_a_ratio_of_whole_observations_refuses_holes_and_tells_the_way_out():
    made = make_estimator(**OPTIONS, network=MLP((8, 4)))
    for observed in (DATA, np.ma.masked_invalid(DATA)):
        with pytest.raises(ValueError, match=r"nre\.train\(simulations, missing=observed\)"):
            model(made, observed)
    with pm.Model() as built:
        data = pm.Data("data", np.zeros((4, 3)))
        nre.RatioLikelihood("x", made, mu=pm.Normal("mu"), observed=data, engine="torch")
    function = built.compile_logp()
    data.set_value(DATA)
    with pytest.raises(pm.logprob.utils.ParameterValueError, match="missing=observed"):
        function({"mu": 0.7})


def test_patterns_that_training_never_saw_are_warned_of():
    network = MLP((8, 4), embedding=Incomplete())
    made = make_estimator(**OPTIONS, network=network, missing=Missing.of(DATA, (3,)))
    model(made, DATA)
    with pytest.warns(DomainWarning, match="25.0% of the observations have patterns"):
        model(made, DATA[:, ::-1])
    with pytest.warns(DomainWarning, match="posterior_grid: numbers are missing as they never"):
        nre.posterior_grid(made, DATA[:, ::-1], {"mu": pm.Normal.dist()})


def test_a_symbolic_log_ratio_takes_holes():
    made = ratio()
    values = nre.log_ratio(made, DATA[:, None], mu=np.array([0.1, 0.7])).eval()
    expected = made.log_ratio(DATA[:, None], mu=np.array([0.1, 0.7]))
    np.testing.assert_allclose(values, expected, rtol=1e-9)
    assert (values[1] == 0).all()


@pytest.mark.parametrize("engine", ["compiled", "torch"])
def test_conditions_are_known_whatever_is_missing(engine):
    known = Conditions({"dose": ()}, (3,), (0.0,), (1.0,))
    network = MLP((8, 4), activation="tanh", embedding=Beside(Incomplete(), (3,)))
    made = make_estimator(
        {"mu": ()}, (4,), network, missing=Missing.of(0.4, (3,)), conditions=known
    )
    dose = np.linspace(0, 1, 4)
    values, _ = log_likelihoods(model(made, DATA, engine, dose=dose))
    np.testing.assert_allclose(values, made.log_ratio(DATA, mu=0.7, dose=dose), rtol=1e-9)
    assert values[1] == 0.0
    assert (made.log_ratio(DATA, mu=0.7, dose=1 - dose)[THERE] != values[THERE]).all()
    with pm.Model() as built:
        data, doses = pm.Data("data", DATA[3:]), pm.Data("doses", dose[3:])
        mu = pm.Normal("mu", 0, 1)
        nre.RatioLikelihood("x", made, mu=mu, dose=doses, observed=data, engine=engine)
        data.set_value(DATA)
        doses.set_value(dose)
    function = built.compile_fn(built.logp(built["x"], sum=False)[0])
    np.testing.assert_allclose(function({"mu": 0.7}), values, rtol=1e-9)
    doses.set_value(np.array([0.1, 0.2, NAN, 0.4]))
    with pytest.raises((ValueError, pm.logprob.utils.ParameterValueError)):
        function({"mu": 0.7})


def test_predictions_are_of_all_numbers():
    built = model(ratio(simulator=simulator), DATA)
    with built:
        idata = pm.sample_prior_predictive(20, random_seed=1)
    predicted = idata.prior_predictive["x"].to_numpy()
    assert predicted.shape == (1, 20, 4, 3)
    assert np.isfinite(predicted).all()
    np.testing.assert_array_equal(idata.observed_data["x"], DATA)


def test_posteriors_without_mcmc_take_what_is_there():
    made, prior = ratio(), {"mu": pm.Normal.dist(0, 1)}
    whole = nre.posterior_grid(made, DATA, prior, trials=True)
    left = nre.posterior_grid(made, DATA[THERE], prior, trials=True)
    np.testing.assert_allclose(whole["mean"], left["mean"], rtol=1e-9)
    each = nre.posterior_grid(made, DATA, prior)
    assert float(each["mean"][1, 0]) == pytest.approx(0, abs=1e-3)  # the prior
    some = nre.weighted_draws(made, DATA, prior, trials=True, random_seed=1)
    rest = nre.weighted_draws(made, DATA[THERE], prior, trials=True, random_seed=1)
    np.testing.assert_allclose(some["mean"], rest["mean"], rtol=1e-9)


def by_jax(replace):
    made = ratio(DeepSet((8, 4)))
    with pm.Model() as built:
        data = pm.Data("data", np.zeros((4, 3))) if replace else DATA
        mu = pm.Normal("mu", 0, 1)
        nre.RatioLikelihood("x", made, mu=mu, observed=data)
        if replace:
            pm.set_data({"data": DATA})
    terms = built.logp(built["x"], sum=False)[0]
    outputs = [terms, pytensor.grad(terms.sum(), built.value_vars[0])]
    function = pytensor.function(built.value_vars, outputs, mode="JAX")
    return [np.asarray(each) for each in function(np.array(0.7))]


@pytest.mark.parametrize("replace", [pytest.param(False, marks=pytest.mark.one_python), True])
def test_jax_takes_holes(with_jax, replace):
    values, gradient = with_jax(by_jax, replace)
    made = ratio(DeepSet((8, 4)))
    np.testing.assert_allclose(values, made.log_ratio(DATA, mu=0.7), rtol=1e-9)
    assert values[1] == 0
    assert gradient == pytest.approx(derivative(made), rel=1e-5)


@pytest.fixture(scope="module")
def with_jax():
    with process_with_jax() as call:
        yield call
