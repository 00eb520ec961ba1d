"""Train as many networks as are wanted, each of them as suits the simulations."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any

import torch

from ..estimators.ensemble import ensemble
from ..estimators.estimator import RatioEstimator
from ..exceptions import TrainingWarning, warn
from ..losses.base import Loss, checked_loss, is_known_loss
from ..networks.specifications import is_known_network
from ..runtime.arrays import real_number, true_or_false, whole_number
from ..runtime.checkpoint import Checkpoint
from ..runtime.devices import resolve_device
from ..runtime.kinds import check_kind
from ..runtime.random_streams import plain_seed
from ..simulation.online import Online
from ..simulation.simulations import Simulations
from .batching.choice import chosen_loss
from .loop import Recipe, Trained, one_seed, train_network
from .settings import Settings, default_network
from .start import Start
from .unseen import with_budget

__all__ = ["train"]

# Of the run that is tried where the first began to memorize. Evidence: docs/training.md.
_CALM = {"learning_rate": 3e-3, "weight_decay": 0.1}


def train(
    simulations: Simulations | Online,
    *,
    loss: Loss | None = None,
    network: Any = None,
    start: RatioEstimator | None = None,
    members: int | None = None,
    missing: Any = None,
    validation: float = 0.1,
    epochs: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    weight_decay: float | None = None,
    patience: int | None = None,
    device: str | torch.device = "auto",
    checkpoint: str | os.PathLike[str] | None = None,
    measure_budget: bool = True,
    random_seed: Any = None,
    progressbar: bool = True,
) -> RatioEstimator:
    r"""Train a neural ratio estimator on simulations.

    No option needs choosing to get a good answer on ordinary problems. Where the network begins to
    memorize the simulations, so that training stops early, it is trained once more from the start
    with smaller steps (``learning_rate=3e-3, weight_decay=0.1``), and the one with the smaller loss
    on held-out simulations is kept; members of an ensemble follow the first. That is left out if
    any of ``epochs``, ``learning_rate``, ``weight_decay`` and ``patience`` is given, with `Online`,
    and for networks with parts of your own.

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
    start : RatioEstimator, optional
        Go on from its networks, with simulations that were added: ``train(simulations + more,
        start=ratio)``. They keep their standardization, and by default the loss that they were
        trained with; an ensemble goes on member by member, and weights of your own network that
        were frozen stay so, also those of a file. By default half of the epochs that a
        new network has, to their end. Where the simulations begin with those that it was trained
        on, as there, held out are others: what it has seen cannot tell how good it is. On the very
        same simulations give the same ``random_seed`` as before, which holds out the same ones.
        The domain is that of these simulations.
    members : int, optional
        Networks to train, by default one, or as many as ``start`` has; each from other weights and
        with other held-out simulations (but those of `Online` are the same). A factory must build a
        new module at each call. What comes back is the mean of their ratios (see `ensemble`): more
        accurate where simulations are few, and it takes that many times as long to train and to
        evaluate.
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
    weight_decay : float, optional
        Of AdamW, by default 1e-4.
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
        beside it, ``<file>.1`` and so on, and a second run of the first one has
        ``<file>.again``.
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
        If training was interrupted, diverged, or ended no better than chance, if its checkpoint
        cannot be written any more, if parameters are no draws of the prior they came with, or if
        simulations do not cover those of ``start``.

    Examples
    --------
    >>> import pymc_nre as nre
    >>> simulations = nre.tasks.GaussianMean().simulate(500, random_seed=1)
    >>> ratio = nre.train(simulations, epochs=5, random_seed=1, progressbar=False)
    >>> ratio.log_ratio([0.5, 1.0, 2.0], mu=0.7).shape
    (3,)

    Go on with more of them:

    >>> more = nre.tasks.GaussianMean().simulate(500, random_seed=2)
    >>> options = {"epochs": 5, "random_seed": 1, "progressbar": False}
    >>> ratio = nre.train(simulations + more, start=ratio, **options)
    """
    remedy = "Wrap arrays: nre.Simulations({'mu': mu}, x)."
    kinds, expected = (Simulations, Online), "Simulations or Online"
    check_kind(simulations, kinds, "train: simulations", expected, remedy)
    members = None if members is None else whole_number(members, "train: members")
    validation = real_number(validation, "train: validation", above=0, below=1)
    measure_budget = true_or_false(measure_budget, "train: measure_budget")
    progressbar = true_or_false(progressbar, "train: progressbar")
    loss = None if loss is None else checked_loss(loss)
    begun = None if start is None else Start.of(start, simulations, network)
    if begun is None:
        loss, members = chosen_loss(simulations, loss), members or 1
        network = default_network(simulations) if network is None else network
    else:
        loss, members = begun.loss(loss, simulations), begun.members(members)
        network, missing = begun.ratio.specification, begun.missing(missing)
    goes_on = begun is not None
    settings = Settings(epochs, batch_size, learning_rate, weight_decay, patience, goes_on)
    draws = not (is_known_network(network) and is_known_loss(loss))
    recipe = Recipe(
        loss, network, validation, settings, resolve_device(device), draws, missing, begun
    )
    random_seed = Checkpoint(checkpoint).chosen_seed(plain_seed(random_seed))
    trained = _Members(simulations, recipe, checkpoint, random_seed, progressbar).train(members)
    ratio = ensemble([each.ratio for each in trained])
    if not measure_budget:
        return ratio
    return with_budget(ratio, trained[0].sample, [each.unseen for each in trained])


def _calm(loss: Loss) -> dict[str, float]:
    """Settings of a second run; a loss of a user's own may want yet smaller steps."""
    its_own = getattr(loss, "learning_rate", _CALM["learning_rate"])
    return _CALM | {"learning_rate": min(its_own, _CALM["learning_rate"])}


