r"""Center a ratio where one posterior is: the bias there, fitted and taken off.

Near a posterior the mean :math:`b(\theta)` of a ratio's score
(see `pymc_nre.estimators.trial_budgets.scores`) is nearly linear in the parameters. So it is fitted
by the gradient of a quadratic,

.. math:: \min_{c, B} E \| \nabla_\theta s(\theta, x) - c - B u \|^2, \qquad
    B \text{ symmetric}, \quad u = W (\theta - m),

on simulations at parameters around the posterior, which then moves: by less than a posterior
standard deviation, or the fit is repeated where it went. With M simulations and N trials what
is left is about :math:`\sqrt{N / M}` posterior standard deviations. What is less than that noise
is not taken off. Beyond the simulations nothing is known: there the quadratic raises no log ratio
(see `pymc_nre.kernels.correction`). What comes back was found to be better on simulations of its
own (see `pymc_nre.many_trials.local_gain`), or it is the ratio as it was.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from ..compat import posterior_of
from ..estimators.checks import simulator_of
from ..estimators.estimator import RatioEstimator
from ..estimators.evaluator import TorchEvaluator
from ..exceptions import SimulationError, TrainingWarning, warn
from ..likelihood.model_parameters import data_of, model_in_use, trials_of
from ..networks.composed.correction import QuadraticCorrection
from ..runtime.arrays import real_number, whole_number
from ..runtime.progress import say
from ..runtime.random_streams import plain_seed, seed_sequence
from ..simulation.calls import event_shape_error
from ..simulation.conditions.layout import side_by_side
from ..simulation.execution import simulate_at
from ..simulation.simulations import Simulations
from ..simulation.simulator import Simulator
from .local_gain import LocalGain, slopes_of

__all__ = ["center_locally"]

_WIDTH = 2.5  # posterior standard deviations; with those of the draws themselves 2.7
_DRAWS, _FEWEST_DRAWS = 1_000, 100  # of the posterior, whose parameters are looked at
_FIXED = 1e-4  # standard deviations of the training prior, for a parameter that a model holds fixed
_TRIES = 10  # how often as many parameters may be drawn, to have enough inside the domain
_FEWEST = 20_000
_SCOUTS = 0.1  # share of the simulations in a round that only finds where the posterior goes
_ROUNDS = 6
_SETTLED = 0.5  # posterior standard deviations between two rounds
_NEAR = 1.5  # as `_WIDTH`, where the gain is measured: what counts is the posterior itself
_FITTED = 0.95  # of the simulations are within the ellipsoid beyond which nothing is raised
_SEEN = 2.0  # standard errors, from which on a shift counts
_EVERYWHERE = (
    "Near this posterior the bias is no quadratic's gradient: fine-tune the ratio everywhere, "
    "nre.center(ratio, nre.Online(prior, simulator)), or train on more simulations, or on a "
    "narrower prior."
)


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

    def around(self, n: int, rng: np.random.Generator, width: float) -> np.ndarray:
        """Parameters ``(n, D)`` in and around it."""
        rows = self.draws.reshape(-1, self.draws.shape[2])
        noise = rng.normal(size=(n, rows.shape[1]))
        return rows[rng.integers(len(rows), size=n)] + width * noise @ self.root.T

    def in_units(self, theta: np.ndarray) -> np.ndarray:
        """u ``(*, D)`` of parameters: distances from the mean of all groups by the root."""
        return np.linalg.solve(self.root, (theta - self.mean.mean(0))[..., None])[..., 0]

    @property
    def shift(self) -> np.ndarray:
        """How means in units of it move with a slope of each trial's log ratio, ``(D, D)``."""
        u = self.in_units(self.draws)
        together = u.swapaxes(1, 2) @ self.trials
        moves = np.einsum("sgd,se->gde", u - u.mean(0), together - together.mean(0))
        return moves.mean(0) / len(u)

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


