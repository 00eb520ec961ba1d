"""What training sees: shuffled batches, held-out pairs, and the data behind them.

A batch is ``(theta, x)``, to which a loss with a fixed reference adds a third part,
observations made at the reference. All live on the training device in single precision.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ..exceptions import SimulationError
from ..losses.base import Loss
from ..simulation.online import Online
from ..simulation.simulations import Simulations

__all__ = ["Batches", "FixedBatches", "OnlineBatches", "batches_of"]

Batch = tuple[Tensor, ...]


class Batches(Protocol):
    """A source of training batches."""

    simulations: Simulations  # a fair sample: its moments, its domain, its simulator
    size: int  # pairs in an epoch
    training: Batch  # pairs whose moments standardize the network
    held_out: Batch
    unseen: np.ndarray  # rows of the sample that no gradient comes from

    def epoch(self, index: int, batch_size: int, order: torch.Generator) -> Iterator[Batch]:
        """Batches of epoch ``index``, shuffled by ``order``."""


def batches_of(
    source: Simulations | Online, loss: Loss, validation: float, device: str, random_seed: int
) -> Batches:
    """The batches of whatever a user trains on."""
    rng = np.random.default_rng(random_seed)
    if isinstance(source, Online):
        return OnlineBatches(source, loss, validation, device, rng)
    return FixedBatches(source.packed(), loss, validation, device, rng)


class FixedBatches:
    """A set of simulations, shuffled anew for each epoch."""

    def __init__(
        self,
        simulations: Simulations,
        loss: Loss,
        validation: float,
        device: str,
        rng: np.random.Generator,
    ) -> None:
        held_out = _held_out(len(simulations), loss, validation)
        order = rng.permutation(len(simulations))
        theta, x = simulations.theta, simulations.x
        self.simulations = simulations
        self.training = _tensors(device, theta[order[held_out:]], x[order[held_out:]])
        self.size = len(self.training[0])
        self.reference = _Reference(loss, simulations, validation, device, rng)
        self.unseen = order[:held_out]
        held = _tensors(device, theta[self.unseen], x[self.unseen])
        self.held_out = (*held, *self.reference.held_out(held_out))

    def epoch(self, index: int, batch_size: int, order: torch.Generator) -> Iterator[Batch]:
        """Batches of one size; what is left over waits for the next shuffle."""
        yield from _shuffled(self.training, self.reference, batch_size, order)


class OnlineBatches:
    """Fresh simulations for each epoch; the first set is kept, to validate on."""

    def __init__(
        self,
        online: Online,
        loss: Loss,
        validation: float,
        device: str,
        rng: np.random.Generator,
    ) -> None:
        self.online, self.device = online, device
        self.simulations = online.simulations(0).packed()
        self.unseen = np.arange(len(self.simulations))
        self.size = online.per_epoch
        self.training = _tensors(device, self.simulations.theta, self.simulations.x)
        self.reference = _Reference(loss, self.simulations, validation, device, rng)
        held_out = _held_out(len(self.simulations), loss, validation)
        held = (part[:held_out] for part in self.training)
        self.held_out = (*held, *self.reference.held_out(held_out))

    def epoch(self, index: int, batch_size: int, order: torch.Generator) -> Iterator[Batch]:
        """Batches of one size of a set that nobody has seen."""
        fresh = self.online.simulations(index + 1).packed()
        if len(fresh) < batch_size:
            raise SimulationError(
                f"Only {len(fresh):,} of {self.size:,} fresh simulations succeeded, fewer than a "
                f"batch of {batch_size:,}. Mend the simulator, or raise per_epoch."
            )
        pairs = _tensors(self.device, fresh.theta, fresh.x)
        yield from _shuffled(pairs, self.reference, batch_size, order)


class _Reference:
    """Observations at the fixed reference, if the loss has one."""

    def __init__(
        self,
        loss: Loss,
        simulations: Simulations,
        validation: float,
        device: str,
        rng: np.random.Generator,
    ) -> None:
        self.parts: list[tuple[Tensor, Tensor]] = []  # (training, held-out), at most one
        if loss.reference != "fixed":
            return
        made: Simulations = loss.reference_simulations.packed()  # type: ignore[attr-defined]
        _check_same_problem(simulations, made)
        rows = rng.permutation(len(made))
        cut = max(1, round(validation * len(made)))
        self.parts = [_tensors(device, made.x[rows[cut:]], made.x[rows[:cut]])]

    def draw(self, n: int, order: torch.Generator) -> Batch:
        """``n`` observations for a batch."""
        return tuple(
            training[torch.randint(len(training), (n,), generator=order).to(training.device)]
            for training, _ in self.parts
        )

    def held_out(self, n: int) -> Batch:
        """``n`` observations for validation, again and again the same ones."""
        return tuple(held[torch.arange(n) % len(held)] for _, held in self.parts)


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


def _shuffled(
    pairs: Batch, reference: _Reference, batch_size: int, order: torch.Generator
) -> Iterator[Batch]:
    shuffled = torch.randperm(len(pairs[0]), generator=order).to(pairs[0].device)
    for start in range(0, len(shuffled) - batch_size + 1, batch_size):
        rows = shuffled[start : start + batch_size]
        yield (*(part[rows] for part in pairs), *reference.draw(batch_size, order))


def _tensors(device: str, *arrays: Any) -> Batch:
    return tuple(torch.tensor(array, dtype=torch.float32, device=device) for array in arrays)
