"""Several estimators of one ratio as one: an ensemble."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import xarray as xr

from ..networks.composed.ensemble import Ensemble
from ..networks.composed.over_references import OverReferences
from .checks import check_ratio
from .estimator import RatioEstimator

__all__ = ["ensemble"]


def ensemble(ratios: Sequence[RatioEstimator]) -> RatioEstimator:
    """Combine estimators that were trained alike into their mean.

    What `train` does with ``members=5``; here for members that were trained elsewhere. An
    evaluation takes as long as those of all members together.

    Parameters
    ----------
    ratios : sequence of RatioEstimator
        Trained on the same simulations with the same settings, but for the seed.

    Returns
    -------
    RatioEstimator
        The mean of their ratios; of their logits, if they are not normalized. Its history has a
        dimension ``member``; its simulator is that of the first.

    Raises
    ------
    TypeError, ValueError
        If they are not estimators of one kind.

    References
    ----------
    J. Hermans, A. Delaunoy, F. Rozet, A. Wehenkel, V. Begy and G. Louppe, A crisis in
    simulation-based inference? Beware, your posterior approximations can be unfaithful,
    Transactions on Machine Learning Research (2022), arXiv:2110.06581.

    Examples
    --------
    >>> import pymc_nre as nre
    >>> simulations = nre.tasks.GaussianMean().simulate(1_000, random_seed=1)
    >>> ratios = [
    ...     nre.train(simulations, epochs=2, random_seed=seed, progressbar=False) for seed in (1, 2)
    ... ]
    >>> nre.ensemble(ratios).members
    2
    """
    ratios = list(ratios) if isinstance(ratios, Iterable) else [ratios]
    _check(ratios)
    first = ratios[0]
    if len(ratios) == 1:
        return first
    # The mean of direct ratios would not be the inverse of that of the two swapped.
    mean_of = "ratios" if first.normalized and not first.is_direct else "logits"
    network = Ensemble([copy.deepcopy(ratio.network) for ratio in ratios], mean_of)
    history = _history([ratio.history for ratio in ratios])
    return first.replace(network=network, history=history)


def _check(ratios: list[Any]) -> None:
    if not ratios:
        raise ValueError("ensemble needs at least one estimator, got none.")
    for ratio in ratios:
        check_ratio(ratio, "ensemble", "ratios", direct=True)
        for changed, done, remedy in (
            (isinstance(ratio.trained, OverReferences), "made of a direct one", "make one of"),
            (ratio.is_calibrated, "calibrated", "calibrate"),
            (ratio.is_locally_centered, "centered around a posterior", "center"),
        ):
            if changed:
                raise ValueError(
                    f"ensemble got an estimator that was {done}. Combine those from before, and "
                    f"{remedy} the ensemble."
                )
        if ratio.members > 1:
            raise ValueError(
                "ensemble got an estimator that is an ensemble already: its members would count "
                "for less than the others. Give single ones."
            )
    for name, of in _SAME.items():
        values = [of(ratio) for ratio in ratios]
        other = next((value for value in values if value != values[0]), None)
        if other is not None:
            raise ValueError(
                f"The members of an ensemble must have the same {name}, got {values[0]} and "
                f"{other}. Train them on the same simulations, with the same settings but for "
                "random_seed."
            )


_SAME = {
    "parameters": lambda ratio: ratio.parameters,
    "shape of an observation": lambda ratio: ratio.event_shape,
    "conditions": lambda ratio: ratio.conditions and dict(ratio.conditions.shapes),
    "missing numbers": lambda ratio: ratio.missing and ratio.missing.in_words(),
    "denominator": lambda ratio: ratio.reference,
    "reference parameters": lambda ratio: None if ratio.theta_ref is None else [*ratio.theta_ref],
    "normalization": lambda ratio: "normalized" if ratio.normalized else "not normalized",
    "loss": lambda ratio: ratio.loss,
    "integer parameters": lambda ratio: sorted(ratio.layout.integer),
    "network": lambda ratio: ratio.architecture,
    "device": lambda ratio: ratio.device,
    "domain": lambda ratio: ratio.describe_domain(),
}


def _history(histories: list[xr.Dataset]) -> xr.Dataset:
    """Side by side; NaN after the last epoch of a member."""
    longest = max(history.sizes.get("epoch", 0) for history in histories)
    padded = [
        history.pad(epoch=(0, longest - history.sizes.get("epoch", 0))) for history in histories
    ]
    joined = xr.concat(padded, "member", combine_attrs="drop")
    facts = {}
    for name in histories[0].attrs:
        values = [history.attrs.get(name) for history in histories]
        facts[name] = values[0] if all(value == values[0] for value in values) else values
    if isinstance(facts.get("chance"), list):  # it may depend on what is held out
        facts["chance"] = float(np.mean(facts["chance"]))
    return joined.assign_attrs(facts)
