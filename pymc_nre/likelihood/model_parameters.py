"""What a model gives to a ratio as its parameters, draw by draw of a posterior.

A posterior holds the model's own variables; a `RatioLikelihood` may be given any expressions in
them, such as the mean of a group at each of its observations. They are evaluated here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pymc as pm
import pytensor
import xarray as xr
from pymc.variational.minibatch_rv import MinibatchRandomVariable, get_scaling
from pytensor.graph.replace import clone_replace

from ..estimators.estimator import RatioEstimator
from ..ops.prior_check import packed_rows
from ..runtime.kinds import check_kind
from .random_variable import RatioLikelihoodRV

__all__ = [
    "are_held_back",
    "check_model",
    "expressions_of",
    "likelihoods_of",
    "model_in_use",
    "ratios_of",
    "rows_of_draws",
    "trials_of",
]


def check_model(model: Any, name: str) -> None:
    """Raise TypeError unless it is a model."""
    remedy = "Pass the model itself, as in `with pm.Model() as model:`."
    check_kind(model, pm.Model, name, "a pymc.Model", remedy)


def model_in_use(model: pm.Model | None, who: str) -> pm.Model | None:
    """That model, or the one in context, if there is one."""
    if model is None:
        return pm.Model.get_context(error_if_none=False)
    check_model(model, f"{who}: model")
    return model


def likelihoods_of(model: pm.Model, ratio: RatioEstimator) -> list[Any]:
    """The variables of a model whose likelihood is this ratio."""
    return [
        variable
        for variable in model.observed_RVs
        if isinstance(_own(variable).op, RatioLikelihoodRV) and _own(variable).op.ratio == ratio
    ]


def ratios_of(model: pm.Model) -> dict[str, RatioEstimator]:
    """The ratio of each `RatioLikelihood` of a model, by the name of the variable."""
    nodes = {variable.name: _own(variable) for variable in model.observed_RVs}
    return {k: node.op.ratio for k, node in nodes.items() if isinstance(node.op, RatioLikelihoodRV)}


def expressions_of(model: pm.Model, ratio: RatioEstimator) -> list[list[Any]]:
    """What a model gives to a ratio: the parameters of each of its likelihoods, in their order.

    Where it has none, the variables that are called as the parameters.
    """
    found = likelihoods_of(model, ratio)
    if found:
        return [_own(variable).op.dist_params(_own(variable)) for variable in found]
    return [[model[name] for name in ratio.parameters]]


def are_held_back(model: pm.Model | None, ratio: RatioEstimator) -> bool:
    """Whether all likelihoods of this ratio keep parameters from leaving its domain."""
    found = [] if model is None else likelihoods_of(model, ratio)
    policies = {_own(variable).op.outside for variable in found}
    return bool(policies) and policies <= {"repel", "reject"}


def _own(variable: Any) -> Any:
    """The node of a likelihood, out of what PyMC wraps around it for ``total_size=``."""
    node = variable.owner
    return node.inputs[0].owner if isinstance(node.op, MinibatchRandomVariable) else node


def rows_of_draws(
    posterior: xr.Dataset, ratio: RatioEstimator, model: pm.Model | None
) -> Iterator[np.ndarray]:
    """Packed parameters ``(rows, D)`` of one draw after another; a row for each the model gives.

    Raises
    ------
    ValueError
        If the parameters cannot be found.
    """
    found = [] if model is None else likelihoods_of(model, ratio)
    if found:
        evaluated = zip(*(_evaluated(posterior, model, ratio, each) for each in found), strict=True)
        return (np.concatenate(parts) for parts in evaluated)
    missing = [name for name in ratio.parameters if name not in posterior]
    if missing:
        where = (
            "no model was given with a RatioLikelihood of this ratio to compute them from. Pass "
            "model=model"
            if model is None
            else "the model that was given has no RatioLikelihood of this ratio to compute them "
            "from. Pass the model as it was written, before variables were marginalized or "
            "replaced, and the ratio that it uses"
        )
        raise ValueError(
            f"The posterior has no variables called {', '.join(missing)}, and {where}."
        )
    draws = _draws_of(posterior, ratio.parameters)
    return (packed_rows(ratio, draw).reshape(-1, ratio.layout.size) for draw in draws)


def _evaluated(
    posterior: xr.Dataset, model: pm.Model, ratio: RatioEstimator, variable: Any
) -> Iterator[np.ndarray]:
    """The likelihood's own parameter expressions ``(rows, D)`` at one draw after another."""
    expressions = _own(variable).op.dist_params(_own(variable))
    absent = [rv.name for rv in model.free_RVs if rv.name not in posterior]
    if absent:
        raise ValueError(
            f"The posterior lacks {', '.join(absent)}, free variables of the model. Pass the model "
            "that was sampled."
        )
    given = {rv: model.rvs_to_values[rv].astype(rv.dtype) for rv in model.observed_RVs}
    free = [rv.type() for rv in model.free_RVs]
    replace = given | dict(zip(model.free_RVs, free, strict=True))
    expressions = clone_replace(expressions, replace=replace, rebuild_strict=False)
    function = pytensor.function(free, expressions, on_unused_input="ignore", mode="FAST_COMPILE")
    draws = _draws_of(posterior, [rv.name for rv in model.free_RVs])
    return (packed_rows(ratio, function(*draw)).reshape(-1, ratio.layout.size) for draw in draws)


def _draws_of(posterior: xr.Dataset, names: Iterable[str]) -> Iterator[tuple[np.ndarray, ...]]:
    """The values of these variables at one draw after another, chain by chain."""
    values = [posterior[name].transpose("chain", "draw", ...).to_numpy() for name in names]
    for chain, draw in np.ndindex(posterior.sizes["chain"], posterior.sizes["draw"]):
        yield tuple(value[chain, draw] for value in values)


def trials_of(
    posterior: xr.Dataset, ratio: RatioEstimator, model: pm.Model
) -> tuple[np.ndarray, np.ndarray]:
    """Parameters ``(draws, groups, D)``, and how many observations each group has, ``(groups,)``.

    Observations with the same parameters make a group.

    Raises
    ------
    ValueError
        If no variable of the model has this ratio.
    """
    found = likelihoods_of(model, ratio)
    if not found:
        raise ValueError(
            "The model has no RatioLikelihood of this ratio. Pass the ratio and the model that the "
            "posterior was sampled with (a ratio in a potential cannot be found: use "
            "RatioLikelihood)."
        )
    theta, trials = [], []
    for variable in found:
        rows = np.stack(list(_evaluated(posterior, model, ratio, variable)))
        over_draws = rows.swapaxes(0, 1).reshape(rows.shape[1], -1)
        _, first, counts = np.unique(over_draws, axis=0, return_index=True, return_counts=True)
        theta.append(rows[:, first])
        trials.append(counts * _number_of_trials(model, variable, ratio) / rows.shape[1])
    return np.concatenate(theta, axis=1), np.concatenate(trials)


def _number_of_trials(model: pm.Model, variable: Any, ratio: RatioEstimator) -> float:
    """Observations of a likelihood; of a minibatch as many as it stands for."""
    shape = np.shape(model.rvs_to_values[variable].eval(mode="FAST_COMPILE"))
    trials = math.prod(shape[: len(shape) - len(ratio.event_shape)])
    if not isinstance(variable.owner.op, MinibatchRandomVariable):
        return trials
    total = variable.owner.inputs[1:]
    return trials * float(get_scaling(total, shape).eval(mode="FAST_COMPILE"))
