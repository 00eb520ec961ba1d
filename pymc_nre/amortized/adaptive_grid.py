r"""Where is the mass of a density of one or two numbers? A grid that finds out by itself.

A posterior may fill the training domain or a thousandth of it, and nobody knows beforehand.
So the grid zooms: a coarse grid over everything, then the box that can hold mass, and again
until the box stops shrinking. Each data set has its own box; all are searched together.

Sums over midpoints of cells converge faster than any power of the cell's width for a density
that is smooth and falls to zero in the box (for a normal one the error is
:math:`e^{-2\pi^2 (s/h)^2}`, 3e-9 for cells as wide as a standard deviation). Where the prior
cuts the density off, the error is of order :math:`h^2` if a cell ends at the cut. Hence the cut
is located first.

Shapes: ``A`` axes (1 or 2), ``S`` data sets, ``P`` points, the product of the axes' points.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import logsumexp

from ..estimators.edges import is_cut

__all__ = ["Axis", "Summary", "boxes", "cells", "edges_with_mass", "product", "summarize", "within"]

_DROP = 18.0  # six standard deviations of a normal density, and 2e-9 of its mass beyond
_COARSE = {1: (64, 24), 2: (40, 12)}  # even points, quantiles of the prior; by number of axes
_ZOOM = 32  # points of each axis in a zoom
_ZOOMS = 12  # a zoom shrinks a box that is not resolved yet by about 8
_BRACKET = 40  # points between which the edge of the support is looked for
_EDGE_ERROR = 1e-6  # of the axis; its edge is located so well
_PASSES = 6  # three suffice, except where floating point numbers are coarser than that
Columns = Sequence[np.ndarray]  # for each axis, its coordinates, (S or 1, points)


@dataclass(frozen=True)
class Axis:
    """One number and its range; an integer's axis has a cell for each integer."""

    label: str
    lower: float
    upper: float
    integer: bool = False

    @property
    def integers(self) -> np.ndarray:
        """All of its range."""
        return np.arange(np.ceil(self.lower), np.floor(self.upper) + 1)

    def cells(self, lower: np.ndarray, upper: np.ndarray, points: int) -> np.ndarray:
        """Midpoints ``(S, points)`` of cells in boxes ``(S,)``, or every integer of the axis."""
        if self.integer:
            column = self.integers
            return np.broadcast_to(column, (len(lower), len(column)))
        steps = (np.arange(points) + 0.5) / points
        return lower[:, None] + (upper - lower)[:, None] * steps


@dataclass(frozen=True)
class Summary:
    """A density over cells, by data set.

    Attributes
    ----------
    log_mass : ndarray, shape (S,)
        Log of the integral before it was set to one.
    density : ndarray, shape (S, *points)
        Probability of an integer, density of other numbers.
    mean, sd, effective_cells : ndarray, shape (S, A)
        Of each marginal; ``effective_cells`` is the number of cells that share its mass.
    quantiles : ndarray, shape (S, Q, A)
    at_edge : ndarray, shape (S, A, 2)
        Does the marginal density end before it has fallen off?
    """

    log_mass: np.ndarray
    density: np.ndarray
    mean: np.ndarray
    sd: np.ndarray
    quantiles: np.ndarray
    at_edge: np.ndarray
    effective_cells: np.ndarray


def product(columns: Columns) -> np.ndarray:
    """Every combination of coordinates ``(S, points)``, first axis slowest; ``(S, P, A)``."""
    if len(columns) == 1:
        return columns[0][..., None]
    slow, fast = columns
    grid = np.broadcast_arrays(slow[:, :, None], fast[:, None, :])
    return np.stack(grid, axis=-1).reshape(max(len(slow), len(fast)), -1, 2)


def within(
    log_prior: Callable[[np.ndarray], np.ndarray], axes: Sequence[Axis], draws: np.ndarray
) -> list[Axis]:
    """The axes cut to where the prior has mass.

    Parameters
    ----------
    log_prior : callable
        Parameters ``(S, P, A)`` to log densities ``(S, P)``.
    axes : sequence of Axis
    draws : ndarray, shape (n, A)
        Of the prior; without them a prior narrower than the coarse grid would be missed.

    Raises
    ------
    ValueError
        If there is no mass.
    """
    columns = [_coarse(axis, draw, len(axes)) for axis, draw in zip(axes, draws.T, strict=True)]
    for _ in range(_PASSES):
        sizes = [len(column) for column in columns]
        mass = np.isfinite(log_prior(product([column[None] for column in columns])))
        mass = mass.reshape(sizes)
        if not mass.any():
            raise ValueError(
                "The prior has no mass in the range of the grid, "
                + ", ".join(f"{a.label} in [{a.lower:.4g}, {a.upper:.4g}]" for a in axes)
                + ". Give a prior that overlaps it, or bounds= that overlap the prior."
            )
        brackets = [
            _brackets(axis, column, mass.any(axis=_others(i, mass.ndim)))
            for i, (axis, column) in enumerate(zip(axes, columns, strict=True))
        ]
        if all(_located(axis, pair) for axis, pair in zip(axes, brackets, strict=True)):
            break
        columns = [
            column if axis.integer else np.unique(np.concatenate([column, *_spread(pair)]))
            for axis, column, pair in zip(axes, columns, brackets, strict=True)
        ]
    pairs = zip(axes, brackets, strict=True)
    return [replace(axis, lower=low[0], upper=high[1]) for axis, (low, high) in pairs]


