"""Estimates of many data sets, beside exact ones."""

import warnings

import conditioned
import numpy as np
import pymc as pm
import pytest
import xarray as xr
from direct_ratios import direct
from formulas import integer_mean, integer_mean_of_unknown_scale
from many_data_sets import integer_ratio
from untrained import make_estimator

import pymc_nre as nre
from pymc_nre.estimators.domain import Domain
from pymc_nre.networks import MLP
from pymc_nre.networks.incomplete import Incomplete
from pymc_nre.point import maximum_likelihood
from pymc_nre.point import observed as at_the_edge
from pymc_nre.point.searches import search
from pymc_nre.simulation.conditions.missing import Missing

QUIET = {"progressbar": False}
MEAN = nre.tasks.GaussianMean()
TASKS = {
    "mean": MEAN,
    "location and scale": nre.tasks.LocationScale(),
    "linear": nre.tasks.LinearGaussian(),
    "rate": nre.tasks.PoissonRate(),
    "mixture": nre.tasks.GaussianMixture(),
    "hierarchy": nre.tasks.HierarchicalGaussian(),
}


def data_of(task, sets, trials, seed=1):
    ratio = task.estimator()
    theta = np.repeat(ratio.domain.draws[-sets:], trials, axis=0)
    x = task.simulator(np.random.default_rng(seed), **ratio.layout.unpack(theta))
    return x.reshape(sets, trials, *ratio.event_shape).astype(float)


@pytest.mark.filterwarnings("ignore:maximum_likelihood.*at the edge:pymc_nre.DomainWarning")
@pytest.mark.parametrize("name", TASKS)
def test_estimates_are_exact(name):
    task = TASKS[name]
    ratio, x = task.estimator(), data_of(task, 12, 30)
    found = maximum_likelihood(ratio, x, **QUIET)
    inside = ~found["at_edge"].to_numpy()
    assert inside.mean() > 0.5
    assert found["converged"].all()
    exact = np.array([ratio.layout.pack(task.maximum_likelihood(one)) for one in x])
    error = np.abs(found["estimate"] - exact) / found["standard_error"]
    assert error.to_numpy()[inside].max() < 2e-3
    value = ratio.log_ratio(x[0], **{k: v[0] for k, v in found.parameters.items()}).sum()
    np.testing.assert_allclose(found["log_ratio"][0], value)


def test_standard_errors_and_covariances_are_those_of_the_curvature():
    task = nre.tasks.LinearGaussian()
    found = maximum_likelihood(task.estimator(), data_of(task, 3, 20), **QUIET)
    exact = np.linalg.inv(20 * task.matrix.T @ task.matrix)
    for covariance, error in zip(found["covariance"], found["standard_error"], strict=True):
        np.testing.assert_allclose(covariance, exact, rtol=1e-6)
        np.testing.assert_allclose(error, np.sqrt(np.diag(exact)), rtol=1e-6)


def test_the_edge_of_the_domain_is_told():
    x = np.array([[9.0, 9.5], [11.0, 13.0], [-20.0, -9.0]])
    with pytest.warns(nre.DomainWarning, match=r"2 of 3 estimates are at the edge"):
        found = maximum_likelihood(MEAN.estimator(), x, **QUIET)
    np.testing.assert_array_equal(found["at_edge"], [False, True, True])
    np.testing.assert_allclose(found["estimate"][:, 0], [9.25, 10, -10], atol=0.01)
    assert np.isfinite(found["standard_error"].to_numpy()[:, 0]).tolist() == [True, False, False]
    assert found["why"].to_numpy().tolist()[1] == "at the edge of the training domain"
    assert "2 of 3: at the edge" in repr(found)