@dataclass(frozen=True)
class _AsObserved:
    """What simulations have of the data: their conditions, and which numbers are missing."""

    ratio: RatioEstimator
    data: np.ndarray  # (m, *event), as the network takes them

    @classmethod
    def of(cls, ratio: RatioEstimator, model: Any) -> _AsObserved:
        data = data_of(model, ratio, "center")
        if ratio.missing is not None:  # no trials are those without any number
            data = data[~ratio.missing.without_any(data)]
        if not len(data):
            raise ValueError(
                "center: all observations of the model are missing; expected some to be there. "
                "Without data there is nothing to center."
            )
        return cls(ratio, data)

    def chosen(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Which data ``(n,)`` simulations are like: each of them is taken as often."""
        return np.resize(rng.permutation(len(self.data)), n)

    def conditions(self, chosen: np.ndarray) -> dict[str, np.ndarray]:
        known = self.ratio.conditions
        return {} if known is None else known.split(self.data[chosen])[1]

    def whole(self, x: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        """Observations ``(n, *)`` as the network takes them, with what these data have."""
        if self.ratio.conditions is not None:
            x = side_by_side(x, self.conditions(chosen))
        missing = self.ratio.missing
        return x if missing is None else missing.with_holes(x, like=self.data[chosen])


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
    accuracy = real_number(accuracy, "center: accuracy", above=0)
    _check(ratio, n)
    given = _posterior(ratio, around, model)
    like = _AsObserved.of(ratio, model_in_use(model, "center"))
    trials = given.trials.sum()
    n = max(math.ceil(trials / accuracy**2) if n is None else n, _FEWEST)
    if progressbar:
        say(
            f"centering on {n:,} simulations, which with {trials:,.0f} trials leaves an error of "
            f"about {math.sqrt(trials / n):.2g} posterior standard deviations"
        )
    seeds = iter(seed_sequence(plain_seed(random_seed)).spawn(_ROUNDS + 2))

    def simulations(where: _Posterior, n: int, width: float = _WIDTH) -> Simulations:
        draw = partial(where.around, width=width)
        return _simulate(ratio, simulator, draw, n, like, executor, next(seeds), progressbar)

    rounds = _Rounds(ratio, given)
    try:
        rounds.settle(simulations, scouts=max(round(_SCOUTS * n), _FEWEST))
        rounds.finish(simulations, n)
        if rounds.reason is None:
            held_out = simulations(rounds.where, n, _NEAR)
            return _better(ratio, rounds.network, rounds.where, held_out, progressbar)
    except KeyboardInterrupt:
        if rounds.network is None:
            raise
        # What was not measured may be worse than before, and no model would warn of it.
        reason = "it was interrupted before what was found could be measured"
        _refuse(reason, "Call it again; a smaller n= takes less time.")
        return ratio
    _refuse(rounds.reason, _EVERYWHERE)
    return ratio


def _centered(ratio: RatioEstimator, network: QuadraticCorrection) -> RatioEstimator:
    # It is not normalized, by the quadratic, and what was measured everywhere no longer holds.
    return ratio.replace(network=network, normalized=False)


class _Rounds:
    """Fits around where the posterior is, each better than the last."""

    def __init__(self, ratio: RatioEstimator, given: _Posterior) -> None:
        self.ratio, self.given, self.where = ratio, given, given
        self.before = _heights(ratio.network, given)
        self.network: QuadraticCorrection | None = None
        self.reason: str | None = None  # to leave the ratio as it is

    def _fit(self, simulations: Simulations, sure: float) -> float:
        """Fit; how far it moves the posterior, in standard deviations."""
        self.network = _fit(self.ratio, self.where, simulations, sure)
        there = self.given.without(_heights(self.network, self.given) - self.before)
        moved, self.where = there.distance(self.where), there
        return moved

    def settle(self, simulations: Callable[..., Simulations], scouts: int) -> None:
        """Follow the posterior until it hardly moves any more."""
        for _ in range(_ROUNDS):
            moved = self._fit(simulations(self.where, scouts), 0.0)
            if self.ratio.domain.inside(self.where.draws).mean() < 0.5:
                self.reason = "the posterior would leave the region where the ratio was trained"
                return
            if moved < _SETTLED:
                return
        self.reason = (
            f"the posterior moves by {moved:.2g} standard deviations after {_ROUNDS} rounds"
        )

    def finish(self, simulations: Callable[..., Simulations], n: int) -> None:
        """Fit on ``n`` simulations, and take off what is surely there."""
        if self.reason is None and self._fit(simulations(self.where, n), _SEEN) > 2 * _SETTLED:
            self.reason = "the posterior does not stay where it was fitted"


def _better(
    ratio: RatioEstimator,
    network: QuadraticCorrection,
    where: _Posterior,
    held_out: Simulations,
    progressbar: bool,
) -> RatioEstimator:
    """The ratio with that network if it is better, on simulations of its own, or as it was.

    A quadratic that has the width worse than it was may still have found the bias: then it is
    taken without its bend, which leaves the width alone.
    """
    trials = f"{where.trials.sum():,.0f} trials"
    candidates = network, _unbent(network)
    gains = [_measured(ratio, candidate, where, held_out) for candidate in candidates]
    for candidate, gain in zip(candidates, gains, strict=True):
        if gain.refusal is None:
            if progressbar:
                say(
                    f"bias with {trials}, in posterior standard deviations, and width, over what "
                    f"it should be: {gain.in_words()}"
                )
            return _centered(ratio, candidate)
    gain, _ = gains
    found = (
        f"Bias with {trials}, in posterior standard deviations, and width, over what it should be, "
        f"on simulations of their own: {gain.in_words()}. "
    )
    _refuse(gain.refusal, found + ("It is small already." if gain.is_small else _EVERYWHERE))
    return ratio


def _refuse(reason: str, more: str) -> None:
    warn(f"The ratio is returned as it was, not centered: {reason}. {more}", TrainingWarning)


def _unbent(network: QuadraticCorrection) -> QuadraticCorrection:
    straight = copy.deepcopy(network)
    straight.quadratic.zero_()
    return straight


def _check(ratio: RatioEstimator, n: int | None) -> None:
    if ratio.layout.integer:
        names = ", ".join(sorted(ratio.layout.integer))
        raise ValueError(
            f"center(around=) takes off a quadratic in the parameters, so all must be continuous; "
            f"{names} is an integer. Fine-tune the ratio everywhere, nre.center(ratio, "
            "nre.Online(prior, simulator)). Whether the model is calibrated as it is tells "
            "nre.diagnostics.sbc_model(model)."
        )
    if n is not None and n < _FEWEST:
        raise ValueError(f"n must be at least {_FEWEST:,}, got {n:,}.")


def _posterior(ratio: RatioEstimator, around: Any, model: Any) -> _Posterior:
    model = model_in_use(model, "center")
    if model is None:
        raise ValueError(
            "center needs the model that the posterior was sampled with, which tells the ratio's "
            "parameters and how many trials share them. Pass model=model."
        )
    draws = posterior_of(around, "center: around")
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
    draw: Callable[..., np.ndarray],
    n: int,
    like: _AsObserved,
    executor: Executor | None,
    seed: np.random.SeedSequence,
    progressbar: bool,
) -> Simulations:
    """``n`` simulations at parameters that ``draw(n, rng)`` gives, but those that fail."""
    for_parameters, for_simulator = seed.spawn(2)
    rng = np.random.default_rng(for_parameters)
    theta = _inside(ratio, draw, n, rng)
    chosen = like.chosen(n, rng)
    given = ratio.layout.unpack(theta) | like.conditions(chosen)
    succeeded, x = simulate_at(simulator, given, for_simulator, executor, progressbar)
    if x.shape[1:] != ratio.observation_shape:
        raise event_shape_error(simulator.function, x.shape[1:], ratio.observation_shape)
    if succeeded.mean() < 0.5:
        raise SimulationError(
            f"Only {succeeded.sum():,} of {len(succeeded):,} simulations around the posterior were "
            "without a failure. Mend the simulator."
        )
    made = Simulations(ratio.layout.unpack(theta[succeeded]), x)
    return made.with_x(like.whole(x, chosen[succeeded]))


def _inside(
    ratio: RatioEstimator, draw: Callable[..., np.ndarray], n: int, rng: np.random.Generator
) -> np.ndarray:
    """Parameters ``(n, D)`` around a posterior and inside the training domain."""
    found = np.empty((0, ratio.layout.size))
    for _ in range(_TRIES):
        theta = draw(n, rng)
        found = np.concatenate([found, theta[ratio.domain.inside(theta)]])
        if len(found) >= n:
            return found[:n]
    raise ValueError(
        "The posterior lies at the edge of the region where the ratio was trained, or beyond "
        f"({ratio.describe_domain()}). Train on a wider prior."
    )


def _fit(
    ratio: RatioEstimator, where: _Posterior, simulations: Simulations, sure: float = 0.0
) -> QuadraticCorrection:
    """The quadratic whose gradient is the mean score, by least squares.

    Of the shift of a parameter as much is taken off as is ``sure``, in standard errors.
    """
    theta, root = ratio.layout.pack(simulations.parameters), where.root
    # In units of the posterior scores have the same noise in all directions, nearly.
    u = where.in_units(theta)
    scores = _scores(ratio.uncorrected, theta, simulations) @ root
    mean, quadratic = slopes_of(u, scores)
    noise = np.atleast_2d(np.cov(scores.T)) / len(u)
    linear = _surely(mean - u.mean(0) @ quadratic, noise, root @ where.shift, sure)
    quadratic = _surely_bent(quadratic, noise / u.var(), sure)
    # Groups that are far out are simulated, too.
    spread = np.quantile((where.in_units(where.draws) ** 2).sum(-1), 0.99, axis=0).max()
    edge = max(np.quantile((u**2).sum(-1), _FITTED) / 2, spread), 1 / where.trials.mean()
    network = QuadraticCorrection(ratio.uncorrected, len(root))
    beyond = np.full(len(root), np.inf)
    center = where.mean.mean(0)
    network.set_parts(center, np.linalg.inv(root), beyond, linear, quadratic, np.array(edge))
    return network


def _scores(network: Any, theta: np.ndarray, simulations: Simulations) -> np.ndarray:
    """Gradients ``(n, D)`` in the parameters."""
    return TorchEvaluator(network).value_and_gradient(theta, simulations.x)[1]


def _surely(mean: np.ndarray, noise: np.ndarray, shift: np.ndarray, sure: float) -> np.ndarray:
    """A mean ``(D,)`` less what of each parameter's shift may be noise."""
    moves = shift @ mean
    errors = np.einsum("jd,de,je->j", shift, noise, shift)
    return mean - np.linalg.pinv(shift) @ (_part_of_noise(moves, errors, sure) * moves)


def _surely_bent(quadratic: np.ndarray, noise: np.ndarray, sure: float) -> np.ndarray:
    """The same of a symmetric matrix ``(D, D)``, along its own axes."""
    bends, axes = np.linalg.eigh(quadratic)
    errors = np.einsum("da,de,ea->a", axes, noise, axes)
    return (axes * (bends - _part_of_noise(bends, errors, sure) * bends)) @ axes.T


def _part_of_noise(found: np.ndarray, errors: np.ndarray, sure: float) -> np.ndarray:
    """By the nonnegative garrote: small ones become zero, and large ones stay."""
    return np.minimum(1, sure**2 * errors / np.maximum(found**2, np.finfo(float).tiny))


def _measured(
    ratio: RatioEstimator, network: QuadraticCorrection, where: _Posterior, held_out: Simulations
) -> LocalGain:
    theta = ratio.layout.pack(held_out.parameters)
    before, after = (_scores(one, theta, held_out) for one in (ratio.network, network))
    # Farther out no posterior has mass, and what is taken off ends.
    kept = network.is_whole(torch.tensor(theta)).numpy()
    theta, before, after = theta[kept], before[kept], after[kept]
    return LocalGain.measure(
        tuple(ratio.layout.labels),
        where.trials.sum(),
        where.shift,
        where.root,
        where.in_units(theta),
        np.stack([before, after]) @ where.root,
    )


def _heights(network: Any, where: _Posterior) -> np.ndarray:
    """What is taken off at each draw of each group, ``(S, G)``; bounds are left out of it."""
    if not isinstance(network, QuadraticCorrection):
        return np.zeros(where.draws.shape[:2])
    center, matrix, _, linear, quadratic, _ = (part.cpu().numpy() for part in network.parts())
    u = (where.draws - center) @ matrix.T
    return (u * (linear + u @ quadratic / 2)).sum(-1)
