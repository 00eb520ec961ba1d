"""Weights that sum to one, of their logarithms, and how many equal ones they are worth."""

from __future__ import annotations

import numpy as np

__all__ = ["normalized"]


def normalized(log_weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights ``(*, m)`` and their effective numbers ``(*)``.

    Where no logarithm is finite they are equal, and worth nothing.
    """
    highest = log_weights.max(-1, keepdims=True)
    known = np.isfinite(highest)
    weights = np.exp(np.where(known, log_weights, 0) - np.where(known, highest, 0))
    weights /= weights.sum(-1, keepdims=True)
    return weights, np.where(known[..., 0], 1 / (weights**2).sum(-1), 0.0)
