r"""Train a network until held-out simulations say stop.

The recipe: AdamW on shuffled batches kept in memory on the device, a one-cycle learning
rate, clipped gradients, and a running average of the weights. It is the averaged network
that is validated after each epoch and kept when it is the best so far. After each epoch the
whole state can go to a checkpoint, from which a killed run resumes bit by bit.
"""

from __future__ import annotations

import math
import os
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from ..estimators.checks import told_of_decades
from ..estimators.domain import Domain
from ..estimators.ensemble import ensemble
from ..estimators.estimator import RatioEstimator
from ..exceptions import TrainingWarning, warn
from ..losses.base import Loss, checked_loss, is_known_loss
from ..networks.base import RatioNetwork
from ..networks.beside import beside
from ..networks.incomplete import incomplete
from ..networks.specifications import build, is_known_network
from ..runtime.arrays import real_number, true_or_false, whole_number
from ..runtime.checkpoint import Checkpoint, CheckpointWriter
from ..runtime.devices import differentiable, one_thread_if, resolve_device
from ..runtime.kinds import check_kind
from ..runtime.progress import progress
from ..runtime.random_streams import RandomStream, plain_seed
from ..simulation.conditions.missing import Missing
from ..simulation.online import Online
from ..simulation.simulations import Simulations
from .batches import Batches, batches_of
from .contrasts import ContrastedBatches, KnowsNothing, check_prior, default_loss
from .identity import Identity
from .masks import MaskedBatches
from .precision import check_range
from .settings import Settings, default_network
from .trainer import Trainer, TrainingState, part
from .trial import check_weights, try_out
from .unseen import with_budget
from .work import work_of_a_step

__all__ = ["train"]

_VALIDATION_ROWS = 16_384  # pairs evaluated at once in validation ...
_VALIDATION_NUMBERS = 2**20  # ... fewer if their observations are large
_ROUNDED = 1e-5  # single precision rounds by 6e-8: 0.6 % of a spread that is 1e-5 of its numbers
_EASY = 0.015  # of chance: two parameters whose posteriors are a fiftieth of the prior make it
_SAME = 1e-3  # of a loss in single precision, on another processor
_ONE_THREAD_WORK = 2e7  # multiplications in a forward pass; two layers of 64 make 7e6


