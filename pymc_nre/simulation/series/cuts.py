"""Series cut into next values and their pasts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...runtime.arrays import real_array, whole_number
from ..conditions.layout import Conditions
from ..simulations import Simulations

__all__ = ["Transitions", "next_and_past", "transitions"]


@dataclass(frozen=True, eq=False)
class Transitions:
    """Next values of one or several series, each with the values before it.

    Attributes
    ----------
    next : array, shape (n, *event)
        The observations: every value that has a whole past.
    past : array, shape (n, order, *event)
        The values before each, the latest last: the condition of the observations.
    series : array of int, shape (n,)
        Which series each is of, for parameters that differ between series: ``mu[cut.series]``.
    time : array of int, shape (n,)
        Its place in that series, from zero.
    first : array, shape (m, order, *event)
        The first values of each series, which have no whole past.

    Examples
    --------
    >>> import pymc_nre as nre
    >>> cut = nre.transitions([[1.0, 2.0, 4.0], [3.0, 9.0]])
    >>> cut
    Transitions: 3 of 2 series, past of 1, values scalar
    >>> cut.next - cut.past[:, -1]
    array([1., 2., 6.])
    """

    next: np.ndarray
    past: np.ndarray
    series: np.ndarray
    time: np.ndarray
    first: np.ndarray

    @property
    def order(self) -> int:
        """How many values a past holds."""
        return self.past.shape[1]

    def __len__(self) -> int:
        return len(self.next)

    def __repr__(self) -> str:
        shape = self.next.shape[1:]
        return (
            f"Transitions: {len(self):,} of {len(self.first):,} series, past of {self.order}, "
            f"values {'scalar' if not shape else f'of shape {shape}'}"
        )


def transitions(series: Any, order: int = 1) -> Transitions:
    """Cut series into next values and the ``order`` values before each.

    Give what comes back to `RatioLikelihood` as ``observed``: it takes the next values, and their
    pasts as the condition ``past``. The first values of each series are conditioned on that way;
    where their distribution is known by a simulator, a ratio of their own takes ``first``.

    Parameters
    ----------
    series : array, shape (T, *event), or list of them, or Simulations
        One series; or several, of any lengths, each of which may be filled up with NaN at its
        end; or simulations of whole series, ``(n, T, *event)``. For an array of several series
        write ``list(array)``.
    order : int
        Values in a past.

    Returns
    -------
    Transitions

    Raises
    ------
    TypeError
        If something holds no real numbers.
    ValueError
        If a series is too short, holds NaN between others, or values differ in shape.

    Examples
    --------
    >>> import pymc_nre as nre
    >>> cut = nre.transitions([1.0, 2.0, 4.0, 8.0], order=2)
    >>> cut.past
    array([[1., 2.],
           [2., 4.]])
    >>> cut.next
    array([4., 8.])

    Several series, of different lengths:

    >>> nre.transitions([[1.0, 2.0, 4.0], [3.0, 9.0]]).series
    array([0, 0, 1])
    """
    order = whole_number(order, "transitions: order")
    if isinstance(series, Simulations):
        given = list(series.x)
    elif isinstance(series, list | tuple) and any(_axes(one) for one in series):
        given = list(series)
    else:
        given = [series]
    read = [_read(one, _called(i, len(given)), order) for i, one in enumerate(given)]
    events = {one.shape[1:] for one in read}
    if len(events) > 1:
        raise ValueError(
            "transitions: series: expected values of one shape in all series, got "
            f"{', '.join(map(str, sorted(events)))}. Give each series as an array (T, *event)."
        )
    lengths = [len(one) - order for one in read]
    return Transitions(
        next=np.concatenate([one[order:] for one in read]),
        past=np.concatenate([*map(np.stack, _pasts(read, order))]),
        series=np.repeat(np.arange(len(read)), lengths),
        time=np.concatenate([np.arange(n) + order for n in lengths]),
        first=np.stack([one[:order] for one in read]),
    )


def next_and_past(
    x: Any, conditions: Mapping[str, Any] | None, known: Conditions | None, who: str
) -> tuple[Any, Mapping[str, Any] | None]:
    """Observations and conditions, of which `Transitions` are both; anything else is as it was.

    Raises
    ------
    TypeError
        If the ratio knows no condition ``past``, or it is given beside.
    """
    if not isinstance(x, Transitions):
        return x, conditions
    names = () if known is None else tuple(known.shapes)
    if "past" not in names:
        raise TypeError(
            f"{who}: got transitions of series, and the conditions of this ratio are "
            f"{', '.join(names) or 'none'}; expected one that is called past. Train a ratio of "
            "steps, simulate(prior, step, n, conditions={'past': past}), or by train_series."
        )
    if "past" in (conditions or {}):
        raise TypeError(
            f"{who}: got transitions of series, which hold the past of each value, and past= as "
            "well. Leave past= out."
        )
    return x.next, {**(conditions or {}), "past": x.past}


def _pasts(read: list[np.ndarray], order: int) -> Iterator[list[np.ndarray]]:
    for one in read:
        yield [one[t - order : t] for t in range(order, len(one))]


def _axes(one: Any) -> int:
    if isinstance(one, list | tuple):
        return 1
    return len(getattr(one, "shape", ()))


def _called(i: int, n: int) -> str:
    return "transitions: series" if n == 1 else f"transitions: series {i}"


def _read(one: Any, name: str, order: int) -> np.ndarray:
    """A series ``(T, *event)`` without what fills it up."""
    array = real_array(one, name)
    if array.ndim == 0:
        raise ValueError(f"{name}: expected an array (T, *event) over time, got a single number.")
    flat = array.reshape(len(array), math.prod(array.shape[1:]))
    known = ~np.isnan(flat).all(1)
    array = array[: len(array) - known[::-1].argmax()] if known.any() else array[:0]
    holes = ~np.isfinite(flat[: len(array)])
    if holes.any():
        raise ValueError(
            f"{name}: {holes.sum():,} of {holes.size:,} values are NaN or infinite (first: time "
            f"{holes.any(1).argmax()}); expected NaN behind the end only. "
            "Cut the series there and pass both parts, in a list: the second then goes on from its "
            "own first values."
        )
    if len(array) <= order:
        raise ValueError(
            f"{name} has {len(array)} values; expected at least {order + 1}, a past of order="
            f"{order} and one that follows. Leave it out, or give its values to a ratio of first "
            "values."
        )
    return array
