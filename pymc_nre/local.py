r"""Center a ratio where one posterior is: the bias there, fitted and taken off.

Near a posterior the mean :math:`b(\theta)` of a ratio's score (see `pymc_nre.scores`) is nearly
linear in the parameters. So it is fitted by the gradient of a quadratic,

.. math:: \min_{c, B} E \| \nabla_\theta s(\theta, x) - c - B u \|^2, \qquad
    B \text{ symmetric}, \quad u = W (\theta - m),

on simulations at parameters around the posterior, which then moves: by less than a posterior
standard deviation, or the fit is repeated where it went. With M simulations and N trials what
is left is about :math:`\sqrt{N / M}` posterior standard deviations.
"""

from __future__ import annotations

import copy
import math
import warnings
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import solve_continuous_lyapunov

from .budget import check_continuous, trial_budget
from .data import Simulations, Simulator, as_simulator
from .estimator import RatioEstimator
from .evaluate import TorchEvaluator
from .execution import Job, run
from .mapping import model_in_use, posterior_of, trials_of
from .progress import say
from .simulate import observations_of
from .tilted import Tilted
from .train import TrainingWarning

__all__ = ["center_locally"]

_WIDTH = 2.5  # posterior standard deviations; with those of the draws themselves 2.7
_DRAWS = 400  # of the posterior, whose parameters are looked at
_FEWEST = 20_000
_SCOUTS = 0.1  # share of the simulations in a round that only finds where the posterior goes
_ROUNDS = 6
_SETTLED = 0.5  # posterior standard deviations between two rounds
_REPORT = 0.25  # of the simulations again, on which the gain is measured


