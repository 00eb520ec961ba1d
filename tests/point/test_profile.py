"""Profiles beside their closed forms."""

import numpy as np
import pytest
from formulas import integer_mean_of_unknown_scale

import pymc_nre as nre
from pymc_nre.point import profile

QUIET = {"progressbar": False}
SCALE, LINEAR = nre.tasks.LocationScale(), nre.tasks.LinearGaussian()


def test_a_mean_of_unknown_scale():
    x = np.random.default_rng(1).normal(0.5, 1.2, (3, 40))
    mu = np.linspace(-0.5, 1.5, 7)
    found = profile(SCALE.estimator(), x, {"mu": mu}, **QUIET)
    squares = ((x[:, :, None] - mu) ** 2).mean(1)
    exact = 40 * np.log(squares / x.var(1)[:, None])
    np.testing.assert_allclose(found["deviance"], exact, atol=1e-5)
    np.testing.assert_allclose(found["estimate"][..., 1], np.log(squares) / 2, atol=1e-4)
    np.testing.assert_array_equal(found["estimate"][..., 0], np.tile(mu, (3, 1)))
    np.testing.assert_array_equal(found["at"][:, 0], mu)


def test_one_number_of_a_vector_and_two_of_them():
    x = np.random.default_rng(2).normal(size=(25, 4))
    precision = 25 * LINEAR.matrix.T @ LINEAR.matrix
    best = LINEAR.maximum_likelihood(x)["theta"]
    covariance = np.linalg.inv(precision)
    at = np.array([-0.2, 0.1, 0.3])
    found = profile(LINEAR.estimator(), x, {"theta[1]": at}, **QUIET)
    np.testing.assert_allclose(found["deviance"], (at - best[1]) ** 2 / covariance[1, 1], atol=1e-5)
    found = profile(LINEAR.estimator(), x, {"theta[0]": at, "theta[2]": at[::-1]}, **QUIET)
    off = np.stack([at - best[0], at[::-1] - best[2]], -1)
    inverse = np.linalg.inv(covariance[np.ix_([0, 2], [0, 2])])
    np.testing.assert_allclose(found["deviance"], ((off @ inverse) * off).sum(1), atol=1e-5)


def test_all_parameters_are_just_evaluated():
    ratio, x = SCALE.estimator(), np.array([0.0, 1.0, 2.0])
    found = profile(ratio, x, {"mu": [0.0, 1.0], "log_sigma": [0.1, 0.2]}, **QUIET)
    each = ratio.log_ratio(x[:, None], mu=[0.0, 1.0], log_sigma=[0.1, 0.2]).sum(0)
    np.testing.assert_allclose(found["log_ratio"], each)


def test_an_integer_that_is_no_matter_steps_to_its_highest():
    ratio = integer_mean_of_unknown_scale(300, 20.0)
    x = np.random.default_rng(5).normal(140.3, 20.0, (3, 400))
    b = np.array([-0.3, 0.0, 0.3])
    found = profile(ratio, x, {"b": b}, **QUIET)
    best = np.rint(x.mean(1))
    np.testing.assert_array_equal(found["estimate"][..., 0], np.repeat(best, 3).reshape(3, 3))
    exact = [ratio.log_ratio(row[:, None], a=a, b=b).sum(0) for row, a in zip(x, best, strict=True)]
    np.testing.assert_allclose(found["log_ratio"], exact)
    assert (found["deviance"] >= 0).all()


def test_nothing_is_said_outside_of_the_domain():
    found = profile(SCALE.estimator(), np.array([0.0, 1.0]), {"mu": [0.0, 7.0]}, **QUIET)
    assert np.isneginf(found["log_ratio"].to_numpy()).tolist() == [False, True]


@pytest.mark.parametrize(
    ("at", "error", "match"),
    [
        ({}, ValueError, "expected some of mu, log_sigma"),
        ({"sigma": [1.0]}, ValueError, "got 'sigma'"),
        ({"mu": [np.nan]}, ValueError, "mu: 1 of 1 values are NaN"),
        ({"mu": [[1.0]]}, ValueError, r"\(points, \*own\)"),
        ({"mu": [1.0], "log_sigma": [0.0, 1.0]}, ValueError, "the same points"),
        ([1.0], TypeError, "by name"),
    ],
)
def test_what_does_not_fit_is_refused(at, error, match):
    with pytest.raises(error, match=f"profile.*{match}"):
        profile(SCALE.estimator(), np.zeros(3), at, **QUIET)
