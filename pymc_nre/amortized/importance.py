r"""Posteriors of many data sets at once, without MCMC: weighted draws of the prior.

Draws :math:`\theta_m` of the prior, weighted by :math:`\prod_i r(\theta_m, x_i)`, are draws of the
posterior: of any number of parameters, as long as the data do not say much more than the
prior. Parameters outside of the training domain have no weight, as in `RatioLikelihood`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from scipy.special import logsumexp

from ..compat import for_arviz
from ..estimators.checks import check_ratio
from ..estimators.estimator import RatioEstimator
from ..exceptions import PosteriorWarning, warn
from ..ops.prior_check import warn_if_prior_leaves
from ..runtime.arrays import finite_array, whole_number
from ..runtime.random_streams import generator_of
from .data_sets import (
    DataSets,
    Target,
    check_values,
    in_domain,
    prior_of_parameters,
    summed_log_ratio,
)
from .weights import effective_number

__all__ = ["resample", "weighted_draws"]

_FEWEST_DRAWS = 100  # effective; the Monte Carlo error is then a tenth of the sd
_SUMMARIES = ("weight", "ess", "log_evidence", "mean", "sd", "draw", "parameter")

_OF_DRAWS = ("chain", "sample")  # of what is resampled


def weighted_draws(
    ratio: RatioEstimator,
    x: Any,
    prior: Any = None,
    *,
    draws: int = 10_000,
    trials: bool = False,
    conditions: Mapping[str, Any] | None = None,
    random_seed: Any = None,
) -> xr.Dataset:
    r"""Weight draws of the prior into a posterior, for each of many data sets.

    Any number of parameters, as long as the data do not say much more than the prior:
    ``ess`` says on how many draws a posterior rests.

    Parameters
    ----------
    ratio : RatioEstimator
    x : array or xarray.DataArray, shape (*batch, *event)
        Each entry of the batch is a data set of its own, with a posterior of its own.
    prior : pymc.Model or dict of str to ``pm.X.dist()``, optional
        Over the parameters of the ratio, and whatever they depend on. By default the draws
        of the training prior that the ratio keeps.
    draws : int
        Of the prior; of the training prior at most the 10,000 that are kept.
    trials : bool
        Whether the last axis of the batch, ``x`` being ``(*batch, trials, *event)``, holds
        independent trials of one data set, whose log ratios are summed.
    conditions : mapping of str to array, shape (*batch, *own), optional
        Known inputs of the observations, by name, where the ratio was trained with conditions;
        a value for each observation, or one for all.
    random_seed : int, Generator or SeedSequence, optional

    Returns
    -------
    xarray.Dataset
        The parameters by name (draw, \*own), ``weight`` (\*batch, draw), which sums to one;
        ``ess`` (\*batch), the effective number of draws :math:`1 / \sum w^2`; ``mean`` and
        ``sd`` (\*batch, parameter); ``log_evidence`` (\*batch) as in `posterior_grid`.
        `resample` turns it into draws of equal weight.

    Raises
    ------
    ValueError
        If shapes or names do not fit, or no draw is inside of the training domain.

    Warns
    -----
    DomainWarning
        If a noteworthy share of the prior lies outside of the training domain.
    PosteriorWarning
        If a posterior rests on fewer than 100 effective draws.

    Examples
    --------
    >>> import numpy as np
    >>> import pymc as pm
    >>> import pymc_nre as nre
    >>> from pymc_nre import weighted_draws
    >>> ratio = nre.tasks.LinearGaussian().estimator()  # three numbers: no grid
    >>> posterior = weighted_draws(ratio, np.zeros((50, 4)), random_seed=1)  # 50 data sets
    >>> posterior["mean"].sizes["parameter"], bool((posterior["ess"] > 100).all())
    (3, True)
    """
    caller = "weighted_draws"
    check_ratio(ratio, caller)
    names = {*_SUMMARIES, *_OF_DRAWS, *ratio.parameters}
    data = DataSets.of(ratio, x, trials, caller, conditions, names)
    _check_free(ratio, caller)
    draws = whole_number(draws, f"{caller}: draws")
    if prior is None:
        theta = ratio.domain.draws[:draws]
    else:
        target = Target(ratio, prior_of_parameters(ratio, prior, caller))
        warn_if_prior_leaves(caller, ratio, target.prior.variables, "reject", tails=True)
        theta = target.draw(draws, generator_of(random_seed))
    log_weight = np.where(
        in_domain(ratio, theta),
        summed_log_ratio(ratio.evaluator, theta[None], data.rows, ratio.missing),
        -np.inf,
    )
    check_values(log_weight, data.rows)
    result = _weighted_dataset(ratio, data, theta, log_weight)
    few = int((result["ess"] < _FEWEST_DRAWS).sum())
    if few:
        warn(
            f"{caller}: {few:,} of {result['ess'].size:,} posteriors rest on fewer than "
            f"{_FEWEST_DRAWS} effective draws (fewest: {float(result['ess'].min()):.1f} of "
            f"{len(theta):,}): the data say much more than the prior. Use posterior_grid for one "
            "or two numbers, RatioLikelihood and MCMC, or give prior= and more draws=.",
            PosteriorWarning,
        )
    return result


def _check_free(ratio: RatioEstimator, caller: str) -> None:
    clashes = [name for name in ratio.parameters if name in _SUMMARIES]
    if clashes:
        raise ValueError(
            f"{caller}: its result has variables {', '.join(_SUMMARIES)} beside the parameters, so "
            f"these cannot be called {', '.join(clashes)}. Use posterior_grid or RatioLikelihood, "
            "or rename them in training."
        )


def _weighted_dataset(
    ratio: RatioEstimator, data: DataSets, theta: np.ndarray, log_weight: np.ndarray
) -> xr.Dataset:
    log_sum = logsumexp(log_weight, axis=1, keepdims=True)
    weight = np.exp(log_weight - log_sum)
    mean = weight @ theta
    # about the mean of all draws: the squares of large numbers would cancel
    shift = theta.mean(0)
    variance = weight @ (theta - shift) ** 2 - (mean - shift) ** 2
    named = {
        name: (("draw", *(f"{name}_dim_{i}" for i in range(value.ndim - 1))), value)
        for name, value in ratio.layout.unpack(theta).items()
    }
    summaries = {
        "weight": data.variable(weight, "draw"),
        "ess": data.variable(effective_number(weight)),
        "log_evidence": data.variable(log_sum[:, 0] - math.log(len(theta))),
        "mean": data.variable(mean, "parameter"),
        "sd": data.variable(np.sqrt(np.maximum(variance, 0.0)), "parameter"),
    }
    coords = {**data.coords, "parameter": ratio.layout.labels, "draw": np.arange(len(theta))}
    return xr.Dataset(named | summaries, coords=coords)


def resample(
    weighted: xr.Dataset, *, draws: int = 1_000, chains: int = 4, random_seed: Any = None
) -> Any:
    """Draws of equal weight from `weighted_draws`, as ArviZ takes them.

    Drawn systematically, in random order: each draw is repeated as often as its weight says,
    up to one time. With few effective draws there are many repetitions, which the ESS that
    ArviZ computes does not see: ``weighted["ess"]`` is the number to report.

    Parameters
    ----------
    weighted : xarray.Dataset
        From `weighted_draws`.
    draws, chains : int
        Of each chain; chains are only a form here.
    random_seed : int, Generator or SeedSequence, optional

    Returns
    -------
    InferenceData or DataTree
        With the group ``posterior``: parameters by name ``(chain, draw, *batch, *own)``.

    Raises
    ------
    TypeError, ValueError
        If it is asked for fewer than one draw or chain, or ``weighted`` is something else.

    Examples
    --------
    >>> import numpy as np
    >>> import pymc_nre as nre
    >>> from pymc_nre import resample, weighted_draws
    >>> ratio = nre.tasks.GaussianMean().estimator()
    >>> idata = resample(weighted_draws(ratio, np.zeros(5)), draws=500, random_seed=1)
    >>> idata["posterior"]["mu"].dims
    ('chain', 'draw', 'x_dim_0')
    """
    draws = whole_number(draws, "resample: draws")
    chains = whole_number(chains, "resample: chains")
    rng = generator_of(random_seed)
    weight = _weight(weighted)
    batch = weight.dims[:-1]
    index = np.stack(
        [
            _systematic(row, draws * chains, rng)
            for row in weight.values.reshape(-1, weight.shape[-1])
        ]
    )
    index = index.T.reshape(chains, draws, *weight.shape[:-1])
    picked = xr.DataArray(index, dims=("chain", "sample", *batch))
    named = [n for n, v in weighted.items() if "draw" in v.dims and n != "weight"]
    posterior = (
        weighted[named].isel(draw=picked).drop_vars("draw", errors="ignore").rename(sample="draw")
    )
    coords = {dim: weighted.coords[dim] for dim in batch if dim in weighted.coords}
    coords |= {"chain": np.arange(chains), "draw": np.arange(draws)}
    return for_arviz(posterior.assign_coords(coords).drop_vars("parameter", errors="ignore"))


def _weight(weighted: Any) -> xr.DataArray:
    """The weights ``(*batch, draw)`` of what `weighted_draws` gave."""
    if not isinstance(weighted, xr.Dataset) or "draw" not in getattr(
        weighted.get("weight"), "dims", ()
    ):
        raise TypeError(
            "resample: weighted: expected the dataset that weighted_draws returns, with a variable "
            f"weight (..., draw), got {type(weighted).__name__}."
        )
    weight = weighted["weight"].transpose(..., "draw")
    values = finite_array(weight, "resample: weighted")
    if not values.size:
        raise ValueError(f"resample: weighted: expected draws of data sets, got {values.shape}.")
    if (values < 0).any() or not (values.sum(-1) > 0).all():
        raise ValueError(
            "resample: weighted: expected weights of which none is negative and some are positive, "
            "for each data set. Take them as weighted_draws returns them."
        )
    return weight


def _systematic(weight: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """``n`` indices in random order, index i about ``n * weight[i]`` times."""
    below = np.cumsum(weight)
    positions = (np.arange(n) + rng.random()) / n * below[-1]
    return rng.permutation(np.minimum(np.searchsorted(below, positions), len(weight) - 1))
