r"""Train a network until held-out simulations say stop.

The recipe: AdamW on shuffled batches kept in memory on the device, a one-cycle learning
rate, clipped gradients, and a running average of the weights. It is the averaged network
that is validated after each epoch and kept when it is the best so far.
"""

from __future__ import annotations

import copy
import math
import time
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from .data import Simulations
from .domain import Domain
from .estimator import RatioEstimator, resolve_device
from .losses import NREC, Loss
from .networks import MLP, RatioNetwork, build
from .progress import progress
from .threads import one_thread_if

__all__ = ["TrainingWarning", "train"]

# Evidence for the defaults: docs/training.md.
_STEPS = 6_000  # gradient steps of a default run: where the tasks' accuracy levels off ...
_FEWEST_EPOCHS = 20  # ... unless that would see each simulation less often than this
_MOST_EPOCHS = 300  # small sets overfit long before 6,000 steps
_AVERAGED_SHARE = 0.02  # the weight average forgets over this share of the steps
_VALIDATION_ROWS = 16_384  # pairs evaluated at once in validation
_ONE_THREAD_WORK = 2e7  # multiplications in a forward pass; the default network makes 7e6
_CLIP = 5.0  # gradient norm; the largest on three tasks was 0.95, so it acts on accidents only


class TrainingWarning(UserWarning):
    """Training ended otherwise than planned."""


@dataclass
class _Progress:
    """What training knows so far."""

    train_loss: list[float] = field(default_factory=list)
    validation_loss: list[float] = field(default_factory=list)
    learning_rate: list[float] = field(default_factory=list)
    best_loss: float = math.inf
    best_epoch: int = -1
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    stopped: str = "all epochs run"

    def record(self, train_loss: float, validation_loss: float, rate: float, net: Any) -> None:
        """Add an epoch; keep the weights if it is the best."""
        self.train_loss.append(train_loss)
        self.validation_loss.append(validation_loss)
        self.learning_rate.append(rate)
        if validation_loss < self.best_loss:
            self.best_loss, self.best_epoch = validation_loss, len(self.train_loss) - 1
            self.best_weights = _copy_of(net.state_dict())

    @property
    def stale_epochs(self) -> int:
        """Epochs since the best one."""
        return len(self.train_loss) - 1 - self.best_epoch


@dataclass(frozen=True)
class _Plan:
    """The settings of a run, all decided."""

    batch_size: int
    epochs: int
    patience: int
    learning_rate: float
    weight_decay: float


def train(
    simulations: Simulations,
    *,
    loss: Loss | None = None,
    network: Any = None,
    validation: float = 0.1,
    epochs: int | None = None,
    batch_size: int | None = None,
    learning_rate: float = 1e-2,
    weight_decay: float = 1e-4,
    patience: int | None = None,
    device: str = "auto",
    random_seed: int | None = None,
    progressbar: bool = True,
) -> RatioEstimator:
    """Train a neural ratio estimator on simulations.

    No option needs choosing to get a good answer on ordinary problems.

    Parameters
    ----------
    simulations : Simulations
        From `pymc_nre.simulate`, or your own arrays.
    loss : Loss, optional
        ``NREC()`` by default; see `pymc_nre.losses`.
    network : MLP, ResidualMLP or callable, optional
        ``MLP((64, 64))`` by default; a specification from `pymc_nre.networks`, or a function
        ``(theta_size, event_shape) -> nn.Module``.
    validation : float
        Share of the simulations that is held out to choose the best weights.
    epochs : int, optional
        Passes over the training simulations; by default as many as make 6,000 gradient
        steps, but at least 20 and at most 300.
    batch_size : int, optional
        256 by default, less for small sets.
    learning_rate : float
        Its peak; it warms up over the first steps and falls to zero at the last.
    weight_decay : float
        Of AdamW.
    patience : int, optional
        Stop after that many epochs without a better validation loss; by default a quarter
        of the epochs, at least 10.
    device : {"auto", "cpu", "cuda"}
        Where to train. The estimator that comes back lives on the CPU: move it by
        ``ratio.to("cuda")``.
    random_seed : int, optional
        The same seed on the same machine gives the same weights.
    progressbar : bool
        Show the losses beside the loss of a network that has learned nothing.

    Returns
    -------
    RatioEstimator
        With the best validated weights, also after Ctrl-C.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit, or there are too few simulations.
    RuntimeError
        If CUDA is asked for where there is none.
    FloatingPointError
        If the loss diverged before the first epoch ended.

    Warns
    -----
    TrainingWarning
        If training was interrupted, diverged, or ended no better than chance.

    Examples
    --------
    >>> import pymc_nre as nre
    >>> simulations = nre.tasks.GaussianMean().simulate(500, random_seed=1)
    >>> ratio = nre.train(simulations, epochs=5, random_seed=1, progressbar=False)
    >>> ratio.log_ratio([0.5, 1.0, 2.0], mu=0.7).shape
    (3,)
    """
    if not isinstance(simulations, Simulations):
        raise TypeError(
            f"train takes Simulations, got {type(simulations).__name__}. Wrap arrays: "
            "nre.Simulations({'mu': mu}, x)."
        )
    loss = NREC() if loss is None else loss
    specification = MLP() if network is None else network
    device = resolve_device(device)
    training, held_out = _split(simulations, validation, loss, device, random_seed)
    plan = _plan(len(training[0]), loss, epochs, batch_size, learning_rate, weight_decay, patience)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_seed(random_seed))
        net = build(specification, simulations.layout.size, simulations.event_shape).float()
    net.fit_standardization(*training)
    started = time.monotonic()
    with one_thread_if(_is_small(net, plan, loss)):
        state = _fit(
            net.to(device), loss, training, held_out, plan, _seed(random_seed), progressbar
        )
    net.load_state_dict(state.best_weights)
    _report(state, loss, len(held_out[0]))
    return RatioEstimator(
        net.cpu(),
        simulations.layout.shapes,
        domain=Domain.from_draws(simulations.theta, simulations.log_prior),
        probe_x=simulations.x[:100],
        reference=loss.reference,
        normalized=loss.normalized,
        loss=repr(loss),
        specification=specification if hasattr(specification, "build") else None,
        integer=simulations.layout.integer,
        history=_history(state, loss, plan, len(training[0]), time.monotonic() - started),
        simulator=simulations.simulator,
    )


