"""Conditions in a model: data beside observations, on every engine."""

import warnings

import conditioned
import numpy as np
import pandas as pd
import pymc as pm
import pytensor
import pytest
from conditioned import SD, exact_ratio, log_density, posterior
from pymc.logprob.utils import ParameterValueError

import pymc_nre as nre
from pymc_nre.diagnostics.model_sbc.replicates import Replicates

RATIO = exact_ratio()
DOSE, X = conditioned.doses()
QUIET = {"random_seed": 1, "progressbar": False}


def model_of(dose=DOSE, x=X, ratio=RATIO, **options):
    with pm.Model() as model:
        slope = pm.Normal("slope", 0, SD)
        nre.RatioLikelihood("x", ratio, slope=slope, dose=dose, observed=x, **options)
    return model


def log_likelihood(model, slope=0.7):
    return float(model.compile_logp(vars=model.observed_RVs)({"slope": slope}))


@pytest.mark.parametrize(
    "dose",
    [
        DOSE,
        list(DOSE),
        pd.Series(DOSE),
        DOSE.astype(np.float32),
        np.float64(0.5),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_likelihood_is_that_given_conditions(dose):
    expected = log_density(X, 0.7, np.asarray(dose, dtype=float)).sum()
    assert log_likelihood(model_of(dose)) == pytest.approx(expected, rel=1e-12)
    direct = RATIO.log_ratio(X, slope=0.7, dose=dose)
    assert direct.sum() == pytest.approx(expected, rel=1e-12)


def test_a_batch_of_parameters_and_conditions():
    x, dose = np.stack([X, X + 1]), np.stack([DOSE, DOSE**2])
    slope = np.array([[0.5], [1.5]])
    with pm.Model() as model:
        free = pm.Normal("slope", shape=(2, 1))
        nre.RatioLikelihood("x", RATIO, slope=free, dose=dose, observed=x)
    found = model.compile_logp(vars=model.observed_RVs, sum=False)({"slope": slope})[0]
    np.testing.assert_allclose(found, log_density(x, slope, dose), rtol=1e-12)
    table = nre.log_ratio(RATIO, X[:, None], slope=np.array([0.5, 1.5]), dose=DOSE[:, None]).eval()
    np.testing.assert_allclose(table, log_density(X[:, None], np.array([0.5, 1.5]), DOSE[:, None]))


def test_the_posterior_is_exact_and_without_the_dose_it_is_not():
    with model_of():
        idata = pm.sample(1_000, tune=500, chains=2, cores=1, **QUIET)
    mean, sd = posterior(X, DOSE)
    draws = idata["posterior"]["slope"]
    # 2,000 draws of NUTS, at least 500 effective: five standard errors.
    assert abs(float(draws.mean()) - mean) < 5 * sd / 500**0.5
    assert float(draws.std()) == pytest.approx(sd, rel=0.15)
    wrong = posterior(X, np.ones(20))
    assert abs(wrong[0] - mean) > 5 * sd / 500**0.5
    with model_of():
        predicted = pm.sample_posterior_predictive(idata, **QUIET)
    x = predicted["posterior_predictive"]["x"]
    assert x.shape == (2, 1_000, 20)
    spread = x.std(("chain", "draw")).to_numpy()
    expected = np.sqrt(1 + (sd * DOSE) ** 2)
    np.testing.assert_allclose(spread, expected, rtol=0.1)
    slopes = (x.mean(("chain", "draw")).to_numpy() * DOSE).sum() / (DOSE**2).sum()
    assert slopes == pytest.approx(mean, abs=0.05)


def test_data_and_conditions_are_replaced_together():
    with pm.Model() as model:
        slope = pm.Normal("slope", 0, SD)
        dose, x = pm.Data("dose", DOSE), pm.Data("data", X)
        nre.RatioLikelihood("x", RATIO, slope=slope, dose=dose, observed=x)
    compiled = model.compile_logp(vars=model.observed_RVs)
    assert float(compiled({"slope": 0.7})) == pytest.approx(log_density(X, 0.7, DOSE).sum())
    with model:
        pm.set_data({"dose": DOSE[:7] ** 2, "data": X[:7]})
    expected = log_density(X[:7], 0.7, DOSE[:7] ** 2).sum()
    assert float(compiled({"slope": 0.7})) == pytest.approx(expected)
    with model:
        pm.set_data({"dose": DOSE[:3]})
    with pytest.raises(ParameterValueError, match=r"condition 'dose' must have.*pm\.set_data"):
        compiled({"slope": 0.7})


def test_predictions_for_new_conditions():
    with pm.Model():
        slope = pm.Normal("slope", 0, SD)
        dose = pm.Data("dose", DOSE)
        nre.RatioLikelihood("x", RATIO, slope=slope, dose=dose, observed=X, shape=dose.shape)
        idata = pm.sample(200, tune=200, chains=2, cores=1, **QUIET)
        pm.set_data({"dose": np.array([0.0, 1.0, 100.0])})
        predicted = pm.sample_posterior_predictive(idata, **QUIET)
    x = predicted["posterior_predictive"]["x"]
    assert x.sizes["x_dim_0"] == 3
    mean, sd = posterior(X, DOSE)
    assert float(x.isel(x_dim_0=2).mean()) == pytest.approx(100 * mean, abs=100 * sd)


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        ({}, TypeError, "x: expected the conditions dose, got missing dose"),
        ({"dose": DOSE, "age": 1.0}, TypeError, "unknown age"),
        ({"dose": DOSE[:3]}, ValueError, r"'dose' has the batch shape \(3,\)"),
        ({"dose": DOSE[:, None]}, ValueError, "one value for each observation"),
        ({"dose": np.full(20, np.nan)}, ValueError, "x: dose: 20 of 20 values are NaN"),
        ({"dose": np.ma.masked_less(DOSE, 0)}, ValueError, "x: dose: 10 of 20 values are masked"),
        ({"dose": DOSE * 1j}, TypeError, "x: dose: expected real numbers"),
        ({"dose": "free"}, ValueError, "depends on random variables.*is a parameter"),
    ],
)
def test_conditions_that_do_not_fit_are_refused(given, kind, message):
    with pm.Model():
        slope = pm.Normal("slope", 0, SD)
        given = {k: slope * DOSE if isinstance(v, str) else v for k, v in given.items()}
        with pytest.raises(kind, match=message):
            nre.RatioLikelihood("x", RATIO, slope=slope, observed=X, **given)


