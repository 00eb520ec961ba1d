"""A loss of contrasts far and near: what it says of itself, and what it refuses.

That the exact ratio is its optimum, for priors of all kinds, training/batching/test_contrasts.py
tests.
"""

import copy
import math

import numpy as np
import pytest
import torch

from pymc_nre import simulate, tasks
from pymc_nre.losses import BNRE, CARL, NREA, NREB, NREC, Balanced, MultiScale
from pymc_nre.losses.contrastive import contrastive_logits


class Own(NREC):
    def of_logits(self, s):
        return s.mean()


def parts(n=32, near=3, seed=1):
    generator = torch.Generator().manual_seed(seed)
    theta = torch.randn(n, 1, generator=generator, dtype=torch.float64)
    x = theta[:, 0] + torch.randn(n, generator=generator, dtype=torch.float64)
    candidates = theta[:, None] + torch.randn(n, near, 1, generator=generator, dtype=torch.float64)
    log_prior = torch.randn(n, 1 + near, generator=generator, dtype=torch.float64)
    return theta, x, candidates, log_prior


@pytest.mark.parametrize("inner", [NREA(), NREB(4), NREC(3), NREC(1, gamma=0.5)], ids=str)
def test_adds_a_cross_entropy_to_another_loss(inner):
    net = tasks.GaussianMean().estimator().network
    theta, x, near, log_prior = parts()
    log_prior[:, 2] = -math.inf
    loss = MultiScale(inner, weight=2.5)
    s = net.head(torch.cat([theta[:, None], near], 1), net.embed(x)[:, None]) + log_prior
    expected = inner(net, theta, x) - 2.5 * s.log_softmax(-1)[:, 0].mean()
    torch.testing.assert_close(loss(net, theta, x, near, log_prior), expected)


def test_embeds_each_observation_once():
    net = copy.deepcopy(tasks.GaussianMean().estimator().network)  # equal tasks share one
    calls = []
    embed = net.embed
    net.embed = lambda x: calls.append(len(x)) or embed(x)
    MultiScale()(net, *parts())
    assert calls == [32]


def test_impossible_candidates_have_no_gradient():
    net = tasks.GaussianMean().estimator().network
    theta, x, near, log_prior = parts()
    near.requires_grad_()
    log_prior[:, 1] = -math.inf
    loss = MultiScale()(net, theta, x, near, log_prior)
    (gradient,) = torch.autograd.grad(loss, near)
    assert (gradient[:, 0] == 0).all()
    assert (gradient[:, 1:] != 0).any()


def test_says_what_it_is():
    loss = MultiScale(NREC(5), candidates=8, weight=2)
    assert loss.normalized
    assert not MultiScale(NREB()).normalized
    assert loss.near == 7
    assert loss.minimum_batch == NREC(5).minimum_batch
    assert loss.chance == pytest.approx(NREC(5).chance + 2 * math.log(8))
    assert MultiScale(scales=[np.float64(0.1), 1]) == MultiScale(scales=(0.1, 1.0))
    assert repr(MultiScale(scales=np.array([0.1, 1]))) == repr(MultiScale(scales=(0.1, 1.0)))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"loss": BNRE()}, TypeError, r"must contrast joint with marginal.*got Balanced"),
        ({"loss": "NREC"}, TypeError, "got 'NREC'"),
        ({"loss": NREC}, TypeError, "must contrast joint"),
        ({"loss": Own()}, TypeError, "has an of_logits of its own"),
        ({"candidates": 1}, ValueError, "candidates: expected at least 2, got 1"),
        ({"candidates": 2.5}, TypeError, "expected a whole number"),
        ({"scales": 0.1}, TypeError, "must be the smallest and the largest, got 0.1"),
        ({"scales": (0.1, 1, 2)}, TypeError, "must be the smallest and the largest"),
        ({"scales": {0.1, 1.0}}, TypeError, "must be the smallest and the largest"),
        ({"scales": {0.1: 1, 1.0: 2}}, TypeError, "must be the smallest and the largest"),
        ({"scales": np.array(0.1)}, TypeError, "must be the smallest and the largest"),
        ({"scales": (0.1, [1, 2])}, TypeError, "MultiScale: scales: expected a number"),
        ({"scales": (1.0, 0.1)}, ValueError, "must rise"),
        ({"scales": (0.0, 0.1)}, ValueError, "above 0"),
        ({"scales": (0.1, math.nan)}, ValueError, "above 0"),
        ({"weight": 0}, ValueError, "weight: expected a number above 0"),
        ({"weight": True}, TypeError, "weight: expected a number"),
    ],
)
def test_bad_input(options, error, message):
    with pytest.raises(error, match=message):
        MultiScale(**options)


def test_balance_is_refused_both_ways():
    with pytest.raises(ValueError, match="needs a loss of joint and marginal pairs"):
        Balanced(MultiScale())
    task = tasks.GaussianMean()
    at = simulate(task.prior(), task.simulator, 10, at={"mu": 0.0}, batched=True, random_seed=1)
    with pytest.raises(TypeError, match="must contrast"):
        MultiScale(CARL(at))


def test_far_contrasts_are_those_of_the_other_loss():
    net = tasks.GaussianMean().estimator().network
    theta, x, near, log_prior = parts()
    far = NREC(3).of_logits(contrastive_logits(net, theta, x, 3))
    alone = torch.full_like(log_prior, -math.inf)
    alone[:, 0] = 0
    torch.testing.assert_close(MultiScale()(net, theta, x, near, alone), far)