def test_data_sets_are_alone_and_in_blocks_what_they_are_together(monkeypatch):
    task = nre.tasks.LocationScale()
    x = data_of(task, 6, 10).reshape(2, 3, 10)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", nre.DomainWarning)
        together = maximum_likelihood(task.estimator(), x, **QUIET)
        monkeypatch.setattr(at_the_edge, "_MOST", 4)
        blocks = maximum_likelihood(task.estimator(), x, **QUIET)
        alone = maximum_likelihood(task.estimator(), x[1, 2], **QUIET)
    assert together["estimate"].shape == (2, 3, 2)
    np.testing.assert_allclose(blocks["estimate"], together["estimate"], atol=1e-6)
    np.testing.assert_allclose(alone["estimate"], together["estimate"][1, 2], atol=1e-6)
    assert alone["log_ratio"].shape == ()
    assert together.parameters["mu"].shape == (2, 3)


def test_names_of_dimensions_are_kept():
    x = xr.DataArray(data_of(MEAN, 2, 3), dims=("person", "trial"), coords={"person": ["a", "b"]})
    found = maximum_likelihood(MEAN.estimator(), x, **QUIET)
    assert found["estimate"].dims == ("person", "parameter")
    assert found["estimate"]["person"].to_numpy().tolist() == ["a", "b"]


@pytest.mark.parametrize("name", ["point", "parameter_", "log_ratio"])
def test_names_of_the_result_are_refused(name):
    values = data_of(MEAN, 2, 3)
    x = xr.DataArray(values, dims=(name, "trial"))
    beside = xr.DataArray(values, dims=("set", "trial"), coords={"set": [1, 2], name: 0.5})
    for data in (x, beside):
        with pytest.raises(ValueError, match=f"result has {name} of its own.*rename"):
            maximum_likelihood(MEAN.estimator(), data, **QUIET)


def test_conditions_are_known_inputs():
    dose, x = conditioned.doses()
    found = maximum_likelihood(conditioned.exact_ratio(), x, conditions={"dose": dose}, **QUIET)
    square = (dose**2).sum()
    np.testing.assert_allclose(found["estimate"], [(x * dose).sum() / square], atol=1e-5)
    np.testing.assert_allclose(found["standard_error"], [square**-0.5], rtol=1e-5)


