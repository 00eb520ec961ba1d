"""A checkpoint knows a network and a loss by what they are, not by what their makers are called."""

import math
import shutil
from pathlib import Path

import numpy as np
import pymc as pm
import pytest
import torch
from torch import nn

import pymc_nre as nre
from pymc_nre.losses import DNRE
from pymc_nre.networks import MLP
from pymc_nre.training.batching.contrasts import NearbyParameters
from pymc_nre.training.identity import described

BEFORE = Path(__file__).parents[1] / "data" / "before_the_move"


class Logits(nn.Module):
    """Two dense layers; ``between`` maps what lies between them."""

    def __init__(self, theta_size, between, width=8):
        super().__init__()
        self.first, self.last = nn.Linear(theta_size + 1, width), nn.Linear(width, 1)
        self.between = between

    def forward(self, theta, x):
        return self.last(self.between(self.first(torch.cat([theta, x[:, None]], -1))))


def factory(between, **options):
    """Functions of one name, whatever they make."""

    def network(theta_size, event_shape):
        return Logits(theta_size, between() if isinstance(between, type) else between, **options)

    return network


def scaled(by):
    return lambda h: by * torch.tanh(h)


class Dropped(nn.Module):
    """Dropout that is a module of no name, and acts in training only."""

    def __init__(self, share):
        super().__init__()
        self._hidden = [lambda: share]

    def forward(self, h):
        return nn.functional.dropout(torch.tanh(h), self._hidden[0](), self.training)


class Summary(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x[:, None])


class Penalized:
    """A loss that tells nothing of itself."""

    reference, normalized, minimum_batch, chance = "evidence", True, 6, math.log(2)

    def __init__(self, penalty):
        def loss(net, theta, x):
            size = net.head(theta, net.embed(x)).square().mean()
            return nre.losses.NREC()(net, theta, x) + penalty * size

        self._loss = loss

    def __call__(self, net, theta, x):
        return self._loss(net, theta, x)


@pytest.fixture(scope="module")
def simulations():
    return nre.tasks.GaussianMean().simulate(300, random_seed=1)


def train(simulations, path, **options):
    settings = {"epochs": 2, "batch_size": 100, "random_seed": 5, "progressbar": False}
    settings |= {"network": factory(nn.ReLU), "learning_rate": 1e-2}
    return nre.train(simulations, checkpoint=path, **settings | options)


@pytest.mark.filterwarnings("ignore:The validation loss")
@pytest.mark.parametrize(
    ("before", "now", "named"),
    [
        ({"network": factory(nn.ReLU)}, {"network": factory(nn.Tanh)}, "network"),
        ({"network": factory(torch.tanh)}, {"network": factory(torch.relu)}, "network"),
        ({"network": factory(scaled(1.0))}, {"network": factory(scaled(1.1))}, "network"),
        ({"network": factory(Dropped(0.1))}, {"network": factory(Dropped(0.5))}, "network"),
        ({"network": factory(nn.ReLU)}, {"network": factory(nn.ReLU, width=9)}, "network"),
        (
            {"network": MLP((8,), embedding=lambda event_shape: Summary(torch.tanh))},
            {"network": MLP((8,), embedding=lambda event_shape: Summary(torch.relu))},
            "network",
        ),
        ({"loss": Penalized(0.1)}, {"loss": Penalized(0.2)}, "loss"),
        ({"loss": DNRE("plain", 3)}, {"loss": DNRE("plain", 4)}, "loss"),
        ({"loss": DNRE("antisymmetric")}, {"loss": DNRE("plain")}, "network"),
    ],
    ids=[
        "module",
        "function",
        "closure",
        "training",
        "width",
        "embedding",
        "loss",
        "candidates",
        "head",
    ],
)
def test_another_network_or_loss_of_the_same_name_is_noticed(
    simulations, tmp_path, before, now, named
):
    first = train(simulations, tmp_path / "t", **before)
    with pytest.raises(ValueError, match=f"another training run, with other .*{named}.*delete"):
        train(simulations, tmp_path / "t", **now)
    # The twin: the same goes on, from the file, to the same.
    assert train(simulations, tmp_path / "t", **before) == first


