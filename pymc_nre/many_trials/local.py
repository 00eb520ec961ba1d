r"""Center a ratio where one posterior is: the bias there, fitted and taken off.

Near a posterior the mean :math:`b(\theta)` of a ratio's score (see `pymc_nre.many_trials.scores`)
is nearly linear in the parameters. So it is fitted by the gradient of a quadratic,

.. math:: \min_{c, B} E \| \nabla_\theta s(\theta, x) - c - B u \|^2, \qquad
    B \text{ symmetric}, \quad u = W (\theta - m),

on simulations at parameters around the posterior, which then moves: by less than a posterior
standard deviation, or the fit is repeated where it went. With M simulations and N trials what
is left is about :math:`\sqrt{N / M}` posterior standard deviations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.linalg import solve_continuous_lyapunov

from ..compat import posterior_of
from ..estimators.checks import simulator_of
from ..estimators.estimator import RatioEstimator
from ..estimators.evaluator import TorchEvaluator
from ..estimators.trial_budget import gain
from ..exceptions import SimulationError, TrainingWarning, warn
from ..likelihood.model_parameters import model_in_use, trials_of
from ..networks.correction import QuadraticCorrection
from ..runtime.arrays import whole_number
from ..runtime.progress import say
from ..runtime.random_streams import plain_seed
from ..simulation.execution import simulate_at
from ..simulation.simulations import Simulations
from ..simulation.simulator import Simulator
from .budget import check_continuous, trial_budget

__all__ = ["center_locally"]

_WIDTH = 2.5  # posterior standard deviations; with those of the draws themselves 2.7
_DRAWS, _FEWEST_DRAWS = 1_000, 100  # of the posterior, whose parameters are looked at
_FIXED = 1e-4  # standard deviations of the training prior, for a parameter that a model holds fixed
_TRIES = 10  # how often as many parameters may be drawn, to have enough inside the domain
_FEWEST = 20_000
_SCOUTS = 0.1  # share of the simulations in a round that only finds where the posterior goes
_ROUNDS = 6
_SETTLED = 0.5  # posterior standard deviations between two rounds
_REPORT = 0.25  # of the simulations again, on which the gain is measured


@dataclass(frozen=True)
class _Posterior:
    """Draws of the parameters of each group, and how many trials each has."""

    draws: np.ndarray  # (S, G, D)
    trials: np.ndarray  # (G,)
    smallest: np.ndarray  # (D,), standard deviations that are zero for what a model holds fixed

    @property
    def mean(self) -> np.ndarray:
        """Of each group, ``(G, D)``."""
        return self.draws.mean(0)

    @property
    def root(self) -> np.ndarray:
        """A root ``(D, D)`` of the groups' mean covariance."""
        centered = self.draws - self.mean
        covariance = np.einsum("sgd,sge->de", centered, centered) / len(self.draws)
        groups = self.draws.shape[1]
        return np.linalg.cholesky(covariance / groups + np.diag(self.smallest**2))

    def around(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Parameters ``(n, D)`` in and around it."""
        rows = self.draws.reshape(-1, self.draws.shape[2])
        noise = rng.normal(size=(n, rows.shape[1]))
        return rows[rng.integers(len(rows), size=n)] + _WIDTH * noise @ self.root.T

    def without(self, heights: np.ndarray) -> _Posterior:
        """Where it goes if ``heights`` ``(S, G)`` are taken off the log ratio of each trial.

        To first order means move by their covariance with what the log likelihood loses, which is
        exact for a normal posterior and heights that are linear. All groups count, for a model may
        tie their parameters together.
        """
        loss = heights @ self.trials
        centered = self.draws - self.mean
        step = np.einsum("sgd,s->gd", centered, loss - loss.mean()) / len(loss)
        return replace(self, draws=self.draws - step)

    def distance(self, other: _Posterior) -> float:
        """Mean over groups, largest over parameters, in posterior standard deviations."""
        spread = np.maximum(self.draws.std(0), self.smallest)
        return float((np.abs(self.mean - other.mean) / spread).mean(0).max())


def center_locally(
    ratio: RatioEstimator,
    around: Any,
    *,
    model: Any = None,
    simulator: Any = None,
    n: int | None = None,
    accuracy: float = 0.1,
    executor: Executor | None = None,
    random_seed: Any = None,
    progressbar: bool = True,
) -> RatioEstimator:
    """Mend a ratio near one posterior: what `pymc_nre.center` does with ``around=``."""
    simulator = simulator_of(ratio, simulator, "center around a posterior")
    n = None if n is None else whole_number(n, "center: n")
    _check(ratio, n, accuracy)
    given = _posterior(ratio, around, model)
    trials = given.trials.sum()
    n = max(math.ceil(trials / accuracy**2) if n is None else n, _FEWEST)
    if progressbar:
        say(
            f"centering on {n:,} simulations, which with {trials:,.0f} trials leaves an error of "
            f"about {math.sqrt(trials / n):.2g} posterior standard deviations"
        )
    seeds = iter(np.random.SeedSequence(plain_seed(random_seed)).spawn(_ROUNDS + 2))

    def simulations(where: _Posterior, n: int) -> Simulations:
        return _simulate(ratio, simulator, where, n, executor, next(seeds), progressbar)

    rounds = _Rounds(ratio, given)
    with rounds.until_interrupted():
        rounds.settle(simulations, scouts=max(round(_SCOUTS * n), _FEWEST))
        rounds.fit(simulations, n)
    # It is not normalized, by the quadratic, and what was measured everywhere no longer holds.
    centered = ratio.replace(network=rounds.network, normalized=False, budget=None)
    if progressbar and not rounds.interrupted:
        with rounds.until_interrupted():
            held_out = simulations(rounds.where, max(round(_REPORT * n), _FEWEST))
            say(_gain(ratio, centered, held_out, trials))
    return centered


class _Rounds:
    """Fits around where the posterior is, each better than the last; Ctrl-C ends with the best."""

    def __init__(self, ratio: RatioEstimator, given: _Posterior) -> None:
        self.ratio, self.given, self.where = ratio, given, given
        self.network: QuadraticCorrection | None = None
        self.interrupted = False

    @contextmanager
    def until_interrupted(self) -> Iterator[None]:
        """Keep what is there on Ctrl-C, if there is anything."""
        try:
            yield
        except KeyboardInterrupt:
            if self.network is None:
                raise
            self.interrupted = True
            warn(
                "Interrupted: the ratio is centered as far as it came, and was not measured.",
                TrainingWarning,
            )

    def fit(self, simulations: Callable[[_Posterior, int], Simulations], n: int) -> None:
        """Fit on ``n`` simulations around where the posterior is now."""
        self.network = _fit(self.ratio, self.where, simulations(self.where, n))

    def settle(self, simulations: Callable[[_Posterior, int], Simulations], scouts: int) -> None:
        """Follow the posterior until it hardly moves any more; warn if it goes on."""
        before = _heights(self.ratio.network, self.given)
        for _ in range(_ROUNDS):
            self.fit(simulations, scouts)
            there = self.given.without(_heights(self.network, self.given) - before)
            moved, self.where = there.distance(self.where), there
            if moved < _SETTLED:
                return
        warn(
            f"The posterior moves by {moved:.2g} standard deviations even after {_ROUNDS} rounds. "
            "Sample the model with what comes back, and center again around that; or fine-tune the "
            "ratio everywhere first, nre.center(ratio, nre.Online(prior, simulator)).",
            TrainingWarning,
        )


def _check(ratio: RatioEstimator, n: int | None, accuracy: float) -> None:
    check_continuous(ratio)
    if not 0 < accuracy < math.inf:
        raise ValueError(f"accuracy must be positive and finite, got {accuracy}.")
    if n is not None and n < _FEWEST:
        raise ValueError(f"n must be at least {_FEWEST:,}, got {n:,}.")


def _posterior(ratio: RatioEstimator, around: Any, model: Any) -> _Posterior:
    model = model_in_use(model)
    if model is None:
        raise ValueError(
            "center needs the model that the posterior was sampled with, which tells the ratio's "
            "parameters and how many trials share them. Pass model=model."
        )
    draws = posterior_of(around)
    n = draws.sizes["chain"] * draws.sizes["draw"]
    if n < _FEWEST_DRAWS:
        raise ValueError(f"center needs at least {_FEWEST_DRAWS} posterior draws, got {n}.")
    thinned = draws.isel(draw=slice(None, None, max(1, n // _DRAWS)))
    parameters, trials = trials_of(thinned, ratio, model)
    holes = ~np.isfinite(parameters).all((1, 2))
    if holes.any():
        raise ValueError(
            f"center: around= gives NaN or infinite parameters of the ratio at {holes.sum():,} of "
            f"{len(holes):,} draws; expected finite ones. Leave such draws out, and see why the "
            "sampler came there."
        )
    return _Posterior(parameters, trials, _FIXED * ratio.domain.draws.std(0))


def _simulate(
    ratio: RatioEstimator,
    simulator: Simulator,
    where: _Posterior,
    n: int,
    executor: Executor | None,
    seed: np.random.SeedSequence,
    progressbar: bool,
) -> Simulations:
    """``n`` simulations around a posterior, but those that fail."""
    for_parameters, for_simulator = seed.spawn(2)
    theta = _inside(ratio, where, n, np.random.default_rng(for_parameters))
    own = ratio.layout.unpack(theta)
    succeeded, x = simulate_at(simulator, own, for_simulator, executor, progressbar)
    if x.shape[1:] != ratio.event_shape:
        raise ValueError(
            f"The simulator gives observations of shape {x.shape[1:]}, and the ratio was trained "
            f"on {ratio.event_shape}. Pass simulator= the one that it was trained with."
        )
    if succeeded.mean() < 0.5:
        raise SimulationError(
            f"Only {succeeded.sum():,} of {len(succeeded):,} simulations around the posterior were "
            "without a failure. Mend the simulator."
        )
    return Simulations(ratio.layout.unpack(theta[succeeded]), x)


def _inside(
    ratio: RatioEstimator, where: _Posterior, n: int, rng: np.random.Generator
) -> np.ndarray:
    """Parameters ``(n, D)`` around a posterior and inside the training domain."""
    found = np.empty((0, ratio.layout.size))
    for _ in range(_TRIES):
        theta = where.around(n, rng)
        found = np.concatenate([found, theta[ratio.domain.inside(theta)]])
        if len(found) >= n:
            return found[:n]
    raise ValueError(
        "The posterior lies at the edge of the region where the ratio was trained, or beyond "
        f"({ratio.describe_domain()}). Train on a wider prior."
    )


def _fit(ratio: RatioEstimator, where: _Posterior, simulations: Simulations) -> QuadraticCorrection:
    """The quadratic whose gradient is the mean score, by least squares."""
    center, root = where.mean.mean(0), where.root
    theta = ratio.layout.pack(simulations.parameters)
    # In units of the posterior scores have the same noise in all directions, nearly.
    u = np.linalg.solve(root, (theta - center).T).T
    scores = TorchEvaluator(ratio.uncorrected).value_and_gradient(theta, simulations.x)[1] @ root
    middle, mean = u.mean(0), scores.mean(0)
    spread, slope = u - middle, (u - middle).T @ scores
    # Of a symmetric B the normal equations are S B + B S = C + C'.
    quadratic = solve_continuous_lyapunov(spread.T @ spread, slope + slope.T)
    network = QuadraticCorrection(ratio.uncorrected, len(center))
    linear = mean - middle @ quadratic
    network.set_parts(center, np.linalg.inv(root), np.abs(u).max(0), linear, quadratic)
    return network


def _heights(network: Any, where: _Posterior) -> np.ndarray:
    """What is taken off at each draw of each group, ``(S, G)``; bounds are left out of it."""
    if not isinstance(network, QuadraticCorrection):
        return np.zeros(where.draws.shape[:2])
    center, matrix, _, linear, quadratic = (part.cpu().numpy() for part in network.parts())
    u = (where.draws - center) @ matrix.T
    return (u * (linear + u @ quadratic / 2)).sum(-1)


def _gain(
    ratio: RatioEstimator, centered: RatioEstimator, held_out: Simulations, trials: float
) -> str:
    """The bias before and after, on other simulations, in words."""
    before, after = (trial_budget(one, held_out) for one in (ratio, centered))
    return gain(before, after, trials)
