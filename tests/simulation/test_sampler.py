"""Draws of all rows at once: PyMC's own numbers, whatever the distribution."""

import threading

import numpy as np
import pymc as pm
import pytest

from pymc_nre.simulation import prior as prior_module
from pymc_nre.simulation.forward import ForwardDraw
from pymc_nre.simulation.prior import Prior
from pymc_nre.simulation.sampler import Sampler


def normal_of(mu, rng=None, size=None):
    return rng.normal(mu, size=size)


def hierarchy():
    tau = pm.HalfNormal.dist(2.0)
    mu = pm.Normal.dist(tau, 3 * tau)
    count = pm.Poisson.dist(pm.math.exp(pm.math.clip(mu, -3, 3)))
    return {"tau": tau, "mu": mu, "b": pm.Normal.dist(mu, tau, shape=3), "k": count}


# How the prior is written, and whether its rows can be drawn at once.
PRIORS = {
    "plain": (lambda: {"mu": pm.Uniform.dist(-10, 10), "sd": pm.HalfNormal.dist(2)}, True),
    "hierarchy": (hierarchy, True),
    "several draws each": (
        lambda: {"g": pm.Gamma.dist(2, 1, shape=(2, 2)), "t": pm.StudentT.dist(4)},
        True,
    ),
    "vectors": (
        lambda: {
            "z": pm.MvNormal.dist(np.zeros(2), np.eye(2) + 0.3),
            "p": pm.Dirichlet.dist(np.ones(4)),
        },
        True,
    ),
    "integers": (
        lambda: {"k": pm.Categorical.dist([0.2, 0.8]), "d": pm.DiscreteUniform.dist(1, 9)},
        True,
    ),
    "a parent without a name": (lambda: {"mu": pm.Normal.dist(0, pm.HalfNormal.dist(3))}, True),
    "truncated": (lambda: {"m": pm.Truncated.dist(pm.Normal.dist(), lower=0)}, True),
    "a function of one": (lambda: {"m": pm.math.exp(pm.Normal.dist())}, True),
    "a function of the user's": (lambda: {"m": pm.CustomDist.dist(1.0, random=normal_of)}, True),
    "two draws in turn": (lambda: {"m": pm.SkewNormal.dist(0, 1, 2)}, False),
    "a mixture": (
        lambda: {"m": pm.Mixture.dist([0.5, 0.5], pm.Normal.dist([0.0, 1.0], 1.0))},
        False,
    ),
}


# PyTensor's own numba code for MvNormal is told so on PyMC 6.
@pytest.mark.filterwarnings(r"ignore:.*np\.dot\(\) is faster on contiguous arrays")
@pytest.mark.parametrize("name", PRIORS)
def test_the_numbers_are_those_of_pymc(name, monkeypatch):
    monkeypatch.setattr(prior_module, "_DRAWN_AT_ONCE", 90)  # blocks go on where one ended
    write, at_once = PRIORS[name]
    variables = write()
    drawn = Prior.of(variables).draw(200, np.random.default_rng(3))
    expected = pm.draw(list(variables.values()), 200, np.random.default_rng(3), mode="FAST_COMPILE")
    for got, wanted in zip(drawn.values(), expected, strict=True):
        assert got.dtype == wanted.dtype
        np.testing.assert_array_equal(got, wanted)
    sampler = Sampler(list(variables.values()))
    sampler.draw(100)
    assert (sampler._many is not None) == at_once


def test_all_rows_take_few_calls():
    calls = []

    def counted(mu, rng=None, size=None):
        calls.append(size)
        return rng.normal(mu, size=size)

    Prior.of({"mu": pm.CustomDist.dist(0.0, random=counted)}).draw(5_000, 1)
    assert len(calls) < 50  # row by row it would be 5,000


def test_draws_given_values_are_the_same_at_once_and_in_turn():
    mu = pm.Normal.dist()
    beta = pm.Normal.dist(mu, 0.1, shape=2)
    forward = ForwardDraw({"beta": beta, "k": pm.Poisson.dist(beta**2)}, {"mu": mu})
    values = {"mu": np.linspace(-3, 3, 300)}
    whole = forward.draw(np.random.default_rng(1), values, 300)
    assert forward._sampler._many is not None
    forward._sampler._many = None
    in_turn = forward.draw(np.random.default_rng(1), values, 300)
    for name in ("beta", "k"):
        np.testing.assert_array_equal(whole[name], in_turn[name])


def in_threads(work, n):
    """Results of work(0), ..., work(n - 1), each in a thread of its own."""
    results = [None] * n

    def at(i):
        results[i] = work(i)

    threads = [threading.Thread(target=at, args=(i,)) for i in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_threads_share_a_prior():
    variables = {"mu": pm.Mixture.dist([0.5, 0.5], pm.Normal.dist([0.0, 9.0])), **hierarchy()}

    def drawn(seed):
        return Prior.of(variables).draw(100, seed)["mu"]

    expected = [drawn(seed) for seed in range(6)]
    np.testing.assert_array_equal(in_threads(drawn, 6), expected)


def test_threads_share_a_model_that_simulates_itself():
    with pm.Model() as model:
        mu = pm.Normal("mu")
        x = pm.Mixture("x", [0.5, 0.5], pm.Normal.dist([mu, mu + 9]))
    values = {"mu": np.zeros(300)}

    def drawn(seed):  # each has a simulator of its own, of the same variables
        return ForwardDraw({"x": x}, {"mu": model["mu"]}).draw(
            np.random.default_rng(seed), values, 300
        )["x"]

    expected = [drawn(seed) for seed in range(6)]
    np.testing.assert_array_equal(in_threads(drawn, 6), expected)
