r"""Scores: the gradients of a ratio in its parameters, in units of what a trial tells.

The exact log likelihood has a score of mean zero at every :math:`\theta`,

.. math:: E_{x \mid \theta}[\nabla_\theta \log p(x \mid \theta)] = 0.

A ratio has one of mean :math:`b(\theta)`, and that adds up: with the information
:math:`I(\theta)` of one trial, the posterior mean of N trials is off by

.. math:: \sqrt N \, \frac{(I^{-1} b)_j}{\sqrt{(I^{-1})_{jj}}}

posterior standard deviations of parameter j. What is averaged here is each trial's share of
that, so that it has variance one.
"""

from __future__ import annotations

import numpy as np

from ..estimator import RatioEstimator

__all__ = ["free_directions", "nested_cells", "scatter", "standardized_scores"]

_PER_PARAMETER = 100  # trials of a cell for each parameter, at least: a third tells information
_FEWEST = 400
_BLOCK = 65_536  # rows at once
_SINGULAR = 1e-9  # of the largest information: directions below it are not identified
_CONSTRAINED = 1e-9  # of the largest variance: parameters that add up to one do not vary along it


def nested_cells(
    theta: np.ndarray, smallest: int, rng: np.random.Generator | None = None
) -> np.ndarray:
    """Rows of neighbors, ``(2^L, m)`` with ``m >= smallest``, as a tree.

    Halved again and again at the median of the parameter that is widest there. So runs of 2, 4,
    ... rows of the result are larger cells. Rows that are left over are dropped. A generator
    turns the axes at random and chooses who is left over.
    """
    levels = max(0, int(np.log2(max(len(theta) / smallest, 1))))
    kept = (len(theta) >> levels) << levels
    ranks = theta.argsort(axis=0).argsort(axis=0)  # alike for all parameters
    order = np.arange(len(theta))
    if rng is not None:
        rotation, _ = np.linalg.qr(rng.normal(size=(theta.shape[1],) * 2))
        ranks, order = (ranks - len(theta) / 2) @ rotation, rng.permutation(len(theta))
    order = order[None, :kept]
    for _ in range(levels):
        values = ranks[order]
        widest = np.ptp(values, axis=1).argmax(-1)
        column = np.take_along_axis(values, widest[:, None, None], axis=2)[..., 0]
        halves = np.argsort(column, axis=1, kind="stable")
        order = np.take_along_axis(order, halves, axis=1).reshape(2 * len(order), -1)
    return order


def _scores(
    ratio: RatioEstimator, theta: np.ndarray, x: np.ndarray, rows: np.ndarray
) -> np.ndarray:
    """Gradients ``(*rows, D)`` of chosen rows of theta and x, in continuous parameters."""
    flat = rows.ravel()
    blocks = (flat[start : start + _BLOCK] for start in range(0, flat.size, _BLOCK))
    parts = [ratio.evaluator.value_and_gradient(theta[block], x[block])[1] for block in blocks]
    return np.concatenate(parts)[:, ratio.layout.continuous].reshape(*rows.shape, -1)


def free_directions(theta: np.ndarray) -> np.ndarray:
    """A basis ``(D, k)`` of the directions in which parameters vary.

    The others, as across a simplex, are not part of the likelihood: there a ratio may have any
    gradient.
    """
    unit = theta.std(0)
    unit = np.where(unit > 0, unit, 1)
    variances, vectors = np.linalg.eigh(np.atleast_2d(np.cov((theta / unit).T)))
    free = variances > _CONSTRAINED * variances[-1]
    return np.eye(len(unit)) if free.all() else unit[:, None] * vectors[:, free]


def _directions_of(gradients: np.ndarray, free: np.ndarray) -> np.ndarray:
    """Directions ``(C, D, D)`` of gradients ``(C, m, D)``, cell by cell.

    Row j is the direction along which a score of one moves the posterior mean of parameter j by
    one posterior standard deviation of one trial.
    """
    gradients = gradients @ free
    information = np.einsum("cmd,cme->cde", gradients, gradients) / gradients.shape[1]
    unit = np.sqrt(np.einsum("cdd->cd", information))  # whatever a parameter is measured in
    units = np.where(unit > 0, unit, 1)[:, :, None] * np.where(unit > 0, unit, 1)[:, None]
    inverse = np.linalg.pinv(information / units, rcond=_SINGULAR, hermitian=True) / units
    inverse = free @ inverse @ free.T
    spread = np.sqrt(np.maximum(np.einsum("cdd->cd", inverse), np.finfo(float).tiny))
    return inverse / spread[:, :, None]


def standardized_scores(
    ratio: RatioEstimator, theta: np.ndarray, x: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each trial's share of the bias, cell by cell.

    A third of each cell tells the information, and the rest is measured by it. If the same
    trials did both, a score that is skewed would look biased: large scores would count less.
    Parameters that are integers tell neighbors from each other, and have no score.

    Parameters
    ----------
    ratio : RatioEstimator
        With D packed numbers that are continuous.
    theta : array, shape (n, D + integers)
    x : array, shape (n, *event)
        One observation for each.

    Returns
    -------
    rows : array of int, shape (C, m)
        Which rows make up which cell.
    shares : array, shape (C, m, D)
        In posterior standard deviations of one trial; variance one on average.
    directions : array, shape (C, D, D)
        What the scores of these rows were multiplied with to give the shares; it comes from
        other rows of the same cells.
    """
    free = theta[:, ratio.layout.continuous]
    rows = nested_cells(theta, max(_FEWEST, _PER_PARAMETER * free.shape[1]))
    # Neighbors within a cell come in no order, but for what the tree did last.
    rows = np.random.default_rng(0).permuted(rows, axis=1)
    own, rest = np.split(rows, [rows.shape[1] // 3], axis=1)
    directions = _directions_of(_scores(ratio, theta, x, own), free_directions(free))
    shares = np.einsum("cmd,cjd->cmj", _scores(ratio, theta, x, rest), directions)
    size = np.sqrt((shares**2).mean((0, 1)))
    size = np.where(size > 0, size, 1)
    return rest, shares / size, directions / size[:, None]


def scatter(
    before: RatioEstimator, after: RatioEstimator, theta: np.ndarray, x: np.ndarray
) -> np.ndarray:
    """By how much two ratios differ about their means: standard deviations ``(D,)``.

    In posterior standard deviations, at any number of trials: by as much as this the posterior
    means of the two differ from data set to data set, in no common direction.
    """
    rows, shares, directions = standardized_scores(before, theta, x)
    moved = np.einsum("cmd,cjd->cmj", _scores(after, theta, x, rows), directions) - shares
    return (moved - moved.mean(1, keepdims=True)).std((0, 1))
