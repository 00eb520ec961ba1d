"""Many data sets and one prior: what posteriors without MCMC are computed from.

Parameters are packed, ``(*, D)``; data sets are rows, ``(S, trials, *event)``. Ratios are
evaluated in blocks, so that no more is held than the result.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from ..estimators.checks import (
    as_observations,
    check_ratio,
    packed_with,
    warn_if_missing_as_never,
    warn_if_other_data,
    warn_if_outside,
)
from ..estimators.estimator import RatioEstimator
from ..estimators.evaluator import TorchEvaluator
from ..runtime.arrays import true_or_false
from ..simulation.conditions.labels import check_labels
from ..simulation.conditions.missing import Missing
from ..simulation.parameters import check_event_shape
from ..simulation.prior import Prior
from ..simulation.series.cuts import next_and_past

__all__ = [
    "DataSets",
    "Target",
    "check_values",
    "in_domain",
    "prior_of_parameters",
    "summed_log_ratio",
]

_PAIRS = 2**18  # log ratios of single trials at once: 2 MB for each number
_DOMAIN_ROWS = 2**15  # the domain check takes 32 numbers for each parameter


@dataclass(frozen=True)
class DataSets:
    """Observations ``(S, trials, *event)``, and the batch ``(*batch,)`` that S came from."""

    rows: np.ndarray
    shape: tuple[int, ...]
    dims: tuple[str, ...]
    coords: Mapping[str, Any]

    @classmethod
    def of(
        cls,
        ratio: RatioEstimator,
        x: Any,
        trials: bool,
        caller: str,
        conditions: Mapping[str, Any] | None = None,
        names: Collection[str] = (),
    ) -> DataSets:
        """What a user means by observations ``(*batch, *event)``; axes go by their place.

        A result has names of its own, which no dimension or coordinate of the batch may have.
        """
        check_ratio(ratio, caller)
        trials = true_or_false(trials, f"{caller}: trials")
        check_labels(x, conditions, caller)
        x, conditions = next_and_past(x, conditions, ratio.conditions, caller)
        data = as_observations(ratio, x, f"{caller}: x")
        check_event_shape(ratio.observation_shape, data.shape, f"{caller}: x")
        batch = data.shape[: data.ndim - len(ratio.observation_shape)]
        if trials and not batch:
            raise ValueError(
                f"{caller}: with trials=True x must have shape (*batch, trials, *event), got "
                f"{data.shape}. Leave trials=True out for a single observation."
            )
        if not data.size:
            raise ValueError(f"{caller}: x must hold at least one observation, got {data.shape}.")
        shape = batch[:-1] if trials else batch
        warn_if_other_data(ratio, data.reshape(-1, *ratio.observation_shape), caller)
        data = packed_with(ratio, data, conditions, caller)
        warn_if_outside(ratio, data, caller)
        warn_if_missing_as_never(ratio, data.reshape(-1, *ratio.event_shape), caller)
        rows = data.reshape(math.prod(shape), batch[-1] if trials else 1, *ratio.event_shape)
        if not isinstance(x, xr.DataArray):
            return cls(rows, shape, tuple(f"x_dim_{i}" for i in range(len(shape))), {})
        dims = tuple(map(str, x.dims[: len(shape)]))
        coords = {dim: x.coords[dim] for dim in dims if dim in x.coords}
        carried = {*dims, *(str(name) for coord in coords.values() for name in coord.coords)}
        taken = sorted(carried.intersection(names))
        if taken:
            raise ValueError(
                f"{caller}: its result has {', '.join(taken)} of its own, and no dimension or "
                f"coordinate of x can be called that. Rename it: x.rename({taken[0]}='replicate')."
            )
        return cls(rows, shape, dims, coords)

    def variable(self, values: np.ndarray, *dims: str) -> tuple[tuple[str, ...], np.ndarray]:
        """Values ``(S, *)`` as a variable with dimensions ``(*batch, *dims)``."""
        return (*self.dims, *dims), values.reshape((*self.shape, *values.shape[1:]))


@dataclass(frozen=True)
class Target:
    """A prior over a ratio's parameters, and their posterior, on packed parameters."""

    ratio: RatioEstimator
    prior: Prior

    def draw(self, n: int, random_seed: Any) -> np.ndarray:
        """Packed draws ``(n, D)``."""
        return self.ratio.layout.pack(self.prior.draw(n, random_seed))

    def log_prior(self, theta: np.ndarray) -> np.ndarray:
        """Log prior densities ``(*,)`` of ``(*, D)``."""
        flat = theta.reshape(-1, theta.shape[-1])
        return self.prior.log_density(self.ratio.layout.unpack(flat)).reshape(theta.shape[:-1])

    def log_prior_inside(self, theta: np.ndarray) -> np.ndarray:
        """The same, and minus infinity outside of the training domain."""
        flat = theta.reshape(-1, theta.shape[-1])
        inside = in_domain(self.ratio, flat)
        log_prior = np.full(len(flat), -np.inf)
        if inside.any():
            log_prior[inside] = self.log_prior(flat[inside])
        return log_prior.reshape(theta.shape[:-1])

    def log_posterior(self, theta: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Unnormalized, ``(S, P)`` at ``(S or 1, P, D)``, of data sets ``(S, trials, *event)``."""
        log_prior = self.log_prior_inside(theta)
        log_ratio = summed_log_ratio(self.ratio.evaluator, theta, rows, self.ratio.missing)
        log_posterior = np.where(np.isfinite(log_prior), log_prior + log_ratio, -np.inf)
        check_values(log_posterior, rows)
        return log_posterior


def check_values(values: np.ndarray, rows: np.ndarray, name: str = "x") -> None:
    """Raise ValueError if values ``(S, P)`` of a data set are NaN, or it has no weight anywhere."""
    bad = np.isnan(values).any(1) | ~np.isfinite(values).any(1)
    if bad.any():
        first = np.array2string(rows[bad.argmax()].ravel(), threshold=6, precision=4)
        raise ValueError(
            f"{name}: the ratio of {bad.sum():,} data sets (the first holds {first}) is NaN, or "
            "zero at every parameter inside of prior and training domain. Look at those "
            "observations: simulations must have been able to produce them."
        )


def in_domain(ratio: RatioEstimator, theta: np.ndarray) -> np.ndarray:
    """Whether ``(n, D)`` is in the training domain, ``(n,)``, in bounded memory."""
    starts = range(0, len(theta), _DOMAIN_ROWS)
    return np.concatenate([ratio.domain.inside(theta[i : i + _DOMAIN_ROWS]) for i in starts])


def summed_log_ratio(
    evaluator: TorchEvaluator,
    theta: np.ndarray,
    rows: np.ndarray,
    missing: Missing | None = None,
) -> np.ndarray:
    """Sums over trials ``(S, P)`` at ``(S or 1, P, D)``, of data sets ``(S, trials, *event)``.

    Trials all of whose numbers are missing count for nothing.
    """
    sets, trials = rows.shape[:2]
    observations = rows.reshape(sets * trials, *rows.shape[2:])
    owners = np.repeat(np.arange(sets), trials)
    total = np.zeros((sets, theta.shape[1]))
    at_once = max(1, _PAIRS // max(theta.shape[1], 1))
    for start in range(0, len(observations), at_once):
        x, owner = observations[start : start + at_once], owners[start : start + at_once]
        own = theta if len(theta) == 1 else theta[owner]
        first_of_set = np.flatnonzero(np.diff(owner, prepend=-1))
        table = evaluator.table(own, x)
        if missing is not None:
            table[missing.without_any(x)] = 0.0
        summed = np.add.reduceat(table, first_of_set, axis=0)
        total[owner[0] : owner[-1] + 1] += summed
    return total


def prior_of_parameters(ratio: RatioEstimator, prior: Any, caller: str) -> Prior:
    """The prior of the ratio's parameters alone; what else it holds is drawn with them."""
    known = Prior.of(prior)
    named = {name: shape for name, shape in known.shapes.items() if name in ratio.parameters}
    ratio.layout.check_names(named, f"{caller}, prior")
    for name, own in ratio.parameters.items():
        if tuple(named[name]) != own:
            raise ValueError(
                f"{caller}: parameter {name!r} of the ratio has shape {own}, its prior has shape "
                f"{named[name]}. Every data set has its own posterior under one prior: give the "
                f"prior of a single {name}, and the data sets along the first axes of x."
            )
    return Prior({name: known.variables[name] for name in ratio.parameters}, ratio.parameters)
