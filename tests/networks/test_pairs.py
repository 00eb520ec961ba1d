"""Networks of two parameter vectors, and the ordinary ones that are made of them."""

import pytest
import torch

from pymc_nre.networks import MLP, DeepSet, ResidualMLP
from pymc_nre.networks.composed.beside_reference import BesideReference
from pymc_nre.networks.composed.over_references import OverReferences
from pymc_nre.networks.composed.pairs import Pairs

KINDS = {
    "perceptron": (MLP((16,)), (3,)),
    "residual": (ResidualMLP(16, 1), (3,)),
    "set": (MLP((16,), embedding=DeepSet((8,))), (5, 1)),
    "number": (MLP((16,)), ()),
}


def made(kind, antisymmetric=True):
    specification, event = KINDS[kind]
    torch.manual_seed(1)
    net = Pairs(specification.build(4, event), antisymmetric).double()
    theta, x = torch.randn(50, 2).double(), torch.randn(50, *event).double()
    net.fit_standardization(theta, x)
    return net.eval(), theta, x


@pytest.mark.parametrize("kind", KINDS)
def test_swapped_parameters_change_the_sign(kind):
    net, theta, x = made(kind)
    others = theta.roll(1, 0)
    one = net(torch.cat([theta, others], -1), x)
    torch.testing.assert_close(one, -net(torch.cat([others, theta], -1), x))
    assert one.std() > 0.01


def test_plain_one_is_what_it_is_made_of():
    net, theta, x = made("perceptron", antisymmetric=False)
    both = torch.cat([theta, theta.roll(1, 0)], -1)
    torch.testing.assert_close(net(both, x), net.inner(both, x))
    swapped = net(torch.cat([theta.roll(1, 0), theta], -1), x)
    assert not torch.allclose(net(both, x), -swapped)


@pytest.mark.parametrize("kind", KINDS)
def test_reference_may_stand_beside_the_observation(kind):
    net, theta, x = made(kind)
    others = theta.roll(1, 0)
    view = BesideReference(net, 2)
    packed = torch.cat([x.flatten(1) if x.ndim > 1 else x[:, None], others], -1)
    assert view.event_shape == (packed.shape[1],)
    torch.testing.assert_close(view(theta, packed), net(torch.cat([theta, others], -1), x))
    # One theta for all.
    shared = torch.cat([theta[:1].expand_as(others), others], -1)
    torch.testing.assert_close(view(theta[:1], packed), net(shared, x))


@pytest.mark.parametrize("kind", KINDS)
def test_average_over_references(kind):
    net, theta, x = made(kind)
    references = torch.randn(7, 2).double()
    found = OverReferences(net, references)(theta, x)
    logs = torch.stack(
        [net(torch.cat([theta, each.expand_as(theta)], -1), x) for each in references]
    )
    torch.testing.assert_close(found, -((-logs).exp().mean(0)).log())
    assert OverReferences(net, references).evaluations == 7


def test_one_reference_is_no_average():
    net, theta, x = made("perceptron")
    found = OverReferences(net, theta[:1])(theta, x)
    shared = torch.cat([theta, theta[:1].expand_as(theta)], -1)
    torch.testing.assert_close(found, net(shared, x))
    assert found[0].abs() < 1e-12


def test_average_of_a_network_that_says_nothing_is_nothing():
    net, theta, x = made("perceptron")
    for weight in net.parameters():
        weight.data.zero_()
    found = OverReferences(net, torch.randn(9, 2).double())(theta, x)
    assert found.abs().max() < 1e-12
