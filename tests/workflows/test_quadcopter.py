"""The quadcopter example: its simulator beside real vehicles, and what its designs are worth."""

import numpy as np
import pytest
from example_modules import imported

# Mass, hover, distance and speed, and sizes, batteries and propellers, are those of the maker's
# specification pages (DJI: Mavic Pro, Phantom 4 Pro, Matrice 100 with TB47D, FPV). What no maker
# publishes was estimated from pictures and sold spare parts, before anything was compared: boxes
# for the bodies, solidity, kv and mass of the motors, and the mass of cameras and electronics.
VEHICLES = {
    "Mavic Pro": {
        "arm": 0.1675, "angle": 0.85, "legs": 0.03, "battery_x": 0.0, "payload_x": 0.1,
        "body_length": 0.2, "body_width": 0.083, "body_height": 0.083,
        "diameter": 0.211, "pitch": 0.36, "solidity": 0.09, "kv": 1_400, "motor": 0.025,
        "voltage": 11.4, "capacity": 3.83, "discharge": 10, "payload": 0.07, "electronics": 0.1,
    },
    "Phantom 4 Pro": {
        "arm": 0.175, "angle": 0.785, "legs": 0.1, "battery_x": 0.0, "payload_x": 0.0,
        "body_length": 0.2, "body_width": 0.15, "body_height": 0.09,
        "diameter": 0.24, "pitch": 0.53, "solidity": 0.1, "kv": 800, "motor": 0.055,
        "voltage": 15.2, "capacity": 5.87, "discharge": 10, "payload": 0.15, "electronics": 0.15,
    },
    "Matrice 100": {
        "arm": 0.325, "angle": 0.785, "legs": 0.2, "battery_x": 0.0, "payload_x": 0.0,
        "body_length": 0.25, "body_width": 0.12, "body_height": 0.08,
        "diameter": 0.343, "pitch": 0.33, "solidity": 0.08, "kv": 350, "motor": 0.1,
        "voltage": 22.2, "capacity": 4.5, "discharge": 15, "payload": 0.0, "electronics": 0.3,
    },
    "FPV": {
        "arm": 0.1225, "angle": 0.8, "legs": 0.03, "battery_x": 0.0, "payload_x": 0.0,
        "body_length": 0.18, "body_width": 0.07, "body_height": 0.06,
        "diameter": 0.135, "pitch": 0.53, "solidity": 0.2, "kv": 1_950, "motor": 0.033,
        "voltage": 22.2, "capacity": 2.0, "discharge": 30, "payload": 0.05, "electronics": 0.15,
    },
}  # fmt: skip
PUBLISHED = {
    "Mavic Pro": {"mass": 0.734, "hover": 24, "distance": 13, "speed": 65 / 3.6},
    "Phantom 4 Pro": {"mass": 1.388, "speed": 72 / 3.6},
    "Matrice 100": {"mass": 2.355, "hover": 22, "speed": 22},
    "FPV": {"mass": 0.795, "hover": 16, "distance": 16.8, "speed": 140 / 3.6},
}
# A design with room for everything
ROOMY = {
    "arm": 0.3, "angle": 0.785, "legs": 0.1, "battery_x": 0.0, "payload_x": 0.0,
    "body_length": 0.28, "body_width": 0.1, "body_height": 0.085,
    "diameter": 0.3, "pitch": 0.5, "solidity": 0.1, "kv": 500, "motor": 0.1,
    "voltage": 22.0, "capacity": 5.0, "discharge": 25,
}  # fmt: skip


@pytest.fixture(scope="module")
def examples():
    with imported("quadcopter", "quadcopter_design") as modules:
        yield modules


@pytest.fixture(scope="module")
def quadcopter(examples):
    return examples["quadcopter"]


@pytest.fixture(scope="module")
def example(examples):
    return examples["quadcopter_design"]


def outcome(quadcopter, **design):
    return dict(zip(quadcopter.OUTCOMES, quadcopter.outcomes(**design)[0], strict=True))


def errors(quadcopter, vehicle, published):
    """Of what is published of a vehicle, relative."""
    found = outcome(quadcopter, **VEHICLES[vehicle])
    return {name: found[name] / value - 1 for name, value in PUBLISHED[published].items()}


@pytest.mark.parametrize("vehicle", VEHICLES)
def test_vehicles_fly_as_published(quadcopter, vehicle):
    found = errors(quadcopter, vehicle, vehicle)
    print({name: f"{error:+.0%}" for name, error in found.items()})
    assert max(map(abs, found.values())) < 0.3


@pytest.mark.parametrize("vehicle", VEHICLES)
def test_no_vehicle_flies_as_another(quadcopter, vehicle):
    for other in VEHICLES.keys() - {vehicle}:
        assert max(map(abs, errors(quadcopter, vehicle, other).values())) > 0.3


def test_hovering_takes_what_momentum_theory_asks_for(quadcopter):
    """Figures of merit of propellers this small are between 0.5 and 0.7."""
    d = {name: np.array([float(value)]) for name, value in ROOMY.items()}
    thrust = np.array([5.0])
    shaft = quadcopter.rotor(d, thrust, np.zeros(1), np.zeros(1))[1]
    ideal = thrust**1.5 / (2 * quadcopter.AIR * np.pi * d["diameter"] ** 2 / 4) ** 0.5
    assert 0.5 < (ideal / shaft).item() < 0.7


