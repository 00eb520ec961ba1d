"""Dataclasses that hold arrays, and are equal where all that they hold is.

The comparison that a dataclass makes by itself asks arrays for one truth value, which they refuse,
and of data sets it finds any two equal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np
import xarray as xr

__all__ = ["HoldsArrays"]


class HoldsArrays:
    """What gives a dataclass with ``eq=False`` an equality of its values."""

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        names = [field.name for field in fields(self)]
        return all(_same(getattr(self, name), getattr(other, name)) for name in names)

    def __hash__(self) -> int:
        return hash(type(self))  # arrays have none


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, xr.Dataset):
        return isinstance(other, xr.Dataset) and one.identical(other)
    if isinstance(one, Mapping):
        alike = isinstance(other, Mapping) and one.keys() == other.keys()
        return alike and all(_same(value, other[key]) for key, value in one.items())
    if isinstance(one, np.ndarray | np.generic | float):
        return np.array_equal(one, other, equal_nan=True)
    return bool(one == other)
