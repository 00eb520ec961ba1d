r"""Where a set is: its pieces in one dimension, a grid in two.

A set may be a ten-thousandth of the domain, and in several pieces. So it is looked for on points of
two kinds: some over the whole domain, and some around every local maximum, near each other there
and farther apart the farther away, in units of what the curvature says. A *margin* is the critical
value less the statistic: the set is where it is not negative. Of an integer only whole numbers are
asked of: all of them where they are few, and else, in one dimension, those at which a piece ends.

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
_LOOKS = 20  # each leaves a ninth of what is between two integers: more than there are floats
_SECTIONS = 24  # of each axis at first
_POINTS = 60  # of each axis at last
_ANGLES = 24  # around a maximum, at
_RINGS = (0.5, 1.0, 1.5, 2.0, 3.0, 4.5, 7.0, 10.0, 15.0, 22.0, 33.0, 50.0)  # standard errors
_GROWTHS = 8
Margin = Callable[[np.ndarray], np.ndarray]  # points (P, d) to (P,)


def runs(
    margin: Margin, axis: Axis, modes: np.ndarray, error: float, dear: bool
) -> list[tuple[float, float]]:
    """Pieces of a set of one parameter, from left to right; of an integer, runs of its values.

    Parameters
    ----------
    margin : callable
    axis : Axis
    modes : ndarray, shape (M,)
    error : float
        Standard error, NaN if not known.
    dear : bool
        Whether margins cost much: then there are fewer points, and none between those at which a
        piece ends, but of an integer, whose last value is looked for.
    """
    nodes = _nodes(axis, modes, error, *(_FEW if dear else (_COARSE, _AROUND)))
    values = margin(nodes[:, None])
    for _ in range(_LOOKS if axis.integer else int(not dear)):
        more = _between(nodes, values, axis.integer)
        if not more.size:
            break
        both = np.concatenate([values, margin(more[:, None])])
        order = np.argsort(np.concatenate([nodes, more]), kind="stable")
        nodes, values = np.concatenate([nodes, more])[order], both[order]
    return _pieces(nodes, values, between=not axis.integer)


def _nodes(axis: Axis, modes: np.ndarray, error: float, coarse: int, near: int) -> np.ndarray:
    """Points over the whole axis and around maxima; all integers, if they are no more."""
    if axis.integer and axis.upper - axis.lower < coarse + near:
        return axis.integers
    spread = error if np.isfinite(error) else (axis.upper - axis.lower) / coarse
    around = modes[:, None] + spread * np.sinh(np.linspace(-_REACH, _REACH, near + 1))
    even = np.linspace(axis.lower, axis.upper, coarse + 1)
    nodes = np.clip(np.concatenate([even, around.ravel(), modes]), *even[[0, -1]])
    if axis.integer:
        nodes = np.clip(np.rint(nodes), np.ceil(axis.lower), np.floor(axis.upper))
    return np.unique(nodes)


def _between(nodes: np.ndarray, values: np.ndarray, integer: bool) -> np.ndarray:
    """Points between two nodes of which one is in the set; new whole numbers of an integer."""
    ends = np.flatnonzero((values[1:] >= 0) != (values[:-1] >= 0))
    shares = np.arange(1, _WITHIN + 1) / (_WITHIN + 1)
    more = (nodes[ends, None] + np.diff(nodes)[ends, None] * shares).ravel()
    return np.setdiff1d(np.rint(more), nodes) if integer else more


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
class Cells:
    """Of one axis: places ``(P,)``, each between two of the edges ``(P + 1,)``.

    A cell of an integer reaches half a unit beyond the values that its place stands for.
    """

    places: np.ndarray
    edges: np.ndarray
    integer: bool = False

    @classmethod
    def of(cls, axis: Axis, low: float, high: float, most: int) -> Cells:
        """So many, or one for each integer if there are no more."""
        if not axis.integer:
            edges = low + (high - low) * np.arange(most + 1) / most
            return cls((edges[:-1] + edges[1:]) / 2, edges)
        first, after = np.ceil(low), np.floor(high) + 1
        edges = np.floor(np.linspace(first, after, int(min(after - first, most)) + 1) + 0.5)
        return cls(np.floor((edges[:-1] + edges[1:] - 1) / 2), edges - 0.5, True)

    @property
    def widths(self) -> np.ndarray:
        """Of the cells; of an integer, how many values each stands for."""
        return np.diff(self.edges)

    def beyond(self, first: int, last: int) -> tuple[float, float]:
        """Ends of a box that holds cells from the first to the last, and a cell and a half more.

        Tips of sets are narrower than cells. From a rim a set may go on, by nobody knows how much.
        """
        size = len(self.places)
        more = size if first == 0 else 2, size if last == size - 1 else 2
        low = self.places[first] - more[0] * self.widths[first]
        return low, self.places[last] + more[1] * self.widths[last]

    def outlined(self, values: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Where values along the kth axis are drawn, and these: of integers the same in a cell."""
        if not self.integer:
            return self.places, values
        return np.repeat(self.edges, 2)[1:-1], np.repeat(values, 2, axis=k)


