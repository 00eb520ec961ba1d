"""Draws of the training prior for many pairs, and log ratios of all of them."""

from __future__ import annotations

import copy

import numpy as np
import torch

from ..estimators.checks import fitting
from ..estimators.estimator import RatioEstimator
from ..estimators.evaluator import TorchEvaluator
from ..simulation.simulations import Simulations

__all__ = [
    "PriorDraws",
    "checked",
    "log_ratios",
    "pairs_for",
    "refuse_holes",
    "rows_at_once",
    "single_precision",
    "with_holes",
]

_NUMBERS = 2**24  # at once, of draws around pairs ...
_WIDTH = 64  # ... each of which counts as a layer, or as its features
_POOL, _SMALLEST_POOL = 20, 20_000  # fresh draws of the prior, in units of pairs; at least
_STRETCHES = 5  # and in units of the draws for a pair
_FEWEST_PAIRS = 100


def pairs_for(ratio: RatioEstimator, simulations: Simulations, draws: int, who: str) -> Simulations:
    """The pairs, as the ratio takes them; those that posteriors cannot be made of are refused."""
    simulations = fitting(ratio, simulations, who)
    if ratio.is_locally_centered:
        raise ValueError(
            "This ratio was centered around one posterior, and is not meant for other data, which "
            "these checks look at. Check the ratio from before."
        )
    if len(simulations) < _FEWEST_PAIRS:
        raise ValueError(
            f"Ranks need at least {_FEWEST_PAIRS} pairs, got {len(simulations)}; 1,000 to 10,000 "
            "are usual."
        )
    if draws < 10:
        raise ValueError(f"draws must be at least 10, got {draws}.")
    return simulations


class PriorDraws:
    """Draws of the training prior for each pair, its own parameters first.

    They come from a pool of fresh draws that all pairs share, since PyMC takes a minute for two
    million. That ties the ranks of different pairs: at most as if there were fewer, P of them and
    a pool of K counting as ``P / (1 + P / K)``.
    """

    def __init__(
        self,
        ratio: RatioEstimator,
        simulations: Simulations,
        draws: int,
        rng: np.random.Generator,
    ) -> None:
        self.rng, self.layout, n = rng, ratio.layout, len(simulations)
        self.prior = prior = simulations.known_prior
        self.truth = self.pool = ratio.layout.pack(simulations.parameters)
        self.is_known = prior is not None
        self.log_prior = self.log_pool = simulations.log_prior if self.is_known else np.zeros(n)
        # Where simulations failed, the pairs are not of the prior, but of what succeeded.
        self.is_fresh = self.is_known and simulations.is_complete
        if self.is_fresh:
            drawn = prior.draw(max(_POOL * n, _SMALLEST_POOL, _STRETCHES * draws), rng)
            self.pool, self.log_pool = ratio.layout.pack(drawn), prior.log_density(drawn)
        self.draws = min(draws, len(self.pool) - 1)
        self.scale = self.truth.std(0).clip(np.finfo(float).tiny)

    @property
    def effective_pairs(self) -> float:
        """As how many independent pairs these count, at least."""
        return len(self.truth) / (1 + len(self.truth) / len(self.pool))

    def at(self, point: np.ndarray, n: int) -> PriorDraws:
        """The same draws, for n pairs of one point ``(D,)``."""
        other = copy.copy(self)
        other.truth, other.log_prior = np.tile(point, (n, 1)), np.zeros(n)
        if self.prior is not None:
            other.log_prior += self.prior.log_density(self.layout.unpack(point[None]))
        return other

    def reference(self, n: int) -> np.ndarray:
        """A random point for each of n pairs, ``(n, 1, D)``."""
        return self.pool[self.rng.integers(len(self.pool), size=n), None]

    def around(self, block: slice) -> tuple[np.ndarray, np.ndarray]:
        """Parameters ``(b, draws + 1, D)`` and their log prior densities ``(b, draws + 1)``.

        A stretch of the pool for each pair, so that none comes twice; of a pool that is the pairs
        themselves one without its own.
        """
        truth, size = self.truth[block], len(self.pool)
        before = np.arange(block.start, block.start + len(truth))[:, None] + 1
        skipped = self.rng.integers(size - self.draws, size=(len(truth), 1))
        chosen = (before + skipped + np.arange(self.draws)) % size
        theta = np.concatenate([truth[:, None], self.pool[chosen]], axis=1)
        own = self.log_prior[block][:, None]
        return theta, np.concatenate([own, self.log_pool[chosen]], axis=1)


def single_precision(ratio: RatioEstimator, device: str) -> TorchEvaluator:
    """Evaluates the ratio in single precision, which is ample for ranks."""
    return TorchEvaluator(copy.deepcopy(ratio.network).to(device=device, dtype=torch.float32))


def rows_at_once(evaluator: TorchEvaluator, x: np.ndarray, draws: int) -> int:
    """How many observations, ``x`` ``(1, *event)`` among them, to look at with so many draws."""
    numbers = max(_WIDTH, evaluator.features(x).size)
    return max(1, _NUMBERS // (numbers * draws))


def log_ratios(evaluator: TorchEvaluator, theta: np.ndarray, x: np.ndarray) -> np.ndarray:
    """``(b, m)`` of parameters ``(b or 1, m, D)`` and observations ``(b, *event)``.

    Raises
    ------
    ValueError
        If one is NaN or infinite.
    """
    return checked(evaluator.table(theta, x))


def checked(found: np.ndarray) -> np.ndarray:
    """Log ratios ``(b, m)``; ValueError if one is NaN or infinite."""
    refuse_holes(with_holes(found), len(found))
    return found


def with_holes(found: np.ndarray) -> int:
    """Of how many observations a log ratio, ``(b, m)``, is NaN or infinite."""
    return int((np.isnan(found) | np.isposinf(found)).any(1).sum())


def refuse_holes(wrong: int, n: int) -> None:
    """Raise ValueError if any of n observations has one."""
    if wrong:
        raise ValueError(
            f"The ratio is NaN or infinite for {wrong:,} of {n:,} observations at draws "
            "of the prior, so there is nothing to check. Look at its network and at these data."
        )
