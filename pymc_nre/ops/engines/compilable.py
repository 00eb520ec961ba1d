"""What is compiled of a ratio: a network of the known family, or any other that can be traced."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ...estimators.estimator import RatioEstimator
from ...kernels.export import export
from ...kernels.program import Exported
from ...kernels.traced.evaluator import TracedEvaluator
from ...kernels.traced.network import Traced, trace
from ...kernels.traced.rows import UnsupportedError

__all__ = ["compilable", "direct", "lost_in_single"]

_ROUNDED = 1e-3  # of the largest log ratio: a thousand times what single precision should cost
_ROWS = 100  # of parameters and observations that a traced network is compared with torch at


@lru_cache(maxsize=32)
def direct(ratio: RatioEstimator) -> Exported | None:
    """What the kernels run that takes observations as they are; None if they cannot."""
    return export(ratio.network, features=False)


@lru_cache(maxsize=32)
def compilable(ratio: RatioEstimator) -> Exported | Traced | str:
    """What the kernels run, which take features of observations; or why there is nothing."""
    known = export(ratio.network, features=True)
    if known is not None:
        return known
    try:
        return trace(ratio.network, *_samples(ratio))
    except UnsupportedError as error:
        return str(error)


@lru_cache(maxsize=32)
def lost_in_single(ratio: RatioEstimator) -> str:
    """What single precision would lose of a traced network; nothing if it would not.

    What it is given is rounded first, so little is left of parameters that are far from zero in
    units of their spread. (The known family standardizes in double precision.)
    """
    found = compilable(ratio)
    if not isinstance(found, Traced):
        return ""
    theta, x = _samples(ratio)
    rows = ratio.evaluator.features(x)
    double, single = (
        TracedEvaluator(found.program, found.weights.astype(kind), np.empty(0)).value(theta, rows)
        for kind in (np.float64, np.float32)
    )
    finite = np.isfinite(double)
    error = np.abs(single - double)[finite].max(initial=0.0)
    largest = max(1.0, np.abs(double[finite]).max(initial=0.0))
    if error <= _ROUNDED * largest:  # not so NaN
        return ""
    return f"its log ratios would be off by {error:.2g}, as its numbers are rounded first"


def _samples(ratio: RatioEstimator) -> tuple[np.ndarray, np.ndarray]:
    """Some parameters and observations of the training, as many of each."""
    theta, probes = ratio.domain.draws[:_ROWS], ratio.probe_x
    return theta, np.resize(probes, (len(theta), *probes.shape[1:]))
