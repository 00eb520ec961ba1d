"""The guard: does a model ask of its ratio only what a ratio can answer?

A ratio is a likelihood in its parameters, not a density in x: it must be observed, and it
fills no gaps in the data. Data are looked at when the model is built and, where they can be
replaced, again when the log density is compiled and evaluated.

A ratio extrapolates silently. When a model is built its parameters are drawn from their
prior and the share that lies outside the training domain is told. That alone is not enough:
an extrapolated ratio of many observations can outweigh any prior (a model of 100 normal
observations, prior well inside, had a second mode at 40 times the true scale), so parameters
outside are rejected unless the user says otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from pymc.distributions.dist_math import check_parameters
from pytensor.compile.mode import Mode
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Constant, Variable
from pytensor.graph.utils import MissingInputError
from pytensor.tensor import TensorVariable

from ..estimators.estimator import RatioEstimator
from ..exceptions import DomainWarning, TrialsWarning, warn
from ..kernels.inputs import MISSING_DATA
from ..simulation.parameters import check_event_shape

__all__ = [
    "OUTSIDE",
    "check_held",
    "check_observed",
    "check_outside",
    "only_finite",
    "packed_rows",
    "refusal",
    "warn_if_many_trials",
    "warn_if_prior_leaves",
]

OUTSIDE = ("reject", "warn", "ignore")
_DRAWS = 1_000
# The training prior itself has 1e-4 outside: 0.1 of 1,000 draws, so five are no accident.
_TOLD_FROM = 0.005
# Trials below which a bias is not linear across a posterior, and above which fine-tuning leaves too
# much of it: docs/many_trials.md.
_FEW, _MANY = 300, 10_000
_CONSEQUENCE = {
    "reject": "Their likelihood is set to zero (outside='reject'), which cuts the prior there.",
    "warn": "There the ratio is an extrapolation that may prefer absurd parameters: after "
    "sampling, look at nre.diagnostics.domain_check(idata, ratio).",
}


def check_outside(outside: str) -> None:
    """Raise ValueError unless ``outside`` is one of the three policies."""
    if outside not in OUTSIDE:
        raise ValueError(f"outside must be one of {', '.join(OUTSIDE)}, got {outside!r}.")


def packed_rows(ratio: RatioEstimator, parameters: Sequence[np.ndarray]) -> np.ndarray:
    """Packed parameters ``(*batch, D)`` of arrays in the estimator's order."""
    return ratio.layout.pack(dict(zip(ratio.layout.shapes, parameters, strict=True)))


def warn_if_prior_leaves(
    name: str, ratio: RatioEstimator, parameters: Mapping[str, TensorVariable], outside: str
) -> None:
    """Draw the parameters from their prior in the model; warn if a share is outside."""
    if outside == "ignore":
        return
    try:
        theta = _prior_draws(ratio, parameters, _DRAWS)
    except MissingInputError:  # arguments of a pm.CustomDist's logp and the like: no prior here
        return
    except NotImplementedError:  # pm.Flat and others that have no random function
        warn(
            f"{name}: the prior of {', '.join(parameters)} cannot be drawn from, so it could not "
            f"be compared with the training domain of the ratio ({ratio.describe_domain()}). After "
            "sampling, run nre.diagnostics.domain_check(idata, ratio).",
            DomainWarning,
        )
        return
    share = 1 - ratio.domain.inside(theta).mean()
    if share > _TOLD_FROM:
        warn(_message(name, ratio, theta, share, outside), DomainWarning)


def _prior_draws(
    ratio: RatioEstimator, parameters: Mapping[str, TensorVariable], n: int
) -> np.ndarray:
    """Packed draws ``(n, *batch, D)`` of the parameters from their prior in the model."""
    # The linker without any compiler: this graph is used a thousand times, once.
    mode = Mode(linker="py", optimizer="fast_compile")
    draws = pm.draw(list(parameters.values()), draws=n, random_seed=0, mode=mode)
    return packed_rows(ratio, _with_aligned_draws(ratio, draws))


