"""Data sets that are simulated at given parameters, as those observed would be: by their design.

Conditions are those of the observed trials, and what is missing of them is missing here. Others
take the place of simulations that fail, for a ratio is that of an observation given success.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b

import numpy as np

from ..estimators.estimator import RatioEstimator
from ..exceptions import SimulationError
from ..simulation.calls import event_shape_error
from ..simulation.conditions.layout import side_by_side
from ..simulation.execution import simulate_at
from ..simulation.simulator import Simulator

__all__ = ["Experiment", "designs_of"]

_TRIES = 10  # rounds of simulations in place of those that failed


@dataclass(frozen=True)
class Experiment:
    """What is done again and again: a simulator, and a design for each trial.

    Attributes
    ----------
    design : ndarray, shape (L, n, *event)
        Observed data sets, packed with their conditions; one of them is drawn for each simulated
        one. Without conditions and missing numbers only n is looked at.
    """

    ratio: RatioEstimator
    simulator: Simulator
    design: np.ndarray

    def data(self, theta: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Data sets ``(S, n, *event)`` at parameters ``(S, D)``.

        Raises
        ------
        SimulationError
            If too many simulations fail.
        ValueError
            If observations have another shape than those that the ratio was trained on.
        """
        ratio, trials = self.ratio, self.design.shape[1]
        design = self.design[rng.integers(len(self.design), size=len(theta))]
        flat = design.reshape(-1, *ratio.event_shape)
        parameters = ratio.layout.unpack(np.repeat(theta, trials, axis=0))
        given = {} if ratio.conditions is None else ratio.conditions.split(flat)[1]
        x = self._simulated(parameters | given, len(flat), rng)
        if given:
            x = side_by_side(x, given)
        if ratio.missing is not None:
            x = ratio.missing.with_holes(x, flat)
        return x.reshape(len(theta), trials, *ratio.event_shape)

    def _simulated(
        self, parameters: dict[str, np.ndarray], n: int, rng: np.random.Generator
    ) -> np.ndarray:
        x = np.empty((n, *self.ratio.observation_shape))
        left = np.arange(n)
        for _ in range(_TRIES):
            some = {name: value[left] for name, value in parameters.items()}
            seed = np.random.SeedSequence(rng.integers(2**32))
            try:
                succeeded, found = simulate_at(self.simulator, some, seed)
            except SimulationError:  # all of them: the last few may do so by chance
                continue
            if found.shape[1:] != x.shape[1:]:
                raise event_shape_error(self.simulator.function, found.shape[1:], x.shape[1:])
            x[left[succeeded]] = found
            left = left[~succeeded]
            if not left.size:
                return x
        raise SimulationError(
            f"{left.size:,} of {n:,} simulations failed {_TRIES} times at parameters of the "
            "training domain. Mend the simulator, or train where it works."
        )


def designs_of(ratio: RatioEstimator, rows: np.ndarray) -> frozenset[bytes]:
    """Digests of the different designs of data sets ``(S, n, *event)``, whatever their order.

    A design is what is known before the data: conditions, and which numbers are missing.
    """
    x, known = rows.reshape(-1, *ratio.event_shape), []
    if ratio.conditions is not None:
        x, given = ratio.conditions.split(x)
        known += [value.reshape(len(x), -1) for value in given.values()]
    if ratio.missing is not None:
        known.append(np.isnan(x).reshape(len(x), -1))
    if not known:
        return frozenset()
    table = np.concatenate(known, axis=1).astype(np.float32)
    own = table.reshape(*rows.shape[:2], -1)
    return frozenset(blake2b(each[np.lexsort(each.T)].tobytes()).digest() for each in own)
