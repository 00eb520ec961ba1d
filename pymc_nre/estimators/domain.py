r"""Where the training prior lived: is this :math:`\theta` inside, and how near the edge?

A ratio is an interpolation of its training simulations. Outside them it is an
extrapolation that looks just as confident, so every model that uses a ratio is checked
against its domain.

Rarity is measured where it is comparable between parameters: each parameter is mapped to a
normal score by the quantiles of its training draws, the scores are whitened by their
correlation, and :math:`\theta` is as rare as its squared distance from the origin. Inside
means: between the smallest and the largest training draw of each parameter, and not rarer
than all but 1e-4 of the training draws. For one parameter that is an interval between two
quantiles; correlated priors get the matching tilted region instead of a box.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import ndtr, ndtri

__all__ = ["Domain", "whitening"]

OUTSIDE_SHARE = 1e-4  # the share of the training prior that counts as its edge
_SCORES = np.linspace(-4.0, 4.0, 33)  # P(|z| > 4) = 6e-5 < OUTSIDE_SHARE
_STORED_DRAWS = 10_000  # 1e-4 of them is one draw; 8 bytes each
_BLOCK = 2**20  # numbers at once
# Ratios are trained in single precision, and .1 as a float32 is above .1: rounding is not outside.
_ROUNDING = float(np.finfo(np.float32).eps)
_SMALLEST_EIGENVALUE = 1e-6  # parameters tied together exactly are not divided by zero


@dataclass(frozen=True, eq=False)
class Domain:
    """The region of parameter space in which a ratio was trained.

    Make one with `Domain.from_draws`.

    Attributes
    ----------
    lower, upper : ndarray, shape (D,)
        Smallest and largest training draw of each packed parameter.
    draws : ndarray, shape (S, D)
        A sample of the training prior, at most 10,000 draws.
    log_prior : ndarray, shape (S,)
        Log density of those draws under the training prior; NaN where it is not known.

    Examples
    --------
    >>> import numpy as np
    >>> from pymc_nre.estimators.domain import Domain
    >>> domain = Domain.from_draws(np.random.default_rng(1).uniform(-10, 10, (5_000, 1)))
    >>> domain.inside(np.array([[0.0], [11.0]]))
    array([ True, False])
    """

    lower: np.ndarray
    upper: np.ndarray
    knots: np.ndarray  # (D, K) left ends of the pieces of the normal-score map
    widths: np.ndarray  # (D, K) their lengths
    steps: np.ndarray  # (D, K) their rises in score
    start: np.ndarray  # (D,) score at the first knot
    whiten: np.ndarray  # (D, D)
    largest_rarity: np.ndarray  # ()
    draws: np.ndarray
    log_prior: np.ndarray

    def __post_init__(self) -> None:
        # What is told of a domain is computed once, so its arrays are not written into.
        for name in _AXES:
            array = getattr(self, name)
            if isinstance(array, np.ndarray):  # a single number needs no guard
                object.__setattr__(self, name, array.view())
                getattr(self, name).setflags(write=False)

    @classmethod
    def from_draws(cls, theta: np.ndarray, log_prior: np.ndarray | None = None) -> Domain:
        """The domain of training draws ``(n, D)`` with log densities ``(n,)``."""
        theta = np.asarray(theta, dtype=float)
        maps = [_score_map(column) for column in theta.T]
        knots, widths, steps, start = (np.stack(part) for part in zip(*maps, strict=True))
        scores = _scores_in_blocks(theta, knots, widths, steps, start)
        whiten = whitening(scores)
        white = scores @ whiten
        del scores
        rarity = np.square(white, out=white).sum(-1)
        if log_prior is None:
            log_prior = np.full(len(theta), np.nan)
        return cls(
            lower=theta.min(0),
            upper=theta.max(0),
            knots=knots,
            widths=widths,
            steps=steps,
            start=start,
            whiten=whiten,
            # "higher": with few draws the edge is the rarest of them. That draw itself is
            # inside, however a compiled graph rounds: hence the last factor.
            largest_rarity=np.quantile(rarity, 1 - OUTSIDE_SHARE, method="higher") * (1 + 1e-9),
            draws=theta[:_STORED_DRAWS].copy(),
            log_prior=np.asarray(log_prior, dtype=float)[:_STORED_DRAWS].copy(),
        )

    def covering(self, theta: np.ndarray) -> Domain:
        """The same, wide enough to have parameters ``(n, D)`` inside as well."""
        rarest = self.rarity(theta).max() * (1 + 1e-9)
        return replace(
            self,
            lower=np.minimum(self.lower, theta.min(0)),
            upper=np.maximum(self.upper, theta.max(0)),
            largest_rarity=np.maximum(self.largest_rarity, rarest),
        )

    def rarity(self, theta: Any) -> Any:
        """Squared distance ``(*,)`` of parameters ``(*, D)`` from the center of the prior.

        Like `inside` it uses arithmetic and methods only, so that it takes NumPy arrays and
        symbolic tensors alike.
        """
        scores = self.scores(theta)
        return ((scores @ self.whiten) ** 2).sum(-1)

    def inside(self, theta: Any) -> Any:
        """Whether parameters ``(*, D)`` are inside; booleans ``(*,)``. NaN is outside."""
        low, high = self.with_room()
        within = ((theta >= low) & (theta <= high)).all(-1)
        return within & (self.rarity(theta) <= self.largest_rarity)

    def beyond(self, theta: np.ndarray) -> np.ndarray:
        """Whether each parameter, taken alone, left its training range; ``(*, D)``."""
        scores = self.scores(theta)
        edge = -ndtri(OUTSIDE_SHARE / 2)
        low, high = self.with_room()
        range_left = (theta < low) | (theta > high) | np.isnan(theta)
        return range_left | (np.abs(scores) > edge)

    def with_room(self) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper ends ``(D,)`` of the ranges, with room for rounding."""
        slack = _ROUNDING * (abs(self.lower) + abs(self.upper))
        return self.lower - slack, self.upper + slack

    def ends(self) -> np.ndarray:
        """Where each parameter alone leaves, ``(D, 2)``; several may do so together before."""
        box = np.stack([self.lower, self.upper], axis=1)
        if len(box) > 1:
            return box
        [places], [heights] = self._map()
        highest = np.sqrt(self.largest_rarity) / abs(self.whiten[0, 0])
        low, high = box[0]  # beyond the last quantiles no one is rarer than others
        ends = np.interp([[-highest, highest]], heights, places, left=low, right=high)
        return np.clip(ends, low, high)

    def toward_center(self, theta: np.ndarray, share: float) -> np.ndarray:
        """Parameters ``(*, D)`` moved by a share of their distance from the median of each."""
        middle = [np.interp(0.0, y, x) for x, y in zip(*self._map(), strict=True)]
        return theta + share * (np.array(middle) - theta)

    def _map(self) -> tuple[np.ndarray, np.ndarray]:
        """Values of each parameter and their normal scores, both ``(D, K + 1)``."""
        ends = self.knots[:, -1:] + self.widths[:, -1:]
        rises = np.cumsum(np.pad(self.steps, ((0, 0), (1, 0))), axis=1)
        return np.concatenate([self.knots, ends], axis=1), self.start[:, None] + rises

    def scores(self, theta: Any) -> Any:
        """Normal scores ``(*, D)``; of arrays by interpolation, which needs no ramps in memory."""
        if not isinstance(theta, np.ndarray):
            return _scores(theta, self.knots, self.widths, self.steps, self.start)
        scores = np.empty(theta.shape)
        for d, (x, y) in enumerate(zip(*self._map(), strict=True)):
            scores[..., d] = np.interp(theta[..., d], x, y)
        return scores

    def at_scores(self, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Parameters ``(*, D)`` that have these normal scores ``(*, D)``, and their slopes in them.

        Beyond the last quantiles nothing changes, and slopes are zero.
        """
        theta, slope = np.empty(scores.shape), np.zeros(scores.shape)
        for d, (x, y) in enumerate(zip(*self._map(), strict=True)):
            rising = np.flatnonzero(self.steps[d] > 0)
            theta[..., d] = x[0]
            if rising.size:
                piece = rising[np.clip(np.searchsorted(y[rising], scores[..., d]) - 1, 0, None)]
                rise = self.widths[d, piece] / self.steps[d, piece]
                along = np.clip(scores[..., d] - y[piece], 0.0, self.steps[d, piece])
                theta[..., d] = x[piece] + rise * along
                within = (scores[..., d] >= y[0]) & (scores[..., d] <= y[-1])
                slope[..., d] = np.where(within, rise, 0.0)
        return theta, slope

    def to_arrays(self) -> dict[str, np.ndarray]:
        """All of it, for a file."""
        return {name: np.asarray(getattr(self, name)) for name in _AXES}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Domain:
        """The inverse of `to_arrays`, for arrays of its `shapes`.

        Raises
        ------
        ValueError
            If no draws have such a domain.
        """
        finite = all(np.isfinite(arrays[name]).all() for name in _AXES if name != "log_prior")
        rises = (arrays["lower"] <= arrays["upper"]).all() and (arrays["widths"] > 0).all()
        if not (finite and rises):
            raise ValueError("the domain is not finite, or ends before it begins")
        draws = arrays["draws"]
        if (draws < arrays["lower"]).any() or (draws > arrays["upper"]).any():
            raise ValueError("the domain has draws outside of its own ends")
        return cls(**{name: arrays[name] for name in _AXES})

    @staticmethod
    def shapes(size: int, pieces: int, draws: int) -> dict[str, tuple[int, ...]]:
        """Shapes of its arrays, by name, for ``size`` parameters."""
        lengths = {"D": size, "K": pieces, "S": draws}
        return {name: tuple(lengths[axis] for axis in axes) for name, axes in _AXES.items()}


_AXES = {  # as in the comments beside the fields
    **dict.fromkeys(("lower", "upper"), "D"),
    **dict.fromkeys(("knots", "widths", "steps"), "DK"),
    **{"start": "D", "whiten": "DD", "largest_rarity": "", "draws": "SD", "log_prior": "S"},
}


def _score_map(draws: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Pieces of a monotone map from one parameter to its normal score.

    Integers and other repeated values give repeated quantiles: those become one knot at
    their mean score. Pieces that are left over have length one and no rise.
    """
    quantiles = np.quantile(draws, ndtr(_SCORES))
    values, group = np.unique(quantiles, return_inverse=True)
    scores = np.bincount(group, weights=_SCORES) / np.bincount(group)
    knots, widths, steps = (np.full(len(_SCORES) - 1, fill) for fill in (values[-1], 1.0, 0.0))
    pieces = len(values) - 1
    knots[:pieces], widths[:pieces], steps[:pieces] = values[:-1], np.diff(values), np.diff(scores)
    return knots, widths, steps, scores[0]


def _scores(theta: Any, knots: Any, widths: Any, steps: Any, start: Any) -> Any:
    """Normal scores ``(*, D)``: a sum of ramps, one for each piece."""
    ramps = ((theta[..., None] - knots) / widths).clip(0.0, 1.0)
    return start + (ramps * steps).sum(-1)


def _scores_in_blocks(theta: np.ndarray, *parts: np.ndarray) -> np.ndarray:
    """The same of many draws ``(n, D)``: their ramps take 32 times as much memory as they do."""
    scores = np.empty_like(theta)
    rows = max(1, _BLOCK // (theta.shape[1] * len(_SCORES)))
    for begin in range(0, len(theta), rows):
        scores[begin : begin + rows] = _scores(theta[begin : begin + rows], *parts)
    return scores


def whitening(scores: np.ndarray) -> np.ndarray:
    """Matrix ``(D, D)`` that turns scores into uncorrelated ones of unit variance."""
    covariance = np.atleast_2d(np.cov(scores, rowvar=False))
    values, vectors = np.linalg.eigh(covariance)
    return vectors / np.sqrt(np.maximum(values, _SMALLEST_EIGENVALUE))
