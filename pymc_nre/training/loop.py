r"""Train one network until held-out simulations say stop.

The recipe: AdamW on shuffled batches kept in memory on the device, a one-cycle learning
rate, clipped gradients, and a running average of the weights. It is the averaged network
that is validated after each epoch and kept when it is the best so far. After each epoch the
whole state can go to a checkpoint, from which a killed run resumes bit by bit.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from ..estimators.checks import told_of_decades
from ..estimators.domain import Domain
from ..estimators.estimator import RatioEstimator
from ..estimators.parts import paired
from ..exceptions import TrainingWarning, warn
from ..losses.base import Loss
from ..losses.carl import theta_ref_of
from ..networks.base import RatioNetwork, keep_in_mind
from ..networks.beside import beside
from ..networks.composed.pairs import Pairs
from ..networks.incomplete import incomplete
from ..networks.specifications import build, is_known_network
from ..runtime.checkpoint import Checkpoint, CheckpointWriter
from ..runtime.devices import differentiable, one_thread_if
from ..runtime.progress import progress
from ..runtime.random_streams import RandomStream
from ..simulation.conditions.missing import Missing
from ..simulation.online import Online
from ..simulation.simulations import Simulations
from .batching.batches import Batches, batches_of
from .batching.contrasts import ContrastedBatches, KnowsNothing
from .batching.masks import MaskedBatches
from .identity import Identity
from .precision import check_range
from .settings import Settings
from .start import Start
from .trainer import Trainer, TrainingState, part
from .trial import check_weights, try_out
from .work import work_of_a_step

__all__ = ["Recipe", "Trained", "one_seed", "train_network"]

_VALIDATION_ROWS = 16_384  # pairs evaluated at once in validation ...
_VALIDATION_NUMBERS = 2**20  # ... fewer if their observations are large
_ROUNDED = 1e-5  # single precision rounds by 6e-8: 0.6 % of a spread that is 1e-5 of its numbers
_EASY = 0.015  # of chance: two parameters whose posteriors are a fiftieth of the prior make it
_SAME = 1e-3  # of a loss in single precision, on another processor
_ONE_THREAD_WORK = 2e7  # multiplications in a forward pass; two layers of 64 make 7e6


@dataclass(frozen=True)
class Recipe:
    """What a network is trained with, as all members of an ensemble are."""

    loss: Loss
    network: Any
    validation: float
    settings: Settings
    device: str
    draws: bool  # random numbers, after the network was built
    missing: Any = None
    start: Start | None = None
    built: list[RatioNetwork] = field(default_factory=list)

    def network_for(self, batches: Batches, member: int) -> RatioNetwork:
        """One in single precision, to be trained on these, as it is before the first step."""
        if self.start is not None:
            net = self.start.network(member)
            check_weights(net)
            return net
        net = self.build(batches.simulations).float()
        net.fit_standardization(*batches.training)
        return net

    def build(self, simulations: Simulations) -> RatioNetwork:
        """A network for simulations of this form, which must be another one each time."""
        net = self._untrained(simulations.layout.size, simulations.event_shape)
        weights = {*map(id, net.parameters())}
        if any(id(weight) in weights for other in self.built for weight in other.parameters()):
            raise ValueError(
                "network= gave the same module for two members of an ensemble. Let the factory "
                "build a new one at each call: network=lambda theta_size, event_shape: Mine(...)."
            )
        self.built.append(net)
        check_weights(net)
        return net

    def _untrained(self, size: int, event_shape: tuple[int, ...]) -> RatioNetwork:
        """For parameters ``(D,)``; of a direct ratio, for pairs of them."""
        if self.loss.reference != "pair":
            return build(self.network, size, event_shape)
        if getattr(self.network, "features", None) is not None:
            raise ValueError(
                f"{self.loss!r} compares two parameter vectors, and features= of a network are of "
                "one. Leave features= out, or train with DNRE('additive'), whose network has one."
            )
        return Pairs(build(self.network, 2 * size, event_shape), self.loss.antisymmetric)


@dataclass(frozen=True)
class Trained:
    """A trained network.

    Attributes
    ----------
    ratio : RatioEstimator
    sample : Simulations
        A fair sample of what it was trained on.
    unseen : array of int
        Rows of it that no gradient came from.
    learned : bool
        Whether its loss is better than chance.
    warning : str
        What is to be told of it; empty if it is as was asked for.
    """

    ratio: RatioEstimator
    sample: Simulations
    unseen: np.ndarray
    learned: bool
    warning: str

    @property
    def stopped(self) -> str:
        """Why training ended."""
        return self.ratio.history.attrs["stopped"]

    @property
    def loss(self) -> float:
        """On held-out pairs."""
        return self.ratio.history.attrs["best_loss"]


@differentiable()
def train_network(
    simulations: Simulations | Online,
    recipe: Recipe,
    checkpoint: Checkpoint,
    random_seed: int,
    title: str,
    member: int = 0,
) -> Trained:
    """Train one network; no progress is shown without a title."""
    loss, device, seed = recipe.loss, recipe.device, one_seed(random_seed)
    seen = 0 if recipe.start is None else recipe.start.seen(simulations)
    batches = batches_of(simulations, loss, recipe.validation, device, random_seed, seen)
    sample = batches.simulations
    missing = None
    if recipe.missing is not None:
        missing = Missing.of(recipe.missing, sample.observation_shape)
        batches = MaskedBatches(batches, missing, random_seed)
        recipe = replace(recipe, network=incomplete(recipe.network))
    batches = ContrastedBatches.wanted_by(loss, batches, random_seed)
    known = sample.known_conditions
    recipe = replace(recipe, network=beside(recipe.network, known and known.event_shape))
    _warn_if_rounded(sample)
    fresh = isinstance(simulations, Online)
    plan = recipe.settings.plan(batches.size, loss, fresh, batches.distinct)
    domain = Domain.from_draws(sample.theta, sample.log_prior)  # first: it may want much memory
    stream = RandomStream(seed, device)
    with stream.in_place():
        net = recipe.network_for(batches, member)
    if not is_known_network(recipe.network):
        theta = paired(sample.theta[:100]) if loss.reference == "pair" else sample.theta
        try_out(net, theta, _seen(sample.x, missing), not sample.layout.integer)
    identity = Identity()
    if checkpoint.path is not None:
        settings = plan, recipe.validation, random_seed, missing
        identity = Identity.of(recipe.network, net, loss, batches, *settings)
        identity = identity.begun_with(net) if recipe.start is not None else identity
    writer = CheckpointWriter(checkpoint, identity.fingerprints, random_seed, identity.formerly)
    run = Trainer(net.to(device), loss, batches, plan, seed, stream, recipe.draws)
    run.chance = _chance(run)
    with one_thread_if(work_of_a_step(run) <= _ONE_THREAD_WORK):
        state = _fit(run, writer, identity, title)
    ratio = _estimator(run, state, recipe.network, writer.seconds, domain, missing)
    learned = state.best_loss <= run.chance - _luck(run)
    return Trained(ratio, sample, batches.unseen, learned, _warning(run, state, learned))


def _estimator(
    run: Trainer,
    state: TrainingState,
    specification: Any,
    seconds: float,
    domain: Domain,
    missing: Missing | None,
) -> RatioEstimator:
    simulations, loss = run.batches.simulations, run.loss
    run.net.load_state_dict(state.best_weights)
    keep_in_mind(run.net, [n for n, w in run.net.named_parameters() if not w.requires_grad])
    return RatioEstimator(
        run.net.cpu(),
        simulations.layout.shapes,
        domain=domain,
        probe_x=simulations.x[:100],
        reference=loss.reference,
        normalized=loss.normalized,
        loss=repr(loss),
        specification=specification if hasattr(specification, "build") else None,
        integer=simulations.layout.integer,
        history=_history(state, run, seconds),
        simulator=simulations.predictor,
        batched=simulations.batched,
        conditions=simulations.known_conditions,
        missing=missing,
        theta_ref=theta_ref_of(loss, simulations.layout),
    )


def _seen(x: np.ndarray, missing: Missing | None) -> np.ndarray:
    """Some observations as the network is given them."""
    return x if missing is None else missing.masked(x[:100], np.random.default_rng(0))


def one_seed(random_seed: int | tuple[int, int]) -> int:
    """A seed that is made of another, or of two."""
    return int(np.random.SeedSequence(random_seed).generate_state(1, np.uint64)[0] >> 1)


def _warn_if_rounded(simulations: Simulations) -> None:
    """Training is in single precision, which keeps seven digits of each number."""
    for name, values in (*simulations.parameters.items(), ("x", simulations.points)):
        check_range(name, values)
        size, spread = np.abs(values).max(0), values.std(0)
        # A spread of 1e-12 is double precision's own rounding of a constant.
        lost = (spread < _ROUNDED * size) & (spread > 1e-12 * size)
        if lost.any():
            k = np.unravel_index(lost.argmax(), lost.shape)
            warn(
                f"{name} varies by {spread[k]:.3g} around {values.mean(0)[k]:.8g}"
                f"{f' (at {tuple(map(int, k))})' if k else ''}: training is in single precision, "
                "which rounds much of that away. Subtract a constant, in the simulator and from "
                "the data, or use another unit.",
                TrainingWarning,
            )


def _fit(run: Trainer, writer: CheckpointWriter, identity: Identity, title: str) -> TrainingState:
    """Run the epochs; on Ctrl-C or divergence end with what there is."""
    state = _resumed(run, writer, identity)
    plan = run.plan
    try:
        with progress(enabled=bool(title)) as display:
            bar = display.add_task(title, total=plan.epochs, completed=state.epochs, status="")
            while not state.stopped:
                train_loss = run.epoch(state.epochs)
                with run.drawing():
                    validation_loss = _validate(run.averaged, run.loss, run.batches)
                if not math.isfinite(train_loss + validation_loss):
                    state.stopped = "diverged"
                    break
                state.record(train_loss, validation_loss, run.learning_rate, run.averaged)
                state.decide(plan)
                writer.write(
                    state.epochs,
                    lambda: _written(run, state, writer, identity),
                    last=bool(state.stopped),
                )
                shown = f"loss {train_loss:.4f}, held-out {validation_loss:.4f}"
                display.update(bar, advance=1, status=f"{shown} (chance {run.chance:.4f})")
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


def _resumed(run: Trainer, writer: CheckpointWriter, identity: Identity) -> TrainingState:
    """The state in the checkpoint, or a new one."""
    found = writer.resume()
    if found is None:
        return TrainingState()
    facts, tensors = found
    given = part(tensors, "given/")
    writer.checkpoint.refuse_if(identity.differing(given))
    state = TrainingState()
    try:
        state = TrainingState.restored(facts, part(tensors, "best/"), run.net)
        run.restore(part(tensors, "run/"))
        # Files of version 0.1 know no more of the network than the name of its factory.
        again = given or _loses_as_much(run, state.validation_loss[-1])
    except (RuntimeError, ValueError, LookupError, TypeError):  # weights of other shapes or names
        again = False
    writer.checkpoint.refuse_if([] if again else ["network or loss"])
    return state


def _written(
    run: Trainer, state: TrainingState, writer: CheckpointWriter, identity: Identity
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Facts and tensors for the checkpoint."""
    tensors = {f"run/{name}": tensor for name, tensor in run.state().items()}
    tensors |= {f"given/{name}": tensor for name, tensor in identity.given.items()}
    tensors |= {f"best/{name}": tensor for name, tensor in state.best_weights.items()}
    return state.facts() | {"seconds": writer.seconds}, tensors