def test_a_ratio_without_conditions_takes_none():
    ratio = nre.tasks.GaussianMean().estimator()
    with pm.Model(), pytest.raises(TypeError, match="unknown dose"):
        nre.RatioLikelihood("x", ratio, mu=0.0, dose=1.0, observed=[1.0])
    with pytest.raises(TypeError, match=r"conditions: expected none, got dose.*nre\.simulate"):
        nre.weighted_draws(ratio, [1.0], conditions={"dose": 1.0})


def given_as_data():
    with pm.Model():
        dose = pm.Data("dose", DOSE + 3)
        nre.RatioLikelihood("x", RATIO, slope=pm.Normal("slope", 0, SD), dose=dose, observed=X)


@pytest.mark.parametrize(
    "told",
    [
        given_as_data,
        lambda: model_of(DOSE + 3),
        lambda: nre.log_ratio(RATIO, X, slope=pm.Normal.dist(0, SD), dose=DOSE + 3),
        lambda: nre.weighted_draws(RATIO, X, trials=True, conditions={"dose": DOSE + 3}),
    ],
    ids=["data", "model", "log_ratio", "weighted_draws"],
)
def test_conditions_outside_of_training_are_told(told):
    with pytest.warns(nre.DomainWarning, match=r"dose reaches 2 to 4 \(100\.0%"):
        told()


def test_those_inside_are_not():
    with warnings.catch_warnings():
        warnings.simplefilter("error", nre.DomainWarning)
        model_of().compile_logp()


def test_those_that_are_replaced_are_looked_at_again():
    with pm.Model() as model:
        dose = pm.Data("dose", DOSE)
        nre.RatioLikelihood("x", RATIO, slope=pm.Normal("slope", 0, SD), dose=dose, observed=X)
    with warnings.catch_warnings():
        warnings.simplefilter("error", nre.DomainWarning)
        model.compile_logp()
    with model:
        pm.set_data({"dose": DOSE + 3})
    with pytest.warns(nre.DomainWarning, match="dose reaches 2 to 4"):
        model.compile_logp()


def test_minibatches_of_both():
    with pm.Model() as model:
        slope = pm.Normal("slope", 0, SD)
        x, dose = pm.Minibatch(X, DOSE, batch_size=5)
        nre.RatioLikelihood("x", RATIO, slope=slope, dose=dose, observed=x, total_size=20)
    # The mean over many batches is the whole likelihood, within five standard errors.
    compiled = model.compile_logp(vars=model.observed_RVs)
    values = np.array([compiled({"slope": 0.7}) for _ in range(400)])
    expected = log_density(X, 0.7, DOSE).sum()
    assert abs(values.mean() - expected) < 5 * values.std() / 20


def test_models_with_other_conditions_are_not_compared():
    with pytest.raises(ValueError, match="do not have the same data"):
        nre.diagnostics.log_marginal_ratio(model_of(), model_of(DOSE**2), draws=10, chains=2)


def test_data_sets_of_a_model_are_drawn_at_its_conditions():
    """What `sbc_model` ranks: the doses are the model's own, and only data are drawn."""
    replicates = Replicates(model_of(), None)
    drawn = [replicates.draw(np.random.default_rng(seed)) for seed in range(200)]
    noise = np.stack([one.data["x"] - one.truth * DOSE for one in drawn])
    # 4,000 standard normal numbers: five standard errors of their mean square.
    assert abs((noise**2).mean() - 1) < 5 * (2 / noise.size) ** 0.5


def test_gradients_are_those_of_the_slope():
    model = model_of()
    step = 1e-5
    numeric = (log_likelihood(model, 0.7 + step) - log_likelihood(model, 0.7 - step)) / (2 * step)
    found = model.compile_dlogp(vars=model.free_RVs, jacobian=False)({"slope": 0.7})
    assert float(found[0]) == pytest.approx(numeric - 0.7 / SD**2, rel=1e-5)


def test_draws_outside_of_a_model():
    drawn = pm.draw(nre.RatioLikelihood.dist(RATIO, slope=1e3, dose=np.array([0.0, 1.0])), 5)
    assert drawn.shape == (5, 2)
    assert np.abs(drawn[:, 0]).max() < 10 < drawn[:, 1].min()
    assert pytensor.config.floatX == "float64"