def test_missing_trials_tell_nothing():
    network = MLP((8,), activation="tanh", embedding=Incomplete())
    ratio = make_estimator({"mu": ()}, (3,), network, missing=Missing.of(0.4, (3,)))
    x = np.random.default_rng(1).normal(size=(2, 5, 3))
    x[0, 1:3, 0] = np.nan
    longer = np.concatenate([x, np.full((2, 2, 3), np.nan)], axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of an untrained network that is flat, and of such holes
        short, long = (maximum_likelihood(ratio, each, **QUIET) for each in (x, longer))
    np.testing.assert_allclose(long["log_ratio"], short["log_ratio"], atol=1e-6)


def test_integers_have_values_and_no_errors():
    x = np.random.default_rng(1).normal(3.3, 1.0, (4, 9))
    found = maximum_likelihood(integer_ratio(), x, **QUIET)
    np.testing.assert_array_equal(found.parameters["mu"], np.rint(x.mean(1)))
    assert found.parameters["mu"].dtype.kind == "i"
    assert np.isnan(found["standard_error"]).all()


@pytest.mark.parametrize("parameters", ["a", "a and b"])
def test_integers_of_which_there_are_more_than_starts_step_to_the_highest(parameters, monkeypatch):
    ratio = integer_mean_of_unknown_scale(1_000, 100.0)
    if parameters == "a":
        ratio = integer_mean(1_000, 100.0)
    truth = np.random.default_rng(3).integers(-500, 500, 20)
    x = np.random.default_rng(4).normal(truth[:, None], 100.0, (20, 2_500))
    exact = np.rint(x.mean(1))
    found = maximum_likelihood(ratio, x, **QUIET)
    np.testing.assert_array_equal(found.parameters["a"], exact)
    assert found["converged"].all()
    # Without a step most are elsewhere, as where draws were, some by several standard errors of 2.
    monkeypatch.setattr(search, "_combinations", lambda _: 0)
    still = maximum_likelihood(ratio, x, **QUIET)
    assert (still.parameters["a"] != exact).mean() > 0.5
    assert abs(still.parameters["a"] - exact).max() > 6


def test_a_network_without_curvature_is_told_of():
    ratio = make_estimator({"mu": ()}, network=MLP((8,), activation="relu"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the edge or no convergence, as these weights have it
        found = maximum_likelihood(ratio, np.zeros((2, 3)), **QUIET)
    assert np.isnan(found["standard_error"]).all()
    assert set(found["why"].to_numpy()) <= {"no curvature", "at the edge of the training domain"}


def test_too_many_trials_are_told_of():
    ratio = make_estimator({"mu": ()})
    with warnings.catch_warnings():
        warnings.simplefilter("error", nre.TrialsWarning)
        warnings.simplefilter("ignore", nre.DomainWarning)
        warnings.simplefilter("ignore", nre.PosteriorWarning)
        with pytest.raises(nre.TrialsWarning, match="maximum_likelihood: 5,000 trials share"):
            maximum_likelihood(ratio, np.zeros(5_000), **QUIET)


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ((MEAN.estimator(), 0.0), ValueError, r"x must have shape \(\*batch, trials"),
        ((MEAN.estimator(), [np.nan, 1.0]), ValueError, "1 of 2 values are NaN"),
        ((MEAN.estimator(), np.zeros((3, 0))), ValueError, "at least one observation"),
        ((direct(), [0.0]), TypeError, r"ratio\.relative_to"),
        ((nre.tasks.PoissonRate().estimator(), [[1.0], [-3.0]]), ValueError, "1 data sets"),
        (("ratio", [0.0]), TypeError, "expected a RatioEstimator"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, error, match):
    with pytest.raises(error, match=f"maximum_likelihood.*{match}"):
        maximum_likelihood(*arguments, **QUIET)
    with pytest.raises(ValueError, match="starts: expected at least 1"):
        maximum_likelihood(MEAN.estimator(), [0.0], starts=0, **QUIET)


def test_parameters_that_follow_from_each_other_are_refused():
    """A search would go where shares do not add up to one, and say nothing of it."""
    rng = np.random.default_rng(1)
    shares, free = rng.dirichlet([2.0, 2.0, 2.0], 500), rng.normal(size=(500, 1))
    draws = np.concatenate([free, shares], axis=1)
    shapes = {"a": (), "p": (3,)}
    domain = Domain.from_draws(draws.astype(np.float32).astype(float), np.zeros(500))
    with pytest.raises(ValueError, match=r"p\[0\], p\[1\], p\[2\] always have the same"):
        maximum_likelihood(make_estimator(shapes, domain=domain), np.zeros(3), **QUIET)
    draws[:, 3] += 0.01 * rng.normal(size=500)
    solid = make_estimator(shapes, domain=Domain.from_draws(draws, np.zeros(500)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", nre.DomainWarning)  # of what random weights say
        maximum_likelihood(solid, np.zeros(3), **QUIET)


def test_labels_of_conditions_are_those_of_x():
    ratio, dose = conditioned.exact_ratio(), np.array([-0.5, 0.2, 0.8])
    x = xr.DataArray(np.ones((2, 3)), dims=["person", "time"], coords={"time": [1, 2, 3]})
    named = xr.DataArray(dose, dims=["time"], coords={"time": [1, 2, 3]})
    both = named.expand_dims(person=2)

    def estimated(given):
        return maximum_likelihood(ratio, x, conditions={"dose": given}, **QUIET)["estimate"]

    for given in (named, named.drop_vars("time"), both):
        np.testing.assert_array_equal(estimated(given), estimated(dose))
    for given, told in ((named[::-1], "other labels along time"), (both.T, "time, person")):
        with pytest.raises(ValueError, match=f"dose: expected dimensions and .*, got .*{told}"):
            estimated(given)
    with pytest.raises(ValueError, match="other labels along time"):
        ratio.log_ratio(x, slope=0.5, dose=named[::-1])
    with pm.Model(), pytest.raises(ValueError, match="conditions: dose: expected"):
        nre.RatioLikelihood("x", ratio, slope=0.5, dose=named[::-1], observed=x[0])
