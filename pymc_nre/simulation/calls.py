"""One call of a user's simulator: what it is given, and what it may give back."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from ..runtime.arrays import real_array

__all__ = [
    "FAILURES",
    "call_error",
    "event_shape_error",
    "name_of",
    "observation",
    "observations",
    "own",
]

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
    if isinstance(returned, Mapping):
        names = ", ".join(map(str, returned))
        raise TypeError(
            "What the simulator returned: expected real numbers, got an object of type "
            f"{type(returned).__name__} with outputs by name ({names}). Put them into one array, "
            "such as np.stack([...], axis=-1) or np.concatenate([...]), and observed data likewise."
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


def call_error(function: Callable[..., Any], names: Iterable[str], remedy: str) -> TypeError | None:
    """Why a simulator cannot be called with these parameters, after that failed; None if it can."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # compiled functions may tell none
        return None
    names = list(names)
    try:
        signature.bind(None, **dict.fromkeys(names))
    except TypeError as error:
        name = name_of(function)
        given = ", ".join(f"{each}={each}" for each in names)
        remedy = remedy if _takes_generator(signature, names) else _WITHOUT_GENERATOR
        return TypeError(
            f"The simulator {name}{signature} is called by {name}(rng, {given}): {error}. {remedy}"
        )
    return None


_WITHOUT_GENERATOR = (
    "Its first argument must be the random generator rng, from which it draws: def "
    "simulator(rng, ...)."
)


def _takes_generator(signature: inspect.Signature, names: list[str]) -> bool:
    """Whether the first place of a call is for no parameter."""
    first = next(iter(signature.parameters.values()), None)
    places = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD)
    return first is not None and first.name not in names and first.kind not in places


def name_of(function: Callable[..., Any]) -> str:
    """What a user calls it."""
    if isinstance(function, functools.partial):
        return name_of(function.func)
    return getattr(function, "__name__", None) or type(function).__name__
