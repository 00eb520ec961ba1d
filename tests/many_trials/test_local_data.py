"""Around a posterior simulations are as the data: with their conditions, and with their holes."""

import warnings

import conditioned
import numpy as np
import pymc as pm
import pytest
import torch
import xarray as xr

import pymc_nre as nre
from pymc_nre.estimators.domain import Domain
from pymc_nre.likelihood.model_parameters import trials_of
from pymc_nre.many_trials import local
from pymc_nre.networks import RatioNetwork
from pymc_nre.simulation.conditions.missing import Missing

TRIALS, WHOLLY_MISSING = 400, 100
TILT = 0.3  # planted: what the mean score of a trial is off by


class OfDose(conditioned.Exact):
    """Biased by the dose, which is zero on average over those of the training."""

    def head(self, theta, features):
        return super().head(theta, features) + TILT * theta[..., 0] * features[..., 1]


class OfHoles(RatioNetwork):
    """Two numbers from N(mu, 1), of which some are missing; biased where the second is."""

    def __init__(self, theta_size=1, event_shape=(2,)):
        super().__init__(1, (2,))
        self.tilt = torch.nn.Parameter(torch.tensor(TILT))
        self.double()

    def embed(self, x):
        return x

    def head(self, theta, features):
        there = ~features.isnan()
        squares = torch.where(there, (features.nan_to_num() - theta) ** 2, 0.0)
        return -squares.sum(-1) / 2 + torch.where(there[..., 1], 0.0, self.tilt * theta[..., 0])


def two_numbers(rng, mu):
    return rng.normal(mu[:, None], 1.0, (len(mu), 2))


def of_dose():
    """A ratio, doses that are not those of the training on average, data, and their moments."""
    ratio = conditioned.exact_ratio().replace(network=OfDose())
    dose = np.linspace(0.5, 1, TRIALS)
    x = conditioned.response(np.random.default_rng(1), 1.3, dose)
    return ratio, "slope", conditioned.SD, x, {"dose": dose}, conditioned.posterior(x, dose)


def of_holes():
    """A ratio, data most of which lack the second number, and their moments."""
    rng = np.random.default_rng(1)
    domain = Domain.from_draws(rng.normal(0, 2, (5_000, 1)))
    ratio = nre.RatioEstimator(
        OfHoles(), {"mu": ()}, domain=domain, probe_x=two_numbers(rng, np.zeros(10)),
        simulator=nre.Simulator(two_numbers, batched=True), missing=Missing.of(0.3, (2,)),
        normalized=False,
    )  # fmt: skip
    x = two_numbers(rng, np.full(TRIALS, 0.4))
    x[: int(0.8 * TRIALS), 1] = np.nan
    x[:WHOLLY_MISSING] = np.nan
    seen = x[np.isfinite(x)]
    precision = len(seen) + 1 / 4
    return ratio, "mu", 2.0, x, {}, (seen.sum() / precision, precision**-0.5)


PROBLEMS = {"conditions": of_dose, "missing": of_holes}


def model_of(ratio, name, sd, x, given):
    with pm.Model() as model, warnings.catch_warnings():
        warnings.simplefilter("ignore", nre.TrialsWarning)
        parameter = pm.Normal(name, 0, sd)
        nre.RatioLikelihood("x", ratio, **{name: parameter}, **given, observed=x, engine="torch")
    return model


def moments(ratio, name, sd, x, given, middle, width):
    grid = middle + width * np.linspace(-20, 20, 401)
    values = [ratio.log_ratio(x, **{name: value}, **given).sum() for value in grid]
    log_density = np.array(values) - (grid / sd) ** 2 / 2
    p = np.exp(log_density - log_density.max())
    mean = p @ grid / p.sum()
    return mean, np.sqrt(p @ (grid - mean) ** 2 / p.sum())


def off(problem):
    """By how many exact standard deviations the mean is, before and after."""
    ratio, name, sd, x, given, (middle, width) = PROBLEMS[problem]()
    before, spread = moments(ratio, name, sd, x, given, middle, width)
    draws = np.random.default_rng(2).normal(before, spread, (2, 300))
    centered = nre.center(
        ratio, around={"posterior": xr.Dataset({name: (("chain", "draw"), draws)})},
        model=model_of(ratio, name, sd, x, given), accuracy=0.1, random_seed=3, progressbar=False,
    )  # fmt: skip
    after, _ = moments(centered, name, sd, x, given, middle, width)
    return (before - middle) / width, (after - middle) / width


