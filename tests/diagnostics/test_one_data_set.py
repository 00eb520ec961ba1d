"""What is said where a ratio that was made for one data set is judged by simulations of others."""

import contextlib
import functools
import warnings

import numpy as np
import pymc as pm
import pytest

import pymc_nre as nre
from pymc_nre.estimators.domain import Domain
from pymc_nre.many_trials import fine_tuning

X = np.array([2.5, 1.5, 2.0, 3.0])
TASK = nre.tasks.GaussianMean()
WIDE, NARROW = (-10.0, 10.0), (0.5, 4.0)
QUIET = {"progressbar": False, "random_seed": 1}
pytestmark = pytest.mark.one_python


def own_ratio():
    """Exact, and known where these data are likely."""
    draws = np.random.default_rng(1).uniform(*NARROW, (5_000, 1))
    return TASK.estimator().made_for(X, Domain.from_draws(draws))


def simulations(ends, n=1_000):
    prior = {"mu": pm.Uniform.dist(*ends)}
    return nre.simulate(prior, TASK.simulator, n, batched=True, **QUIET)


def model_of(ratio, ends):
    with pm.Model() as model:
        nre.RatioLikelihood("x", ratio, mu=pm.Uniform("mu", *ends), observed=X)
    return model


def budget(ratio, ends):
    nre.trial_budget(ratio, simulations(ends))


def ranks(ratio, ends):
    nre.diagnostics.posterior_ranks(ratio, simulations(ends, 200), draws=20, **QUIET)


def points(ratio, ends):
    made = simulations(ends, 200)
    nre.diagnostics.coverage_at(ratio, made, {"mu": 2.0}, n=20, draws=100, random_seed=1)


def area(ratio, ends):
    nre.diagnostics.auc(ratio, simulations(ends, 200), random_seed=1)


def calibrated(ratio, ends):
    # Of a loss that gives log ratios to the evidence, as nobody trains rounds by default.
    nre.calibrate(ratio.replace(normalized=True, loss="NREA()"), simulations(ends))


def centered(ratio, ends):
    prior = {"mu": pm.Uniform.dist(*ends)}
    supply = nre.Online(prior, TASK.simulator, batched=True, random_seed=1)
    nre.center(trained().made_for(ratio.observed, ratio.domain), supply, steps=1, **QUIET)


@functools.cache
def trained():
    options = {"network": nre.networks.MLP((8,)), "loss": nre.losses.NREC(), "epochs": 1}
    return nre.train(simulations(WIDE), measure_budget=False, **options, **QUIET)


def reported(ratio, ends):
    nre.diagnostics.report(ratio, simulations(ends, 200), X, trials=1, draws=100, **QUIET)


def whole_model(ratio, ends):
    model = model_of(ratio, ends)
    options = {"replicates": 1, "draws": 20, "tune": 20, "sampler": "pymc"}
    nre.diagnostics.sbc_model(model, **options, **QUIET)


CHECKS = [budget, ranks, points, area, calibrated, centered, reported, whole_model]
OTHERS = r".*made for one data set, and \d+% of the simulations are of parameters outside"


@pytest.fixture(autouse=True)
def _few_are_held_out(monkeypatch):
    monkeypatch.setattr(fine_tuning, "_REPORT", 2_000)


@pytest.mark.parametrize("check", CHECKS)
def test_simulations_over_the_whole_prior_are_told_of(check):
    with told_alone():
        check(own_ratio(), WIDE)


@pytest.mark.parametrize("check", CHECKS)
def test_those_within_the_domain_are_not(check):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("error", OTHERS)
        check(own_ratio(), NARROW)
        check(TASK.estimator(), WIDE)  # made for all data


@pytest.mark.parametrize("name", ["lc2st", "observation_check", "report"])
def test_observed_data_are_those_it_was_made_for(name):
    check, made = getattr(nre.diagnostics, name), simulations(NARROW, 200)
    options = {"random_seed": 1}
    if name == "report":
        options = {"trials": 1, "draws": 100, **QUIET}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("error", ".*made for one data set")
        check(own_ratio(), made, X, **options)
        check(TASK.estimator(), made, X + 1, **options)
    with told_alone():
        check(own_ratio(), made, X + 1, **options)


@contextlib.contextmanager
def told_alone():
    """Once, whatever else is warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    said = [str(each.message) for each in caught if each.category is nre.DomainWarning]
    assert len([each for each in said if "made for one data set" in each]) == 1, said
