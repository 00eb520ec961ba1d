r"""Can observations that the ratio reweights be told from those of the simulator?

At fixed parameters, observations of the whole prior, weighted by the ratio, should be
distributed as those that the simulator makes there,

.. math:: p(x)\, r(x \mid \theta) = p(x \mid \theta).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import xarray as xr
from scipy.special import logsumexp, ndtr
from torch import Tensor

from ...amortized.weights import normalized
from ...estimators.checks import as_numbers, fitting
from ...estimators.estimator import RatioEstimator
from ...exceptions import CheckNotApplicable
from ...runtime.arrays import whole_number
from ...runtime.random_streams import generator_of
from ...simulation.simulations import Simulations
from ...simulation.simulator import Simulator
from ..points import Trials, needed_simulator, points_of
from ..verdicts import Judgment, Verdict, told
from .classifiers import Classifiers

__all__ = ["auc"]

_FEWEST = 100  # effective observations
_EPOCHS = 30
_LARGEST = 700.0  # whose exponential is a number


def auc(
    ratio: RatioEstimator,
    simulations: Simulations,
    *,
    at: Mapping[str, Any] | None = None,
    n: int = 2_000,
    points: int = 3,
    simulator: Simulator | Callable[..., Any] | None = None,
    random_seed: Any = None,
) -> xr.Dataset:
    """How well a classifier tells reweighted observations from those of the simulator.

    The area under its ROC curve: one half if the ratio is right. A classifier that is too weak
    finds it right as well, and this cannot tell posteriors that are too narrow from those that are
    too wide.

    Parameters
    ----------
    ratio : RatioEstimator
        Normalized, over the evidence.
    simulations : Simulations
        Held-out ones from the training prior.
    at : mapping, optional
        Parameters by name, of their own shapes, where to look, or several of each along a leading
        axis; by default those of a few simulations.
    n : int
        Observations to simulate at each point.
    points : int
        How many points, if ``at`` is not given.
    simulator : Simulator or callable, optional
        By default that of the ratio.
    random_seed : int, Generator or SeedSequence, optional

    Returns
    -------
    xarray.Dataset
        For each ``point``: ``auc`` and its standard error ``auc_error``, ``ess`` (the effective
        number of reweighted observations, by their weights or by the log ratios of simulated
        ones, whichever is less), and ``p_value``, which is NaN where there are fewer than 100 of
        these; ``false_positive`` and ``true_positive`` (point, threshold), the ROC
        curve; the parameters. Attributes as for `coverage`.

    Raises
    ------
    ValueError
        If the ratio is not normalized or not over the evidence, there is no simulator, or the
        simulations do not fit.

    References
    ----------
    J. Hermans, V. Begy and G. Louppe, Likelihood-free MCMC with amortized approximate ratio
    estimators (2020), arXiv:1903.04057.

    Examples
    --------
    >>> import pymc_nre as nre
    >>> task = nre.tasks.GaussianMean()
    >>> found = nre.diagnostics.auc(
    ...     task.estimator(), task.simulate(10_000, random_seed=1), at={"mu": 1.0}, random_seed=2
    ... )
    >>> found.attrs["verdict"]
    'right'
    """
    n, points = whole_number(n, "auc: n"), whole_number(points, "auc: points")
    simulations = fitting(ratio, simulations, "auc")
    _check(ratio)
    simulator = needed_simulator("auc", simulator, ratio, simulations)
    rng = generator_of(random_seed)
    theta = _points(ratio, simulations, at, points, rng)
    trials = Trials("auc", simulator, ratio, rng)
    found = [_at(ratio, simulations, trials.at, one, n, rng) for one in theta]
    trials.tell()
    joined = {name: np.stack([part[name] for part in found]) for name in found[0]}
    p_values = joined["p_value"]
    known = p_values[np.isfinite(p_values)]
    judged = Judgment(math.nan, Verdict.NOT_KNOWN)
    if len(known):
        judged = Judgment(known.min(), Verdict.TOLD_APART).among(len(known))
    dims = {name: ("point", "threshold")[: values.ndim] for name, values in joined.items()}
    return xr.Dataset(
        {name: (dims[name], values) for name, values in joined.items()}
        | {"parameters": (("point", "parameter"), theta)},
        coords={"parameter": ratio.layout.labels},
        attrs=told(judged.p_value, judged.verdict, _summary(joined, judged)),
    )


def _summary(found: Mapping[str, np.ndarray], judged: Judgment) -> str:
    if judged.verdict is Verdict.NOT_KNOWN:
        return (
            f"The ratio gives at most {found['ess'].max():.0f} observations of the whole prior "
            "weight at one point: too few to compare. Give more simulations."
        )
    worst = np.nanargmax(np.where(np.isfinite(found["p_value"]), found["auc"], np.nan))
    return (
        "Reweighted and simulated observations are "
        f"{'not ' * judged.verdict.is_fine}told apart: area under the ROC curve "
        f"{found['auc'][worst]:.3f} ± {found['auc_error'][worst]:.2g} where it is largest "
        f"(p = {judged.p_value:.2g}, {len(found['auc'])} points)."
    )


def _check(ratio: RatioEstimator) -> None:
    if not (ratio.normalized and ratio.reference == "evidence"):
        raise CheckNotApplicable(
            "auc reweights observations of the prior, which takes a normalized ratio over the "
            f"evidence; this one was trained by {ratio.loss or 'a loss'} and is "
            f"{'over another reference' if ratio.normalized else 'not normalized'}. Look at "
            "coverage, or train by NREA(), NREC() or BNRE()."
        )


def _points(
    ratio: RatioEstimator,
    simulations: Simulations,
    at: Mapping[str, Any] | None,
    points: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Parameters ``(points, D)``."""
    if at is not None:
        return points_of(ratio, at, "auc")
    theta = ratio.layout.pack(simulations.parameters)
    return theta[rng.choice(len(theta), min(points, len(theta)), replace=False)]


