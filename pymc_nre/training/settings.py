"""The settings of a training: what a user left open is filled in, and checked."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass

from ..losses.base import Loss
from ..networks.specifications import MLP
from ..simulation.online import Online
from ..simulation.simulations import Simulations

__all__ = ["Plan", "decided", "default_network"]


@dataclass(frozen=True)
class Plan:
    """The settings of a run, all decided."""

    batch_size: int
    epochs: int
    patience: int
    learning_rate: float
    weight_decay: float


# Evidence for the defaults: docs/training.md.
_STEPS = 6_000  # gradient steps of a default run: where the tasks' accuracy levels off ...
_FEWEST_EPOCHS = 20  # ... unless that would see each simulation less often than this
_MOST_EPOCHS = 300  # small sets overfit long before 6,000 steps
_DEEP = 10_000  # simulations from which on a third layer gains


def default_network(simulations: Simulations | Online) -> MLP:
    """What to build if the user did not say."""
    few = isinstance(simulations, Simulations) and len(simulations) < _DEEP
    return MLP((64, 64)) if few else MLP((64, 64, 64))


def decided(
    n: int,
    loss: Loss,
    fresh: bool,
    epochs: int | None,
    batch_size: int | None,
    learning_rate: float | None,
    weight_decay: float,
    patience: int | None,
) -> Plan:
    """Fill in what the user left open for ``n`` training simulations."""
    if batch_size is None:
        batch_size = max(min(getattr(loss, "batch_size", 256), n // 8), loss.minimum_batch)
    if learning_rate is None:
        learning_rate = getattr(loss, "learning_rate", 1e-2)
    if not loss.minimum_batch <= batch_size <= n:
        raise ValueError(
            f"batch_size must be between {loss.minimum_batch} (what {loss!r} needs) and {n} (the "
            f"training simulations), got {batch_size}."
        )
    if epochs is None:
        wanted = math.ceil(_STEPS / (n // batch_size))
        epochs = wanted if fresh else min(max(wanted, _FEWEST_EPOCHS), _MOST_EPOCHS)
    for name, value in (("epochs", epochs), ("learning_rate", learning_rate)):
        if not value > 0:
            raise ValueError(f"{name} must be positive, got {value}.")
    if patience is None:
        patience = epochs if fresh else max(10, epochs // 4)
    if patience < 1:
        raise ValueError(f"patience must be at least 1 epoch, got {patience}.")
    counts = map(operator.index, (batch_size, epochs, patience))  # plain numbers can be saved
    return Plan(*counts, float(learning_rate), float(weight_decay))
