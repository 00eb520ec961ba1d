"""Simulations on ready arrays, and the packing of parameters."""

import math

import numpy as np
import pymc as pm
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from pymc_nre import Simulations, Simulator
from pymc_nre.simulation.forward import ForwardDraw
from pymc_nre.simulation.parameters import RESERVED, Layout
from pymc_nre.simulation.prior import Prior

SHAPES = {"mu": (), "beta": (3,), "A": (2, 2)}


@st.composite
def layouts_and_matrices(draw):
    own = st.lists(st.integers(1, 3), max_size=3).map(tuple)
    names = draw(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=4, unique=True))
    layout = Layout({name: draw(own) for name in names})
    batch = draw(st.lists(st.integers(0, 3), max_size=2).map(tuple))
    finite = st.floats(-1e6, 1e6)
    return layout, draw(arrays(float, (*batch, layout.size), elements=finite))


@given(layouts_and_matrices())
def test_pack_is_the_inverse_of_unpack(case):
    layout, theta = case
    parameters = layout.unpack(theta)
    assert {name: value.shape for name, value in parameters.items()} == {
        name: (*theta.shape[:-1], *own) for name, own in layout.shapes.items()
    }
    np.testing.assert_array_equal(layout.pack(parameters), theta)


def test_pack_keeps_the_layout_order_and_c_order():
    layout = Layout(SHAPES)
    packed = layout.pack({"A": [[4.0, 5.0], [6.0, 7.0]], "beta": [1, 2, 3], "mu": 0})
    np.testing.assert_array_equal(packed, np.arange(8.0))
    assert packed.dtype == float


def test_pack_broadcasts_batches():
    layout = Layout({"mu": (), "beta": (3,)})
    mu, beta = np.arange(4.0), np.arange(6.0).reshape(2, 1, 3)
    packed = layout.pack({"mu": mu, "beta": beta})
    assert packed.shape == (2, 4, 4)
    for i in range(2):
        for j in range(4):
            np.testing.assert_array_equal(packed[i, j], [mu[j], *beta[i, 0]])


def test_integers_are_unpacked_as_what_they_are():
    layout = Layout({"k": (), "n": (2,), "mu": ()}, frozenset({"k", "n"}))
    assert layout != Layout(layout.shapes)
    # Rounded, not cut off: a float that travelled may come back a digit short.
    theta = np.array([[3.0, 1.9999999, -2.0000001, 0.5]])
    parameters = layout.unpack(theta)
    np.testing.assert_array_equal(parameters["k"], [3])
    np.testing.assert_array_equal(parameters["n"], [[2, -2]])
    assert {name: value.dtype.kind for name, value in parameters.items()} == {
        "k": "i", "n": "i", "mu": "f",
    }  # fmt: skip
    np.testing.assert_array_equal(layout.pack(parameters), [[3, 2, -2, 0.5]])


def test_size_and_labels():
    layout = Layout(SHAPES)
    assert layout.size == 8
    assert layout.labels == [
        "mu", "beta[0]", "beta[1]", "beta[2]", "A[0, 0]", "A[0, 1]", "A[1, 0]", "A[1, 1]",
    ]  # fmt: skip


def test_names_are_checked():
    layout = Layout(SHAPES)
    with pytest.raises(
        TypeError,
        match=r"^log_ratio: expected the parameters mu, beta, A, got unknown a, nu; missing beta, "
        r"A\. Name each of them, and nothing else\.$",
    ):
        layout.pack({"mu": 0.0, "nu": 1.0, "a": 1.0})
    with pytest.raises(TypeError, match=r"^caller: expected .*, got missing mu\. Name each"):
        layout.check_names({"beta": 1, "A": 2}, "caller")
    layout.check_names(dict.fromkeys(SHAPES), "caller")


