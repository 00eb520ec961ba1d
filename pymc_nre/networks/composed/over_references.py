r"""A network of pairs, averaged over known parameter vectors: an ordinary one.

.. math:: \log r(\theta, x) = -\log \frac1S \sum_{j=1}^S e^{-f(\theta, \theta_j, x)}

is the log ratio to the evidence if the :math:`\theta_j` are draws of the training prior, for
:math:`p(x) = E_{p(\theta')}\,p(x \mid \theta')`. With one of them it is the log ratio to the
likelihood at that one.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..base import RatioNetwork
from .ensemble import members_of

__all__ = ["OverReferences"]


class OverReferences(RatioNetwork):
    """Log ratios to the mean likelihood of known parameter vectors.

    Parameters
    ----------
    inner : RatioNetwork
        Of pairs ``(*, 2 D)``: `Pairs`, or an ensemble of them.
    references : Tensor, shape (S, D)
    """

    references: Tensor

    def __init__(self, inner: RatioNetwork, references: Tensor) -> None:
        nn.Module.__init__(self)
        self.event_shape = tuple(inner.event_shape)
        self.inner = inner
        self.register_buffer("references", references)

    @property
    def members(self) -> nn.ModuleList | tuple[RatioNetwork, ...]:
        """Of the inner network: those of an ensemble, or it alone."""
        return members_of(self.inner)

    @property
    def mean_of(self) -> str | None:
        """Of an ensemble."""
        return getattr(self.inner, "mean_of", None)

    @property
    def evaluations(self) -> int:  # type: ignore[override]
        """One for each reference."""
        return len(self.references)

    def embed(self, x: Tensor) -> Tensor:
        """As the inner network does."""
        return self.inner.embed(x)

    def head(self, theta: Tensor, features: Tensor) -> Tensor:
        """Log ratios ``(*)`` of parameters ``(*, D)`` with features ``(*, F)``, broadcast."""
        count, size = self.references.shape
        if count == 1:
            return self._compared(theta, self.references[0].expand(theta.shape), features)
        own = theta.unsqueeze(-2).expand(*theta.shape[:-1], count, size)
        logits = self._compared(own, self.references.expand(own.shape), features.unsqueeze(-2))
        return math.log(count) - (-logits).logsumexp(-1)

    def _compared(self, theta: Tensor, others: Tensor, features: Tensor) -> Tensor:
        return self.inner.head(torch.cat([theta, others], -1), features)
