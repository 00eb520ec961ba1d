r"""What the data say of some parameters, whatever the others are: profiles.

.. math:: \ell_p(\psi) = \max_\nu \sum_i \log r(\psi, \nu, x_i)

with the parameters of interest :math:`\psi` held, and the nuisance :math:`\nu` free.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from ..estimators.estimator import RatioEstimator
from ..ops.prior_check import warn_if_too_many
from ..runtime.arrays import finite_array, true_or_false, whole_number
from ..runtime.progress import progress
from ..simulation.parameters import Layout, check_own_shape
from .maximum_likelihood import maxima
from .observed import Observed, places_of
from .searches.search import Found, search
from .searches.summed import SummedRatio

__all__ = ["held_at", "profile", "profiled"]

_DRAWS, _STARTS = 50, 4  # of the nuisance, beside what the maximum tells of it
_ROWS = 1_000  # problems at once


def profile(
    ratio: RatioEstimator,
    x: Any,
    at: Mapping[str, Any],
    *,
    conditions: Mapping[str, Any] | None = None,
    starts: int = 20,
    progressbar: bool = True,
) -> xr.Dataset:
    r"""Log ratios at values of some parameters, at their largest over the others.

    Parameters
    ----------
    ratio : RatioEstimator
    x : array or xarray.DataArray, shape (\*sets, n, \*event)
        As in `maximum_likelihood`.
    at : mapping of str to array, shape (points, \*own)
        Values of some of the parameters, by name, or of numbers of them by labels as ``beta[0]``.
    conditions : mapping of str to array, shape (\*sets, n, \*own), optional
        Known inputs of the observations, by name.
    starts : int
        Of the search for the highest of all values.
    progressbar : bool

    Returns
    -------
    xarray.Dataset
        ``log_ratio`` (\*sets, point), which is -inf outside of the training domain and between
        the values of an integer; ``deviance`` (\*sets, point), twice what it is below the highest
        value of all; ``at`` (point, parameter) and ``estimate`` (\*sets, point, parameter), all
        parameters there.

    Raises
    ------
    TypeError, ValueError
        If shapes or names do not fit, or numbers are not finite.

    Examples
    --------
    >>> import numpy as np
    >>> import pymc_nre as nre
    >>> ratio = nre.tasks.LocationScale().estimator()
    >>> x = np.array([-1.0, 0.0, 1.0, 2.0, 3.0])
    >>> found = nre.point.profile(ratio, x, {"mu": [0.0, 1.0]}, progressbar=False)
    >>> found["deviance"].to_numpy().round(3)  # 5 log(1 + 1 / 2)
    array([2.027, 0.   ])
    """
    caller = "profile"
    observed = Observed.of(ratio, x, conditions, caller)
    places, points = held_at(ratio.layout, at, caller)
    starts = whole_number(starts, f"{caller}: starts")
    progressbar = true_or_false(progressbar, f"{caller}: progressbar")
    warn_if_too_many(caller, ratio, observed.trials)
    best = maxima(observed, starts, progressbar, caller)
    parts = []
    with progress(enabled=progressbar) as display:
        bar = display.add_task("profiles", total=observed.sets, status="")
        for rows, summed in observed.chunks():
            which = np.repeat(np.arange(rows.stop - rows.start), len(points))
            held = np.tile(points, (rows.stop - rows.start, 1))
            parts.append(profiled(ratio, summed, best.of(rows), which, held, places))
            display.advance(bar, rows.stop - rows.start)
    theta, value = (np.concatenate(part) for part in zip(*parts, strict=True))
    value = value.reshape(observed.sets, len(points))
    highest = np.maximum(best.value, value.max(1))[:, None]
    labels = [ratio.layout.labels[place] for place in places]
    data = observed.data
    return xr.Dataset(
        {
            "log_ratio": data.variable(value, "point"),
            "deviance": data.variable(2 * (highest - value), "point"),
            "at": (("point", "held"), points[:, places]),
            "estimate": data.variable(theta.reshape(*value.shape, -1), "point", "parameter"),
        },
        coords={**data.coords, "parameter": ratio.layout.labels, "held": labels},
        attrs={"trials": observed.trials},
    )


def held_at(layout: Layout, at: Any, caller: str) -> tuple[np.ndarray, np.ndarray]:
    """Places that are held, and packed parameters ``(points, D)`` with NaN at all others.

    Raises
    ------
    TypeError, ValueError
        If these are no finite values of some parameters at points.
    """
    if not hasattr(at, "keys"):
        raise TypeError(
            f"{caller}: at: expected values of some parameters by name, such as "
            f"{{{next(iter(layout.shapes))!r}: [...]}}, got {type(at).__name__}."
        )
    places = places_of(layout, list(at), caller)
    values = {name: finite_array(at[name], f"{caller}: {name}") for name in at}
    lengths = {}
    for name, value in values.items():
        own = layout.shapes.get(name, ())
        check_own_shape(name, own, value.shape, caller)
        lengths[name] = value.shape[: value.ndim - len(own)]
    batch = set(lengths.values())
    if len(batch) > 1 or len(min(batch)) > 1 or 0 in min(batch):
        raise ValueError(
            f"{caller}: at: expected values at the same points, (points, *own) of each parameter, "
            f"got {', '.join(f'{name} {length}' for name, length in lengths.items())}."
        )
    points = np.full((*(min(batch) or (1,)), layout.size), np.nan)
    for name, value in values.items():
        points[:, places_of(layout, [name], caller)] = value.reshape(len(points), -1)
    return places, points


def profiled(
    ratio: RatioEstimator,
    summed: SummedRatio,
    best: Found,
    which: np.ndarray,
    held: np.ndarray,
    places: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Parameters ``(R, D)`` and values ``(R,)`` that are highest where some are held.

    Parameters
    ----------
    ratio : RatioEstimator
    summed : SummedRatio
    best : Found
        Of its data sets, with nothing held.
    which : ndarray, shape (R,)
        The data set of each row.
    held : ndarray, shape (R, D)
        Values at ``places``; whatever elsewhere.
    places : ndarray
    """
    free = np.setdiff1d(np.arange(ratio.layout.size), places)
    theta, value = held.copy(), np.empty(len(held))
    for start in range(0, len(held), _ROWS):
        rows = slice(start, start + _ROWS)
        if len(places) == ratio.layout.size:
            value[rows] = summed.value(theta[rows], which[rows])
            continue
        candidates = _candidates(ratio, best, which[rows], held[rows], places)
        found = search(ratio, summed, which[rows], free, candidates, _STARTS)
        theta[rows], value[rows] = found.theta, found.value
    possible = ratio.domain.inside(theta) & ratio.layout.allows(theta)
    return theta, np.where(possible, value, -np.inf)