@pytest.mark.parametrize(
    ("beta", "got"), [(1.0, r"\(\)"), ([1.0, 2.0], r"\(2,\)"), (np.zeros((3, 4)), r"\(3, 4\)")]
)
def test_own_shapes_are_checked(beta, got):
    message = (
        rf"^here: parameter 'beta' has own shape \(3,\), so it must have shape \(\*batch, 3\), "
        rf"got {got}\. Put the parameter's own axes last\.$"
    )
    with pytest.raises(ValueError, match=message):
        Layout({"beta": (3,)}).pack({"beta": beta}, "here")


def ready(n=50, **extra):
    rng = np.random.default_rng(1)
    parameters = {"mu": rng.normal(size=n), "beta": rng.normal(size=(n, 3))}
    return Simulations(parameters, rng.normal(size=(n, 2)), **extra)


def test_ready_arrays():
    simulations = ready()
    assert len(simulations) == 50
    assert simulations.event_shape == (2,)
    assert simulations.layout == Layout({"mu": (), "beta": (3,)})
    assert simulations.theta.shape == (50, 4)
    np.testing.assert_array_equal(simulations.theta[:, 1:], simulations.parameters["beta"])
    assert simulations.log_prior is None
    assert simulations.simulator is None
    assert simulations.n_failed == 0


def test_integers_and_lists_become_floats():
    simulations = Simulations({"k": [1, 2, 3]}, [True, False, True])
    assert simulations.parameters["k"].dtype == simulations.x.dtype == float


@pytest.mark.parametrize(
    ("values", "integer"),
    [
        ([1, 2, 3], True),
        ([True, False, True], True),
        (np.uint8([1, 2, 3]), True),
        ([1.0] * 3, False),
    ],
)
def test_integers_are_remembered(values, integer):
    layout = Simulations({"k": values, "mu": np.zeros(3)}, np.zeros(3)).layout
    assert layout.integer == ({"k"} if integer else set())


def test_repr():
    assert repr(ready()) == (
        "Simulations: 50 pairs, parameters mu (scalar), beta (shape (3,)), observation shape (2,)"
    )
    simulations = Simulations({"mu": np.zeros(2_000)}, np.zeros(2_000))
    simulations.n_failed = 1_234
    assert repr(simulations) == (
        "Simulations: 2,000 pairs, 1,234 failed and left out, parameters mu (scalar), "
        "observation scalar"
    )


def test_lengths_must_agree():
    message = r"^Parameters and x need the same length .*, got a: 3, b: 4, x: 3\.$"
    with pytest.raises(ValueError, match=message):
        Simulations({"a": np.zeros(3), "b": np.zeros(4)}, np.zeros((3, 3)))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_everything_must_be_finite(bad):
    x = np.zeros((1_500, 2))
    x[[7, 9], 1] = bad
    with pytest.raises(
        ValueError,
        match=r"^x is not finite in 2 of 1,500 simulations \(first: row 7\)\. Leave those rows out "
        r"of every array, and mind .* given that the simulation succeeded\.$",
    ):
        Simulations({"mu": np.zeros(1_500)}, x)
    with pytest.raises(ValueError, match=r"^mu is not finite in 2 of 1,500"):
        Simulations({"mu": x[:, 1]}, np.zeros(1_500))


def test_a_single_number_is_no_set_of_simulations():
    with pytest.raises(ValueError, match=r"^mu must have a leading axis of simulations, got a"):
        Simulations({"mu": 1.0}, np.zeros(1))


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_reserved_names(name):
    message = rf"^Parameters cannot be called {name}: .* Rename them .*, e\.g\. {name}_\.$"
    with pytest.raises(ValueError, match=message):
        Simulations({"mu": np.zeros(3), name: np.zeros(3)}, np.zeros(3))
    assert len(Simulations({f"{name}_": np.zeros(3)}, np.zeros(3))) == 3


def test_names_must_be_identifiers():
    message = r"must be Python identifiers, .*; got 'group::mu', 'my mu'\. Rename them"
    with pytest.raises(ValueError, match=message):
        Simulations({"my mu": np.zeros(3), "group::mu": np.zeros(3)}, np.zeros(3))


