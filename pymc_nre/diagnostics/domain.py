"""Which posterior draws left the region where the ratio was trained, and which were kept from it.

Where parameters outside are rejected or repelled, no draw is far outside: what tells of the mass
that was lost is a posterior that ends at the edge (see `pymc_nre.diagnostics.cuts`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pymc as pm
import xarray as xr

from ..compat import divergences_of, posterior_of
from ..estimators.checks import check_ratio
from ..estimators.estimator import RatioEstimator
from ..likelihood.model_parameters import (
    are_held_back,
    likelihoods_of,
    model_in_use,
    rows_of_draws,
)
from ..likelihood.prior_limits import PriorLimits
from ..ops.prior_check import Reach
from .cuts import HAIR, Cuts

__all__ = ["domain_check"]


def domain_check(idata: Any, ratio: RatioEstimator, *, model: pm.Model | None = None) -> xr.Dataset:
    """Which posterior draws left the region where the ratio was trained, or end at its edge.

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
        parameter, taken alone, is beyond its training range; ``edge_density`` (parameter, side):
        its density at the ends of that range beside the highest, 0 where it has fallen off;
        ``cut`` (parameter, side): whether it is cut off there, since the prior of the model goes
        on, or is not known; ``cut_together``: whether it is in combinations of parameters. The
        attributes ``share`` (of draws with anything outside) and ``summary`` say it in words.
        Beyond the edge by a thousandth of the range is at the edge.

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
    check_ratio(ratio, "domain_check", direct=True)
    posterior = posterior_of(idata, "domain_check: idata")
    model = model_in_use(model, "domain_check")
    domain, draws = ratio.domain, rows_of_draws(posterior, ratio, model)
    reach = Reach(domain, (domain.toward_center(theta, HAIR) for theta in draws()))
    limits = _prior_limits(posterior, ratio, model)
    held_back = are_held_back(model, ratio)
    cuts = Cuts.find(domain, draws, limits and limits.around, held_back)
    by_draw = reach.outside.reshape(posterior.sizes["chain"], posterior.sizes["draw"])
    share = float((by_draw > 0).mean())
    told = [_of_cuts(cuts, ratio, limits is not None, divergences_of(idata))]
    if share and not (held_back and any(told)):
        told.insert(0, _of_outside(share, reach.beyond, ratio, held_back))
    return xr.Dataset(
        {
            "outside": (("chain", "draw"), by_draw),
            "beyond": ("parameter", reach.beyond),
            "edge_density": (("parameter", "side"), cuts.density[:-1]),
            "cut": (("parameter", "side"), cuts.cut[:-1]),
            "cut_together": cuts.cut[-1, 1],
        },
        coords={
            "chain": posterior["chain"],
            "draw": posterior["draw"],
            "parameter": ratio.layout.labels,
            "side": ["lower", "upper"],
        },
        attrs={
            "share": share,
            "summary": " ".join(filter(None, told)) or _ALL_INSIDE,
        },
    )


_ALL_INSIDE = "All posterior draws are inside the region where the ratio was trained."


def _prior_limits(
    posterior: xr.Dataset, ratio: RatioEstimator, model: pm.Model | None
) -> PriorLimits | None:
    """None if there is no model whose prior could be asked."""
    known = model is not None and all(rv.name in posterior for rv in model.free_RVs)
    if not known or not (
        likelihoods_of(model, ratio) or set(ratio.parameters) <= set(model.named_vars)
    ):
        return None
    return PriorLimits(posterior, ratio, model)


def _of_outside(share: float, beyond: np.ndarray, ratio: RatioEstimator, held_back: bool) -> str:
    worst = ", ".join(
        f"{label} ({part:.1%})"
        for label, part in zip(ratio.layout.labels, beyond, strict=True)
        if part > 0
    )
    return (
        f"{share:.1%} of the posterior draws left the region where the ratio was trained"
        + (f", by {worst}" if worst else ", in combinations of parameters")
        + (
            ". They are too few to cut it off."
            if held_back
            else ". There the ratio is an extrapolation: train on a wider prior."
        )
    )


def _of_cuts(cuts: Cuts, ratio: RatioEstimator, known: bool, divergences: int | None) -> str:
    """Where draws pile up at the edge, and what that means if the prior is known or not."""
    if not cuts.density.any():
        return ""
    if not cuts.cut.any():
        return (
            f"{_ALL_INSIDE} They reach its edge, {_places(cuts.density > 0, cuts, ratio)}, where "
            "the prior of the model ends as well."
        )
    places = _places(cuts.cut, cuts, ratio)
    diverged = f" {divergences:,} draws diverged, as at such an edge." if divergences else ""
    if not known:
        return (
            "The posterior ends where the training of the ratio ended, before it has fallen off: "
            f"{places}. Unless its prior ends there too it is cut off, and wrong: pass model=model "
            f"to have the two compared.{diverged}"
        )
    return (
        "The posterior is cut off at the edge of the region where the ratio was trained, and the "
        f"prior of the model goes on: {places}. Its mean and width are those of what is left: "
        f"train on a wider prior.{diverged}"
    )


def _places(which: np.ndarray, cuts: Cuts, ratio: RatioEstimator) -> str:
    """Parameters and where they end, with the density there."""
    ends = ratio.domain.ends()
    told = [
        f"{ratio.layout.labels[i]} at {ends[i, side]:.4g}"
        if i < len(ends)
        else "in a combination of parameters"
        for i, side in zip(*np.nonzero(which), strict=True)
    ]
    shares = cuts.density[which]
    return ", ".join(
        f"{place} (its density there is {density:.0%} of the highest)"
        for place, density in zip(told, shares, strict=True)
    )
