"""Does a density end at an edge before it has fallen off? Then the edge cuts it.

One rule for densities that are tabulated and for those that are known by draws: at the edge the
marginal density must be small beside its highest value. A tail that ends there loses about as
much of the mass.
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["density_at_end", "is_cut"]

_EDGE_DENSITY = 1e-3  # of the highest
_FEWEST = 5  # draws at an end, that they be no accident


def is_cut(at_end: Any, highest: Any) -> Any:
    """Whether a density of that value at its end, and that one where it is highest, is cut."""
    return at_end > _EDGE_DENSITY * highest


def density_at_end(distance: np.ndarray, strip: float) -> float:
    """Density at the end beside where it is highest; 0 where it fell off, or that is not seen.

    Parameters
    ----------
    distance : ndarray, shape (n,)
        Of draws from the end, inward; what is beyond it counts as at it.
    strip : float
        Width of the strips, from the end on, in which draws are counted.
    """
    counts = np.bincount((np.maximum(distance, 0) / strip).astype(int))
    seen = counts[0] >= _FEWEST and is_cut(counts[0], counts.max())
    return float(counts[0] / counts.max()) if seen else 0.0
