"""What single precision cannot hold, in which training is."""

from __future__ import annotations

import numpy as np

__all__ = ["check_range"]

_SMALLEST, _LARGEST = 1e-37, 1e37  # its range is 1.2e-38 to 3.4e38; a tenth is left for the tails


def check_range(name: str, values: np.ndarray) -> None:
    """Raise ValueError if values ``(n, *own)`` are too large, or vary by too little.

    They would be infinite, or zero, before they are standardized.
    """
    low, high = values.min(0), values.max(0)
    size, width = np.maximum(np.abs(low), np.abs(high)), high / 2 - low / 2
    wrong = (size > _LARGEST) | ((width > 0) & (width < _SMALLEST))
    if wrong.any():
        k = np.unravel_index(wrong.argmax(), wrong.shape)
        at = f" (at {tuple(map(int, k))})" if k else ""
        raise ValueError(
            f"{name}{at} reaches from {low[k]:.3g} to {high[k]:.3g}; expected numbers whose size "
            f"is between {_SMALLEST:g} and {_LARGEST:g}, for training is in single precision. Use "
            "another unit, in the prior, the simulator and the data: multiply by a constant."
        )
