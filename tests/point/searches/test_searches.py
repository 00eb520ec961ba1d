"""Coordinates without edges, the quasi-Newton method, sums over trials, and what they find."""

import numpy as np
import pytest
import torch
from formulas import folded_mean, lopsided
from many_data_sets import integer_ratio
from untrained import make_estimator

import pymc_nre as nre
from pymc_nre.estimators.domain import Domain
from pymc_nre.networks import MLP, DeepSet
from pymc_nre.point.searches import summed as sums
from pymc_nre.point.searches.bfgs import maximize
from pymc_nre.point.searches.coordinates import Coordinates
from pymc_nre.point.searches.search import search
from pymc_nre.point.searches.summed import SummedRatio


def correlated(size=3, n=5_000):
    rng = np.random.default_rng(1)
    root = np.tril(rng.normal(size=(size, size))) + 2 * np.eye(size)
    theta = rng.normal(size=(n, size)) @ root.T
    theta[:, 0] = np.exp(theta[:, 0] / 5)
    return Domain.from_draws(theta)


@pytest.mark.parametrize("free", [[0, 1, 2], [1], [0, 2]])
def test_every_coordinate_is_inside_and_comes_back(free):
    domain = correlated()
    coordinates = Coordinates(domain, np.array(free))
    rng = np.random.default_rng(2)
    held = domain.draws[:200]
    v = rng.normal(size=(200, len(free)))
    theta, _ = coordinates.theta(v, held)
    assert domain.inside(theta).all()
    others = np.setdiff1d(range(3), free)
    np.testing.assert_array_equal(theta[:, others], held[:, others])
    back = coordinates.theta(coordinates.of(theta), held)[0]
    np.testing.assert_allclose(back, theta, rtol=1e-8)
    far, _ = coordinates.theta(1e6 * v, held)
    assert domain.inside(far + 1e-9 * (np.median(domain.draws, 0) - far)).mean() > 0.99


@pytest.mark.parametrize("free", [[0, 1, 2], [1, 2]])
def test_gradients_in_coordinates(free):
    domain = correlated()
    coordinates = Coordinates(domain, np.array(free))
    rng = np.random.default_rng(3)
    held, v = domain.draws[:50], 0.7 * rng.normal(size=(50, len(free)))
    weights = rng.normal(size=3)

    def value(v):
        return np.sin(coordinates.theta(v, held)[0] @ weights)

    theta, slope = coordinates.theta(v, held)
    own = np.cos(theta @ weights)[:, None] * weights
    found = coordinates.gradient(v, slope, own)
    for k in range(len(free)):
        step = 1e-6 * np.eye(len(free))[k]
        numeric = (value(v + step) - value(v - step)) / 2e-6
        # The map is piecewise linear: a kink between the two points is rare, but happens.
        assert np.median(np.abs(found[:, k] - numeric)) < 1e-6


def test_maxima_of_parabolas_of_all_scales():
    rng = np.random.default_rng(4)
    size, rows = 3, 200
    roots = rng.normal(size=(rows, size, size)) * 10 ** rng.uniform(-1, 2, (rows, 1, 1))
    curvature = roots @ roots.swapaxes(1, 2) + np.eye(size)
    peak = rng.normal(size=(rows, size))

    def function(v, which):
        off = v - peak[which]
        pulled = np.einsum("rij,rj->ri", curvature[which], off)
        return -0.5 * (off * pulled).sum(1), -pulled

    found = maximize(function, np.zeros((rows, size)), 200)
    below = -function(found, np.arange(rows))[0]
    assert below.max() < 1e-6


def test_maxima_of_banana_and_of_what_is_flat_or_not_finite():
    def banana(v, which):
        x, y = v.T
        gradient = np.stack([400 * x * (y - x**2) + 2 * (1 - x), -200 * (y - x**2)], -1)
        return -(100 * (y - x**2) ** 2 + (1 - x) ** 2), gradient

    starts = np.random.default_rng(5).normal(size=(50, 2))
    np.testing.assert_allclose(maximize(banana, starts, 500), 1.0, atol=1e-2)

    def flat(v, which):
        return np.zeros(len(v)), np.zeros(v.shape)

    np.testing.assert_array_equal(maximize(flat, starts, 100), starts)

    def wall(v, which):  # nothing beyond 1, where the slope still leads
        value = np.where(v[:, 0] < 1, v[:, 0], -np.inf)
        return value, np.ones(v.shape)

    found = maximize(wall, np.zeros((3, 1)), 100)
    assert ((found > 0.5) & (found < 1)).all()


