"""A simulator of single points, which models predict with."""

import pickle

import numpy as np
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
