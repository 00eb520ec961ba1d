"""What an estimator is, told to a person: the text that is shown for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from ..networks.composed.over_references import OverReferences
from ..networks.layers import Standardize
from ..networks.specifications import curved
from ..networks.tails import Curve
from ..simulation.parameters import describe_shape

__all__ = ["in_words"]


def in_words(ratio: Any) -> str:
    """Several lines on a `RatioEstimator`: what it divides by what, and how it came about."""
    rows = {
        "parameters": _parameters(ratio),
        "observation": describe_shape(ratio.observation_shape),
        "conditions": ratio.conditions.in_words() if ratio.conditions else "",
        "missing": ratio.missing.in_words() if ratio.missing else "",
        "reference": _reference(ratio),
        "network": _network(ratio),
        "heavy tails": _tails(ratio),
        "loss": _loss(ratio),
        "training": _training(ratio.history),
        "domain": ratio.describe_domain(),
        "trials": "" if ratio.budget is None else ratio.budget.in_short(),
        "centered": "around one posterior: for its data, and no others" * ratio.is_locally_centered,
        "made for": _data(ratio),
        "simulator": "attached" if ratio.simulator else "not attached: no predictive sampling",
    }
    names = ", ".join([*ratio.parameters, *_given(ratio)])
    head = f"RatioEstimator: log p(x | {names}){_denominator(ratio)}"
    return "\n".join([head, *(f"  {name:<12}{text}" for name, text in rows.items() if text)])


def _denominator(ratio: Any) -> str:
    """What it is divided by, if it is."""
    given = _given(ratio)
    if ratio.reference == "nothing":
        return ""
    if ratio.reference == "evidence":
        return f" / p(x | {', '.join(given)})" if given else " / p(x)"
    ending = {"fixed": "_ref", "pair": "_prime"}[ratio.reference]
    return f" / p(x | {', '.join([*(name + ending for name in ratio.parameters), *given])})"


def _reference(ratio: Any) -> str:
    """What it is compared with, where that is not the evidence itself."""
    if ratio.theta_ref is not None:
        named = zip(ratio.layout.labels, ratio.theta_ref, strict=True)
        return ", ".join(f"{label} = {value:.6g}" for label, value in named)
    if isinstance(ratio.trained, OverReferences):
        return f"by {len(ratio.trained.references):,} draws of the training prior"
    return ""


def _data(ratio: Any) -> str:
    """The data set that it was made for."""
    if ratio.observed is None:
        return ""
    n = len(ratio.observed)
    return f"one data set of {n:,} observation{'s' * (n > 1)}, and no others"


def _given(ratio: Any) -> list[str]:
    """Names of the conditions."""
    return [] if ratio.conditions is None else list(ratio.conditions.shapes)


def _parameters(ratio: Any) -> str:
    return ", ".join(
        f"{name} ({'integer ' * (name in ratio.layout.integer)}{describe_shape(shape)})"
        for name, shape in ratio.parameters.items()
    )


def _network(ratio: Any) -> str:
    weights = sum(weight.numel() for weight in ratio.network.parameters())
    return f"{ratio.architecture}, {weights:,} weights, float64 on {ratio.device}"


def _tails(ratio: Any) -> str:
    """What numbers of x go through before they are standardized, the first few."""
    names = curved(ratio.network)
    if not names:
        return ""
    module = ratio.network.get_submodule(names[0])
    found = [(k, curve) for k, curve in enumerate(module.curves) if curve != Curve()]
    shown = [f"{_place(module, k, len(ratio.event_shape))} as {curve}" for k, curve in found[:3]]
    more = [f"{len(found) - 3:,} more"] * (len(found) > 3)
    whose = f" (of the first of {len(names)} members)" * (len(names) > 1)
    return ", ".join(shown + more) + whose


def _place(module: Standardize, k: int, axes: int) -> str:
    """The k-th entry of x; all along the axes that share their moments."""
    shape = module.mean.shape
    place = [
        ":" if axis in module.shared else str(index)
        for axis, index in enumerate(np.unravel_index(k, shape))
    ]
    return f"x[{', '.join([':'] * (axes - len(shape)) + place)}]" if axes else "x"


def _loss(ratio: Any) -> str:
    meaning = "normalized" if ratio.normalized else "not normalized: no evidences"
    meaning = "normalized in x" if ratio.reference == "nothing" else meaning
    return f"{ratio.loss or 'none (exact)'}; {meaning}"


def _training(history: xr.Dataset) -> str:
    """Facts of one training, or of those of all members."""
    facts = history.attrs
    if not facts:
        return ""
    ends = " and ".join(sorted({*np.atleast_1d(facts["stopped"])}))
    losses = sorted({f"{loss:.4f}" for loss in np.atleast_1d(facts["best_loss"])}, key=float)
    return (
        f"{np.max(facts['n_train']):,} simulations, {history.sizes['epoch']} epochs "
        f"({ends}), validation loss {' to '.join(dict.fromkeys((losses[0], losses[-1])))} "
        f"(chance {facts['chance']:.4f})"
    )
