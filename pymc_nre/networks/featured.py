r"""A network that is given features of parameters and observations that its user knows.

Distances such as :math:`\theta - x`, or standardized residuals, are what a network would have to
find by itself in many simulations. They are functions of both sides, so they join the first layer
in the head; the rest of that layer stays split, and embeddings are evaluated once for each
observation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .base import SplitNetwork
from .layers import Standardize

__all__ = ["FeaturedNetwork", "split_network"]

Function = Callable[[Tensor, Tensor], Tensor]


def split_network(features: Function | None, *parts: Any) -> SplitNetwork:
    """What `SplitNetwork` makes of the parts, with features of the user's if there are any."""
    return SplitNetwork(*parts) if features is None else FeaturedNetwork(features, *parts)


class FeaturedNetwork(SplitNetwork):
    """A split network whose first layer has features of both sides, taken in their own units.

    They are standardized by pairs that belong together and pairs that do not: training has both.
    """

    def __init__(self, function: Function, *parts: Any) -> None:
        super().__init__(*parts)
        self.function, first = function, self.theta_in
        size = _size(function, first.in_features, self.event_shape)
        self.standardize_features = Standardize((size,))
        self.features_in = nn.Linear(size, first.out_features, bias=False)

    def fit_standardization(self, theta: Tensor, x: Tensor) -> None:
        """Take the moments of the training data, and of features of pairs."""
        super().fit_standardization(theta, x)
        others = theta.roll(len(theta) // 2, 0)
        found = torch.cat([self._features(each, x) for each in (theta, others)])
        bad = ~found.isfinite().all(-1)
        if bad.any():
            raise ValueError(
                f"features= gives NaN or infinite values for {bad.sum():,} of {len(bad):,} pairs "
                "of parameters and observations of the training prior; expected finite ones for "
                "all pairs, also for those that do not belong together. Bound them, or take "
                "logarithms."
            )
        self.standardize_features.fit(found)
        self.standardize_features.bear_tails(found)

    def embed(self, x: Tensor) -> Tensor:
        """The numbers of an observation, which features need, and what the first layer makes."""
        return torch.cat([x.reshape(len(x), -1), super().embed(x)], -1)

    def head(self, theta: Tensor, features: Tensor) -> Tensor:
        """Logits ``(*)`` of parameters ``(*, D)`` with what `embed` gives, broadcast."""
        width = self.features_in.out_features
        x, hidden = features.split([features.shape[-1] - width, width], -1)
        lead = torch.broadcast_shapes(theta.shape[:-1], x.shape[:-1])
        rows = theta.expand(*lead, theta.shape[-1]).reshape(-1, theta.shape[-1])
        x = x.expand(*lead, x.shape[-1]).reshape(-1, *self.event_shape)
        own = self.features_in(self.standardize_features(self._features(rows, x)))
        first = self.theta_in(self.standardize_theta(theta)) + hidden + own.reshape(*lead, width)
        return self.body(first).squeeze(-1)

    def _features(self, theta: Tensor, x: Tensor) -> Tensor:
        found = self.function(theta, x)
        return found[:, None] if found.ndim == 1 else found


def _size(function: Any, theta_size: int, event_shape: tuple[int, ...]) -> int:
    """How many features there are of a pair."""
    rows = 3
    theta, x = torch.ones(rows, theta_size), torch.ones(rows, *event_shape)
    with torch.no_grad(), torch.device("cpu"):
        found = function(theta, x)
    if not isinstance(found, Tensor) or found.ndim not in (1, 2) or len(found) != rows:
        got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise ValueError(
            f"features= must map parameters {tuple(theta.shape)} and observations {tuple(x.shape)} "
            f"to a tensor of shape ({rows},) or ({rows}, F), got {got}. Use torch, and keep the "
            "rows apart."
        )
    return found.shape[1] if found.ndim == 2 else 1
