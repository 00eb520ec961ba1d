r"""Center a ratio: take away what adds up over many trials.

A ratio's score has a mean :math:`b(\theta) = E_{x \mid \theta}[\nabla_\theta s]` that should be
zero and shifts posteriors by more the more trials there are
(see `pymc_nre.estimators.trial_budgets.scores`).
Two ways lead out: `pymc_nre.many_trials.fine_tuning` trains on, everywhere, for any data to come;
`pymc_nre.many_trials.local` mends the ratio where one posterior is.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

import torch

from ..estimators.checks import check_ratio
from ..estimators.estimator import RatioEstimator
from ..losses.base import Loss
from ..runtime.arrays import true_or_false
from ..simulation.online import Online
from ..simulation.simulations import Simulations
from ..simulation.simulator import Simulator
from .fine_tuning import fine_tune
from .local import center_locally

__all__ = ["center"]


def center(
    ratio: RatioEstimator,
    simulations: Simulations | Online | None = None,
    *,
    around: Any = None,
    model: Any = None,
    simulator: Simulator | Callable[..., Any] | None = None,
    n: int | None = None,
    accuracy: float | None = None,
    executor: Executor | None = None,
    loss: Loss | None = None,
    strength: float | None = None,
    steps: int | None = None,
    replicates: int | None = None,
    device: str | torch.device | None = None,
    random_seed: Any = None,
    progressbar: bool = True,
) -> RatioEstimator:
    r"""Make posteriors stay right with many trials.

    With ``simulations`` the ratio is fine-tuned everywhere, for all data to come. With
    ``around`` it is mended near one posterior, for the data of one model: far fewer simulations
    do, and tens of thousands of trials. The second can follow the first. Around a posterior
    simulations have the conditions of the data, and the same numbers are missing in them.

    Parameters
    ----------
    ratio : RatioEstimator
        A trained one; it stays as it is.
    simulations : Online or Simulations, optional
        A supply of fresh simulations, which is best: ``steps`` times 8,000 are made. Or a fixed
        set, better not that of the training; its neighbors then stand for replicates, and a
        fifth is held out to measure what was gained.
    around : InferenceData or DataTree, optional
        Posterior draws of a model with this ratio.
    model : pymc.Model, optional
        With ``around``: that model, by default the one in context. The parameters of each of its
        `RatioLikelihood` variables are evaluated from the draws, whatever expressions they are,
        group by group in a hierarchical model.
    simulator : Simulator or callable, optional
        With ``around``: by default that of the ratio.
    n : int, optional
        With ``around``: simulations of the last fit, by default what the accuracy asks for.
        Before it some go to find where the posterior moves, a tenth as many or 20,000 in each
        round; after it as many again, to tell what was gained.
    accuracy : float, optional
        With ``around``: error that may be left, by default 0.1, in posterior standard deviations of
        a parameter that all trials share; with N trials it takes N divided by its square
        simulations.
    executor : concurrent.futures.Executor, optional
        With ``around``: runs the simulations.
    loss : Loss, optional
        The training loss to go on with, one of pairs alone, so not `MultiScale`: by default
        ``NREC()``, or ``NREB()`` if the ratio is not normalized.
    strength : float, optional
        lambda, the weight of the penalty, by default 100. Where it is too large for a network and a
        simulator, single trials come to tell other things than before, and posteriors of any number
        of trials move by that: how far is told beside the bias.
    steps : int, optional
        Gradient steps, by default 3,000, rounded up to hundreds.
    replicates : int, optional
        Observations at each of the 64 parameter values of a step, by default 128 and at least 32
        for each number in the parameters; half of them tell how much a trial tells, so fewer
        than 16 for each number are refused.
    device : {"auto", "cpu", "cuda"} or torch.device, optional
        Where to fine-tune, by default ``"auto"``. The estimator that comes back lives on the CPU.
    random_seed : int, Generator or SeedSequence, optional
        The same seed on the same machine gives the same ratio. One is drawn from a generator.
    progressbar : bool
        Show how far it is, the bias before and after, and how far posteriors move besides.

    Returns
    -------
    RatioEstimator
        Of the same architecture. Fine-tuned it is as good as it got, also after Ctrl-C, and has a
        ``budget``, measured on simulations that were not used. Around a posterior it has a
        quadratic in the parameters taken off, which is right for this posterior only, and raises
        no log ratio outside of the region where it was fitted; it is not normalized and has no
        budget. It is ``ratio`` itself where that would not be better: on simulations that the fit
        has not seen, no parameter's bias may get larger by .1 posterior standard deviations, no
        width worse by 5 %, little of either may be left, and one of them must get better by more
        than the noise. It is ``ratio`` itself after Ctrl-C, too, which ends before that was
        measured.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit, all parameters are integers or, around a posterior, one is,
        the ratio's denominator is a fixed reference and simulations are given (CARL), the ratio is
        to be fine-tuned after it was centered around a posterior, there are fewer than 100
        posterior draws, or no model or simulator can be found.
    SimulationError
        If more than half of the fresh simulations fail.

    Warns
    -----
    TrainingWarning
        If it was interrupted, or the bias is not smaller than before. Around a posterior: if the
        ratio is returned as it was, with the reason.

    References
    ----------
    The identity is Bartlett's (1953), Approximate confidence intervals, Biometrika 40.

    Examples
    --------
    >>> import pymc_nre as nre
    >>> task = nre.tasks.GaussianMean()
    >>> ratio = nre.train(
    ...     task.simulate(5_000, random_seed=1), epochs=5, random_seed=1, progressbar=False
    ... )
    >>> supply = nre.Online(task.prior(), task.simulator, batched=True, random_seed=2)
    >>> centered = nre.center(ratio, supply, steps=100, random_seed=3, progressbar=False)
    >>> before = nre.trial_budget(ratio, task.simulate(50_000, random_seed=4))
    >>> centered.budget.trials > before.trials
    True
    """
    check_ratio(ratio, "center")
    if (simulations is None) == (around is None):
        raise TypeError(
            "center takes either simulations, nre.center(ratio, nre.Online(prior, simulator)), or "
            "a posterior, nre.center(ratio, around=idata, model=model); got "
            f"{'neither' if around is None else 'both'}."
        )
    progressbar = true_or_false(progressbar, "center: progressbar")
    common = {"random_seed": random_seed, "progressbar": progressbar}
    everywhere = _given(
        loss=loss, strength=strength, steps=steps, replicates=replicates, device=device
    )
    nearby = _given(model=model, simulator=simulator, n=n, accuracy=accuracy, executor=executor)
    if around is None:
        _refuse(nearby, "around=")
        return fine_tune(ratio, simulations, **everywhere, **common)
    _refuse(everywhere, "simulations")
    return center_locally(ratio, around, **nearby, **common)


def _given(**options: Any) -> dict[str, Any]:
    """What the user has said; what is None is left to the way that is taken."""
    return {name: value for name, value in options.items() if value is not None}


def _refuse(given: dict[str, Any], belong_to: str) -> None:
    """Tell of options that were given for the other way."""
    if given:
        raise TypeError(
            f"center takes {', '.join(f'{name}=' for name in given)} only with {belong_to}. "
            f"Leave {'them' if len(given) > 1 else 'it'} out."
        )
