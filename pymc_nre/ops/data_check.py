r"""Are observed data far from all simulations? Asked when a model is built, and compiled.

A network evaluates data in other units, or a -999 that stands for a missing value, without a word.
It keeps the means and spreads of its training data. Of new simulations the squared distance
:math:`z^2` from the mean, in spreads, is 1 on average, whatever their distribution: by Markov's
inequality its mean over a data set exceeds 1,000 at most once in 1,000 data sets. So much is told,
and long tails are no alarm. In a large data set one code drowns in that mean; so a single value
counts too, where tails are not so long that they alone make the spread.

A ratio that was made for one data set is asked whether these data are that one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from pytensor.graph.basic import Variable
from pytensor.scalar.basic import Cast
from pytensor.tensor.elemwise import Elemwise

from ..estimators.checks import warn_if_missing_as_never, warn_if_other_data
from ..estimators.estimator import RatioEstimator
from ..exceptions import DomainWarning, warn
from ..networks.incomplete import Seen
from ..networks.layers import Standardize
from ..networks.tails import Curve
from .guards import LookedAt, held_data

__all__ = ["warn_if_data_are_far", "warn_if_new_data_are_far"]

_MOST = 1_000  # the mean of z squared that one data set in a thousand exceeds at most
# A Student t of 3 degrees of freedom exceeds 300 spreads once in 10 million draws.
_FARTHEST = 300.0
# Half of a t of 3 degrees of freedom lies beyond .4 spreads of the mean, of 10,000 Cauchy draws
# beyond .01: their spread is that of the few largest.
_BULK = 0.1
_LEARNED = 10.0  # above it the moments are not those of the simulations that were kept

_looked_at = LookedAt()


def warn_if_data_are_far(name: str, ratio: RatioEstimator, observed: Any) -> None:
    """Warn if observations ``(*batch, *event)`` that are known now are far from all simulations."""
    data = held_data(observed) if isinstance(observed, Variable) else observed
    _looked_at.note(observed, ratio)
    module = _standardization(ratio)
    if data is not None:
        rows = np.asarray(data, dtype=float).reshape(-1, *ratio.observation_shape)
        warn_if_missing_as_never(ratio, rows, name)
        warn_if_other_data(ratio, rows, name)
    if data is None or module is None or not np.size(data):
        return
    x = np.asarray(data, dtype=float).reshape(-1, *ratio.observation_shape)
    z, own = _distances(ratio, module, x), _distances(ratio, module, _alone(ratio, ratio.probe_x))
    z = np.nan_to_num(z)  # what is missing is not far
    if (own**2).mean() > _LEARNED:
        return
    squares = (z**2).mean(0)
    singles = _FARTHEST if np.median(own) > _BULK else np.inf
    limit = _MOST * squares.size  # of the worst of so many numbers
    if squares.mean() <= _MOST and squares.max() <= limit and z.max() <= singles:
        return
    _tell(name, ratio, x, z, module)


def warn_if_new_data_are_far(ratio: RatioEstimator, observed: Any) -> None:
    """The same for data that were replaced since they were looked at, as by `pymc.set_data`."""
    observed = _uncast(observed)
    if _looked_at.is_new(observed, ratio):
        warn_if_data_are_far(observed.name or "RatioLikelihood", ratio, observed)


def _uncast(observed: Any) -> Any:
    """What PyMC cast, as it does counts; the same, if it did not."""
    node = getattr(observed, "owner", None)
    is_cast = node and isinstance(node.op, Elemwise) and isinstance(node.op.scalar_op, Cast)
    return node.inputs[0] if is_cast else observed


def _tell(
    name: str, ratio: RatioEstimator, x: np.ndarray, z: np.ndarray, module: Standardize
) -> None:
    worst = np.unravel_index(z.argmax(), z.shape)
    far = (z > np.sqrt(_MOST)).mean() or 1 / z.size
    entries = _alone(ratio, np.arange(module.mean.numel()).reshape(module.mean.shape))
    entry = np.broadcast_to(entries, x.shape)[worst]
    mean, scale = (part.flatten()[entry].item() for part in (module.mean, module.scale))
    curve = module.curves[entry]
    of = "" if curve == Curve() else f" of {curve}"
    warn(
        f"{name}: {far:.2g} of the observed values lie far outside of everything that was "
        f"simulated, the worst, {x[worst]:.6g}, {z[worst]:.3g} standard deviations from the mean "
        f"of the simulations ({mean:.4g} +- {scale:.4g}{of}). The ratio has never seen such data, "
        "and what it says of them is arbitrary. Expected data in the units of the simulations, "
        "without codes for missing values such as -999: convert them, and leave out what is "
        "missing.",
        DomainWarning,
    )


def _standardization(ratio: RatioEstimator) -> Standardize | None:
    """What holds the moments of the training data, if the network has it."""
    network = ratio.trained
    network = network.members[0] if ratio.members > 1 else network
    module = getattr(network, "standardize_x", None)
    module = module.numbers if isinstance(module, Seen) else module
    return module if type(module) is Standardize else None


def _distances(ratio: RatioEstimator, module: Standardize, x: np.ndarray) -> np.ndarray:
    """Distances of observations from the mean, in spreads."""
    if ratio.conditions is not None:  # any will do: each number is standardized by itself
        given = np.tile(ratio.probe_x[0, -ratio.conditions.layout.size :], (len(x), 1))
        x = np.concatenate([x.reshape(len(x), -1), given], axis=1)
    x = np.ascontiguousarray(x)  # torch takes no axis backwards
    distances = module(torch.tensor(x, device=module.mean.device)).abs().cpu().numpy()
    return _alone(ratio, distances)


def _alone(ratio: RatioEstimator, packed: np.ndarray) -> np.ndarray:
    """Observations of what networks take, without the conditions beside them."""
    return packed if ratio.conditions is None else ratio.conditions.split(packed)[0]
