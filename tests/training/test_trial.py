"""Networks of users' own are tried on what will be asked of their ratio, before training."""

import numpy as np
import pytest
import torch
from quick_training import quick
from torch import nn

import pymc_nre as nre
from pymc_nre.networks import MLP
from pymc_nre.training.trainer import Trainer


class Logits(nn.Module):
    """A good one; what is bad about others is in `between`."""

    def __init__(self, theta_size, event_shape):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(theta_size + 1, 8), nn.Tanh(), nn.Linear(8, 1))

    def between(self, h):
        return h

    def forward(self, theta, x):
        return self.layers(self.between(torch.cat([theta, x[:, None]], -1)))


class Single(Logits):
    def between(self, h):
        return h + torch.zeros(len(h), h.shape[1], dtype=torch.float32) @ torch.ones(2, 2)


class SinglePrecisionWeights(Logits):
    def __init__(self, theta_size, event_shape):
        super().__init__(theta_size, event_shape)
        self.turn = [torch.eye(theta_size + 1)]

    def between(self, h):
        return h @ self.turn[0]


class Squeezed(Logits):
    def between(self, h):
        return h.squeeze()[:, :2]


class MixesRows(Logits):
    def between(self, h):
        return h - h.mean(0)


class AlwaysDrops(Logits):
    def between(self, h):
        return nn.functional.dropout(h, 0.5)


class Detached(Logits):
    def between(self, h):
        return h.detach()


class CannotBeCopied(Logits):
    def __init__(self, theta_size, event_shape):
        super().__init__(theta_size, event_shape)
        self.kept = 2 * self.layers[0].weight


class CannotBeSaved(Logits):
    def get_extra_state(self):
        return {"a": 1}

    def set_extra_state(self, state):
        pass


class Bare(nn.Module):
    def forward(self, theta, x):
        return theta[:, 0] * x


class Summary(nn.Module):
    """What an embedding of single precision is: the example of a bug report."""

    def __init__(self, event_shape):
        super().__init__()
        self.layer = nn.GRU(1, 8)

    def forward(self, x):
        return self.layer(x[None, :, None], torch.zeros(1, len(x), 8))[1][0]


class Mean(Summary):
    def forward(self, x):
        return self.layer(x[None, :, None], x.new_zeros(1, len(x), 8))[1][0]


@pytest.fixture
def untrained(monkeypatch):
    """No step of training may come before the error."""

    def step(*_):
        raise AssertionError("it trains")

    monkeypatch.setattr(Trainer, "_descend", step)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (SinglePrecisionWeights, "cannot be evaluated in double precision, .*x.new_zeros"),
        (MLP((8,), embedding=Summary), "cannot be evaluated in double precision"),
        (Squeezed, "cannot be evaluated on one row"),
        (MixesRows, "gives a row another logit if it is alone"),
        (AlwaysDrops, r"other logits at each call.*self\.training"),
        (Detached, "cannot be differentiated in theta"),
        (CannotBeCopied, "cannot be copied"),
        (CannotBeSaved, "cannot be saved"),
        (lambda *sizes: Logits(*sizes).requires_grad_(False), "all its 4 are frozen"),
        (lambda *sizes: Bare(), "it has none"),
    ],
)
def test_what_cannot_be_evaluated_later_is_told_before(simulations, untrained, network, message):
    with pytest.raises(ValueError, match=f"^network= .*{message}"):
        quick(simulations, network=network)


@pytest.mark.filterwarnings("ignore:The validation loss")
@pytest.mark.parametrize("network", [Logits, Single, MLP((8,), embedding=Mean)])
def test_twins_train_and_are_saved(simulations, network, tmp_path):
    ratio = quick(simulations, network=network, epochs=1)
    ratio.save(tmp_path / "ratio.nre")
    assert nre.load(tmp_path / "ratio.nre", network=network) == ratio


class Looked(nn.Module):
    """Looks integers up, so that there is no derivative."""

    def __init__(self, theta_size, event_shape):
        super().__init__()
        self.table, self.layer = nn.Embedding(9, 4), nn.Linear(5, 1)

    def forward(self, theta, x):
        rows = (theta[:, 0].round().long() + 4).clamp(0, 8)
        return self.layer(torch.cat([self.table(rows), x[:, None]], -1))


@pytest.mark.filterwarnings("ignore:The validation loss")
def test_integers_need_no_derivative():
    rng = np.random.default_rng(1)
    k = rng.integers(0, 5, 200)
    ratio = quick(nre.Simulations({"k": k}, rng.normal(k)), network=Looked, epochs=1)
    assert np.isfinite(ratio.log_ratio(1.0, k=2))
