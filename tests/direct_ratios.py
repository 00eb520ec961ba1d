"""Direct ratios that are known exactly, and ones that are off by a known amount."""

import copy

import torch

from pymc_nre import tasks
from pymc_nre.estimators.estimator import RatioEstimator
from pymc_nre.networks.base import RatioNetwork
from pymc_nre.networks.composed.pairs import Pairs


class OfFirst(RatioNetwork):
    """What another network says of the first of two parameter vectors, plus an error of both."""

    def __init__(self, exact, size, error=None):
        torch.nn.Module.__init__(self)
        self.event_shape = tuple(exact.event_shape)
        self.exact, self.size, self.error = copy.deepcopy(exact), size, error

    def embed(self, x):
        return self.exact.embed(x)

    def head(self, theta, features):
        one, other = theta[..., : self.size], theta[..., self.size :]
        value = self.exact.head(one, features)
        return value if self.error is None else value + self.error(one, other)


class Difference(OfFirst):
    """The same, and the difference already: what a plain network learns."""

    def head(self, theta, features):
        other = self.exact.head(theta[..., self.size :], features)
        return super().head(theta, features) - other


def direct(task=None, error=None, antisymmetric=True):
    """The direct ratio of a task; an error is a function of two parameter vectors."""
    exact = (task or tasks.GaussianMean()).estimator()
    size = exact.layout.size
    inner = (OfFirst if antisymmetric else Difference)(exact.network, size, error)
    return RatioEstimator(
        Pairs(inner, antisymmetric),
        exact.parameters,
        domain=exact.domain,
        probe_x=exact.probe_x,
        reference="pair",
        integer=exact.layout.integer,
        simulator=exact.simulator,
    )


def cyclic(one, other):
    """Antisymmetric in the two once swapped ones are taken off, and not transitive."""
    return 0.15 * torch.sin(3 * one[..., 0]) * torch.cos(3 * other[..., 0])
