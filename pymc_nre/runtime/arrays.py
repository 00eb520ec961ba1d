"""The one reading of what a user gives: arrays of real numbers, single numbers, counts and flags.

Every array that enters the library passes here, so that a masked value, a complex number, a
unit or text is refused in one place and in one way: what was expected, what came, what to do.
Axes go by their place: names of dimensions and an index are not looked at.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields
from numbers import Integral
from typing import Any

import numpy as np
import torch
import xarray as xr

__all__ = [
    "array_with_holes",
    "finite_array",
    "holds_booleans",
    "holds_integers",
    "plain_fields",
    "real_array",
    "real_number",
    "shares",
    "true_or_false",
    "whole_number",
]

_WITH_PARTS = (list, tuple, torch.Tensor, np.ma.MaskedArray)
_PLAIN = frozenset({bool, int, float, np.bool_, np.float32, np.float64, np.int32, np.int64})


def real_array(value: Any, name: str) -> np.ndarray:
    """An array of float64 that may hold NaN, of whatever a user calls an array.

    Parameters
    ----------
    value : array-like
        NumPy, pandas, xarray, torch, or nested sequences of real numbers or booleans.
    name : str
        What errors call it, e.g. ``"log_ratio: x"``.

    Raises
    ------
    TypeError
        If it does not hold real numbers: None, text, dates, complex numbers, units, a graph.
    ValueError
        If entries are masked, or rows differ in length.

    Examples
    --------
    >>> from pymc_nre.runtime.arrays import real_array
    >>> real_array([1, 2], "x")
    array([1., 2.])
    """
    array = _as_array(value, name)
    if array.dtype.kind == "c":
        raise TypeError(
            f"{name}: expected real numbers, got complex ones ({array.dtype}). Take the real "
            "part, or give real and imaginary part an axis."
        )
    if array.dtype.kind == "O":
        array = _of_objects(array, value, name)
    elif array.dtype.kind not in "biuf":
        raise TypeError(
            f"{name}: expected numbers, got {_described(value)} of dtype {array.dtype}. Convert "
            "it first."
        )
    if np.ma.is_masked(array):
        hidden = np.ma.getmaskarray(array)
        raise ValueError(
            f"{name}: {hidden.sum():,} of {hidden.size:,} values are masked; expected none. A "
            "ratio is not a density in x and cannot impute them. Leave out what is incomplete, or "
            "take the mask off, array.data, where the numbers under it are meant."
        )
    return np.ma.getdata(array).astype(float, copy=False)


def finite_array(value: Any, name: str) -> np.ndarray:
    """The same, and neither NaN nor infinite.

    Raises
    ------
    TypeError, ValueError
        As `real_array`; ValueError also if anything is not finite.
    """
    array = real_array(value, name)
    holes = ~np.isfinite(array)
    if holes.any():
        raise ValueError(
            f"{name}: {holes.sum():,} of {holes.size:,} values are NaN or infinite; expected "
            "finite numbers. Leave out what is incomplete."
        )
    return array


def array_with_holes(value: Any, name: str) -> np.ndarray:
    """An array of float64 with NaN where numbers are masked or missing, and none infinite.

    Raises
    ------
    TypeError, ValueError
        As `real_array`, but for masks; ValueError also if anything is infinite.

    Examples
    --------
    >>> import numpy as np
    >>> from pymc_nre.runtime.arrays import array_with_holes
    >>> array_with_holes(np.ma.masked_equal([1, -999], -999), "x")
    array([ 1., nan])
    """
    array = _as_array(value, name)
    holes = np.ma.getmaskarray(array)
    if holes.any():
        array = np.where(holes, 0, np.ma.getdata(array))
    array = np.where(holes, np.nan, real_array(array if holes.any() else value, name))
    infinite = np.isinf(array)
    if infinite.any():
        raise ValueError(
            f"{name}: {infinite.sum():,} of {array.size:,} values are infinite; expected numbers, "
            "and NaN or a mask where they are missing."
        )
    return array


def whole_number(value: Any, name: str, *, least: float = 1) -> int:
    """A count, as an int; 1e4 is one, 10.5, True and "3" are not.

    Raises
    ------
    TypeError
        If it is not a whole number.
    ValueError
        If it is below ``least``.

    Examples
    --------
    >>> from pymc_nre.runtime.arrays import whole_number
    >>> whole_number(1e4, "n")
    10000
    """
    if not _is_number(value) or value != value // 1:
        raise TypeError(f"{name}: expected a whole number, got {value!r}.")
    if value < least:
        raise ValueError(f"{name}: expected at least {least:,}, got {value!r}.")
    return int(value)


def real_number(
    value: Any, name: str, *, above: float = -math.inf, below: float = math.inf
) -> float:
    """A single number between two others, as a float; neither True nor "3" is one.

    Raises
    ------
    TypeError
        If it is not a number.
    ValueError
        If it does not lie strictly between ``above`` and ``below``, as NaN never does.

    Examples
    --------
    >>> from pymc_nre.runtime.arrays import real_number
    >>> real_number(0.9, "target_accept", above=0, below=1)
    0.9
    """
    if not _is_number(value):
        raise TypeError(f"{name}: expected a number, got {value!r}.")
    if not above < value < below:
        raise ValueError(f"{name}: expected a number {_between(above, below)}, got {value!r}.")
    return float(value)


def shares(values: Any, name: str, *, ends: bool = False) -> np.ndarray:
    """Levels or probabilities ``(n,)``, one or more, in (0, 1), or with ``ends`` in [0, 1].

    Raises
    ------
    TypeError, ValueError
        As `real_array`; ValueError also if there is none, or one is no share.
    """
    array = real_array(values, name)
    inside = (array >= 0) & (array <= 1) if ends else (array > 0) & (array < 1)
    if array.ndim != 1 or not array.size or not inside.all():
        raise ValueError(
            f"{name}: expected numbers between 0 and 1, {'' if ends else 'both excluded, '}as in "
            f"[0.05, 0.95], got {array.tolist()}."
        )
    return array


def true_or_false(value: Any, name: str) -> bool:
    """A flag, as a bool: of Python or NumPy, for "no" would be true, and 0 may be a mistake.

    Raises
    ------
    TypeError
        If it is anything else.

    Examples
    --------
    >>> from pymc_nre.runtime.arrays import true_or_false
    >>> true_or_false(True, "batched")
    True
    """
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name}: expected True or False, got {value!r}.")
    return bool(value)


def holds_integers(value: Any) -> bool:
    """Whether an array holds integers or booleans, whatever kind of array it is."""
    array = _as_array(value, "array")
    if array.dtype.kind == "O":  # as pandas has them
        return array.size > 0 and all(isinstance(each, Integral | np.bool_) for each in array.flat)
    return array.dtype.kind in "biu"


def holds_booleans(value: Any) -> bool:
    """Whether an array holds True and False and nothing else, whatever kind of array it is."""
    array = _as_array(value, "array")
    if array.dtype.kind == "O":
        return array.size > 0 and all(isinstance(each, bool | np.bool_) for each in array.flat)
    return array.dtype.kind == "b"


def _is_number(value: Any) -> bool:
    is_number = isinstance(value, int | float | np.integer | np.floating)
    return is_number and not isinstance(value, bool)


def _between(above: float, below: float) -> str:
    if math.isinf(below):
        return "that is finite" if math.isinf(above) else f"above {above:g} and finite"
    return f"between {above:g} and {below:g}"


def plain_fields(settings: Any) -> None:
    """Let the fields of a frozen dataclass be numbers, booleans and texts of Python, not NumPy.

    Files and the fingerprints of runs hold those, and NumPy's are told otherwise.
    """
    for field in fields(settings):
        value = getattr(settings, field.name)
        if isinstance(value, np.generic):
            object.__setattr__(settings, field.name, value.item())


def _refuse_units(value: Any, name: str) -> None:
    """Quantities (pint, astropy, unyt) would lose their unit without a word."""
    if isinstance(value, list | tuple):
        for one in _special(value):
            _refuse_units(one, name)
        return
    value = value.data if isinstance(value, xr.DataArray) else value
    unit = getattr(value, "units", None) if hasattr(value, "magnitude") else None
    if unit is None and isinstance(value, np.ndarray):
        unit = getattr(value, "unit", getattr(value, "units", None))
    if unit is not None:
        raise TypeError(
            f"{name}: expected plain numbers, got a quantity in {unit}. Convert it to the unit of "
            "the simulations and pass its value without the unit."
        )


def _special(values: Sequence[Any]) -> Sequence[Any]:
    """The values, unless all of them are plain numbers: there may be many."""
    return () if _PLAIN.issuperset(map(type, values)) else values


def _as_array(value: Any, name: str) -> np.ndarray:
    _refuse_units(value, name)
    try:
        return _unwrapped(value)
    except Exception as error:  # whatever a foreign __array__ raises
        raise ValueError(
            f"{name}: expected an array of numbers, got {_described(value)}, which is none "
            f"({error}). All rows must have the same shape."
        ) from error


def _unwrapped(value: Any) -> np.ndarray:
    """An array with its mask, also where it is in parts; NumPy alone would drop the masks."""
    if isinstance(value, list | tuple) and _special(value):
        parts = [_unwrapped(part) if isinstance(part, _WITH_PARTS) else part for part in value]
        if not any(map(np.ma.isMA, parts)):
            return np.asarray(parts)
        masks = [np.ma.getmaskarray(part) for part in parts]
        return np.ma.array([np.ma.getdata(part) for part in parts], mask=masks)
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().resolve_conj().resolve_neg()
        value = value.double() if value.is_floating_point() else value  # NumPy has no bfloat16
    return value if np.ma.isMA(value) else np.asarray(value)


def _of_objects(array: np.ndarray, value: Any, name: str) -> np.ndarray:
    """Objects are taken where each is a real number, as pandas' are; its NA is a hole."""
    masked = np.ma.getmaskarray(array)
    flat = np.ma.getdata(array).ravel()
    hidden = np.array([each is np.ma.masked for each in flat], dtype=bool).reshape(array.shape)
    if hidden.any():
        return np.ma.array(np.zeros(array.shape), mask=hidden | masked)
    numbers = [_number(each) for each in flat]
    wrong = next((each for each, got in zip(flat, numbers, strict=True) if got is None), None)
    if None in numbers:
        raise TypeError(
            f"{name}: expected real numbers, got {_described(value)}"
            + ("." if wrong is value else f" that holds {_described(wrong)}. Convert it first.")
        )
    plain = np.array(numbers, dtype=float).reshape(array.shape)
    return np.ma.array(plain, mask=masked) if masked.any() else plain


def _number(value: Any) -> float | None:
    """A real number, NaN for pandas' missing one, None for anything else."""
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        value = value.item()  # what is in it may be text, too, which float() would read
    if type(value).__name__ == "NAType":
        return float("nan")
    if value is None or isinstance(value, str | bytes | complex | np.complexfloating):
        return None
    try:
        return float(value)
    except Exception:
        return None


def _described(value: Any) -> str:
    return "None" if value is None else f"an object of type {type(value).__name__}"
