r"""A network less a function of the parameters alone, which local centering makes.

The function is the quadratic that `pymc_nre.kernels.correction` describes; here it is for torch.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from ..base import RatioNetwork, floating

__all__ = ["QuadraticCorrection"]


class QuadraticCorrection(RatioNetwork):
    """A network and a quadratic correction.

    Parameters
    ----------
    inner : RatioNetwork
    size : int
        D, the length of the packed parameter vector. A new correction is zero everywhere.
    edge : bool
        Whether it ends where it was fitted. Those of older files do not: they have bounds.
    """

    center: Tensor  # (D,)
    matrix: Tensor  # (D, D)
    bounds: Tensor  # (D,)
    linear: Tensor  # (D,)
    quadratic: Tensor  # (D, D), symmetric
    edge: Tensor  # (2,), the square of a radius, and the scale of a log ratio

    def __init__(self, inner: RatioNetwork, size: int, *, edge: bool = True) -> None:
        nn.Module.__init__(self)  # the inner network standardizes
        self.event_shape = inner.event_shape
        self.inner = inner
        like = floating(inner)
        self.has_edge = edge
        for name, start in _START.items():
            # What is not persistent is in no file and no digest, and so has its numbers from here.
            kept = edge or name != "edge"
            device = like.device if kept or not like.is_meta else "cpu"
            value = start(size).to(dtype=like.dtype, device=device)
            self.register_buffer(name, value, persistent=kept)

    @property
    def evaluations(self) -> int:  # type: ignore[override]
        """Those of the inner network."""
        return self.inner.evaluations

    def parts(self) -> list[Tensor]:
        """Center, matrix, bounds, linear and quadratic part, edge."""
        return [getattr(self, name) for name in _START]

    def set_parts(self, *values: np.ndarray) -> None:
        """Replace them, in that order; the edge may be left out."""
        for part, value in zip(self.parts(), values, strict=False):
            part.copy_(torch.as_tensor(value))

    def to_vector(self) -> Tensor:
        """The correction as compiled code takes it, ``(2 D^2 + 3 D + 2,)``."""
        return torch.cat([part.flatten() for part in self.parts()])

    def _get_name(self) -> str:
        # What it was called in the digests of estimators that checkpoints hold.
        return "Tilted"

    def embed(self, x: Tensor) -> Tensor:
        """As the inner network does."""
        return self.inner.embed(x)

    def head(self, theta: Tensor, features: Tensor) -> Tensor:
        """Logits ``(*)`` of parameters ``(*, D)`` with features ``(*, F)``, broadcast."""
        return self.inner.head(theta, features) - self.height(theta)

    def height(self, theta: Tensor) -> Tensor:
        """What is taken off, ``(*)``, at parameters ``(*, D)``."""
        u = self._coordinates(theta)
        radius, scale = self.edge
        e = ((u * u).sum(-1) / radius - 1).clamp(min=0)
        u = u * ((1 + e**3) ** (-1 / 6)).unsqueeze(-1)
        height = (u * (self.linear + u @ self.quadratic / 2)).sum(-1)
        t = e.clamp(max=1)
        return height + t**3 * (10 + t * (6 * t - 15)) * scale * softplus(-height / scale)

    def is_whole(self, theta: Tensor) -> Tensor:
        """Whether it is the quadratic itself, ``(*)``, at parameters ``(*, D)``."""
        return (self._coordinates(theta) ** 2).sum(-1) <= self.edge[0]

    def _coordinates(self, theta: Tensor) -> Tensor:
        u = (theta - self.center) @ self.matrix.T
        return torch.minimum(torch.maximum(u, -self.bounds), self.bounds)


_START = {
    "center": torch.zeros,
    "matrix": torch.eye,
    "bounds": torch.ones,
    "linear": torch.zeros,
    "quadratic": lambda size: torch.zeros(size, size),
    "edge": lambda size: torch.tensor([math.inf, 1.0]),
}
