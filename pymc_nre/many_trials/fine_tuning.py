r"""Fine-tune a ratio for many trials: training goes on, with a penalty on what adds up.

The square of the mean :math:`b(\theta) = E_{x \mid \theta}[\nabla_\theta s]` of the ratio's score,
in units of the information of a trial, is added to the training loss,

.. math:: L + \lambda\, E_\theta\, b^\top I^{-1} b,

and estimated without bias from replicates, observations at the same parameters: the mean of
all products of two different ones. The exact ratio has no bias, so the optimum stays where it
is. What a trial tells beyond that mean is tied to the trained network (`change`).
What comes back is a network like the one before: no engine needs to know.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..estimators.checks import as_taken, check_observations, warn_if_of_any_data
from ..estimators.estimator import RatioEstimator
from ..estimators.parts import trainable
from ..estimators.trial_budgets.measured_budget import check_same_parameters, measure
from ..estimators.trial_budgets.scores import free_directions, nested_cells, scatter
from ..estimators.trial_budgets.trial_budget import gain
from ..exceptions import SimulationError, TrainingWarning, warn
from ..losses.base import Loss, checked_loss, is_known_loss
from ..losses.contrastive import NREB, NREC
from ..networks.specifications import is_known_network
from ..runtime.arrays import real_number, whole_number
from ..runtime.devices import differentiable, resolve_device
from ..runtime.kinds import check_kind
from ..runtime.progress import progress, say
from ..runtime.random_streams import RandomStream, plain_seed, seed_sequence
from ..simulation.online import Online
from ..simulation.simulations import Simulations
from ..training.settings import Plan
from ..training.trainer import Trainer

__all__ = ["change", "fine_tune", "scores_of", "squared_bias", "told_of_change"]

_CELLS = 64  # values of the parameters in a step
_PAIRS = 256  # pairs in a step, for the training loss
_STEPS_OF_AN_EPOCH = 100
_LEARNING_RATE = 2e-3
_HELD_OUT = 0.2  # of a fixed set
_REPORT = 200_000  # fresh simulations on which the bias is measured
_TOLD = 1_000  # trials, in what is told of the gain
_MUCH = 0.1  # posterior standard deviations by which posteriors move besides
_FEWEST = 20_000
_REPLICATES, _PER_PARAMETER = 128, 16  # observations in a cell; at least
_TIE = 1.0  # weight of what scores change otherwise, in units of a trial's information
_RIDGE = 1e-6  # of each parameter's information


@differentiable()
def fine_tune(
    ratio: RatioEstimator,
    simulations: Simulations | Online,
    *,
    loss: Loss | None = None,
    strength: float = 100.0,
    steps: int = 3_000,
    replicates: int | None = None,
    device: str | torch.device = "auto",
    random_seed: Any = None,
    progressbar: bool = True,
) -> RatioEstimator:
    """Train on, everywhere, for all data to come: what `pymc_nre.center` does with simulations."""
    loss = _loss_for(ratio, loss)
    steps = whole_number(steps, "center: steps")
    if replicates is None:
        replicates = max(_REPLICATES, 2 * _PER_PARAMETER * ratio.layout.size)
    replicates = whole_number(replicates, "center: replicates")
    strength = real_number(strength, "center: strength", above=0)
    _check(ratio, simulations, replicates)
    seeds = seed_sequence(plain_seed(random_seed)).spawn(3)
    device = resolve_device(device)
    if isinstance(simulations, Online):
        batches = _Fresh(ratio, simulations, replicates, device, seeds[0])
    else:
        batches = _Fixed(ratio, simulations.packed(), replicates, device, seeds[0])
    warn_if_of_any_data(ratio, ratio.layout.pack(batches.held_out.parameters), "center")
    trained = copy.deepcopy(ratio.network).float().to(device)
    free = _free_directions(ratio, batches.held_out)
    free = torch.tensor(free, dtype=torch.float32, device=device)
    centering = _Centered(loss, strength, trained, free)
    draws = not (is_known_network(ratio.specification) and is_known_loss(loss))
    run = _descent(ratio, batches, centering, steps, device, seeds[1], draws)
    _descend(run, progressbar)
    centered = ratio.replace(
        network=run.averaged.cpu(), normalized=ratio.normalized and loss.normalized
    )
    return _measured(ratio, centered, batches.held_out, progressbar)


def _free_directions(ratio: RatioEstimator, simulations: Simulations) -> np.ndarray:
    """A basis ``(D, k)`` of those that parameters can take; integers have none."""
    continuous = ratio.layout.continuous
    own = free_directions(ratio.layout.pack(simulations.parameters)[:, continuous])
    free = np.zeros((ratio.layout.size, own.shape[1]))
    free[continuous] = own
    return free


def _loss_for(ratio: RatioEstimator, loss: Loss | None) -> Loss:
    if loss is None:
        loss = NREC() if ratio.normalized else NREB()
    checked_loss(loss)
    if getattr(loss, "near", 0):
        raise ValueError(
            "center goes on with a loss of pairs alone, expected NREA(), NREB() or NREC(), got "
            f"{type(loss).__name__}, which wants candidates near their parameters. Leave loss= out."
        )
    if ratio.reference == "nothing":
        raise ValueError(
            "center goes on with the training loss of a ratio, and this is a likelihood that was "
            "trained elsewhere. Center it around a posterior, center(ratio, around=idata, ...)."
        )
    if ratio.reference != "evidence" or loss.reference != "evidence":
        raise ValueError(
            "center goes on with the training loss, which for a fixed reference (CARL) also needs "
            "its reference simulations: that is not supported. Train with NREC()."
        )
    return loss


def _check(ratio: RatioEstimator, simulations: Any, replicates: int) -> None:
    remedy = "Wrap your prior and simulator: nre.Online(prior, simulator, batched=True)."
    kinds, expected = (Online, Simulations), "Online or Simulations"
    check_kind(simulations, kinds, "center: simulations", expected, remedy)
    fewest = _PER_PARAMETER * ratio.layout.size
    if replicates < fewest:
        raise ValueError(f"replicates must be at least {fewest}, got {replicates}.")
    enough = max(_FEWEST, round(4 * _CELLS * fewest / (1 - _HELD_OUT)))
    if isinstance(simulations, Simulations) and len(simulations) < enough:
        raise ValueError(
            f"center needs at least {enough:,} simulations, got {len(simulations):,}; better is a "
            "supply of fresh ones, nre.Online(prior, simulator, batched=True)."
        )
    check_same_parameters(ratio, _shapes_of(simulations))
    if isinstance(simulations, Simulations):
        check_observations(ratio, simulations)
    if ratio.is_calibrated:
        raise ValueError(
            "This ratio was calibrated, and fine-tuning would change the logits that its curves "
            "are for. Fine-tune the ratio that you had before, and calibrate then."
        )
    if ratio.is_locally_centered:
        raise ValueError(
            "This ratio was centered around a posterior, which fine-tuning it everywhere would "
            "undo. Fine-tune the ratio that you had before, and center around a posterior then."
        )


def _shapes_of(simulations: Simulations | Online) -> dict[str, tuple[int, ...]]:
    if isinstance(simulations, Simulations):
        return dict(simulations.layout.shapes)
    joint_simulator = simulations.joint_simulator
    return {name: joint_simulator.prior.shapes[name] for name in joint_simulator.parameters}


class _Centered:
    """A training loss with the penalty, and with what ties all else to the trained network.

    Scores are taken along the columns of ``free``, the directions that parameters can take.
    """

    def __init__(self, loss: Loss, strength: float, trained: Any, free: Tensor) -> None:
        self.loss, self.strength, self.trained, self.free = loss, strength, trained, free

    def __call__(self, net: Any, theta: Tensor, x: Tensor, cells: Tensor, seen: Tensor) -> Tensor:
        """Of pairs, and of cells ``(C, m, D)`` with observations ``(C, m, *event)``."""
        net.eval()  # moments of batch normalization, and dropout, are those of the trained ratio
        scores = scores_of(net, cells, seen) @ self.free
        before = (scores_of(self.trained, cells, seen) @ self.free).detach()
        penalty = self.strength * squared_bias(scores) + _TIE * change(scores, before)
        return self.loss(net, theta, x) + penalty


def scores_of(net: Any, cells: Tensor, seen: Tensor) -> Tensor:
    """Scores ``(C, m, D)`` that can be differentiated in the weights."""
    leaf = cells.clone().requires_grad_()
    features = net.embed(seen.flatten(0, 1)).unflatten(0, seen.shape[:2])
    (scores,) = torch.autograd.grad(net.head(leaf, features).sum(), leaf, create_graph=True)
    return scores


def squared_bias(scores: Tensor) -> Tensor:
    """The penalty: mean square of the scores' mean, summed over parameters; a scalar.

    One half of a cell is measured in units of the other: the information of the same trials
    would depend on the very scores whose mean is taken, and where these are skewed a ratio
    without bias would look as if it had one. The information is differentiated too. So nothing
    is gained by making all scores smaller, which would widen posteriors.
    """
    one, other = scores.tensor_split(2, dim=1)
    return (_square_of_mean(one, _root(other)) + _square_of_mean(other, _root(one))) / 2


def change(scores: Tensor, before: Tensor) -> Tensor:
    """Mean square of what scores have changed about the mean of a cell; a scalar.

    The mean is noisy, and so is its square's slope in the weights. Descending it would shake
    what a trial tells, at every number of trials. This holds it fast, and is without noise where
    nothing has changed.
    """
    moved = scores - before
    moved = moved - moved.mean(1, keepdim=True)
    return (_whitened(moved, _root(before)) ** 2).sum(1).mean()


def _whitened(scores: Tensor, root: Tensor) -> Tensor:
    """Scores in units of an information, ``(C, D, m)``."""
    return torch.linalg.solve_triangular(root, scores.transpose(1, 2), upper=False)


def _root(scores: Tensor) -> Tensor:
    """Cholesky factors ``(C, D, D)`` of the information of scores ``(C, m, D)``."""
    information = scores.transpose(1, 2) @ scores / scores.shape[1]
    size = information.diagonal(dim1=1, dim2=2).detach()
    ridge = _RIDGE * size + torch.finfo(scores.dtype).tiny
    return torch.linalg.cholesky(information + torch.diag_embed(ridge))


def _square_of_mean(scores: Tensor, root: Tensor) -> Tensor:
    """Mean of all products of two different scores, in units of the information."""
    m = scores.shape[1]
    white = _whitened(scores, root)
    products = white.sum(-1) ** 2 - (white**2).sum(-1)
    return products.sum(-1).mean() / (m * (m - 1))


class _Fresh:
    """Pairs and replicates of a simulator, new ones for every epoch."""

    size = _PAIRS * _STEPS_OF_AN_EPOCH

    def __init__(
        self,
        ratio: RatioEstimator,
        online: Online,
        replicates: int,
        device: str,
        seed: np.random.SeedSequence,
    ) -> None:
        self.layout, self.online, self.replicates = ratio.layout, online, replicates
        self.device, self.entropy = device, seed
        self.hide = _hiding(ratio, np.random.default_rng(self._seed(3)))
        held_out = self._joint_simulator.run(_REPORT, seed=self._seed(0, 0), **self._options)
        check_observations(ratio, held_out)
        self.held_out = as_taken(ratio, held_out)

    @property
    def _joint_simulator(self) -> Any:
        return self.online.joint_simulator

    @property
    def _options(self) -> dict[str, Any]:
        return {"executor": self.online.executor, "progressbar": False, "partial": False}

    def _seed(self, *key: int) -> np.random.SeedSequence:
        return np.random.SeedSequence(
            self.entropy.entropy, spawn_key=(*self.entropy.spawn_key, *key)
        )

    def epoch(self, index: int, batch_size: int, order: torch.Generator) -> Iterator[Any]:
        """Batches of pairs and of cells."""
        made = self._joint_simulator.run(self.size, seed=self._seed(1, index), **self._options)
        pairs = made.packed()
        _check_enough("simulations", len(pairs), self.size)
        theta_of_pairs = self.layout.pack(pairs.parameters)
        for step in range(len(pairs) // batch_size):
            rows = slice(step * batch_size, (step + 1) * batch_size)
            parameters, x = self._joint_simulator.replicate(
                _CELLS,
                self.replicates,
                seed=self._seed(2, index, step),
                executor=self.online.executor,
            )
            _check_enough("sets of simulations at the same parameters", len(x), _CELLS)
            theta = self.layout.pack(parameters)
            cells = np.broadcast_to(theta[:, None], (*x.shape[:2], theta.shape[1]))
            pair_x, seen = self.hide(pairs.x[rows]), self.hide(x)
            yield _tensors(self.device, theta_of_pairs[rows], pair_x, cells, seen)


class _Fixed:
    """Pairs and neighbors of a fixed set; other neighbors in every epoch."""

    size = _PAIRS * _STEPS_OF_AN_EPOCH

    def __init__(
        self,
        ratio: RatioEstimator,
        simulations: Simulations,
        replicates: int,
        device: str,
        seed: np.random.SeedSequence,
    ) -> None:
        self.device, self.rng = device, np.random.default_rng(seed)
        self.hide = _hiding(ratio, self.rng)
        self.replicates = min(replicates, int((1 - _HELD_OUT) * len(simulations)) // (4 * _CELLS))
        order = self.rng.permutation(len(simulations))
        cut = round(_HELD_OUT * len(order))
        theta = ratio.layout.pack(simulations.parameters)
        self.theta, self.x = theta[order[cut:]], simulations.x[order[cut:]]
        self.held_out = as_taken(ratio, simulations[order[:cut]])

    def epoch(self, index: int, batch_size: int, order: torch.Generator) -> Iterator[Any]:
        """Batches of pairs and of cells."""
        cells = np.empty((0, self.replicates), int)
        for _ in range(_STEPS_OF_AN_EPOCH):
            if len(cells) < _CELLS:
                cells = nested_cells(self.theta, self.replicates, self.rng)
                cells = cells[self.rng.permutation(len(cells))]
            chosen, cells = cells[:_CELLS], cells[_CELLS:]
            pairs = self.rng.integers(len(self.theta), size=batch_size)
            pair_x, seen = self.hide(self.x[pairs]), self.hide(self.x[chosen])
            yield _tensors(self.device, self.theta[pairs], pair_x, self.theta[chosen], seen)


def _hiding(ratio: RatioEstimator, rng: np.random.Generator) -> Callable[[np.ndarray], np.ndarray]:
    """What hides numbers of observations ``(*batch, *event)`` as in training, if any are."""

    def hide(x: np.ndarray) -> np.ndarray:
        if ratio.missing is None:
            return x
        rows = x.reshape(-1, *ratio.event_shape)
        return ratio.missing.masked(rows, rng).reshape(x.shape)

    return hide


def _check_enough(what: str, succeeded: int, wanted: int) -> None:
    if succeeded < wanted / 2:
        raise SimulationError(
            f"Only {succeeded:,} of {wanted:,} {what} were without a failure. What is centered "
            "would be the part of the prior that does not fail: mend the simulator."
        )


def _tensors(device: str, *arrays: np.ndarray) -> tuple[Tensor, ...]:
    plain = map(np.ascontiguousarray, arrays)
    return tuple(torch.tensor(array, dtype=torch.float32, device=device) for array in plain)


def _descent(
    ratio: RatioEstimator,
    batches: Any,
    loss: Any,
    steps: int,
    device: str,
    seed: Any,
    draws: bool,
) -> Trainer:
    epochs = -(-steps // _STEPS_OF_AN_EPOCH)
    plan = Plan(_PAIRS, epochs, epochs, _LEARNING_RATE, weight_decay=0.0)
    net = trainable(ratio.network).to(device)
    order = int(seed.generate_state(1)[0])
    return Trainer(net, loss, batches, plan, order, RandomStream(order, device), draws)


def _descend(run: Trainer, progressbar: bool) -> None:
    with progress(enabled=progressbar) as display:
        bar = display.add_task("centering", total=run.plan.epochs, status="")
        try:
            for epoch in range(run.plan.epochs):
                value = run.epoch(epoch)
                display.update(bar, advance=1, status=f"loss {value:.4f}")
        except KeyboardInterrupt:
            warn(
                "Interrupted: the ratio is fine-tuned as far as it came.",
                TrainingWarning,
            )


def _measured(
    ratio: RatioEstimator, centered: RatioEstimator, held_out: Simulations, progressbar: bool
) -> RatioEstimator:
    """The new ratio with its budget; tell what was gained, and warn if nothing was."""
    try:
        before, after = measure(ratio, held_out), measure(centered, held_out)
    except KeyboardInterrupt:
        warn("Interrupted: the ratio is fine-tuned, but was not measured.", TrainingWarning)
        return centered
    if progressbar:
        say(f"{gain(before, after, _TOLD)}; {told_of_change(ratio, centered, held_out)}")
    if after.bias_squared.max() > before.bias_squared.max():
        warn(
            f"The bias is not smaller than before ({gain(before, after, _TOLD)}). Take fresh "
            "simulations (nre.Online) and more steps.",
            TrainingWarning,
        )
    return after.attach(centered)


def told_of_change(ratio: RatioEstimator, centered: RatioEstimator, held_out: Simulations) -> str:
    """What the bias does not tell of, in words."""
    theta = ratio.layout.pack(held_out.parameters)
    sizes = scatter(ratio, centered, theta, held_out.x)
    told = ", ".join(
        f"{label} {size:.2g}"
        for label, size in zip(ratio.layout.continuous_labels, sizes, strict=True)
    )
    remedy = " (a smaller strength= moves them less)" if sizes.max() > _MUCH else ""
    return f"posteriors of any number of trials also move by {told}, either way{remedy}"