def _candidates(
    ratio: RatioEstimator, best: Found, which: np.ndarray, held: np.ndarray, places: np.ndarray
) -> np.ndarray:
    """Where to begin, ``(R, C, D)``: where a parabola has its maximum, and draws of the domain."""
    draws = ratio.domain.draws[:_DRAWS]
    near = best.theta[which]
    near[:, places] = held[:, places]
    shift = held[:, places] - best.theta[which][:, places]
    along = np.nan_to_num(np.einsum("rij,rj->ri", _slopes(ratio, best, places)[which], shift))
    straight = near.copy()
    straight[:, np.setdiff1d(ratio.layout.continuous, places)] += along
    candidates = np.broadcast_to(draws, (len(held), *draws.shape)).copy()
    candidates[:, :, places] = held[:, None, places]
    return np.concatenate([near[:, None], straight[:, None], candidates], axis=1)


def _slopes(ratio: RatioEstimator, best: Found, places: np.ndarray) -> np.ndarray:
    """How the nuisance of a parabola follows what is held, ``(P, nuisance, held)``."""
    continuous = ratio.layout.continuous
    free = np.flatnonzero(~np.isin(continuous, places))
    among = np.searchsorted(continuous, np.intersect1d(continuous, places))
    slopes = np.zeros((len(best.theta), len(free), len(places)))
    own = best.information[:, free][:, :, free]
    across = best.information[:, free][:, :, among]
    known = np.isfinite(own).all((1, 2)) & (np.abs(np.linalg.det(own)) > 0)
    at = np.isin(places, continuous)
    slopes[np.ix_(known, np.arange(len(free)), at)] = -np.linalg.solve(own[known], across[known])
    return slopes
