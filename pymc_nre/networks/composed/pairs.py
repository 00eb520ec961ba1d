r"""A network that compares two parameter vectors by an observation, :math:`f(\theta, \theta', x)`.

It takes both as one vector, the first before the second. So whatever evaluates a network of
parameters evaluates this one, and any family of networks can be made one of pairs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..base import RatioNetwork

__all__ = ["Pairs"]


class Pairs(RatioNetwork):
    """Logits of pairs ``(*, 2 D)``: which of the two made this observation?

    Parameters
    ----------
    inner : RatioNetwork
        Of vectors of ``2 D`` parameters.
    antisymmetric : bool
        Whether to take off what the inner network says of them swapped, so that the sign changes
        if they are.
    """

    def __init__(self, inner: RatioNetwork, antisymmetric: bool) -> None:
        nn.Module.__init__(self)  # the inner network standardizes
        self.event_shape = tuple(inner.event_shape)
        self.inner, self.antisymmetric = inner, antisymmetric

    @property
    def standardize_x(self) -> nn.Module | None:
        """What the inner network does to observations before its first layer, if it tells."""
        return getattr(self.inner, "standardize_x", None)

    def fit_standardization(self, theta: Tensor, x: Tensor) -> None:
        """Of both parameter vectors alike, theta ``(n, D)``."""
        self.inner.fit_standardization(torch.cat([theta, theta], -1), x)

    def embed(self, x: Tensor) -> Tensor:
        """As the inner network does."""
        return self.inner.embed(x)

    def head(self, theta: Tensor, features: Tensor) -> Tensor:
        """Logits ``(*)`` of pairs ``(*, 2 D)`` with features ``(*, F)``, broadcast."""
        logits = self.inner.head(theta, features)
        if not self.antisymmetric:
            return logits
        one, other = theta.chunk(2, -1)
        return logits - self.inner.head(torch.cat([other, one], -1), features)

    def extra_repr(self) -> str:
        """Shown in the ``repr``."""
        return f"antisymmetric={self.antisymmetric}"
