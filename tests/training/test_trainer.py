"""A network on its way, step by step: the schedule, clipped gradients, the average of weights."""

import numpy as np
import pytest
import torch

from pymc_nre.networks import MLP, build
from pymc_nre.training.settings import Plan
from pymc_nre.training.trainer import Trainer

STEPS, EPOCHS, RATE = 200, 4, 0.05


class Same:
    """The same pairs in every batch."""

    size = 32 * STEPS // EPOCHS

    def epoch(self, index, batch_size, order):
        theta = torch.linspace(-1, 1, batch_size)[:, None]
        yield from [(theta, theta[:, 0] ** 2)] * (self.size // batch_size)


class Squares:
    """Squared logits, in whatever unit; notes in which mode the network is."""

    def __init__(self, unit=1.0):
        self.unit, self.modes = unit, set()

    def __call__(self, net, theta, x):
        self.modes.add(net.training)
        return self.unit * (net.head(theta, net.embed(x)) ** 2).mean()


class Followed(Trainer):
    """Notes rates, gradient norms and weights at every step."""

    def __init__(self, loss):
        torch.manual_seed(1)
        net = build(MLP((8,), norm="batch"), 1, ()).float().eval()
        super().__init__(net, loss, Same(), Plan(32, EPOCHS, EPOCHS, RATE, 0.0), 1)
        self.rates, self.norms, self.weights, self.averages = [], [], [self.flat(net)], []
        step = self.optimizer.step

        def noting():
            self.rates.append(self.optimizer.rate)
            self.norms.append(torch.cat([w.grad.ravel() for w in self._weights]).norm().item())
            step()
            self.weights.append(self.flat(net))

        self.optimizer.step = noting

    @staticmethod
    def flat(net):
        return torch.cat([weight.detach().ravel() for weight in net.parameters()]).double()


@pytest.fixture(scope="module")
def followed():
    trainer = Followed(Squares())
    for index in range(EPOCHS):
        trainer.epoch(index)
        trainer.averages.append(trainer.flat(trainer.averaged))
    return trainer


def test_the_learning_rate_rises_shortly_and_falls_as_a_cosine(followed):
    step = np.arange(STEPS)
    rise = np.minimum(1, (step + 1) / (0.05 * STEPS + 1))
    np.testing.assert_allclose(
        followed.rates, RATE * rise * (1 + np.cos(np.pi * step / STEPS)) / 2, rtol=1e-12
    )


def test_the_average_is_plain_at_first_and_forgets_then(followed):
    by_hand = followed.weights[0]
    for step, weights in enumerate(followed.weights[1:], 1):
        # 2 % of the steps are four: until then every step counts as much as the others.
        by_hand = by_hand + max(1 / (1 + step), 1 / 5) * (weights - by_hand)
        if step == 4:
            torch.testing.assert_close(by_hand, torch.stack(followed.weights[:5]).mean(0))
        if step % (STEPS // EPOCHS) == 0:
            averaged = followed.averages[step // (STEPS // EPOCHS) - 1]
            torch.testing.assert_close(averaged, by_hand, rtol=1e-5, atol=1e-6)
    assert len(followed.averages) == EPOCHS
    early = followed.weights[STEPS // EPOCHS]  # the twin: the weights themselves
    assert not torch.allclose(followed.averages[0], early, rtol=1e-3)


def test_running_moments_are_those_of_the_network(followed):
    mine, its = (dict(net.named_buffers()) for net in (followed.averaged, followed.net))
    running = [name for name in its if name.endswith("running_var")]
    assert running
    assert all(mine[name].equal(its[name]) for name in its)
    assert not any(mine[name].equal(torch.ones_like(mine[name])) for name in running)


@pytest.mark.parametrize(("unit", "norm"), [(1e6, 5.0), (1e-6, 0.0)])
def test_long_gradients_are_cut_and_short_ones_are_not_stretched(unit, norm):
    trainer = Followed(Squares(unit))
    trainer.epoch(0)
    assert trainer.norms[0] == pytest.approx(norm, abs=1e-4)


def test_what_comes_in_evaluation_mode_trains_in_training_mode():
    trainer = Followed(Squares())
    assert not trainer.net.training
    trainer.epoch(0)
    assert trainer.loss.modes == {True}
