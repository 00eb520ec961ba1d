"""Conditions by name and packed behind an observation, and the range that training has seen."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from ...runtime.arrays import finite_array
from ..parameters import Layout, check_event_shape, check_own_shape

__all__ = ["Conditions", "side_by_side", "split_keywords"]

_AT_AN_END = 0.01  # of the range: draws do not quite reach the ends of a distribution


@dataclass(frozen=True)
class Conditions:
    """Names and shapes of the conditions of an observation, and where they were trained.

    Attributes
    ----------
    shapes : dict of str to tuple of int
        Own shape of each condition, in packing order.
    event_shape : tuple of int
        Shape of one observation, without its conditions.
    low, high : tuple of float
        Least and largest value of each packed number in training.
    integer : tuple of str
        Names of those that are integers, which simulators may count or index with.
    """

    shapes: Mapping[str, tuple[int, ...]]
    event_shape: tuple[int, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    integer: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        conditions: Mapping[str, np.ndarray],
        event_shape: tuple[int, ...],
        integer: Collection[str] = (),
    ) -> Conditions:
        """Those of arrays ``(n, *own)`` by name."""
        shapes = {name: value.shape[1:] for name, value in conditions.items()}
        rows = Layout(shapes).pack(conditions)
        low, high = (tuple(end.tolist()) for end in (rows.min(0), rows.max(0)))
        return cls(shapes, event_shape, low, high, tuple(sorted(integer)))

    def joined(self, other: Conditions) -> Conditions:
        """Of the same conditions, with the ranges of both."""
        return replace(
            self,
            low=tuple(map(min, self.low, other.low)),
            high=tuple(map(max, self.high, other.high)),
        )

    @cached_property
    def layout(self) -> Layout:
        """How they are packed."""
        return Layout(dict(self.shapes), frozenset(self.integer))

    @property
    def packed_shape(self) -> tuple[int]:
        """Of an observation with its conditions: what a network takes."""
        return (math.prod(self.event_shape) + self.layout.size,)

    def pack(self, x: np.ndarray, conditions: Mapping[str, Any], who: str) -> np.ndarray:
        """Vectors ``(*batch, K)`` of observations ``(*batch, *event)`` with their conditions.

        Conditions ``(*batch, *own)`` broadcast to the batch of the observations.

        Raises
        ------
        TypeError, ValueError
            If one is missing or unknown, holds no finite numbers, or has another shape.
        """
        check_event_shape(self.event_shape, x.shape, f"{who}: x")
        batch = x.shape[: x.ndim - len(self.event_shape)]
        self.layout.check_names(conditions, who, "conditions")
        parts = [x.reshape(*batch, math.prod(self.event_shape))]
        for name, own in self.shapes.items():
            value = finite_array(conditions[name], f"{who}: {name}")
            self.check_batch(name, value.shape, batch, who)
            parts.append(np.broadcast_to(value, (*batch, *own)).reshape(*batch, math.prod(own)))
        return np.concatenate(parts, axis=-1)

    def split(self, packed: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Observations and conditions of vectors ``(*batch, K)``."""
        size = math.prod(self.event_shape)
        x = packed[..., :size].reshape((*packed.shape[:-1], *self.event_shape))
        return x, self.layout.unpack(packed[..., size:])

    def check_batch(
        self, name: str, shape: tuple[int | None, ...], batch: tuple[int | None, ...], who: str
    ) -> None:
        """Raise ValueError if a condition's shape ``(*batch, *own)`` does not fit observations."""
        own = self.shapes[name]
        check_own_shape(name, own, shape, who, "condition")
        given = shape[: len(shape) - len(own)]
        pairs = list(zip(reversed(given), reversed(batch), strict=False))
        if len(given) > len(batch) or any(None not in p and p[0] not in (1, p[1]) for p in pairs):
            raise ValueError(
                f"{who}: condition {name!r} has the batch shape {tuple(given)}, and the "
                f"observations have {tuple(batch)}; expected one value for each observation, or a "
                "single one for all."
            )

    def outside(self, packed: np.ndarray) -> str:
        """What of the conditions, the last numbers of ``(*batch, K)``, is beyond training's.

        Empty where nothing is.
        """
        rows = packed[..., -self.layout.size :].reshape(-1, self.layout.size)
        width = np.subtract(self.high, self.low)
        slack = _AT_AN_END * width + 1e-6 * np.maximum(np.abs(self.low), np.abs(self.high))
        beyond = (rows < self.low - slack) | (rows > self.high + slack)
        told = [
            f"{label} reaches {rows[far, j].min():.4g} to {rows[far, j].max():.4g} "
            f"({far.mean():.1%} of the observations), trained in [{low:.4g}, {high:.4g}]"
            for j, (label, low, high, far) in enumerate(
                zip(self.layout.labels, self.low, self.high, beyond.T, strict=True)
            )
            if far.any()
        ]
        return "; ".join(told)

    def in_words(self) -> str:
        """Each with its trained range."""
        return self.layout.in_ranges(self.low, self.high)

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers, for a file."""
        return {
            "shapes": {name: list(own) for name, own in self.shapes.items()},
            "event_shape": list(self.event_shape),
            "low": list(self.low),
            "high": list(self.high),
            "integer": list(self.integer),
        }

    @classmethod
    def from_dict(cls, values: Any) -> Conditions:
        """The inverse of `to_dict`.

        Raises
        ------
        ValueError
            If these are not what describes conditions.
        """
        if not isinstance(values, Mapping) or sorted(values) != sorted(cls.__annotations__):
            raise ValueError(f"expected the fields {', '.join(cls.__annotations__)}")
        shapes, event_shape = values["shapes"], values["event_shape"]
        if not isinstance(shapes, Mapping) or not shapes:
            raise ValueError("shapes must give each condition its own")
        if not all(map(str.isidentifier, map(str, shapes))):
            raise ValueError("shapes must be of names that can be keywords")
        if not all(map(_is_shape, (*shapes.values(), event_shape))):
            raise ValueError("shapes must be lists of lengths")
        made = cls(
            {name: tuple(own) for name, own in shapes.items()},
            tuple(event_shape),
            *(tuple(_numbers(values[end])) for end in ("low", "high")),
            tuple(_names(values["integer"], shapes)),
        )
        if not len(made.low) == len(made.high) == made.layout.size:
            raise ValueError("low and high must have a number for each of the conditions")
        return made


def side_by_side(x: np.ndarray, conditions: Mapping[str, np.ndarray]) -> np.ndarray:
    """Vectors ``(n, K)`` of observations and conditions that were looked at, ``(n, *)`` each."""
    return np.concatenate([v.reshape(len(x), -1) for v in (x, *conditions.values())], axis=1)


def split_keywords(
    conditions: Conditions | None, given: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parameters, and those keywords that name conditions."""
    names: Collection[str] = () if conditions is None else conditions.shapes
    return (
        {name: value for name, value in given.items() if name not in names},
        {name: value for name, value in given.items() if name in names},
    )


def _is_shape(value: Any) -> bool:
    return isinstance(value, list) and all(type(each) is int and 0 < each < 2**31 for each in value)


def _names(value: Any, known: Mapping[str, Any]) -> list[str]:
    if not isinstance(value, list) or not all(each in known for each in map(str, value)):
        raise ValueError("integer must be a list of names")
    return value


def _numbers(values: Any) -> list[float]:
    if not isinstance(values, list) or not all(type(v) in (int, float) for v in values):
        raise ValueError("low and high must be lists of numbers")
    if not all(math.isfinite(v) for v in values):
        raise ValueError("low and high must be finite")
    return [float(v) for v in values]
