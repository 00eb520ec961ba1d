r"""Do posteriors close in on the truth as trials add up, and at the right rate?

True parameters are drawn, many trials simulated at each, and the posteriors of the first 1, 10,
100, ... of them looked at. A ratio that is right concentrates as :math:`1 / \sqrt n` around the
truth; one that is slightly wrong concentrates beside it, and the posterior no longer holds it.

Posteriors come by importance sampling: from the prior for one trial, and then from Student's t
around the posterior found so far, fitted anew until enough draws count.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import xarray as xr

from ..amortized.data_sets import summed_log_ratio
from ..amortized.weights import normalized
from ..estimators.estimator import RatioEstimator
from ..estimators.evaluator import TorchEvaluator
from ..exceptions import CheckNotApplicable
from ..runtime.arrays import real_array, true_or_false, whole_number
from ..runtime.devices import resolve_device
from ..runtime.progress import progress
from ..runtime.random_streams import generator_of
from ..simulation.prior import Prior
from ..simulation.simulations import Simulations
from ..simulation.simulator import Simulator
from .calibration import judge
from .points import Trials, needed_simulator
from .prior_draws import pairs_for, refuse_holes, single_precision, with_holes
from .verdicts import Judgment, Verdict, told, worst

__all__ = ["convergence"]

_FROM_PRIOR = 10_000  # draws for the first posterior
_FEWEST = 50  # effective draws of a posterior that is used
_ENOUGH = 0.4  # share of draws that count, with which a fit is good
_FITS = 8
_LEAST = 1e-6  # of the variance of the draws before, that a proposal has at least
_FEWEST_TRUTHS = 10
_AS_WIDE = 0.99  # of the prior, that the narrowest posterior must not be
_WIDER, _TAILS = 1.3, 6  # of the t: its covariance over that of the posterior, degrees of freedom


def convergence(
    ratio: RatioEstimator,
    simulations: Simulations,
    *,
    n: Sequence[int] = (1, 10, 100, 1_000),
    truths: int = 50,
    draws: int = 300,
    simulator: Simulator | Callable[..., Any] | None = None,
    device: str = "auto",
    random_seed: Any = None,
    progressbar: bool = True,
) -> xr.Dataset:
    """Follow posteriors of known parameters as trials are added.

    Parameters
    ----------
    ratio : RatioEstimator
    simulations : Simulations
        Held-out ones from the training prior, which must know it; their parameters are the
        truths.
    n : sequence of int
        Numbers of trials, growing.
    truths : int
        How many true parameters, at least 10.
    draws : int
        For each posterior.
    simulator : Simulator or callable, optional
        By default that of the ratio.
    device : {"auto", "cpu", "cuda"}
        Where to evaluate, in single precision.
    random_seed : int, Generator or SeedSequence, optional
    progressbar : bool

    Returns
    -------
    xarray.Dataset
        By ``truth``, ``n`` and ``parameter``: ``error``, the posterior mean less the truth, and
        ``spread``, the posterior standard deviation, both in units of the parameter; ``pit``, the
        truth's rank, uniform over truths if posteriors are right. ``ess`` (truth, n); where fewer
        than 50 draws count the others are NaN. ``p_value`` and ``verdict`` (n): ``"right"``, what
        is wrong with the worst parameter, or ``"not known"`` if fewer than ten posteriors could be
        made, or those with the most trials are as wide as the prior; ``worst`` (n) is the label of
        that parameter, empty where nothing is wrong. The attribute ``trials`` is the largest n up
        to which all is right; the others are as for `sbc`, of the smallest n at which something is
        wrong.

    Raises
    ------
    ValueError
        If the simulations do not fit or do not know their prior, a parameter is an integer, the
        numbers of trials do not grow, there is no simulator, or hardly any simulation succeeds.

    Warns
    -----
    SimulationWarning
        If simulations failed.

    References
    ----------
    J. Hermans et al., Towards constraining warm dark matter with stellar streams through neural
    simulation-based inference (2021), arXiv:2011.14923, look at this in pictures.

    Examples
    --------
    >>> import pymc_nre as nre
    >>> task = nre.tasks.GaussianMean()
    >>> found = nre.diagnostics.convergence(
    ...     task.estimator(),
    ...     task.simulate(200, random_seed=1),
    ...     n=(1, 10, 100),
    ...     random_seed=2,
    ...     progressbar=False,
    ... )
    >>> found.attrs["trials"]
    100
    """
    n = n if isinstance(n, list | tuple) else np.atleast_1d(real_array(n, "convergence: n"))
    n = [whole_number(each, "convergence: n") for each in n]
    truths = whole_number(truths, "convergence: truths", least=_FEWEST_TRUTHS)
    draws = whole_number(draws, "convergence: draws")
    progressbar = true_or_false(progressbar, "convergence: progressbar")
    simulations = pairs_for(ratio, simulations, draws, "convergence")
    prior = _check(ratio, simulations, n)
    simulator = needed_simulator("convergence", simulator, ratio, simulations)
    evaluator = single_precision(ratio, resolve_device(device))
    rng = generator_of(random_seed)
    chosen = rng.permutation(len(simulations))[:truths]
    theta = ratio.layout.pack(simulations.parameters)[chosen]
    start, density = ratio.layout.pack(prior.draw(_FROM_PRIOR, rng)), prior.log_density_function()

    def log_prior(points: np.ndarray) -> np.ndarray:
        found = density(ratio.layout.unpack(points))
        return np.where(np.isnan(found), -np.inf, found)  # no value far outside of the support

    parts, trials = [], Trials("convergence", simulator, ratio, rng)
    with progress(enabled=progressbar) as display:
        bar = display.add_task("adding trials", total=len(theta), status="")
        for truth in theta:
            x = trials.at(truth, n[-1])
            parts.append(_follow(evaluator, log_prior, truth, x, n, start, draws, rng))
            display.advance(bar)
    trials.tell()
    return _result(ratio, np.array(parts), theta, n, start.std(0))


def _check(ratio: RatioEstimator, simulations: Simulations, n: Sequence[int]) -> Prior:
    if simulations.known_prior is None:
        raise CheckNotApplicable(
            "convergence draws from the training prior, and these simulations do not know it. Make "
            "them by simulate, or pass it: Simulations(parameters, x, prior=prior)."
        )
    if ratio.layout.integer:
        raise CheckNotApplicable(
            f"convergence needs continuous parameters; {', '.join(sorted(ratio.layout.integer))} "
            "is an integer."
        )
    if not n or n[0] < 1 or any(b <= a for a, b in pairwise(n)):
        raise ValueError(f"n must be growing numbers of trials, got {tuple(n)}.")
    return simulations.known_prior


def _follow(
    evaluator: TorchEvaluator,
    log_prior: Callable[[np.ndarray], np.ndarray],
    truth: np.ndarray,
    x: np.ndarray,
    numbers: Sequence[int],
    start: np.ndarray,
    draws: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Posteriors of the first trials: for each number mean, sd, pit, ess: ``(N, 3 D + 1)``."""
    rows = []
    # Whatever the first number, one trial's posterior is wide enough to begin with the prior.
    theta, log_weights = start, _sum(evaluator, start, x[:1])
    for n in numbers:
        fitted = n == 1
        for _ in range(_FITS):
            weights, ess = normalized(log_weights)
            if fitted and ess >= _ENOUGH * draws:
                break
            proposal = _proposal(theta, weights)
            theta = proposal.rvs(draws, random_state=rng).reshape(draws, -1)
            log_weights = log_prior(theta) - proposal.logpdf(theta)
            inside = np.isfinite(log_weights)
            if inside.any():
                log_weights[inside] += _sum(evaluator, theta[inside], x[:n])
            fitted = True
        rows.append(_described(theta, *normalized(log_weights), truth, rng))
    return np.array(rows)


