"""The wall around the training domain, as a function."""

import numpy as np
import pytest

from pymc_nre.estimators.domain import Domain
from pymc_nre.estimators.wall import Wall

RNG = np.random.default_rng(4)
DOMAINS = {
    "uniform": RNG.uniform(-10, 10, (20_000, 1)),
    "normal, correlated": RNG.multivariate_normal([1, -2], [[1, 1.8], [1.8, 4]], 20_000),
    "skewed": RNG.lognormal(0, 2, (5_000, 1)),
    "integer": RNG.integers(0, 8, (5_000, 1)).astype(float),
    "constant": np.full((500, 1), 3.0),
    "constant at zero": np.zeros((500, 1)),
    "few": RNG.normal(size=(5, 3)),
}
CASES = pytest.mark.parametrize("draws", DOMAINS.values(), ids=DOMAINS.keys())


def wall_around(draws):
    return Wall.around(Domain.from_draws(draws))


@CASES
def test_it_stands_just_outside(draws):
    wall = wall_around(draws)
    assert (wall.height(draws[:10_000]) == 0).all()
    theta = RNG.normal(draws.mean(0), 3 + 3 * draws.std(0), (10_000, draws.shape[1]))
    out = ((theta < wall.low) | (theta > wall.high)).any(-1)
    height = wall.height(theta)
    assert (height[out] > 0).all()
    assert np.isfinite(height).all()


def test_it_stands_around_combinations():
    wall = wall_around(DOMAINS["normal, correlated"])
    # Both are within their ranges; together they are seven standard deviations out.
    theta = np.array([1.0, -2.0]) + np.array([2.2, -4.4])
    assert ((theta > wall.low) & (theta < wall.high)).all()
    assert wall.height(theta) > 20
    assert wall.height(np.array([1.0, -2.0]) + np.array([2.2, 4.4])) == 0


@pytest.mark.parametrize("value", [0.0, 1.5])
def test_it_stands_around_combinations_beside_what_never_varies(value):
    wall = wall_around(np.column_stack([DOMAINS["normal, correlated"], np.full(20_000, value)]))
    theta = np.array([1.0 + 2.2, -2.0 - 4.4, value])
    assert ((theta >= wall.low) & (theta <= wall.high)).all()
    assert wall.height(theta) > 20


@CASES
def test_it_rises_with_the_distance(draws):
    wall = wall_around(draws)
    for end, outward in ((wall.high, 1), (wall.low, -1)):
        far = np.geomspace(1e-3, 1e3, 30)[:, None] * np.maximum(np.ptp(draws, axis=0), 1e-3)
        height = wall.height(end + outward * far)
        assert (np.diff(height) > 0).all()


def test_it_begins_without_a_slope():
    wall = wall_around(DOMAINS["uniform"])
    one, two = (wall.height(wall.high + step) for step in (1e-3, 2e-3))
    assert 0 < one < 1e-3
    assert two == pytest.approx(4 * one, rel=0.05)


def test_one_observation_reaches_a_hundredth_of_the_range_beyond_it():
    wall = wall_around(DOMAINS["uniform"])
    theta = wall.high + np.linspace(0, 4, 10_000)[:, None]
    weight = np.exp(-wall.height(theta))
    sd = np.sqrt((weight * (theta - wall.high)[:, 0] ** 2).sum() / weight.sum())
    assert sd / 20 == pytest.approx(0.013, abs=0.0005)


def test_tails_are_as_long_as_those_of_the_prior():
    wall = wall_around(DOMAINS["skewed"])
    below, above = wall.below[0], wall.above[0]
    low, high = np.quantile(DOMAINS["skewed"], [0.1587, 0.8413])
    assert below == pytest.approx(low - DOMAINS["skewed"].min(), rel=0.05)
    assert above == pytest.approx(DOMAINS["skewed"].max() - high, rel=0.05)
