"""What a model gives to a ratio as its parameters, draw by draw of a posterior.

A posterior holds the model's own variables; a `RatioLikelihood` may be given any expressions in
them, such as the mean of a group at each of its observations. They are evaluated here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import pymc as pm
import pytensor
import xarray as xr
from pymc.variational.minibatch_rv import MinibatchRandomVariable, get_scaling
from pytensor.graph.replace import clone_replace

from ..estimators.estimator import RatioEstimator
from ..ops.guards import HELD_BACK
from ..ops.prior_check import packed_rows
from ..runtime.kinds import check_kind
from .random_variable import RatioLikelihoodRV

__all__ = [
    "are_held_back",
    "check_model",
    "columns_of",
    "conditions_of",
    "data_graphs",
    "data_of",
    "direct_likelihoods_of",
    "expressions_of",
    "likelihoods_of",
    "model_in_use",
    "of_free_variables",
    "own_node",
    "packed_values",
    "parameters_of",
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
    return [rv for rv in model.observed_RVs if _ratio_of(rv) == ratio]


def ratios_of(model: pm.Model) -> dict[str, RatioEstimator]:
    """The ratio of each `RatioLikelihood` of a model, by the name of the variable."""
    ratios = {rv.name: _ratio_of(rv) for rv in model.observed_RVs}
    return {name: ratio for name, ratio in ratios.items() if ratio is not None}


def expressions_of(model: pm.Model, ratio: RatioEstimator) -> list[list[Any]]:
    """What a model gives to a ratio: the parameters of each of its likelihoods, in their order.

    Where it has none, the variables that are called as the parameters.
    """
    found = likelihoods_of(model, ratio)
    if found:
        return [parameters_of(variable) for variable in found]
    return [[model[name] for name in ratio.parameters]]


def are_held_back(model: pm.Model | None, ratio: RatioEstimator) -> bool:
    """Whether all likelihoods of this ratio keep parameters from leaving its domain."""
    found = [] if model is None else likelihoods_of(model, ratio)
    policies = {own_node(variable).op.outside for variable in found}
    return bool(policies) and policies <= set(HELD_BACK)


def own_node(variable: Any) -> Any:
    """The node of a likelihood, out of what PyMC wraps around it for ``total_size=``."""
    node = variable.owner
    return node.inputs[0].owner if isinstance(node.op, MinibatchRandomVariable) else node


def direct_likelihoods_of(model: pm.Model) -> list[Any]:
    """The variables of a model whose likelihood is a direct ratio."""
    ratios = ((rv, _ratio_of(rv)) for rv in model.observed_RVs)
    return [rv for rv, ratio in ratios if ratio is not None and ratio.is_direct]


def _ratio_of(variable: Any) -> RatioEstimator | None:
    """Of a likelihood, if it is one by a ratio."""
    op = own_node(variable).op
    return op.ratio if isinstance(op, RatioLikelihoodRV) else None


def conditions_of(variable: Any) -> list[Any]:
    """What is known beside the observations of a likelihood; nothing for ordinary variables."""
    node = own_node(variable)
    if not isinstance(node.op, RatioLikelihoodRV):
        return []
    return list(node.op.dist_params(node))[len(node.op.ratio.parameters) :]


def data_of(model: pm.Model, ratio: RatioEstimator, who: str) -> np.ndarray:
    """Observations ``(n, *event)`` of all likelihoods of this ratio, as its network takes them.

    That is with their conditions, and NaN for what is missing.
    """
    rows = []
    for variable in likelihoods_of(model, ratio):
        values = [graph.eval(mode="FAST_COMPILE") for graph in data_graphs(model, variable)]
        rows.append(packed_values(ratio, values, who).reshape(-1, *ratio.event_shape))
    return np.concatenate(rows)


def data_graphs(model: pm.Model, variable: Any) -> list[Any]:
    """The observations of a likelihood, and their conditions, which `pymc.set_data` may replace."""
    return [model.rvs_to_values[variable], *conditions_of(variable)]


def packed_values(ratio: RatioEstimator, values: list[Any], who: str) -> np.ndarray:
    """What `data_graphs` say ``(*batch, *event)``, as the network takes it."""
    observed, *given = values
    observed = np.asarray(observed, dtype=float)
    if ratio.conditions is None:
        return observed
    named = dict(zip(ratio.conditions.shapes, given, strict=True))
    return ratio.conditions.pack(observed, named, who)


def _observed(model: pm.Model, variable: Any) -> np.ndarray:
    """Observations ``(*batch, *event)``, without conditions."""
    return np.asarray(model.rvs_to_values[variable].eval(mode="FAST_COMPILE"), dtype=float)


def parameters_of(variable: Any) -> list[Any]:
    """What a likelihood gives to its ratio as parameters, in their order."""
    node = own_node(variable)
    return list(node.op.dist_params(node))[: len(node.op.ratio.parameters)]


def of_free_variables(model: pm.Model, graphs: list[Any]) -> Callable[..., list[np.ndarray]]:
    """Graphs of a model as a compiled function of its free variables; what is observed is given."""
    free = [rv.type() for rv in model.free_RVs]
    given = {rv: model.rvs_to_values[rv].astype(rv.dtype) for rv in model.observed_RVs}
    given |= dict(zip(model.free_RVs, free, strict=True))
    graphs = clone_replace(graphs, replace=given, rebuild_strict=False)
    return pytensor.function(free, graphs, on_unused_input="ignore", mode="FAST_COMPILE")


def columns_of(posterior: xr.Dataset, names: Iterable[str]) -> list[np.ndarray]:
    """Draws ``(n, *)`` of each variable, chain after chain."""
    found = [posterior[name].transpose("chain", "draw", ...).to_numpy() for name in names]
    return [column.reshape(-1, *column.shape[2:]) for column in found]


def rows_of_draws(
    posterior: xr.Dataset, ratio: RatioEstimator, model: pm.Model | None
) -> Callable[[], Iterator[np.ndarray]]:
    """What gives packed parameters ``(rows, D)`` of one draw after another, from the first.

    There is a row for each that the model gives. What has to be compiled is, once.

    Raises
    ------
    ValueError
        If the parameters cannot be found.
    """
    found = [] if model is None else likelihoods_of(model, ratio)
    if found:
        parts = [_evaluated(posterior, model, ratio, each) for each in found]
        return lambda: map(_joined, zip(*(part() for part in parts), strict=True))
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
    part = _packed(posterior, ratio, list(ratio.parameters), lambda *draw: draw)
    return lambda: (_joined([table]) for table in part())


def _joined(tables: Iterable[np.ndarray]) -> np.ndarray:
    """Rows ``(n, D)`` of tables ``(*batch, D)``."""
    return np.concatenate([table.reshape(-1, table.shape[-1]) for table in tables])


def _evaluated(
    posterior: xr.Dataset, model: pm.Model, ratio: RatioEstimator, variable: Any
) -> Callable[[], Iterator[np.ndarray]]:
    """The likelihood's own parameter expressions ``(*batch, D)`` at one draw after another."""
    absent = [rv.name for rv in model.free_RVs if rv.name not in posterior]
    if absent:
        raise ValueError(
            f"The posterior lacks {', '.join(absent)}, free variables of the model. Pass the model "
            "that was sampled."
        )
    function = of_free_variables(model, parameters_of(variable))
    return _packed(posterior, ratio, [rv.name for rv in model.free_RVs], function)