def _coarse(axis: Axis, draws: np.ndarray, ndim: int) -> np.ndarray:
    """Coordinates that see both the range and the bulk of the prior, ``(points,)``."""
    ends = np.array([axis.lower]), np.array([axis.upper])
    even, quantiles = _COARSE[ndim]
    column = axis.cells(*ends, even)[0]
    inside = draws[(draws >= axis.lower) & (draws <= axis.upper)]
    if axis.integer or not inside.size:
        return column
    return np.unique([*column, *np.quantile(inside, np.linspace(0, 1, quantiles))])


def _brackets(
    axis: Axis, column: np.ndarray, mass: np.ndarray
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Pairs (outer, inner, both) between which the lower and the upper edge of the mass lie."""
    first, last = np.flatnonzero(mass)[[0, -1]]
    if axis.integer:
        return (column[first], column[first]), (column[last], column[last])
    padded = np.concatenate([[axis.lower], column, [axis.upper]])
    return (padded[first], padded[first + 1]), (padded[last + 1], padded[last + 2])


def _located(axis: Axis, brackets: tuple[tuple[float, float], tuple[float, float]]) -> bool:
    return all(high - low <= _EDGE_ERROR * (axis.upper - axis.lower) for low, high in brackets)


def _spread(brackets: tuple[tuple[float, float], tuple[float, float]]) -> list[np.ndarray]:
    return [np.linspace(low, high, _BRACKET) for low, high in brackets]


def boxes(
    log_density: Callable[[np.ndarray, np.ndarray], np.ndarray],
    axes: Sequence[Axis],
    draws: np.ndarray,
    sets: int,
) -> tuple[np.ndarray, np.ndarray]:
    """The box that holds the mass of each data set: lower and upper ends, both ``(S, A)``.

    Parameters
    ----------
    log_density : callable
        Parameters ``(s or 1, P, A)`` and the indices ``(s,)`` of data sets to ``(s, P)``.
    axes : sequence of Axis
    draws : ndarray, shape (n, A)
        Of the prior.
    sets : int
        S.
    """
    lower = np.tile([axis.lower for axis in axes], (sets, 1))
    upper = np.tile([axis.upper for axis in axes], (sets, 1))
    pairs = zip(axes, draws.T, strict=True)
    columns = [_coarse(axis, draw, len(axes))[None] for axis, draw in pairs]
    active = np.arange(sets)
    for _ in range(_ZOOMS):
        sizes = [column.shape[1] for column in columns]
        values = log_density(product(columns), active).reshape(len(active), *sizes)
        keep = _may_hold_mass(values)
        width = (upper - lower)[active]
        for i, (axis, column) in enumerate(zip(axes, columns, strict=True)):
            if not axis.integer:
                kept = keep.any(axis=tuple(k + 1 for k in _others(i, len(axes))))
                ends = _around(column, kept, lower[active, i], upper[active, i])
                lower[active, i], upper[active, i] = ends
        shrunk = ((upper - lower)[active] < 0.5 * width).any(axis=1)
        active = active[shrunk]
        if not active.size:
            break
        columns = cells(axes, lower[active], upper[active], _ZOOM)
    return lower, upper


def _may_hold_mass(values: np.ndarray) -> np.ndarray:
    """Cells that may hold mass although their midpoint does not, ``(S, *points)``.

    A peak that is narrower than a cell falls between midpoints. For a parabola it is higher
    than the midpoint beside it by at most an eighth of that midpoint's largest step to a
    neighbor, so half of the step is on the safe side, and negligible where cells are fine.
    """
    bound = values.copy()
    for axis in range(1, values.ndim):
        with np.errstate(invalid="ignore"):  # between two points without mass
            step = np.abs(np.diff(values, axis=axis))
        step = np.where(np.isfinite(step), step, 0.0)
        pad = np.zeros_like(np.take(values, [0], axis=axis))
        before = np.concatenate([pad, step], axis=axis)
        after = np.concatenate([step, pad], axis=axis)
        bound += 0.5 * np.maximum(before, after)
    every = tuple(range(1, values.ndim))
    return bound > values.max(axis=every, keepdims=True) - _DROP


def _around(
    column: np.ndarray, kept: np.ndarray, lower: np.ndarray, upper: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The kept coordinates and one more on either side; ends ``(S,)``."""
    column = np.broadcast_to(column, kept.shape)
    padded = np.concatenate([lower[:, None], column, upper[:, None]], axis=1)
    first = kept.argmax(axis=1)
    last = kept.shape[1] - 1 - kept[:, ::-1].argmax(axis=1)
    rows = np.arange(len(kept))
    return padded[rows, first], padded[rows, last + 2]


def cells(
    axes: Sequence[Axis], lower: np.ndarray, upper: np.ndarray, points: int
) -> list[np.ndarray]:
    """For each axis its coordinates ``(S, points)`` in boxes with ends ``(S, A)``."""
    return [axis.cells(lower[:, i], upper[:, i], points) for i, axis in enumerate(axes)]


def summarize(
    values: np.ndarray,
    columns: Columns,
    widths: np.ndarray,
    probabilities: np.ndarray,
    axes: Sequence[Axis],
) -> Summary:
    """Normalize and summarize.

    Parameters
    ----------
    values : ndarray, shape (S, *points)
        Log density at the coordinates, up to a constant for each data set.
    columns : sequence of ndarray, shape (S, points)
        Coordinates of each axis.
    widths : ndarray, shape (S, A)
        Of the cells.
    probabilities : ndarray, shape (Q,)
        Which quantiles.
    axes : sequence of Axis
    """
    every = tuple(range(1, values.ndim))
    total = logsumexp(values, axis=every, keepdims=True)
    mass = np.exp(values - total)
    volume = widths.prod(axis=1)
    marginals = [
        mass.sum(axis=tuple(k + 1 for k in _others(i, len(axes)))) for i in range(len(axes))
    ]
    means = [(m * column).sum(1) for m, column in zip(marginals, columns, strict=True)]
    squares = [
        (m * (column - mean[:, None]) ** 2).sum(1)
        for m, column, mean in zip(marginals, columns, means, strict=True)
    ]
    quantiles = [
        _quantiles(m, column, width, probabilities, axis.integer)
        for m, column, width, axis in zip(marginals, columns, widths.T, axes, strict=True)
    ]
    ends = [is_cut(m[:, [0, -1]], m.max(1, keepdims=True)) for m in marginals]
    return Summary(
        log_mass=total.reshape(-1) + np.log(volume),
        density=mass / volume.reshape(-1, *[1] * len(axes)),
        mean=np.stack(means, axis=-1),
        sd=np.sqrt(np.stack(squares, axis=-1)),
        quantiles=np.stack(quantiles, axis=-1),
        at_edge=np.stack(ends, axis=1),
        effective_cells=np.stack([1 / (m**2).sum(1) for m in marginals], axis=-1),
    )


def _quantiles(
    mass: np.ndarray,
    column: np.ndarray,
    width: np.ndarray,
    probabilities: np.ndarray,
    integer: bool,
) -> np.ndarray:
    """Quantiles ``(S, Q)`` of masses ``(S, points)``, spread evenly over each cell."""
    below = mass.cumsum(axis=1)
    below /= below[:, -1:]
    if integer:  # the smallest integer with at least that probability below it
        index = [np.searchsorted(row, probabilities) for row in below]
        return np.take_along_axis(column, np.stack(index), axis=1)
    below = np.concatenate([np.zeros((len(mass), 1)), below], axis=1)
    half = width[:, None] / 2
    ends = np.concatenate([column[:, :1] - half, column + half], axis=1)
    return np.stack([np.interp(probabilities, *row) for row in zip(below, ends, strict=True)])


def edges_with_mass(
    log_prior: Callable[[np.ndarray], np.ndarray], axes: Sequence[Axis], draws: np.ndarray
) -> np.ndarray:
    """Does the prior go on beyond the ends of the axes? Booleans ``(A, 2)``.

    Where it does not, a posterior that ends there is cut by the prior, as it should be.
    """
    columns = [
        _coarse(axis, draw, len(axes))[None] for axis, draw in zip(axes, draws.T, strict=True)
    ]
    beyond = np.zeros((len(axes), 2), dtype=bool)
    for i, axis in enumerate(axes):
        step = 1.0 if axis.integer else 0.01 * (axis.upper - axis.lower)
        for k, end in enumerate((axis.lower - step, axis.upper + step)):
            moved = [np.array([[end]]) if j == i else column for j, column in enumerate(columns)]
            beyond[i, k] = np.isfinite(log_prior(product(moved))).any()
    return beyond


def _others(i: int, ndim: int) -> tuple[int, ...]:
    return tuple(k for k in range(ndim) if k != i)
