r"""How many trials a ratio can bear before its bias shows.

A small error in each trial's score is the same in all of them and grows with their number, while
the posterior narrows (see `pymc_nre.many_trials.scores`). Its size is measured on simulations that
training has not seen: their scores should have mean zero in every part of the training domain. The
squares of means over cells of the domain tell how much they miss it, without bias (all products of
two different trials), at several sizes of cells; that size counts which shows the most bias beyond
doubt. Small cells miss less of a bias that changes quickly, and large ones hide less of it in
noise. The second identity of Bartlett tells about the width:

.. math:: E[-\nabla^2 s] = \mathrm{Var}[\nabla s],

where a ratio that is too sharp has too large a variance.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from ..estimators.checks import check_fit, check_parameters
from ..estimators.estimator import RatioEstimator
from ..estimators.trial_budget import SEEN, SURE, TrialBudget
from ..runtime.arrays import real_number
from ..simulation.simulations import Simulations
from .scores import standardized_scores

__all__ = ["check_continuous", "check_same_parameters", "trial_budget"]

_CURVE = 20  # points of a curve of the bias along one parameter
_WIDTH_ROWS = 20_000  # trials whose second derivatives are taken
# Cells that tell what may have been missed, 8 to a parameter and no fewer than 64. Finer ones have
# so much noise that they could vouch for little: they count where they do show more.
_TO_A_PARAMETER, _CELLS = 8, 64


def trial_budget(
    ratio: RatioEstimator, simulations: Simulations, *, share: float = 0.2
) -> TrialBudget:
    r"""Measure how many independent trials a ratio can bear.

    An error that a ratio makes in every trial grows with their number as its square root, in
    posterior standard deviations. This predicts its size from simulations, before any sampling,
    and says at how many trials it reaches a share of the posterior's standard deviation.

    Parameters
    ----------
    ratio : RatioEstimator
    simulations : Simulations
        From the training prior, and not those that it was trained on; or from a narrower one, if
        that is what matters. The more, the smaller a bias can be seen: to vouch for N trials
        takes some 1,000 N simulations, and several times as many for three parameters or more,
        whose domain has more cells to look at.
    share : float
        The bias that is allowed, in posterior standard deviations.

    Returns
    -------
    TrialBudget
        Its ``trials`` is the number; print it, and ``plot()`` it. A ratio that it is attached to,
        ``ratio = budget.attach(ratio)``, is saved with it, and models warn where there are more
        trials than that.

    Raises
    ------
    ValueError
        If the simulations do not fit the ratio or are fewer than 1,000, a parameter is an
        integer, or share is not positive.

    Notes
    -----
    It is the mean square over the parameters of the simulations that is predicted, of what is seen
    in cells of 400 simulations or more: with many parameters these are wide, and a bias that
    changes within them is larger than it says. Rare corners, where few simulations were trained
    on, can rule that mean: simulations from the region that matters tell about that region.
    First-order in the bias, so beyond about one standard deviation it only tells that the bias is
    large. Errors that differ from trial to trial are another matter: they do not grow with N. Where
    the support of the observations moves with a parameter, as the largest possible value of a
    uniform distribution, the exact likelihood has no score of mean zero either, and the number
    means nothing.

    References
    ----------
    The identities are those of Bartlett (1953), Approximate confidence intervals, Biometrika
    40.

    Examples
    --------
    >>> import pymc_nre as nre
    >>> task = nre.tasks.GaussianMean()
    >>> budget = nre.trial_budget(task.estimator(), task.simulate(20_000, random_seed=1))
    >>> budget.is_seen  # the exact ratio has no bias
    False
    """
    share = real_number(share, "trial_budget: share", above=0)
    _check(ratio, simulations)
    theta, x = ratio.layout.pack(simulations.parameters), simulations.x
    rows, shares, directions = standardized_scores(ratio, theta, x)
    return TrialBudget(
        tuple(ratio.layout.labels),
        len(simulations),
        share,
        *_bias(shares),
        *_width(ratio, theta, x, rows, shares, directions),
        *_curves(theta[rows], shares),
    )


def check_same_parameters(ratio: RatioEstimator, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise ValueError unless simulations are of these parameters, all of them continuous."""
    check_parameters(ratio, shapes)
    check_continuous(ratio)


