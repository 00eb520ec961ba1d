"""Which posterior draws left the region where the ratio was trained."""

from __future__ import annotations

from typing import Any

import numpy as np
import pymc as pm
import xarray as xr

from ..compat import posterior_of
from ..estimators.checks import check_ratio
from ..estimators.estimator import RatioEstimator
from ..likelihood.model_parameters import model_in_use, rows_of_draws
from ..ops.prior_check import Reach

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
    check_ratio(ratio, "domain_check")
    posterior = posterior_of(idata, "domain_check: idata")
    model = model_in_use(model, "domain_check")
    reach = Reach(ratio.domain, rows_of_draws(posterior, ratio, model))
    by_draw = reach.outside.reshape(posterior.sizes["chain"], posterior.sizes["draw"])
    share = float((by_draw > 0).mean())
    return xr.Dataset(
        {"outside": (("chain", "draw"), by_draw), "beyond": ("parameter", reach.beyond)},
        coords={
            "chain": posterior["chain"],
            "draw": posterior["draw"],
            "parameter": ratio.layout.labels,
        },
        attrs={"share": share, "summary": _summary(share, reach.beyond, ratio)},
    )


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
