"""Simulate, train, keep, and simulate again: all simulations for one data set."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from typing import Any

import numpy as np

from ..amortized.weights import normalized
from ..exceptions import TrainingWarning, warn
from ..losses.base import Loss, checked_loss
from ..losses.contrastive import NREC
from ..runtime.arrays import finite_array, real_number, true_or_false, whole_number
from ..runtime.checkpoint import fingerprint
from ..runtime.executors import executor_of
from ..runtime.progress import say
from ..runtime.random_streams import plain_seed
from ..simulation.joint import JointSimulator
from ..simulation.simulations import Simulations
from ..training.members import train
from .kept import KeptSet, keep, usual_epsilon, within
from .proposals import Mixture, Proposal
from .records import Records
from .report import Round, Rounds, effective_simulations
from .study import Study

__all__ = ["rounds"]

_POSTERIOR_SHARE = {"truncated": 0.0, "posterior": 0.8}  # the rest defends against a wrong ratio
_FEW = 0.01  # of all simulations, that count at the posterior: a ratio that lost its way had fewer
_MUCH = 0.05  # of a posterior, that lies where the round before had given up
_SETTLED = 0.8  # of the volume, or of the posterior, that a round leaves as it was
_DRAWS, _FEWEST = 4_000, 1_000  # of the last kept set, which is the domain; of those before
_TRAINING = ("network", "validation", "epochs", "batch_size", "learning_rate")
_TRAINING += ("weight_decay", "patience", "device")


def rounds(
    prior: Any,
    simulator: Callable[..., Any] | str,
    n: int,
    *,
    observed: Any,
    rounds: int = 4,
    method: str = "truncated",
    epsilon: float | None = None,
    parameters: Collection[str] | None = None,
    conditions: Mapping[str, Any] | None = None,
    batched: bool = False,
    loss: Loss | None = None,
    members: int = 1,
    executor: Executor | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    random_seed: Any = None,
    progressbar: bool = True,
    **training: Any,
) -> Rounds:
    r"""Train a ratio for one data set by rounds: simulate, train, keep, and simulate again.

    An amortized ratio spends its simulations on all data that the prior can produce. For one data
    set most of them say nothing. So a first ratio is trained on a share of the simulations, and the
    next ones are drawn where it finds the data likely, round after round. Simulations of all rounds
    are used, none is weighed: for one data set the ratio to whatever mixture they were drawn from
    is the likelihood up to a constant.

    Parameters
    ----------
    prior : pymc.Model or dict
        As for `pymc_nre.simulate`. Its density must be known: no nuisance parameters stand above
        the others.
    simulator : callable or str
        As for `pymc_nre.simulate`: of one observation, or one trial.
    n : int
        Number of simulations, in all rounds together.
    observed : array, shape (\*event) or (trials, \*event)
        The data set: one observation, or trials that are independent given the parameters.
    rounds : int
        In which the simulations are made, as many in each. If a round leaves four fifths of what
        was kept, and of the posterior, as they were, what is left of the simulations is made at
        once.
    method : {"truncated", "posterior"}
        Where to simulate. ``"truncated"``: from the prior inside of the kept set
        :math:`\{\theta : \log r(\theta, x_o) - \max \log r > \log \varepsilon\}`, whatever is
        known of the posterior inside. ``"posterior"``: four fifths from the posterior of the last
        ratio, the others from the kept set, against its errors; sharper where the kept set is wide.
    epsilon : float, optional
        Below it, as a share of the largest likelihood, parameters are given up. By default 1e-6;
        of more than six parameters less, so that a normal posterior would lose 1e-4 of its mass:
        :math:`\log \varepsilon` is minus half of that quantile of chi-squared.
    parameters : collection of str, optional
        As for `pymc_nre.simulate`; the others are nuisance.
    conditions : mapping of str to array, optional
        Known inputs of each trial, ``(trials, *own)`` by name. Simulations have those of the
        trials.
    batched : bool
        As for `pymc_nre.simulate`.
    loss : Loss, optional
        Of all rounds. By default that of `pymc_nre.train` in the first, contrasts at every scale,
        and ``NREC()`` afterwards, whose contrasts are near by then.
    members : int
        Networks of the last ratio; those before have one.
    executor : concurrent.futures.Executor, optional
        Where the simulator runs.
    checkpoint : str or path-like, optional
        A file that follows the rounds. Call `rounds` again with the same arguments and the same
        file after a crash, a kill or Ctrl-C: simulations of rounds that were made are read,
        trainings go on after their last epoch (from files beside it, ``<file>.1`` and so on), and
        the result has the same bits (on the CPU, with the same versions of everything).
    random_seed : int, Generator or SeedSequence, optional
        The same seed gives the same rounds, whatever the executor.
    progressbar : bool
        Show what goes on.
    **training
        Of all trainings: ``network``, ``validation``, ``epochs``, ``batch_size``,
        ``learning_rate``, ``weight_decay``, ``patience`` and ``device`` of `pymc_nre.train`.

    Returns
    -------
    Rounds
        Its ``ratio`` is an estimator for these data, in the kept set of the last round; ``table``
        has a row for each round, and ``posterior`` draws under the prior of the rounds.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit, the density of the prior is not known, or the checkpoint
        belongs to other rounds.
    SimulationError
        If no simulation of a round succeeded.

    Warns
    -----
    SimulationWarning
        If simulations failed.
    TrainingWarning
        If it was interrupted; rounds that were over are returned then. If less than a hundredth of
        the simulations count at the posterior. If the last ratio puts more than a twentieth of the
        posterior where the round before had given up, and hardly any simulation there speaks for
        it: the result is what it says of the set that was kept.

    References
    ----------
    Miller et al. (2021), truncated marginal neural ratio estimation, arXiv:2107.01214; Hermans,
    Begy and Louppe (2020), arXiv:1903.04057; Durkan, Murray and Papamakarios (2020),
    arXiv:2002.03712.

    Examples
    --------
    >>> import numpy as np
    >>> import pymc as pm
    >>> import pymc_nre as nre
    >>> found = nre.rounds(
    ...     {"mu": pm.Uniform.dist(-10, 10)},
    ...     lambda rng, mu: rng.normal(mu, 1.0),
    ...     800,
    ...     observed=[0.5, 1.5, 1.0],
    ...     rounds=2,
    ...     batched=True,
    ...     random_seed=1,
    ...     progressbar=False,
    ... )
    >>> bool(abs(found.posterior["mu"].mean() - 1.0) < 0.3)
    True
    """
    n, rounds = whole_number(n, "rounds: n"), whole_number(rounds, "rounds: rounds")
    if not isinstance(method, str) or method not in _POSTERIOR_SHARE:
        known = " or ".join(map(repr, _POSTERIOR_SHARE))
        raise ValueError(f"rounds: method must be {known}, got {method!r}.")
    joint = JointSimulator.of(prior, simulator, parameters, batched)
    study = Study(joint, _observed(observed), conditions)
    if epsilon is None:
        epsilon = usual_epsilon(study.known.layout.size)
    plan = _Plan(
        sizes=_sizes(n, rounds),
        share=_POSTERIOR_SHARE[method],
        epsilon=real_number(epsilon, "rounds: epsilon", above=0, below=1),
        loss=None if loss is None else checked_loss(loss),
        training=_checked(training),
        members=whole_number(members, "rounds: members"),
        executor=executor_of(executor),
        progressbar=true_or_false(progressbar, "rounds: progressbar"),
    )
    records = Records(checkpoint, study)
    random_seed = records.chosen_seed(plain_seed(random_seed))
    with records.held(_identity(study, plan, random_seed), random_seed):
        return _Run(study, plan, records).all()


def _observed(observed: Any) -> np.ndarray:
    found = finite_array(observed, "rounds: observed")
    if not found.size:
        raise ValueError(
            f"rounds: observed: expected one observation, or trials, got none: {found.shape}."
        )
    return found


def _checked(training: Mapping[str, Any]) -> Mapping[str, Any]:
    unknown = ", ".join(sorted(set(training) - set(_TRAINING)))
    if unknown:
        raise TypeError(
            f"rounds: expected options of train, {', '.join(_TRAINING)}, got {unknown}."
        )
    return training


@dataclass(frozen=True)
class _Plan:
    """What a user decided."""

    sizes: tuple[int, ...]
    share: float
    epsilon: float
    loss: Loss | None
    training: Mapping[str, Any]
    members: int
    executor: Executor
    progressbar: bool


def _sizes(n: int, rounds: int) -> tuple[int, ...]:
    """Simulations of each round; as many in all as were asked for."""
    if n < 100 * rounds:
        raise ValueError(
            f"rounds: n: expected at least 100 simulations for each of {rounds} rounds, got {n}. "
            "Thousands are usual."
        )
    each, more = divmod(n, rounds)
    return tuple(each + (k < more) for k in range(rounds))


def _identity(study: Study, plan: _Plan, random_seed: int) -> dict[str, str]:
    drawn = study.joint.prior.draw(4, np.random.default_rng(0))  # nuisance is drawn with the rest
    given = study.conditions or {}
    return {
        "observed": fingerprint(study.observed, *map(np.asarray, given.values()), *given),
        "prior": fingerprint(study.known.layout, *drawn, *map(np.asarray, drawn.values())),
        "settings": fingerprint(plan.sizes, plan.share, plan.epsilon),
        "random_seed": fingerprint(random_seed),
    }


class _Run:
    """Rounds on their way."""

    def __init__(self, study: Study, plan: _Plan, records: Records) -> None:
        self.study, self.plan, self.records = study, plan, records
        self.proposals: tuple[Proposal, ...] = ()
        self.made: list[Simulations] = []
        self.over: list[Round] = []
        self.pool: Simulations  # of the rounds that are over

    def all(self) -> Rounds:
        """One after another, until the budget is spent."""
        left = list(self.plan.sizes)
        while left:
            n = sum(left) if self._settled else left[0]
            left = [] if self._settled else left[1:]
            try:
                self.over.append(self._round(n, last=not left))
            except KeyboardInterrupt:
                if not self.over:
                    raise
                self._tell_of_the_end()
                break
            self.proposals += (Proposal(self.over[-1].kept, self.plan.share),)
            if self.plan.progressbar:
                say(self.over[-1].in_words(len(self.over)))
        self._lead_back_if_strayed()
        self._warn_if_few_count()
        return Rounds.of(self.over, self.study.observed)

    def _lead_back_if_strayed(self) -> None:
        """Hold a ratio that found the posterior where hardly anything was simulated.

        To what the round before kept, where most simulations are.
        """
        last = self.over[-1]
        if last.outside <= _MUCH:
            return
        before = self.over[-2].kept
        count = effective_simulations(last.kept, self.pool, beyond=before)
        if count >= _FEW * len(self.pool):
            return
        warn(
            f"rounds: the last ratio puts {last.outside:.0%} of the posterior where the round "
            f"before had given up, on the word of {count:,.0f} simulations. It is held to what was "
            "kept. More rounds would tell, or another random_seed.",
            TrainingWarning,
        )
        rng = np.random.default_rng((self.records.random_seed, len(self.over)))
        kept = keep(within(last.kept.data, before), self.plan.epsilon, _DRAWS, rng)
        ess = effective_simulations(kept, self.pool)
        self.over[-1] = replace(last, kept=kept, ess=ess)

    def _warn_if_few_count(self) -> None:
        """A ratio that found nothing goes on to simulate where nothing is."""
        ess, made = self.over[-1].ess, len(self.pool)
        if ess < _FEW * made:
            warn(
                f"rounds: of {made:,} simulations {ess:,.0f} count at the posterior: what it looks "
                "like there rests on few. Compare with more simulations or another random_seed, "
                "and with method='posterior', which simulates where the posterior is.",
                TrainingWarning,
            )

    def _tell_of_the_end(self) -> None:
        warn(
            f"Interrupted after {len(self.over)} of {len(self.plan.sizes)} rounds; returning what "
            "was found by then. With checkpoint= the same call goes on where it was.",
            TrainingWarning,
        )

    def _round(self, n: int, last: bool) -> Round:
        k = len(self.over)
        seeds = np.random.SeedSequence((self.records.random_seed, k)).spawn(4)
        for_draws, for_simulator, for_training, for_keeping = seeds
        theta = self._proposed(n, np.random.default_rng(for_draws))
        made = self.records.simulations(
            k,
            lambda: self.study.simulate(
                theta, for_simulator, self.plan.executor, self.plan.progressbar
            ),
        )
        self.made.append(made)
        pool = self._pool()
        ratio = train(
            pool,
            loss=self._loss,
            members=self.plan.members if last else 1,
            checkpoint=self.records.training(k + 1),
            measure_budget=last,
            random_seed=int(for_training.generate_state(1)[0]),
            progressbar=self.plan.progressbar,
            **self.plan.training,
        )
        if "interrupted" in np.atleast_1d(ratio.history.attrs["stopped"]):
            raise KeyboardInterrupt  # half of a ratio would mislead all rounds after it
        ratio = ratio.replace(normalized=False)
        rng = np.random.default_rng(for_keeping)
        draws = _DRAWS if last else max(_FEWEST, sum(self.plan.sizes[k + 1 :]))
        kept = keep(self.study.data_set(ratio), self.plan.epsilon, draws, rng)
        self.pool = pool
        outside = self.over[-1].kept.lost(kept.posterior) if self.over else 0.0
        return Round(n, made.n_failed, kept, effective_simulations(kept, pool), outside)

    def _proposed(self, n: int, rng: np.random.Generator) -> np.ndarray:
        return self.proposals[-1].draw(n, rng) if self.proposals else self.study.known.draw(n, rng)

    def _pool(self) -> Simulations:
        """The simulations of all rounds, and the mixture that they are draws of."""
        pool = reduce(add, self.made)
        counts = tuple(len(made) for made in self.made)
        pool.known_prior = Mixture.of(self.study.known, self.proposals, counts)
        pool.as_drawn = True
        return pool

    @property
    def _loss(self) -> Loss | None:
        """Contrasts nearby gain where draws are far from each other: in the first round."""
        return NREC() if self.over and self.plan.loss is None else self.plan.loss

    @property
    def _settled(self) -> bool:
        """Whether a round left things as they were, so that another proposal is no better."""
        if len(self.over) < 2:
            return False
        before, now = (each.kept for each in self.over[-2:])
        shrunk = np.exp(now.log_volume - before.log_volume)
        return bool(shrunk > _SETTLED) and (
            not self.plan.share or _agreement(before, now) > _SETTLED
        )


def _agreement(before: KeptSet, now: KeptSet) -> float:
    """Effective share of the posterior's draws, weighed for the next posterior."""
    posterior = before.posterior
    gain = now.data.log_ratio(posterior.theta) - posterior.log_ratio
    return float(normalized(gain)[1]) / len(gain)
