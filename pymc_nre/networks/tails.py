r"""Numbers whose bulk is far narrower than their standard deviation, and a curve that bears them.

Counts over many powers of ten, or draws of a scale that does, have the spread of the few largest.
In units of it nearly all values are the same number. A symmetric logarithm,

.. math:: v \mapsto \operatorname{arcsinh}\frac{v - c}{u},

is linear within :math:`u` of :math:`c` and logarithmic beyond, on both sides. Of a few centers
and units that is taken which spreads the values most: the entropy of a histogram is largest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

__all__ = ["Curve", "bulk", "curve_of", "enough", "is_heavy"]

# Half of all values are that near to their median, in standard deviations: .67 of a normal, .3 of
# a log-normal, .13 of a Student t of 2 degrees of freedom. Counts whose rates reach over e^9 have
# .05, and posteriors by them gain already (docs/training.md).
_HEAVY = 0.1
# Values of each number to look at, at most and at least, and of all numbers: 32 MB.
_MOST, _LEAST, _TOGETHER = 10_000, 500, 2**22
_SHARES = (0.01, 0.1, 0.5)  # of all values that are within a unit of the center
_GAIN = 0.1  # of entropy, in nats: by less no center or unit is preferred to a plainer one
_CELLS, _REACH = 200, 5.0  # of the histogram, and standard deviations on each side
_STEEPEST = 1e-30  # of the largest distance: quotients are far from the end of single precision


@dataclass(frozen=True)
class Curve:
    """``arcsinh((v - center) / unit)``; an infinite unit leaves ``v`` as it is."""

    center: float = 0.0
    unit: float = math.inf

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Values ``(n,)``, spread."""
        straight = math.isinf(self.unit)
        return values if straight else np.arcsinh((values - self.center) / self.unit)

    def __str__(self) -> str:
        sign = "-" if self.center > 0 else "+"
        inner = f"(x {sign} {abs(self.center):.3g})" if self.center else "x"
        return f"arcsinh({inner} / {self.unit:.3g})"


def enough(columns: int) -> int:
    """How many values of each of so many numbers show their tails."""
    return max(min(_MOST, _TOGETHER // columns), _LEAST)


def bulk(columns: np.ndarray) -> np.ndarray:
    """Median distances of values ``(n, C)`` from their medians, ``(C,)``.

    Those that are the median do not count: many zeros leave it to the others what is near.
    """
    n = len(columns)
    distance = np.sort(np.abs(columns - np.median(columns, 0)), 0)
    zeros = (distance == 0).sum(0)
    middle = np.minimum(zeros + (n - zeros) // 2, n - 1)
    return np.take_along_axis(distance, middle[None], 0)[0]


def is_heavy(columns: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Which of the columns ``(n, C)`` with these standard deviations lose their bulk, ``(C,)``."""
    found = bulk(columns)
    return (found > 0) & (found < _HEAVY * spread)


def curve_of(values: np.ndarray) -> Curve:
    """What spreads values ``(n,)`` most; nothing, if no curve does."""
    best, most = Curve(), _entropy(values)
    for center in (0.0, float(np.median(values)), float(values.min()), float(values.max())):
        distance = np.abs(values - center)
        least = _STEEPEST * distance.max()
        for unit in np.quantile(distance[distance > 0], _SHARES):
            curve = Curve(center, max(float(unit), least))
            entropy = _entropy(curve(values))
            if entropy > most + _GAIN:
                best, most = curve, entropy
    return best


def _entropy(values: np.ndarray) -> float:
    """That of a histogram, whose cells are shares of a standard deviation."""
    z = (values - values.mean()) / values.std()
    cells = np.histogram(z.clip(-_REACH, _REACH), _CELLS, (-_REACH, _REACH))[0]
    share = cells[cells > 0] / len(values)
    return -float(share @ np.log(share))
