"""Data sets that a user gives, and the parameters that are asked for; read once, at the edge."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..amortized.data_sets import DataSets
from ..estimators.checks import check_ratio
from ..estimators.estimator import RatioEstimator
from ..simulation.parameters import Layout
from .searches.summed import SummedRatio

__all__ = ["Observed", "places_of"]

_NAMES = {"parameter", "parameter_", "point", "held", "estimate", "standard_error", "covariance"}
_NAMES |= {"log_ratio", "at_edge", "converged", "why", "deviance", "at"}  # of all results
_NUMBERS = 2**24  # of observations and what networks make of them, that are held at once
_MOST = 1_000  # data sets that are searched together
_FEATURES = 64  # of an observation, unless it has more numbers
_LOOKED_AT = 1_000  # draws
_FLAT = 1e-5  # of the widest direction: what rounding to single precision leaves of none


@dataclass(frozen=True)
class Observed:
    """A ratio, and data sets ``(S, n, *event)`` of it."""

    ratio: RatioEstimator
    data: DataSets

    @classmethod
    def of(cls, ratio: Any, x: Any, conditions: Mapping[str, Any] | None, caller: str) -> Observed:
        """What a user means by observations ``(*sets, n, *event)``."""
        check_ratio(ratio, caller)
        _check_solid(ratio, caller)
        return cls(ratio, DataSets.of(ratio, x, True, caller, conditions, _NAMES))

    @property
    def sets(self) -> int:
        """How many."""
        return self.data.rows.shape[0]

    @property
    def trials(self) -> int:
        """Of each."""
        return self.data.rows.shape[1]

    def chunks(self) -> Iterator[tuple[slice, SummedRatio]]:
        """Some data sets after others, as many as memory bears."""
        for rows in in_chunks(self.sets, self.data.rows[0].size):
            yield rows, SummedRatio.of(self.ratio, self.data.rows[rows])


def _check_solid(ratio: RatioEstimator, caller: str) -> None:
    """Raise ValueError if draws of the domain lie on a flat, beside which searches would go."""
    draws = ratio.domain.draws[:_LOOKED_AT]
    moving = np.flatnonzero(draws.std(0) > 0)
    z = (draws - draws.mean(0))[:, moving] / draws.std(0)[moving]
    _, sizes, directions = np.linalg.svd(z, full_matrices=False)
    if not sizes.size or len(draws) < 2 * draws.shape[1] or sizes[-1] > _FLAT * sizes[0]:
        return
    tied = [ratio.layout.labels[k] for k in moving[np.abs(directions[-1]) > 0.01]]
    raise ValueError(
        f"{caller}: parameters of the training prior follow from each other: "
        f"{', '.join(tied)} always have the same weighted sum, such as shares that add up to one. "
        "A search would leave what is possible. Train a ratio of parameters that are free: "
        "parameters=[...] of nre.simulate, or a prior of all shares but one, of which the "
        "simulator makes the last."
    )


def in_chunks(sets: int, numbers: int) -> Iterator[slice]:
    """Slices of data sets of which each has so many numbers."""
    at_once = max(1, min(_MOST, _NUMBERS // max(numbers, 1)))
    for start in range(0, sets, at_once):
        yield slice(start, min(start + at_once, sets))


def places_of(layout: Layout, chosen: Any, caller: str) -> np.ndarray:
    """Places of packed numbers by names of parameters, or labels as ``beta[0]``; all by default.

    Raises
    ------
    TypeError, ValueError
        If they are no names, unknown, or the same twice.
    """
    if chosen is None:
        return np.arange(layout.size)
    chosen = [chosen] if isinstance(chosen, str) else chosen
    if not isinstance(chosen, list | tuple) and not hasattr(chosen, "keys"):
        raise TypeError(
            f"{caller}: parameters: expected names, such as {list(layout.shapes)[:1]}, got an "
            f"object of type {type(chosen).__name__}."
        )
    known = own_places(layout)
    unknown = [name for name in chosen if not isinstance(name, str) or name not in known]
    if unknown or not len(chosen):
        raise ValueError(
            f"{caller}: parameters: expected some of {', '.join(known)}, got "
            f"{', '.join(map(repr, unknown)) or 'none'}."
        )
    places = np.concatenate([known[name] for name in chosen])
    if len(np.unique(places)) < len(places):
        raise ValueError(f"{caller}: parameters: expected each once, got {', '.join(chosen)}.")
    return np.sort(places)


def own_places(layout: Layout) -> dict[str, np.ndarray]:
    """Places of each parameter by its name, and of each of its numbers by its label."""
    places, names = {}, layout.unpack(np.arange(layout.size))
    for name, numbers in names.items():
        places[name] = np.ravel(numbers).astype(int)
    return places | {label: np.array([k]) for k, label in enumerate(layout.labels)}
