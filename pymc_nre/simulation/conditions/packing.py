"""A simulator of observations with their conditions, out of one that is given conditions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..calls import event_shape_error, name_of
from ..simulator import Simulator
from .layout import Conditions, side_by_side

__all__ = ["Packing", "packing"]


@dataclass(frozen=True, eq=False)
class Packing:
    """Draws conditions from a pool, simulates, and packs both; a batched simulator.

    Attributes
    ----------
    simulator : Simulator
        Takes parameters and conditions by name.
    conditions : Conditions
    pool : dict of str to array, shape (m, *own)
        Conditions that occur together, row by row.
    """

    simulator: Simulator
    conditions: Conditions
    pool: Mapping[str, np.ndarray]

    def __call__(self, rng: np.random.Generator, **parameters: Any) -> np.ndarray:
        """Vectors ``(n, K)`` for parameters ``(n, *own)``."""
        n = len(next(iter(parameters.values())))
        rows = rng.integers(len(next(iter(self.pool.values()))), size=n)
        drawn = {name: values[rows] for name, values in self.pool.items()}
        x = self.simulator.draw(rng, parameters | drawn, n)
        if x.shape[1:] != self.conditions.event_shape:
            raise event_shape_error(
                self.simulator.function, x.shape[1:], self.conditions.event_shape
            )
        # What failed is left out by whoever called, and not told here.
        return side_by_side(x, drawn)

    @property
    def __name__(self) -> str:
        return name_of(self.simulator.function)


def packing(
    simulator: Simulator, conditions: Conditions, pool: Mapping[str, np.ndarray]
) -> Simulator:
    """That simulator of observations with conditions."""
    return Simulator(Packing(simulator, conditions, pool), batched=True)
