r"""Posteriors of many data sets at once, without MCMC: tabulated on a grid.

A ratio is amortized: :math:`\log r(\theta, x)` of any parameters and observations costs one
pass through a small network. Where :math:`\theta` is one or two numbers the posterior

.. math:: p(\theta \mid x_1 \dots x_n) \propto p(\theta) \prod_i r(\theta, x_i)

can simply be tabulated, for thousands of data sets in the time that MCMC takes to warm up for
one. Parameters outside of the training domain have no weight, as in `RatioLikelihood`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from ..estimators.checks import check_ratio
from ..estimators.estimator import RatioEstimator
from ..exceptions import PosteriorWarning, warn
from ..ops.prior_check import warn_if_prior_leaves
from ..runtime.arrays import real_array, shares, whole_number
from ..simulation.prior import Prior
from .adaptive_grid import Axis, boxes, cells, edges_with_mass, product, summarize, within
from .data_sets import DataSets, Target, prior_of_parameters

__all__ = ["posterior_grid"]

_NAMES = {"density", "mean", "sd", "quantile", "log_evidence", "cut"}  # of the result
_NAMES |= {"parameter", "probability", "side"}
_CHUNK = 2**19  # grid points of all data sets at once: 4 MB for each number
_PRIOR_DRAWS = 1_000
_POINTS = {1: 200, 2: 80}  # of each axis; a box of 25 standard deviations gets 3 points for each
_FEWEST_CELLS = 2.5  # that share the mass: a normal density with cells of 1.4 standard deviations


def posterior_grid(
    ratio: RatioEstimator,
    x: Any,
    prior: Any,
    *,
    points: int | None = None,
    trials: bool = False,
    conditions: Mapping[str, Any] | None = None,
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
    conditions : mapping of str to array, shape (*batch, *own), optional
        Known inputs of the observations, by name, where the ratio was trained with conditions;
        a value for each observation, or one for all.
    bounds : mapping of str to (lower, upper), optional
        A fixed range for each parameter; scalars, or arrays of its own shape. By default
        the range is searched for each data set, within the training domain and the prior.
    quantiles : sequence of float
        Which to compute, from 0 to 1.

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
    TypeError, ValueError
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
    check_ratio(ratio, caller)
    axes = {f"{label}_{part}" for label in ratio.layout.labels for part in ("point", "grid")}
    data = DataSets.of(ratio, x, trials, caller, conditions, _NAMES | axes)
    prior = Prior.of(prior)  # once: it draws, to learn the shapes
    target = Target(ratio, prior_of_parameters(ratio, prior, caller))
    _check_density(ratio, prior, caller)
    axes = _axes(target, bounds, caller)
    points = _checked_points(points, len(axes))
    probabilities = shares(quantiles, f"{caller}: quantiles", ends=True)
    draws = target.draw(_PRIOR_DRAWS, random_seed=0)
    later = "a warning and by the variable cut of what comes back"
    warn_if_prior_leaves(caller, ratio, target.prior.variables, "reject", later=later)
    if bounds is None:
        axes = within(target.log_prior_inside, axes, draws)
    parts = []
    for start in range(0, len(data.rows), _per_chunk(points, axes)):
        rows = data.rows[start : start + _per_chunk(points, axes)]
        parts.append(_tabulate(target, rows, axes, draws, points, bounds, probabilities))
    columns, summaries = zip(*parts, strict=True)
    beyond = edges_with_mass(target.log_prior, axes, draws)
    fixed = bounds is not None
    result = _grid_dataset(data, axes, columns, summaries, beyond, probabilities, fixed)
    _warn_of_grids(result, summaries, axes, bounds)
    return result


def _check_density(ratio: RatioEstimator, known: Prior, caller: str) -> None:
    """Raise ValueError if the density of the ratio's parameters would take an integral."""
    if known.marginal(list(ratio.parameters)) is None:
        others = ", ".join(name for name in known.shapes if name not in ratio.parameters)
        others = others or "random variables without a name"
        raise ValueError(
            f"{caller}: the prior of {', '.join(ratio.parameters)} depends on {others}, and its "
            "density would take an integral over them. Use weighted_draws, which needs draws only, "
            "or RatioLikelihood and MCMC."
        )


def _axes(target: Target, bounds: Mapping[str, Any] | None, caller: str) -> list[Axis]:
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
    pairs = [_pair(bounds[name], own, name, caller) for name, own in ratio.parameters.items()]
    lower, upper = (
        ratio.layout.pack(dict(zip(ratio.parameters, ends, strict=True)))
        for ends in zip(*pairs, strict=True)
    )
    if not (np.isfinite(lower) & np.isfinite(upper) & (lower < upper)).all():
        raise ValueError(
            f"{caller}: bounds must be finite pairs (lower, upper) with lower < upper, got "
            f"{dict(bounds)}."
        )
    return lower, upper


def _pair(pair: Any, own: tuple[int, ...], name: str, caller: str) -> list[np.ndarray]:
    """Both ends, of the parameter's own shape; infinite ones are refused together with others."""
    try:
        ends = [real_array(end, f"{caller}: bounds: {name}") for end in pair]
        lower, upper = (np.broadcast_to(end, own) for end in ends)
    except (TypeError, ValueError) as error:
        raise type(error)(
            f"{caller}: bounds: {name}: expected a pair (lower, upper), scalars or arrays of shape "
            f"{own}, got {pair!r}."
        ) from error
    return [lower, upper]


def _integer_numbers(target: Target, caller: str) -> list[bool]:
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
    if points is None:
        return _POINTS[axes]
    return whole_number(points, "posterior_grid: points", least=2)


def _sizes(points: int, axes: Sequence[Axis]) -> list[int]:
    ends = np.zeros(1)
    return [axis.cells(ends, ends, points).shape[1] for axis in axes]


def _per_chunk(points: int, axes: Sequence[Axis]) -> int:
    return max(1, _CHUNK // math.prod(_sizes(points, axes)))


def _tabulate(
    target: Target,
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
    data: DataSets,
    axes: Sequence[Axis],
    columns: Sequence[Sequence[np.ndarray]],
    summaries: Sequence[Any],
    beyond: np.ndarray,
    probabilities: np.ndarray,
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
            "probability": probabilities,
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
        warn(
            f"posterior_grid: {cut.any((1, 2)).sum():,} of {len(cut):,} posteriors are cut off by "
            f"the {why[0]} where the prior goes on: {where}. {why[1] or 'Widen bounds=.'} "
            "The variable cut says which.",
            PosteriorWarning,
        )
    continuous = [i for i, axis in enumerate(axes) if not axis.integer]
    shared = np.concatenate([summary.effective_cells for summary in summaries])[:, continuous]
    coarse = (shared < _FEWEST_CELLS).any(1)
    if coarse.any():
        warn(
            f"posterior_grid: {coarse.sum():,} of {len(coarse):,} posteriors are narrower than the "
            "cells of the grid. Raise points=, or leave bounds= out to have the range searched.",
            PosteriorWarning,
        )
