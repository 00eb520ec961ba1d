"""Simulations on ready arrays, and the packing of parameters."""

import math

import numpy as np
import pandas as pd
import pymc as pm
import pytest
import torch
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

import pymc_nre as nre
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


@pytest.mark.parametrize("name", ["lambda", "class", "None"])
def test_keywords_are_no_names(name):
    message = rf"identifiers, and none of its keywords, .* got '{name}'\. Rename them"
    with pytest.raises(ValueError, match=message):
        Simulations({"mu": np.zeros(3), name: np.zeros(3)}, np.zeros(3))
    with pytest.raises(ValueError, match=message):
        Prior.of({name: pm.Normal.dist()})


@pytest.mark.parametrize(
    ("name", "read_as"), [("\u03f5", "\u03b5"), ("\u03d5_0", "\u03c6_0"), ("\u00b5", "\u03bc")]
)
def test_names_that_python_reads_as_others(name, read_as):
    message = rf"^Parameter '{name}' \(U\+{ord(name[0]):04X}.* reads it as '{read_as}' \(U\+03"
    for make in (lambda p: Simulations(p, np.zeros(3)), lambda p: Prior.of(dict.fromkeys(p, MU))):
        with pytest.raises(ValueError, match=message):
            make({name: np.zeros(3)})
    simulations = nre.simulate({read_as: MU}, eval(f"lambda rng, {name}: 0.0"), 5, **QUIET)
    assert list(simulations.parameters) == [read_as]  # as the message says


MU = pm.Normal.dist()
QUIET = {"random_seed": 1, "progressbar": False}
MASKED = np.ma.array([1.0, -999.0, 3.0], mask=[False, True, False])
NO_NUMBERS = {
    "masked": (MASKED, ValueError, "1 of 3 values are masked"),
    "complex": (np.array([1, 2, 3j]), TypeError, "complex"),
    "text": (["a", "b", "c"], TypeError, "numbers"),
    "None": (None, TypeError, "None"),
    "ragged": ([[1.0], [1.0, 2.0], [1.0]], ValueError, "same shape"),
    "empty": (np.zeros((3, 0)), ValueError, r"at least one number, got shape \(3, 0\)"),
    "empty within": (np.zeros((3, 2, 0)), ValueError, r"got shape \(3, 2, 0\)"),
}


@pytest.mark.parametrize("where", ["mu", "x"])
@pytest.mark.parametrize("name", NO_NUMBERS)
def test_what_holds_no_real_numbers_is_refused(name, where):
    value, error, message = NO_NUMBERS[name]
    arrays = {"mu": np.zeros(3), "x": np.zeros(3)} | {where: value}
    with pytest.raises(error, match=rf"^{where}.*{message}"):
        Simulations({"mu": arrays["mu"]}, arrays["x"])


def test_no_simulations():
    with pytest.raises(ValueError, match=r"^mu must hold at least one simulation, got none\.$"):
        Simulations({"mu": []}, [])


def test_tables_are_simulations():
    rng = np.random.default_rng(1)
    theta, x = rng.normal(size=(5, 2)), rng.normal(size=(5, 3))
    expected = Simulations({"mu": theta[:, 0], "sigma": theta[:, 1]}, x)
    table = pd.DataFrame(theta, columns=["mu", "sigma"], index=range(7, 12))
    data = xr.Dataset({"mu": ("draw", theta[:, 0]), "sigma": ("draw", theta[:, 1])})
    for parameters, values in ((table, pd.DataFrame(x)), (data, torch.tensor(x)), (table, x)):
        got = Simulations(parameters, values)
        np.testing.assert_array_equal(got.theta, expected.theta)
        np.testing.assert_array_equal(got.x, expected.x)
    counts = Simulations(pd.DataFrame({"k": pd.array([1, 2], dtype="Int64")}), [0.0, 1.0])
    assert counts.layout.integer == {"k"}
    with pytest.raises(
        TypeError, match=r"^parameters must be a dict .*, got .* ndarray\. Name them"
    ):
        Simulations(theta, x)


def test_no_parameters():
    message = r"^Simulations: parameters: expected at least one, got none\.$"
    with pytest.raises(ValueError, match=message):
        Simulations({}, np.zeros(3))


