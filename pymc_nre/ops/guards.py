"""The guard: does a model ask of its ratio only what a ratio can answer?

A ratio is a likelihood in its parameters, not a density in x: it must be observed, and it
fills no gaps in the data. Data are looked at when the model is built and, where they can be
replaced, again when the log density is compiled and evaluated.

Whether its parameters and its data are those that the ratio was trained on is asked by
`pymc_nre.ops.prior_check` and `pymc_nre.ops.data_check`.
"""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
import pytensor.tensor as pt
from pymc.distributions.dist_math import check_parameters
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Constant, Variable
from pytensor.tensor import TensorVariable

from ..estimators.checks import as_observations
from ..estimators.estimator import RatioEstimator
from ..kernels.inputs import MISSING_DATA
from ..runtime.arrays import real_array
from ..simulation.parameters import check_event_shape

__all__ = [
    "HELD_BACK",
    "OUTSIDE",
    "LookedAt",
    "check_held",
    "check_observed",
    "check_outside",
    "held_data",
    "only_finite",
    "refusal",
    "refuse_named_axes",
    "take_off_mask",
]

HELD_BACK = ("repel", "reject")  # policies under which no parameters are far outside
OUTSIDE = (*HELD_BACK, "warn", "ignore")


def check_outside(outside: str) -> None:
    """Raise ValueError unless ``outside`` is one of the policies."""
    if outside not in OUTSIDE:
        raise ValueError(f"outside must be one of {', '.join(OUTSIDE)}, got {outside!r}.")


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
    refuse_named_axes(name, "observed", observed)
    if not isinstance(observed, Variable):
        data = _plain(name, ratio, observed)
        check_event_shape(ratio.observation_shape, data.shape, name)
        # PyMC would impute what is missing in an array, but not in a constant.
        return pt.constant(data) if np.isnan(data).any() else data
    data = held_data(observed)
    if data is not None:
        _check_data(name, ratio, data)
    shape = observed.type.shape if data is None else data.shape
    check_event_shape(ratio.observation_shape, shape, name)
    return observed


def refuse_named_axes(name: str, argument: str, value: Any) -> None:
    """Raise TypeError for variables of `pymc.dims`, whose axes have names and no order."""
    dims = getattr(getattr(value, "type", None), "dims", None)
    if isinstance(value, Variable) and dims is not None:
        raise TypeError(
            f"{name}: expected {argument} as a plain tensor, got a variable of pymc.dims with the "
            f"dimensions {dims}, which a ratio does not align by name. Put its axes in the order "
            f"of the data, own axes last, and pass the values: {argument}.transpose(...).values."
        )


def take_off_mask(ratio: RatioEstimator, x: Variable) -> None:
    """Leave NaN where `pymc.set_data` has put a mask beside it, which compiled code refuses."""
    data = held_data(x)
    if ratio.missing is not None and isinstance(x, SharedVariable) and np.ma.isMA(data):
        _check_incomplete(x.name or "RatioLikelihood", data)
        x.set_value(np.ma.getdata(data))


def check_held(ratio: RatioEstimator, x: TensorVariable) -> None:
    """Look at data again, where what they hold is known."""
    data = held_data(x)
    if data is not None:
        _check_data(x.name or "RatioLikelihood", ratio, data)


def only_finite(ratio: RatioEstimator, x: TensorVariable) -> TensorVariable:
    """The same data ``(n, *)``, looked at at every evaluation: finite, but for what is missing."""
    numbers = x
    if ratio.missing is not None:
        rows = x.flatten(2)
        seen = rows[:, : ratio.missing.size]
        numbers = pt.switch(pt.isnan(seen), 0.0, seen).sum() + rows[:, ratio.missing.size :].sum()
    # One pass over the data: their sum is finite just when each of them is. The model's
    # check_bounds=False drops it.
    return check_parameters(
        x,
        pt.abs(numbers.sum(dtype="float64")) < np.inf,
        msg=MISSING_DATA,
        can_be_replaced_by_ninf=False,
    )


class LookedAt:
    """Which arrays of variables whose data can be replaced a ratio was asked about last."""

    def __init__(self) -> None:
        self._arrays: weakref.WeakKeyDictionary[SharedVariable, dict[str, Any]]
        self._arrays = weakref.WeakKeyDictionary()  # by the digest of the ratio

    def note(self, x: Any, ratio: RatioEstimator) -> None:
        """It is being looked at."""
        if isinstance(x, SharedVariable):
            self._arrays.setdefault(x, {})[ratio.digest] = weakref.ref(held_data(x))

    def is_new(self, x: Any, ratio: RatioEstimator) -> bool:
        """Whether it can be replaced, and holds another array than that which was looked at."""
        if not isinstance(x, SharedVariable):
            return False
        known = self._arrays.get(x, {}).get(ratio.digest)
        return known is None or known() is not held_data(x)


def held_data(x: Variable) -> np.ndarray | None:
    """What a symbolic observation holds now, where that is known without evaluating it."""
    if isinstance(x, SharedVariable):
        return x.get_value(borrow=True)
    return x.data if isinstance(x, Constant) else None


def _plain(name: str, ratio: RatioEstimator, observed: Any) -> np.ndarray:
    """Data that are no graph, with NaN for what the ratio lets be missing."""
    if ratio.missing is not None:
        return as_observations(ratio, observed, f"{name}: observed")
    data = observed if np.ma.isMA(observed) else real_array(observed, f"{name}: observed")
    _check_data(name, ratio, data)
    return np.asarray(data)


def _check_data(name: str, ratio: RatioEstimator, data: np.ndarray) -> None:
    if data.dtype.kind not in "biuf":
        raise TypeError(f"{name}: observed data must be numbers, got dtype {data.dtype}.")
    if ratio.missing is not None:
        _check_incomplete(name, data)
        return
    holes = np.ma.getmaskarray(data) | ~np.isfinite(np.ma.getdata(data))
    if holes.any():
        raise ValueError(
            f"{name}: observed has {holes.sum():,} masked, NaN or infinite values. PyMC would "
            "impute them, but a ratio is not a density in x and cannot. Leave out incomplete "
            "observations, or train for them, nre.train(simulations, missing=observed): such a "
            "ratio takes NaN where a number is missing."
        )


def _check_incomplete(name: str, data: np.ndarray) -> None:
    """What `as_observations` does, for data of a graph, where nothing can be put in for a mask."""
    numbers = np.ma.getdata(data)
    hidden = np.ma.getmaskarray(data) & ~np.isnan(numbers)
    if hidden.any() or np.isinf(numbers).any() or (data.size and np.isnan(numbers).all()):
        raise ValueError(
            f"{name}: observed has {hidden.sum():,} numbers under a mask, "
            f"{np.isinf(numbers).sum():,} infinite ones and {np.isnan(numbers).sum():,} of "
            f"{data.size:,} missing; expected NaN where a number is missing, "
            "data.filled(np.nan), and some to be there."
        )
