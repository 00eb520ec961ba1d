r"""A network whose logits go through a curve, which changes with the parameters.

.. math:: \tilde s(\theta, x) = \sum_r w_r(\theta)\, c_r\bigl(s(\theta, x)\bigr), \qquad
    w_r(\theta) \propto \exp\Bigl(-\tfrac12 \sum_d (\theta_d - \theta_{rd})^2 / h_d^2\Bigr)

Each region of the parameters has a curve :math:`c_r` and a center :math:`\theta_r`, and between
centers curves go over into each other. The weights sum to one. `pymc_nre.calibrate` fits them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..base import RatioNetwork, floating
from .curves import Curves

__all__ = ["Calibrated", "region_weights"]


class Calibrated(RatioNetwork):
    """A network and curves that its logits go through; new ones change nothing.

    Parameters
    ----------
    inner : RatioNetwork
    size : int
        D, the length of the packed parameter vector.
    regions : int
        R, of the parameters.
    pieces : int
        Of which each curve is made.
    """

    centers: Tensor  # (R, D)
    widths: Tensor  # (D,)

    def __init__(self, inner: RatioNetwork, size: int, regions: int, pieces: int) -> None:
        nn.Module.__init__(self)  # the inner network standardizes
        self.event_shape = inner.event_shape
        self.inner = inner
        like = floating(inner)
        self.register_buffer("centers", torch.zeros(regions, size).to(like))
        self.register_buffer("widths", torch.ones(size).to(like))
        self.curves = Curves(regions, pieces).to(like)

    @classmethod
    def by(cls, inner: RatioNetwork, centers: Tensor, widths: Tensor, curves: Curves) -> Calibrated:
        """The network with curves of regions around centers ``(R, D)``, with widths ``(D,)``."""
        like = floating(inner)
        made = cls(inner, len(widths), *curves.starts.shape)
        made.centers, made.widths = centers.to(like), widths.to(like)
        made.curves = curves.to(like)
        return made

    @property
    def sizes(self) -> tuple[int, int]:
        """Regions, and pieces of each curve: what it is built by."""
        return tuple(self.curves.starts.shape)

    @property
    def evaluations(self) -> int:  # type: ignore[override]
        """Those of the inner network."""
        return self.inner.evaluations

    def embed(self, x: Tensor) -> Tensor:
        """As the inner network does."""
        return self.inner.embed(x)

    def head(self, theta: Tensor, features: Tensor) -> Tensor:
        """Logits ``(*)`` of parameters ``(*, D)`` with features ``(*, F)``, broadcast."""
        heights = self.curves(self.inner.head(theta, features))
        return (region_weights(theta, self.centers, self.widths) * heights).sum(-1)


def region_weights(theta: Tensor, centers: Tensor, widths: Tensor) -> Tensor:
    """Weights ``(*, R)`` of the regions at parameters ``(*, D)``."""
    z = (theta.unsqueeze(-2) - centers) / widths
    return torch.softmax(-0.5 * (z * z).sum(-1), -1)
