r"""How many trials a ratio can bear before its bias shows.

A small error in each trial's score is the same in all of them and grows with their number, while
the posterior narrows (see `scores`). Its size is measured on simulations that
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
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from ...runtime.arrays import real_number
from ...simulation.simulations import Simulations
from ..checks import as_taken, check_fit, check_parameters
from ..estimator import RatioEstimator
from .scores import standardized_scores
from .trial_budget import SEEN, SURE, Region, TrialBudget

__all__ = ["FEWEST", "SHARE", "check_same_parameters", "measure", "trial_budget"]

FEWEST = 1_000  # simulations
SHARE = 0.2  # posterior standard deviations

_CURVE = 20  # points of a curve of the bias along one parameter
_KNOWN_ROWS, _KNOWN = 20_000, 3.0  # pairs; standard errors by which log ratios must be larger
_WIDTH_ROWS = 20_000  # trials whose second derivatives are taken
# Cells that tell what may have been missed, 8 to a parameter and no fewer than 64. Finer ones have
# so much noise that they could vouch for little: they count where they do show more.
_TO_A_PARAMETER, _CELLS = 8, 64
_PARTS, _MOST = 5, 0.5  # of the prior along a parameter; of the bias, for one of them to be named


def trial_budget(
    ratio: RatioEstimator, simulations: Simulations, *, share: float = SHARE
) -> TrialBudget:
    r"""Measure how many independent trials a ratio can bear.

    An error that a ratio makes in every trial grows with their number as its square root, in
    posterior standard deviations. This predicts its size from simulations, before any sampling,
    and says at how many trials it reaches a share of the posterior's standard deviation.
    `pymc_nre.train` does it with the simulations that it holds out, which are fewer.

    Parameters
    ----------
    ratio : RatioEstimator
    simulations : Simulations
        From the training prior, and not those that it was trained on; or from a narrower one, if
        that is what matters. The more, the smaller a bias can be seen: to vouch for N trials
        takes some 1,000 N simulations, and several times as many for three parameters or more,
        whose domain has more cells to look at. With several points in a simulation, each is a
        trial: they are independent given the parameters.
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
    TypeError, ValueError
        If the simulations do not fit the ratio or are fewer than 1,000, all parameters are
        integers, or share is not positive.

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
    means nothing. Parameters that are integers have no score: the others are measured, at all
    values that the integers take.

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
    return measure(ratio, as_taken(ratio, simulations), share)


def measure(
    ratio: RatioEstimator, simulations: Simulations, share: float = SHARE, width: bool = True
) -> TrialBudget:
    """The budget, of what was checked; without the width it takes one gradient for each trial."""
    theta, x = ratio.layout.pack(simulations.parameters), simulations.points
    theta = np.repeat(theta, simulations.counts, axis=0) if simulations.iid else theta
    rows, shares, directions = standardized_scores(ratio, theta, x)
    unknown = np.full((2, shares.shape[-1]), np.nan)
    return TrialBudget(
        tuple(ratio.layout.continuous_labels),
        len(x),
        share,
        *_bias(shares),
        *(_width(ratio, theta, x, rows, shares, directions) if width else unknown),
        *_curves(theta[rows][..., ratio.layout.continuous], shares),
        _region(theta[rows], shares, share, ratio.layout.labels),
        _knows_something(ratio, theta, x),
    )


