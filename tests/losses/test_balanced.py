"""Balanced losses: the exact ratio is in balance and stationary, and planted bugs are not."""

from dataclasses import dataclass

import pytest
import torch
from first_order import BATCH, DIRECTIONS, T_LIMIT, pairs, t_statistic

from pymc_nre import tasks
from pymc_nre.losses import BNRE, NREA, NREB, NREC, Balanced
from pymc_nre.losses.contrastive import contrastive_logits


@dataclass(frozen=True)
class UnbiasedPenalty:
    """A balanced loss whose square is a product of independent means.

    The square of a mean over a batch is larger than that of its expectation by its variance,
    so its derivative is biased; two halves of the batch give an unbiased product.
    """

    balanced: Balanced
    target: float = 0.0

    def __call__(self, net, theta, x):
        s = contrastive_logits(net, theta, x, self.balanced.loss.rolls)
        first, second = (self.balanced.imbalance(half) - self.target for half in s.chunk(2))
        return self.balanced.loss.of_logits(s) + self.balanced.strength * first * second


BALANCED = {"BNRE": BNRE(), "balanced NRE-C": Balanced(NREC(5), strength=30.0)}


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("loss", BALANCED)
def test_exact_ratio_is_balanced_and_stationary(loss, direction):
    assert abs(t_statistic(UnbiasedPenalty(BALANCED[loss]), DIRECTIONS[direction])) < T_LIMIT


@pytest.mark.parametrize("loss", BALANCED)
def test_a_penalty_with_another_target_is_caught(loss):
    wrong = UnbiasedPenalty(BALANCED[loss], target=0.05)
    assert max(abs(t_statistic(wrong, h)) for h in DIRECTIONS.values()) > 2 * T_LIMIT


@pytest.mark.parametrize("loss", BALANCED)
def test_the_square_is_what_it_says(loss):
    loss, exact = BALANCED[loss], tasks.GaussianMean().estimator().network
    theta, x = pairs(BATCH)
    s = contrastive_logits(exact, theta, x, loss.loss.rolls)
    imbalance = s[:, 0].sigmoid().mean() + s[:, 1:].sigmoid().mean() - 1
    expected = loss.loss(exact, theta, x) + loss.strength * imbalance**2
    torch.testing.assert_close(loss(exact, theta, x), expected)


def test_balance_of_the_exact_ratio_and_of_a_sharper_one():
    exact = tasks.GaussianMean().estimator().network
    theta, x = pairs(100_000)

    def t(s):
        """t-statistic of the imbalance; pairs are independent but for the roll."""
        each = s[:, 0].sigmoid() + s[:, 1].sigmoid() - 1
        return (each.mean() / (each.std() / len(each) ** 0.5)).item()

    logits = contrastive_logits(exact, theta, x, 1)
    assert abs(t(logits)) < T_LIMIT
    assert abs(t(1.5 * logits)) > 2 * T_LIMIT


def test_unnormalized_losses_cannot_be_balanced():
    with pytest.raises(ValueError, match=r"NREA\(\) or NREC\(\), got NREB\(candidates=5\)"):
        Balanced(NREB())
    with pytest.raises(ValueError, match="strength >= 0, got -1"):
        Balanced(NREA(), strength=-1.0)