def _sum(evaluator: TorchEvaluator, theta: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Log ratios of all trials together, ``(m,)``; what is wrong is told of by trial."""
    with np.errstate(invalid="ignore"):  # infinities of both signs make NaN: no trial hides there
        total = summed_log_ratio(evaluator, theta[None], x[None])
    if with_holes(total):
        each = (evaluator.table(theta[None], trial[None]) for trial in x)
        refuse_holes(sum(map(with_holes, each)), len(x))
    return total[0]


def _proposal(theta: np.ndarray, weights: np.ndarray) -> Any:
    """Student's t around weighted draws; a little wider than they are."""
    from scipy.stats import multivariate_t  # slow to import

    mean = weights @ theta
    centered = theta - mean
    covariance = (weights[:, None] * centered).T @ centered
    floor = _LEAST * theta.var(0) + np.finfo(float).tiny  # where few draws count
    return multivariate_t(mean, _WIDER * covariance + np.diag(floor), df=_TAILS)


def _described(
    theta: np.ndarray, weights: np.ndarray, ess: float, truth: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Error, spread and rank of each parameter, and the effective draws: ``(3 D + 1,)``."""
    size = len(truth)
    if ess < _FEWEST:
        return np.append(np.full(3 * size, math.nan), ess)
    mean = weights @ theta
    spread = np.sqrt(weights @ (theta - mean) ** 2)
    below = weights @ (theta < truth)
    # Of the effective draws and the truth, itself one more, in random order where it ties.
    pit = (below * ess + rng.random(size)) / (ess + 1)
    return np.concatenate([mean - truth, spread, pit, [ess]])


def _result(
    ratio: RatioEstimator,
    found: np.ndarray,
    theta: np.ndarray,
    numbers: Sequence[int],
    prior_sd: np.ndarray | float = math.inf,
) -> xr.Dataset:
    """The dataset, of what was found ``(truths, N, 3 D + 1)``."""
    size = theta.shape[1]
    error, spread, pit = np.moveaxis(found[..., :-1].reshape(*found.shape[:2], 3, size), 2, 0)
    nothing = _learn_nothing(spread, prior_sd)
    if nothing:
        pit = np.full_like(pit, math.nan)  # the prior is right on average
    by_number = zip(numbers, np.moveaxis(pit, 1, 0), strict=True)
    judged = {n: _judged(ranks, ratio.layout.labels, len(numbers)) for n, ranks in by_number}
    wrong = next((n for n, one in judged.items() if not one.verdict.passes), None)
    fine = [n for n, one in judged.items() if one.verdict.is_fine and n < (wrong or math.inf)]
    trials = max(fine, default=0)
    p_values = [one.p_value for one in judged.values()]
    told_of = Judgment(math.nan, Verdict.NOT_KNOWN)  # where no posterior could be made
    if trials or wrong:
        told_of = judged[wrong or trials]
    dims = ("truth", "n", "parameter")
    return xr.Dataset(
        {
            "error": (dims, error),
            "spread": (dims, spread),
            "pit": (dims, pit),
            "ess": (("truth", "n"), found[..., -1]),
            "p_value": ("n", p_values),
            "verdict": ("n", [one.verdict.value for one in judged.values()]),
            "worst": ("n", [one.parameter for one in judged.values()]),
            "true": (("truth", "parameter"), theta),
        },
        coords={"n": list(numbers), "parameter": ratio.layout.labels},
        attrs=told(
            min([p for p in p_values if p == p], default=math.nan),
            told_of.verdict,
            f"{_summary(trials, wrong, told_of, nothing)}, by {len(theta)} true parameters.",
        )
        | {"parameter": told_of.parameter, "trials": trials},
    )


def _judged(pit: np.ndarray, labels: Sequence[str], numbers: int) -> Judgment:
    """Of the worst parameter, by ranks ``(truths, D)``, one of so many that are looked at."""
    known = pit[np.isfinite(pit).all(1)]
    if len(known) < _FEWEST_TRUTHS:
        return Judgment(math.nan, Verdict.NOT_KNOWN)
    found = [judge(column, len(known)).among(len(labels) * numbers) for column in known.T]
    return worst(found, labels)


def _learn_nothing(spread: np.ndarray, prior_sd: np.ndarray | float) -> bool:
    """Whether with the most trials posteriors ``(truths, N, D)`` are as wide as the prior."""
    last = spread[np.isfinite(spread[:, -1]).all(-1), -1]
    return bool(len(last)) and bool((np.median(last, axis=0) > _AS_WIDE * prior_sd).all())


def _summary(trials: int, wrong: int | None, told_of: Judgment, nothing: bool) -> str:
    """Up to how many trials all is right, and what is wrong with how many."""
    if nothing:
        return "Posteriors of however many trials are as wide as the prior: nothing is known"
    if not (trials or wrong):
        return "Too few posteriors could be made to tell whether they are right"
    said = "Posteriors are not right"
    if trials:
        said = f"Posteriors are right up to {trials:,} trial{'s' * (trials > 1)}"
    if wrong:
        said += f"; with {wrong:,} those of {told_of.parameter} are {told_of.verdict} "
        said += f"(p = {told_of.p_value:.2g})"
    return said