def _seed(random_seed: int | None) -> int:
    return int(np.random.SeedSequence(random_seed).generate_state(1, np.uint64)[0] >> 1)


def _split(
    simulations: Simulations, validation: float, loss: Loss, device: str, random_seed: int | None
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Training and held-out pairs, theta ``(n, D)`` and x ``(n, *event)``, on the device."""
    n = len(simulations)
    if not 0 < validation < 1:
        raise ValueError(f"validation must be a share between 0 and 1, got {validation}.")
    held_out = max(round(n * validation), loss.minimum_batch)
    if n - held_out < loss.minimum_batch:
        raise ValueError(
            f"{type(loss).__name__} needs at least {2 * loss.minimum_batch} simulations to train "
            f"and validate, got {n}. Thousands are usual."
        )
    order = np.random.default_rng(random_seed).permutation(n)

    def pairs(rows: np.ndarray) -> tuple[Tensor, Tensor]:
        theta, x = simulations.theta[rows], simulations.x[rows]
        return tuple(torch.tensor(part, dtype=torch.float32, device=device) for part in (theta, x))

    return pairs(order[held_out:]), pairs(order[:held_out])


def _plan(
    n: int,
    loss: Loss,
    epochs: int | None,
    batch_size: int | None,
    learning_rate: float,
    weight_decay: float,
    patience: int | None,
) -> _Plan:
    """Fill in what the user left open for ``n`` training simulations."""
    if batch_size is None:
        batch_size = max(min(256, n // 8), loss.minimum_batch)
    if not loss.minimum_batch <= batch_size <= n:
        raise ValueError(
            f"batch_size must be between {loss.minimum_batch} (what {loss!r} needs) and {n} (the "
            f"training simulations), got {batch_size}."
        )
    if epochs is None:
        wanted = math.ceil(_STEPS / (n // batch_size))
        epochs = min(max(wanted, _FEWEST_EPOCHS), _MOST_EPOCHS)
    for name, value in (("epochs", epochs), ("learning_rate", learning_rate)):
        if not value > 0:
            raise ValueError(f"{name} must be positive, got {value}.")
    if patience is None:
        patience = max(10, epochs // 4)
    return _Plan(batch_size, epochs, patience, learning_rate, weight_decay)


def _is_small(net: RatioNetwork, plan: _Plan, loss: Loss) -> bool:
    """Whether a step is too little work to share between threads."""
    weights = sum(weight.numel() for weight in net.parameters())
    work = max(weights, math.prod(net.event_shape)) * plan.batch_size * loss.minimum_batch
    return work <= _ONE_THREAD_WORK


def _fit(
    net: RatioNetwork,
    loss: Loss,
    training: tuple[Tensor, Tensor],
    held_out: tuple[Tensor, Tensor],
    plan: _Plan,
    seed: int,
    progressbar: bool,
) -> _Progress:
    """Run the epochs; on Ctrl-C or divergence end with what there is."""
    state = _Progress()
    run = _Run(net, loss, plan, steps=plan.epochs * (len(training[0]) // plan.batch_size))
    order = torch.Generator().manual_seed(seed)
    try:
        with progress(enabled=progressbar) as display:
            bar = display.add_task("training", total=plan.epochs, status="")
            for _ in range(plan.epochs):
                train_loss = run.epoch(_batches(training, plan.batch_size, order))
                validation_loss = _validate(run.averaged, loss, held_out)
                if not math.isfinite(train_loss + validation_loss):
                    state.stopped = "diverged"
                    break
                state.record(train_loss, validation_loss, run.learning_rate, run.averaged)
                shown = f"loss {train_loss:.4f}, held-out {validation_loss:.4f}"
                display.update(bar, advance=1, status=f"{shown} (chance {loss.chance:.4f})")
                if state.stale_epochs >= plan.patience:
                    state.stopped = "no better for a while"
                    break
    except KeyboardInterrupt:
        if not state.best_weights:
            raise
        state.stopped = "interrupted"
    if not state.best_weights:
        raise FloatingPointError(
            f"The loss was not finite in the first epoch at learning_rate={plan.learning_rate}. "
            "Lower it, and look for extreme values in the simulations."
        )
    return state


class _Run:
    """A network on its way: optimizer, schedule, and the running average of its weights."""

    def __init__(self, net: RatioNetwork, loss: Loss, plan: _Plan, steps: int) -> None:
        self.net, self.loss, self.steps = net, loss, steps
        self.averaged = copy.deepcopy(net)
        self.optimizer = torch.optim.AdamW(
            net.parameters(),
            lr=plan.learning_rate,
            weight_decay=plan.weight_decay,
            fused=True,  # a third off the time of a step of a small network
        )
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, self._warm_then_cosine)
        self.step = 0

    def _warm_then_cosine(self, step: int) -> float:
        done = min(step / self.steps, 1.0)
        return min(1.0, (step + 1) / (0.05 * self.steps + 1)) * 0.5 * (1 + math.cos(math.pi * done))

    @property
    def learning_rate(self) -> float:
        """Of the next step."""
        return self.schedule.get_last_lr()[0]

    def epoch(self, batches: Iterator[tuple[Tensor, Tensor]]) -> float:
        """One pass; the mean training loss."""
        self.net.train()
        losses = [self._descend(theta, x) for theta, x in batches]
        return torch.stack(losses).mean().item()

    def _descend(self, theta: Tensor, x: Tensor) -> Tensor:
        loss = self.loss(self.net, theta, x)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), _CLIP)
        self.optimizer.step()
        self.schedule.step()
        self._average()
        return loss.detach()

    @torch.no_grad()
    def _average(self) -> None:
        """An exponential average that starts as a plain one, so early epochs count too."""
        self.step += 1
        weight = max(1 / (1 + self.step), 1 / (1 + _AVERAGED_SHARE * self.steps))
        averaged, current = list(self.averaged.parameters()), list(self.net.parameters())
        torch._foreach_lerp_(averaged, current, weight)
        for mine, its in zip(self.averaged.buffers(), self.net.buffers(), strict=True):
            mine.copy_(its)


def _batches(
    pairs: tuple[Tensor, Tensor], batch_size: int, order: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """Shuffled batches of one size; what is left over waits for the next shuffle."""
    theta, x = pairs
    shuffled = torch.randperm(len(theta), generator=order).to(theta.device)
    for start in range(0, len(theta) - batch_size + 1, batch_size):
        rows = shuffled[start : start + batch_size]
        yield theta[rows], x[rows]


@torch.no_grad()
def _validate(net: RatioNetwork, loss: Loss, held_out: tuple[Tensor, Tensor]) -> float:
    """The loss on held-out pairs, in chunks that are large enough for it."""
    net.eval()
    theta, x = held_out
    chunks = max(1, math.ceil(len(theta) / _VALIDATION_ROWS))
    parts = zip(theta.tensor_split(chunks), x.tensor_split(chunks), strict=True)
    return sum(loss(net, t, y).item() * len(t) for t, y in parts) / len(theta)


def _copy_of(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in weights.items()}


def _report(state: _Progress, loss: Loss, n_held_out: int) -> None:
    """Warn where the result is not what was asked for."""
    # By Wilks' theorem k useless directions of a logit gain k / 2n by luck; k = 10 is ample.
    luck = 5 / n_held_out
    epochs = len(state.train_loss)
    if state.stopped in ("interrupted", "diverged"):
        warnings.warn(
            f"Training {'was ' * (state.stopped == 'interrupted')}{state.stopped} after {epochs} "
            f"epochs; returning the best weights so far (epoch {state.best_epoch + 1}, validation "
            f"loss {state.best_loss:.4f}, chance {loss.chance:.4f}).",
            TrainingWarning,
            stacklevel=3,
        )
    elif state.best_loss > loss.chance - luck:
        warnings.warn(
            f"The validation loss ({state.best_loss:.4f} on {n_held_out:,} held-out simulations) "
            f"cannot be told from chance ({loss.chance:.4f}): the network has found nothing in x "
            "that depends on the parameters. Check the simulator, or use more simulations.",
            TrainingWarning,
            stacklevel=3,
        )


def _history(state: _Progress, loss: Loss, plan: _Plan, n_train: int, seconds: float) -> xr.Dataset:
    columns = ("train_loss", "validation_loss", "learning_rate")
    return xr.Dataset(
        {name: ("epoch", np.array(getattr(state, name))) for name in columns},
        attrs={
            "chance": loss.chance,
            "best_epoch": state.best_epoch,
            "best_loss": state.best_loss,
            "stopped": state.stopped,
            "n_train": n_train,
            "seconds": round(seconds, 3),
            **asdict(plan),
        },
    )
