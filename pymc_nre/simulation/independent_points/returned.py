"""What a simulator of several points gave back: read, grouped by number, and put together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..calls import observation
from .points import Points, present

__all__ = ["joined", "of_equal_number", "points_of_draws"]


def points_of_draws(returned: Any, rows: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Points ``(rows, m, *event)`` of so many draws, and which are not masked, ``(rows, m)``.

    Parameters
    ----------
    returned : array-like
        With an axis of draws, or without, if ``rows`` is None.
    rows : int or None

    Raises
    ------
    TypeError, ValueError
        If it is not that.
    """
    masked = np.ma.is_masked(returned)
    axes = 1 if rows is None else 2
    x, there = present(returned, _WHAT, axes) if masked else (observation(returned), None)
    if x.ndim < axes or (rows is not None and len(x) != rows):
        wanted = "(m, *event)" if rows is None else f"({rows}, m, *event)"
        raise ValueError(
            f"With iid=True the simulator must return m points for each draw, shape {wanted}, got "
            f"shape {x.shape}. If it simulates one observation, leave out iid=True; if one draw at "
            "a time, batched=True."
        )
    if rows is None:
        x, there = x[None], None if there is None else there[None]
    return x, np.ones(x.shape[:2], bool) if there is None else there


def of_equal_number(
    returned: Any, rows: int | None
) -> Iterator[tuple[np.ndarray | slice, np.ndarray]]:
    """Which draws have k points, and these ``(draws, k, *event)``, for each k that there is."""
    x, there = points_of_draws(returned, rows)
    if there.all():
        yield np.arange(len(x)), x
        return
    counts = there.sum(1)
    for k in np.unique(counts):
        of = counts == k
        yield np.flatnonzero(of), x[of][there[of]].reshape(of.sum(), k, *x.shape[2:])


def joined(
    event: tuple[int, ...], n: int, parts: Sequence[tuple[np.ndarray, np.ndarray]]
) -> tuple[np.ndarray, Points, int]:
    """Which of n draws have points, these, and how many draws lost some that are not finite.

    Parameters
    ----------
    event : tuple of int
        Shape of a point.
    n : int
    parts : sequence of (array of int, array)
        Rows ``(d,)`` and their points ``(d, k, *event)``, in any order; each row once.
    """
    counts = np.zeros(n, int)
    for rows, x in parts:
        counts[rows] = x.shape[1]
    starts = np.cumsum(counts) - counts
    flat = np.empty((counts.sum(), *event))
    for rows, x in parts:
        flat[starts[rows][:, None] + np.arange(x.shape[1])] = x
    finite = np.isfinite(flat).reshape(len(flat), -1).all(1)
    owners = np.repeat(np.arange(n), counts)
    kept = np.bincount(owners[finite], minlength=n)
    found = kept > 0
    lost = int((found & (kept < counts)).sum())
    return found, Points(flat if finite.all() else flat[finite], kept[found]), lost


_WHAT = "What the simulator returned"
