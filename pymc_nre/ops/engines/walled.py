"""A network behind the wall around its training domain, which is traced with it."""

from __future__ import annotations

import math
from dataclasses import fields

import torch
from torch import Tensor, nn

from ...estimators.wall import Wall

__all__ = ["Walled"]

_FAR = 1e15  # lengths of a range: squares of that have room in single precision too


class Walled(nn.Module):
    """Log ratios behind a wall; minus infinity, without a slope, where theta is all but infinite.

    Parameters
    ----------
    network : RatioNetwork
    wall : Wall
    """

    def __init__(self, network: nn.Module, wall: Wall) -> None:
        super().__init__()
        self.network = network
        for field in fields(wall):
            value = torch.tensor(getattr(wall, field.name), dtype=torch.float64)
            self.register_buffer(field.name, value)

    def embed(self, x: Tensor) -> Tensor:
        """Features of observations."""
        return self.network.embed(x)

    def forward(self, theta: Tensor, x: Tensor) -> Tensor:
        """Log ratios ``(n,)`` of observations ``(n, *event)``."""
        return self.head(theta, self.embed(x))

    def head(self, theta: Tensor, features: Tensor) -> Tensor:
        """Log ratios ``(n,)`` of parameters ``(n, D)`` and features."""
        wall = Wall(**{field.name: getattr(self, field.name) for field in fields(Wall)})
        # What is nowhere is replaced before all else: masked derivatives would still be NaN.
        length = wall.below + wall.width + wall.above
        nowhere = ~((theta - wall.left).abs() < _FAR * length)
        at = torch.where(nowhere, wall.left, theta)
        values = self.network.head(at.clip(wall.low, wall.high), features) - wall.height(at)
        return torch.where(nowhere.any(-1), -math.inf, values)
