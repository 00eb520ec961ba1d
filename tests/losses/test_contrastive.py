"""At the exact log ratio every loss is stationary: no training is needed to test it."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from first_order import BATCH, DIRECTIONS, T_LIMIT, pairs, t_statistic

from pymc_nre import tasks
from pymc_nre.losses import NREA, NREB, NREC
from pymc_nre.losses.contrastive import contrastive_logits

LOSSES = {
    "NRE-A": NREA(),
    "NRE-B, K=2": NREB(2),
    "NRE-B, K=8": NREB(8),
    "NRE-C, K=1": NREC(1),
    "NRE-C, K=5": NREC(5),
    "NRE-C, K=5, gamma=0.2": NREC(5, gamma=0.2),
    "NRE-C, K=3, gamma=10": NREC(3, gamma=10.0),
}


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("loss", LOSSES)
def test_exact_ratio_is_stationary(loss, direction):
    assert abs(t_statistic(LOSSES[loss], DIRECTIONS[direction])) < T_LIMIT


@dataclass(frozen=True)
class WrongClassWeight:
    """NRE-A with the marginal class counted twice."""

    def __call__(self, net, theta, x):
        s = contrastive_logits(net, theta, x, rolls=1)
        return (torch.nn.functional.softplus(torch.stack([-s[:, 0], s[:, 1]])).T @ WEIGHTS).mean()


WEIGHTS = torch.tensor([0.5, 1.0], dtype=torch.float64)


def nre_c_without(term):
    """NRE-C with one of its constants forgotten."""

    def loss(net, theta, x, k=5, gamma=0.5):
        s = contrastive_logits(net, theta, x, rolls=k)
        log_k = 0.0 if term == "K" else math.log(k)
        log_gamma = 0.0 if term == "gamma" else math.log(gamma)
        weight = 1.0 if term == "weight" else gamma
        none = torch.full((len(s), 1), log_k, dtype=s.dtype)
        independent = torch.cat([log_gamma + s[:, 1:], none], -1).logsumexp(-1)
        dependent = torch.cat([log_gamma + s[:, :-1], none], -1).logsumexp(-1)
        return (independent.mean() + weight * (dependent - s[:, 0]).mean()) / (1 + weight)

    return loss


def fixed_points(net, theta, x):
    """NRE-A whose marginal pairs are a random permutation, which leaves some joint."""
    joint = net.head(theta, net.embed(x))
    order = np.random.default_rng(int(theta.sum().abs() * 1e6)).permutation(len(theta))
    marginal = net.head(theta[order], net.embed(x))
    return 0.5 * (
        torch.nn.functional.softplus(-joint).mean() + torch.nn.functional.softplus(marginal).mean()
    )


BUGS = {
    "NRE-A, wrong class weight": WrongClassWeight(),
    "NRE-A, permutation with fixed points": fixed_points,
    "NRE-B, true candidate left out of the sum": lambda net, theta, x: (
        (s := contrastive_logits(net, theta, x, rolls=4))[:, 1:].logsumexp(-1) - s[:, 0]
    ).mean(),
    "NRE-C, K forgotten": nre_c_without("K"),
    "NRE-C, gamma forgotten": nre_c_without("gamma"),
    "NRE-C, weight of versions 1 and 2": nre_c_without("weight"),
}


@pytest.mark.parametrize("bug", BUGS)
def test_planted_bugs_are_caught(bug):
    # The bias of fixed points is of order 1 / batch, so small batches show it best.
    batch = 8 if "fixed points" in bug else BATCH
    worst = max(
        abs(t_statistic(BUGS[bug], direction, batch=batch)) for direction in DIRECTIONS.values()
    )
    assert worst > 2 * T_LIMIT


def test_nre_b_does_not_notice_a_shift_in_x():
    def worst(loss):
        return max(
            abs(t_statistic(loss, d, lambda x: 3 * torch.sin(x))) for d in DIRECTIONS.values()
        )

    assert worst(NREB(5)) < T_LIMIT
    assert worst(NREC(5)) > 2 * T_LIMIT


@pytest.fixture(scope="module")
def exact():
    return tasks.GaussianMean().estimator().network


def test_nre_c_with_one_candidate_and_even_odds_is_nre_a(exact):
    theta, x = pairs(500)
    assert NREC(1, gamma=1.0)(exact, theta, x).item() == pytest.approx(
        NREA()(exact, theta, x).item(), rel=1e-12
    )


def test_nre_c_tends_to_nre_b_for_large_gamma(exact):
    # The difference falls as log(gamma) / gamma; 1e-6 bounds it at gamma = 1e9.
    theta, x = pairs(500)
    assert NREC(5, gamma=1e9)(exact, theta, x).item() == pytest.approx(
        NREB(5)(exact, theta, x).item(), abs=1e-6
    )


def test_optimum_of_nre_c_is_the_known_one(exact):
    # 0.7849 is known to four digits; the standard error over these batches is 0.0012.
    losses = np.array([NREC(5)(exact, *pairs(500, seed)).item() for seed in range(400)])
    error = losses.std(ddof=1) / len(losses) ** 0.5
    assert error < 0.002
    assert abs(losses.mean() - 0.7849) < 4 * error + 5e-5


@pytest.mark.parametrize("loss", LOSSES)
def test_chance_is_the_loss_at_logit_zero(loss):
    class Ignorant:
        def embed(self, x):
            return x[:, None]

        def head(self, theta, features):
            lead = torch.broadcast_shapes(theta.shape[:-1], features.shape[:-1])
            return torch.zeros(lead, dtype=torch.float64)

    value = LOSSES[loss](Ignorant(), *pairs(64)).item()
    assert value == pytest.approx(LOSSES[loss].chance, rel=1e-12)


@pytest.mark.parametrize("loss", LOSSES)
def test_smallest_batch_is_as_stated(loss, exact):
    loss = LOSSES[loss]
    assert math.isfinite(loss(exact, *pairs(loss.minimum_batch)).item())
    with pytest.raises(ValueError, match=rf"at least {loss.minimum_batch} pairs, got"):
        loss(exact, *pairs(loss.minimum_batch - 1))


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match="candidates >= 2, got 1"):
        NREB(1)
    with pytest.raises(ValueError, match="candidates >= 1, got 0"):
        NREC(0)
    for gamma in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="positive, finite gamma"):
            NREC(gamma=gamma)


@dataclass(frozen=True)
class WithoutVariance:
    """A wrong loss whose derivative at the exact ratio has no finite variance."""

    def __call__(self, net, theta, x):
        s = contrastive_logits(net, theta, x, 1)
        return (-s[:, 0]).exp().mean() + (-s[:, 1]).exp().mean()


def test_a_statistic_that_would_say_nothing_is_refused():
    with pytest.raises(ValueError, match="no finite variance"):
        t_statistic(WithoutVariance(), DIRECTIONS["sharpness"])


def test_settings_may_be_numpy_numbers():
    assert repr(NREC(np.int64(3), np.float32(2))) == "NREC(candidates=3, gamma=2.0)"
    assert repr(NREB(np.int16(3))) == "NREB(candidates=3)"
    assert type(NREC(gamma=np.float32(2)).chance) is float
    assert repr(NREC(gamma=1)) == "NREC(candidates=5, gamma=1)"  # as checkpoints know it


@pytest.mark.parametrize("settings", [{"candidates": 2.5}, {"gamma": "1"}, {"gamma": None}])
def test_settings_that_are_no_numbers(settings):
    with pytest.raises(TypeError, match=r"^NREC: .*number"):
        NREC(**settings)
