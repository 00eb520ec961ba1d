"""What training sees: shuffled batches, held-out pairs, and the data behind them.

A batch is ``(theta, x)``, to which a loss with a fixed reference adds a third part,
observations made at the reference. All live on the training device in single precision, but for
the parameters where a loss wants candidates near them: the density of a prior is asked at those
that were drawn, since rounded ones may lie beside a point mass or a tie, where it is zero.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ...exceptions import SimulationError
from ...losses.base import Loss
from ...simulation.online import Online
from ...simulation.simulations import Simulations
from .points import PointPairs

__all__ = ["Batches", "FixedBatches", "OnlineBatches", "batches_of"]

Batch = tuple[Tensor, ...]


class Batches(Protocol):
    """A source of training batches."""

    simulations: Simulations  # a fair sample: its moments, its domain, its simulator
    size: int  # pairs in an epoch
    distinct: int  # of them with different parameters, which a batch consists of
    training: Batch  # parameters and observations whose moments standardize the network
    held_out: Batch  # with different parameters
    n_held_out: int  # pairs that are validated on
    unseen: np.ndarray  # rows of the sample that no gradient comes from

    def epoch(self, index: int, batch_size: int, order: torch.Generator) -> Iterator[Batch]:
        """Batches of epoch ``index``, shuffled by ``order``."""

    def validation(self, rows: int, least: int) -> Iterator[Batch]:
        """All held-out pairs, in parts of about so many ``rows``, and no fewer than ``least``."""


def batches_of(
    source: Simulations | Online,
    loss: Loss,
    validation: float,
    device: str,
    random_seed: int,
    seen: int = 0,
) -> Batches:
    """The batches of whatever a user trains on; ``seen`` of a set, the first, are not held out."""
    if isinstance(source, Online):
        return OnlineBatches(source, loss, validation, device)
    rng = np.random.default_rng(random_seed)
    return FixedBatches(source.packed(), loss, validation, device, rng, seen)


class _HeldOut:
    """Pairs to validate on; of several points in a simulation all count, and not in one part."""

    held_out: Batch
    points: PointPairs | None = None
    reference: _Reference

    def hold_out(self, simulations: Simulations, device: str, kept: torch.dtype) -> None:
        """Keep these."""
        pairs = _plain_pairs(simulations, device, kept)
        self.held_out = (*pairs, *self.reference.held_out(len(simulations)))
        self.points = PointPairs(simulations, device, kept) if simulations.iid else None

    @property
    def n_held_out(self) -> int:
        """How many."""
        return len(self.held_out[0] if self.points is None else self.points)

    def validation(self, rows: int, least: int) -> Iterator[Batch]:
        """All of them, in parts of about so many ``rows``, and no fewer than ``least``."""
        if self.points is None:
            chunks = max(1, len(self.held_out[0]) // max(rows, least))
            yield from zip(*(part.tensor_split(chunks) for part in self.held_out), strict=True)
            return
        start = 0
        for part in self.points.in_parts(rows, least):
            yield (*self.points.take(part), *self.reference.held_out(len(part), start))
            start += len(part)


class FixedBatches(_HeldOut):
    """A set of simulations, shuffled anew for each epoch."""

    def __init__(
        self,
        simulations: Simulations,
        loss: Loss,
        validation: float,
        device: str,
        rng: np.random.Generator,
        seen: int = 0,
    ) -> None:
        held_out = _held_out(len(simulations), loss, validation)
        order = rng.permutation(len(simulations))
        new = len(simulations) - seen
        if seen and new >= 2 * loss.minimum_batch:  # what was trained on before is trained on again
            order = np.concatenate([order[order >= seen], order[order < seen]])
            held_out = min(held_out, new // 2)
        self.simulations, self.unseen = simulations, order[:held_out]
        self.pairs = _pairs(simulations[order[held_out:]], device, _kept_as(loss))
        self.training, self.size, self.distinct = _told(self.pairs)
        self.reference = _Reference(loss, simulations, validation, device)
        self.hold_out(simulations[self.unseen], device, _kept_as(loss))

    def epoch(self, index: int, batch_size: int, order: torch.Generator) -> Iterator[Batch]:
        """Batches of one size; what is left over waits for the next shuffle."""
        yield from _shuffled(self.pairs, self.reference, batch_size, order)


class OnlineBatches(_HeldOut):
    """Fresh simulations for each epoch; the first set is kept, to validate on."""

    def __init__(self, online: Online, loss: Loss, validation: float, device: str) -> None:
        self.online, self.device, self.kept = online, device, _kept_as(loss)
        self.simulations = online.first.packed()
        self.unseen = np.arange(len(self.simulations))
        self.training, points, _ = _told(_pairs(self.simulations, device, self.kept))
        self.size = points if self.simulations.iid else online.per_epoch
        self.distinct = online.per_epoch
        self.reference = _Reference(loss, self.simulations, validation, device)
        held_out = _held_out(len(self.simulations), loss, validation)
        self.hold_out(self.simulations[:held_out], device, self.kept)

    def epoch(self, index: int, batch_size: int, order: torch.Generator) -> Iterator[Batch]:
        """Batches of one size of a set that nobody has seen."""
        fresh = self.online.simulations(index + 1).packed()
        if len(fresh) < batch_size:
            raise SimulationError(
                f"Only {len(fresh):,} of {self.online.per_epoch:,} fresh simulations succeeded, "
                f"fewer than a batch of {batch_size:,}. Mend the simulator, or raise per_epoch."
            )
        pairs = _pairs(fresh, self.device, self.kept)
        yield from _shuffled(pairs, self.reference, batch_size, order)


class _Reference:
    """Observations at the fixed reference, if the loss has one.

    Which are held out depends on nothing but their places. So a training that goes on with them,
    and with others behind them, validates on none that it was trained on before.
    """

    def __init__(
        self, loss: Loss, simulations: Simulations, validation: float, device: str
    ) -> None:
        self.parts: list[tuple[Tensor, Tensor]] = []  # (training, held-out), at most one
        if loss.reference != "fixed":
            return
        made: Simulations = loss.reference_simulations.packed()  # type: ignore[attr-defined]
        _check_same_problem(simulations, made)
        x = made.points  # all are at the same parameters
        # A number for each place, which does not depend on how many there are.
        chances = np.random.default_rng(0).random(len(x))
        cut = min(max((chances < validation).sum(), 1), len(x) - 1)
        rows = chances.argsort()
        self.parts = [_tensors(device, x[rows[cut:]], x[rows[:cut]])]

    def draw(self, n: int, order: torch.Generator) -> Batch:
        """``n`` observations for a batch."""
        return tuple(
            training[torch.randint(len(training), (n,), generator=order).to(training.device)]
            for training, _ in self.parts
        )

    def held_out(self, n: int, start: int = 0) -> Batch:
        """``n`` observations for validation, again and again the same ones."""
        return tuple(held[torch.arange(start, start + n) % len(held)] for _, held in self.parts)


def _check_same_problem(simulations: Simulations, reference: Simulations) -> None:
    mine = (dict(simulations.layout.shapes), simulations.event_shape)
    its = (dict(reference.layout.shapes), reference.event_shape)
    if mine != its or len(reference) < 2:
        raise ValueError(
            "The reference simulations must have the parameters and the observations of the "
            f"training simulations, and be at least two: expected {mine}, got {its} "
            f"({len(reference)} simulations). Make both by the same prior and simulator."
        )


def _held_out(n: int, loss: Loss, validation: float) -> int:
    """How many of ``n`` pairs are held out."""
    held_out = max(round(n * validation), loss.minimum_batch)
    if n - held_out < loss.minimum_batch:
        raise ValueError(
            f"{type(loss).__name__} needs at least {2 * loss.minimum_batch} simulations to train "
            f"and validate, got {n}. Thousands are usual."
        )
    return held_out


def _kept_as(loss: Loss) -> torch.dtype:
    """The precision of parameters."""
    return torch.float64 if getattr(loss, "near", 0) else torch.float32


def _pairs(simulations: Simulations, device: str, kept: torch.dtype) -> Batch | PointPairs:
    if simulations.iid:
        return PointPairs(simulations, device, kept)
    return _plain_pairs(simulations, device, kept)


def _plain_pairs(simulations: Simulations, device: str, kept: torch.dtype) -> Batch:
    theta = torch.tensor(simulations.theta, dtype=kept, device=device)
    return theta, *_tensors(device, simulations.x)


def _told(pairs: Batch | PointPairs) -> tuple[Batch, int, int]:
    """Parameters and observations, how many pairs they make, and how many with different ones."""
    theta, x = (pairs.theta, pairs.x) if isinstance(pairs, PointPairs) else pairs
    return (theta, x), len(x), len(theta)


def _shuffled(
    pairs: Batch | PointPairs, reference: _Reference, batch_size: int, order: torch.Generator
) -> Iterator[Batch]:
    if isinstance(pairs, PointPairs):
        for rows in pairs.shuffled(batch_size, order):
            yield (*pairs.take(rows), *reference.draw(batch_size, order))
        return
    shuffled = torch.randperm(len(pairs[0]), generator=order).to(pairs[0].device)
    for start in range(0, len(shuffled) - batch_size + 1, batch_size):
        rows = shuffled[start : start + batch_size]
        yield (*(part[rows] for part in pairs), *reference.draw(batch_size, order))


def _tensors(device: str, *arrays: Any) -> Batch:
    return tuple(torch.tensor(array, dtype=torch.float32, device=device) for array in arrays)