def train(
    simulations: Simulations | Online,
    *,
    loss: Loss | None = None,
    network: Any = None,
    members: int = 1,
    missing: Any = None,
    validation: float = 0.1,
    epochs: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    weight_decay: float = 1e-4,
    patience: int | None = None,
    device: str | torch.device = "auto",
    checkpoint: str | os.PathLike[str] | None = None,
    measure_budget: bool = True,
    random_seed: Any = None,
    progressbar: bool = True,
) -> RatioEstimator:
    r"""Train a neural ratio estimator on simulations.

    No option needs choosing to get a good answer on ordinary problems.

    Parameters
    ----------
    simulations : Simulations or Online
        From `pymc_nre.simulate`, or your own arrays; or an endless supply of fresh ones.
    loss : Loss, optional
        By default ``MultiScale()``, contrasts at every scale, where simulations know their prior,
        as those of `pymc_nre.simulate` do; else ``NREC()``. See `pymc_nre.losses`.
    network : MLP, ResidualMLP or callable, optional
        By default ``MLP((64, 64))``, with a third layer of 64 for 10,000 simulations or more and
        for `Online`; a specification from `pymc_nre.networks`, or a function
        ``(theta_size, event_shape) -> nn.Module``.
    members : int
        Networks to train, each from other weights and with other held-out simulations (but those
        of `Online` are the same). A factory must build a new module at each call. What
        comes back is the mean of their ratios (see `ensemble`): more accurate where simulations
        are few, and it takes that many times as long to train and to evaluate.
    missing : float, array of bool, shape (m, *event), or array with NaN, optional
        Train for observations some of whose numbers are missing: NaN or masked in what is then
        observed. A share (0.3) lets each number be missing by itself as often as that, shares of
        shape ``(*event)`` each as often as its own; masks, True where a number is missing, let
        those patterns occur that are among them; and observed data give their own. Masks are drawn
        anew for each batch, independently of everything, and the network gets them beside the
        numbers. It learns :math:`p(x_o \mid \theta) / p(x_o)` of what is observed, which is all
        that counts where numbers are *missing at random*: which of them are missing may depend on
        what is observed and on conditions, but not on what is missing. Where it does, as where
        values below a limit are not recorded, simulate that, and let the simulator return what is
        recorded. Simulations are complete as always. Networks
        of your own must be embeddings, ``MLP(embedding=...)``, of event shape ``(*event, 2)``.
    validation : float
        Share of the simulations that is held out to choose the best weights.
    epochs : int, optional
        Passes over the training simulations; by default as many as make 6,000 gradient
        steps, but at least 20 and at most 300.
    batch_size : int, optional
        By default what the loss trains best with (256; 2,048 for balanced losses), less for
        small sets.
    learning_rate : float, optional
        Its peak, by default what the loss trains best with (0.01; 0.003 for balanced
        losses); it warms up over the first steps and falls to zero at the last.
    weight_decay : float
        Of AdamW.
    patience : int, optional
        Stop after that many epochs without a better validation loss; by default a quarter
        of the epochs, at least 10. Fresh simulations cannot be learned by heart, so with them
        training goes on to its end by default.
    device : {"auto", "cpu", "cuda"} or torch.device
        Where to train. The estimator that comes back lives on the CPU: move it by
        ``ratio.to("cuda")``.
    checkpoint : str or path-like, optional
        A file that follows the training. Call `train` again with the same arguments and the
        same file after a crash, a kill or Ctrl-C, and it resumes after the last epoch that
        was written, to the same weights as if it had not been interrupted (on the CPU, with
        the same versions of everything). Other members of an ensemble have files of their own
        beside it, ``<file>.1`` and so on.
    measure_budget : bool
        Whether to measure how many trials the ratio bears (`trial_budget`) on simulations that
        training has not seen, if there are 1,000 or more: those that are held out, and with
        `Online` a whole set. For members of an ensemble that is what all of them have not seen.
        Weights do not depend on it.
    random_seed : int, Generator or SeedSequence, optional
        The same seed on the same machine gives the same weights. One is drawn from a generator.
    progressbar : bool
        Show the losses beside the loss of a network that has learned nothing.

    Returns
    -------
    RatioEstimator
        With the best validated weights, also after Ctrl-C; then an ensemble has the members
        that were complete by that time.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit, there are too few simulations, or the checkpoint belongs
        to another training run.
    RuntimeError
        If CUDA is asked for where there is none, or another run owns the checkpoint.
    OSError
        If the checkpoint cannot be written, where that is known before training.
    FloatingPointError
        If the loss diverged before the first epoch ended.

    Warns
    -----
    TrainingWarning
        If training was interrupted, diverged, or ended no better than chance, or if its checkpoint
        cannot be written any more.

    Examples
    --------
    >>> import pymc_nre as nre
    >>> simulations = nre.tasks.GaussianMean().simulate(500, random_seed=1)
    >>> ratio = nre.train(simulations, epochs=5, random_seed=1, progressbar=False)
    >>> ratio.log_ratio([0.5, 1.0, 2.0], mu=0.7).shape
    (3,)
    """
    remedy = "Wrap arrays: nre.Simulations({'mu': mu}, x)."
    kinds, expected = (Simulations, Online), "Simulations or Online"
    check_kind(simulations, kinds, "train: simulations", expected, remedy)
    members = whole_number(members, "train: members")
    validation = real_number(validation, "train: validation", above=0, below=1)
    measure_budget = true_or_false(measure_budget, "train: measure_budget")
    progressbar = true_or_false(progressbar, "train: progressbar")
    loss = default_loss(simulations) if loss is None else checked_loss(loss)
    check_prior(loss, simulations)
    network = default_network(simulations) if network is None else network
    settings = Settings(epochs, batch_size, learning_rate, weight_decay, patience)
    draws = not (is_known_network(network) and is_known_loss(loss))
    recipe = _Recipe(loss, network, validation, settings, resolve_device(device), draws, missing)
    random_seed = Checkpoint(checkpoint).chosen_seed(plain_seed(random_seed))
    ratios: list[RatioEstimator] = []
    unseen: list[np.ndarray] = []
    for k in range(members):
        title = f"training {k + 1}/{members}" if members > 1 else "training"
        its_file = Checkpoint(f"{os.fspath(checkpoint)}.{k}" if checkpoint and k else checkpoint)
        try:
            seed = _seed((random_seed, k)) if k else random_seed
            with its_file.held():
                shown = title if progressbar else ""
                ratio, batches = _train(simulations, recipe, its_file, seed, shown)
            sample = batches.simulations  # the same for all members
            ratios, unseen = [*ratios, ratio], [*unseen, batches.unseen]
            del batches  # much memory
        except KeyboardInterrupt:
            if not ratios:
                raise
        if len(ratios) == k or ratios[-1].history.attrs["stopped"] == "interrupted":
            ratios = ratios[: max(k, 1)]  # half a member would count as much as a whole one
            break
    if len(ratios) < members:
        warn(
            f"The ensemble has {len(ratios)} of {members} members: training was interrupted.",
            TrainingWarning,
        )
    ratio = ensemble(ratios)
    return with_budget(ratio, sample, unseen[: len(ratios)]) if measure_budget else ratio


