"""Small conditional densities, called in the manners of those who make them elsewhere.

Each is exact or nothing in particular: what matters is how it is called, and that it is a density.
"""

import math

import torch
from torch import nn
from torch.distributions import Normal


class MixtureDensity(nn.Module):
    """A mixture of Gaussians given vectors, as nflows has it: ``log_prob(inputs, context)``."""

    def __init__(self, size, given, parts=3):
        super().__init__()
        self.size, self.parts = size, parts
        self.net = nn.Sequential(
            nn.Linear(given, 16), nn.SiLU(), nn.Linear(16, parts * (1 + 2 * size))
        )

    def log_prob(self, inputs, context):
        out = self.net(context)
        log_weights = out[:, : self.parts].log_softmax(-1)
        mean, log_scale = out[:, self.parts :].reshape(-1, 2, self.parts, self.size).unbind(1)
        z = (inputs[:, None] - mean) * (-log_scale).exp()
        each = (-(z**2) / 2 - log_scale - math.log(2 * math.pi) / 2).sum(-1)
        return (log_weights + each).logsumexp(-1)


class Coupling(nn.Module):
    """Two affine couplings of vectors of two numbers: ``flow(context)`` gives a distribution."""

    def __init__(self, given):
        super().__init__()
        self.nets = nn.ModuleList(
            nn.Sequential(nn.Linear(given + 1, 16), nn.Tanh(), nn.Linear(16, 2)) for _ in range(2)
        )

    def forward(self, context=None):
        return Coupled(self.nets, context)


class Coupled:
    """The distribution that `Coupling` gives."""

    def __init__(self, nets, context):
        self.nets, self.context = nets, context

    def log_prob(self, value):
        first, second, change = value[:, 0], value[:, 1], 0.0
        for net in self.nets:
            shift, log_scale = net(torch.cat([first[:, None], self.context], -1)).unbind(-1)
            first, second = (second - shift) * (-log_scale).exp(), first
            change = change - log_scale
        return -(first**2 + second**2) / 2 - math.log(2 * math.pi) + change


class InBatches(nn.Module):
    """Another, as sbi has it: it tells its shapes, standardizes by itself, and has an axis more."""

    def __init__(self, net, input_shape, condition_shape, mean=0.0, scale=1.0):
        super().__init__()
        self.net = net
        self.input_shape = torch.Size(input_shape)
        self.condition_shape = torch.Size(condition_shape)
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("scale", torch.tensor(scale))

    def log_prob(self, input, condition):
        assert input.shape[2:] == self.input_shape
        assert condition.shape[1:] == self.condition_shape
        draws, rows = input.shape[:2]
        z = (input.reshape(draws * rows, -1) - self.mean) / self.scale
        given = condition.reshape(rows, -1).repeat(draws, 1)
        change = self.scale.log() * z.shape[1]
        return (self.net.log_prob(z, given) - change).reshape(draws, rows)


class NormalMean(nn.Module):
    """Exact: x ~ N(mu, sigma^2), called as ``module(theta, x)``."""

    def __init__(self, sigma=1.0):
        super().__init__()
        self.register_buffer("sigma", torch.tensor(sigma))

    def forward(self, theta, x):
        return Normal(theta[:, 0], self.sigma, validate_args=False).log_prob(x)


class NormalPosterior(nn.Module):
    """Exact: mu ~ N(0, prior^2) given x ~ N(mu, 1), as ``log_prob(inputs, context)``."""

    def __init__(self, prior=2.0):
        super().__init__()
        self.register_buffer("shrunk", torch.tensor(prior**2 / (1 + prior**2)))

    def log_prob(self, inputs, context):
        law = Normal(context * self.shrunk, self.shrunk.sqrt(), validate_args=False)
        return law.log_prob(inputs).sum(-1)
