r"""Posteriors of many data sets at once, without MCMC.

A ratio is amortized: :math:`\log r(\theta, x)` of any parameters and observations costs one
pass through a small network. Where :math:`\theta` is one or two numbers the posterior

.. math:: p(\theta \mid x_1 \dots x_n) \propto p(\theta) \prod_i r(\theta, x_i)

can simply be tabulated (`posterior_grid`); with more numbers, draws of the prior can be
weighted by :math:`\prod_i r(\theta, x_i)` while the data say little (`weighted_draws`). Both
take thousands of data sets, each with a posterior of its own, in the time that MCMC takes to
warm up for one.

Parameters outside of the training domain have no weight, as in `RatioLikelihood`.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from scipy.special import logsumexp

from .estimator import RatioEstimator, check_event_shape
from .grids import Axis, boxes, cells, edges_with_mass, product, summarize, within
from .guard import warn_if_prior_leaves
from .prior import Prior

__all__ = ["PosteriorWarning", "posterior_grid", "resample", "weighted_draws"]

_ROWS = 4_096  # evaluated at once: 2 MB for each layer of 64, which stays in the cache
_NUMBERS = 2**20  # of observations copied at once, 8 MB: large observations go in smaller blocks
_CHUNK = 2**19  # grid points of all data sets at once: 4 MB for each number
_DOMAIN_ROWS = 2**15  # the domain check takes 32 numbers for each parameter
_PRIOR_DRAWS = 1_000
_POINTS = {1: 200, 2: 80}  # of each axis; a box of 25 standard deviations gets 3 points for each
_FEWEST_CELLS = 2.5  # that share the mass: a normal density with cells of 1.4 standard deviations
_FEWEST_DRAWS = 100  # effective; the Monte Carlo error is then a tenth of the sd
_SUMMARIES = ("weight", "ess", "log_evidence", "mean", "sd")


class PosteriorWarning(UserWarning):
    """A posterior is cut off, not resolved by its grid, or rests on too few draws."""


@dataclass(frozen=True)
class _DataSets:
    """Observations ``(S, trials, *event)``, and the batch ``(*batch,)`` that S came from."""

    rows: np.ndarray
    shape: tuple[int, ...]
    dims: tuple[str, ...]
    coords: Mapping[str, Any]

    @classmethod
    def of(cls, ratio: RatioEstimator, x: Any, trials: bool, caller: str) -> _DataSets:
        data = np.asarray(x, dtype=float)
        check_event_shape(ratio.event_shape, data.shape, caller)
        batch = data.shape[: data.ndim - len(ratio.event_shape)]
        if trials and not batch:
            raise ValueError(
                f"{caller}: with trials=True x must have shape (*batch, trials, *event), got "
                f"{data.shape}. Leave trials=True out for a single observation."
            )
        if not data.size:
            raise ValueError(f"{caller}: x must hold at least one observation, got {data.shape}.")
        if not np.isfinite(data).all():
            raise ValueError(
                f"{caller}: x has {(~np.isfinite(data)).sum():,} NaN or infinite values. A ratio "
                "is not a density in x and cannot impute them. Leave out incomplete observations."
            )
        shape = batch[:-1] if trials else batch
        rows = data.reshape(math.prod(shape), batch[-1] if trials else 1, *ratio.event_shape)
        if not isinstance(x, xr.DataArray):
            return cls(rows, shape, tuple(f"x_dim_{i}" for i in range(len(shape))), {})
        dims = tuple(map(str, x.dims[: len(shape)]))
        return cls(rows, shape, dims, {dim: x.coords[dim] for dim in dims if dim in x.coords})

    def variable(self, values: np.ndarray, *dims: str) -> tuple[tuple[str, ...], np.ndarray]:
        """Values ``(S, *)`` as a variable with dimensions ``(*batch, *dims)``."""
        return (*self.dims, *dims), values.reshape((*self.shape, *values.shape[1:]))


def posterior_grid(
    ratio: RatioEstimator,
    x: Any,
    prior: Any,
    *,
    points: int | None = None,
    trials: bool = False,
    bounds: Mapping[str, tuple[Any, Any]] | None = None,
    quantiles: Sequence[float] = (0.05, 0.5, 0.95),
) -> xr.Dataset:
    r"""Tabulate the posterior of one or two numbers, for each of many data sets.

    Parameters
    ----------
    ratio : RatioEstimator
        Of one or two numbers: scalars, or one vector of length 2.
    x : array or xarray.DataArray, shape (*batch, *event)
        Each entry of the batch is a data set of its own, with a posterior of its own.
    prior : pymc.Model or dict of str to ``pm.X.dist()``
        Over the parameters of the ratio; it need not be the training prior.
    points : int, optional
        Grid points for each number; by default 200 for one number, 80 by 80 for two.
        An integer parameter has a point for each integer instead.
    trials : bool
        Whether the last axis of the batch, ``x`` being ``(*batch, trials, *event)``, holds
        independent trials of one data set, whose log ratios are summed.
    bounds : mapping of str to (lower, upper), optional
        A fixed range for each parameter; scalars, or arrays of its own shape. By default
        the range is searched for each data set, within the training domain and the prior.
    quantiles : sequence of float
        Which to compute.

    Returns
    -------
    xarray.Dataset
        ``density`` (\*batch, mu_point, ...), which integrates to one; for integers,
        probabilities. The coordinates of the points, midpoints of cells of equal width, are
        called ``mu_grid`` and so on, (\*batch, mu_point), or (mu_point) with ``bounds``.
        ``mean``, ``sd`` (\*batch, parameter); ``quantile`` (\*batch, probability, parameter);
        ``cut`` (\*batch, parameter, side): the posterior was cut off where the prior goes on.
        ``log_evidence`` (\*batch) is the log of :math:`\int p(\theta) \prod_i r(\theta, x_i)
        d\theta`: between two priors and one ratio its difference is a log Bayes factor.

    Raises
    ------
    ValueError
        If the ratio has more than two numbers, if shapes or names do not fit, or if prior
        and training domain do not overlap.

    Warns
    -----
    DomainWarning
        If a noteworthy share of the prior lies outside of the training domain.
    PosteriorWarning
        If a posterior is cut off by the domain or by ``bounds``, or narrower than the cells.

    Examples
    --------
    >>> import numpy as np
    >>> import pymc as pm
    >>> import pymc_nre as nre
    >>> from pymc_nre import posterior_grid
    >>> ratio = nre.tasks.GaussianMean().estimator()
    >>> x = np.array([[1.0, 2.0], [-3.0, -4.0]])  # two data sets of two trials
    >>> posterior = posterior_grid(ratio, x, {"mu": pm.Normal.dist(0, 2)}, trials=True)
    >>> posterior["mean"].sel(parameter="mu").round(3).values
    array([ 1.333, -3.111])
    """
    caller = "posterior_grid"
    data = _DataSets.of(ratio, x, trials, caller)
    target = _Target(ratio, _prior_of_parameters(ratio, prior, caller))
    _check_density(ratio, prior, caller)
    axes = _axes(target, bounds, caller)
    points = _checked_points(points, len(axes))
    draws = target.draw(_PRIOR_DRAWS, random_seed=0)
    warn_if_prior_leaves(caller, ratio, target.prior.variables, "reject")
    if bounds is None:
        axes = within(target.log_prior_inside, axes, draws)
    parts = []
    for start in range(0, len(data.rows), _per_chunk(points, axes)):
        rows = data.rows[start : start + _per_chunk(points, axes)]
        parts.append(_tabulate(target, rows, axes, draws, points, bounds, np.asarray(quantiles)))
    columns, summaries = zip(*parts, strict=True)
    beyond = edges_with_mass(target.log_prior, axes, draws)
    result = _grid_dataset(data, axes, columns, summaries, beyond, quantiles, bounds is not None)
    _warn_of_grids(result, summaries, axes, bounds)
    return result


@dataclass(frozen=True)
class _Target:
    """A prior over a ratio's parameters, and their posterior, on packed parameters."""

    ratio: RatioEstimator
    prior: Prior

    def draw(self, n: int, random_seed: Any) -> np.ndarray:
        """Packed draws ``(n, D)``."""
        import pymc as pm

        variables = [self.prior.variables[name] for name in self.ratio.parameters]
        # PyTensor's Python linker: compiled once for one call, and every distribution has it.
        drawn = pm.draw(variables, draws=n, random_seed=random_seed, mode="FAST_COMPILE")
        rows = {
            name: np.reshape(draw, (n, *own))  # a single draw comes without its axis
            for (name, own), draw in zip(self.ratio.parameters.items(), drawn, strict=True)
        }
        return self.ratio.layout.pack(rows)

    def log_prior(self, theta: np.ndarray) -> np.ndarray:
        """Log prior densities ``(*,)`` of ``(*, D)``."""
        flat = theta.reshape(-1, theta.shape[-1])
        return self.prior.log_density(self.ratio.layout.unpack(flat)).reshape(theta.shape[:-1])

    def log_prior_inside(self, theta: np.ndarray) -> np.ndarray:
        """The same, and minus infinity outside of the training domain."""
        flat = theta.reshape(-1, theta.shape[-1])
        inside = _inside(self.ratio, flat)
        log_prior = np.full(len(flat), -np.inf)
        if inside.any():
            log_prior[inside] = self.log_prior(flat[inside])
        return log_prior.reshape(theta.shape[:-1])

    def log_posterior(self, theta: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Unnormalized, ``(S, P)`` at ``(S or 1, P, D)``, of data sets ``(S, trials, *event)``."""
        log_prior = self.log_prior_inside(theta)
        log_ratio = _summed_log_ratio(self.ratio, theta, rows)
        log_posterior = np.where(np.isfinite(log_prior), log_prior + log_ratio, -np.inf)
        _check_values(log_posterior)
        return log_posterior


def _check_values(values: np.ndarray) -> None:
    bad = np.isnan(values).any(1) | ~np.isfinite(values).any(1)
    if bad.any():
        raise ValueError(
            f"The ratio of {bad.sum():,} data sets (first: number {bad.argmax()}) is NaN, or zero "
            "at every parameter inside of prior and training domain. Look at those observations: "
            "simulations must have been able to produce them."
        )


def _inside(ratio: RatioEstimator, theta: np.ndarray) -> np.ndarray:
    """Whether ``(n, D)`` is in the training domain, ``(n,)``, in bounded memory."""
    starts = range(0, len(theta), _DOMAIN_ROWS)
    return np.concatenate([ratio.domain.inside(theta[i : i + _DOMAIN_ROWS]) for i in starts])


def _summed_log_ratio(ratio: RatioEstimator, theta: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Sums over trials ``(S, P)`` at ``(S or 1, P, D)``, of data sets ``(S, trials, *event)``.

    A block of observations is copied for as many points as fill a batch. The copies stay
    the same from batch to batch, so that the evaluator embeds them once.
    """
    sets, trials = rows.shape[:2]
    points, size = theta.shape[1:]
    observations = rows.reshape(sets * trials, *rows.shape[2:])
    owners = np.repeat(np.arange(sets), trials)
    theta = np.broadcast_to(theta, (sets, points, size))
    most = max(1, min(_ROWS, _NUMBERS // max(1, math.prod(rows.shape[2:]))))
    total = np.zeros((sets, points))
    for start in range(0, len(observations), most):
        x, owner = observations[start : start + most], owners[start : start + most]
        first_of_set = np.flatnonzero(np.diff(owner, prepend=-1))
        copies = min(points, max(1, most // len(x)))
        copied = np.repeat(x, copies, axis=0)
        for left in range(0, points, copies):
            part = theta[owner, left : left + copies]
            if part.shape[1] < copies:
                copied = np.repeat(x, part.shape[1], axis=0)
            value = ratio.evaluator.value(part.reshape(-1, size), copied).reshape(len(x), -1)
            summed = np.add.reduceat(value, first_of_set, axis=0)
            total[owner[0] : owner[-1] + 1, left : left + copies] += summed
    return total


def _prior_of_parameters(ratio: RatioEstimator, prior: Any, caller: str) -> Prior:
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


def _check_density(ratio: RatioEstimator, prior: Any, caller: str) -> None:
    """Raise ValueError if the density of the ratio's parameters would take an integral."""
    known = Prior.of(prior)
    if known.marginal(list(ratio.parameters)) is None:
        others = ", ".join(name for name in known.shapes if name not in ratio.parameters)
        raise ValueError(
            f"{caller}: the prior of {', '.join(ratio.parameters)} depends on {others}, and its "
            "density would take an integral over them. Use weighted_draws, which needs draws only, "
            "or RatioLikelihood and MCMC."
        )


def _axes(target: _Target, bounds: Mapping[str, Any] | None, caller: str) -> list[Axis]:
    layout, domain = target.ratio.layout, target.ratio.domain
    if layout.size > 2:
        raise ValueError(
            f"{caller}: a grid takes one or two numbers, and the ratio has {layout.size}: "
            f"{', '.join(layout.labels)}. Use weighted_draws, or RatioLikelihood and MCMC."
        )
    if bounds is None:
        lower, upper = domain.lower, domain.upper
    else:
        lower, upper = _packed_bounds(target.ratio, bounds, caller)
    counted = _integer_numbers(target, caller)
    ends = zip(layout.labels, lower, upper, counted, strict=True)
    return [Axis(label, float(low), float(high), integer) for label, low, high, integer in ends]


def _packed_bounds(
    ratio: RatioEstimator, bounds: Mapping[str, Any], caller: str
) -> tuple[np.ndarray, np.ndarray]:
    ratio.layout.check_names(bounds, f"{caller}, bounds")
    pairs = {name: [np.asarray(end, dtype=float) for end in pair] for name, pair in bounds.items()}
    lower, upper = (
        ratio.layout.pack(
            {name: np.broadcast_to(pairs[name][k], own) for name, own in ratio.parameters.items()}
        )
        for k in (0, 1)
    )
    if not (np.isfinite(lower) & np.isfinite(upper) & (lower < upper)).all():
        raise ValueError(
            f"{caller}: bounds must be finite pairs (lower, upper) with lower < upper, got "
            f"{dict(bounds)}."
        )
    return lower, upper


def _integer_numbers(target: _Target, caller: str) -> list[bool]:
    """For each packed number, whether its prior is over integers."""
    counted = []
    for name, own in target.ratio.parameters.items():
        discrete = np.dtype(target.prior.variables[name].type.dtype).kind in "biu"
        if name in target.ratio.layout.integer and not discrete:
            raise ValueError(
                f"{caller}: {name!r} was an integer in training, so its prior must be discrete, "
                "such as pm.Poisson.dist or pm.DiscreteUniform.dist; got a continuous one."
            )
        counted += [discrete] * math.prod(own)
    return counted


def _checked_points(points: int | None, axes: int) -> int:
    points = _POINTS[axes] if points is None else points
    if points < 2:
        raise ValueError(f"posterior_grid: points must be at least 2, got {points}.")
    return points


def _sizes(points: int, axes: Sequence[Axis]) -> list[int]:
    ends = np.zeros(1)
    return [axis.cells(ends, ends, points).shape[1] for axis in axes]


def _per_chunk(points: int, axes: Sequence[Axis]) -> int:
    return max(1, _CHUNK // math.prod(_sizes(points, axes)))


def _tabulate(
    target: _Target,
    rows: np.ndarray,
    axes: Sequence[Axis],
    draws: np.ndarray,
    points: int,
    bounds: Any,
    quantiles: np.ndarray,
) -> tuple[list[np.ndarray], Any]:
    """Coordinates and summary of a chunk of data sets."""
    lower = np.array([[axis.lower for axis in axes]])
    upper = np.array([[axis.upper for axis in axes]])
    if bounds is None:
        lower, upper = boxes(
            lambda theta, which: target.log_posterior(theta, rows[which]), axes, draws, len(rows)
        )
    columns = cells(axes, lower, upper, points)
    sizes = [column.shape[1] for column in columns]
    values = target.log_posterior(product(columns), rows).reshape(len(rows), *sizes)
    widths = np.where([axis.integer for axis in axes], 1.0, (upper - lower) / points)
    widths = np.broadcast_to(widths, (len(rows), len(axes)))
    columns = [np.broadcast_to(c, (len(rows), c.shape[1])) for c in columns]
    return columns, summarize(values, columns, widths, quantiles, axes)


def _grid_dataset(
    data: _DataSets,
    axes: Sequence[Axis],
    columns: Sequence[Sequence[np.ndarray]],
    summaries: Sequence[Any],
    beyond: np.ndarray,
    quantiles: Sequence[float],
    fixed: bool,
) -> xr.Dataset:
    def joined(name: str) -> np.ndarray:
        return np.concatenate([getattr(summary, name) for summary in summaries])

    dims = [f"{axis.label}_point" for axis in axes]
    coords: dict[str, Any] = dict(data.coords)
    for axis, dim, column in zip(axes, dims, zip(*columns, strict=True), strict=True):
        values = (dim, column[0][0]) if fixed else data.variable(np.concatenate(column), dim)
        coords[f"{axis.label}_grid"] = values
    return xr.Dataset(
        {
            "density": data.variable(joined("density"), *dims),
            "mean": data.variable(joined("mean"), "parameter"),
            "sd": data.variable(joined("sd"), "parameter"),
            "quantile": data.variable(joined("quantiles"), "probability", "parameter"),
            "log_evidence": data.variable(joined("log_mass")),
            "cut": data.variable(joined("at_edge") & beyond, "parameter", "side"),
        },
        coords=coords
        | {
            "parameter": [axis.label for axis in axes],
            "probability": list(quantiles),
            "side": ["lower", "upper"],
        },
    )


def _warn_of_grids(
    result: xr.Dataset, summaries: Sequence[Any], axes: Sequence[Axis], bounds: Any
) -> None:
    cut = result["cut"].to_numpy().reshape(-1, len(axes), 2)
    if cut.any():
        where = ", ".join(
            f"{axis.label} at {end:.4g} ({cut[:, i, k].sum():,})"
            for i, axis in enumerate(axes)
            for k, end in enumerate((axis.lower, axis.upper))
            if cut[:, i, k].any()
        )
        why = ("training domain", "Train on a wider prior.") if bounds is None else ("bounds", "")
        _warn(
            f"posterior_grid: {cut.any((1, 2)).sum():,} of {len(cut):,} posteriors are cut off by "
            f"the {why[0]} where the prior goes on: {where}. {why[1] or 'Widen bounds=.'} "
            "The variable cut says which."
        )
    continuous = [i for i, axis in enumerate(axes) if not axis.integer]
    shared = np.concatenate([summary.effective_cells for summary in summaries])[:, continuous]
    coarse = (shared < _FEWEST_CELLS).any(1)
    if coarse.any():
        _warn(
            f"posterior_grid: {coarse.sum():,} of {len(coarse):,} posteriors are narrower than the "
            "cells of the grid. Raise points=, or leave bounds= out to have the range searched."
        )


def weighted_draws(
    ratio: RatioEstimator,
    x: Any,
    prior: Any = None,
    *,
    draws: int = 10_000,
    trials: bool = False,
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
    data = _DataSets.of(ratio, x, trials, caller)
    _check_free(ratio, caller)
    if draws < 1:
        raise ValueError(f"{caller}: draws must be at least 1, got {draws}.")
    if prior is None:
        theta = ratio.domain.draws[:draws]
    else:
        target = _Target(ratio, _prior_of_parameters(ratio, prior, caller))
        warn_if_prior_leaves(caller, ratio, target.prior.variables, "reject")
        theta = target.draw(draws, np.random.default_rng(random_seed))
    log_weight = np.where(
        _inside(ratio, theta), _summed_log_ratio(ratio, theta[None], data.rows), -np.inf
    )
    _check_values(log_weight)
    result = _weighted_dataset(ratio, data, theta, log_weight)
    few = int((result["ess"] < _FEWEST_DRAWS).sum())
    if few:
        _warn(
            f"{caller}: {few:,} of {result['ess'].size:,} posteriors rest on fewer than "
            f"{_FEWEST_DRAWS} effective draws (fewest: {float(result['ess'].min()):.1f} of "
            f"{len(theta):,}): the data say much more than the prior. Use posterior_grid for one "
            "or two numbers, RatioLikelihood and MCMC, or give prior= and more draws=.",
            stacklevel=3,
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
    ratio: RatioEstimator, data: _DataSets, theta: np.ndarray, log_weight: np.ndarray
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
        "ess": data.variable(1 / (weight**2).sum(1)),
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
        With the group ``posterior``: parameters by name (chain, draw, *batch, *own).

    Raises
    ------
    ValueError
        If it is asked for fewer than one draw or chain.

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
    if draws < 1 or chains < 1:
        raise ValueError(
            f"resample: draws and chains must be at least 1, got draws={draws}, chains={chains}."
        )
    rng = np.random.default_rng(random_seed)
    weight = weighted["weight"].transpose(..., "draw")
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
    posterior = weighted[named].isel(draw=picked).drop_vars("draw").rename(sample="draw")
    coords = {dim: weighted.coords[dim] for dim in batch if dim in weighted.coords}
    coords |= {"chain": np.arange(chains), "draw": np.arange(draws)}
    return _for_arviz(posterior.assign_coords(coords).drop_vars("parameter", errors="ignore"))


def _systematic(weight: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """``n`` indices in random order, index i about ``n * weight[i]`` times."""
    below = np.cumsum(weight)
    positions = (np.arange(n) + rng.random()) / n * below[-1]
    return rng.permutation(np.minimum(np.searchsorted(below, positions), len(weight) - 1))


def _for_arviz(posterior: xr.Dataset) -> Any:
    import arviz as az

    if az.__version__.startswith("0."):
        return az.InferenceData(posterior=posterior)
    return xr.DataTree.from_dict({"posterior": posterior})


def _warn(message: str, stacklevel: int = 4) -> None:
    # Attributed to the line of the user, who called the function that called _warn's caller.
    warnings.warn(message, PosteriorWarning, stacklevel=stacklevel)