@pytest.mark.parametrize("problem", PROBLEMS)
def test_the_bias_of_these_data_is_taken_off(problem):
    before, after = off(problem)
    assert before > 2
    assert abs(after) < 4 * 0.1


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.filterwarnings("ignore::pymc_nre.TrainingWarning")
def test_twin_that_of_other_data_is_not(problem, monkeypatch):
    def others(self, n, rng):
        others = np.resize(self.data, (n, 2))
        others[:, 1] = rng.uniform(-1, 1, n)  # doses of the training; nothing missing
        object.__setattr__(self, "data", others)
        return np.arange(n)

    monkeypatch.setattr(local._AsObserved, "chosen", others)
    before, after = off(problem)
    assert after > 0.5 * before


def test_what_is_wholly_missing_is_no_trial():
    ratio, name, sd, x, given, _ = of_holes()
    posterior = xr.Dataset({name: (("chain", "draw"), np.array([[0.1, 0.2]]))})
    _, trials = trials_of(posterior, ratio, model_of(ratio, name, sd, x, given))
    assert trials == TRIALS - WHOLLY_MISSING


def test_groups_that_are_filled_up_have_trials_of_their_own():
    ratio, name, sd, *_ = of_holes()
    table = two_numbers(np.random.default_rng(3), np.zeros(4 * 10)).reshape(4, 10, 2)
    table[1, 3:] = np.nan
    table[2] = np.nan
    values = np.random.default_rng(4).normal(size=(1, 2, 4))
    posterior = xr.Dataset({name: (("chain", "draw", "group"), values)})
    with pm.Model() as filled_up:
        mu = pm.Normal(name, 0, sd, shape=4)
        nre.RatioLikelihood("x", ratio, mu=mu[:, None], observed=table, engine="torch")
    with pm.Model() as in_rows:
        mu = pm.Normal(name, 0, sd, shape=4)
        rows = {"mu": mu[np.repeat(np.arange(4), 10)], "observed": table.reshape(-1, 2)}
        nre.RatioLikelihood("x", ratio, **rows, engine="torch")
    for model in (filled_up, in_rows):
        theta, trials = trials_of(posterior, ratio, model)
        order = theta[0, :, 0].argsort()
        expected = np.array([10, 3, 0, 10])[values[0, 0].argsort()]
        np.testing.assert_array_equal(trials[order], expected)


def test_data_that_were_replaced_by_nothing_are_told():
    ratio, name, sd, *_ = of_holes()
    values = np.random.default_rng(1).random((2, 300))
    idata = {"posterior": xr.Dataset({name: (("chain", "draw"), values)})}
    with pm.Model() as model:
        data = pm.Data("data", np.zeros((9, 2)))
        nre.RatioLikelihood("x", ratio, mu=pm.Normal(name, 0, sd), observed=data, engine="torch")
        data.set_value(np.full((9, 2), np.nan))
    with pytest.raises(ValueError, match="all observations of the model are missing"):
        nre.center(ratio, around=idata, model=model, progressbar=False)


def test_each_of_the_data_is_taken_as_often():
    ratio, _, _, x, _, _ = of_holes()
    chosen = local._AsObserved(ratio, x).chosen(3 * TRIALS, np.random.default_rng(1))
    np.testing.assert_array_equal(np.bincount(chosen), np.full(TRIALS, 3))


def fine_tuned(ratio):
    prior = {"mu": pm.Normal.dist(0, 2)}
    supply = nre.Online(prior, two_numbers, batched=True, random_seed=1)
    options = {"steps": 200, "replicates": 32, "random_seed": 2, "progressbar": False}
    return float(nre.center(ratio, supply, **options).network.tilt.detach())


def test_everywhere_numbers_are_hidden_as_in_training():
    ratio, *_ = of_holes()
    assert fine_tuned(ratio) < 0.6 * TILT  # so far so few steps come


def test_twin_where_none_is_hidden_nothing_is_seen(monkeypatch):
    ratio, *_ = of_holes()
    monkeypatch.setattr(Missing, "masked", lambda self, x, rng: x)
    assert fine_tuned(ratio) == pytest.approx(TILT)
