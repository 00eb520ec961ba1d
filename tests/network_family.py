"""Networks of every kind, with random weights, and one that counts."""

import numpy as np
import torch
from torch import nn

from pymc_nre.networks import (
    MLP,
    RatioNetwork,
    ResidualMLP,
    build,
)


class Plain(nn.Module):
    """A user's module without embed and head."""

    def __init__(self, theta_size, event_shape):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(theta_size + int(np.prod(event_shape)), 8), nn.Tanh(), nn.Linear(8, 1)
        )

    def forward(self, theta, x):
        return self.layers(torch.cat([theta, x.reshape(len(x), -1)], -1))


class Embedding(nn.Module):
    """A user's module with embed and head."""

    def __init__(self, theta_size, event_shape):
        super().__init__()
        self.summary = nn.Linear(int(np.prod(event_shape)), 5)
        self.top = nn.Linear(theta_size + 5, 1)

    def embed(self, x):
        return torch.tanh(self.summary(x.reshape(len(x), -1)))

    def head(self, theta, features):
        return self.top(torch.tanh(torch.cat([theta, features], -1)))


FAMILY = {
    "MLP": MLP((8, 6, 4)),
    "one layer": MLP((8,), activation="gelu"),
    "ResidualMLP": ResidualMLP(width=8, blocks=2, activation="elu"),
    "plain module": Plain,
    "module with embedding": Embedding,
}


def make(name, theta_size=3, event_shape=(2, 2), dtype=torch.float64):
    torch.manual_seed(1)
    net = build(FAMILY[name], theta_size, event_shape)
    net.fit_standardization(torch.randn(50, theta_size) * 3 + 1, torch.randn(50, *event_shape) - 2)
    return net.to(dtype).eval()


def data(n=7, theta_size=3, event_shape=(2, 2), dtype=torch.float64):
    generator = torch.Generator().manual_seed(2)
    theta = torch.randn(n, theta_size, generator=generator, dtype=dtype)
    return theta, torch.randn(n, *event_shape, generator=generator, dtype=dtype)


class Counting(RatioNetwork):
    """How many rows were embedded, in how many calls; linear in x, quadratic in theta."""

    def __init__(self, theta_size=2, event_shape=(3,)):
        super().__init__(theta_size, event_shape)
        self.embedded = []

    def embed(self, x):
        self.embedded.append(len(x))
        return x.sum(-1, keepdim=True)

    def head(self, theta, features):
        return (theta**2).sum(-1) * features[..., 0]
