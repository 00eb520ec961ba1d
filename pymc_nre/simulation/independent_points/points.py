"""The points of simulations, one after another, and how many each simulation has.

Parameters are not repeated for them: a point tells the number of its simulation.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ...runtime.arrays import real_array

__all__ = ["Points", "present"]


@dataclass(frozen=True, eq=False)
class Points:
    """Points of n simulations, in their order.

    Parameters
    ----------
    x : array, shape (N, *event)
        All points.
    counts : array of int, shape (n,)
        How many of each simulation; they add up to N.
    """

    x: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, value: Any) -> Points:
        """Those of ``x=``, an array ``(n, m, *event)`` in which whole points may be masked."""
        if isinstance(value, Points):
            value._check(value.x.shape)
            return value
        x, there = present(value, "x", 2)
        if x.ndim < 2:
            raise ValueError(
                "x: with iid=True expected m points of each simulation, shape (n, m, *event), got "
                f"shape {x.shape}. Leave out iid=True where a simulation is one observation."
            )
        if there is None:
            counts = np.full(len(x), x.shape[1])
            made = cls(x.reshape(counts.sum(), *x.shape[2:]), counts)
        else:
            made = cls(x[there], there.sum(1))
        made._check(x.shape)
        return made

    def _check(self, shape: tuple[int, ...]) -> None:
        """Raise ValueError unless there are points, and all of them finite."""
        if not len(self.counts):
            raise ValueError(f"x must hold at least one simulation, got none: shape {shape}.")
        empty = self.counts == 0
        if empty.any() or not self.x.size:
            raise ValueError(
                f"x: {max(int(empty.sum()), not self.x.size):,} of {len(empty):,} simulations have "
                f"no points (first: row {empty.argmax()}); expected at least one number for each, "
                f"shape (n, m, *event), got {shape}. Leave such rows out of every array."
            )
        bad = ~np.isfinite(self.x).reshape(len(self.x), -1).all(1)
        if bad.any():
            raise ValueError(
                f"x is not finite in {bad.sum():,} of {len(bad):,} points (first: one of row "
                f"{self.owners[bad.argmax()]}). Mask whole points, np.ma.array(x, mask=...), and "
                "mind that the ratio is then that of a point given that it could be simulated."
            )

    @cached_property
    def starts(self) -> np.ndarray:
        """Where the points of each simulation begin, ``(n,)``."""
        return np.cumsum(self.counts) - self.counts

    @property
    def owners(self) -> np.ndarray:
        """The number of the simulation of each point, ``(N,)``."""
        return np.repeat(np.arange(len(self.counts)), self.counts)

    @property
    def first(self) -> np.ndarray:
        """One point of each simulation, ``(n, *event)``; a copy."""
        return self.x[self.starts]

    def __getitem__(self, rows: Any) -> Points:
        """Those of some simulations."""
        starts, counts = self.starts[rows], self.counts[rows]
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        return Points(self.x[np.repeat(starts, counts) + within], counts)

    def __add__(self, other: Points) -> Points:
        pairs = (self.x, other.x), (self.counts, other.counts)
        return Points(*map(np.concatenate, pairs))

    def __str__(self) -> str:
        low, high = self.counts.min(), self.counts.max()
        if high == 1:
            return "1 point each"
        return f"{low:,} points each" if low == high else f"{low:,} to {high:,} points each"


def present(value: Any, name: str, axes: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Numbers, and which points are not masked, along the first axes; None if nothing is masked.

    Raises
    ------
    TypeError, ValueError
        As `real_array`; ValueError if a point is masked in part.
    """
    if not np.ma.is_masked(value):
        return real_array(value, name), None
    x, mask = real_array(np.ma.getdata(value), name), np.ma.getmaskarray(value)
    mask = mask.reshape(*mask.shape[:axes], -1)
    partly = mask.any(-1) != mask.all(-1)
    if partly.any():
        raise ValueError(
            f"{name}: {partly.sum():,} of {partly.size:,} points are masked in part; expected a "
            "mask that covers a point or leaves it. Mask all of a point that is missing, or leave "
            "out the entries that are missing everywhere."
        )
    return x, ~mask.any(-1)