def test_no_parameters():
    with pytest.raises(ValueError, match=r"^Simulations needs at least one parameter, got none\.$"):
        Simulations({}, np.zeros(3))


def test_prior_gives_the_log_density():
    mu = np.array([0.0, 0.5, -3.0])
    expected = stats.norm(0, 2).logpdf(mu)
    got = Simulations({"mu": mu}, mu, prior={"mu": pm.Normal.dist(0.0, 2.0)}).log_prior
    # PyTensor holds constants such as 2.0 in float32, so PyMC's log(2.0) is a float32 number.
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_the_log_density_is_computed_once_and_only_when_asked_for(monkeypatch):
    calls = []
    monkeypatch.setattr(
        Prior, "log_density", lambda self, parameters: calls.append(1) or np.zeros(3)
    )
    simulations = Simulations({"mu": np.zeros(3)}, np.zeros(3), prior={"mu": pm.Normal.dist()})
    assert not calls
    for _ in range(2):
        np.testing.assert_array_equal(simulations.log_prior, np.zeros(3))
    assert len(calls) == 1


def test_prior_must_name_the_same_parameters():
    message = (
        r"^The prior of these simulations: expected the parameters mu, got unknown nu; missing "
        r"mu\. Name each"
    )
    with pytest.raises(TypeError, match=message):
        Simulations({"mu": np.zeros(3)}, np.zeros(3), prior={"nu": pm.Normal.dist()})


def test_to_xarray():
    simulations = ready()
    data = simulations.to_xarray()
    assert set(data) == {"mu", "beta", "x"}
    assert data["mu"].dims == ("simulation",)
    assert data["beta"].dims == ("simulation", "beta_dim_0")
    assert data["x"].dims == ("simulation", "x_dim_0")
    np.testing.assert_array_equal(data["beta"], simulations.parameters["beta"])
    assert data.attrs == {"n_failed": 0}
    simulations.log_prior = np.arange(50.0)
    np.testing.assert_array_equal(simulations.to_xarray()["log_prior"], np.arange(50.0))


def test_simulator_of_single_draws_and_batched_ones_agree():
    single = Simulator(lambda rng, mu: mu + np.arange(2.0))
    batched = Simulator(lambda rng, mu: mu[:, None] + np.arange(2.0), batched=True)
    mu = {"mu": np.array([1.0, 5.0, 7.0])}
    rng = np.random.default_rng(1)
    np.testing.assert_array_equal(single.draw(rng, mu, 3), [[1, 2], [5, 6], [7, 8]])
    np.testing.assert_array_equal(single.draw(rng, mu, 3), batched.draw(rng, mu, 3))


@pytest.mark.parametrize("batched", [False, True])
def test_a_simulator_draws_its_nuisance_given_the_parameters(batched):
    mu = pm.Normal.dist()
    nuisance = ForwardDraw({"nu": pm.Normal.dist(mu, 1e-3)}, {"mu": mu})
    simulator = Simulator(lambda rng, mu, nu: nu - mu, batched, nuisance)
    values = {"mu": np.linspace(-100, 100, 50)}
    drawn = simulator.draw(np.random.default_rng(1), values, 50)
    assert drawn.shape == (50,)
    assert abs(drawn).max() < 5e-3  # the twin would be nu of another mu, 4 away
    assert len(np.unique(drawn)) == 50
    again = simulator.draw(np.random.default_rng(1), values, 50)
    np.testing.assert_array_equal(again, drawn)
    assert list(values) == ["mu"]  # what was passed is left alone


def test_a_bare_function_is_a_simulator():
    simulations = ready(simulator=math.fsum)
    assert simulations.simulator == Simulator(math.fsum, batched=False)
    kept = Simulator(math.fsum, batched=True)
    assert ready(simulator=kept).simulator is kept
    message = r"^simulator must be a function simulator\(rng, \*\*parameters\), got str\.$"
    with pytest.raises(TypeError, match=message):
        ready(simulator="normal")
