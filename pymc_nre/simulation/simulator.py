"""A simulator, and how it wants to be called."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..runtime.arrays import true_or_false
from .calls import observation, observations, own
from .forward import ForwardDraw
from .independent_points.one_point import OnePoint

__all__ = ["Simulator", "as_simulator", "batched_of"]


@dataclass(frozen=True)
class Simulator:
    """A simulator and how it wants to be called.

    Parameters
    ----------
    function : callable
        ``function(rng, **parameters)``.
    batched : bool
        False: parameters of their own shape in, one observation out. True: parameters and
        result carry a leading axis, one entry for each observation.
    nuisance : ForwardDraw, optional
        Draws the parameters that callers do not pass, given those that they do.
    iid : bool
        True: one call gives m points that are independent given the parameters, ``(m, *event)``;
        batched, ``(n, m, *event)``. Of them one is an observation, and all are trained on.

    Examples
    --------
    >>> import numpy as np
    >>> from pymc_nre import Simulator
    >>> simulator = Simulator(lambda rng, mu: rng.normal(mu, 1.0))
    >>> simulator.draw(np.random.default_rng(1), {"mu": np.zeros(3)}, 3).shape
    (3,)
    """

    function: Callable[..., Any]
    batched: bool = False
    nuisance: ForwardDraw | None = None
    iid: bool = False

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise TypeError(
                "simulator must be a function simulator(rng, **parameters), got "
                f"{type(self.function).__name__}."
            )
        object.__setattr__(self, "batched", true_or_false(self.batched, "Simulator: batched"))

    def draw(
        self, rng: np.random.Generator, parameters: Mapping[str, np.ndarray], n: int
    ) -> np.ndarray:
        """``n`` observations for parameters ``(n, *own)``, from one generator."""
        if self.iid:
            return self.single.draw(rng, parameters, n)
        if self.nuisance is not None:
            parameters = {**parameters, **self.nuisance.draw(rng, parameters, n)}
        if self.batched:
            return observations(self.function(rng, **own(parameters)), n)
        rows = ({name: value[i] for name, value in parameters.items()} for i in range(n))
        return np.stack([observation(self.function(rng, **own(row))) for row in rows])

    @property
    def single(self) -> Simulator:
        """One of single observations: itself, unless it gives several points at once."""
        if not self.iid:
            return self
        return Simulator(OnePoint(self.function, self.batched), self.batched, self.nuisance)


def as_simulator(
    simulator: Simulator | Callable[..., Any] | None, batched: bool = False, iid: bool = False
) -> Simulator | None:
    """One of single observations; a bare function is what it is known to be, or else that."""
    if simulator is None or isinstance(simulator, Simulator):
        return simulator and simulator.single
    return Simulator(simulator, batched, iid=iid).single


def batched_of(simulator: Simulator | None, known: bool | None) -> bool | None:
    """Whether it takes many draws at once; if it is no function, what is known of one before."""
    if simulator is None or isinstance(simulator.function, ForwardDraw):
        return known
    return simulator.batched
