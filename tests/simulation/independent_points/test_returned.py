"""Simulators of several points: as many as they like, masked or not, and some that fail."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pymc as pm
import pytest

import pymc_nre as nre

PRIOR = {"mu": pm.Normal.dist(0, 3)}
QUIET = {"random_seed": 1, "progressbar": False, "iid": True}


def four(rng, mu):
    return rng.normal(mu[:, None], 1.0, (len(mu), 4))


def varying(rng, mu):
    """One to four points, the first of them the parameter itself."""
    return np.append(mu, rng.normal(mu, 1.0, rng.integers(4)))


def hidden(rng, mu):
    """Of four points of two numbers each is masked in a third of the cases, the first never."""
    absent = rng.uniform(size=(len(mu), 4, 1)) < [[0], [1 / 3], [1 / 3], [1 / 3]]
    x = np.repeat(mu[:, None, None], 4, 1) * np.ones(2)
    return np.ma.array(x, mask=np.repeat(absent, 2, 2))


@pytest.mark.parametrize(
    ("simulator", "batched", "event"),
    [(four, True, ()), (varying, False, ()), (hidden, True, (2,))],
)
def test_points_stay_with_their_parameters(simulator, batched, event):
    simulations = nre.simulate(PRIOR, simulator, 2_500, batched=batched, **QUIET)
    assert simulations.event_shape == event
    assert len(simulations) == 2_500
    assert simulations.n_failed == 0
    owners = np.repeat(simulations.parameters["mu"], simulations.counts)
    if simulator is four:
        assert (simulations.counts == 4).all()
        assert abs((simulations.points - owners).std() - 1) < 0.05
    else:
        assert set(simulations.counts) == {1, 2, 3, 4}
        first = simulations.x.reshape(2_500, -1)[:, 0]
        np.testing.assert_array_equal(first, simulations.parameters["mu"])
    if simulator is hidden:
        np.testing.assert_array_equal(simulations.points[:, 0], owners)


def test_the_same_on_any_executor():
    here = nre.simulate(PRIOR, varying, 300, **QUIET)
    with ThreadPoolExecutor(3) as pool:
        there = nre.simulate(PRIOR, varying, 300, executor=pool, **QUIET)
    np.testing.assert_array_equal(here.points, there.points)
    np.testing.assert_array_equal(here.counts, there.counts)


def test_points_that_are_not_finite_are_left_out_alone():
    def simulator(rng, mu):
        x = four(rng, mu)
        x[mu > 3, 1] = np.nan
        x[mu < -3] = np.nan
        return x

    told = r"failed and were left out, \d+ of them in some points only"
    with pytest.warns(nre.SimulationWarning, match=told):
        simulations = nre.simulate(PRIOR, simulator, 1_000, batched=True, **QUIET)
    mu = simulations.parameters["mu"]
    assert mu.min() > -3
    np.testing.assert_array_equal(simulations.counts, np.where(mu > 3, 3, 4))
    assert simulations.n_failed == 1_000 - len(mu) + (mu > 3).sum()


def test_simulations_that_fail_or_have_no_point_are_left_out():
    def simulator(rng, mu):
        if mu > 3:
            raise ValueError("too large")
        return rng.normal(mu, 1.0, 0 if mu < -3 else 3)

    with pytest.warns(nre.SimulationWarning, match="failed and were left out"):
        simulations = nre.simulate(PRIOR, simulator, 300, **QUIET)
    assert np.abs(simulations.parameters["mu"]).max() <= 3
    assert (simulations.counts == 3).all()


def test_a_variable_of_the_model_is_its_own_simulator():
    with pm.Model() as model:
        mu = pm.Normal("mu", 0, 3)
        pm.Normal("y", mu, 1.0, shape=4)
    simulations = nre.simulate(model, "y", 50, **QUIET)
    assert simulations.event_shape == ()
    assert simulations.counts.tolist() == [4] * 50
    draws = simulations.simulator.draw(np.random.default_rng(1), {"mu": np.zeros(6)}, 6)
    assert draws.shape == (6,)


def in_part(rng, mu):
    x = np.ma.array(np.zeros((3, 2)))
    x[0, 1] = np.ma.masked
    return x


@pytest.mark.parametrize(
    ("simulator", "options", "told"),
    [
        (lambda rng, mu: mu, {}, r"m points for each draw, shape \(m, \*event\), got shape \(\)"),
        (lambda rng, mu: mu, {"batched": True}, r"shape \(20, m, \*event\), got shape \(20,\)"),
        (lambda rng, mu: np.zeros((3, 4)), {"batched": True}, r"got shape \(3, 4\).*batched=True"),
        (in_part, {}, "1 of 3 points are masked in part"),
        (lambda rng, mu: np.zeros((2, rng.integers(2, 4))), {}, "all must have the same shape"),
        (lambda rng, mu: None, {}, "returned None"),
    ],
)
def test_what_gives_no_points_is_refused_at_once(simulator, options, told):
    with pytest.raises((TypeError, ValueError), match=told):
        nre.simulate(PRIOR, simulator, 20, **options, **QUIET)


def test_no_points_at_all():
    with pytest.raises(nre.SimulationError, match="there were no points"):
        nre.simulate(PRIOR, lambda rng, mu: np.empty((0, 2)), 20, **QUIET)


def test_points_that_share_nuisance_are_refused():
    prior = PRIOR | {"sigma": pm.HalfNormal.dist()}
    with pytest.raises(ValueError, match="share sigma, and so they are not independent given mu"):
        nre.simulate(
            prior, lambda rng, mu, sigma: rng.normal(mu, sigma, 3), 20, parameters=["mu"], **QUIET
        )
