"""A network of a user's own, which standardizes observations in a way of its own."""

import math

import torch
from torch import nn

from pymc_nre.networks import RatioNetwork


class OwnScale(RatioNetwork):
    """In units of the largest, whatever their tails. It has two hidden layers, or none."""

    class Largest(nn.Module):
        def fit(self, x):
            self.largest = x.abs().amax(0)

        def forward(self, x):
            return x / self.largest

    def __init__(self, theta_size, event_shape, hidden=None):
        super().__init__(theta_size, event_shape, self.Largest())
        size, layers = theta_size + math.prod(event_shape), []
        if hidden:
            layers = [nn.Linear(size, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(hidden or size, 1))

    def embed(self, x):
        return self.standardize_x(x).reshape(len(x), -1)

    def head(self, theta, features):
        lead = torch.broadcast_shapes(theta.shape[:-1], features.shape[:-1])
        both = self.standardize_theta(theta).expand(*lead, -1), features.expand(*lead, -1)
        return self.layers(torch.cat(both, -1)).squeeze(-1)
