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
from .kept import KeptSet, keep
from .proposals import Mixture, Proposal
from .records import Records
from .report import Round, Rounds
from .study import Study
from ..amortized.weights import effective_number

__all__ = ["rounds"]

_POSTERIOR_SHARE = {"truncated": 0.0, "posterior": 0.8}  # the rest defends against a wrong ratio
_SETTLED = 0.8  # of the volume, or of the posterior, that a round leaves as it was
_DRAWS = 4_000  # of each kept set, at least
_EVALUATIONS = 8  # of ratios for a candidate, above which contrasts nearby take too long


def rounds(
    prior: Any,
    simulator: Callable[..., Any] | str,
    n: int,
    *,
    observed: Any,
    rounds: int = 4,
    method: str = "truncated",
    epsilon: float = 1e-6,
    parameters: Collection[str] | None = None,
    conditions: Mapping[str, Any] | None = None,
    batched: bool = False,
    loss: Loss | None = None,
    network: Any = None,
    members: int = 1,
    device: Any = "auto",
    executor: Executor | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    random_seed: Any = None,
    progressbar: bool = True,
) -> Rounds:
    r"""DOC"""
    n, rounds = whole_number(n, "rounds: n"), whole_number(rounds, "rounds: rounds")
    if method not in _POSTERIOR_SHARE:
        known = " or ".join(map(repr, _POSTERIOR_SHARE))
        raise ValueError(f"rounds: method must be {known}, got {method!r}.")
    plan = _Plan(
        sizes=_sizes(n, rounds),
        share=_POSTERIOR_SHARE[method],
        epsilon=real_number(epsilon, "rounds: epsilon", above=0, below=1),
        loss=None if loss is None else checked_loss(loss),
        training={"network": network, "members": members, "device": device},
        executor=executor_of(executor),
        progressbar=true_or_false(progressbar, "rounds: progressbar"),
    )
    joint = JointSimulator.of(prior, simulator, parameters, batched)
    study = Study(joint, finite_array(observed, "rounds: observed"), conditions)
    records = Records(checkpoint, study)
    random_seed = records.chosen_seed(plain_seed(random_seed))
    with records.held(_identity(study, plan, random_seed), random_seed):
        return _Run(study, plan, records).all()


@dataclass(frozen=True)
class _Plan:
    """What a user decided."""

    sizes: tuple[int, ...]
    share: float
    epsilon: float
    loss: Loss | None
    training: Mapping[str, Any]
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
    drawn = study.known.draw(4, np.random.default_rng(0))
    given = study.conditions or {}
    return {
        "observed": fingerprint(study.observed, *map(np.asarray, given.values()), *given),
        "prior": fingerprint(drawn, study.known.layout),
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

    def all(self) -> Rounds:
        """One after another, until the budget is spent."""
        left = list(self.plan.sizes)
        while left:
            n = sum(left) if self._settled else left[0]
            left = [] if self._settled else left[1:]
            last = self._round(n, not left)
            self.proposals += (Proposal(last.kept, self.plan.share),)
        data = last.kept.data
        return Rounds.of(data.ratio, self.over, self.study.observed)

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
            loss=self._loss(k),
            checkpoint=self.records.training(k + 1),
            measure_budget=last,
            random_seed=int(for_training.generate_state(1)[0]),
            progressbar=self.plan.progressbar,
            **self.plan.training,
        ).replace(normalized=False)
        rng = np.random.default_rng(for_keeping)
        draws = max(_DRAWS, sum(self.plan.sizes[k + 1 :]))
        kept = keep(self.study.data_set(ratio), self.plan.epsilon, draws, rng)
        self.over.append(Round.over(n, made.n_failed, kept, pool))
        if self.plan.progressbar:
            say(self.over[-1].in_words(k + 1))
        return self.over[-1]

    def _proposed(self, n: int, rng: np.random.Generator) -> np.ndarray:
        return self.proposals[-1].draw(n, rng) if self.proposals else self.study.known.draw(n, rng)

    def _pool(self) -> Simulations:
        """The simulations of all rounds, and the mixture that they are draws of."""
        pool = reduce(add, self.made)
        counts = tuple(len(made) for made in self.made)
        pool.known_prior = Mixture.of(self.study.known, self.proposals, counts)
        pool.as_drawn = True
        return pool

    def _loss(self, k: int) -> Loss | None:
        """Contrasts nearby ask all ratios before of all trials, for every candidate."""
        if self.plan.loss is None and k * self.study.trials > _EVALUATIONS:
            return NREC()
        return self.plan.loss

    @property
    def _settled(self) -> bool:
        """Whether a round left things as they were, so that another proposal is no better."""
        if len(self.over) < 2:
            return False
        before, now = (each.kept for each in self.over[-2:])
        shrunk = np.exp(now.log_volume - before.log_volume)
        return bool(shrunk > _SETTLED) and (not self.plan.share or _agreement(before, now) > _SETTLED)


def _agreement(before: KeptSet, now: KeptSet) -> float:
    """Effective share of the posterior's draws, weighed for the next posterior."""
    posterior = before.posterior
    gain = now.data.log_ratio(posterior.theta) - posterior.log_ratio
    weight = np.exp(gain - gain.max())
    return float(effective_number(weight / weight.sum())) / len(weight)
