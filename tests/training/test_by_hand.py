"""Gradients written out, beside torch's in double precision."""

import copy

import pytest
import torch
from torch import nn

from pymc_nre.losses import NREA, NREB, NREC, Balanced, MultiScale
from pymc_nre.networks import MLP, Dense, ResidualMLP, build
from pymc_nre.networks.layers import Standardize
from pymc_nre.training.by_hand import ByHand
from pymc_nre.training.settings import Plan
from pymc_nre.training.trainer import Trainer

N, SIZE, EVENT = 24, 3, (5,)
LOSSES = [NREA(), NREB(3), NREC(5), MultiScale(), MultiScale(NREB(6), candidates=3)]
NETWORKS = [
    MLP((16,)),
    MLP((48, 32)),
    MLP((64, 64, 64)),
    MLP((32, 32), embedding=Dense((16, 7))),
    *(MLP((32, 32), activation=name) for name in ("gelu", "tanh", "elu", "softplus", "relu")),
]


def batch_of(loss):
    torch.manual_seed(2)
    theta, x = 2 + 3 * torch.randn(N, SIZE), 1 + 2 * torch.randn(N, *EVENT)
    near = getattr(loss, "near", 0)
    if not near:
        return theta, x
    log_prior = torch.randn(N, 1 + near)
    log_prior[1::4, 1] = -torch.inf
    return theta, x, theta[:, None] + torch.randn(N, near, SIZE), log_prior


def network(specification, batch):
    torch.manual_seed(3)
    net = build(specification, SIZE, EVENT).float()
    net.fit_standardization(*batch[:2])
    return net


def by_torch(net, loss, batch):
    """The loss, and gradients by name, in double precision."""
    net = copy.deepcopy(net).double()
    net.zero_grad()
    value = loss(net, *(part.double() for part in batch))
    value.backward()
    return value.item(), {name: weight.grad for name, weight in net.named_parameters()}


def distance(net, expected):
    """Of gradients, relative to the largest; some are zero but for rounding."""
    found = {name: weight.grad for name, weight in net.named_parameters()}
    assert found.keys() == expected.keys()
    differences = [(found[name].double() - its).abs().max() for name, its in expected.items()]
    return float(max(differences) / max(its.abs().max() for its in expected.values()))


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
@pytest.mark.parametrize("specification", NETWORKS, ids=repr)
def test_gradients_are_those_of_torch(loss, specification):
    batch = batch_of(loss)
    net = network(specification, batch)
    expected_loss, expected = by_torch(net, loss, batch)
    by_hand = ByHand.of(net, loss)
    for _ in range(2):  # what was kept does not matter
        net.zero_grad()
        assert by_hand(*batch).item() == pytest.approx(expected_loss, rel=1e-5)
        assert distance(net, expected) < 3e-5


def hook(net):
    net.body[1].register_forward_hook(lambda module, given, result: 2 * result)


def hook_of_a_weight(net):
    net.x_in.weight.register_hook(lambda gradient: 2 * gradient)


def tie(net):
    net.body[3] = net.body[1]


def raise_precision(net):
    net.standardize_theta.double()


@pytest.mark.parametrize("change", [hook, hook_of_a_weight, tie, raise_precision])
def test_what_hangs_on_a_network_is_left_to_torch(change):
    net = network(MLP((32, 32, 32)), batch_of(NREC()))
    assert ByHand.of(net, NREC()) is not None
    change(net)
    assert ByHand.of(net, NREC()) is None


def test_batches_may_change_their_size():
    batch, loss = batch_of(NREC()), NREC()
    net = network(MLP((32, 32)), batch)
    by_hand = ByHand.of(net, loss)
    for n in (N, 7, N):
        net.zero_grad()
        by_hand(*(part[:n] for part in batch))
        assert distance(net, by_torch(net, loss, [part[:n] for part in batch])[1]) < 3e-5


def unbent(by_hand):
    by_hand.passes.bend = lambda gradients, slopes, sums: sums.copy_(
        gradients.reshape(len(sums), -1, gradients.shape[1]).sum(1)
    )


def untransposed(by_hand):
    layer = by_hand.layers[0]
    layer.weight.data = layer.weight.data.t().contiguous()


def unstandardized(by_hand):
    by_hand.net.standardize_theta = Standardize((SIZE,))


@pytest.mark.parametrize("plant", [unbent, untransposed, unstandardized])
def test_gradients_with_a_mistake_are_others(plant):
    loss = MultiScale()
    batch = batch_of(loss)
    net = network(MLP((32, 32)), batch)
    _, expected = by_torch(net, loss, batch)
    by_hand = ByHand.of(net, loss)
    plant(by_hand)
    by_hand(*batch)
    assert distance(net, expected) > 1e-2


@pytest.mark.parametrize(
    "specification",
    [
        MLP((64, 64), norm="batch"),
        MLP((64, 64), norm="layer"),
        MLP((64, 60)),
        ResidualMLP(32),
        MLP((64, 64), features=lambda theta, x: theta),
        lambda theta_size, event_shape: nn.Bilinear(theta_size, 5, 1),
    ],
)
def test_other_networks_are_left_to_torch(specification):
    net = network(specification, batch_of(NREC()))
    assert ByHand.of(net, NREC()) is None


class Own(NREC):
    """A loss of a user's."""


@pytest.mark.parametrize("loss", [Balanced(), Own()])
def test_other_losses_are_left_to_torch(loss):
    assert ByHand.of(network(MLP(), batch_of(NREC())), loss) is None


def test_networks_of_which_a_part_is_frozen_are_left_to_torch():
    net = network(MLP(), batch_of(NREC()))
    net.x_in.requires_grad_(False)
    assert ByHand.of(net, NREC()) is None


def test_networks_in_double_precision_are_left_to_torch():
    assert ByHand.of(network(MLP(), batch_of(NREC())).double(), NREC()) is None


def test_too_small_batches_are_refused_as_by_torch():
    by_hand = ByHand.of(network(MLP(), batch_of(NREC())), NREC(5))
    assert by_hand.applies_to(torch.ones(6, SIZE))
    assert not by_hand.applies_to(torch.ones(5, SIZE))


class Batches:
    """A few batches of pairs."""

    size = 20 * N

    def epoch(self, index, batch_size, order):
        theta, x = batch_of(NREC())
        for _ in range(self.size // N):
            rows = torch.randperm(N, generator=order)
            yield theta[rows], x[rows]


def losses_of_epochs(threads, monkeypatch):
    batch = batch_of(NREC())
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    net = network(MLP((32, 32)), batch)
    trainer = Trainer(net, NREC(), Batches(), Plan(N, 5, 5, 1e-2, 1e-4), 1)
    return trainer, [trainer.epoch(k) for k in range(5)]


def test_what_is_learned_is_the_same(monkeypatch):
    calls = []
    plain = ByHand.__call__
    monkeypatch.setattr(ByHand, "__call__", lambda *given: calls.append(1) or plain(*given))
    by_hand, losses = losses_of_epochs(1, monkeypatch)
    assert len(calls) == 100
    by_torch, expected = losses_of_epochs(2, monkeypatch)
    assert len(calls) == 100
    assert losses == pytest.approx(expected, abs=1e-4)
    assert losses[-1] < 0.8 * losses[0]  # there is something to be learned by heart
    pairs = zip(by_hand.averaged.parameters(), by_torch.averaged.parameters(), strict=True)
    assert all(torch.allclose(one, other, atol=1e-3) for one, other in pairs)