def test_induced_velocity_is_that_of_glauert(quadcopter):
    """Its equation holds: in hover, in forward flight, and where air goes down through disks."""
    d = {name: np.full(3, float(value)) for name, value in ROOMY.items()}
    thrust, speed, alpha = np.full(3, 5.0), np.array([0.0, 12.0, 40.0]), np.array([0.0, 0.3, 1.2])
    turns, shaft = quadcopter.rotor(d, thrust, speed, alpha)
    u, area = turns * d["diameter"] / 2, np.pi * d["diameter"] ** 2 / 4
    lift = quadcopter.AIR * area * d["solidity"]
    friction = 0.02 + 0.03 * (6 * thrust / (lift * u**2)) ** 2
    profile = lift * friction * u**3 / 8 * (1 + 4.65 * (speed * np.cos(alpha) / u) ** 2)
    through = speed * np.sin(alpha)
    v = ((shaft - profile) / thrust - through) / quadcopter.INDUCED
    air = 2 * quadcopter.AIR * area * np.hypot(speed * np.cos(alpha), through + v)
    np.testing.assert_allclose(air * v, thrust, rtol=1e-6)


def test_a_motor_without_load_turns_by_its_kv(quadcopter):
    d = {"kv": np.array([500.0]), "motor": np.array([0.1])}
    turns = 500 * 20 * 2 * np.pi / 60
    voltage, power = quadcopter.motor(d, turns, 0.0)
    assert voltage.item() == pytest.approx(20, rel=0.01)
    assert 0 < power.item() < 20


@pytest.mark.parametrize(
    "heavy", [{"motor": 2.0}, {"payload": 20.0}, {"kv": 100}, {"payload": 1.0, "payload_x": 2.0}]
)
def test_what_cannot_hover_has_an_outcome(quadcopter, heavy):
    found = outcome(quadcopter, **ROOMY | heavy)
    assert found["hover"] == found["distance"] == found["speed"] == 0
    assert found["mass"] > 0
    assert found["power"] > 0
    assert found["current"] > 0
    assert np.isfinite(list(found.values())).all()


def test_a_roomy_design_flies_and_nothing_interferes(quadcopter):
    found = outcome(quadcopter, **ROOMY)
    assert found["speed"] > 10
    assert found["interferences"] == 0


@pytest.mark.parametrize(
    ("change", "count"),
    [
        ({"angle": 0.5}, 2),  # propellers left and right
        ({"angle": 1.1}, 2),  # front and rear
        ({"diameter": 0.45, "motor": 0.3, "body_height": 0.06}, 4),  # all, high over the body
        ({"diameter": 0.45}, 8),  # all, and the body
        (
            {"arm": 0.1, "diameter": 0.1, "motor": 0.3, "body_height": 0.06},
            4,
        ),  # motors and the body
        ({"battery_x": 0.1}, 1),  # the battery and the front
        ({"battery_x": -0.05, "body_height": 0.06}, 1),  # and the electronics
        ({"body_width": 0.05}, 2),  # the battery and both sides
        ({"body_height": 0.04}, 1),  # and the lid
        ({"legs": 0.05}, 1),  # the camera and the ground
    ],
)
def test_interferences_are_counted(quadcopter, change, count):
    assert outcome(quadcopter, **ROOMY | change)["interferences"] == count


def test_designs_know_nothing_of_each_other(example):
    designs = example.uniform(1, 300)
    together, alone = example.simulated(designs), [example.simulated(d[None]) for d in designs]
    assert np.isfinite(together).all()
    np.testing.assert_allclose(together, np.concatenate(alone), rtol=1e-10)


def test_noise_is_that_of_the_exact_likelihood(quadcopter, example):
    """log p of outcomes, up to a constant, is that of a normal with 5%; counts are exact."""
    designs = np.tile([ROOMY[name] for name in quadcopter.RANGES], (20_000, 1))
    named = dict(zip(quadcopter.RANGES, designs.T, strict=True))
    x = quadcopter.simulator(np.random.default_rng(1), **named)
    clean = example.simulated(designs[:1])
    noise = x[:, :-1] / clean[:, :-1] - 1
    # The sd of 20,000 numbers is good to half a percent, their mean to 0.04%.
    np.testing.assert_allclose(noise.mean(0), 0, atol=2e-3)
    np.testing.assert_allclose(noise.std(0), quadcopter.NOISE, rtol=0.03)
    assert np.all(x[:, -1] == 0)
    wanted, log_p = clean[0].copy(), example.log_likelihood(clean, clean[0])
    wanted[0] *= 1 + quadcopter.NOISE
    np.testing.assert_allclose(example.log_likelihood(clean, wanted), log_p - 0.5)
    assert example.log_likelihood(clean, wanted + (np.arange(7) == 6)) == -np.inf


def test_the_optimizer_tries_no_more_than_it_may(example):
    wanted = example.WANTED["steady"]
    tried = example.optimized(wanted, 1_000, 1)
    assert len(tried) <= 1_000
    assert ((tried >= example.LOWER) & (tried <= example.UPPER)).all()
    misses = [np.abs(example.misses(example.simulated(part), wanted)).mean() for part in
              (tried[:100], tried[-100:])]  # fmt: skip
    assert misses[1] < misses[0]


@pytest.mark.slow
@pytest.mark.timeout(3_600)
@pytest.mark.filterwarnings("default")  # PyMC tells of forks and chains, ArviZ of its next version
def test_designs_do_what_was_wanted(example, capsys):
    table = example.main()
    with capsys.disabled():
        print(f"\n{table.to_string(float_format='{:.3g}'.format)}")
    for name in example.WANTED:
        shares = table.loc[name]["both"]
        assert shares["default"] > 500 * shares["prior"]
