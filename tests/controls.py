"""Exact ratios made wrong in ways whose names are known."""

import torch

from pymc_nre.diagnostics import posterior_ranks
from pymc_nre.networks import RatioNetwork


class Changed(RatioNetwork):
    """An exact ratio made wrong in a way whose name is known."""

    def __init__(self, inner, power=1.0, of_theta=0.0, of_x=0.0):
        torch.nn.Module.__init__(self)
        self.inner, self.power, self.of_theta, self.of_x = inner, power, of_theta, of_x
        self.event_shape = inner.event_shape
        self.register_buffer("like", torch.zeros(1))

    def embed(self, x):
        return self.inner.embed(x + self.of_x)

    def head(self, theta, features):
        return self.power * self.inner.head(theta + self.of_theta, features)


def changed(ratio, **how):
    return ratio.replace(network=Changed(ratio.network, **how).double())


def ranked(ratio, pairs, draws=300, seed=2):
    return posterior_ranks(ratio, pairs, draws=draws, random_seed=seed, progressbar=False)
