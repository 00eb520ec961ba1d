import numpy as np
import pytest
import torch
from torch import nn

from pymc_nre.networks import (
    MLP,
    Convolutional,
    DeepSet,
    Dense,
    ResidualMLP,
    ResNet,
    build,
    specification_from_dict,
)
from pymc_nre.networks.beside import Beside, beside
from pymc_nre.networks.incomplete import Incomplete, incomplete
from pymc_nre.networks.specifications import specification_to_dict


def own_embedding(event_shape):
    assert event_shape[-1] == 2
    return nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(event_shape)), 4), nn.Tanh())


CASES = {
    "numbers": (MLP((8,)), (3,)),
    "matrix": (ResidualMLP(8), (2, 3)),
    "dense": (MLP((8,), embedding=Dense((6, 4))), (3,)),
    "set of numbers": (MLP((8,), embedding=DeepSet((6, 4))), (5,)),
    "set": (MLP((8,), embedding=DeepSet((6, 4))), (5, 2)),
    "series": (MLP((8,), embedding=Convolutional((4,), features=4, dimensions=1)), (16,)),
    "channels": (MLP((8,), embedding=Convolutional((4,), features=4, dimensions=1)), (2, 16)),
    "image": (MLP((8,), embedding=ResNet(width=4, dimensions=2)), (16, 16)),
    "own": (MLP((8,), embedding=own_embedding), (3,)),
}


def made(specification, event_shape):
    torch.manual_seed(0)
    x = torch.randn(50, *event_shape) * 3 + 7
    net = build(incomplete(specification), 2, event_shape)
    net.fit_standardization(torch.randn(50, 2), x)
    return net.double().eval(), x[:4].double()


@pytest.mark.parametrize("case", CASES)
def test_every_embedding_sees_which_numbers_are_missing(case):
    net, x = made(*CASES[case])
    theta, holed = torch.ones(4, 2).double(), x.clone()
    holed.flatten(1)[:, 1] = torch.nan
    filled = torch.where(holed.isnan(), x.mean(0), holed)
    with torch.no_grad():
        whole, some, mean = (net(theta, each) for each in (x, holed, filled))
    assert torch.isfinite(some).all()
    assert (some - whole).abs().min() > 1e-9
    assert (some - mean).abs().min() > 1e-9  # a number like others is not one that is missing


def test_what_is_missing_is_the_mean_of_training_beside_a_mask():
    net, x = made(MLP((8,)), (3,))
    x[:, 1] = torch.nan
    mean, scale = net.standardize_x.numbers.mean, net.standardize_x.numbers.scale
    standard = (torch.where(x.isnan(), mean, x) - mean) / scale
    expected = torch.stack([standard, x.isnan().double()], -1).flatten(1)
    torch.testing.assert_close(net.embed(x), net.x_in(expected))


def test_members_of_sets_keep_their_own_masks():
    net, x = made(*CASES["set"])
    x[:, 1, 0] = torch.nan
    shuffled = x[:, torch.tensor([3, 1, 0, 2, 4])]
    torch.testing.assert_close(net.embed(x), net.embed(shuffled))


@pytest.mark.parametrize("case", [name for name in CASES if name != "own"])
def test_conditions_join_the_features(case):
    specification, event_shape = CASES[case]
    with_both = beside(incomplete(specification), event_shape)
    net = build(with_both, 2, (int(np.prod(event_shape)) + 2,))
    x = torch.randn(6, int(np.prod(event_shape)) + 2)
    net.fit_standardization(torch.randn(6, 2), x)
    x[:, 0] = torch.nan
    before = net.eval()(torch.ones(6, 2), x)
    x[:, -1] += 1
    assert torch.isfinite(before).all()
    assert (net(torch.ones(6, 2), x) - before).abs().min() > 0


@pytest.mark.parametrize("case", [name for name in CASES if name != "own"])
def test_specifications_travel_as_plain_descriptions(case):
    specification, event_shape = CASES[case]
    for each in (incomplete(specification), beside(incomplete(specification), event_shape)):
        assert specification_from_dict(specification_to_dict(each)) == each


def test_a_network_that_sees_holes_is_left_as_it_is():
    once = incomplete(MLP((8,)))
    assert incomplete(once) is once
    assert incomplete(MLP((8,), embedding=Beside(Incomplete(), (3,)))).embedding.embedding == (
        Incomplete()
    )


def test_a_network_of_ones_own_is_an_embedding():
    with pytest.raises(TypeError, match=r"expected network= to be MLP.*MLP\(embedding="):
        incomplete(lambda theta_size, event_shape: nn.Linear(1, 1))


def test_sets_with_a_mask_have_one():
    with pytest.raises(ValueError, match="has a mask of its own"):
        incomplete(MLP(embedding=DeepSet(masked=True)))
