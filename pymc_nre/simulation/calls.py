"""One call of a user's simulator: what it is given, and what it may give back."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..runtime.arrays import real_array

__all__ = ["FAILURES", "event_shape_error", "name_of", "observation", "observations", "own"]

FAILURES = (Exception, SystemExit)  # how a simulation may end, and take nothing with it; not Ctrl-C


def own(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Copies: a simulator may change its arguments without changing what is kept of them."""
    return {k: np.array(v) if isinstance(v, np.ndarray) else v for k, v in parameters.items()}


def observation(returned: Any) -> np.ndarray:
    """What a simulator returned, as an array of its own, for it may fill one again and again.

    Raises
    ------
    TypeError, ValueError
        If these are no real numbers.
    """
    if returned is None:
        raise TypeError(
            "The simulator returned None; expected an observation, a number or an array. Does it "
            "end with a return statement?"
        )
    array = real_array(returned, "What the simulator returned")
    return np.array(array)


def observations(returned: Any, rows: int) -> np.ndarray:
    """What a batched simulator returned, one observation for each of so many draws.

    Raises
    ------
    TypeError, ValueError
        If it is not that.
    """
    x = observation(returned)
    if x.ndim == 0 or len(x) != rows:
        raise ValueError(
            f"A batched simulator must return one observation for each of its {rows} draws, shape "
            f"({rows}, *event), got shape {x.shape}. If it simulates one observation at a time, "
            "leave out batched=True."
        )
    return x


def event_shape_error(
    function: Callable[..., Any], got: tuple[int, ...], expected: tuple[int, ...]
) -> ValueError:
    """What to raise where a simulator does not make what the ratio was trained on."""
    return ValueError(
        f"The simulator {name_of(function)} gives observations of shape {got}, and the ratio was "
        f"trained on {expected}. Pass simulator= the one that it was trained with; one for many "
        "draws at once, draws first, is Simulator(function, batched=True)."
    )


def name_of(function: Callable[..., Any]) -> str:
    """What a user calls it."""
    if isinstance(function, functools.partial):
        return name_of(function.func)
    return getattr(function, "__name__", None) or type(function).__name__
