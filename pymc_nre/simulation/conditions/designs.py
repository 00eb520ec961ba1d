"""Where the conditions of simulations come from: distributions, or the designs that occur.

Whatever they are, they are drawn independently of the parameters. A ratio compares the parameters
of an observation with others from the prior; if conditions told of the parameters by themselves, it
would learn that too, and count it at inference where a design tells nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np

from ...runtime.arrays import finite_array
from ..parameters import check_reserved, is_integer
from ..prior import Prior

__all__ = ["Designs", "check_apart", "dependence", "names_of_variables"]

_DEPENDENT = 7.0  # standard errors of a rank correlation: once in 10^12 by chance
_LOOKED_AT = 20_000  # rows


class Designs:
    """Conditions that are drawn beside the parameters.

    Parameters
    ----------
    given : mapping
        By name, a distribution ``pm.X.dist(...)`` or an array ``(m, *own)``. The rows of all arrays
        belong together: a row is a design.
    """

    def __init__(self, given: Mapping[str, Any]) -> None:
        check_reserved(given)
        variables = {name: value for name, value in given.items() if hasattr(value, "owner")}
        self.names = tuple(given)
        self.prior = Prior.of(variables) if variables else None
        self.rows = {
            name: _occurring(name, value) for name, value in given.items() if name not in variables
        }
        lengths = {name: len(value) for name, value in self.rows.items()}
        if len({*lengths.values()}) > 1:
            raise ValueError(
                "conditions: arrays hold the designs that occur, row by row, and need the same "
                f"length, got {', '.join(f'{k}: {v}' for k, v in lengths.items())}."
            )

    def draw(self, n: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """``n`` of each, ``(n, *own)``."""
        drawn = {} if self.prior is None else self.prior.draw(n, rng)
        for name, values in drawn.items():
            if not np.isfinite(values).all():
                raise ValueError(
                    f"conditions: draws of {name} are NaN or infinite. Give it a distribution "
                    "whose draws are finite."
                )
        if self.rows:
            chosen = rng.integers(len(next(iter(self.rows.values()))), size=n)
            drawn |= {name: values[chosen] for name, values in self.rows.items()}
        return {name: drawn[name] for name in self.names}

    def beside(
        self, blocks: Iterator[Mapping[str, np.ndarray]], rng: np.random.Generator
    ) -> Iterator[dict[str, np.ndarray]]:
        """Blocks of parameters with conditions for each."""
        for block in blocks:
            yield dict(block) | self.draw(len(next(iter(block.values()))), rng)


def names_of_variables(conditions: Any, prior: Prior) -> tuple[str, ...]:
    """Names of variables of the prior that are conditions; none if these are given by themselves.

    Raises
    ------
    TypeError, ValueError
        If conditions are neither, or variables that the parameters have to do with.
    """
    if conditions is None or isinstance(conditions, Mapping):
        return ()
    names = [conditions] if isinstance(conditions, str) else conditions
    if not isinstance(names, Collection) or not all(isinstance(name, str) for name in names):
        raise TypeError(
            "conditions must be a dict of name to pm.X.dist(...) or to an array of the designs "
            "that occur, or names of variables of the prior model, got "
            f"{type(conditions).__name__}."
        )
    unknown = [name for name in names if name not in prior.variables]
    if unknown or len(names) == len(prior.variables):
        raise ValueError(
            "conditions must name some of the free variables of the prior, "
            f"{', '.join(prior.variables)}, and leave a parameter; got {', '.join(names)}."
        )
    for name in names:
        _check_independent(name, names, prior)
    return tuple(name for name in prior.variables if name in names)


def _check_independent(name: str, conditions: Collection[str], prior: Prior) -> None:
    from pytensor.graph.traversal import ancestors

    def needed(variable: Any) -> set[Any]:
        return {v for v in ancestors([variable]) if v in variables}

    variables = set(prior.variables.values())
    own = needed(prior.variables[name])
    for other, variable in prior.variables.items():
        if other not in conditions and own & needed(variable):
            raise ValueError(
                f"conditions: {name} and the parameter {other} depend on one another in the prior. "
                "A condition is known and drawn independently of all parameters; what depends on "
                "one is a parameter, or an observation."
            )


def check_apart(conditions: Collection[str], others: Collection[str]) -> None:
    """Raise ValueError if a name is given to a condition and to something else."""
    both = [name for name in conditions if name in others]
    if both:
        raise ValueError(
            f"conditions: {', '.join(both)} is a variable of the prior as well. Give it another "
            "name, or list it by name, conditions=['" + "', '".join(both) + "']."
        )


def dependence(
    theta: np.ndarray, labels: Collection[str], rows: np.ndarray, conditions: Collection[str]
) -> str:
    """Which of parameters ``(n, D)`` and packed conditions ``(n, C)`` go together, in words."""
    from scipy.stats import rankdata

    some = np.linspace(0, len(theta) - 1, min(len(theta), _LOOKED_AT)).astype(int)
    one, other = (_standardized(rankdata(values[some], axis=0)) for values in (theta, rows))
    scores = np.abs(one.T @ other) / np.sqrt(len(some))
    if not scores.size or scores.max() <= _DEPENDENT:
        return ""
    j, k = np.unravel_index(scores.argmax(), scores.shape)
    correlation = scores[j, k] / np.sqrt(len(some))
    return (
        f"the condition {list(conditions)[k]} goes with the parameter {list(labels)[j]} (rank "
        f"correlation {correlation:.2g})"
    )


def _standardized(ranks: np.ndarray) -> np.ndarray:
    spread = ranks.std(0)
    return (ranks - ranks.mean(0)) / np.where(spread > 0, spread, 1)


def _occurring(name: str, value: Any) -> np.ndarray:
    array = finite_array(value, f"conditions: {name}")
    if array.ndim == 0 or not array.size:
        raise ValueError(
            f"conditions: {name}: expected the designs that occur, an array (m, *own), or a "
            f"distribution, got shape {array.shape}. What is the same in all simulations is "
            "part of the simulator."
        )
    return array.astype(int) if is_integer(value) else array
