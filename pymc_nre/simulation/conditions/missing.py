r"""Missing entries: which numbers of an observation are not there.

The ratio of what is left of an observation, :math:`x_o`, and of which numbers those are, m, is

.. math:: \frac{p(x_o, m \mid \theta)}{p(x_o, m)} = \frac{p(x_o \mid \theta)}{p(x_o)}

where numbers are missing at random: which of them depends on what is observed and on conditions,
not on what is missing. So masks are drawn in training independently of everything, and the network
learns the ratio of each pattern that occurs. Missing numbers travel as NaN.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ...runtime.arrays import array_with_holes, holds_booleans, real_number
from ..parameters import describe_shape

__all__ = ["Missing"]

_MOST_PATTERNS = 10_000  # that are kept, of data with more
_LOOKED_AT = 20_000  # masks, for how many numbers are missing in one at most
_LARGEST_SHARE = 0.99  # a mask without any number is drawn again


@dataclass(frozen=True)
class Missing:
    """The law by which numbers are missing in training.

    Attributes
    ----------
    event_shape : tuple of int
        Shape of one observation.
    shares : tuple of float
        How often each of its numbers is missing, independently of the others; or none, and
    patterns : tuple of str
        masks that occur, as bits of their numbers in hexadecimal digits, and
    counts : tuple of int
        how often they do.
    """

    event_shape: tuple[int, ...]
    shares: tuple[float, ...] = ()
    patterns: tuple[str, ...] = ()
    counts: tuple[int, ...] = ()

    @classmethod
    def of(cls, given: Any, event_shape: tuple[int, ...]) -> Missing:
        """What a user means: a share, shares, masks, or data with holes.

        Raises
        ------
        TypeError, ValueError
            If it is none of these, has another shape, or leaves all or nothing.
        """
        if isinstance(given, Missing):  # of a training before
            return given
        who, size = "train: missing", math.prod(event_shape)
        if size < 2:
            raise ValueError(
                f"{who}: the observations are single numbers, and one that is missing tells "
                "nothing. Leave it out of the data, and missing= out of train."
            )
        if isinstance(given, int | float | np.number) and not isinstance(given, bool):
            share = real_number(given, who, above=0, below=_LARGEST_SHARE)
            return cls(event_shape, (share,) * size)
        array = array_with_holes(given, who)
        masks = array.astype(bool) if holds_booleans(given) else np.isnan(array)
        if not masks.any() and not holds_booleans(given):
            return cls(event_shape, _shares(array, event_shape))
        if masks.shape[masks.ndim - len(event_shape) :] != event_shape:
            raise ValueError(
                f"{who}: expected masks, True where a number is missing, or data with NaN, of "
                f"shape (m, {', '.join(map(str, event_shape))}), got {masks.shape}. Give them "
                "the shape of the observations."
            )
        return cls(event_shape, (), *_occurring(masks.reshape(-1, size)))

    @property
    def size(self) -> int:
        """Numbers in an observation."""
        return math.prod(self.event_shape)

    @cached_property
    def _masks(self) -> np.ndarray:
        """Patterns as booleans ``(m, size)``."""
        packed = [np.frombuffer(bytes.fromhex(each), np.uint8) for each in self.patterns]
        return np.unpackbits(np.array(packed), axis=1, count=self.size).astype(bool)

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Masks ``(n, size)``, True where a number is missing; none of them is True throughout."""
        if self.patterns:
            chances = np.cumsum(self.counts) / sum(self.counts)
            return self._masks[np.searchsorted(chances, rng.random(n), side="right")]
        masks = rng.random((n, self.size)) < self.shares
        while (whole := masks.all(1)).any():
            masks[whole] = rng.random((int(whole.sum()), self.size)) < self.shares
        return masks

    def holes(self, x: np.ndarray) -> np.ndarray:
        """What is missing, ``(n, size)``, of observations ``(n, *)``; conditions may follow."""
        return np.isnan(x.reshape(len(x), -1)[:, : self.size])

    def without_any(self, x: np.ndarray) -> np.ndarray:
        """Which observations ``(n, *)`` have no number at all, ``(n,)``: they tell nothing."""
        return self.holes(x).all(1)

    def masked(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Observations ``(n, *)``, conditions behind them, with holes; some that have any stay."""
        if self.holes(x).any():
            return x
        rows = x.reshape(len(x), -1).copy()
        rows[:, : self.size][self.draw(len(x), rng)] = np.nan
        return rows.reshape(x.shape)

    def as_in(self, observed: np.ndarray, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Whole observations ``(n, *)`` with the holes of others, drawn among them."""
        return self.with_holes(x, observed[rng.integers(len(observed), size=len(x))])

    def with_holes(self, x: np.ndarray, like: np.ndarray) -> np.ndarray:
        """Whole observations ``(n, *)``, each with the holes of another ``(n, *)``."""
        rows = x.reshape(len(x), -1).copy()
        rows[:, : self.size][self.holes(like)] = np.nan
        return rows.reshape(x.shape)

    def beside(self, x: np.ndarray, like: np.ndarray) -> np.ndarray:
        """Finite numbers ``(n, K + size)``: means of others for what is missing, then the masks."""
        rows, others = (each.reshape(len(each), -1) for each in (x, like))
        known = np.isfinite(others)
        mean = np.where(known, others, 0.0).sum(0) / known.sum(0).clip(1)
        return np.concatenate([np.where(np.isnan(rows), mean, rows), self.holes(x)], axis=1)

    def beyond(self, x: np.ndarray) -> str:
        """What is missing in observations ``(n, *)`` as it never was in training; empty if none."""
        holes = self.holes(x)
        if self.patterns:
            known = {*map(bytes, np.packbits(self._masks, axis=1)), bytes((self.size + 7) // 8)}
            new = np.array([bytes(each) not in known for each in np.packbits(holes, axis=1)])
            new &= ~holes.all(1)
            told = f"{new.mean():.1%} of the observations have patterns that were not among them"
            return told if new.any() else ""
        never = holes & (np.array(self.shares) == 0)
        most = int(self.draw(_LOOKED_AT, np.random.default_rng(0)).sum(1).max())
        many = (holes.sum(1) > most) & ~holes.all(1)
        if (never & ~holes.all(1)[:, None]).any():
            place = np.unravel_index(never.any(0).argmax(), self.event_shape)
            return f"the number at {tuple(map(int, place))} is missing, and never was"
        told = f"in {many.mean():.1%} of the observations more numbers are missing than {most}, "
        return f"{told}the most of {_LOOKED_AT:,} masks" if many.any() else ""

    def in_words(self) -> str:
        """For people."""
        if self.patterns:
            return f"{len(self.patterns):,} patterns of {describe_shape(self.event_shape)}"
        low, high = min(self.shares), max(self.shares)
        return f"{f'{low:.3g}' if low == high else f'{low:.3g} to {high:.3g}'} of each number"

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, for a file."""
        return {name: list(getattr(self, name)) for name in self.__annotations__}

    @classmethod
    def from_dict(cls, values: Any) -> Missing:
        """The inverse of `to_dict`.

        Raises
        ------
        ValueError
            If these are not what describes such a law.
        """
        if not isinstance(values, Mapping) or sorted(values) != sorted(cls.__annotations__):
            raise ValueError(f"expected the fields {', '.join(cls.__annotations__)}")
        if not all(isinstance(value, list) for value in values.values()):
            raise ValueError("expected lists")
        if not all(type(each) is int and 0 < each < 2**31 for each in values["event_shape"]):
            raise ValueError("event_shape must be a list of lengths")
        made = cls(**{name: tuple(value) for name, value in values.items()})
        if bool(made.shares) == bool(made.patterns) or len(made.counts) != len(made.patterns):
            raise ValueError("expected shares, or patterns with a count for each")
        if made.shares and not (len(made.shares) == made.size and _are_shares(made.shares)):
            raise ValueError("shares must be one for each number of an observation")
        if not all(type(each) is int and 0 < each < 2**53 for each in made.counts):
            raise ValueError("counts must be whole numbers")
        digits = 2 * ((made.size + 7) // 8)
        if not all(_is_pattern(each, digits) for each in made.patterns):
            raise ValueError("patterns must be hexadecimal, with a bit for each number")
        if made.patterns and made._masks.all(1).any():
            raise ValueError("patterns must leave a number")
        return made


def _is_pattern(value: Any, digits: int) -> bool:
    return isinstance(value, str) and len(value) == digits and not set(value) - _DIGITS


_DIGITS = set("0123456789abcdef")


def _are_shares(values: Any) -> bool:
    plain = all(type(value) in (int, float) and 0 <= value < _LARGEST_SHARE for value in values)
    return plain and len(values) > 1 and max(values) > 0


def _shares(array: np.ndarray, event_shape: tuple[int, ...]) -> tuple[float, ...]:
    """A share for each number of an observation."""
    values = tuple(array.ravel().tolist())
    if array.shape != event_shape or not _are_shares(values):
        raise ValueError(
            "train: missing: expected a share, such as 0.3; shares of at most "
            f"{_LARGEST_SHARE:g}, one for each number of an observation, shape {event_shape}; "
            "masks, True where a number is missing; or data with NaN in them; got numbers of "
            f"shape {array.shape} without NaN. Where nothing is missing, leave it out."
        )
    return values


def _occurring(masks: np.ndarray) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Patterns of masks ``(m, size)`` and how often each occurs; whole ones tell nothing."""
    kept = masks[~masks.all(1)]
    if not len(kept) or not kept.any():
        what = "nothing is missing" if len(kept) else "every number of every observation is missing"
        raise ValueError(
            f"train: missing: {what} in {len(masks):,} masks. Expected patterns in which some of "
            "the numbers are missing; leave missing= out where all are there."
        )
    found, counts = np.unique(np.packbits(kept, axis=1), axis=0, return_counts=True)
    some = np.linspace(0, len(found) - 1, min(len(found), _MOST_PATTERNS)).astype(int)
    return tuple(row.tobytes().hex() for row in found[some]), tuple(counts[some].tolist())
