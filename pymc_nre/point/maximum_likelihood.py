r"""The parameters at which data are likeliest, and how certain they are.

:math:`\hat\theta = \arg\max_\theta \sum_i \log r(\theta, x_i)` within the training domain. Where it
is a maximum, the inverse of the observed information,
:math:`-\nabla^2 \sum_i \log r(\hat\theta, x_i)`, is the covariance of the estimate for many trials.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from ..amortized.data_sets import check_values
from ..estimators.estimator import RatioEstimator
from ..exceptions import DomainWarning, PosteriorWarning, warn
from ..ops.prior_check import warn_if_too_many
from ..runtime.arrays import true_or_false, whole_number
from ..runtime.progress import progress
from ..simulation.parameters import Layout
from .observed import Observed
from .searches.search import Found, highest

__all__ = ["Estimates", "covariances", "maxima", "maximum_likelihood"]

_SHOWN = 5  # data sets in a repr
_WHY = ("", "at the edge of the training domain", "not converged", "no curvature")


@dataclass(frozen=True, eq=False)
class Estimates:
    r"""What `maximum_likelihood` returns.

    Attributes
    ----------
    dataset : xarray.Dataset
        ``estimate`` and ``standard_error`` (\*sets, parameter), ``covariance`` (\*sets, parameter,
        parameter\_), ``log_ratio`` (\*sets) at the maximum, ``at_edge`` and ``converged``
        (\*sets), and ``why`` (\*sets), which says why there is no standard error. Indexing gives
        its variables.

    Examples
    --------
    >>> import numpy as np
    >>> import pymc_nre as nre
    >>> ratio = nre.tasks.GaussianMean().estimator()
    >>> found = nre.point.maximum_likelihood(ratio, np.array([1.0, 3.0]), progressbar=False)
    >>> found["estimate"].to_numpy().round(3), found["standard_error"].to_numpy().round(3)
    (array([2.]), array([0.707]))
    """

    dataset: xr.Dataset
    _layout: Layout

    def __getitem__(self, name: str) -> xr.DataArray:
        return self.dataset[name]

    @property
    def parameters(self) -> dict[str, np.ndarray]:
        """The estimates by name, ``(*sets, *own)`` each."""
        return self._layout.unpack(self.dataset["estimate"].to_numpy())

    def __repr__(self) -> str:
        found, labels = self.dataset, self._layout.labels
        size = len(labels)
        flat = found["estimate"].to_numpy().reshape(-1, size)
        errors = found["standard_error"].to_numpy().reshape(-1, size)
        heights = found["log_ratio"].to_numpy().ravel()
        why = found["why"].to_numpy().ravel()
        sets, trials = len(flat), found.attrs["trials"]
        lines = [f"Maximum likelihood of {_counted(sets, 'data set')}, {_counted(trials, 'trial')}"]
        for k in range(min(sets, _SHOWN)):
            pairs = zip(labels, flat[k], errors[k], strict=True)
            said = ", ".join(f"{name} = {a:.4g} ± {b:.2g}" for name, a, b in pairs)
            lines.append(f"  {said}; log ratio {heights[k]:.5g}{why[k] and f' ({why[k]})'}")
        lines += [f"  ... and {sets - _SHOWN:,} more"] * (sets > _SHOWN)
        told = zip(*np.unique(why[why != ""], return_counts=True), strict=True)
        lines += [f"{count:,} of {sets:,}: {reason}" for reason, count in told if sets > 1]
        return "\n".join(lines)


def _counted(n: int, what: str) -> str:
    return f"{n:,} {what}{'s' * (n != 1)}"


def maximum_likelihood(
    ratio: RatioEstimator,
    x: Any,
    *,
    conditions: Mapping[str, Any] | None = None,
    starts: int = 20,
    progressbar: bool = True,
) -> Estimates:
    r"""The parameters of the training domain at which each of many data sets is likeliest.

    Draws of the domain are screened, and the best climb from where they are, all data sets
    together. Integer parameters take the values of the draws, and step up from there.

    Parameters
    ----------
    ratio : RatioEstimator
        Of any kind but a direct one: make an ordinary one of it, ``ratio.relative_to(...)``.
    x : array or xarray.DataArray, shape (\*sets, n, \*event)
        Data sets of n independent trials each. Numbers may be NaN where the ratio was trained with
        ``missing=``, and all numbers of trials where data sets differ in length.
    conditions : mapping of str to array, shape (\*sets, n, \*own), optional
        Known inputs of the observations, by name, where the ratio was trained with conditions;
        those that all data sets share may be ``(n, *own)``.
    starts : int
        How many of 1,000 draws climb. More of them find more modes.
    progressbar : bool

    Returns
    -------
    Estimates
        With standard errors from the curvature; NaN at the edge of the domain, of integers, and
        where the ratio has no curvature, as networks of piecewise linear activations.

    Raises
    ------
    TypeError, ValueError
        If shapes or names do not fit, numbers are not finite, or data are impossible at all
        parameters.

    Warns
    -----
    DomainWarning
        If a log ratio rises on beyond the training domain.
    TrialsWarning
        If the ratio is not known to bear that many trials.
    PosteriorWarning
        If a search did not converge.

    Examples
    --------
    >>> import numpy as np
    >>> import pymc_nre as nre
    >>> ratio = nre.tasks.GaussianMean().estimator()
    >>> x = np.array([[1.0, 2.0, 3.0, 2.0], [0.0, 1.0, 0.0, 1.0]])
    >>> nre.point.maximum_likelihood(ratio, x, progressbar=False)
    Maximum likelihood of 2 data sets, 4 trials
      mu = 2 ± 0.5; log ratio 7.3072
      mu = 0.5 ± 0.5; log ratio 7.8072
    """
    caller = "maximum_likelihood"
    observed = Observed.of(ratio, x, conditions, caller)
    starts = whole_number(starts, f"{caller}: starts")
    progressbar = true_or_false(progressbar, f"{caller}: progressbar")
    warn_if_too_many(caller, ratio, observed.trials)
    found = maxima(observed, starts, progressbar, caller)
    _warn_of(found, caller)
    return Estimates(_dataset(observed, found), ratio.layout)


def maxima(observed: Observed, starts: int, progressbar: bool, caller: str) -> Found:
    """The highest points of all data sets.

    Raises
    ------
    ValueError
        If some are impossible at all parameters.
    """
    parts = []
    with progress(enabled=progressbar) as display:
        bar = display.add_task("climbing", total=observed.sets, status="")
        for rows, summed in observed.chunks():
            found = highest(observed.ratio, summed, starts)
            check_values(found.value[:, None], observed.data.rows[rows], f"{caller}: x")
            parts.append(found)
            display.advance(bar, len(found.value))
    return Found.joined(parts)


def covariances(found: Found) -> tuple[np.ndarray, np.ndarray]:
    """Covariances ``(P, k, k)`` of what was free, and why there is none, indices of `_WHY`."""
    information = found.information
    curved = (np.linalg.eigvalsh(information) > 0).all(1)
    why = np.select([found.at_edge, ~curved, ~found.converged], [1, 3, 2], 0)
    covariance = np.full(information.shape, np.nan)
    covariance[why == 0] = np.linalg.inv(information[why == 0])
    return covariance, why


def _dataset(observed: Observed, found: Found) -> xr.Dataset:
    layout, data = observed.ratio.layout, observed.data
    places, own = layout.continuous, covariances(found)
    covariance = np.full((len(found.theta), layout.size, layout.size), np.nan)
    covariance[:, places[:, None], places] = own[0]
    errors = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
    return xr.Dataset(
        {
            "estimate": data.variable(found.theta, "parameter"),
            "standard_error": data.variable(errors, "parameter"),
            "covariance": data.variable(covariance, "parameter", "parameter_"),
            "log_ratio": data.variable(found.value),
            "at_edge": data.variable(found.at_edge),
            "converged": data.variable(found.converged),
            "why": data.variable(np.array(_WHY)[own[1]]),
        },
        coords={**data.coords, "parameter": layout.labels, "parameter_": layout.labels},
        attrs={"trials": observed.trials},
    )


def _warn_of(found: Found, caller: str) -> None:
    sets = len(found.value)
    if found.at_edge.any():
        warn(
            f"{caller}: {found.at_edge.sum():,} of {sets:,} estimates are at the edge of the "
            "training domain, beyond which the log ratio rises on. They have no standard error. "
            "Train on a wider prior if the edge is none of the parameters' own.",
            DomainWarning,
        )
    lost = ~found.converged
    if lost.any():
        warn(
            f"{caller}: {lost.sum():,} of {sets:,} searches did not end at a maximum, as where a "
            "ratio is flat or has no curvature. Give more starts=, or train a network with a "
            "smooth activation.",
            PosteriorWarning,
        )
