"""What is compiled of a ratio: a network of the known family, or any other that can be traced."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ...estimators.estimator import RatioEstimator
from ...kernels.export import export
from ...kernels.program import Exported
from ...kernels.traced.network import Traced, trace
from ...kernels.traced.rows import UnsupportedError

__all__ = ["compilable"]

_ROWS = 100  # of parameters and observations that a traced network is compared with torch at


@lru_cache(maxsize=32)
def compilable(ratio: RatioEstimator) -> Exported | Traced | str:
    """What the kernels run, which take features of observations; or why there is nothing."""
    known = export(ratio.network, features=True)
    if known is not None:
        return known
    draws, probes = ratio.domain.draws, ratio.probe_x
    n = min(_ROWS, len(draws))
    try:
        return trace(ratio.network, draws[:n], np.resize(probes, (n, *probes.shape[1:])))
    except UnsupportedError as error:
        return str(error)
