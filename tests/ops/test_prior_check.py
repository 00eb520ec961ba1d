"""The prior of a model beside the training domain: rows, data of parents, rounding."""

import tracemalloc

import numpy as np
import pymc as pm
import pytest
import xarray as xr
from untrained import make_estimator

import pymc_nre as nre
from pymc_nre.estimators.domain import Domain
from pymc_nre.ops.prior_check import Reach

RATIO = nre.tasks.GaussianMean().estimator()
FOUR = make_estimator(dict.fromkeys("vazt", ()), (2,), loss="")  # bears any number of trials


def peak_of(call):
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()


def test_reach_is_what_the_domain_says_of_every_row():
    rng = np.random.default_rng(1)
    domain = Domain.from_draws(rng.normal(size=(5_000, 2)))
    groups = rng.normal(0, 2, (50, 4, 2))
    groups[7] = groups[7, 0]  # rows that are the same in one draw only
    theta = groups[:, rng.integers(4, size=30)]
    for draws in (theta, theta[::-1], theta[7:]):
        reach = Reach(domain, draws)
        np.testing.assert_allclose(reach.outside, (~domain.inside(draws)).mean(1), atol=1e-15)
        expected = domain.beyond(draws).reshape(-1, 2).mean(0)
        np.testing.assert_allclose(reach.beyond, expected, atol=1e-15)
        np.testing.assert_array_equal(reach.low, draws.min((0, 1)))
        np.testing.assert_array_equal(reach.high, draws.max((0, 1)))


@pytest.mark.one_python
def test_memory_does_not_grow_with_draws_times_rows():
    group, x = np.arange(2_000) % 20, np.zeros((2_000, 2))

    def build():
        with pm.Model():
            parameters = {name: pm.Uniform(name, -1, 1, shape=20)[group] for name in "vazt"}
            nre.RatioLikelihood("x", FOUR, **parameters, observed=x)

    assert peak_of(build) < 20  # MB; all draws of all rows are 64, with their ramps 2,000


def test_parents_that_were_observed_are_their_data():
    measured = np.linspace(-2, 2, 5)
    with pm.Model() as model:
        true = pm.Normal("true", 0, 50, observed=measured)  # reaches far outside, were it free
        slope = pm.Normal("slope", 0, 0.1)
        nre.RatioLikelihood("x", RATIO, mu=true + slope, observed=np.zeros(5))
    draws = {"slope": (("chain", "draw"), np.array([[0.0, 9.5]]))}
    check = nre.diagnostics.domain_check({"posterior": xr.Dataset(draws)}, RATIO, model=model)
    np.testing.assert_allclose(check["outside"], [[0.0, 0.4]])  # 9.5 + 1, 9.5 + 2 of five
    with pm.Model():
        true = pm.Normal("true", 0, 50, observed=[0.0, 11.0])
        with pytest.warns(nre.DomainWarning, match="mu reaches"):
            nre.RatioLikelihood("x", RATIO, mu=true, observed=np.zeros(2))


DOSES = np.array([0.1, 0.2, 0.3])


@pytest.mark.parametrize("engine", ["torch", "compiled"])
def test_rounding_to_single_precision_is_not_outside(engine):
    simulated = np.resize(DOSES, 900).astype(np.float32).astype(float)[:, None]
    ratio = make_estimator({"dose": ()}, (), domain=Domain.from_draws(simulated))
    assert ratio.domain.inside(DOSES[:, None]).all()
    assert not ratio.domain.beyond(DOSES[:, None]).any()
    assert not ratio.domain.inside(DOSES[[0, 2], None] + [[-1e-6], [1e-6]]).any()
    with pm.Model():
        values = nre.log_ratio(ratio, np.zeros(3), dose=DOSES, engine=engine)  # warnings are errors
    np.testing.assert_allclose(values.eval(), ratio.log_ratio(np.zeros(3), dose=DOSES), rtol=1e-9)


def test_messages_tell_the_edge_from_what_is_beyond_it():
    ratio = make_estimator(
        {"dose": ()}, (), domain=Domain.from_draws(np.resize(DOSES, 900)[:, None])
    )
    with pm.Model(), pytest.warns(nre.DomainWarning) as caught:
        nre.RatioLikelihood("x", ratio, dose=DOSES * 1.00001, observed=np.zeros(3))
    message = str(caught[0].message)
    assert "dose in [0.1, 0.3]" in message
    assert "dose reaches [0.100001, 0.300003]" in message


def build(outside="reject", **parameters):
    with pm.Model():
        made = {name: make(name) for name, make in parameters.items()}
        nre.RatioLikelihood("x", RATIO, **made, observed=np.zeros(20), outside=outside)


def normal(sd):
    return lambda name: pm.Normal(name, 0, sd)


@pytest.mark.parametrize("sd", [4.5, 6.0, 6.8])  # 2.6, 9.6 and 14 % outside
def test_tails_are_logged(sd, caplog):
    with caplog.at_level("INFO", logger="pymc_nre"):
        build(mu=normal(sd))  # warnings are errors
    (record,) = (r for r in caplog.records if "prior" in r.message)
    assert "in its tails" in record.message
    assert "domain_check" in record.message
    with pytest.warns(nre.DomainWarning, match="extrapolation"):  # nothing tells of it later
        build("warn", mu=normal(sd))


def mostly_inside(name):
    """19 of 20 rows are inside, and the last nowhere."""
    return pm.Normal(name, 0, 1) + np.array([0.0] * 19 + [20.0])


@pytest.mark.parametrize("prior", [normal(8.0), lambda name: pm.Normal(name, 11, 1), mostly_inside])
def test_much_of_the_prior_of_any_row_is_no_tail(prior):
    with pytest.warns(nre.DomainWarning, match="lies outside the region"):
        build(mu=prior)
