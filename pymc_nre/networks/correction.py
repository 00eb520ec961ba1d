r"""A network less a function of the parameters alone, which local centering makes.

The function is the quadratic that `pymc_nre.kernels.correction` describes; here it is for torch.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from .base import RatioNetwork, floating

__all__ = ["QuadraticCorrection"]


class QuadraticCorrection(RatioNetwork):
    """A network and a quadratic correction.

    Parameters
    ----------
    inner : RatioNetwork
    size : int
        D, the length of the packed parameter vector. A new correction is zero everywhere.
    """

    center: Tensor  # (D,)
    matrix: Tensor  # (D, D)
    bounds: Tensor  # (D,)
    linear: Tensor  # (D,)
    quadratic: Tensor  # (D, D), symmetric

    def __init__(self, inner: RatioNetwork, size: int) -> None:
        nn.Module.__init__(self)  # the inner network standardizes
        self.event_shape = inner.event_shape
        self.inner = inner
        like = floating(inner)
        for name, start in _START.items():
            value = start(size).to(dtype=like.dtype, device=like.device)
            self.register_buffer(name, value)

    def parts(self) -> list[Tensor]:
        """Center, matrix, bounds, linear and quadratic part."""
        return [getattr(self, name) for name in _START]

    def set_parts(self, *values: np.ndarray) -> None:
        """Replace them, in that order."""
        for part, value in zip(self.parts(), values, strict=True):
            part.copy_(torch.as_tensor(value))

    def to_vector(self) -> Tensor:
        """The correction as compiled code takes it, ``(2 D^2 + 3 D,)``."""
        return torch.cat([part.flatten() for part in self.parts()])

    def _get_name(self) -> str:
        # What it was called in the digests of estimators that checkpoints hold.
        return "Tilted"

    def embed(self, x: Tensor) -> Tensor:
        """As the inner network does."""
        return self.inner.embed(x)

    def head(self, theta: Tensor, features: Tensor) -> Tensor:
        """Logits ``(*)`` of parameters ``(*, D)`` with features ``(*, F)``, broadcast."""
        u = (theta - self.center) @ self.matrix.T
        u = torch.minimum(torch.maximum(u, -self.bounds), self.bounds)
        correction = (u * (self.linear + u @ self.quadratic / 2)).sum(-1)
        return self.inner.head(theta, features) - correction


_START = {
    "center": torch.zeros,
    "matrix": torch.eye,
    "bounds": torch.ones,
    "linear": torch.zeros,
    "quadratic": lambda size: torch.zeros(size, size),
}
