"""Steps of AdamW beside torch's own."""

import copy

import pytest
import torch

from pymc_nre.training.adamw import AdamW

SHAPES = [(64, 2), (17,), (), (3, 5, 2)]
RATE, DECAY, LONGEST = 0.01, 0.1, 5.0


def weights():
    torch.manual_seed(1)
    return [torch.randn(shape).requires_grad_() for shape in SHAPES]


class Both:
    """Our optimizer and torch's, on weights that begin the same."""

    def __init__(self, prepare=lambda weights: weights, decay=DECAY):
        self.mine, self.its = prepare(weights()), prepare(weights())
        self.ours = AdamW(self.mine, RATE, decay)
        self.torchs = torch.optim.AdamW(self.its, lr=RATE, weight_decay=DECAY)

    def step(self, k, without=()):
        self.ours.forget_gradients()
        self.torchs.zero_grad()
        for i, (one, other) in enumerate(zip(self.mine, self.its, strict=True)):
            if i not in without:
                # As autograd makes them, they lie in memory as the weights do.
                one.grad = torch.empty_like(one).copy_(torch.randn(one.shape) * 10 ** (k % 3 - 1))
                other.grad = one.grad.clone()
        self.ours.clip(LONGEST)
        torch.nn.utils.clip_grad_norm_(self.its, LONGEST)
        for one, other in zip(self.mine, self.its, strict=True):
            if one.grad is not None:
                torch.testing.assert_close(one.grad, other.grad, rtol=1e-5, atol=1e-6)
        self.ours.rate = self.torchs.param_groups[0]["lr"] = RATE / (1 + k)
        self.ours.step()
        self.torchs.step()

    def distance(self):
        pairs = zip(self.mine, self.its, strict=True)
        return max((one - other).abs().max().item() for one, other in pairs)


def double(weights):
    return [weight.detach().double().requires_grad_() for weight in weights]


def transposed(weights):
    return [
        weight.detach().t().requires_grad_() if weight.ndim == 2 else weight for weight in weights
    ]


@pytest.mark.parametrize("prepare", [list, double, transposed])
def test_steps_are_those_of_torch(prepare):
    both = Both(prepare)
    for k in range(30):
        both.step(k)
    assert both.distance() < 2e-6


def test_another_decay_is_seen():
    both = Both(decay=2 * DECAY)
    for k in range(30):
        both.step(k)
    assert both.distance() > 1e-3


def test_weights_without_gradients_stay_and_count_no_steps():
    both = Both()
    for k, without in enumerate([(), (1,), (), (0, 2), (0, 1, 2, 3), ()]):
        both.step(k, without)
    assert both.distance() < 1e-6
    assert [float(each["step"]) for each in both.ours.state().values()] == [4, 4, 4, 5]


def test_weights_that_join_later():
    both = Both()
    for k in range(8):
        both.step(k, () if k > 3 else (2,))
    assert both.distance() < 1e-6


def test_moments_go_on_where_they_were():
    both = Both()
    for k in range(5):
        both.step(k)
    state = copy.deepcopy(both.ours.state())
    again = AdamW([weight.detach().clone().requires_grad_() for weight in both.mine], RATE, DECAY)
    again.restore(state)
    for one, other in zip(again.weights, both.mine, strict=True):
        one.grad = other.grad.clone()
    again.rate = both.ours.rate
    again.step()
    both.ours.step()
    for one, other in zip(again.weights, both.mine, strict=True):
        assert one.equal(other)
    for i, its in both.ours.state().items():
        assert all(its[name].equal(again.state()[i][name]) for name in its)


def test_gradients_that_are_no_numbers_stay_none():
    weight = torch.ones(40).requires_grad_()
    weight.grad = torch.full((40,), torch.nan)
    optimizer = AdamW([weight], RATE, DECAY)
    optimizer.clip(LONGEST)
    optimizer.step()
    assert weight.isnan().all()
