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


def of_points(masked):
    """Each point holds its condition, and its parameter."""
    rng = np.random.default_rng(1)
    mu, c = rng.normal(size=50), rng.normal(size=(50, 4))
    x = np.stack([np.broadcast_to(mu[:, None], c.shape), c], -1)
    if masked:
        gone = rng.random((50, 4)) < 0.3
        gone[:, 0] = False
        x = np.ma.array(x, mask=np.broadcast_to(gone[..., None], x.shape))
    return nre.Simulations({"mu": mu}, x, conditions={"c": c}, iid=True)


@pytest.mark.parametrize("masked", [False, True])
def test_every_point_keeps_its_own_condition(masked, tmp_path):
    made = of_points(masked)
    made.save(tmp_path / "points")
    for each in (
        made,
        made[[3, 1, 40]],
        made[:20] + made[20:],
        nre.Simulations.load(tmp_path / "points"),
    ):
        packed = each.packed()
        np.testing.assert_array_equal(packed.points[:, 1], packed.points[:, 2])
        np.testing.assert_array_equal(packed.x[:, 2], each.conditions["c"])
        own = np.repeat(each.parameters["mu"], each.counts)
        np.testing.assert_array_equal(packed.points[:, 0], own)
        assert packed.counts.tolist() == each.counts.tolist()


def test_conditions_of_points_have_their_shape():
    made = {"parameters": {"mu": np.zeros(5)}, "x": np.zeros((5, 3)), "iid": True}
    with pytest.raises(
        ValueError, match=r"c: with iid=True expected .* \(5, 3, \*own\), got \(5,\)"
    ):
        nre.Simulations(**made, conditions={"c": np.zeros(5)})
