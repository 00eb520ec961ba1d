"""The settings of a training: what a user left open is filled in, and checked."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..losses.base import Loss
from ..networks.specifications import MLP
from ..runtime.arrays import real_number, whole_number
from ..simulation.online import Online
from ..simulation.simulations import Simulations

__all__ = ["Plan", "Settings", "default_network"]

# Evidence for the defaults: docs/training.md.
_STEPS = 6_000  # gradient steps of a default run: where the tasks' accuracy levels off ...
_FEWEST_EPOCHS = 40  # ... unless each simulation is seen less often: many are learned from longer
_MOST_EPOCHS = 300  # small sets overfit long before 6,000 steps
_AGAIN = 0.5  # of the epochs, where training goes on from a trained network
_WEIGHT_DECAY = 1e-4
_DEEP = 10_000  # simulations from which on a third layer gains


@dataclass(frozen=True)
class Plan:
    """The settings of a run, all decided."""

    batch_size: int
    epochs: int
    patience: int
    learning_rate: float
    weight_decay: float


def default_network(simulations: Simulations | Online) -> MLP:
    """What to build if the user did not say."""
    few = isinstance(simulations, Simulations) and len(simulations) < _DEEP
    return MLP((64, 64)) if few else MLP((64, 64, 64))


@dataclass(frozen=True)
class Settings:
    """What a user said of a training; None is filled in by what suits the simulations."""

    epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    weight_decay: float | None = None
    patience: int | None = None
    goes_on: bool = False  # from a trained network

    @property
    def open(self) -> bool:
        """Whether the user left to us how long to train, and by which steps."""
        said = self.epochs, self.learning_rate, self.weight_decay, self.patience
        return all(each is None for each in said)

    def plan(self, n: int, loss: Loss, fresh: bool, distinct: int) -> Plan:
        """The settings of a run on ``n`` training pairs, fresh ones for each epoch or not.

        ``distinct`` of them have different parameters, the most that make a batch.
        """
        batch_size, epochs = self._batch_size(n, loss, distinct), self.epochs
        if epochs is None:
            wanted = math.ceil(_STEPS / (n // batch_size))
            epochs = wanted if fresh else min(max(wanted, _FEWEST_EPOCHS), _MOST_EPOCHS)
            epochs = math.ceil(_AGAIN * epochs) if self.goes_on else epochs
        rate = self.learning_rate
        if rate is None:
            rate = getattr(loss, "learning_rate", 1e-2)
        rate = real_number(rate, "learning_rate", above=0)
        weight_decay = _WEIGHT_DECAY if self.weight_decay is None else self.weight_decay
        weight_decay = real_number(weight_decay, "weight_decay")
        if weight_decay < 0:
            raise ValueError(f"weight_decay must not be negative, got {weight_decay}.")
        epochs = whole_number(epochs, "epochs")
        patience = self.patience
        if patience is None:
            # What goes on begins well and gets worse while steps are large: the end is what counts.
            patience = epochs if fresh or self.goes_on else max(10, epochs // 4)
        patience = whole_number(patience, "patience")
        return Plan(batch_size, epochs, patience, rate, weight_decay)

    def _batch_size(self, n: int, loss: Loss, distinct: int) -> int:
        batch_size = self.batch_size
        if batch_size is None:
            # Of simulations with many points not all in each batch: it could not be shuffled.
            batch_size = min(getattr(loss, "batch_size", 256), n // 8, distinct // 2)
            batch_size = max(batch_size, loss.minimum_batch)
        batch_size = whole_number(batch_size, "batch_size", least=0)
        if not loss.minimum_batch <= batch_size <= distinct:
            raise ValueError(
                f"batch_size must be between {loss.minimum_batch} (what {loss!r} needs) and "
                f"{distinct} (the training simulations), got {batch_size}."
            )
        return batch_size