@dataclass(frozen=True)
class _Recipe:
    """What all members of an ensemble are trained with."""

    loss: Loss
    network: Any
    validation: float
    settings: Settings
    device: str
    draws: bool  # random numbers, after the network was built
    missing: Any = None
    built: list[RatioNetwork] = field(default_factory=list)

    def build(self, simulations: Simulations) -> RatioNetwork:
        """A network for simulations of this form, which must be another one each time."""
        net = build(self.network, simulations.layout.size, simulations.event_shape)
        weights = {*map(id, net.parameters())}
        if any(id(weight) in weights for other in self.built for weight in other.parameters()):
            raise ValueError(
                "network= gave the same module for two members of an ensemble. Let the factory "
                "build a new one at each call: network=lambda theta_size, event_shape: Mine(...)."
            )
        self.built.append(net)
        check_weights(net)
        return net


@differentiable()
def _train(
    simulations: Simulations | Online,
    recipe: _Recipe,
    checkpoint: Checkpoint,
    random_seed: int,
    title: str,
) -> tuple[RatioEstimator, Batches]:
    """Train one network; no progress is shown without a title."""
    loss, device, seed = recipe.loss, recipe.device, _seed(random_seed)
    batches = batches_of(simulations, loss, recipe.validation, device, random_seed)
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
        net = recipe.build(sample)
    net.float().fit_standardization(*batches.training)
    if not is_known_network(recipe.network):
        try_out(net, sample.theta, _seen(sample.x, missing), not sample.layout.integer)
    identity = Identity()
    if checkpoint.path is not None:
        settings = plan, recipe.validation, random_seed, missing
        identity = Identity.of(recipe.network, net, loss, batches, *settings)
    writer = CheckpointWriter(checkpoint, identity.fingerprints, random_seed, identity.formerly)
    run = Trainer(net.to(device), loss, batches, plan, seed, stream, recipe.draws)
    run.chance = _chance(run)
    with one_thread_if(work_of_a_step(run) <= _ONE_THREAD_WORK):
        state = _fit(run, writer, identity, title)
    _report(run, state)
    ratio = _estimator(run, state, recipe.network, writer.seconds, domain, missing)
    return ratio, batches


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
    )


def _seen(x: np.ndarray, missing: Missing | None) -> np.ndarray:
    """Some observations as the network is given them."""
    return x if missing is None else missing.masked(x[:100], np.random.default_rng(0))


def _seed(random_seed: int | tuple[int, int]) -> int:
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


def _report(run: Trainer, state: TrainingState) -> None:
    """Warn where the result is not what was asked for."""
    n_held_out = run.batches.n_held_out
    decades = told_of_decades(run.net, run.batches.simulations.x)
    # By Wilks' theorem k useless directions of a logit gain k / 2n by luck; k = 10 is ample.
    luck = 5 / n_held_out
    epochs = len(state.train_loss)
    if state.stopped in ("interrupted", "diverged"):
        warn(
            f"Training {'was ' * (state.stopped == 'interrupted')}{state.stopped} after {epochs} "
            f"epochs; returning the best weights so far (epoch {state.best_epoch + 1}, validation "
            f"loss {state.best_loss:.4f}, chance {run.chance:.4f}).",
            TrainingWarning,
        )
    elif state.best_loss > run.chance - luck:
        warn(
            f"The validation loss ({state.best_loss:.4f} on {n_held_out:,} held-out simulations) "
            f"cannot be told from chance ({run.chance:.4f}): the network has found nothing in x "
            "that depends on the parameters. "
            f"{decades or 'Check the simulator, or use more simulations.'}",
            TrainingWarning,
        )
    elif decades:
        warn(f"{decades} Small ones count for little in what was learned.", TrainingWarning)
    elif state.best_loss < _EASY * run.chance:
        warn(
            f"The validation loss ({state.best_loss:.4f}) is next to nothing (chance "
            f"{run.chance:.4f}): observations tell so much that pairs are told apart without "
            "effort, and the shape of posteriors need not be learned. Train with a narrower prior "
            "around your data, and check with nre.diagnostics.report.",
            TrainingWarning,
        )


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
            "seconds": round(seconds, 3),
            **asdict(run.plan),
        },
    )
