"""A network in training beside another that is known, to which it is added."""

from __future__ import annotations

import torch
from torch import Tensor

from ..base import RatioNetwork

__all__ = ["Offset"]


class Offset(RatioNetwork):
    """The sum of a network and of one that stays as it is and sees the end of a vector only.

    Parameters
    ----------
    inner : RatioNetwork
        Of vectors ``(K,)``; what is trained.
    known : RatioNetwork
        Of their last numbers.
    """

    def __init__(self, inner: RatioNetwork, known: RatioNetwork) -> None:
        torch.nn.Module.__init__(self)  # both standardize
        self.event_shape, self.last = inner.event_shape, known.event_shape[0]
        self.inner, self.known = inner, known.requires_grad_(False)

    def fit_standardization(self, theta: Tensor, x: Tensor) -> None:
        """Of what is trained."""
        self.inner.fit_standardization(theta, x)

    def embed(self, x: Tensor) -> Tensor:
        """Features of both, side by side."""
        return torch.cat([self.known.embed(x[:, -self.last :]), self.inner.embed(x)], dim=-1)

    def head(self, theta: Tensor, features: Tensor) -> Tensor:
        """The sum."""
        size = self.known.x_in.out_features
        return self.known.head(theta, features[..., :size]) + self.inner.head(
            theta, features[..., size:]
        )