@dataclass
class _Members:
    """Networks that are trained one after another, and the recipe of the next one."""

    simulations: Simulations | Online
    recipe: Recipe
    checkpoint: str | os.PathLike[str] | None
    random_seed: int
    progressbar: bool
    interrupted: bool = False

    def train(self, members: int) -> list[Trained]:
        """All that were complete when training ended, or what there is of the first."""
        trained: list[Trained] = []
        for k in range(members):
            title = f"training {k + 1}/{members}" if members > 1 else "training"
            member = self._first(title) if k == 0 else self._another(k, title)
            if member is not None:
                trained.append(member)
                if member.warning:
                    warn(member.warning, TrainingWarning)
            if self.interrupted:
                break
        if len(trained) < members:
            warn(
                f"The ensemble has {len(trained)} of {members} members: training was interrupted.",
                TrainingWarning,
            )
        return trained

    def _another(self, k: int, title: str) -> Trained | None:
        """Member ``k``; None if it was interrupted, for half of one would count as much as all."""
        try:
            member = self._run(f".{k}", one_seed((self.random_seed, k)), title, k)
        except KeyboardInterrupt:
            self.interrupted = True
            return None
        return None if self.interrupted else member

    def _first(self, title: str) -> Trained:
        """The first member, by the recipe that suits the simulations, which others follow."""
        first = self._run("", self.random_seed, title)
        if not self._memorizes(first):
            return first
        before = self.recipe
        self.recipe = replace(before, settings=replace(before.settings, **_calm(before.loss)))
        try:
            second = self._run(".again", self.random_seed, f"{title} again")
        except KeyboardInterrupt:
            self.interrupted, second = True, first
        except FloatingPointError:  # which the first was spared
            second = first
        if second.loss < first.loss:
            return second
        self.recipe = before
        if self.interrupted:
            warn(
                "Training was interrupted in a second run, by smaller steps; returning the weights "
                "of the first.",
                TrainingWarning,
            )
        return first

    def _memorizes(self, first: Trained) -> bool:
        """Whether smaller steps may do better, and nobody said how large they are to be."""
        stopped_early = first.learned and first.stopped == "no better for a while"
        fixed = isinstance(self.simulations, Simulations)
        recipe = self.recipe
        return stopped_early and fixed and recipe.settings.open and is_known_network(recipe.network)

    def _run(self, suffix: str, seed: int, title: str, member: int = 0) -> Trained:
        """A run with a file of its own."""
        path = self.checkpoint and f"{os.fspath(self.checkpoint)}{suffix}"
        its_file = Checkpoint(path)
        with its_file.held():
            shown = title if self.progressbar else ""
            trained = train_network(self.simulations, self.recipe, its_file, seed, shown, member)
        self.interrupted = trained.stopped == "interrupted"
        return trained
