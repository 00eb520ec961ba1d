"""At the exact ratio of two parameter vectors the direct losses are stationary."""

import math

import numpy as np
import pytest
import torch
from first_order import BATCH, DIRECTIONS, T_LIMIT, pairs, t_statistic, uniform

from pymc_nre import tasks
from pymc_nre.losses import DNRE, NREB
from pymc_nre.losses.contrastive import rolled

BATCHES = 400
HEADS = ("antisymmetric", "plain")


class Compared:
    """The exact ratio of pairs plus eps times a direction, antisymmetric or not."""

    def __init__(self, direction, eps, antisymmetric, off=0.0):
        self.exact = tasks.GaussianMean().estimator().network
        self.direction, self.eps, self.off = direction, eps, off
        self.antisymmetric = antisymmetric

    def embed(self, x):
        return self.exact.embed(x)

    def head(self, theta, features):
        one, other = theta.chunk(2, -1)
        change = self._change(one, other, features)
        if self.antisymmetric:
            change = change - self._change(other, one, features)
        log_ratio = self.exact.head(one, features) - self.exact.head(other, features)
        return (1 + self.off) * log_ratio + self.eps * change

    def _change(self, one, other, features):
        return self.direction(one, features[..., 0]) * torch.cos(other[..., 0] / 30)


def t_of_pairs(loss, direction, off=0.0):
    generator, derivatives = torch.Generator().manual_seed(1), []
    for _ in range(BATCHES):
        theta, x = uniform(BATCH, generator)
        eps = torch.zeros((), dtype=torch.float64, requires_grad=True)
        net = Compared(direction, eps, loss.antisymmetric, off)
        (derivative,) = torch.autograd.grad(loss(net, theta, x), eps)
        derivatives.append(derivative.item())
    return np.mean(derivatives) / (np.std(derivatives, ddof=1) / BATCHES**0.5)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("candidates", [2, 4])
def test_exact_ratio_of_pairs_is_stationary(head, candidates, direction):
    assert abs(t_of_pairs(DNRE(head, candidates), DIRECTIONS[direction])) < T_LIMIT


@pytest.mark.parametrize("head", HEADS)
def test_ratio_that_is_too_sharp_is_not(head):
    t = t_of_pairs(DNRE(head, 4), DIRECTIONS["sharpness"], off=0.5)
    assert abs(t) > 2 * T_LIMIT


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_exact_ratio_is_stationary_for_additive_heads(direction):
    assert abs(t_statistic(DNRE("additive", 4), DIRECTIONS[direction])) < T_LIMIT


def test_additive_head_of_two_is_nre_b():
    net, (theta, x) = tasks.GaussianMean().estimator().network, pairs(200)
    torch.testing.assert_close(DNRE("additive", 2)(net, theta, x), NREB(2)(net, theta, x))


def test_additive_head_asks_what_it_computes():
    loss, net, (theta, x) = DNRE("additive", 4), tasks.GaussianMean().estimator().network, pairs(99)
    asked = loss.asked()
    logits = net.head(rolled(theta, asked.rolls), net.embed(x)[:, None])
    costs = [q.weight * (logits[:, q.answers].logsumexp(1) - logits[:, 0]) for q in asked.questions]
    torch.testing.assert_close(sum(costs).mean(), loss(net, theta, x))


@pytest.mark.parametrize("head", ["antisymmetric", "plain", "additive"])
def test_network_that_knows_nothing_loses_by_chance(head):
    class Zero:
        def embed(self, x):
            return x[:, None]

        def head(self, theta, features):
            return torch.zeros(torch.broadcast_shapes(theta.shape[:-1], features.shape[:-1]))

    loss = DNRE(head, 4)
    assert loss(Zero(), *pairs(50)).item() == pytest.approx(loss.chance) == math.log(2)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("other",), ValueError, "head must be one of antisymmetric, additive, plain"),
        (("plain", 1), ValueError, "candidates >= 2, got 1"),
        (("plain", 2.5), TypeError, "DNRE: candidates"),
    ],
)
def test_wrong_settings_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        DNRE(*arguments)


def test_what_it_says_of_itself():
    assert [DNRE(head).reference for head in ("antisymmetric", "plain", "additive")] == [
        "pair",
        "pair",
        "evidence",
    ]
    assert [DNRE(head).normalized for head in ("plain", "additive")] == [True, False]
    assert DNRE(candidates=np.int64(3)) == DNRE(candidates=3)
    assert DNRE(candidates=3).minimum_batch == 3


def test_batches_that_are_too_small_are_refused():
    net, (theta, x) = tasks.GaussianMean().estimator().network, pairs(4)
    with pytest.raises(ValueError, match="batches of at least 5"):
        DNRE()(net, theta, x)
