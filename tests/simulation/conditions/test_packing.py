"""Simulations with conditions as networks take them, and as values."""

import conditioned
import numpy as np
import pytest

import pymc_nre as nre
from pymc_nre.simulation.simulator import Simulator

MADE = conditioned.simulate(300)


def test_packed_simulations_hold_both():
    packed = MADE.packed()
    np.testing.assert_array_equal(packed.x, np.stack([MADE.x, MADE.conditions["dose"]], 1))
    assert packed.event_shape == (2,)
    assert packed.observation_shape == MADE.observation_shape == ()
    assert packed.packed() is packed
    assert packed.predictor.function is MADE.simulator.function is conditioned.response
    plain = nre.tasks.GaussianMean().simulate(100, random_seed=1)
    assert plain.packed() is plain


def test_a_simulator_of_both_draws_conditions_that_occur():
    simulator = MADE.packed().packing(Simulator(lambda rng, slope, dose: slope * dose, True))
    slope = np.arange(1.0, 1_001)
    x, dose = simulator.draw(np.random.default_rng(1), {"slope": slope}, 1_000).T
    assert np.isin(dose, MADE.conditions["dose"]).all()
    assert len(set(dose)) > 200
    np.testing.assert_allclose(x, slope * dose)


def test_one_at_a_time():
    simulator = MADE.packed().packing(Simulator(lambda rng, slope, dose: slope * dose))
    drawn = simulator.draw(np.random.default_rng(1), {"slope": np.ones(5)}, 5)
    np.testing.assert_allclose(drawn[:, 0], drawn[:, 1])


def test_rows_joined_and_saved(tmp_path):
    both = MADE[:100] + MADE[100:]
    np.testing.assert_array_equal(both.conditions["dose"], MADE.conditions["dose"])
    assert both.known_conditions == MADE.known_conditions
    path = tmp_path / "some.simulations"
    MADE.save(path)
    read = nre.Simulations.load(path)
    np.testing.assert_array_equal(read.conditions["dose"], MADE.conditions["dose"])
    assert read.known_conditions == MADE.known_conditions
    assert "conditions dose (scalar)" in repr(read)
    assert MADE.to_xarray()["dose"].dims == ("simulation",)
    with pytest.raises(ValueError, match="the same conditions if any"):
        MADE + nre.Simulations(MADE.parameters, MADE.x)
