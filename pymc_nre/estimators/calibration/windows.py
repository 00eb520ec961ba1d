r"""How often a classifier is right, by what it says: points of a calibration curve.

Among pairs whose logit is about s, :math:`n_1` are of the numerator and :math:`n_0` of the
denominator of the ratio. As many as :math:`e_1 = \sum \sigma(s_i)` and
:math:`e_0 = \sum \sigma(-s_i)` were expected. Where the logit should have been
:math:`\log e_1 / e_0` it is the log ratio of the densities of the score,

.. math:: c\Bigl(\log \frac{e_1}{e_0}\Bigr) = \log \frac{n_1}{n_0},

and a classifier that is right is not changed. Three methods differ in their windows: bins with as
many pairs in each (histogram), bins in which the share of the numerator would fall rather than rise
(isotonic: the pools of adjacent violators), and Gaussian bells (kernel). The logarithm is noisy
where counts are small, and there are places where one of the two never comes, such as where the
reference makes no such observations. So one pair more that came as expected is counted with each,

.. math:: c\Bigl(\log \frac{e_1}{e_0}\Bigr) = \log \frac{e_1}{e_0}
    + \log \frac{n_1 + 1}{e_1 + 1} - \log \frac{n_0 + 1}{e_0 + 1},

and where nothing is expected, and nothing comes, nothing changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
from scipy.optimize import isotonic_regression
from scipy.special import expit

__all__ = ["METHODS", "curve_points"]

_BINS = 16
_BELLS = 24
_MOST_POOLS = 32  # each costs as much time as a piece of any curve
# Twice Silverman's width, for what is smoothed is a correction, not a density: of 40 posteriors in
# each of four problems (docs/training.md) none was worse than with that width itself.
_SMOOTH = 2 * 0.9
_CLOSEST = 1e-6  # two points nearer to each other are one: their slope would be noise


def curve_points(
    method: str, s: np.ndarray, is_joint: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Logits ``(K,)``, which rise, and what they are to be, ``(K,)``.

    Parameters
    ----------
    method : {"histogram", "isotonic", "kernel"}
    s : array, shape (n,)
        Logits of pairs.
    is_joint : array of bool, shape (n,)
        Whether a pair is of the numerator.
    weight : array, shape (n,)
        For how much of a pair each counts, at most one.
    """
    order = np.argsort(s, kind="stable")
    s, is_joint, weight = s[order], is_joint[order], weight[order]
    kinds = np.stack([is_joint, ~is_joint, expit(s), expit(-s)], axis=1)
    counts = np.array([weights @ kinds for weights in METHODS[method](s, is_joint, weight)])
    n1, n0, e1, e0 = counts.T
    with np.errstate(divide="ignore"):  # logits beyond 700: what is not expected at all
        place = np.log(e1) - np.log(e0)
    height = place + np.log((n1 + 1) / (e1 + 1)) - np.log((n0 + 1) / (e0 + 1))
    if method == "isotonic":
        height = np.maximum.accumulate(height)
    return _distinct(place, height)


def _bins(s: np.ndarray, is_joint: np.ndarray, weight: np.ndarray) -> Iterator[np.ndarray]:
    """Weights ``(n,)`` of all pairs, in bins of equal weight."""
    total = np.cumsum(weight)
    edges = np.searchsorted(total, total[-1] * np.arange(1, _BINS) / _BINS)
    yield from _between([0, *edges, len(s)], weight)


def _pools(s: np.ndarray, is_joint: np.ndarray, weight: np.ndarray) -> Iterator[np.ndarray]:
    """The same, in pools; where there are very many, in neighbors together."""
    edges = isotonic_regression(is_joint.astype(float), weights=weight).blocks
    if len(edges) > _MOST_POOLS + 1:
        edges = edges[np.linspace(0, len(edges) - 1, _MOST_POOLS + 1).round().astype(int)]
    yield from _between(edges, weight)


def _between(edges: np.ndarray, weight: np.ndarray) -> Iterator[np.ndarray]:
    for first, last in pairwise(edges):
        window = np.zeros_like(weight)
        window[first:last] = weight[first:last]
        yield window


def _bells(s: np.ndarray, is_joint: np.ndarray, weight: np.ndarray) -> Iterator[np.ndarray]:
    """The same, under bells around quantiles of the logits."""
    share = np.cumsum(weight) / weight.sum()
    low, high = np.interp([0.25, 0.75], share, s)
    spread = min(np.sqrt(np.cov(s, aweights=weight)), (high - low) / 1.34)
    width = max(_SMOOTH * spread * weight.sum() ** -0.2, _CLOSEST)
    for place in np.interp((np.arange(_BELLS) + 0.5) / _BELLS, share, s):
        yield weight * np.exp(-0.5 * ((s - place) / width) ** 2)


METHODS: dict[str, Callable[..., Iterator[np.ndarray]]] = {
    "histogram": _bins,
    "isotonic": _pools,
    "kernel": _bells,
}


def _distinct(place: np.ndarray, height: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points that are finite and do not stand on each other; the identity if there are none."""
    kept: list[int] = []
    for k in np.flatnonzero(np.isfinite(place)):
        if not kept or place[k] - place[kept[-1]] > _CLOSEST:
            kept.append(int(k))
    return (place[kept], height[kept]) if kept else (np.zeros(1), np.zeros(1))
