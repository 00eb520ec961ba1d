"""Data in other units, or with codes for missing values, are told; long tails are not."""

import warnings

import numpy as np
import pymc as pm
import pytensor
import pytest
import torch
from untrained import make_estimator

import pymc_nre as nre
from pymc_nre.networks import MLP, build
from pymc_nre.ops.data_check import warn_if_data_are_far, warn_if_new_data_are_far

RNG = np.random.default_rng(1)


def trained_on(x):
    """An estimator whose network keeps the moments of these data."""
    network = build(MLP((4,)), 1, x.shape[1:])
    network.fit_standardization(torch.zeros(len(x), 1), torch.tensor(x))
    ratio = make_estimator({"mu": ()}, x.shape[1:], MLP((4,)), probe_x=x[:100], loss="")
    return ratio.replace(network=network)


TIMES = RNG.lognormal(-0.5, 0.5, 20_000)  # seconds
SECONDS = trained_on(TIMES)
PAIRS = trained_on(np.column_stack([TIMES, RNG.normal(size=20_000)]))


def model(ratio, x):
    with pm.Model():
        nre.RatioLikelihood("x", ratio, mu=pm.Normal("mu", 1, 0.1), observed=x)


CODE = np.where(np.arange(50) == 7, -999.0, TIMES[:50])
FAR = {
    "milliseconds": (1_000 * TIMES[:50], r"x: 1 of the observed values.*standard deviations"),
    "minutes": (60 * TIMES[:50], r"x: .* of the observed values"),
    "one code": (CODE, r"x: 0\.02 of the observed values.*the worst, -999, .*leave out"),
    "one code in many": (np.append(TIMES[:20_000], -999.0), r"the worst, -999, "),
}


@pytest.mark.parametrize(("x", "match"), FAR.values(), ids=FAR)
def test_data_that_nobody_simulated_are_told(x, match):
    with pytest.warns(nre.DomainWarning, match=match):
        model(SECONDS, x)
    with pytest.warns(nre.DomainWarning, match=match.replace("x: ", "log_ratio: ")):
        nre.log_ratio(SECONDS, x, mu=1.0)


def test_one_number_of_several_is_enough():
    with pytest.warns(nre.DomainWarning, match=r"x: 0\.5 of the observed.*the worst, 1e\+06"):
        model(PAIRS, np.column_stack([np.full(9, 1e6), np.zeros(9)]))


TAILS = {
    "log-normal": lambda rng, n: rng.lognormal(0, 2, n),
    "t of 3": lambda rng, n: rng.standard_t(3, n),
    "Cauchy": lambda rng, n: rng.standard_cauchy(n),
    "rare events": lambda rng, n: rng.poisson(1e-3, n).astype(float),
    "constant": lambda rng, n: np.ones(n),
}


@pytest.mark.parametrize("tail", TAILS)
def test_long_tails_are_no_alarm(tail):
    """By Markov's inequality one alarm in 1,000; 100 data sets of each size: P(> 2) is 2e-4."""
    draw, alarms = TAILS[tail], 0
    ratio = trained_on(draw(np.random.default_rng(2), 20_000))
    for n in (1, 50):
        for seed in range(100):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                warn_if_data_are_far("x", ratio, draw(np.random.default_rng([n, seed]), n))
            alarms += len(caught)
    assert alarms <= 4


def test_data_that_come_later_are_no_alarm():
    data = pm.Minibatch(1_000 * TIMES[:50], batch_size=5)
    warn_if_data_are_far("x", SECONDS, data)
    warn_if_data_are_far("x", SECONDS, np.empty(0))


@pytest.mark.parametrize("engine", ["compiled", "torch"])
def test_data_that_are_replaced_are_looked_at_when_it_is_compiled_next(engine):
    with pm.Model() as model:
        data = pm.Data("times", TIMES[:50])
        mu = pm.Normal("mu", 1, 0.1)
        nre.RatioLikelihood("x", SECONDS, mu=mu, observed=data, engine=engine)
    model.logp()
    with model:
        pm.set_data({"times": 1_000 * TIMES[:60]})
    with pytest.warns(nre.DomainWarning, match="times: 1 of the observed values"):
        model.logp()
    model.dlogp()  # the same data are told of once: warnings are errors
    with model:
        pm.set_data({"times": TIMES[:70]})
    model.logp()


def test_counts_that_are_replaced_are_looked_at():
    ratio = trained_on(RNG.poisson(5, 20_000).astype(float))
    with pm.Model() as model:
        x = pm.Data("counts", np.arange(9))
        nre.RatioLikelihood("x", ratio, mu=pm.Normal("mu", 1, 0.1), observed=x)
        pm.set_data({"counts": np.full(9, 10**6)})
    with pytest.warns(nre.DomainWarning, match="counts: 1 of the observed"):
        model.logp()


def test_each_ratio_looks_at_new_data():
    x = pytensor.shared(TIMES[:50].copy(), name="x")
    other = trained_on(TIMES + 1e-3)
    for ratio in (SECONDS, other):
        warn_if_data_are_far("x", ratio, x)
    x.set_value(1_000 * TIMES[:50])
    for ratio in (SECONDS, other):
        with pytest.warns(nre.DomainWarning, match="x: 1 of the observed"):
            warn_if_new_data_are_far(ratio, x)
        warn_if_new_data_are_far(ratio, x)
