"""Weights that sum to one, of their logarithms, and how many equal ones they are worth."""

from __future__ import annotations

import numpy as np

__all__ = ["effective_number", "normalized"]


def effective_number(weights: np.ndarray) -> np.ndarray:
    r"""How many equal weights ``(*, m)`` are worth, ``(*)``: :math:`(\sum w)^2 / \sum w^2`.

    References
    ----------
    A. Kong (1992), A note on importance sampling using standardized weights, University of Chicago
    Dept. of Statistics Technical Report 348.
    """
    squares = (weights**2).sum(-1)
    return weights.sum(-1) ** 2 / np.maximum(squares, np.finfo(float).tiny)


def normalized(log_weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights ``(*, m)`` and their effective numbers ``(*)``.

    Where no logarithm is finite they are equal, and worth nothing.
    """
    highest = log_weights.max(-1, keepdims=True)
    known = np.isfinite(highest)
    weights = np.exp(np.where(known, log_weights, 0) - np.where(known, highest, 0))
    weights /= weights.sum(-1, keepdims=True)
    return weights, np.where(known[..., 0], effective_number(weights), 0.0)