def test_prior_gives_the_log_density():
    mu = np.array([0.0, 0.5, -3.0])
    expected = stats.norm(0, 2).logpdf(mu)
    got = Simulations({"mu": mu}, mu, prior={"mu": pm.Normal.dist(0.0, 2.0)}).log_prior
    # PyTensor holds constants such as 2.0 in float32, so PyMC's log(2.0) is a float32 number.
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_the_log_density_is_computed_once_and_only_when_asked_for(monkeypatch):
    lengths, n = [], 5_000

    def log_density(self, parameters):
        lengths.append(len(parameters["mu"]))
        return np.zeros(lengths[-1])

    monkeypatch.setattr(Prior, "log_density", log_density)
    simulations = Simulations({"mu": np.zeros(n)}, np.zeros(n), prior={"mu": pm.Normal.dist()})
    assert lengths == [1_000]  # whether it can be the prior
    for _ in range(2):
        np.testing.assert_array_equal(simulations.log_prior, np.zeros(n))
    assert lengths == [1_000, n]


def of_prior(mu, prior, **others):
    return Simulations({"mu": mu, **others}, np.zeros(len(mu)), prior=prior)


IMPOSSIBLE = {
    "another range": ((-10, 10), lambda: {"mu": pm.Uniform.dist(0, 1)}),
    "another sign": ((-1, 1), lambda: {"mu": pm.HalfNormal.dist()}),
    "logarithms": ((-3, 0), lambda: {"mu": pm.Gamma.dist(2, 1)}),
    "another kind": ((0, 9), lambda: {"mu": pm.Poisson.dist(3)}),
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_a_prior_under_which_draws_are_impossible_is_refused(name):
    (low, high), prior = IMPOSSIBLE[name]
    mu = np.random.default_rng(1).uniform(low, high, 3_000)
    message = (
        r"^prior: [\d,]+ of 1,000 draws .* are impossible under it \(first: row \d+\)\. Pass the"
    )
    with pytest.raises(ValueError, match=message):
        of_prior(mu, prior())


def test_the_range_of_a_parameter_may_depend_on_another():
    with pm.Model() as prior:
        mu = pm.Uniform("mu", 0, 10)
        pm.Uniform("nu", mu, 10)
    mu = np.linspace(0.1, 9, 50)
    assert np.isfinite(of_prior(mu, prior, nu=mu + 0.5).log_prior).all()
    with pytest.raises(ValueError, match=r"^prior: 50 of 50 draws .* impossible"):
        of_prior(mu, prior, nu=mu - 0.05)


def test_rounding_at_the_edge_of_a_prior_is_told_and_taken():
    mu = np.append(np.random.default_rng(1).uniform(0, 0.1, 499), np.float32(0.1))
    with pytest.warns(nre.SimulationWarning, match="^prior: 1 of 500 .* row 499"):
        of_prior(mu, {"mu": pm.Uniform.dist(0, 0.1)})


def test_a_prior_has_the_shapes_of_one_draw():
    message = r"expected parameters of shape \{'mu': \(3,\)\}, got \{'mu': \(\)\}\. Give each"
    with pytest.raises(ValueError, match=message):
        of_prior(np.zeros((5, 3)), {"mu": pm.Normal.dist()})


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


@pytest.mark.parametrize("name", ["x", "log_prior", "simulation", "beta_dim_0"])
def test_to_xarray_keeps_parameters_that_are_called_as_its_own(name):
    rng = np.random.default_rng(1)
    parameters = {name: rng.normal(size=50), "beta": rng.normal(size=(50, 3))}
    prior = {name: pm.Normal.dist(), "beta": pm.Normal.dist(shape=3)}
    simulations = Simulations(parameters, rng.normal(size=(50, 2)), prior=prior)
    data = simulations.to_xarray()
    own = {"x": "x", "log_prior": "log_prior"} | {name: f"{name}_"}
    for key, values in parameters.items():
        np.testing.assert_array_equal(data[key], values)
    np.testing.assert_array_equal(data[own["x"]], simulations.x)
    np.testing.assert_array_equal(data[own["log_prior"]], simulations.log_prior)
    assert len(data) == 4  # none has become a coordinate


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
    with pytest.raises(TypeError, match=message):
        Simulator("normal")