def check_continuous(ratio: RatioEstimator) -> None:
    """Raise ValueError if a parameter is an integer."""
    if ratio.layout.integer:
        raise ValueError(
            f"{', '.join(sorted(ratio.layout.integer))} is an integer: a likelihood has no score "
            "in it, and what is measured or mended here is the mean of scores."
        )


def _check(ratio: RatioEstimator, simulations: Simulations) -> None:
    check_fit(ratio, simulations, "trial_budget")
    check_continuous(ratio)
    if len(simulations) < 1_000:
        raise ValueError(
            f"trial_budget needs at least 1,000 simulations, got {len(simulations)}; 100,000 are "
            "usual."
        )


def _mean_squares(shares: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean squares of cells' means and standard errors, ``(R, D)``, and the numbers of cells."""
    sums, squares, m = shares.sum(1), (shares**2).sum(1), shares.shape[1]
    found, errors, counts = [], [], []
    while True:
        mean = ((sums**2 - squares) / (m * (m - 1))).mean(0)
        found.append(mean)
        errors.append(np.sqrt((2 / m**2 + 4 * mean.clip(0) / m) / len(sums)))
        counts.append(len(sums))
        if len(sums) == 1:
            return np.array(found), np.array(errors), np.array(counts)
        sums, squares, m = sums[::2] + sums[1::2], squares[::2] + squares[1::2], 2 * m


def _bias(shares: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean square ``(D,)``, its standard error, and a limit that it surely does not exceed."""
    means, errors, counts = _mean_squares(shares)
    columns = np.arange(means.shape[1])
    best = (means - SEEN * errors).argmax(0), columns
    limits = means.clip(0) + SURE * errors
    vouching = limits[counts <= max(_CELLS, _TO_A_PARAMETER ** shares.shape[-1])].max(0)
    return means[best], errors[best], np.maximum(vouching, limits[best])


def _width(
    ratio: RatioEstimator,
    theta: np.ndarray,
    x: np.ndarray,
    rows: np.ndarray,
    shares: np.ndarray,
    directions: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Root of the curvature over the scores' variance, along each direction, and its error."""
    each = max(1, min(rows.shape[1], _WIDTH_ROWS // len(rows)))
    chosen = rows[:, :each].ravel()
    width, error = np.empty((2, theta.shape[1]))
    for j in range(theta.shape[1]):
        square = shares[:, :each, j].ravel() ** 2
        along = np.repeat(directions[:, j], each, axis=0)
        product = ratio.evaluator.hessian_product(theta[chosen], x[chosen], along)
        curvature = -(product * along).sum(-1)
        # The posterior's precision is the curvature; right would be the variance.
        precision = curvature.mean() / square.mean() if curvature.any() else np.nan
        noise = (curvature - precision * square).std() / square.mean() / math.sqrt(square.size)
        width[j] = math.sqrt(max(precision, 0)) if precision == precision else np.nan
        error[j] = noise / (2 * width[j]) if width[j] > 0 else np.nan
    return width, error


def _curves(theta: np.ndarray, shares: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions, means and standard errors along each parameter; each ``(D, P)``."""
    parts = []
    for j in range(theta.shape[-1]):
        place, value = theta[..., j].ravel(), shares[..., j].ravel()
        groups = np.array_split(place.argsort(), _CURVE)
        parts.append(
            [(place[g].mean(), value[g].mean(), value[g].std() / math.sqrt(len(g))) for g in groups]
        )
    return tuple(np.moveaxis(np.array(parts), -1, 0))
