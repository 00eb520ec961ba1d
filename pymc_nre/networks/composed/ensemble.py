r"""Several networks as one: the mean of the ratios that each of them estimates.

Networks that are trained from other weights, on other parts of the simulations, differ where
the simulations leave them room. The mean of their ratios is nearer to the truth than most of
them, and less sure of itself where they disagree,

.. math:: \log \bar r(\theta, x) = \log \frac{1}{K} \sum_k e^{s_k(\theta, x)}.

Logits that are not normalized are ratios up to a factor that depends on x and differs from
member to member; it would weigh them. There the logits are averaged.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..base import RatioNetwork

__all__ = ["Ensemble", "members_of"]


class Ensemble(RatioNetwork):
    """A network of networks.

    Parameters
    ----------
    members : sequence of RatioNetwork
        Of one architecture.
    mean_of : {"ratios", "logits"}
        Ratios, if they are normalized.
    """

    def __init__(self, members: Sequence[RatioNetwork], mean_of: str) -> None:
        nn.Module.__init__(self)  # the members standardize for themselves
        self.event_shape = members[0].event_shape
        self.members = nn.ModuleList(members)
        self.mean_of = mean_of

    def fit_standardization(self, theta: Tensor, x: Tensor) -> None:
        """That of all members."""
        for member in self.members:
            member.fit_standardization(theta, x)

    def embed(self, x: Tensor) -> Tensor:
        """Features ``(n, K F)``: those of the members, one after another."""
        return torch.cat([member.embed(x) for member in self.members], -1)

    def head(self, theta: Tensor, features: Tensor) -> Tensor:
        """Log ratios ``(*)`` of parameters ``(*, D)`` with features ``(*, K F)``, broadcast."""
        parts = zip(self.members, features.chunk(len(self.members), -1), strict=True)
        logits = torch.stack([member.head(theta, part) for member, part in parts])
        if self.mean_of == "logits":
            return logits.mean(0)
        return logits.logsumexp(0) - math.log(len(self.members))

    def extra_repr(self) -> str:
        """Shown in the ``repr``."""
        return f"mean_of={self.mean_of!r}"


def members_of(network: nn.Module) -> Sequence[nn.Module]:
    """The networks that act as one, or the one alone; of an average over references those in it."""
    return getattr(network, "members", (network,))
