"""Numbers that say whether a ratio may be trusted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pymc as pm
import pytensor
import xarray as xr

from .distribution import RatioLikelihoodRV
from .estimator import RatioEstimator
from .guard import packed_rows

__all__ = ["domain_check"]


def domain_check(idata: Any, ratio: RatioEstimator, *, model: pm.Model | None = None) -> xr.Dataset:
    """Which posterior draws left the region where the ratio was trained.

    Parameters
    ----------
    idata : InferenceData or DataTree
        With a group ``posterior``.
    ratio : RatioEstimator
    model : pymc.Model, optional
        The model that was sampled, by default the one in context. The parameters of each of
        its `RatioLikelihood` variables are evaluated from the draws, whatever expressions
        they are. Without a model, or in one that uses the ratio in a potential, the
        posterior must hold variables named as the parameters.

    Returns
    -------
    xarray.Dataset
        ``outside`` (chain, draw): share of that draw's parameter values that are outside,
        over all observations; ``beyond`` (parameter): share of values at which the
        parameter, taken alone, is beyond its training range. The attributes ``share``
        (of draws with anything outside) and ``summary`` say it in words.

    Raises
    ------
    ValueError
        If the parameters cannot be found.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> import pymc_nre as nre
    >>> ratio = nre.tasks.GaussianMean().estimator()
    >>> draws = {"mu": (("chain", "draw"), np.array([[1.0, 2.0, 30.0, 3.0]]))}
    >>> idata = {"posterior": xr.Dataset(draws)}
    >>> nre.diagnostics.domain_check(idata, ratio).attrs["share"]
    0.25
    """
    posterior = _dataset(idata["posterior"])
    theta = _theta_of_draws(posterior, ratio, pm.modelcontext(model) if _context(model) else None)
    shape = (posterior.sizes["chain"], posterior.sizes["draw"])
    outside = ~ratio.domain.inside(theta)
    by_draw = outside.reshape(*shape, -1).mean(-1)
    beyond = ratio.domain.beyond(theta).reshape(-1, theta.shape[-1]).mean(0)
    share = float((by_draw > 0).mean())
    return xr.Dataset(
        {"outside": (("chain", "draw"), by_draw), "beyond": ("parameter", beyond)},
        coords={
            "chain": posterior["chain"],
            "draw": posterior["draw"],
            "parameter": ratio.layout.labels,
        },
        attrs={"share": share, "summary": _summary(share, beyond, ratio)},
    )


def _dataset(group: Any) -> xr.Dataset:
    return group.to_dataset() if isinstance(group, xr.DataTree) else group


def _context(model: pm.Model | None) -> bool:
    return model is not None or pm.Model.get_context(error_if_none=False) is not None


def _theta_of_draws(
    posterior: xr.Dataset, ratio: RatioEstimator, model: pm.Model | None
) -> np.ndarray:
    """Packed parameters ``(chains * draws, rows, D)``."""
    found = [] if model is None else _likelihoods(model, ratio)
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


def _likelihoods(model: pm.Model, ratio: RatioEstimator) -> list[Any]:
    return [
        variable
        for variable in model.observed_RVs
        if isinstance(variable.owner.op, RatioLikelihoodRV) and variable.owner.op.ratio == ratio
    ]


def _evaluate(
    posterior: xr.Dataset, model: pm.Model, ratio: RatioEstimator, variable: Any
) -> np.ndarray:
    """The likelihood's own parameter expressions at every draw, ``(draws, rows, D)``."""
    expressions = variable.owner.op.dist_params(variable.owner)
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


def _summary(share: float, beyond: np.ndarray, ratio: RatioEstimator) -> str:
    if share == 0:
        return "All posterior draws are inside the region where the ratio was trained."
    worst = ", ".join(
        f"{label} ({part:.1%})"
        for label, part in zip(ratio.layout.labels, beyond, strict=True)
        if part > 0
    )
    return (
        f"{share:.1%} of the posterior draws left the region where the ratio was trained"
        + (f", by {worst}" if worst else ", in combinations of parameters")
        + ". There the ratio is an extrapolation: train on a wider prior."
    )