@dataclass(frozen=True)
class _Posterior:
    """Normal approximations to what is known of the parameters of each group."""

    mean: np.ndarray  # (G, D)
    covariance: np.ndarray  # (G, D, D)
    trials: np.ndarray  # (G,)

    @classmethod
    def of(cls, theta: np.ndarray, trials: np.ndarray) -> _Posterior:
        """Of draws ``(S, G, D)``."""
        centered = theta - theta.mean(0)
        covariance = np.einsum("sgd,sge->gde", centered, centered) / (len(theta) - 1)
        return cls(theta.mean(0), covariance, trials)

    @property
    def within(self) -> np.ndarray:
        """A root ``(D, D)`` of the groups' mean covariance."""
        return np.linalg.cholesky(self.covariance.mean(0))

    def around(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Parameters ``(n, D)`` in and around it."""
        group = rng.integers(len(self.mean), size=n)
        size = self.mean.shape[1]
        wide = _WIDTH * rng.normal(size=(n, size)) @ self.within.T
        own = np.linalg.cholesky(self.covariance)[group] @ rng.normal(size=(n, size, 1))
        return self.mean[group] + own[..., 0] + wide

    def tilted(self, before: np.ndarray, after: np.ndarray) -> _Posterior:
        """Where it goes with log ratios less ``after``, if ``before`` was taken off already.

        Both are gradients ``(G, D)`` at its means beside Hessians ``(G, D, D)``.
        """
        gradient, hessian = (a - b for a, b in zip(after, before, strict=True))
        inverse = np.linalg.inv(self.covariance)
        precision = inverse + self.trials[:, None, None] * hessian
        safe = np.linalg.eigvalsh(precision)[:, 0] > 0
        covariance = np.linalg.inv(np.where(safe[:, None, None], precision, inverse))
        step = np.einsum("gde,ge->gd", covariance, gradient) * self.trials[:, None]
        return _Posterior(self.mean - step, covariance, self.trials)

    def distance(self, other: _Posterior) -> float:
        """Mean over groups, largest over parameters, in posterior standard deviations."""
        spread = np.sqrt(np.einsum("gdd->gd", self.covariance))
        return float((np.abs(self.mean - other.mean) / spread).mean(0).max())


def center_locally(
    ratio: RatioEstimator,
    simulator: Any,
    around: Any,
    model: Any,
    *,
    n: int | None,
    accuracy: float,
    executor: Executor | None,
    random_seed: int | None,
    progressbar: bool,
) -> RatioEstimator:
    """What `pymc_nre.center` does with ``around=``."""
    simulator = as_simulator(simulator) or ratio.simulator
    _check(ratio, simulator, n, accuracy)
    given = _posterior(ratio, around, model)
    trials = given.trials.sum()
    n = max(math.ceil(trials / accuracy**2) if n is None else n, _FEWEST)
    if progressbar:
        say(
            f"centering on {n:,} simulations, which with {trials:,.0f} trials leaves an error of "
            f"about {math.sqrt(trials / n):.2g} posterior standard deviations"
        )
    seeds = iter(np.random.SeedSequence(random_seed).spawn(_ROUNDS + 2))

    def simulations(where: _Posterior, n: int) -> Simulations:
        return _simulate(ratio, simulator, where, n, executor, next(seeds), progressbar)

    where, scouts = given, max(round(_SCOUTS * n), _FEWEST)
    for _ in range(_ROUNDS):
        network = _fit(ratio, where, simulations(where, scouts))
        there = given.tilted(_derivatives(ratio.network, given), _derivatives(network, given))
        moved, where = there.distance(where), there
        if moved < _SETTLED:
            break
    else:
        warnings.warn(
            f"The posterior moves by {moved:.2g} standard deviations even after {_ROUNDS} rounds. "
            "Sample the model with what comes back, and center again around that; or fine-tune the "
            "ratio everywhere first, nre.center(ratio, nre.Online(prior, simulator)).",
            TrainingWarning,
            stacklevel=3,
        )
    network = _fit(ratio, where, simulations(where, n))
    centered = ratio.with_network(network.eval().requires_grad_(False))
    centered.normalized = False  # by the quadratic
    centered.budget = None  # what was measured everywhere no longer holds
    if progressbar:
        say(_gain(ratio, centered, simulations(where, max(round(_REPORT * n), _FEWEST)), trials))
    return centered


def _check(
    ratio: RatioEstimator, simulator: Simulator | None, n: int | None, accuracy: float
) -> None:
    check_continuous(ratio)
    if simulator is None:
        raise ValueError(
            "center around a posterior needs the simulator, which is not saved with a ratio. Pass "
            "simulator=simulator, or nre.load(path, simulator=simulator)."
        )
    if not accuracy > 0:
        raise ValueError(f"accuracy must be positive, got {accuracy}.")
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
    step = max(1, draws.sizes["chain"] * draws.sizes["draw"] // _DRAWS)
    return _Posterior.of(*trials_of(draws.isel(draw=slice(None, None, step)), ratio, model))


def _simulate(
    ratio: RatioEstimator,
    simulator: Simulator,
    where: _Posterior,
    n: int,
    executor: Executor | None,
    seed: np.random.SeedSequence,
    progressbar: bool,
) -> Simulations:
    """``n`` simulations around a posterior, inside the training domain; fewer if some fail."""
    for_parameters, for_simulator = seed.spawn(2)
    theta = where.around(2 * n, np.random.default_rng(for_parameters))
    theta = theta[ratio.domain.inside(theta)][:n]
    if len(theta) < n / 10:
        raise ValueError(
            "The posterior lies at the edge of the region where the ratio was trained, or beyond "
            f"({ratio.describe_domain()}). Train on a wider prior."
        )
    job = Job(simulator, ratio.layout.unpack(theta), for_simulator)
    succeeded, x = observations_of(run(job, len(theta), executor, progressbar, False))
    return Simulations(ratio.layout.unpack(theta[succeeded]), x)


def _fit(ratio: RatioEstimator, where: _Posterior, simulations: Simulations) -> Tilted:
    """The quadratic whose gradient is the mean score, by least squares."""
    center, root = where.mean.mean(0), where.within
    theta = ratio.layout.pack(simulations.parameters)
    # In units of the posterior scores have the same noise in all directions, nearly.
    u = np.linalg.solve(root, (theta - center).T).T
    scores = TorchEvaluator(ratio.untilted).value_and_gradient(theta, simulations.x)[1] @ root
    middle, mean = u.mean(0), scores.mean(0)
    spread, slope = u - middle, (u - middle).T @ scores
    # Of a symmetric B the normal equations are S B + B S = C + C'.
    quadratic = solve_continuous_lyapunov(spread.T @ spread, slope + slope.T)
    network = Tilted(ratio.untilted, len(center))
    linear = mean - middle @ quadratic
    network.set_parts(center, np.linalg.inv(root), np.abs(u).max(0), linear, quadratic)
    return network


def _derivatives(network: Any, where: _Posterior) -> tuple[np.ndarray, np.ndarray]:
    """Gradients ``(G, D)`` and Hessians ``(G, D, D)`` of what is taken off, at the means."""
    groups, size = where.mean.shape
    if not isinstance(network, Tilted):
        return np.zeros((groups, size)), np.zeros((groups, size, size))
    center, matrix, _, linear, quadratic = (part.cpu().numpy() for part in network.parts())
    u = (where.mean - center) @ matrix.T
    gradient = (linear + u @ quadratic) @ matrix
    return gradient, np.broadcast_to(matrix.T @ quadratic @ matrix, (groups, size, size))


def _gain(
    ratio: RatioEstimator, centered: RatioEstimator, held_out: Simulations, trials: float
) -> str:
    """The bias before and after, on other simulations, in words."""
    found = []
    for one in (ratio, centered):
        bias, error = trial_budget(copy.copy(one), held_out).bias(round(trials))
        parts = zip(one.layout.labels, bias, error, strict=True)
        found.append(", ".join(f"{label} {b:.2g} ± {e:.1g}" for label, b, e in parts))
    return (
        f"bias with {trials:,.0f} trials, in posterior standard deviations: {found[0]} before, "
        f"{found[1]} after"
    )
