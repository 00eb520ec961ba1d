"""What a model gives to a ratio as its parameters, draw by draw of a posterior.

A posterior holds the model's own variables; a `RatioLikelihood` may be given any expressions in
them, such as the mean of a group at each of its observations. They are evaluated here.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pymc as pm
import pytensor
import xarray as xr
from pymc.variational.minibatch_rv import MinibatchRandomVariable, get_scaling

from ..estimators.estimator import RatioEstimator
from ..ops.guards import packed_rows
from .random_variable import RatioLikelihoodRV

__all__ = ["likelihoods_of", "model_in_use", "parameters_of_draws", "ratios_of", "trials_of"]


def model_in_use(model: pm.Model | None) -> pm.Model | None:
    """That model, or the one in context, if there is one."""
    return pm.Model.get_context(error_if_none=False) if model is None else model


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


def _own(variable: Any) -> Any:
    """The node of a likelihood, out of what PyMC wraps around it for ``total_size=``."""
    node = variable.owner
    return node.inputs[0].owner if isinstance(node.op, MinibatchRandomVariable) else node


def parameters_of_draws(
    posterior: xr.Dataset, ratio: RatioEstimator, model: pm.Model | None
) -> np.ndarray:
    """Packed parameters ``(chains * draws, rows, D)``; a row for each that the model gives.

    Raises
    ------
    ValueError
        If the parameters cannot be found.
    """
    found = [] if model is None else likelihoods_of(model, ratio)
    if found:
        parts = [_evaluate(posterior, model, ratio, variable) for variable in found]
        return np.concatenate(parts, axis=1)
    missing = [name for name in ratio.parameters if name not in posterior]
    if missing:
        raise ValueError(
            f"The posterior has no variables called {', '.join(missing)}, and there is no model "
            "with a RatioLikelihood of this ratio to compute them from. Pass model=model."
        )
    stacked = posterior[list(ratio.parameters)].stack(sample=("chain", "draw"))
    values = [stacked[name].transpose("sample", ...).to_numpy() for name in ratio.parameters]
    theta = packed_rows(ratio, values)
    return theta.reshape(len(theta), -1, theta.shape[-1])


def _evaluate(
    posterior: xr.Dataset, model: pm.Model, ratio: RatioEstimator, variable: Any
) -> np.ndarray:
    """The likelihood's own parameter expressions at every draw, ``(draws, rows, D)``."""
    expressions = _own(variable).op.dist_params(_own(variable))
    absent = [free.name for free in model.free_RVs if free.name not in posterior]
    if absent:
        raise ValueError(
            f"The posterior lacks {', '.join(absent)}, free variables of the model. Pass the model "
            "that was sampled."
        )
    stacked = posterior.stack(sample=("chain", "draw"))
    draws = [stacked[free.name].transpose("sample", ...).to_numpy() for free in model.free_RVs]
    function = pytensor.function(
        model.free_RVs, expressions, on_unused_input="ignore", mode="FAST_COMPILE"
    )
    rows = [packed_rows(ratio, function(*values)) for values in zip(*draws, strict=True)]
    theta = np.stack(rows)
    return theta.reshape(len(theta), -1, theta.shape[-1])


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
        rows = _evaluate(posterior, model, ratio, variable)
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
