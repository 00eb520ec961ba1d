r"""What problems with exact answers share.

A task knows :math:`p(x \mid \theta)` and, under its training prior, the evidence
:math:`p(x) = \int p(\theta)\, p(x \mid \theta)\, d\theta`. Their quotient is the ratio that
training only approximates. It is written in torch here, as a network like any other, so that
whatever takes a trained estimator takes the exact one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..estimators.domain import Domain
from ..estimators.estimator import RatioEstimator
from ..networks.base import RatioNetwork
from ..runtime.arrays import finite_array, real_array, real_number
from ..runtime.values import HoldsArrays
from ..simulation.joint import simulate
from ..simulation.parameters import broadcast_batches, check_event_shape, check_own_shape
from ..simulation.simulations import Simulations
from ..simulation.simulator import Simulator

__all__ = ["LOG_2PI", "ExactNetwork", "Posterior", "Task", "legendre", "log_mass", "span"]

LOG_2PI = math.log(2 * math.pi)


@dataclass(frozen=True, eq=False)
class Posterior(HoldsArrays):
    """Exact posterior moments by parameter name, each of the parameter's own shape."""

    mean: Mapping[str, np.ndarray]
    sd: Mapping[str, np.ndarray]


class ExactNetwork(RatioNetwork):
    """An exact log ratio in torch."""

    def embed(self, x: Tensor) -> Tensor:
        """Observations as they are, ``(n, F)``."""
        return x.reshape(len(x), -1)

    def log_evidence(self, features: Tensor) -> Tensor:
        """Log of p(x) under the training prior, ``(*)`` of features ``(*, F)``."""
        raise NotImplementedError


class Task:
    """What tasks share: simulations, the exact estimator, the evidence."""

    def prior(self) -> Any:
        """The training prior, a `pymc.Model`."""
        import pymc as pm

        with pm.Model(model=None) as model:  # not part of one that is open
            self._parameters(pm)
        return model

    def _parameters(self, pm: Any) -> Any:
        """Make the parameters, in the model that is open."""
        raise NotImplementedError

    def simulator(self, rng: np.random.Generator, **parameters: np.ndarray) -> np.ndarray:
        """Batched: parameters ``(n, *own)`` to observations ``(n, *event)``."""
        raise NotImplementedError

    def _network(self) -> ExactNetwork:
        raise NotImplementedError

    def simulate(self, n: int, random_seed: Any = None) -> Simulations:
        """``n`` training simulations."""
        return simulate(
            self.prior(),
            self.simulator,
            n,
            batched=True,
            random_seed=random_seed,
            progressbar=False,
        )

    def estimator(self) -> RatioEstimator:
        """The exact log ratio as a `RatioEstimator`; equal tasks share one."""
        return _estimator(self)

    def log_ratio(self, x: np.ndarray, /, **parameters: np.ndarray) -> np.ndarray:
        """Exact log ratios ``(*batch,)`` of observations ``(*batch, *event)``."""
        return self.estimator().log_ratio(x, **parameters)

    def _number(self, field: str, above: float = -math.inf) -> None:
        """Make a field a finite number above another; equal tasks then compare as equal."""
        value = real_number(getattr(self, field), f"{type(self).__name__}: {field}", above=above)
        object.__setattr__(self, field, value)

    def _observations(self, x: Any, caller: str) -> np.ndarray:
        """Observations ``(*batch, *event)``; the answer to one with holes is a hole."""
        x = real_array(x, f"{caller}: x")
        check_event_shape(self._network().event_shape, x.shape, f"{caller}: x")
        return x

    def _data(self, x: Any, caller: str) -> np.ndarray:
        """All observations of one data set ``(n, *event)``, at least one and none with holes."""
        x = self._observations(finite_array(x, f"{caller}: x"), caller)
        event_shape = self._network().event_shape
        if x.ndim != 1 + len(event_shape) or not len(x):
            shown = ", ".join(map(str, ("n", *event_shape)))
            raise ValueError(
                f"{caller}: x: expected one data set, shape ({shown}{',' * (not event_shape)}), "
                f"got {x.shape}. Give the trials along the first axis."
            )
        return x

    def _broadcast(
        self, x: Any, own: Mapping[str, tuple[int, ...]], **parameters: Any
    ) -> tuple[np.ndarray, ...]:
        """Observations and parameters ``(*batch, *own)`` whose batches broadcast."""
        caller = "log_likelihood"
        arrays = [self._observations(x, caller)]
        batches = {"x": arrays[0].shape[: arrays[0].ndim - len(self._network().event_shape)]}
        for name, value in parameters.items():
            array = real_array(value, f"{caller}: {name}")
            check_own_shape(name, own[name], array.shape, caller)
            batches[name] = array.shape[: array.ndim - len(own[name])]
            arrays.append(array)
        broadcast_batches(batches, caller)
        return tuple(arrays)

    def log_evidence(self, x: np.ndarray) -> np.ndarray:
        """Log of p(x) under the training prior, ``(*batch,)`` of ``x`` ``(*batch, *event)``."""
        network, x = self._network(), self._observations(x, "log_evidence")
        batch = x.shape[: x.ndim - len(network.event_shape)]
        features = torch.tensor(x).reshape(*batch, math.prod(network.event_shape))
        return network.log_evidence(features).numpy()


# Estimators and tasks are values: one is as good as another. Bounded, since each holds draws.
@lru_cache(maxsize=16)
def _estimator(task: Task) -> RatioEstimator:
    simulations = task.simulate(20_000, random_seed=0)
    return RatioEstimator(
        task._network(),
        simulations.layout.shapes,
        domain=Domain.from_draws(simulations.theta, simulations.log_prior),
        probe_x=simulations.x[:100],
        simulator=Simulator(task.simulator, batched=True),
    )


def log_mass(x: Tensor, half_width: float, sigma: Tensor) -> Tensor:
    """Log of P(-w < x + sigma z < w) for standard normal z, in every tail."""
    # Reflect to the lower tail, where the difference of log cdfs keeps its digits.
    x = -x.abs()
    upper = torch.special.log_ndtr((x + half_width) / sigma)
    lower = torch.special.log_ndtr((x - half_width) / sigma)
    return upper + torch.log1p(-torch.exp(lower - upper))


def legendre(lower: float, upper: float, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of Gauss and Legendre for a mean over an interval; sum of weights 1."""
    nodes, weights = np.polynomial.legendre.leggauss(size)
    return lower + (upper - lower) * (nodes + 1) / 2, weights / 2


def span(center: float, reach: float, limit: float, size: int) -> np.ndarray:
    """Midpoints of cells in ``center`` ± ``reach``, cut to ``[-limit, limit]``.

    Midpoints, since sums over them stay right where the limit cuts a density off.
    """
    edges = np.linspace(max(center - reach, -limit), min(center + reach, limit), size + 1)
    return (edges[1:] + edges[:-1]) / 2
