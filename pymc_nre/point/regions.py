r"""Where a set is: its pieces in one dimension, a grid in two.

A set may be a ten-thousandth of the domain, and in several pieces. So it is looked for on points of
two kinds: some over the whole domain, and some around every local maximum, near each other there
and farther apart the farther away, in units of what the curvature says. A *margin* is the critical
value less the statistic: the set is where it is not negative.

Shapes: ``P`` points, ``d`` parameters of interest, 1 or 2, ``M`` maxima.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..amortized.adaptive_grid import Axis

__all__ = ["Plane", "plane", "runs"]

_COARSE, _AROUND = 64, 96  # points
_FEW = 16, 40  # the same where each is dear
_REACH = 7.0  # sinh(7) = 548 standard errors: critical values of a biased ratio are large
_WITHIN = 8  # points between two of which one is in the set
_SECTIONS = 24  # of each axis at first
_POINTS = 60  # of each axis at last
_ANGLES = 24  # around a maximum, at
_RINGS = (0.5, 1.0, 1.5, 2.0, 3.0, 4.5, 7.0, 10.0, 15.0, 22.0, 33.0, 50.0)  # standard errors
_GROWTHS = 4
Margin = Callable[[np.ndarray], np.ndarray]  # points (P, d) to (P,)


def runs(
    margin: Margin, axis: Axis, modes: np.ndarray, error: float, dear: bool
) -> list[tuple[float, float]]:
    """Pieces of a set of one parameter, from left to right.

    Parameters
    ----------
    margin : callable
    axis : Axis
    modes : ndarray, shape (M,)
    error : float
        Standard error, NaN if not known.
    dear : bool
        Whether margins cost much: then there are fewer points, and none between those at which a
        piece ends.
    """
    if axis.integer:
        nodes = axis.integers
        return _pieces(nodes, margin(nodes[:, None]), between=False)
    coarse, near = _FEW if dear else (_COARSE, _AROUND)
    spread = error if np.isfinite(error) else (axis.upper - axis.lower) / coarse
    around = modes[:, None] + spread * np.sinh(np.linspace(-_REACH, _REACH, near + 1))
    even = np.linspace(axis.lower, axis.upper, coarse + 1)
    nodes = np.unique(np.clip(np.concatenate([even, around.ravel(), modes]), *even[[0, -1]]))
    values = margin(nodes[:, None])
    if not dear:
        ends = np.flatnonzero((values[1:] >= 0) != (values[:-1] >= 0))
        shares = np.arange(1, _WITHIN + 1) / (_WITHIN + 1)
        more = (nodes[ends, None] + np.diff(nodes)[ends, None] * shares).ravel()
        both = np.concatenate([values, margin(more[:, None])])
        order = np.argsort(np.concatenate([nodes, more]), kind="stable")
        nodes, values = np.concatenate([nodes, more])[order], both[order]
    return _pieces(nodes, values, between=True)


def _pieces(nodes: np.ndarray, values: np.ndarray, between: bool) -> list[tuple[float, float]]:
    """Runs of nodes that are in the set; their ends where the margin is zero ``between`` two."""
    inside = np.concatenate([[False], values >= 0, [False]])
    changes = np.diff(inside.astype(int))
    first, last = np.flatnonzero(changes > 0), np.flatnonzero(changes < 0) - 1
    if not between:
        return [(float(nodes[a]), float(nodes[b])) for a, b in zip(first, last, strict=True)]
    low = [_zero(nodes, values, a, a - 1) for a in first]
    high = [_zero(nodes, values, b, b + 1) for b in last]
    return list(zip(low, high, strict=True))


def _zero(nodes: np.ndarray, values: np.ndarray, inner: int, outer: int) -> float:
    """Where the margin is zero between two nodes, linearly; the last node has none beyond it."""
    if not 0 <= outer < len(nodes):
        return float(nodes[inner])
    fall = values[inner] - values[outer]
    share = values[inner] / fall if np.isfinite(fall) and fall > 0 else 0.0
    return float(nodes[inner] + share * (nodes[outer] - nodes[inner]))


@dataclass(frozen=True)
class Plane:
    """A set of two parameters: margins ``(P, P)`` at midpoints of cells, first axis first."""

    axes: tuple[np.ndarray, np.ndarray]
    margin: np.ndarray

    @property
    def area(self) -> float:
        """Of its cells."""
        steps = [axis[1] - axis[0] for axis in self.axes]
        return float((self.margin >= 0).sum() * steps[0] * steps[1])

    def contours(self) -> list[np.ndarray]:
        """Its edges, ``(k, 2)`` each."""
        from contourpy import contour_generator  # comes with matplotlib

        finite = np.isfinite(self.margin)
        lowest = self.margin[finite].min(initial=-1.0)
        # A rim of what is outside: where cells end, so does the set.
        z = np.pad(np.where(finite, self.margin, lowest - 1), 1, constant_values=lowest - 1)
        first, second = (np.concatenate([a[:1], a, a[-1:]]) for a in self.axes)
        return contour_generator(first, second, z.T).lines(0.0)


def plane(margin: Margin, axes: Sequence[Axis], modes: np.ndarray, covariance: np.ndarray) -> Plane:
    """A set of two parameters on a grid that just holds it.

    Parameters
    ----------
    margin : callable
    axes : sequence of two Axis
    modes : ndarray, shape (M, 2)
    covariance : ndarray, shape (2, 2)
        Of the estimate, NaN if not known.
    """
    ends = np.array([[axis.lower, axis.upper] for axis in axes]).T
    low, high = _box(margin, ends, modes, covariance)
    for _ in range(_GROWTHS):
        values = _on_grid(margin, low, high, _SECTIONS)[1]
        inside = np.argwhere(values >= 0)
        if not len(inside):
            break
        width = (high - low) / _SECTIONS
        # A cell more than the next midpoint: tips of sets are narrower than cells.
        new = low + (inside.min(0) - 1.5) * width, low + (inside.max(0) + 2.5) * width
        new = np.clip(new, *ends)
        settled = (new[0] >= low).all() and (new[1] <= high).all()
        low, high = new
        if settled:
            break
    return Plane(*_on_grid(margin, low, high, _POINTS))


def _box(
    margin: Margin, ends: np.ndarray, modes: np.ndarray, covariance: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """A box ``(2,)``, ``(2,)`` that holds what points find of the set, and some more."""
    (first, second), values = _on_grid(margin, *ends, _SECTIONS)
    coarse = np.stack(np.meshgrid(first, second, indexing="ij"), -1)[values >= 0]
    cell, near = (ends[1] - ends[0]) / _SECTIONS, np.zeros((0, 2))
    if np.isfinite(covariance).all():
        angles = np.linspace(0, 2 * np.pi, _ANGLES, endpoint=False)
        circle = np.stack([np.cos(angles), np.sin(angles)], -1)
        rings = np.concatenate([radius * circle for radius in _RINGS])
        around = (modes[:, None] + rings @ np.linalg.cholesky(covariance).T).reshape(-1, 2)
        near = around[(margin(around) >= 0)]
    spread = np.sqrt(np.diag(covariance)) if len(near) else cell / 10
    least = np.concatenate([coarse - cell, near - spread, modes[:1] - spread]).min(0)
    most = np.concatenate([coarse + cell, near + spread, modes[:1] + spread]).max(0)
    return np.maximum(least, ends[0]), np.minimum(most, ends[1])


def _on_grid(
    margin: Margin, low: np.ndarray, high: np.ndarray, points: int
) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
    """Midpoints of cells of both axes, and margins there."""
    shares = (np.arange(points) + 0.5) / points
    first, second = low[:, None] + (high - low)[:, None] * shares
    grid = np.stack(np.meshgrid(first, second, indexing="ij"), -1).reshape(-1, 2)
    return (first, second), margin(grid).reshape(points, points)