def _packed(
    posterior: xr.Dataset, ratio: RatioEstimator, names: list[str], function: Callable[..., Any]
) -> Callable[[], Iterator[np.ndarray]]:
    """Parameters ``(*batch, D)`` that a function gives of the draws of these variables."""
    columns = columns_of(posterior, names)
    n = posterior.sizes["chain"] * posterior.sizes["draw"]

    def tables() -> Iterator[np.ndarray]:
        draws = (tuple(column[i] for column in columns) for i in range(n))
        return (packed_rows(ratio, function(*draw)) for draw in draws)

    return tables


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
        tables = np.stack(list(_evaluated(posterior, model, ratio, variable)()))
        counts = _counted(model, variable, ratio, tables.shape[1:-1])
        rows = tables.reshape(len(tables), -1, tables.shape[-1])
        over_draws = rows.swapaxes(0, 1).reshape(rows.shape[1], -1)
        _, first, group = np.unique(over_draws, axis=0, return_index=True, return_inverse=True)
        theta.append(rows[:, first])
        trials.append(np.bincount(group.ravel(), counts.ravel()))
    return np.concatenate(theta, axis=1), np.concatenate(trials)


def _counted(
    model: pm.Model, variable: Any, ratio: RatioEstimator, batch: tuple[int, ...]
) -> np.ndarray:
    """How many observations each of the parameters ``(*batch)`` has.

    Those of a minibatch count as what they stand for, and those that are wholly missing as none.
    """
    observed = _observed(model, variable)
    counts = np.ones(observed.shape[: observed.ndim - len(ratio.observation_shape)])
    if ratio.missing is not None:
        nothing = ratio.missing.without_any(observed.reshape(counts.size, -1))
        counts[nothing.reshape(counts.shape)] = 0.0
    if isinstance(variable.owner.op, MinibatchRandomVariable):
        total = variable.owner.inputs[1:]
        counts *= float(get_scaling(total, observed.shape).eval(mode="FAST_COMPILE"))
    own = (1,) * (counts.ndim - len(batch)) + batch
    shared = tuple(axis for axis, length in enumerate(own) if length == 1)
    return counts.sum(shared, keepdims=True).reshape(batch)
