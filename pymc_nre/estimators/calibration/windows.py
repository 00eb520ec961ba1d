r"""How often a classifier is right, by what it says: points of a calibration curve.

Among pairs whose logits are in some window, :math:`n_1` are of the numerator and :math:`n_0` of the
denominator of the ratio. As many as :math:`e_1 = \sum \sigma(s_i)` and
:math:`e_0 = \sum \sigma(-s_i)` were expected. So where a logit says :math:`\log e_1 / e_0`, the
log ratio of the densities of the score is

.. math:: c\Bigl(\log \frac{e_1}{e_0}\Bigr) = \log \frac{n_1}{n_0},

and a classifier that is right is not changed, however wide windows are. Three methods differ in
theirs: bins with as many pairs in each (histogram), bins in which the share of the numerator would
fall rather than rise (isotonic: the pools of adjacent violators), and Gaussian bells (kernel). A
window in which hardly any of one kind came tells nothing but that it is far out: it is joined to
the next, or left out. Where the reference makes no such observations as the parameters, one window
is left with all pairs, as many came as were expected, and nothing changes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.optimize import isotonic_regression
from scipy.special import expit

__all__ = ["METHODS", "curve_points"]

# Of either kind in a window: its log odds have a standard error of .2 at most. With 20 posteriors
# of three methods in the four problems of docs/training.md were worse in eight, better in three.
_ENOUGH = 50
_BINS = 16
_BELLS = 24
_MOST_POOLS = 32  # each costs as much time as a piece of any curve
_CLOSEST = 1e-6  # two points nearer to each other are one: their slope would be noise


def curve_points(
    method: str, s: np.ndarray, is_joint: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Logits ``(K,)``, which rise, and what they are to be, ``(K,)``; one pair at least.

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
    counts = METHODS[method](np.stack([is_joint, ~is_joint, expit(s), expit(-s)], 1), weight)
    n1, n0, e1, e0 = counts[(counts[:, :2] >= _ENOUGH).all(1)].T
    with np.errstate(divide="ignore"):  # beyond 700 logits expect nothing at all of one kind
        return _distinct(np.log(e1) - np.log(e0), np.log(n1) - np.log(n0))


def _bins(kinds: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """How many of four kinds there are, ``(K, 4)``, of sorted pairs ``(n, 4)``, in equal bins."""
    total = np.cumsum(weight)
    edges = np.searchsorted(total, total[-1] * np.arange(1, _BINS) / _BINS)
    return _joined([0, *edges], kinds * weight[:, None])


def _pools(kinds: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The same in pools; where there are very many, in neighbors together."""
    edges = isotonic_regression(kinds[:, 0], weights=weight).blocks[:-1]
    counts = _joined(edges, kinds * weight[:, None])
    if len(counts) <= _MOST_POOLS:
        return counts
    first = np.linspace(0, len(counts), _MOST_POOLS, endpoint=False).astype(int)
    return np.add.reduceat(counts, first)


def _joined(edges: Sequence[int] | np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Of windows that begin at edges, with their neighbors until enough of both kinds came."""
    made, some = [], np.zeros(counts.shape[1])
    for each in np.add.reduceat(counts, np.minimum(edges, len(counts) - 1)):
        some = some + each
        if (some[:2] >= _ENOUGH).all():
            made.append(some)
            some = np.zeros_like(some)
    if made:
        made[-1] = made[-1] + some
    return np.array(made).reshape(-1, counts.shape[1])


def _bells(kinds: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The same under bells over ranks: logits may reach over hundreds, where nothing is known."""
    rank = (np.cumsum(weight) - weight / 2) / weight.sum()
    width = 0.9 / np.sqrt(12) * weight.sum() ** -0.2  # Silverman's, of a uniform variable
    places = (np.arange(_BELLS) + 0.5) / _BELLS
    return np.stack([weight * np.exp(-(((rank - at) / width) ** 2) / 2) @ kinds for at in places])


METHODS: dict[str, Callable[..., np.ndarray]] = {
    "histogram": _bins,
    "isotonic": _pools,
    "kernel": _bells,
}


def _distinct(place: np.ndarray, height: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points that are finite and do not stand on each other; one of the identity if none are."""
    kept: list[int] = []
    for k in np.flatnonzero(np.isfinite(place)):
        if not kept or place[k] - place[kept[-1]] > _CLOSEST:
            kept.append(int(k))
    return (place[kept], height[kept]) if kept else (np.zeros(1), np.zeros(1))
