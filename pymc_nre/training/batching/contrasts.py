r"""Batches with candidates near the true parameters, at every scale, for losses that want them.

From a center near the true parameters others are drawn by the same law as the center was from
them. Steps there and back are equally likely, whatever the parameters, so given the center nothing
but the prior and the likelihood tells which candidate is the true one. That holds for every law of
steps that does not depend on the parameters, and makes these admissible: parameters that are
integers take whole steps, those that do not vary in training or have point masses (a prior that is
exactly zero now and then) take none, and parameters that are tied to each other, as on a simplex,
take steps along which the tie holds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...estimators.trial_budgets.scores import free_directions
from ...losses.base import Loss
from ...simulation.parameters import Layout
from ...simulation.prior import Prior
from ...simulation.simulations import Simulations
from .batches import Batch, Batches
from .changed import ChangedBatches
from .density import Density

__all__ = ["ContrastedBatches", "KnowsNothing", "NearbyParameters"]

_DRAWN_AT_ONCE = 2**15  # candidates: one call of the prior's density serves many batches
_LEAST_STEP = 0.6  # standard deviation of a whole step; smaller ones would all be zero
_LOOKED_AT = 100_000  # draws, by which the law of steps is chosen ...
_NUMBERS = 2_000_000  # ... fewer of many parameters: bounds the memory of intermediate arrays ...
_ENOUGH = 5  # ... but so many for each, which tell what is tied
_MASS = 10  # times that a number occurs among them, if it is no accident ...
_MASS_OF_FEW = 0.01  # ... or in such a share of few, but twice
_QUARTILES = 1.349  # their distance, in standard deviations of a normal


class KnowsNothing(nn.Module):
    """A network whose logits are all zero."""

    def embed(self, x: Tensor) -> Tensor:
        """Features ``(n, 1)`` of observations ``(n, *event)``."""
        return x.new_zeros(len(x), 1)

    def head(self, theta: Tensor, features: Tensor) -> Tensor:
        """Zeros ``(*)`` for parameters ``(*, D)`` and features ``(*, 1)``, broadcast."""
        return (theta[..., :1] * 0 + features).squeeze(-1)


class NearbyParameters:
    """Draws candidates near given parameters, and knows how likely the prior makes them.

    Parameters
    ----------
    layout : Layout
    prior : Prior
        With a density.
    draws : array, shape (n, D)
        Of the prior, packed; scales are in units of their spread.
    near : int
        Candidates for each true one.
    scales : tuple of float
        The smallest and the largest.
    """

    def __init__(
        self,
        layout: Layout,
        prior: Prior,
        draws: np.ndarray,
        near: int,
        scales: tuple[float, float],
    ) -> None:
        self.layout, self.near = layout, near
        self.density = Density(prior, layout, draws[0])
        self.low, self.high = map(math.log, scales)
        self.whole = _whole(layout, prior)
        fewer = max(_NUMBERS // layout.size, _ENOUGH * layout.size)
        self.root = _root(draws[: min(_LOOKED_AT, fewer)], self.whole)
        # Of hundreds of parameters that are not tied a product of matrices takes most of the time.
        alone = np.array_equal(self.root, np.diag(np.diag(self.root)))
        self.alone = np.diag(self.root) if alone else np.empty(0)

    def beside(self, theta: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Candidates beside parameters ``(n, D)``, and what the prior says of all.

        Returns
        -------
        candidates : ndarray, shape (n, near, D)
        log_prior : ndarray, shape (n, 1 + near)
            Of the true parameters and the candidates, less that of the true ones. Where that is
            not finite, as where rounding left the support, no other is possible either.
        """
        n = len(theta)
        scale = np.exp(rng.uniform(self.low, self.high, (n, 1, 1)))
        steps = self._steps(scale, rng)
        candidates = theta[:, None] + steps[:, :1] + steps[:, 1:]
        everything = np.concatenate([theta[:, None], candidates], 1)
        density = self.density(everything.reshape(-1, self.layout.size))
        density = density.reshape(n, 1 + self.near)
        possible = np.isfinite(density)
        possible[:, 1:] &= possible[:, :1]
        with np.errstate(invalid="ignore"):
            relative = np.where(possible, density - density[:, :1], -np.inf)
        relative[:, 0] = 0.0
        return candidates, relative

    def _steps(self, scale: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """To the center, and from there to each candidate: ``(n, 1 + near, D)``."""
        shape = (len(scale), 1 + self.near)
        normal = rng.standard_normal((*shape, self.root.shape[1]))
        steps = scale * (normal * self.alone if self.alone.size else normal @ self.root.T)
        if self.whole.any():
            spread = np.sqrt((self.root**2).sum(1))[self.whole]
            size = np.where(spread > 0, np.maximum(scale * spread, _LEAST_STEP), 0.0)
            steps[..., self.whole] = np.rint(size * rng.standard_normal((*shape, len(spread))))
        return steps


def _whole(layout: Layout, prior: Prior) -> np.ndarray:
    """Which packed numbers are integers ``(D,)``, to the prior or as they were given."""
    return Layout(layout.shapes, layout.integer | prior.layout.integer).whole


def _root(draws: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Steps ``(D, k)`` of unit scale, of draws ``(n, D)`` of the prior."""
    spread = np.array(
        [_spread(column, counts) for column, counts in zip(draws.T, whole, strict=True)]
    )
    tied = np.flatnonzero((spread > 0) & ~whole)
    root = np.diag(spread)
    if len(tied) > 1:
        free = free_directions(draws[:, tied])
        if free.shape[1] < len(tied):
            untied = np.setdiff1d(np.arange(len(spread)), tied)
            root = np.concatenate([np.zeros((len(spread), free.shape[1])), root[:, untied]], 1)
            root[tied, : free.shape[1]] = free
    return root


def _spread(values: np.ndarray, counts: bool) -> float:
    """Of a parameter's draws ``(n,)``, without its far tails; zero if it may not move."""
    if np.ptp(values) == 0:
        return 0.0
    mass = min(_MASS, max(2, _MASS_OF_FEW * len(values)))
    if not counts and np.unique(values, return_counts=True)[1].max() >= mass:
        return 0.0
    middle = np.subtract(*np.quantile(values, [0.75, 0.25])) / _QUARTILES
    return float(min(values.std(), middle) if middle > 0 else values.std())


class ContrastedBatches(ChangedBatches):
    """Other batches, with candidates near their parameters beside them.

    Parameters
    ----------
    whole : Batches
    nearby : NearbyParameters
    random_seed : int
    """

    stream_key = (1,)

    def __init__(self, whole: Batches, nearby: NearbyParameters, random_seed: int) -> None:
        super().__init__(whole, random_seed)
        self._nearby = nearby
        theta, *others = whole.training
        self.training = (theta.float(), *others)

    @classmethod
    def wanted_by(cls, loss: Loss, batches: Batches, random_seed: int) -> Batches:
        """Batches as the loss wants them: the same, if it wants no candidates."""
        near = getattr(loss, "near", 0)
        if not near:
            return batches
        simulations: Simulations = batches.simulations
        prior: Any = simulations.known_prior
        scales = loss.scales  # type: ignore[attr-defined]
        nearby = NearbyParameters(simulations.layout, prior, simulations.theta, near, scales)
        return cls(batches, nearby, random_seed)

    def _changed(self, batches: Iterator[Batch], stream: np.random.Generator) -> Iterator[Batch]:
        for block in _blocks(batches, max(1, _DRAWN_AT_ONCE // (1 + self._nearby.near))):
            drawn_from = torch.cat([theta for theta, *_ in block]).double().cpu().numpy()
            drawn = self._nearby.beside(drawn_from, stream)
            lengths = [len(theta) for theta, *_ in block]
            parts = (torch.tensor(each, dtype=torch.float32).split(lengths) for each in drawn)
            for (theta, *others), *own in zip(block, *parts, strict=True):
                yield (theta.float(), *others, *(each.to(theta.device) for each in own))


def _blocks(batches: Iterator[Batch], rows: int) -> Iterator[list[Batch]]:
    """Batches that follow each other, in lists of about so many rows."""
    block: list[Batch] = []
    for batch in batches:
        block.append(batch)
        if sum(len(theta) for theta, *_ in block) >= rows:
            yield block
            block = []
    if block:
        yield block
