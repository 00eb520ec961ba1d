"""Blocks of batched simulators, of which some draws cannot be simulated."""

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pymc as pm
import pytest

import pymc_nre as nre
from pymc_nre.simulation.slices import BLOCK, simulate_slice

ROOT = (5, (1,))


def simulate(simulator, n, **options):
    options = {"batched": True, "random_seed": 1, "progressbar": False} | options
    return nre.simulate({"mu": pm.Uniform.dist(0.0, 1.0)}, simulator, n, **options)


class Raising:
    """Batched, and raising if a parameter is in the tail; keeps the lengths of its calls."""

    def __init__(self, share, accident=lambda: 1 / 0):
        self.share, self.accident, self.lengths = share, accident, []

    def __call__(self, rng, mu):
        self.lengths.append(len(mu))
        return self.accident() if (mu < self.share).any() else rng.normal(mu)


ACCIDENTS = {
    "raises": (lambda: 1 / 0, "ZeroDivisionError"),
    "exits": (lambda: sys.exit(1), "SystemExit"),
}


@pytest.mark.parametrize("what", ACCIDENTS)
@pytest.mark.parametrize("share", [0.0002, 0.002, 0.05, 0.5])
def test_only_the_draws_that_fail_are_left_out(what, share):
    accident, message = ACCIDENTS[what]
    simulator = Raising(share, accident)
    mu = simulate(lambda rng, mu: mu, 10_000).x
    n_failed = int((mu < share).sum())
    assert n_failed
    with pytest.warns(nre.SimulationWarning, match=rf"^{n_failed:,} of 10,000 .*{message}"):
        simulations = simulate(simulator, 10_000)
    np.testing.assert_array_equal(simulations.parameters["mu"], mu[mu >= share])
    residuals = simulations.x - simulations.parameters["mu"]
    assert abs(residuals.mean()) < 4 / len(mu) ** 0.5 / (1 - share)
    assert len(np.unique(residuals)) == len(residuals)  # no half repeats another's stream
    # Eleven calls for each draw that fails, at most, beside one for each block.
    assert len(simulator.lengths) <= 10 + 22 * n_failed


@pytest.mark.parametrize("accident", [lambda: None, lambda: 3.0, lambda: np.zeros(7)])
def test_a_block_that_returns_nothing_useful_is_halved_too(accident):
    mu = simulate(lambda rng, mu: mu, 3_000).x
    bad = mu[2_345]

    def simulator(rng, mu):
        return accident() if (mu == bad).any() else 2 * mu

    with pytest.warns(nre.SimulationWarning, match="^1 of 3,000 simulations"):
        simulations = simulate(simulator, 3_000)
    np.testing.assert_array_equal(simulations.x, 2 * np.delete(mu, 2_345))


def test_blocks_that_work_have_the_numbers_that_they_had():
    whole, mu = simulate(Raising(0), 3_000), simulate(lambda rng, mu: mu, 3_000).x
    bad = mu[1_500]

    def simulator(rng, mu):
        return 1 / 0 if (mu == bad).any() else rng.normal(mu)

    with pytest.warns(nre.SimulationWarning):
        simulations = simulate(simulator, 3_000)
    first = slice(BLOCK)
    np.testing.assert_array_equal(simulations.x[first], whole.x[first])
    np.testing.assert_array_equal(simulations.x[-BLOCK:], whole.x[-BLOCK:])


def test_halves_have_the_same_streams_on_any_executor():
    with pytest.warns(nre.SimulationWarning):
        here = simulate(Raising(0.01), 5_000)
    with ThreadPoolExecutor(2) as executor, pytest.warns(nre.SimulationWarning):
        there = simulate(Raising(0.01), 5_000, executor=executor)
    np.testing.assert_array_equal(here.x, there.x)
    np.testing.assert_array_equal(here.theta, there.theta)


def test_a_simulator_that_always_raises_is_given_up_soon():
    simulator = Raising(2.0)
    with pytest.raises(nre.SimulationError, match=r"(?s)^All of 1,000 .*\nZeroDivisionError"):
        simulate(simulator, 100_000)
    assert len(simulator.lengths) < 250


def test_the_first_block_must_be_observations():
    calls = []
    with pytest.raises(TypeError, match="returned None"):
        simulate(lambda rng, mu: calls.append(mu), 5_000)
    assert len(calls) == 1


def test_a_slice_tells_which_draws_have_which_shape():
    simulator = nre.Simulator(lambda rng, k: np.zeros(int(k)))
    k = np.array([1.0, 2.0, np.inf, 1.0, -1.0])
    found = simulate_slice(simulator, {"k": k}, ROOT, 500, 505)
    assert (found.start, found.stop) == (500, 505)
    np.testing.assert_array_equal(found.succeeded, [1, 1, 0, 1, 0])
    np.testing.assert_array_equal(found.result[(1,)][0], [1, 0, 0, 1, 0])
    assert found.result[(1,)][1].shape == (2, 1)
    assert found.result[(2,)][1].shape == (1, 2)
    assert found.error == "k was drawn as NaN or infinity"
