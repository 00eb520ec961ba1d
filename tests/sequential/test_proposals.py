"""What simulations were drawn from, and the density that is said to be theirs, are the same."""

import numpy as np
import pytest

import pymc_nre as nre
from pymc_nre.sequential.kept import keep
from pymc_nre.sequential.proposals import Mixture, Proposal
from pymc_nre.sequential.study import DataSet, KnownPrior
from pymc_nre.simulation.prior import Prior

TASK = nre.tasks.LocationScale()
KNOWN = KnownPrior(Prior.of(TASK.prior()))
COUNTS = 1_000, 3_000, 4_000


@pytest.fixture(scope="module")
def proposals():
    rng, x = np.random.default_rng(1), np.random.default_rng(2).normal(1.0, 2.0, 10)
    ratio = TASK.estimator()
    return tuple(
        Proposal(keep(DataSet(KNOWN, ratio, x[:trials]), epsilon, 4_000, rng), share)
        for trials, epsilon, share in ((4, 1e-4, 0.0), (10, 1e-3, 0.8))
    )


def drawn(proposals):
    rng = np.random.default_rng(3)
    parts = [each.draw(n, rng) for each, n in zip(proposals, COUNTS[1:], strict=True)]
    return np.concatenate([KNOWN.draw(COUNTS[0], rng), *parts])


def inverse_weights(proposals, counts=COUNTS):
    """Of draws of the mixture: their mean is one, as the prior's mass."""
    return np.exp(-Mixture.of(KNOWN, proposals, counts).log_weight(drawn(proposals)))


def test_the_density_is_that_of_the_draws(proposals):
    inverse = inverse_weights(proposals)
    error = inverse.std() / len(inverse) ** 0.5
    assert abs(inverse.mean() - 1) < 5 * error
    wrong = inverse_weights(proposals, COUNTS[::-1])  # the twin
    assert abs(wrong.mean() - 1) > 5 * error


def test_the_density_integrates_to_one(proposals):
    theta = KNOWN.draw(200_000, np.random.default_rng(4))
    for each in proposals:
        weight = np.exp(each.log_weight(theta))
        # The masses that it is divided by are known to a few hundredths.
        assert abs(weight.mean() - 1) < 0.1 + 5 * weight.std() / len(weight) ** 0.5


def test_the_posterior_is_where_it_is_said_to_be(proposals):
    # Shares above the median of the first parameter, by draws and by weights of the prior.
    prior = KNOWN.draw(200_000, np.random.default_rng(5))
    for each in proposals:
        theta = each.draw(4_000, np.random.default_rng(6))
        middle = np.median(theta[:, 0])
        weight = np.exp(each.log_weight(prior))
        share = weight[prior[:, 0] > middle].sum() / weight.sum()
        assert abs(share - 0.5) < 5 * 0.5 / 4_000**0.5 + 0.01


def test_a_mixture_is_a_prior_of_the_same_variables(proposals):
    mixture = Mixture.of(KNOWN, proposals, COUNTS)
    named = KNOWN.prior.draw(10, 1)
    theta = KNOWN.layout.pack(named)
    expected = KNOWN.log_prior(theta) + mixture.log_weight(theta)
    np.testing.assert_allclose(mixture.log_density(named), expected)
    outside = {"mu": np.array([99.0]), "log_sigma": np.array([0.0])}
    assert np.isneginf(mixture.log_density(outside))
