"""Vectorized graphs: a batch of parameters gives what they give one by one, derivatives too."""

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from bound import c_mode
from jax_process import process_with_jax
from pytensor.compile.mode import get_mode
from pytensor.graph.replace import vectorize_graph
from untrained import make_estimator

import pymc_nre as nre
from pymc_nre.networks import MLP, DeepSet

SHAPES = {"mu": (), "beta": (2,)}
X = np.random.default_rng(1).normal(size=(5, 3))
WEIGHTS = np.arange(1.0, 6.0)  # cotangents that are not ones
CASES = {
    "torch": {"engine": "torch"},
    "compiled": {"engine": "compiled"},
    "embedded": {"engine": "compiled", "network": MLP((8, 4), embedding=DeepSet((4,)))},
}


def graphs(case, core):
    """A parameter, the log ratios, their gradient and a Hessian product."""
    network = CASES[case].get("network")
    ratio = make_estimator(SHAPES, (3,), network)
    x = pytensor.shared(X, shape=(None, 3)) if network else X
    mu = pt.tensor("mu", shape=core, dtype="float64")
    values = nre.log_ratio(ratio, x, mu=mu, beta=np.array([0.1, 0.2]), engine=CASES[case]["engine"])
    gradient = pt.grad((values * WEIGHTS).sum(), mu)
    return mu, [values, gradient, pt.grad((gradient * 1.7).sum(), mu)]


def compare(case, core, mode):
    mu, one = graphs(case, core)
    many = pt.tensor("many", shape=(None, *core), dtype="float64")
    batched = vectorize_graph(one, {mu: many})
    later = pt.grad((batched[0] * WEIGHTS).sum(), many)  # differentiated after it was vectorized
    points = np.random.default_rng(2).normal(size=(4, *core))
    got = pytensor.function([many], [*batched, later], mode=mode)(points)
    function = pytensor.function([mu], one, mode=c_mode())
    values, gradients, products = map(np.stack, zip(*map(function, points), strict=True))
    assert np.ptp(values) > 1e-3
    for result, expected in zip(got, (values, gradients, products, gradients), strict=True):
        np.testing.assert_allclose(result, expected, rtol=1e-8, atol=1e-10)


# By row, PyTensor 2 has no numba code for the gradient of a vectorized join: it calls Python.
BATCHES = [
    *((case, core, "C") for case in CASES for core in ((), (5,))),
    pytest.param("torch", (), "numba", marks=pytest.mark.slow),
    ("compiled", (), "numba"),
]


@pytest.mark.parametrize(("case", "core", "mode"), BATCHES, ids=str)
def test_a_batch_is_its_members(case, core, mode):
    compare(case, core, c_mode() if mode == "C" else get_mode("NUMBA"))


def in_jax(case):
    """Values, and the gradient that JAX takes of them, as numpyro and nutpie do."""
    import jax
    from pymc.sampling.jax import get_jaxified_graph

    # By row, PyTensor 2 has no JAX code for the vectorized join of parameters.
    for core in ((),) if int(pytensor.__version__.split(".")[0]) < 3 else ((), (5,)):
        mu, [values, gradient, _] = graphs(case, core)
        many = pt.tensor("many", shape=(None, *core), dtype="float64")
        function = get_jaxified_graph([many], [vectorize_graph(values, {mu: many})])
        points = np.random.default_rng(2).normal(size=(4, *core))
        [got] = function(points)
        expected = pytensor.function([mu], [values, gradient], mode="JAX")
        slopes = jax.grad(lambda p, function=function: (function(p)[0] * WEIGHTS).sum())(points)
        wanted = [np.stack(part) for part in zip(*map(expected, points), strict=True)]
        np.testing.assert_allclose(got, wanted[0], rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(slopes, wanted[1], rtol=1e-8, atol=1e-10)


def test_a_batch_is_its_members_in_jax():
    with process_with_jax() as run:
        for case in ("torch", "compiled"):
            run(in_jax, case)


def test_two_batch_axes():
    mu, [values, *_] = graphs("compiled", ())
    many = pt.tensor("many", shape=(None, None), dtype="float64")
    points = np.random.default_rng(3).normal(size=(2, 3))
    got = pytensor.function([many], vectorize_graph(values, {mu: many}), mode=c_mode())(points)
    one = pytensor.function([mu], values, mode=c_mode())
    expected = [[one(point) for point in row] for row in points]
    np.testing.assert_allclose(got, expected, rtol=1e-10)


def test_a_parameter_outside_is_rejected_in_its_own_batch():
    for engine in ("torch", "compiled"):
        mu = pt.scalar("mu", dtype="float64")
        ratio = make_estimator({"mu": ()}, ())
        values = nre.log_ratio(ratio, np.zeros(3), mu=mu, engine=engine, outside="reject")
        many = pt.vector("many", dtype="float64")
        batched = pytensor.function([many], vectorize_graph(values, {mu: many}), mode=c_mode())
        assert np.isneginf(batched([0.0, 1e3, 1.0])).all(1).tolist() == [False, True, False]
