"""A simulator of single points, which models predict with."""

import pickle

import numpy as np
import pymc as pm
import pytest

import pymc_nre as nre
from pymc_nre.simulation.prediction import predict

MU = np.array([-10.0, 0.0, 10.0])


def four(rng, mu):
    return rng.normal(mu, 1.0, 4)


def many(rng, mu):
    """The first point is never there, and for the last draw none."""
    x = np.ma.array(rng.normal(mu[:, None, None], 1.0, (len(mu), 4, 2)))
    x[:, 0] = np.ma.masked
    x[-1] = np.ma.masked
    return x


def test_one_of_the_points_is_an_observation():
    simulator = nre.Simulator(four, iid=True)
    draws = simulator.draw(np.random.default_rng(1), {"mu": MU}, 3)
    assert draws.shape == (3,)
    assert (np.abs(draws - MU) < 5).all()


def test_the_first_that_is_there_and_nan_where_none_is():
    simulator = nre.Simulator(many, batched=True, iid=True)
    draws = simulator.draw(np.random.default_rng(1), {"mu": MU}, 3)
    assert draws.shape == (3, 2)
    assert (np.abs(draws[:2] - MU[:2, None]) < 5).all()
    assert np.isnan(draws[2]).all()


def test_no_points_are_a_failure():
    simulator = nre.Simulator(lambda rng, mu: np.empty((0, 2)), iid=True)
    assert np.isnan(simulator.draw(np.random.default_rng(1), {"mu": MU}, 3)).all()


def test_errors_name_the_function_of_the_user():
    single = nre.Simulator(four, iid=True).single
    with pytest.raises(TypeError, match=r"The simulator four\(rng, mu\) is called by four"):
        predict(single, np.random.default_rng(1), {"nu": MU}, 3, ())
    assert single.single is single


def test_it_goes_to_other_processes():
    single = pickle.loads(pickle.dumps(nre.Simulator(four, iid=True).single))
    assert single.draw(np.random.default_rng(1), {"mu": MU}, 3).shape == (3,)


def test_models_predict_single_points():
    ratio = nre.tasks.GaussianMean().estimator()
    with pm.Model() as model:
        mu = pm.Normal("mu", 0, 2)
        given = nre.Simulator(four, iid=True)
        nre.RatioLikelihood("x", ratio, mu=mu, observed=np.zeros(6), simulator=given)
    assert pm.draw(model["x"], 3, random_seed=1).shape == (3, 6)


def test_replicates_of_fine_tuning_are_single_points():
    supply = nre.Online({"mu": pm.Normal.dist()}, four, iid=True, per_epoch=20, random_seed=1)
    parameters, x = supply.joint_simulator.replicate(5, 3, seed=1)
    assert parameters["mu"].shape == (5,)
    assert x.shape == (5, 3)
    assert supply.simulations(0).points.shape == (80,)
