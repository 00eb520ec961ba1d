r"""Curves through given points, with a continuous slope, made of arithmetic alone.

Between two points a curve is the cubic of Fritsch and Carlson: with slopes so chosen that it has no
extreme that the points do not have, so that it rises where they rise. Beyond the first and the last
point it is a straight line of slope one, which moves logits and does not stretch them: nothing is
known there. Every piece is written as how much it rises by the time one is through it,

.. math:: c(s) = c_1 + \min(s - t_1, 0) + \max(s - t_K, 0) + \sum_k p_k(u_k), \qquad
    u_k = \min(\max(s - t_k, 0), t_{k+1} - t_k), \quad p_k(0) = 0,

so that no piece has to be looked up, and compiled code can be made of it.

F. N. Fritsch and R. E. Carlson, Monotone piecewise cubic interpolation, SIAM Journal on Numerical
Analysis 17 (1980).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.interpolate import PchipInterpolator
from torch import Tensor, nn

__all__ = ["Curves"]

# From the outermost points on curves have a slope that they did not choose: it begins one logit
# away from them, so that it bends nothing between them.
_MARGIN = 1.0


class Curves(nn.Module):
    """Several curves of one variable; new ones are all the identity.

    Parameters
    ----------
    count : int
        R, how many.
    pieces : int
        P, of how many pieces each of them is made.
    """

    starts: Tensor  # (R, P)
    widths: Tensor  # (R, P)
    first: Tensor  # (R,), height where the first piece begins
    coefficients: Tensor  # (3, R, P), of u, its square and its cube

    def __init__(self, count: int, pieces: int) -> None:
        super().__init__()
        place = torch.arange(pieces, dtype=torch.get_default_dtype())
        line = torch.tensor([1.0, 0.0, 0.0])[:, None, None]
        self.register_buffer("starts", place.repeat(count, 1))
        self.register_buffer("widths", torch.ones(count, pieces))
        self.register_buffer("first", torch.zeros(count))
        self.register_buffer("coefficients", line.repeat(1, count, pieces))

    @classmethod
    def through(cls, points: Sequence[tuple[np.ndarray, np.ndarray]]) -> Curves:
        """One curve through each set of points: places ``(K,)``, which rise, and heights ``(K,)``.

        Sets may have different numbers of points, one at least.
        """
        most = max(len(places) for places, _ in points)
        each = [_pieces(*_extended(*one, most)) for one in points]
        made = cls(len(points), most + 1).double()
        for name, parts in zip(
            ("starts", "widths", "first"), zip(*each, strict=True), strict=False
        ):
            setattr(made, name, torch.as_tensor(np.stack(parts)))
        made.coefficients = torch.as_tensor(np.stack([one[3] for one in each], axis=1))
        return made

    def forward(self, s: Tensor) -> Tensor:
        """Heights ``(*, R)`` of all curves at places ``(*)``."""
        s = s.unsqueeze(-1)
        beyond = s - self.starts[:, -1] - self.widths[:, -1]
        outside = (s - self.starts[:, 0]).clamp(max=0) + beyond.clamp(min=0)
        u = torch.minimum((s.unsqueeze(-1) - self.starts).clamp(min=0), self.widths)
        linear, square, cube = self.coefficients
        return self.first + outside + (u * (linear + u * (square + u * cube))).sum(-1)


def _extended(t: np.ndarray, c: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Points with one more before them, and as many more behind them as all curves have then."""
    behind = _MARGIN * np.arange(1, most - len(t) + 2)
    places = np.concatenate([t[:1] - _MARGIN, t, t[-1] + behind])
    return places, np.concatenate([c[:1] - _MARGIN, c, c[-1] + behind])


def _pieces(t: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, ...]:
    """Starts, widths, first height and coefficients of the cubics between points."""
    slopes = PchipInterpolator(t, c).derivative()(t)
    slopes[[0, -1]] = 1.0
    h = np.diff(t)
    rise = np.diff(c) / h
    before, after = slopes[:-1], slopes[1:]
    square = (3 * rise - 2 * before - after) / h
    cube = (before + after - 2 * rise) / h**2
    return t[:-1], h, c[0], np.stack([before, square, cube])