@dataclass(frozen=True)
class Plane:
    """A set of two parameters: margins ``(P, Q)`` at places of cells, first axis first."""

    cells: tuple[Cells, Cells]
    margin: np.ndarray

    @property
    def area(self) -> float:
        """Of its cells; each value of an integer counts one."""
        first, second = (cells.widths for cells in self.cells)
        return float(first @ (self.margin >= 0) @ second)

    def contours(self) -> list[np.ndarray]:
        """Its edges, ``(k, 2)`` each; around cells of integers."""
        from contourpy import contour_generator  # comes with matplotlib

        finite = np.isfinite(self.margin)
        lowest = self.margin[finite].min(initial=-1.0)
        z = np.where(finite, self.margin, lowest - 1)
        first, z = self.cells[0].outlined(z, 0)
        second, z = self.cells[1].outlined(z, 1)
        # A rim of what is outside: where cells end, so does the set.
        z = np.pad(z, 1, constant_values=lowest - 1)
        first, second = (np.concatenate([a[:1], a, a[-1:]]) for a in (first, second))
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
    low, high = _box(margin, axes, modes, covariance)
    for _ in range(_GROWTHS):
        cells, values = _on_grid(margin, axes, low, high, _SECTIONS)
        inside = np.argwhere(values >= 0)
        if not len(inside):
            break
        found = zip(cells, inside.min(0), inside.max(0), strict=True)
        new = np.clip(np.transpose([own.beyond(a, b) for own, a, b in found]), *ends)
        settled = (new[0] >= low).all() and (new[1] <= high).all()
        low, high = new
        if settled:
            break
    return Plane(*_on_grid(margin, axes, low, high, _POINTS))


def _box(
    margin: Margin, axes: Sequence[Axis], modes: np.ndarray, covariance: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """A box ``(2,)``, ``(2,)`` that holds what points find of the set, and some more."""
    ends = np.array([[axis.lower, axis.upper] for axis in axes]).T
    (first, second), values = _on_grid(margin, axes, *ends, _SECTIONS)
    coarse = np.stack(np.meshgrid(first.places, second.places, indexing="ij"), -1)[values >= 0]
    cell, spread, around = (ends[1] - ends[0]) / _SECTIONS, None, modes
    if np.isfinite(covariance).all():
        spread = np.sqrt(np.diag(covariance))
        around = np.concatenate([modes, _rings(axes, modes, covariance)])
    near = around[margin(around) >= 0]
    if spread is None or not len(near):
        spread = cell / 10
    least = np.concatenate([coarse - cell, near - spread, modes[:1] - spread]).min(0)
    most = np.concatenate([coarse + cell, near + spread, modes[:1] + spread]).max(0)
    return np.maximum(least, ends[0]), np.minimum(most, ends[1])


def _rings(axes: Sequence[Axis], modes: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Points ``(P, 2)`` around maxima."""
    angles = np.linspace(0, 2 * np.pi, _ANGLES, endpoint=False)
    circle = np.stack([np.cos(angles), np.sin(angles)], -1)
    rings = np.concatenate([radius * circle for radius in _RINGS])
    around = (modes[:, None] + rings @ np.linalg.cholesky(covariance).T).reshape(-1, 2)
    whole = [axis.integer for axis in axes]
    around[:, whole] = np.rint(around[:, whole])
    return around


def _on_grid(
    margin: Margin, axes: Sequence[Axis], low: np.ndarray, high: np.ndarray, most: int
) -> tuple[tuple[Cells, Cells], np.ndarray]:
    """Cells of both axes, so many of each at most, and margins at their places."""
    first, second = (Cells.of(*each, most) for each in zip(axes, low, high, strict=True))
    grid = np.stack(np.meshgrid(first.places, second.places, indexing="ij"), -1)
    return (first, second), margin(grid.reshape(-1, 2)).reshape(grid.shape[:2])
