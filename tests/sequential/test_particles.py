"""Particles end where exact answers are, whatever is left of the prior, with the right mass."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
from scipy.stats import kstest, norm, poisson

from pymc_nre.sequential.particles import Powers, Thresholds, draw

N = 2_000
# Particles are drawn from each other. A step that leaves an effective share of .7 has a variance of
# (1 / .7 - 1) / n; ten of them add up in the mass, and in the shares of modes.
ERROR = 4 * math.sqrt(10 * (1 / 0.7 - 1) / N)
# Within a mode particles forget; half of them count.
WITHIN = 4 / math.sqrt(N / 2)


@dataclass(frozen=True)
class Normal:
    """A standard normal prior of so many numbers."""

    size: int = 2
    log_mass = 0.0

    @property
    def whole(self):
        return np.zeros(self.size, bool)

    def draw(self, n, rng):
        return rng.normal(size=(n, self.size))

    def log_prior(self, theta):
        return norm.logpdf(theta).sum(-1)


@dataclass(frozen=True)
class Box(Normal):
    """Uniform from -1 to 1."""

    def draw(self, n, rng):
        return rng.uniform(-1, 1, (n, self.size))

    def log_prior(self, theta):
        inside = (np.abs(theta) <= 1).all(-1)
        return np.where(inside, -self.size * math.log(2), -np.inf)


@dataclass(frozen=True)
class Counts(Normal):
    """A Poisson prior of mean 20."""

    size: int = 1

    @property
    def whole(self):
        return np.ones(1, bool)

    def draw(self, n, rng):
        return rng.poisson(20, (n, 1)).astype(float)

    def log_prior(self, theta):
        return poisson.logpmf(theta[:, 0], 20)


SD, AT = 0.05, np.array([2.0, -1.0])


def narrow(theta):
    return norm.logpdf(theta, AT, SD).sum(-1)


def drawn(known, log_ratio, path, seed=1):
    return draw(known, log_ratio, path, N, np.random.default_rng(seed))


def test_a_narrow_posterior_and_its_evidence_are_exact():
    cloud = drawn(Normal(), narrow, Powers())
    sd = SD / math.sqrt(1 + SD**2)
    mean = AT / (1 + SD**2)
    assert np.abs(cloud.theta.mean(0) - mean).max() < WITHIN * sd
    assert np.abs(cloud.theta.std(0) / sd - 1).max() < WITHIN
    exact = norm.logpdf(AT, 0, math.sqrt(1 + SD**2)).sum()
    assert abs(cloud.log_mass - exact) < ERROR
    assert abs(cloud.log_mass - (exact + 1)) > ERROR  # the twin
    np.testing.assert_allclose(cloud.log_ratio, narrow(cloud.theta))
    np.testing.assert_allclose(cloud.log_prior, norm.logpdf(cloud.theta).sum(-1))


@pytest.mark.parametrize("radius", [0.5, 0.003])  # a fifth of the prior, and 7 in a million
def test_the_prior_keeps_its_form_inside_of_a_threshold(radius):
    cloud = drawn(Box(), lambda theta: -np.hypot(*theta.T), Thresholds(-radius))
    share = (np.hypot(*cloud.theta.T) / radius) ** 2  # uniform, of a disk
    assert share.max() < 1
    assert kstest(share, "uniform").statistic < WITHIN
    angle = np.arctan2(*cloud.theta.T) / (2 * np.pi) + 0.5
    assert kstest(angle, "uniform").statistic < WITHIN
    exact = math.log(np.pi * radius**2 / 4)
    # A threshold keeps three tenths of the particles: 1 / n (1 / .3 - 1) of variance a step.
    steps = max(exact / math.log(0.3), 1)
    assert abs(cloud.log_mass - exact) < 5 * math.sqrt(steps * (1 / 0.3 - 1) / N)


def test_a_disk_is_not_a_ring():
    cloud = drawn(Box(), lambda theta: -np.hypot(*theta.T), Thresholds(-0.5))
    assert kstest((np.hypot(*cloud.theta.T) / 0.5), "uniform").statistic > WITHIN  # the twin


def test_modes_keep_their_shares():
    def two(theta):
        near = norm.logpdf(theta, -0.5, 0.02).sum(-1) + math.log(0.25)
        return np.logaddexp(near, norm.logpdf(theta, 0.5, 0.02).sum(-1) + math.log(0.75))

    cloud = drawn(Box(), two, Powers())
    assert abs((cloud.theta[:, 0] < 0).mean() - 0.25) < ERROR / 2
    assert abs(cloud.log_mass - math.log(0.25)) < ERROR


def test_integers_stay_integers():
    cloud = drawn(Counts(), lambda theta: norm.logpdf(theta[:, 0], 30, 1), Powers())
    values = np.arange(100)
    weights = poisson.pmf(values, 20) * norm.pdf(values, 30, 1)
    np.testing.assert_array_equal(cloud.theta, np.rint(cloud.theta))
    mean = weights @ values / weights.sum()
    assert abs(cloud.theta.mean() - mean) < WITHIN
    assert abs(cloud.log_mass - math.log(weights.sum())) < ERROR


def test_a_likelihood_of_zero_is_no_obstacle():
    def half(theta):
        return np.where(theta[:, 0] > 0, narrow(theta), -np.inf)

    cloud = drawn(Normal(), half, Powers())
    assert (cloud.theta[:, 0] > 0).all()
    assert np.isfinite(cloud.log_mass)


def test_the_seed_decides():
    one, same, other = (drawn(Normal(), narrow, Powers(), seed).theta for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)