NETWORKS = {
    "small": make_estimator(event_shape=(2,)),
    "many numbers": make_estimator(event_shape=(20,)),
    "sets": make_estimator(event_shape=(4, 2), network=MLP((8,), embedding=DeepSet((4,)))),
    "not traced": nre.tasks.GaussianMean().estimator(),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_sums_are_those_of_the_ratio(name, monkeypatch):
    ratio = NETWORKS[name]
    rng = np.random.default_rng(6)
    x = rng.normal(size=(3, 5, *ratio.event_shape))
    theta, which = ratio.domain.draws[:8], rng.integers(3, size=8)
    summed = SummedRatio.of(ratio, x)
    parts = [
        ratio.log_ratio(x[k], **ratio.layout.unpack(t)).sum()
        for k, t in zip(which, theta, strict=True)
    ]
    value, gradient = summed.value_and_gradient(theta, which)
    np.testing.assert_allclose(value, parts)
    np.testing.assert_allclose(summed.value(theta, which), parts)
    np.testing.assert_allclose(summed.table(theta[None, :], which[:1]).shape, (1, 8))
    numeric, second = np.empty_like(gradient), np.empty((8, *2 * gradient.shape[1:]))
    for d in range(theta.shape[1]):
        step = 1e-5 * np.eye(theta.shape[1])[d]
        up, down = (summed.value_and_gradient(theta + s, which) for s in (step, -step))
        numeric[:, d], second[:, d] = (up[0] - down[0]) / 2e-5, (up[1] - down[1]) / 2e-5
    np.testing.assert_allclose(gradient, numeric, rtol=1e-4, atol=1e-6)
    hessian = summed.hessian(theta, which)
    np.testing.assert_allclose(hessian, second, rtol=1e-4, atol=1e-6)
    monkeypatch.setattr(sums, "_PAIRS", 3)  # fewer than there are trials
    np.testing.assert_allclose(summed.value(theta, which), value)
    np.testing.assert_allclose(summed.hessian(theta, which), hessian, atol=1e-12)
    monkeypatch.setattr(sums, "_PAIRS", 11)
    np.testing.assert_allclose(summed.value_and_gradient(theta, which)[1], gradient)


def found_of(ratio, x, starts):
    summed = SummedRatio.of(ratio, x)
    draws = ratio.domain.draws[None, :1_000]
    continuous = ratio.layout.continuous
    return search(ratio, summed, np.arange(len(x)), continuous, draws, starts)


def test_all_modes_are_found_and_the_highest_is_told():
    ratio = folded_mean()
    x = np.random.default_rng(7).normal(2.25, 1.0, (30, 25))
    found = found_of(ratio, x, 20)
    np.testing.assert_allclose(np.abs(found.theta[:, 0]), np.sqrt(x.mean(1)), rtol=1e-4)
    assert (np.bincount(found.owner) == 2).all()
    assert found.converged.all()


def test_one_start_misses_what_many_find():
    ratio = lopsided()
    rng = np.random.default_rng(8)
    a = rng.choice([-1, 1], 200) * rng.uniform(1, 2, 200)
    x = ratio.simulator.function(rng, a=np.repeat(a[:, None], 64, axis=1))
    grid = np.linspace(-2.9, 2.9, 2_001)
    best = np.array([ratio.log_ratio(one[:, None], a=grid).sum(0).max() for one in x])
    many, one = (found_of(ratio, x, starts).value for starts in (20, 1))
    assert (many > best - 1e-3).mean() > 0.99
    assert (one > best - 1e-3).mean() < 0.9


def test_integers_are_compared_one_by_one():
    ratio = integer_ratio()
    x = np.random.default_rng(9).normal(2.4, 1.0, (20, 6))
    found = found_of(ratio, x, 20)
    np.testing.assert_array_equal(found.theta[:, 0], np.rint(x.mean(1)))


def test_no_curvature_is_told():
    ratio = make_estimator({"mu": ()}, network=MLP((8,), activation="relu"))
    found = found_of(ratio, np.random.default_rng(1).normal(size=(4, 3)), 5)
    assert (found.information == 0).all()
    assert not found.converged[~found.at_edge].any()


def test_autograd_turned_off_elsewhere_does_not_matter():
    ratio = nre.tasks.GaussianMean().estimator()
    with torch.no_grad():
        found = found_of(ratio, np.array([[1.0, 2.0]]), 5)
    np.testing.assert_allclose(found.theta, 1.5, atol=1e-5)
