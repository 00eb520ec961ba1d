"""A network of pairs whose second parameter vector stands beside the observation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..base import RatioNetwork

__all__ = ["BesideReference"]


class BesideReference(RatioNetwork):
    """Logits of parameters and vectors ``(K + D,)``: an observation, and what to compare with.

    Parameters
    ----------
    inner : RatioNetwork
        Of pairs ``(*, 2 D)``.
    size : int
        D, the length of a parameter vector.
    """

    def __init__(self, inner: RatioNetwork, size: int) -> None:
        nn.Module.__init__(self)
        self.inner, self.size = inner, size
        self.shape_of_x = torch.Size(inner.event_shape)
        self.event_shape = (self.shape_of_x.numel() + size,)

    def embed(self, x: Tensor) -> Tensor:
        """Features of observations, and the reference as it is."""
        x, reference = x.split([self.shape_of_x.numel(), self.size], -1)
        return torch.cat([self.inner.embed(x.reshape(-1, *self.shape_of_x)), reference], -1)

    def head(self, theta: Tensor, features: Tensor) -> Tensor:
        """Logits ``(*)`` of parameters ``(*, D)`` with features ``(*, F + D)``, broadcast."""
        features, reference = features.split([features.shape[-1] - self.size, self.size], -1)
        lead = torch.broadcast_shapes(theta.shape[:-1], reference.shape[:-1])
        both = [part.expand(*lead, self.size) for part in (theta, reference)]
        return self.inner.head(torch.cat(both, -1), features)
