"""The cost of questions and its slopes in machine code, beside torch's in double precision."""

import math

import pytest
import torch

from pymc_nre.kernels.steps.answers import Answers
from pymc_nre.losses import NREA, NREB, NREC, MultiScale
from pymc_nre.losses.questions import cost, tables

LOSSES = [
    NREA(),
    NREB(4),
    NREC(1),
    NREC(5, 2.0),
    MultiScale(),
    MultiScale(NREC(5), candidates=3, weight=0.5),
    MultiScale(NREA(), candidates=6),
]


def logits_and_prior(loss, n):
    torch.manual_seed(1)
    near = getattr(loss, "near", 0)
    rolls = getattr(loss, "loss", loss).rolls
    s = 3 * torch.randn(n, 1 + rolls + near)
    if not near:
        return s, None
    log_prior = torch.randn(n, 1 + near)
    log_prior[::3, 1] = -math.inf
    return s, log_prior


def by_torch(loss, s, log_prior):
    s = s.double().requires_grad_()
    value = cost(s, loss.questions, None if log_prior is None else log_prior.double())
    (slopes,) = torch.autograd.grad(value, s)
    return value.item(), slopes.float()


def by_machine_code(loss, s, log_prior, change=lambda columns, constants, weights: None):
    parts = tables(loss.questions, s.shape[1])
    change(*parts)
    slopes = torch.full_like(s, torch.nan)
    return Answers(*parts, s.shape[1])(s, log_prior, slopes), slopes


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
@pytest.mark.parametrize("n", [8, 16, 37, 256])
def test_cost_and_slopes(loss, n):
    s, log_prior = logits_and_prior(loss, n)
    value, slopes = by_machine_code(loss, s, log_prior)
    expected = by_torch(loss, s, log_prior)
    assert value == pytest.approx(expected[0], rel=1e-6)
    torch.testing.assert_close(slopes, expected[1], rtol=1e-5, atol=1e-6 / n)


def swapped(columns, constants, weights):
    columns[-1, :2] = columns[-1, 1::-1]


def heavier(columns, constants, weights):
    weights *= 1.01


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
@pytest.mark.parametrize("change", [swapped, heavier])
def test_other_questions_have_other_slopes(loss, change):
    s, log_prior = logits_and_prior(loss, 37)
    _, slopes = by_machine_code(loss, s, log_prior, change)
    _, expected = by_torch(loss, s, log_prior)
    assert not torch.allclose(slopes, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("huge", [math.inf, -math.inf, math.nan])
def test_a_loss_that_diverges_is_no_number(huge):
    s, _ = logits_and_prior(NREC(), 16)
    s[3] = huge
    value, _ = by_machine_code(NREC(), s, None)
    assert not math.isfinite(value)


def test_far_logits_do_not_overflow():
    s, _ = logits_and_prior(NREC(), 16)
    value, slopes = by_machine_code(NREC(), 1e4 * s, None)
    expected = by_torch(NREC(), 1e4 * s, None)
    assert value == pytest.approx(expected[0], rel=1e-6)
    torch.testing.assert_close(slopes, expected[1], rtol=1e-5, atol=1e-7)
