r"""Where true parameters rank among the draws of their posteriors, for many held-out pairs.

If a posterior is right, the true parameters are one more draw of it. So their rank among its
draws, by whatever statistic, is uniform over many pairs :math:`(\theta^*, x^*)`; coverage,
simulation-based calibration and TARP differ in the statistic alone.

Posteriors come without MCMC: draws :math:`\theta_1, \dots, \theta_M` of the prior, weighted by the
ratio. The true parameters take part with a weight of their own,

.. math:: W_i = \frac{r(\theta_i, x^*)}{\sum_{j=0}^M r(\theta_j, x^*)}, \quad \theta_0 = \theta^*,
    \qquad u = \sum_{i : t_i < t_0} W_i + v\, W_0, \quad v \sim U(0, 1).

Given the set of all M + 1, the exact ratio makes :math:`W_i` the probability that it is i that the
data were simulated from. So u is uniform for the exact ratio with any number of draws, and a test
of it has no false alarms for lack of draws; what few effective draws cost is power.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr

from ..amortized.weights import effective_number
from ..estimators.estimator import RatioEstimator
from ..estimators.evaluator import TorchEvaluator
from ..exceptions import PosteriorWarning, warn
from ..runtime.arrays import true_or_false, whole_number
from ..runtime.devices import resolve_device
from ..runtime.progress import progress
from ..runtime.random_streams import generator_of
from ..simulation.simulations import Simulations
from .calibration import FEW
from .prior_draws import PriorDraws, log_ratios, pairs_for, rows_at_once, single_precision

__all__ = ["posterior_ranks", "ranks_of"]


def posterior_ranks(
    ratio: RatioEstimator,
    simulations: Simulations,
    *,
    draws: int = 1_000,
    device: str = "auto",
    random_seed: Any = None,
    progressbar: bool = True,
) -> xr.Dataset:
    r"""Rank true parameters among the draws of their posteriors, without MCMC.

    Parameters
    ----------
    ratio : RatioEstimator
    simulations : Simulations
        Held-out pairs from the training prior, at least 100; a posterior is made for each. If
        they do not know their prior (``Simulations(..., prior=)``), or some have failed, it is
        drawn from by taking the parameters of other pairs, which halves what they count; if they
        do not know it, densities are ranked by the ratio alone.
    draws : int
        Of the prior, for each posterior; of other pairs' parameters at most all.
    device : {"auto", "cpu", "cuda"}
        Where to evaluate, in single precision.
    random_seed : int, Generator or SeedSequence, optional
    progressbar : bool

    Returns
    -------
    xarray.Dataset
        For each pair, all in [0, 1] and uniform if the posteriors are right: ``pit``
        (pair, parameter), the rank of a parameter by its value; ``density`` (pair), by its
        posterior density, the highest first, so that it is the level of the smallest highest
        density region that holds the truth; ``distance`` (pair), by the distance from a random
        point (TARP). Beside them ``ess`` (pair), the effective number of draws, and
        ``log_evidence`` (pair), the log of the ratio's mean over draws of the prior, which is
        zero for a normalized ratio; ``log_ratio`` (pair) at the truth, and
        ``log_ratio_marginal`` (pair) at a draw of the prior instead.

    Raises
    ------
    ValueError
        If the simulations do not fit or are fewer than 100.

    Warns
    -----
    PosteriorWarning
        If half of the posteriors rest on fewer than 10 effective draws.

    References
    ----------
    S. Talts et al., Validating Bayesian inference algorithms with simulation-based calibration
    (2018), arXiv:1804.06788. J. Hermans et al., A crisis in simulation-based inference? (2022),
    arXiv:2110.06581. P. Lemos et al., Sampling-based accuracy testing of posterior estimators for
    general inference (2023), arXiv:2302.03026.

    Examples
    --------
    >>> import pymc_nre as nre
    >>> task = nre.tasks.GaussianMean()
    >>> pairs = task.simulate(500, random_seed=1)
    >>> ranks = nre.diagnostics.posterior_ranks(
    ...     task.estimator(), pairs, draws=200, random_seed=1, progressbar=False
    ... )
    >>> dict(ranks["pit"].sizes)
    {'pair': 500, 'parameter': 1}
    """
    draws = whole_number(draws, "posterior_ranks: draws", least=FEW)
    progressbar = true_or_false(progressbar, "posterior_ranks: progressbar")
    simulations = pairs_for(ratio, simulations, draws, "posterior_ranks")
    device = resolve_device(device)
    rng = generator_of(random_seed)
    prior = PriorDraws(ratio, simulations, draws, rng)
    evaluator = single_precision(ratio, device)
    with progress(enabled=progressbar) as display:
        bar = display.add_task("ranking", total=len(simulations), status="")
        joined = ranks_of(
            evaluator, prior, simulations.x, rng, lambda done: display.update(bar, completed=done)
        )
    if np.median(joined["ess"]) < FEW:
        warn(
            f"Half of the posteriors rest on fewer than {np.median(joined['ess']):.1f} effective "
            f"draws of {prior.draws:,}: data say much more than the prior. Checks of these ranks "
            "raise no false alarms, but see little. Train with a narrower prior around the data, "
            "or give more draws=.",
            PosteriorWarning,
        )
    dims = {name: ("pair", "parameter")[: values.ndim] for name, values in joined.items()}
    return xr.Dataset(
        {name: (dims[name], values) for name, values in joined.items()},
        coords={"parameter": ratio.layout.labels},
        attrs={
            "draws": prior.draws,
            "effective_pairs": prior.effective_pairs,
            "density": "posterior" if prior.is_known else "ratio",
            "normalized": int(ratio.normalized and ratio.reference == "evidence"),
        },
    )


def ranks_of(
    evaluator: TorchEvaluator,
    prior: PriorDraws,
    x: np.ndarray,
    rng: np.random.Generator,
    tell: Callable[[int], None] = lambda done: None,
    truth_weighs: bool = True,
) -> dict[str, np.ndarray]:
    """What is known of the pairs of ``prior.truth`` and ``x``; ``tell`` hears how many are done.

    A truth that was not drawn from the prior must not weigh itself.
    """
    rows = rows_at_once(evaluator, x[:1], prior.draws + 1)
    parts = []
    for start in range(0, len(x), rows):
        block = slice(start, start + rows)
        parts.append(_ranks(evaluator, prior, block, x[block], rng, truth_weighs))
        tell(min(block.stop, len(x)))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _ranks(
    evaluator: TorchEvaluator,
    prior: PriorDraws,
    block: slice,
    x: np.ndarray,
    rng: np.random.Generator,
    truth_weighs: bool,
) -> dict[str, np.ndarray]:
    """What is known of each pair of a block."""
    theta, log_prior = prior.around(block)
    logits = log_ratios(evaluator, theta, x)
    highest = logits.max(1, keepdims=True)
    weights = np.exp(logits - highest)
    others = weights[:, 1:]
    if not truth_weighs:
        weights[:, 0] = 0
    distance = (((theta - prior.reference(len(theta))) / prior.scale) ** 2).sum(-1)

    def rank(statistic: np.ndarray) -> np.ndarray:
        return _rank(statistic, weights, rng)

    return {
        "pit": np.stack([rank(column) for column in np.moveaxis(theta, 2, 0)], axis=1),
        "density": rank(-logits - log_prior),
        "distance": rank(distance),
        "ess": effective_number(others),
        "log_evidence": np.log(others.mean(1).clip(np.finfo(float).tiny)) + highest[:, 0],
        "log_ratio": logits[:, 0],
        "log_ratio_marginal": logits[:, 1],
    }


def _rank(statistic: np.ndarray, weights: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Share of the weights ``(b, m)`` below the first entry's statistic, ties at random."""
    first = statistic[:, :1]
    below = np.where(statistic < first, weights, 0).sum(1)
    tied = np.where(statistic == first, weights, 0).sum(1)  # the first itself among them
    total = np.maximum(weights.sum(1), np.finfo(float).tiny)
    return (below + rng.random(len(weights)) * tied) / total