def _loses_as_much(run: Trainer, validation_loss: float) -> bool:
    """Whether the averaged network still has this loss."""
    now = _validate(run.averaged, run.loss, run.batches)
    return math.isclose(now, validation_loss, rel_tol=_SAME)


def _chance(run: Trainer) -> float:
    """The loss of a network that has learned nothing; of candidates nearby the prior tells some."""
    if getattr(run.loss, "near", 0):
        return _validate(KnowsNothing(), run.loss, run.batches)
    return run.loss.chance


@torch.no_grad()
def _validate(net: nn.Module, loss: Loss, batches: Batches) -> float:
    """The loss on held-out pairs, in chunks that are large enough for it."""
    net.eval()
    numbers = batches.training[1][0].numel()
    rows = min(_VALIDATION_ROWS, max(_VALIDATION_NUMBERS // numbers, 64))
    total, n = 0.0, 0
    for theta, *others in batches.validation(rows, loss.minimum_batch):
        total += loss(net, theta, *others).item() * len(theta)
        n += len(theta)
    return total / n


def _luck(run: Trainer) -> float:
    """What a loss may gain though nothing was learned.

    By Wilks' theorem k useless directions of a logit gain k / 2n by luck; k = 10 is ample.
    """
    return 5 / run.batches.n_held_out


def _warning(run: Trainer, state: TrainingState, learned: bool) -> str:
    """What to tell where the result is not what was asked for."""
    n_held_out, chance = run.batches.n_held_out, run.chance
    decades = told_of_decades(run.net, run.batches.simulations.x)
    if state.stopped in ("interrupted", "diverged"):
        return (
            f"Training {'was ' * (state.stopped == 'interrupted')}{state.stopped} after "
            f"{state.epochs} epochs; returning the best weights so far (epoch "
            f"{state.best_epoch + 1}, validation loss {state.best_loss:.4f}, chance {chance:.4f})."
        )
    if not learned:
        return (
            f"The validation loss ({state.best_loss:.4f} on {n_held_out:,} held-out simulations) "
            f"cannot be told from chance ({chance:.4f}): the network has found nothing in x "
            "that depends on the parameters. "
            f"{decades or 'Check the simulator, or use more simulations.'}"
        )
    if decades:
        return f"{decades} Small ones count for little in what was learned."
    if state.best_loss < _EASY * chance:
        return (
            f"The validation loss ({state.best_loss:.4f}) is next to nothing (chance "
            f"{chance:.4f}): observations tell so much that pairs are told apart without "
            "effort, and the shape of posteriors need not be learned. Train with a narrower prior "
            "around your data, and check with nre.diagnostics.report."
        )
    return ""


def _history(state: TrainingState, run: Trainer, seconds: float) -> xr.Dataset:
    columns = ("train_loss", "validation_loss", "learning_rate")
    return xr.Dataset(
        {name: ("epoch", np.array(getattr(state, name))) for name in columns},
        attrs={
            "chance": run.chance,
            "best_epoch": state.best_epoch,
            "best_loss": state.best_loss,
            "stopped": state.stopped,
            "n_train": run.batches.size,
            "n_simulations": len(run.batches.simulations),
            "seconds": round(seconds, 3),
            **asdict(run.plan),
        },
    )
