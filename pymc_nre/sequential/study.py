"""One data set: its prior and simulator, and what a ratio says of it at packed parameters."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ..amortized.data_sets import DataSets, summed_log_ratio
from ..estimators.estimator import RatioEstimator
from ..estimators.evaluator import TorchEvaluator
from ..runtime.arrays import finite_array
from ..simulation.conditions.designs import Designs
from ..simulation.execution import simulate_at, warn_failed
from ..simulation.joint import JointSimulator
from ..simulation.parameters import check_event_shape
from ..simulation.prior import Prior
from ..simulation.simulations import Simulations
from ..training.batching.density import Density
from .particles import Known

__all__ = ["DataSet", "KnownPrior", "Study"]


class KnownPrior:
    """Draws and log densities of a prior, of packed parameters.

    Parameters
    ----------
    prior : Prior
        With a density.
    """

    log_mass = 0.0

    def __init__(self, prior: Prior) -> None:
        self.prior, self.layout = prior, prior.layout
        self.whole = self.layout.whole
        self._density = Density(prior, self.layout, self.draw(1, np.random.default_rng(0))[0])

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """``(n, D)``."""
        return self.layout.pack(self.prior.draw(n, rng))

    def log_prior(self, theta: np.ndarray) -> np.ndarray:
        """``(n,)`` of ``(n, D)``; minus infinity where it is impossible."""
        found = self._density(theta)
        return np.where(np.isfinite(found), found, -np.inf)


@dataclass(frozen=True, eq=False)
class DataSet:
    """Trials ``(trials, *event)`` of one data set, as a network takes them, and their ratio."""

    known: Known
    ratio: RatioEstimator
    rows: np.ndarray

    def log_ratio(self, theta: np.ndarray) -> np.ndarray:
        """Summed over trials, ``(n,)`` of ``(n, D)``."""
        return summed_log_ratio(self.ratio.evaluator, theta[None], self.rows[None])[0]

    def in_single(self, theta: np.ndarray) -> np.ndarray:
        """The same in single precision, for training, which asks millions of times."""
        return summed_log_ratio(self._single, theta[None], self.rows[None])[0]

    @cached_property
    def _single(self) -> TorchEvaluator:
        return TorchEvaluator(copy.deepcopy(self.ratio.network).float())

    def value_and_gradient(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        """The sum at one point ``(D,)``, and its gradient."""
        value, gradient = self.ratio.evaluator.value_and_gradient(theta[None], self.rows)
        return float(value.sum()), gradient.sum(0)


class Study:
    """What rounds are about, and do not change.

    Parameters
    ----------
    joint : JointSimulator
    observed : array, shape (*event) or (trials, *event)
    conditions : mapping of str to array, optional
        Of each trial, ``(trials, *own)``.
    """

    def __init__(
        self, joint: JointSimulator, observed: np.ndarray, conditions: Mapping[str, Any] | None
    ) -> None:
        if "draw" in joint.parameters:
            raise ValueError(
                "rounds: prior: expected parameters of other names than 'draw', the dimension of "
                "the posterior that rounds give. Call it something else."
            )
        prior = joint.prior.marginal(joint.parameters)
        if prior is None:
            raise ValueError(
                "rounds: prior: expected one whose density is known, got nuisance parameters "
                "above the others, or a distribution without a density. Pass the parameters that "
                "stand above the rest as parameters=, or integrate in the simulator."
            )
        self.joint, self.observed = joint, observed
        self.conditions = _given(conditions, joint.prior)
        self.known = KnownPrior(prior)
        self.designs = None if self.conditions is None else Designs(self.conditions)

    def simulate(
        self,
        theta: np.ndarray,
        seed: np.random.SeedSequence,
        executor: Executor | None,
        progressbar: bool,
    ) -> Simulations:
        """Observations of one trial at parameters ``(n, D)``, but those that fail."""
        for_designs, for_simulator = seed.spawn(2)
        given = {}
        if self.designs is not None:
            given = self.designs.draw(len(theta), np.random.default_rng(for_designs))
        parameters = self.known.layout.unpack(theta)
        inputs = parameters | given
        how = executor, progressbar, self._check
        done, x = simulate_at(self.joint.predictor, inputs, for_simulator, *how)
        made = self.simulations(
            {name: value[done] for name, value in parameters.items()},
            x,
            {name: value[done] for name, value in given.items()},
        )
        made.n_failed = int((~done).sum())
        if made.n_failed:
            warn_failed(made.n_failed, len(theta))
        return made

    def simulations(
        self, parameters: Mapping[str, np.ndarray], x: np.ndarray, given: Mapping[str, np.ndarray]
    ) -> Simulations:
        """These arrays as simulations."""
        made = Simulations(parameters, x, simulator=self.joint.predictor)
        made.take_conditions(given)
        return made

    def _check(self, event: tuple[int, ...]) -> None:
        check_event_shape(event, self.observed.shape, "rounds: observed")
        if self.observed.ndim > len(event) + 1:
            raise ValueError(
                f"rounds: observed: expected one observation, of shape {event}, or trials along "
                f"one axis before it, got {self.observed.shape}. It is one data set: flatten the "
                "axes of trials."
            )

    def data_set(self, ratio: RatioEstimator) -> DataSet:
        """The data beside a ratio."""
        trials = self.observed.ndim > len(ratio.observation_shape)
        data = DataSets.of(ratio, self.observed, trials, "rounds", self.conditions)
        return DataSet(self.known, ratio, data.rows[0])


def _given(conditions: Any, prior: Prior) -> dict[str, Any] | None:
    """Conditions of trials, by names that are those of nothing else."""
    if conditions is None:
        return None
    if not hasattr(conditions, "keys"):
        raise TypeError(
            "rounds: conditions: expected known inputs of the trials by name, {'dose': doses}, got "
            f"{type(conditions).__name__}."
        )
    for name in conditions:
        if name in prior.variables:
            raise ValueError(
                f"rounds: conditions: {name} is a variable of the prior as well. What is known of "
                "the trials is no parameter: give it another name, or leave it out of the prior."
            )
        finite_array(conditions[name], f"rounds: conditions: {name}")
    return dict(conditions.items()) or None