def _with_aligned_draws(ratio: RatioEstimator, draws: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Keep the axis of draws first when parameters have different batches."""
    own = [len(shape) for shape in ratio.layout.shapes.values()]
    batch_ndim = max(draw.ndim - 1 - n for draw, n in zip(draws, own, strict=True))
    return [
        draw.reshape(len(draw), *[1] * (batch_ndim - (draw.ndim - 1 - n)), *draw.shape[1:])
        for draw, n in zip(draws, own, strict=True)
    ]


def _message(
    name: str, ratio: RatioEstimator, theta: np.ndarray, share: float, outside: str
) -> str:
    flat = theta.reshape(-1, theta.shape[-1])
    by_parameter = ratio.domain.beyond(flat).mean(0)
    reach = [
        f"{label} reaches [{low:.3g}, {high:.3g}] ({part:.1%} outside)"
        for label, low, high, part in zip(
            ratio.layout.labels, flat.min(0), flat.max(0), by_parameter, strict=True
        )
        if part > 0
    ] or ["each parameter alone is inside, but not their combinations"]
    return (
        f"{name}: {share:.1%} of this model's prior lies outside the region where the ratio was "
        f"trained ({ratio.describe_domain()}): {'; '.join(reach)}. {_CONSEQUENCE[outside]} Train "
        "on a wider prior, or use a narrower one here."
    )


def warn_if_many_trials(
    name: str, ratio: RatioEstimator, parameters: Mapping[str, TensorVariable], observed: Any
) -> None:
    """Warn if more observations share their parameters than the ratio's budget allows."""
    data = _held_data(observed) if isinstance(observed, Variable) else observed
    if ratio.budget is None or data is None:
        return
    trials = math.prod(data.shape[: data.ndim - len(ratio.event_shape)])
    if trials <= ratio.budget.trials:
        return
    try:
        theta = _prior_draws(ratio, parameters, 2)[0]
    except (MissingInputError, NotImplementedError):  # no prior here to draw from
        return
    _, sharing = np.unique(theta.reshape(-1, theta.shape[-1]), axis=0, return_counts=True)
    together = trials * int(sharing.max()) // int(sharing.sum())
    if together <= ratio.budget.trials:
        return
    bias = math.sqrt(together * ratio.budget.bias_squared_limit.max())
    warn(
        f"{name}: {together:,} trials share their parameters, and this ratio was found to bear "
        f"{ratio.budget.trials:,}: the posterior mean may be off by up to {bias:.2g} posterior "
        f"standard deviations. {_remedy(ratio, together)}; see ratio.budget.",
        TrialsWarning,
    )


def _remedy(ratio: RatioEstimator, trials: int) -> str:
    """What helps most at that number of trials, first."""
    if not ratio.budget.is_seen:
        return "No bias was seen: measure it on more simulations, nre.trial_budget(ratio, ...)"
    everywhere = "fine-tune it, nre.center(ratio, nre.Online(prior, simulator, batched=True))"
    around = "mend it around the posterior that you get, nre.center(ratio, around=idata)"
    if trials < _FEW:
        return f"First {everywhere}: posteriors of so few trials are too wide to mend it around one"
    if trials < _MANY:
        return f"First {around}; if that is refused, or for other data, {everywhere}"
    return f"First {everywhere}; then {around}, which so many trials need as well"


def refusal(name: str, what: str, remedy: str) -> ValueError:
    """Why a ratio cannot do what a density could."""
    return ValueError(
        f"{name}: a RatioLikelihood {what}: a ratio is a likelihood in its parameters, not a "
        f"density in x. {remedy}."
    )


def check_observed(name: str, ratio: RatioEstimator, observed: Any) -> Any:
    """Data that a ratio can stand behind: present, complete, of the right event shape."""
    if observed is None:
        raise refusal(
            name,
            "must be observed",
            "Pass observed=data; for draws from the simulator use "
            "pm.draw(RatioLikelihood.dist(...))",
        )
    if not isinstance(observed, Variable):
        data = observed if np.ma.isMaskedArray(observed) else np.asarray(observed)
        _check_data(name, data)
        check_event_shape(ratio.event_shape, data.shape, name)
        return np.asarray(data)
    data = _held_data(observed)
    if data is not None:
        _check_data(name, data)
    check_event_shape(ratio.event_shape, observed.type.shape if data is None else data.shape, name)
    return observed


def check_held(x: TensorVariable) -> None:
    """Look at data again, where what they hold is known."""
    data = _held_data(x)
    if data is not None:
        _check_data(x.name or "RatioLikelihood", data)


def only_finite(x: TensorVariable) -> TensorVariable:
    """The same data, looked at at every evaluation."""
    # One pass over the data: their sum is finite just when each of them is. The model's
    # check_bounds=False drops it.
    return check_parameters(
        x,
        pt.abs(x.sum(dtype="float64")) < np.inf,
        msg=MISSING_DATA,
        can_be_replaced_by_ninf=False,
    )


def _held_data(x: Variable) -> np.ndarray | None:
    """What a symbolic observation holds now, where that is known without evaluating it."""
    if isinstance(x, SharedVariable):
        return x.get_value(borrow=True)
    return x.data if isinstance(x, Constant) else None


def _check_data(name: str, data: np.ndarray) -> None:
    if data.dtype.kind not in "biuf":
        raise TypeError(f"{name}: observed data must be numbers, got dtype {data.dtype}.")
    holes = np.ma.getmaskarray(data) | ~np.isfinite(np.ma.getdata(data))
    if holes.any():
        raise ValueError(
            f"{name}: observed has {holes.sum():,} masked, NaN or infinite values. PyMC would "
            "impute them, but a ratio is not a density in x and cannot. Leave out incomplete "
            "observations."
        )
