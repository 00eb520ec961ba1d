"""Forward draws of some variables of a model given others."""

import copy
import pickle
import threading

import cloudpickle
import numpy as np
import pymc as pm
import pytest
from scipy import stats

from pymc_nre.simulation.forward import ForwardDraw, as_dtype

N = 3_000
KS = stats.kstwobign.isf(1e-4) / np.sqrt(N)  # exceeded once in 10,000 times


def distance(draws, cdf):
    return stats.kstest(draws, cdf).statistic


@pytest.fixture(scope="module")
def model():
    with pm.Model() as model:
        a = pm.Normal("a", 0.0, 2.0)
        b = pm.Normal("b", a, 1.0)
        k = pm.Poisson("k", 4.0)
        z = pm.Normal("z", pm.math.stack([b, b + k]), 0.5, shape=2)
        pm.Deterministic("twice", 2 * z)
        pm.Normal("x", z.sum(), 0.1, observed=1.0)
    return model


def draws(model, outputs, given, values, n=N, seed=1):
    forward = ForwardDraw({o: model[o] for o in outputs}, {g: model[g] for g in given})
    return forward.draw(np.random.default_rng(seed), values, n)


def test_draws_follow_the_given_values(model):
    b = np.linspace(-5, 5, N)
    got = draws(model, ["z", "k"], ["b"], {"b": b})
    assert list(got) == ["z", "k"]
    assert got["z"].shape == (N, 2)
    assert got["k"].dtype.kind == "i"
    standardized = (got["z"] - np.stack([b, b + got["k"]], -1)) / 0.5
    for column in standardized.T:
        assert distance(column, stats.norm.cdf) < KS
    assert distance((got["z"][:, 0] - np.roll(b, 1500)) / 0.5, stats.norm.cdf) > KS  # the twin
    assert abs(got["k"].mean() - 4) < 4 * np.sqrt(4 / N)


def test_what_is_between_is_drawn_too(model):
    """x given a: b, k and z are marginalized; x = 2 b + k + N(0, 0.5) + N(0, 0.51)."""
    a = np.full(N, 3.0)
    x = draws(model, ["x"], ["a"], {"a": a})["x"]
    variance = 4 * 1 + 4 + 2 * 0.25 + 0.01
    assert abs(x.mean() - (2 * 3 + 4)) < 4 * np.sqrt(variance / N)
    # The variance of a variance is (kurtosis - 1) / N, and Poisson's adds 1/4 at most.
    assert abs(x.var() / variance - 1) < 4 * np.sqrt(2.25 / N)
    assert abs(x.var() / 0.51 - 1) > 1  # the twin: nothing marginalized


def test_a_deterministic_variable_and_an_observed_one(model):
    z = np.arange(6.0).reshape(3, 2)
    np.testing.assert_array_equal(draws(model, ["twice"], ["z"], {"z": z}, 3)["twice"], 2 * z)
    x = draws(model, ["x"], ["z"], {"z": z}, 3)["x"]
    assert abs(x - z.sum(-1)).max() < 0.6
    assert (x != 1.0).all()


def test_integers_that_travelled_as_floats(model):
    given = {"b": np.zeros(3), "k": np.array([0.0, 3.0, 1e4])}
    z = draws(model, ["z"], ["b", "k"], given, 3)["z"]
    np.testing.assert_allclose(z[:, 1], given["k"], atol=3)
    np.testing.assert_array_equal(as_dtype(np.array([2.9999, 3.0]), np.dtype("int64")), [3, 3])
    assert as_dtype(np.array([1, 2]), np.dtype("float64")).dtype == float


def test_the_same_generator_gives_the_same_draws(model):
    forward = ForwardDraw({"z": model["z"]}, {"b": model["b"]})
    b = {"b": np.zeros(20)}

    def z(forward, seed):
        return forward.draw(np.random.default_rng(seed), b, 20)["z"]

    first = z(forward, 1)
    np.testing.assert_array_equal(z(forward, 1), first)
    assert not np.array_equal(z(forward, 2), first)
    assert len(np.unique(first[:, 0])) == 20  # every row is its own draw
    for other in (copy.deepcopy(forward), cloudpickle.loads(cloudpickle.dumps(forward))):
        np.testing.assert_array_equal(z(other, 1), first)
    np.testing.assert_array_equal(forward(np.random.default_rng(1), **b), first)


def test_a_generator_moves_on(model):
    forward = ForwardDraw({"z": model["z"]}, {"b": model["b"]})
    rng = np.random.default_rng(1)
    one, other = (forward.draw(rng, {"b": np.zeros(3)}, 3)["z"] for _ in range(2))
    assert not np.array_equal(one, other)


def test_threads_take_turns(model):
    forward = ForwardDraw({"z": model["z"]}, {"b": model["b"]})
    b = {"b": np.zeros(200)}
    expected = [forward.draw(np.random.default_rng(s), b, 200)["z"] for s in range(4)]
    got = [None] * 4

    def work(s):
        got[s] = forward.draw(np.random.default_rng(s), b, 200)["z"]

    threads = [threading.Thread(target=work, args=(s,)) for s in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(
    ("outputs", "given"), [(["a"], ["b"]), (["x", "k"], ["z"]), (["b"], ["x"]), (["z"], ["twice"])]
)
def test_a_cause_given_its_effect_would_take_a_posterior(model, outputs, given):
    forward = ForwardDraw({o: model[o] for o in outputs}, {g: model[g] for g in given})
    message = (
        rf"^Cannot draw {', '.join(outputs)} given {given[0]}: {given[0]} itself depends on "
        r"variables that would have to be drawn, so that would take a posterior\. Give those too "
        r"\(leave them in parameters=\), or write the prior of"
    )
    with pytest.raises(ValueError, match=message):
        forward.draw(np.random.default_rng(1), {given[0]: np.zeros(3)}, 3)


def test_an_effect_whose_causes_are_all_given_is_no_posterior(model):
    given = {"a": np.zeros(3), "b": np.full(3, 7.0)}
    z = draws(model, ["z"], ["a", "b"], given, 3)["z"]
    assert abs(z[:, 0] - 7).max() < 3


def test_drawing_leaves_the_model_alone(model):
    before = [str(v) for v in model.basic_RVs]
    logp = model.compile_logp()(model.initial_point())
    draws(model, ["z"], ["b"], {"b": np.zeros(3)}, 3)
    assert [str(v) for v in model.basic_RVs] == before
    assert model.compile_logp()(model.initial_point()) == logp


def test_plain_pickle_writes_it(model):
    """As PyTensor's cache of compiled C does, with whatever belongs to a graph."""
    forward = ForwardDraw({"x": model["x"]}, {"a": model["a"]})
    again = pickle.loads(pickle.dumps(forward))
    one, other = (
        each.draw(np.random.default_rng(1), {"a": np.zeros(100)}, 100)["x"]
        for each in (forward, again)
    )
    np.testing.assert_array_equal(one, other)
