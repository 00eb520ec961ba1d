"""Regions of the parameters: a few centers among draws, and how far each of them reaches."""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import cdist

__all__ = ["centers_among"]

_DRAWS = 5_000  # as many tell where the centers are
_ROUNDS = 30  # centers need not be the best ones
_REACH = 0.6  # of the distance to the next center: half way between two both count the same


def centers_among(theta: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Centers ``(R, D)`` of draws ``(n, D)``, at most so many, and widths ``(D,)``: k-means."""
    scale = theta.std(0)
    scale[scale == 0] = 1.0
    points = np.unique(theta[:_DRAWS] / scale, axis=0)
    count = min(count, len(points))
    along = (points - points.mean(0)) @ _longest_axis(points)
    first = np.argsort(along)[((np.arange(count) + 0.5) / count * len(points)).astype(int)]
    centers = points[first]
    for _ in range(_ROUNDS):
        nearest = cdist(points, centers).argmin(1)
        centers = np.stack(
            [
                points[nearest == k].mean(0) if (nearest == k).any() else center
                for k, center in enumerate(centers)
            ]
        )
    return centers * scale, _REACH * _distance(centers) * scale


def _longest_axis(points: np.ndarray) -> np.ndarray:
    """The direction ``(D,)`` in which points ``(n, D)`` vary most."""
    return np.linalg.svd(points - points.mean(0), full_matrices=False)[2][0]


def _distance(centers: np.ndarray) -> float:
    """From a center to the next, on average; one where there is no other."""
    if len(centers) == 1:
        return 1.0
    between = cdist(centers, centers)
    np.fill_diagonal(between, np.inf)
    return float(between.min(1).mean())
