"""Ratios that are a formula: exact up to a function of x, and wrong ones of known kinds."""

import numpy as np

import pymc_nre as nre
from pymc_nre.estimators.domain import Domain
from pymc_nre.networks import RatioNetwork


class Formula(RatioNetwork):
    """A log ratio ``formula(theta, x)`` of parameters ``(*, D)`` and a number x ``(*)``."""

    def __init__(self, size, formula):
        super().__init__(size, ())
        self.formula = formula

    def embed(self, x):
        return x.reshape(len(x), -1)

    def head(self, theta, features):
        return self.formula(theta, features[..., 0])


def ratio_of(formula, simulator, half_widths, draws=5_000):
    """Of parameters a, b, ..., uniform up to half widths; the simulator takes arrays."""
    names = "abcdefgh"[: len(half_widths)]
    rng = np.random.default_rng(1)
    theta = rng.uniform(-1, 1, (draws, len(names))) * half_widths
    return nre.RatioEstimator(
        Formula(len(names), formula),
        dict.fromkeys(names, ()),
        domain=Domain.from_draws(theta),
        probe_x=rng.normal(size=100),
        normalized=False,
        simulator=nre.Simulator(simulator, batched=True),
    )


def normal(rng, a):
    return rng.normal(a, 1.0)


def shifted_mean(shift):
    """Of x from N(a, 1), as if it were N(a + shift, 1)."""
    return ratio_of(lambda theta, x: -((x - theta[..., 0] - shift) ** 2) / 2, normal, [10.0])


def integer_mean(most=9, scale=1.0):
    """Of x from N(a, s^2), a an integer of that size at most."""
    draws = np.random.default_rng(1).integers(-most, most + 1, (5_000, 1))
    return nre.RatioEstimator(
        Formula(1, lambda theta, x: -(((x - theta[..., 0]) / scale) ** 2) / 2),
        {"a": ()},
        domain=Domain.from_draws(draws),
        probe_x=np.zeros(100),
        normalized=False,
        integer=("a",),
        simulator=nre.Simulator(lambda rng, a: rng.normal(a, scale), batched=True),
    )


def integer_mean_of_unknown_scale(most=9, scale=1.0):
    """Of x from N(a, (s e^b)^2), a an integer of that size at most, and b between -1 and 1."""
    rng = np.random.default_rng(1)
    draws = np.column_stack([rng.integers(-most, most + 1, 5_000), rng.uniform(-1, 1, 5_000)])
    return nre.RatioEstimator(
        Formula(
            2,
            lambda theta, x: (
                -(((x - theta[..., 0]) / scale) ** 2) / 2 * (-2 * theta[..., 1]).exp()
                - theta[..., 1]
            ),
        ),
        {"a": (), "b": ()},
        domain=Domain.from_draws(draws),
        probe_x=np.zeros(100),
        normalized=False,
        integer=("a",),
        simulator=nre.Simulator(lambda rng, a, b: rng.normal(a, scale * np.exp(b)), batched=True),
    )


def folded_mean():
    """Of x from N(a^2, 1): two modes, alike."""
    return ratio_of(
        lambda theta, x: -((x - theta[..., 0] ** 2) ** 2) / 2,
        lambda rng, a: rng.normal(a**2, 1.0),
        [3.0],
    )


def lopsided():
    """Of x from N(a^2, e^(a / 10)): two modes, and many trials tell which is the higher one."""
    return ratio_of(
        lambda theta, x: (
            -((x - theta[..., 0] ** 2) ** 2) / 2 * (-theta[..., 0] / 5).exp() - theta[..., 0] / 10
        ),
        lambda rng, a: rng.normal(a**2, np.exp(a / 10)),
        [3.0],
    )
