"""Simulators that change their arguments, or fill one array again and again."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pymc as pm
import pytest

import pymc_nre as nre
from pymc_nre.simulation.calls import name_of, own
from pymc_nre.simulation.execution import repeat_at, simulate_at
from pymc_nre.simulation.joint import JointSimulator
from pymc_nre.simulation.prediction import predict


def clean(rng, theta):
    return rng.normal(1_000 * theta, 1.0).sum(-1)


def careless(rng, theta):
    theta *= 1_000.0
    return rng.normal(theta, 1.0).sum(-1)


def prior():
    return {"theta": pm.Normal.dist(shape=2)}


def seed():
    return np.random.SeedSequence(1)


def simulated(simulator, batched, **options):
    options = {"random_seed": 1, "progressbar": False, "batched": batched} | options
    made = nre.simulate(prior(), simulator, 200, **options)
    return made.theta, made.x


def in_threads(simulator, batched):
    with ThreadPoolExecutor(2) as executor:
        return simulated(simulator, batched, executor=executor)


def online(simulator, batched):
    made = nre.Online(prior(), simulator, batched=batched, per_epoch=200, random_seed=1)
    return made.simulations(0).theta, made.simulations(0).x


def at_given(simulator, batched):
    theta = np.random.default_rng(1).normal(size=(200, 2))
    x = simulate_at(nre.Simulator(simulator, batched), {"theta": theta}, seed())[1]
    return theta, x


def at_one_point(simulator, batched):
    layout = nre.Simulations({"theta": np.zeros((1, 2))}, [0.0]).layout
    point = np.array([1.0, 2.0])
    x = repeat_at(nre.Simulator(simulator, batched), layout, point, 20, np.random.default_rng(1))[1]
    return point, x


def replicated(simulator, batched):
    joint = JointSimulator.of(prior(), simulator, None, batched)
    parameters, x = joint.replicate(20, 3, seed=1)
    return parameters["theta"], x


def predicted(simulator, batched):
    theta = np.random.default_rng(1).normal(size=(20, 2))
    rng = np.random.default_rng(2)
    return theta, predict(nre.Simulator(simulator, batched), rng, {"theta": theta}, 20, ())


def drawn(simulator, batched):
    theta = np.random.default_rng(1).normal(size=(20, 2))
    rng = np.random.default_rng(2)
    return theta, nre.Simulator(simulator, batched).draw(rng, {"theta": theta}, 20)


WAYS = {
    "simulate": simulated,
    "simulate at": lambda *a: simulated(*a, at={"theta": [1.0, 2.0]}),
    "threads": in_threads,
    "online": online,
    "given parameters": at_given,
    "one point": at_one_point,
    "replicates": replicated,
    "predictions": predicted,
    "a simulator's own draws": drawn,
}


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_a_simulator_may_change_its_arguments(way, batched):
    theta, x = WAYS[way](careless, batched)
    expected = WAYS[way](clean, batched)
    np.testing.assert_array_equal(theta, expected[0])
    np.testing.assert_array_equal(x, expected[1])


@pytest.mark.parametrize("way", WAYS)
def test_a_simulator_may_fill_one_array_again_and_again(way):
    buffer = np.empty(1)

    def simulator(rng, theta):
        buffer[:] = clean(rng, theta)
        return buffer[0] if way == "scalars" else buffer.reshape(())

    np.testing.assert_array_equal(WAYS[way](simulator, False)[1], WAYS[way](clean, False)[1])


def test_a_simulator_that_returns_its_argument_does_not_tie_the_two():
    made = nre.simulate(
        prior(), lambda rng, theta: theta, 50, batched=True, random_seed=1, progressbar=False
    )
    made.x[:] = 0
    assert made.parameters["theta"].all()


def test_numbers_stay_numbers():
    row = {"mu": np.float64(1.5), "k": np.int64(3), "beta": np.zeros(2)}
    copied = own(row)
    assert [type(value) for value in copied.values()] == [np.float64, np.int64, np.ndarray]
    assert copied["beta"] is not row["beta"]


def test_simulators_have_names():
    import functools

    assert name_of(clean) == name_of(functools.partial(clean, theta=1)) == "clean"
    assert name_of(nre.Simulator(clean)) == "Simulator"


def without_generator(mu):
    return mu


def of_a_deterministic(rng, mu, double):
    return rng.normal(mu, double)


def by_name(rng, mu):
    return {"time": mu, "choice": 0 * mu}


def model_with_deterministic():
    with pm.Model() as model:
        pm.Deterministic("double", 2 * pm.Normal("mu", 0, 1))
    return model


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize(
    ("simulator", "told"),
    [
        (
            without_generator,
            r"without_generator\(mu\) is called by without_generator\(rng, mu=mu\)",
        ),
        (lambda: 1.0, "Its first argument must be the random generator rng"),
        (lambda **_: 1.0, "Its first argument must be the random generator rng"),
        (of_a_deterministic, r"missing.*'double'.*every free variable.*pm.Deterministic.*computes"),
        (by_name, r"got an object of type dict with outputs by name \(time, choice\).*np.stack"),
    ],
)
def test_simulators_that_cannot_be_called_or_used_so_are_told(simulator, told, batched):
    with pytest.raises(TypeError, match=told):
        nre.simulate(
            model_with_deterministic(), simulator, 2_000, batched=batched, progressbar=False
        )


def test_a_type_error_of_the_simulators_own_is_shown():
    def simulator(rng, mu):
        raise TypeError("my own")

    with pytest.raises(nre.SimulationError, match="TypeError: my own"):
        nre.simulate(model_with_deterministic(), simulator, 200, progressbar=False)


def test_the_generator_may_have_any_name():
    def simulator(generator, *, mu):
        return generator.normal(mu)

    assert len(nre.simulate(model_with_deterministic(), simulator, 10, progressbar=False)) == 10
