"""The one reading of what a user gives: arrays of real numbers, and whole numbers.

Every array that enters the library passes here, so that a masked value, a complex number, a
unit or text is refused in one place and in one way: what was expected, what came, what to do.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import torch

__all__ = ["finite_array", "plain_fields", "real_array", "whole_number"]


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
    _refuse_units(value, name)
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
    masked = np.ma.getmaskarray(array)
    if masked.any():
        raise ValueError(
            f"{name}: {masked.sum():,} of {masked.size:,} values are masked; expected none. A "
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
    is_number = isinstance(value, int | float | np.integer | np.floating)
    if not is_number or isinstance(value, bool) or value != value // 1:
        raise TypeError(f"{name}: expected a whole number, got {value!r}.")
    if value < least:
        raise ValueError(f"{name}: expected at least {least:,}, got {value!r}.")
    return int(value)


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
    unit = getattr(value, "units", None) if hasattr(value, "magnitude") else None
    if unit is None and isinstance(value, np.ndarray):
        unit = getattr(value, "unit", getattr(value, "units", None))
    if unit is not None:
        raise TypeError(
            f"{name}: expected plain numbers, got a quantity in {unit}. Convert it to the unit of "
            "the simulations and pass its value without the unit."
        )


def _as_array(value: Any, name: str) -> np.ndarray:
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        value = value.double() if value.is_floating_point() else value  # NumPy has no bfloat16
    try:
        return value if np.ma.isMA(value) else np.asarray(value)
    except Exception as error:  # whatever a foreign __array__ raises
        raise ValueError(
            f"{name}: expected an array of numbers, got {_described(value)}, which is none "
            f"({error}). All rows must have the same shape."
        ) from error


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
