"""Simulations in tasks, on any executor, in the order of the draws.

Every draw has its own random stream, spawned from the seed by its index (batched
simulators: every block of 1,000 draws), so the result depends on the seed alone and not on
the executor, its number of workers, or how draws are grouped into tasks.

A draw that cannot be simulated is left out and counted, and a block of a batched simulator is
halved until only such draws are left out. A simulator that returns what is no observation, or
observations that vary in shape, is refused if the first draws tell; later it has made much that
is worth keeping, and such draws count among those that failed.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import BrokenExecutor, CancelledError, Executor
from dataclasses import dataclass
from typing import Any

import cloudpickle
import numpy as np

from ..exceptions import SimulationError, SimulationWarning, warn
from ..runtime.executors import (
    as_they_end,
    executor_of,
    shares_memory,
)
from ..runtime.progress import progress
from .calls import FAILURES
from .drawn import Drawn
from .independent_points.points import Points
from .independent_points.returned import joined
from .parameters import Layout
from .simulator import Simulator
from .slices import BLOCK, FIRST, Simulated, simulate_slice

__all__ = [
    "Job",
    "observations_of",
    "points_of",
    "repeat_at",
    "run",
    "simulate_at",
    "warn_failed",
    "why_failed",
]

_TASK_SECONDS = 0.25  # aim of a task's length: short for the display, long beside its overhead


@dataclass(frozen=True)
class Job:
    """All that a simulation needs, whole or in slices."""

    simulator: Simulator
    drawn: Drawn
    seed: np.random.SeedSequence

    def task(self, start: int, stop: int, pickled: bytes | None) -> tuple[Any, ...]:
        """Arguments of `simulate_slice` for draws ``start`` to ``stop``."""
        root = (self.seed.entropy, self.seed.spawn_key)
        return pickled or self.simulator, self.drawn.rows(start, stop), root, start, stop

    def task_length(self, seconds_per_draw: float | None, n: int, start: int) -> int:
        """How many draws make a task, from draw ``start`` on."""
        if self.simulator.batched:
            return min(BLOCK, n - start)
        if seconds_per_draw is None:
            return 1  # find out how long one takes
        most = min(5_000, n - start, max(self.drawn.made - start, 1))  # wait for no other draws
        return int(np.clip(_TASK_SECONDS / max(seconds_per_draw, 1e-9), 1, most))


class _StoppedError(Exception):
    """A worker died, a task could not be brought to it, or parameters could not be drawn."""


def run(
    job: Job,
    executor: Executor | None,
    progressbar: bool,
    partial: bool,
    check: Callable[[tuple[int, ...]], None] | None = None,
) -> list[Simulated]:
    """Outcomes in the order of the draws.

    If ``partial``, those before the first gap where it is interrupted or an executor fails.
    ``check`` sees the shape of the first observation, and may raise.
    """
    executor = executor_of(executor)
    job.drawn.rows(0, 1)  # raises at once what the prior has to say
    outcomes: list[Simulated] = []
    seen = _Seen(job.simulator.iid, check)
    try:
        with progress(enabled=progressbar) as display:
            bar = display.add_task("simulating", total=job.drawn.n, status="")
            started = time.monotonic()
            for outcome in _outcomes(job, executor):
                outcomes.append(outcome)
                seen.enter(outcome)
                rate = seen.tried / max(time.monotonic() - started, 1e-9)
                display.update(bar, completed=seen.tried, status=f"{rate:,.1f}/s")
    except (KeyboardInterrupt, _StoppedError) as error:
        outcomes = _before_first_gap(outcomes)
        _tell_of_the_end(error, outcomes, job.drawn.n, partial)
    return sorted(outcomes, key=lambda outcome: outcome.start)


def _outcomes(job: Job, executor: Executor) -> Iterator[Simulated]:
    seconds_per_draw = None
    pickled = None if shares_memory(executor) else cloudpickle.dumps(job.simulator)

    def tasks() -> Iterator[tuple[Any, ...]]:
        start = 0
        while start < job.drawn.n:
            stop = start + job.task_length(seconds_per_draw, job.drawn.n, start)
            yield job.task(start, stop, pickled)
            start = stop

    try:
        for outcome in as_they_end(executor, simulate_slice, tasks()):
            seconds_per_draw = outcome.seconds / len(outcome)
            yield outcome
    except FAILURES as error:  # no simulation's own, which is in its outcome
        raise _StoppedError(f"{type(error).__name__}: {str(error).rstrip('.')}") from error


def _tell_of_the_end(error: BaseException, kept: list[Simulated], n: int, partial: bool) -> None:
    """Warn of what is returned early, or raise if that is nothing."""
    how, why, cause = "Interrupted", "", error.__cause__
    if isinstance(error, _StoppedError):
        how = f"Stopped by {error}"
    if isinstance(cause, BrokenExecutor):
        why = " A simulation that takes all memory or ends its process does so."
    if kept and partial:
        returned = f"returning the first {kept[-1].stop:,} of {n:,} simulations."
        warn(f"{how}: {returned}{why}", SimulationWarning)
    elif isinstance(cause, BrokenExecutor | CancelledError | SystemExit):
        made = kept[-1].stop if kept else 0
        raise SimulationError(f"{how} after {made:,} of {n:,} simulations.{why}") from cause
    else:
        raise cause or error


class _Seen:
    """What outcomes have told so far; refuses simulators that are broken."""

    def __init__(self, iid: bool, check: Callable[[tuple[int, ...]], None] | None) -> None:
        self.check = check
        self.tried = self.succeeded = 0
        self._first_of_event = int(iid)  # axis: the number of points may vary
        self._shapes: list[tuple[int, ...]] = []  # of the first draws

    def enter(self, outcome: Simulated) -> None:
        """Raise if the first draws show that it is no use to go on."""
        self.tried += len(outcome)
        self.succeeded += int(outcome.succeeded.sum())
        if outcome.wrong is not None and outcome.start + outcome.wrong[0] < FIRST:
            raise outcome.wrong[1]
        for shape, (rows, _) in (outcome.result or {}).items():
            shape = shape[self._first_of_event :]
            if self.check is not None:
                self.check(shape)
                self.check = None
            if shape not in self._shapes and outcome.start + rows.argmax() < FIRST:
                self._shapes.append(shape)
        if len(self._shapes) > 1:
            raise _varying_shape(self._shapes[1], self._shapes[0])
        if self.tried >= FIRST and not self.succeeded:
            raise SimulationError(_all_failed(self.tried, outcome.error))


def _varying_shape(got: tuple[int, ...], before: tuple[int, ...]) -> ValueError:
    return ValueError(
        f"The simulator returned an observation of shape {got} after one of shape {before}; all "
        "must have the same shape. Pad them, or return summary statistics."
    )


def _all_failed(tried: int, error: str) -> str:
    why = f"The first error was:\n\n{error}" if error else "All were NaN or infinite."
    return f"All of {tried:,} simulations failed. {why}"


def _before_first_gap(outcomes: list[Simulated]) -> list[Simulated]:
    """What ended early may be what is quick to simulate; a prefix of the draws is fair."""
    prefix: list[Simulated] = []
    for outcome in sorted(outcomes, key=lambda o: o.start):
        if outcome.start != (prefix[-1].stop if prefix else 0):
            break
        prefix.append(outcome)
    return prefix


def observations_of(outcomes: list[Simulated]) -> tuple[np.ndarray, np.ndarray]:
    """Which simulations succeeded, and the observations of those that did.

    Raises
    ------
    SimulationError
        If none did.
    """
    shape = _shape(outcomes)
    if shape is None:
        raise SimulationError(_all_failed(sum(map(len, outcomes)), _first_error(outcomes)))
    of_shape = [(outcome.result or {}).get(shape) for outcome in outcomes]
    rows = [
        np.zeros(len(outcome), dtype=bool) if found is None else found[0]
        for outcome, found in zip(outcomes, of_shape, strict=True)
    ]
    return np.concatenate(rows), np.concatenate([found[1] for found in of_shape if found])


def points_of(outcomes: list[Simulated]) -> tuple[np.ndarray, Points, int]:
    """Which simulations succeeded, their points, and how many lost some that are not finite.

    Raises
    ------
    SimulationError
        If none did.
    """
    event = _shape(outcomes, iid=True)
    if event is None:
        raise SimulationError(_all_failed(sum(map(len, outcomes)), _first_error(outcomes)))
    parts = [
        (outcome.start + np.flatnonzero(rows), x)
        for outcome in outcomes
        for shape, (rows, x) in (outcome.result or {}).items()
        if shape[1:] == event
    ]
    return joined(event, sum(map(len, outcomes)), parts)


def why_failed(outcomes: list[Simulated], iid: bool = False) -> str:
    """What is to be said of the first simulation that failed."""
    error = _first_error(outcomes)
    if error:
        return error.strip().splitlines()[-1]
    others = {shape[iid:] for outcome in outcomes for shape in outcome.result or {}}
    others -= {_shape(outcomes, iid)}
    if others:
        return f"an observation of shape {others.pop()}, where others have {_shape(outcomes, iid)}"
    return "NaN or infinite values"


def warn_failed(failed: int, tried: int, first: str = "", lost: int = 0) -> None:
    """Warn of simulations that failed, ``lost`` of them in some points only."""
    some = f", {lost:,} of them in some points only" if lost else ""
    why = f"; the first: {first.removesuffix('.')}" if first else ""
    warn(
        f"{failed:,} of {tried:,} simulations ({failed / tried:.1%}) failed and were left out"
        f"{some}{why}. The ratio will describe observations given that the simulation succeeded. "
        "If failing depends on the parameters, posteriors lack the factor P(success | "
        "parameters): mend the simulator, or shrink the prior to where it works.",
        SimulationWarning,
    )


def _shape(outcomes: list[Simulated], iid: bool = False) -> tuple[int, ...] | None:
    """That most observations have, or points; None if there is no observation."""
    votes: Counter[tuple[int, ...]] = Counter()
    for outcome in outcomes:
        for shape, (rows, _) in (outcome.result or {}).items():
            votes[shape[iid:]] += int(rows.sum())
    return votes.most_common(1)[0][0] if votes else None


def _first_error(outcomes: list[Simulated]) -> str:
    return next((outcome.error for outcome in outcomes if outcome.error), "")


def simulate_at(
    simulator: Simulator,
    parameters: Mapping[str, np.ndarray],
    seed: np.random.SeedSequence,
    executor: Executor | None = None,
    progressbar: bool = False,
    check: Callable[[tuple[int, ...]], None] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Which simulations at given parameters, stacked ``(n, *own)``, succeeded, and what of.

    Nuisance parameters are drawn for each. ``check`` is that of `run`.
    """
    n = len(next(iter(parameters.values())))
    if simulator.nuisance is not None:
        for_nuisance, seed = seed.spawn(2)
        drawn = simulator.nuisance.draw(np.random.default_rng(for_nuisance), parameters, n)
        parameters = {**parameters, **drawn}
    job = Job(simulator, Drawn.whole(parameters), seed)
    return observations_of(run(job, executor, progressbar, False, check))


def repeat_at(
    simulator: Simulator, layout: Layout, point: np.ndarray, n: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Which of n simulations at one point ``(D,)`` succeeded, and what of."""
    own = layout.unpack(np.tile(point, (n, 1)))
    return simulate_at(simulator, own, np.random.SeedSequence(rng.integers(2**32)))
