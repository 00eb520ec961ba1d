"""A network of a user's own, part of which training leaves as it is."""

import torch
from torch import nn

LAYER = {"module.layer.weight", "module.layer.bias"}  # is trained


class PartlyFrozen(nn.Module):
    """Features by weights that are known, and a layer."""

    def __init__(self, theta_size):
        super().__init__()
        self.known = nn.Linear(theta_size + 1, 8).requires_grad_(False)
        self.layer = nn.Linear(8, 1)

    def forward(self, theta, x):
        return self.layer(torch.tanh(self.known(torch.cat([theta, x[:, None]], 1))))


def partly_frozen(theta_size, event_shape):
    return PartlyFrozen(theta_size)


def moved(one, other):
    """Names of the weights in which two ratios differ."""
    of_one, of_other = (dict(each.network.named_parameters()) for each in (one, other))
    assert of_one.keys() == of_other.keys()
    return {name for name in of_one if not torch.equal(of_one[name], of_other[name])}