def _at(
    ratio: RatioEstimator,
    simulations: Simulations,
    simulated_at: Callable[[np.ndarray, int], np.ndarray],
    theta: np.ndarray,
    n: int,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """What is found at one point ``(D,)``."""
    weights, ess = normalized(ratio.evaluator.value(theta[None], simulations.x))
    simulated = simulated_at(theta, n)
    ess = min(ess, _expected_ess(ratio.evaluator.value(theta[None], simulated), len(weights)))
    grid = np.linspace(0, 1, 101)
    if ess < _FEWEST:
        nothing = np.full_like(grid, math.nan)
        numbers = dict.fromkeys(("auc", "auc_error", "p_value"), math.nan)
        return numbers | {"ess": ess, "false_positive": nothing, "true_positive": nothing}
    x = np.concatenate([simulations.x, simulated])
    x = as_numbers(ratio, x, like=x)
    labels = np.arange(len(x)) >= len(weights)
    w = np.concatenate([weights, np.full(len(simulated), 1 / len(simulated))])
    test = rng.permutation(len(x)) < len(x) // 2
    scores = _scores(x, labels, w, test, rng)
    return {"ess": ess} | _area(scores, labels[test], w[test], grid)


def _expected_ess(log_ratios: np.ndarray, n: int) -> float:
    """Of n reweighted observations, by the log ratios of simulated ones.

    The mean square of weights over the prior is the mean weight over what is simulated here. A
    part of it that so few observations of the prior are not in has no weight among them, and
    their own effective number would be too large.
    """
    return math.exp(min(math.log(n * len(log_ratios)) - logsumexp(log_ratios), _LARGEST))


def _scores(
    x: np.ndarray, labels: np.ndarray, weights: np.ndarray, test: np.ndarray, rng: Any
) -> np.ndarray:
    """Logits of the tested half, of a classifier that was trained on the other."""
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    inputs = torch.as_tensor(x, dtype=torch.float32)
    train = torch.as_tensor(~test & (weights > 1e-6 * weights.max()))
    w = torch.as_tensor(weights, dtype=torch.float32)[train]
    classifier = Classifiers(inputs[train], 1, generator)
    goal: Tensor = torch.as_tensor(labels, dtype=torch.float32)[None, train]
    classifier.fit(inputs[train], goal, w / w.mean(), epochs=_EPOCHS, generator=generator)
    with torch.no_grad():
        return classifier(inputs[torch.as_tensor(test)])[0].numpy()


def _area(
    scores: np.ndarray, labels: np.ndarray, weights: np.ndarray, grid: np.ndarray
) -> dict[str, Any]:
    """The area under the ROC curve with the error of DeLong et al. (1988), for weighted ones."""
    values, place = np.unique(scores, return_inverse=True)  # ties count half
    masses = [np.where(labels == side, weights, 0) for side in (0, 1)]
    masses = [mass / mass.sum() for mass in masses]
    steps = [np.bincount(place, mass, len(values)) for mass in masses]
    below = [(step.cumsum() - step / 2)[place] for step in steps]
    area = float(masses[1] @ below[0])
    placements = (below[0], 1 - below[1])  # of the ones among the zeros, and the other way
    variance = sum(
        (masses[side] ** 2 * (placements[1 - side] - area) ** 2).sum() for side in (0, 1)
    )
    error = math.sqrt(variance)
    # Under the hypothesis that is tested; where few weights count it is the larger one.
    by_chance = math.sqrt(sum((mass**2).sum() for mass in masses) / 12)
    passed = [np.concatenate([[0], step[::-1].cumsum()]) for step in steps]
    return {
        "auc": area,
        "auc_error": error,
        "p_value": float(ndtr(-(area - 0.5) / max(error, by_chance))),
        "false_positive": grid,
        "true_positive": np.interp(grid, *passed),
    }