@pytest.mark.filterwarnings("ignore:The validation loss")
def test_another_prior_of_the_same_draws_is_noticed(tmp_path):
    rng = np.random.default_rng(1)
    mu = rng.normal(size=300)
    x = rng.normal(mu, 1.0)
    one, other = (
        nre.Simulations({"mu": mu}, x, prior={"mu": pm.Normal.dist(mean, 1)}) for mean in (0, 0.05)
    )
    first = train(one, tmp_path / "t")
    with pytest.raises(ValueError, match=r"another training run, with other .*prior.*delete"):
        train(other, tmp_path / "t")
    with pytest.raises(ValueError, match=r"another training run, with other .*loss.*delete"):
        train(nre.Simulations({"mu": mu}, x), tmp_path / "t")
    assert train(one, tmp_path / "t") == first


@pytest.mark.filterwarnings("ignore:The validation loss")
def test_candidates_that_are_rounded_otherwise_are_the_same(simulations, tmp_path, monkeypatch):
    """As the steps of another processor may be."""
    first = train(simulations, tmp_path / "t")
    beside = NearbyParameters.beside

    def rounded(law, theta, rng):
        candidates, log_prior = beside(law, theta, rng)
        return candidates * (1 + 1e-6), log_prior

    monkeypatch.setattr(NearbyParameters, "beside", rounded)
    assert train(simulations, tmp_path / "t") == first


@pytest.mark.filterwarnings("ignore:The validation loss")
def test_the_same_network_of_another_maker_goes_on(simulations, tmp_path, monkeypatch):
    def other_name(theta_size, event_shape):
        return Logits(theta_size, nn.ReLU())

    first, trained = train(simulations, tmp_path / "t"), []
    monkeypatch.setattr(nre.training.trainer.Trainer, "epoch", lambda run, k: trained.append(k))
    assert train(simulations, tmp_path / "t", network=other_name) == first
    assert trained == []  # it was complete


class Stretched(MLP):
    """Of the same fields and the same repr, but another function."""

    def build(self, theta_size, event_shape):
        network = super().build(theta_size, event_shape)
        network.body[0] = nn.ReLU()
        return network

    def __repr__(self):
        return repr(MLP(self.hidden))


@pytest.mark.parametrize("loss", [None, nre.losses.NREC(5, 2.0)], ids=["network", "loss"])
def test_files_of_before_are_compared_by_their_loss(tmp_path, loss, monkeypatch):
    """They know names only; what is trained must lose as much as it did."""
    data = np.load(BEFORE / "training.npz")
    simulations = nre.Simulations({"mu": data["mu"], "beta": data["beta"]}, data["x"])
    shutil.copy(BEFORE / "training.checkpoint", tmp_path)
    if loss is not None:
        monkeypatch.setattr(type(loss), "__repr__", lambda self: "NREC(candidates=5, gamma=1.0)")
    with pytest.raises(ValueError, match="with other network or loss"):
        nre.train(
            simulations, loss=loss, network=MLP((8, 8)) if loss else Stretched((8, 8)), epochs=8,
            random_seed=5, checkpoint=tmp_path / "training.checkpoint", progressbar=False,
        )  # fmt: skip


@pytest.mark.filterwarnings("ignore:The validation loss")
def test_files_of_before_with_other_weights_are_told_in_words(simulations, tmp_path, monkeypatch):
    monkeypatch.setattr("pymc_nre.training.identity.described", lambda net: "a name, as before")
    monkeypatch.setattr("pymc_nre.training.identity._given", lambda *_: {})
    train(simulations, tmp_path / "t")
    with pytest.raises(ValueError, match="with other network or loss"):
        train(simulations, tmp_path / "t", network=factory(nn.ReLU, width=9))


class Holding(nn.Module):
    def __init__(self, value):
        super().__init__()
        self.value = value


def itself():
    holding = {}
    holding["itself"] = holding
    return holding


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (0.5, 0.6),
        ("a", "b"),
        ([1, (2, 3)], [1, (2, 4)]),
        ({"a": {1, 2}}, {"a": {1, 3}}),
        (np.arange(3), np.arange(4)),
        (torch.ones(2), torch.zeros(2)),
        (nn.Softplus(1.0), nn.Softplus(2.0)),
        ([nn.Softplus(1.0)], [nn.Softplus(2.0)]),
        (Holding(Holding(1)), Holding(Holding(2))),
        (torch.float32, torch.float64),
        (itself(), {}),
        (torch.tanh, torch.sin),
    ],
    ids=lambda value: type(value).__name__,
)
def test_settings_of_modules_are_described(one, other):
    assert described(Holding(one)) != described(Holding(other))
    assert described(Holding(one)) == described(Holding(one))
    assert " at 0x" not in described(Holding(one))
