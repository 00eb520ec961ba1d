"""A network on its way to the best weights: settings, progress, and gradient steps.

AdamW under a one-cycle learning rate, clipped gradients, and a running average of the
weights. All of it can be written down as tensors by name and taken up again.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..losses.base import Loss
from ..networks.base import RatioNetwork
from ..runtime.random_streams import RandomStream
from .adamw import AdamW
from .batching.batches import Batches
from .by_hand import ByHand
from .settings import Plan

__all__ = ["Trainer", "TrainingState", "part"]

_STREAMS = ("torch", "cuda")  # what checkpoints call the states of the stream
_AVERAGED_SHARE = 0.02  # the weight average forgets over this share of the steps
_CLIP = 5.0  # gradient norm; the largest on three tasks was 0.95, so it acts on accidents only


@dataclass
class TrainingState:
    """What training knows so far."""

    train_loss: list[float] = field(default_factory=list)
    validation_loss: list[float] = field(default_factory=list)
    learning_rate: list[float] = field(default_factory=list)
    best_loss: float = math.inf
    best_epoch: int = -1
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    stopped: str = ""

    @classmethod
    def restored(
        cls, facts: Mapping[str, Any], best_weights: dict[str, Tensor], net: nn.Module
    ) -> TrainingState:
        """The inverse of `facts`.

        Raises
        ------
        ValueError
            If these are not the facts of a training, or the weights not those of the network.
        """
        wanted = {name: type(value) for name, value in cls().facts().items()}
        state = cls(**facts) if facts.keys() == wanted.keys() else cls()
        lists = [state.train_loss, state.validation_loss, state.learning_rate]
        kinds = all(isinstance(getattr(state, name), kind) for name, kind in wanted.items())
        if not kinds or not state.epochs or len({*map(len, lists)}) > 1:
            raise ValueError("The checkpoint does not hold the losses of a training.")
        if not all(isinstance(value, float) for values in lists for value in values):
            raise ValueError("The checkpoint holds losses that are no numbers.")
        if not 0 <= state.best_epoch < state.epochs:
            raise ValueError("The checkpoint holds the best of epochs that were not run.")
        _check_shapes(best_weights, net.state_dict())
        state.best_weights = best_weights
        return state

    def record(self, train_loss: float, validation_loss: float, rate: float, net: Any) -> None:
        """Add an epoch; keep the weights if it is the best."""
        self.train_loss.append(train_loss)
        self.validation_loss.append(validation_loss)
        self.learning_rate.append(rate)
        if validation_loss < self.best_loss:
            self.best_loss, self.best_epoch = validation_loss, len(self.train_loss) - 1
            self.best_weights = _copy_of(net.state_dict())

    @property
    def epochs(self) -> int:
        """How many have been run."""
        return len(self.train_loss)

    def decide(self, plan: Plan) -> None:
        """Stop after the last epoch, or when the best one is long ago."""
        if self.epochs - 1 - self.best_epoch >= plan.patience:
            self.stopped = "no better for a while"
        elif self.epochs >= plan.epochs:
            self.stopped = "all epochs run"

    def facts(self) -> dict[str, Any]:
        """All but the weights, JSON-ready."""
        return {key: value for key, value in vars(self).items() if key != "best_weights"}


class Trainer:
    """A network on its way: optimizer, schedule, and the running average of its weights.

    Parameters
    ----------
    net : RatioNetwork
    loss : Loss
    batches : Batches
    plan : Plan
    seed : int
        Of the order of the pairs.
    stream : RandomStream, optional
        What the network and the loss draw from, if they do; by default another of that seed.
    draws : bool
        Whether they may draw. If not, trainings in other threads need not wait.

    Attributes
    ----------
    chance : float
        The loss of a network that has learned nothing, if somebody told it.
    """

    chance = math.nan

    def __init__(
        self,
        net: RatioNetwork,
        loss: Loss,
        batches: Batches,
        plan: Plan,
        seed: int,
        stream: RandomStream | None = None,
        draws: bool = True,
    ) -> None:
        self.net, self.loss, self.batches, self.plan = net, loss, batches, plan
        self.stream = RandomStream(seed) if stream is None else stream
        self.drawing = self.stream.in_place if draws else nullcontext
        self.steps_per_epoch = batches.size // plan.batch_size
        self.steps = plan.epochs * self.steps_per_epoch
        self.averaged = copy.deepcopy(net)
        # Kept as lists: to walk through the modules at every step took a fifteenth of it.
        self._weights = list(net.parameters())
        self._averaged_weights = list(self.averaged.parameters())
        self._buffers = list(zip(self.averaged.buffers(), net.buffers(), strict=True))
        self.optimizer = AdamW(self._weights, plan.learning_rate, plan.weight_decay)
        self.by_hand = ByHand.of(net, loss)
        self.order = torch.Generator().manual_seed(seed)
        self.step = 0

    @property
    def learning_rate(self) -> float:
        """Of the next step: a short rise, then a cosine down to zero."""
        done = min(self.step / self.steps, 1.0)
        rise = min(1.0, (self.step + 1) / (0.05 * self.steps + 1))
        return self.plan.learning_rate * (rise * 0.5 * (1 + math.cos(math.pi * done)))

    def epoch(self, index: int) -> float:
        """One pass; the mean training loss."""
        self.net.train()
        # Fresh simulations may have failed and made fewer steps; the schedule goes by epochs.
        self.step = index * self.steps_per_epoch
        batches = self.batches.epoch(index, self.plan.batch_size, self.order)
        losses = [self._descend(*batch) for batch in batches]
        for mine, its in self._buffers:
            mine.copy_(its)
        return torch.stack(losses).mean().item()

    def _descend(self, *batch: Tensor) -> Tensor:
        with self.drawing():
            loss = self._gradients(*batch)
        self.optimizer.clip(_CLIP)
        self.optimizer.rate = self.learning_rate
        self.optimizer.step()
        self._average()
        return loss.detach()

    def _gradients(self, *batch: Tensor) -> Tensor:
        """The loss of a batch, whose gradients are set."""
        self.optimizer.forget_gradients()
        if self.by_hand is not None and self.by_hand.applies_to(batch[0]):
            return self.by_hand(*batch)
        loss = self.loss(self.net, *batch)
        loss.backward()  # may draw too, where layers are evaluated again
        return loss

    @torch.no_grad()
    def _average(self) -> None:
        """An exponential average that starts as a plain one, so early epochs count too."""
        self.step += 1
        weight = max(1 / (1 + self.step), 1 / (1 + _AVERAGED_SHARE * self.steps))
        torch._foreach_lerp_(self._averaged_weights, self._weights, weight)

    def state(self) -> dict[str, Tensor]:
        """All that the next epoch depends on, as tensors by name."""
        tensors = {f"net/{name}": value for name, value in self.net.state_dict().items()}
        tensors |= {f"averaged/{name}": value for name, value in self.averaged.state_dict().items()}
        for i, moments in self.optimizer.state().items():
            tensors |= {f"optimizer/{i}/{name}": value for name, value in moments.items()}
        streams = dict(zip(_STREAMS, self.stream.states, strict=False))
        streams["order"] = self.order.get_state()
        return tensors | streams | {"step": torch.tensor(self.step)}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """The inverse of `state`.

        Raises
        ------
        ValueError, KeyError, RuntimeError, TypeError
            If these are not the tensors of a trainer of such a network.
        """
        self.net.load_state_dict(part(tensors, "net/"))
        self.averaged.load_state_dict(part(tensors, "averaged/"))
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in part(tensors, "optimizer/").items():
            i, moment = name.split("/")
            moments.setdefault(int(i), {})[moment] = value
        for i, its in moments.items():
            # Nobody else compares them, and torch's compiled code would write beyond.
            _check_shapes(its, self.optimizer.like(i))
        self.optimizer.restore(moments)
        self.order.set_state(tensors["order"])
        found = [tensors[name] for name in _STREAMS if name in tensors]
        for state in found[:1]:
            torch.Generator().set_state(state)  # raises, now, if it is none
        self.stream.states[: len(found)] = found
        self.step = int(tensors["step"])


def _check_shapes(tensors: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> None:
    found, wanted = (
        {name: (tensor.shape, tensor.dtype) for name, tensor in each.items()}
        for each in (tensors, like)
    )
    if found != wanted:
        raise ValueError("The checkpoint holds tensors of other names, shapes or types.")


def part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with ``prefix``, without it."""
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }


def _copy_of(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in weights.items()}
