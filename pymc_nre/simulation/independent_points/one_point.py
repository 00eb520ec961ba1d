"""A simulator of single points, of one that gives several at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .returned import points_of_draws

__all__ = ["OnePoint"]


@dataclass(frozen=True)
class OnePoint:
    """Calls a simulator and keeps the first point: they are all alike, given the parameters.

    It gives NaN, which stands for a failure, where there is no point.
    """

    function: Callable[..., Any]
    batched: bool

    def __post_init__(self) -> None:
        # Errors then tell the name and the arguments of the user's own function.
        object.__setattr__(self, "__wrapped__", self.function)
        name = getattr(self.function, "__name__", type(self.function).__name__)
        object.__setattr__(self, "__name__", name)

    def __call__(self, rng: np.random.Generator, **parameters: Any) -> np.ndarray:
        """One observation, or one for each draw."""
        returned = self.function(rng, **parameters)
        if not self.batched:
            return _first(*points_of_draws(returned, None))[0]
        rows = len(next(iter(parameters.values())))
        return _first(*points_of_draws(returned, rows))


def _first(x: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Of points ``(n, m, *event)`` the first of each that is there, ``(n, *event)``."""
    if not x.shape[1]:
        return np.full((len(x), *x.shape[2:]), np.nan)
    first = x[np.arange(len(x)), there.argmax(1)]
    first[~there.any(1)] = np.nan
    return first
