"""Modules of log densities are called in their own manner, each row by itself."""

import pytest
import torch
from flows import Coupling, InBatches, MixtureDensity

from pymc_nre.networks.densities import KINDS, LogDensity, log_density_of, name_of


def rows(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", KINDS)
def test_each_manner_of_being_called(kind):
    theta, x = rows(5, 2, seed=1), rows(5, 2, seed=2)
    inputs, context = (x, theta) if kind == "likelihood" else (theta, x)
    flow, mixture = Coupling(2), MixtureDensity(2, 2)
    batches = InBatches(mixture, (2,), (2,), 0.3, 2.0)
    change = 2 * torch.tensor(2.0).log()
    for module, wanted in (
        (flow, flow(context).log_prob(inputs)),
        (mixture, mixture.log_prob(inputs, context)),
        (batches, mixture.log_prob((inputs - 0.3) / 2, context) - change),
        (lambda theta, x: theta[:, 0] - x[:, 1], theta[:, 0] - x[:, 1]),
    ):
        net = LogDensity(module, 2, (2,), "likelihood")
        found = log_density_of(net.module, kind, theta, x).reshape(-1)
        assert torch.allclose(found, wanted)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(), (2,), (2, 1)])
def test_conditions_stand_behind_what_is_given(kind, shape):
    """One of them, in each manner of being called."""
    size = 2 if shape else 1
    theta, x, dose = rows(5, 2, seed=1), rows(5, *shape, seed=2), rows(5, 1, seed=3)
    packed = torch.cat([x.reshape(5, -1), dose], 1)
    inputs, context = (x, torch.cat([theta, dose], 1)) if kind == "likelihood" else (theta, packed)
    vectors, given = inputs.reshape(5, -1), context.shape[1]
    mixture, flow = MixtureDensity(vectors.shape[1], given), Coupling(given)
    wanted = mixture.log_prob(vectors, context)
    cases = [
        (InBatches(mixture, inputs.shape[1:], (given,)), wanted),
        (lambda theta, x: theta[:, 0] - x[:, size], theta[:, 0] - dose[:, 0]),
    ]
    if inputs.ndim < 3:  # others are of vectors
        cases.append((mixture, wanted))
    if inputs.shape == (5, 2):
        cases.append((flow, flow(context).log_prob(inputs)))
    for module, wanted in cases:
        net = LogDensity(module, 2, (size + 1,), kind, lambda theta: theta[..., 0] * 0, shape)
        assert torch.allclose(net(theta, packed), wanted)


def test_numbers_come_as_vectors():
    x = rows(5)
    mixture = MixtureDensity(1, 2)
    net = LogDensity(mixture, 2, (), "likelihood")
    wanted = mixture.log_prob(x[:, None], rows(5, 2, seed=1))
    assert torch.allclose(net(rows(5, 2, seed=1), x), wanted)


def test_leading_axes_broadcast():
    net = LogDensity(MixtureDensity(3, 2), 2, (3,), "likelihood")
    theta, x = rows(7, 1, 2, seed=1), rows(4, 3)
    table = net.head(theta, net.embed(x))
    assert table.shape == (7, 4)
    assert torch.allclose(table[2], net(theta[2].expand(4, 2), x))


def test_a_posterior_is_divided_by_its_prior():
    class Own(MixtureDensity):
        def log_prior(self, theta):
            return -theta.square().sum(-1)

    module = Own(2, 3)
    net = LogDensity(module, 2, (3,), "posterior")
    net.offset += 0.7
    theta, x = rows(5, 2), rows(5, 3)
    wanted = module.log_prob(theta, x) + theta.square().sum(-1) - 0.7
    assert torch.allclose(net(theta, x), wanted)
    assert net.has_own_prior


def test_it_shows_itself_without_addresses():
    net = LogDensity(lambda theta, x: theta[:, 0], 1, (), "likelihood")
    assert repr(net) == "LogDensity(likelihood, <lambda>, prior=None)"
    assert name_of(net.module) == "<lambda>"


def test_few_observations_tell_no_spread():
    net = LogDensity(lambda theta, x: theta[:, 0], 1, (), "likelihood").double()
    net.know_data(torch.tensor([1.0, 2.0]))
    assert net.standardize_x(torch.tensor(1e9)) == 0
    net.know_data(torch.arange(100.0))
    assert net.standardize_x(torch.tensor(1e9)) > 1e7
