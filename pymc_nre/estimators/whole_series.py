r"""The ratio of a whole series, out of that of one step.

.. math:: \frac{p(x_{k+1:T} \mid x_{1:k}, \theta)}{\prod_t p(x_t \mid x_{t-k:t-1})}
    = \prod_{t > k} r(x_t \mid \theta, x_{t-k:t-1}),

which is a likelihood in :math:`\theta`, and not normalized: what it is divided by is not the
evidence of the series.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from ..networks.composed.over_time import OverTime
from ..runtime.arrays import whole_number
from .checks import check_ratio
from .estimator import RatioEstimator

__all__ = ["whole_series"]


def whole_series(ratio: RatioEstimator, length: int) -> RatioEstimator:
    """The ratio of series of one length, out of the ratio of one step.

    Its observations are whole series, the first values of which are conditioned on. So it can be
    checked on simulated series, ``nre.diagnostics.report(whole, series)``, where steps with
    parameters of their own cannot be simulated; and a model of many series gives each its own
    parameters, and compares them one by one.

    Parameters
    ----------
    ratio : RatioEstimator
        Of one step, with the condition ``past`` and no other: by `train_series`, or by `train` on
        steps that were simulated from pasts.
    length : int
        Values of a series, the first ones with them.

    Returns
    -------
    RatioEstimator
        Of observations ``(length, *event)``; it has no simulator, and is not normalized.

    Raises
    ------
    TypeError, ValueError
        If it is no ratio of steps, or series of that length have none.

    Notes
    -----
    Simulated series are a test of its calibration where their first values do not depend on the
    parameters: what those tell is left out. To keep one, save the ratio of a step and make it
    again.

    Examples
    --------
    >>> import pymc as pm
    >>> import pymc_nre as nre
    >>> def step(rng, past, phi):
    ...     return rng.normal(phi * past[-1], 1.0)
    >>> prior = {"phi": pm.Uniform.dist(-0.9, 0.9)}
    >>> series = nre.simulate_series(
    ...     prior, step, 300, start=[0.0], length=10, random_seed=1, progressbar=False
    ... )
    >>> ratio = nre.train_series(series, epochs=5, random_seed=1, progressbar=False)
    >>> whole = nre.whole_series(ratio, 10)
    >>> whole.log_ratio(series.x[:3], phi=0.5).shape
    (3,)
    """
    check_ratio(ratio, "whole_series")
    order, event = _of_steps(ratio)
    length = whole_number(length, "whole_series: length")
    if length <= order:
        raise ValueError(
            f"whole_series: length: expected at least {order + 1}, a past of {order} and a value "
            f"that follows, got {length}."
        )
    shape = (length, *event)
    return RatioEstimator(
        OverTime(copy.deepcopy(ratio.network), order, shape),
        ratio.parameters,
        domain=ratio.domain,
        probe_x=_probes(ratio, shape),
        reference=ratio.reference,
        normalized=False,
        loss=f"{ratio.loss}, added up over {length - order} steps",
        integer=ratio.layout.integer,
    )


def _of_steps(ratio: RatioEstimator) -> tuple[int, tuple[int, ...]]:
    """How many values a past holds, and the shape of one."""
    event, shapes = ratio.observation_shape, {}
    if ratio.conditions is not None:
        shapes = dict(ratio.conditions.shapes)
    past = shapes.get("past", ())
    if list(shapes) != ["past"] or len(past) != 1 + len(event) or past[1:] != event:
        raise ValueError(
            "whole_series: expected the ratio of one step, with the condition past alone, of shape "
            f"(order, *event), got {ratio!r}"
        )
    if ratio.missing is not None:
        raise ValueError("whole_series: expected a ratio of whole values, got one with missing=.")
    if ratio.is_locally_centered:
        raise ValueError(
            "whole_series: expected a ratio for any data, got one that was centered around one "
            "posterior. Give the one from before, or observed=nre.transitions(series) to this one."
        )
    return past[0], event


def _probes(ratio: RatioEstimator, shape: tuple[int, ...]) -> np.ndarray:
    """Series of values that are known to occur."""
    values: Any = ratio.conditions.split(ratio.probe_x)[0]
    return np.resize(values, (len(values), *shape))