def check_same_parameters(ratio: RatioEstimator, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise ValueError unless simulations are of these parameters, some of them continuous."""
    check_parameters(ratio, shapes)
    if not len(ratio.layout.continuous):
        raise ValueError(
            f"{', '.join(sorted(ratio.parameters))} is an integer: a likelihood has no score in "
            "it, and what is measured or mended here is the mean of scores. Expected a parameter "
            "that is continuous. Whether a model of many trials is calibrated tells "
            "nre.diagnostics.sbc_model."
        )


def _check(ratio: RatioEstimator, simulations: Simulations) -> None:
    check_fit(ratio, simulations, "trial_budget")
    check_same_parameters(ratio, simulations.layout.shapes)
    trials = int(simulations.counts.sum())
    if trials < FEWEST:
        raise ValueError(
            f"trial_budget needs at least 1,000 simulations, got {trials}; 100,000 are usual."
        )


def _knows_something(ratio: RatioEstimator, theta: np.ndarray, x: np.ndarray) -> bool:
    """Whether log ratios are larger for pairs that belong together than for others.

    Scores of noise have mean zero as well.
    """
    theta, x = theta[:_KNOWN_ROWS], x[:_KNOWN_ROWS]
    others = np.roll(theta, len(theta) // 2, axis=0)
    more = ratio.evaluator.value(theta, x) - ratio.evaluator.value(others, x)
    return bool(more.mean() > _KNOWN * more.std() / math.sqrt(len(more)))


def _squares_of_means(shares: np.ndarray) -> Iterator[tuple[np.ndarray, int]]:
    """Of cells of one size after another: each one's squared mean ``(C, D)``, and its trials.

    They are estimated without bias, by all products of two different trials.
    """
    sums, squares, m = shares.sum(1), (shares**2).sum(1), shares.shape[1]
    while True:
        yield (sums**2 - squares) / (m * (m - 1)), m
        if len(sums) == 1:
            return
        sums, squares, m = sums[::2] + sums[1::2], squares[::2] + squares[1::2], 2 * m


def _over_cells(squares: np.ndarray, m: int) -> tuple[np.ndarray, np.ndarray]:
    """Their mean over cells of m trials, and its standard error; both ``(D,)``."""
    mean = squares.mean(0)
    return mean, np.sqrt((2 / m**2 + 4 * mean.clip(0) / m) / len(squares))


def _mean_squares(shares: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean squares of cells' means and standard errors, ``(R, D)``, and the numbers of cells."""
    sizes = list(_squares_of_means(shares))
    means, errors = map(np.array, zip(*(_over_cells(*size) for size in sizes), strict=True))
    return means, errors, np.array([len(squares) for squares, _ in sizes])


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
    width, error = np.empty((2, shares.shape[-1]))
    along = np.zeros((chosen.size, theta.shape[1]))
    for j in range(shares.shape[-1]):
        square = shares[:, :each, j].ravel() ** 2
        along[:, ratio.layout.continuous] = np.repeat(directions[:, j], each, axis=0)
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


def _region(
    theta: np.ndarray, shares: np.ndarray, share: float, labels: Sequence[str]
) -> Region | None:
    """Where along some parameter most of the bias is, if one fifth of the prior holds it."""
    means, errors, counts = _mean_squares(shares)
    size, j = np.unravel_index((means - SEEN * errors).argmax(), means.shape)
    if means[size, j] <= SEEN * errors[size, j] or counts[size] < 2 * _PARTS:
        return None
    squares, m = list(_squares_of_means(shares))[size]
    middles = theta.reshape(len(squares), -1, theta.shape[-1]).mean(1)
    # Of places in order, for each parameter: which fifth has most of the squared bias?
    orders = middles.argsort(axis=0).T
    fifths = [[part, k] for k, order in enumerate(orders) for part in np.array_split(order, _PARTS)]
    inside, k = max(fifths, key=lambda each: squares[each[0], j].sum())
    part = float(squares[inside, j].sum() / squares[:, j].sum())
    if part < _MOST:
        return None
    others = np.delete(squares, inside, axis=0)
    mean, error = _over_cells(others, m)
    elsewhere = share**2 / (mean.clip(0) + SURE * error).max()
    ends = middles[inside, k]
    low = -math.inf if ends.min() <= middles[:, k].min() else float(ends.min())
    high = math.inf if ends.max() >= middles[:, k].max() else float(ends.max())
    return Region(labels[k], low, high, min(part, 1.0), float(elsewhere))
