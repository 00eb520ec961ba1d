"""Simulations in tasks, on any executor, in the order of the draws.

Every draw has its own random stream, spawned from the seed by its index (batched
simulators: every block of 1,000 draws), so the result depends on the seed alone and not on
the executor, its number of workers, or how draws are grouped into tasks.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import cloudpickle
import numpy as np

from ..exceptions import SimulationError, SimulationWarning, warn
from ..runtime.executors import InThisThread, Outcome, as_they_end, shares_memory, unpickled
from ..runtime.progress import progress
from .parameters import Layout
from .simulator import Simulator

__all__ = ["Job", "observations_of", "repeat_at", "run", "simulate_at"]

BLOCK = 1_000  # draws in one call of a batched simulator; part of the meaning of a seed
_TASK_SECONDS = 0.25  # aim of a task's length: short for the display, long beside its overhead
_HOPELESS = 100  # if this many failed and none succeeded, the simulator is broken


@dataclass(frozen=True)
class Job:
    """All that a simulation needs, whole or in slices."""

    simulator: Simulator
    parameters: Mapping[str, np.ndarray]
    seed: np.random.SeedSequence

    def task(self, start: int, stop: int, pickled: bytes | None) -> tuple[Any, ...]:
        """Arguments of `_simulate_slice` for draws ``start`` to ``stop``."""
        part = {name: value[start:stop] for name, value in self.parameters.items()}
        root = (self.seed.entropy, self.seed.spawn_key)
        return pickled or self.simulator, part, root, start, stop

    def task_length(self, seconds_per_draw: float | None, n: int, start: int) -> int:
        """How many draws make a task, from draw ``start`` on."""
        if self.simulator.batched:
            return min(BLOCK, n - start)
        if seconds_per_draw is None:
            return 1  # find out how long one takes
        return int(np.clip(_TASK_SECONDS / max(seconds_per_draw, 1e-9), 1, min(5_000, n - start)))


def run(
    job: Job, n: int, executor: Executor | None, progressbar: bool, partial: bool
) -> list[Outcome]:
    """Outcomes in the order of the draws; on Ctrl-C those before the first gap, if ``partial``."""
    executor = executor or InThisThread()
    pickled = None if shares_memory(executor) else cloudpickle.dumps(job.simulator)
    outcomes: list[Outcome] = []
    try:
        with progress(enabled=progressbar) as display:
            bar = display.add_task("simulating", total=n, status="")
            started = time.monotonic()
            done = 0
            for outcome in _outcomes(job, n, executor, pickled):
                outcomes.append(outcome)
                done += len(outcome)
                rate = done / max(time.monotonic() - started, 1e-9)
                display.update(bar, completed=done, status=f"{rate:,.1f}/s")
                _give_up_if_hopeless(outcomes)
    except KeyboardInterrupt:
        outcomes = _before_first_gap(outcomes)
        if not (outcomes and partial):
            raise
        warn(
            f"Interrupted: returning the first {outcomes[-1].stop:,} of {n:,} simulations.",
            SimulationWarning,
        )
    return sorted(outcomes, key=lambda outcome: outcome.start)


def _outcomes(job: Job, n: int, executor: Executor, pickled: bytes | None) -> Iterator[Outcome]:
    seconds_per_draw = None

    def tasks() -> Iterator[tuple[Any, ...]]:
        start = 0
        while start < n:
            stop = start + job.task_length(seconds_per_draw, n, start)
            yield job.task(start, stop, pickled)
            start = stop

    for outcome in as_they_end(executor, _simulate_slice, tasks()):
        seconds_per_draw = outcome.seconds / len(outcome)
        yield outcome


def _simulate_slice(
    simulator: Simulator | bytes,
    parameters: Mapping[str, np.ndarray],
    root: tuple[Any, tuple[int, ...]],
    start: int,
    stop: int,
) -> Outcome:
    """Simulate draws ``start`` to ``stop``; runs in a worker."""
    if isinstance(simulator, bytes):
        simulator = unpickled(simulator)
    began = time.monotonic()
    run = _simulate_block if simulator.batched else _simulate_each
    x, succeeded, error = run(simulator, parameters, root, start, stop)
    return Outcome(start, stop, x, succeeded, error, time.monotonic() - began)


def _generator(root: tuple[Any, tuple[int, ...]], index: int) -> np.random.Generator:
    """The stream that ``SeedSequence.spawn`` would give its child number ``index``."""
    entropy, spawn_key = root
    return np.random.default_rng(np.random.SeedSequence(entropy, spawn_key=(*spawn_key, index)))


def _simulate_each(
    simulator: Simulator, parameters: Mapping[str, np.ndarray], root: Any, start: int, stop: int
) -> tuple[np.ndarray | None, np.ndarray, str]:
    x: list[np.ndarray] = []
    succeeded = np.zeros(stop - start, dtype=bool)
    error = ""
    for i in range(stop - start):
        row = {name: value[i] for name, value in parameters.items()}
        try:
            returned = simulator.function(_generator(root, start + i), **row)
        except Exception:
            error = error or traceback.format_exc()
            continue
        observation = _as_float(returned)
        if not np.isfinite(observation).all():
            continue  # whatever its shape: NaN alone may stand for a failure
        if x and observation.shape != x[0].shape:
            raise varying_shape(observation.shape, x[0].shape)
        succeeded[i] = True
        x.append(observation)
    return (np.stack(x) if x else None), succeeded, error


def _simulate_block(
    simulator: Simulator, parameters: Mapping[str, np.ndarray], root: Any, start: int, stop: int
) -> tuple[np.ndarray | None, np.ndarray, str]:
    rows = stop - start
    try:
        returned = simulator.function(_generator(root, start // BLOCK), **parameters)
    except Exception:
        return None, np.zeros(rows, dtype=bool), traceback.format_exc()
    x = _as_float(returned)
    if x.ndim == 0 or len(x) != rows:
        raise ValueError(
            f"A batched simulator must return one observation for each of its {rows} draws, shape "
            f"({rows}, *event), got shape {x.shape}. If it simulates one observation at a time, "
            "leave out batched=True."
        )
    succeeded = np.isfinite(x).reshape(rows, -1).all(-1)
    return (x[succeeded] if succeeded.any() else None), succeeded, ""


def _as_float(returned: Any) -> np.ndarray:
    x = np.asarray(returned)
    if x.dtype.kind not in "biuf":
        raise TypeError(
            f"The simulator must return numbers, got {type(returned).__name__} of dtype {x.dtype}. "
            "Does it end with a return statement?"
        )
    return x.astype(float)


def varying_shape(got: tuple[int, ...], before: tuple[int, ...]) -> ValueError:
    """What to raise when observations differ in shape."""
    return ValueError(
        f"The simulator returned an observation of shape {got} after one of shape {before}; all "
        "must have the same shape. Pad them, or return summary statistics."
    )


def _give_up_if_hopeless(outcomes: list[Outcome]) -> None:
    tried = sum(map(len, outcomes))
    if tried >= _HOPELESS and all(outcome.result is None for outcome in outcomes):
        raise all_failed(outcomes)


def all_failed(outcomes: list[Outcome]) -> SimulationError:
    """What to raise when no simulation succeeded."""
    errors = [outcome.error for outcome in outcomes if outcome.error]
    why = f"The first error was:\n\n{errors[0]}" if errors else "All were NaN or infinite."
    return SimulationError(f"All of {sum(map(len, outcomes)):,} simulations failed. {why}")


def _before_first_gap(outcomes: list[Outcome]) -> list[Outcome]:
    """What ended early may be what is quick to simulate; a prefix of the draws is fair."""
    prefix: list[Outcome] = []
    for outcome in sorted(outcomes, key=lambda o: o.start):
        if outcome.start != (prefix[-1].stop if prefix else 0):
            break
        prefix.append(outcome)
    return prefix


def observations_of(outcomes: list[Outcome]) -> tuple[np.ndarray, np.ndarray]:
    """Which simulations succeeded, and the observations of those that did."""
    parts = [outcome.result for outcome in outcomes if outcome.result is not None]
    if not parts:
        raise all_failed(outcomes)
    for part in parts:
        if part.shape[1:] != parts[0].shape[1:]:
            raise varying_shape(part.shape[1:], parts[0].shape[1:])
    return np.concatenate([outcome.succeeded for outcome in outcomes]), np.concatenate(parts)


def simulate_at(
    simulator: Simulator,
    parameters: Mapping[str, np.ndarray],
    seed: np.random.SeedSequence,
    executor: Executor | None = None,
    progressbar: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Which simulations at given parameters, stacked ``(n, *own)``, succeeded, and what of.

    Nuisance parameters are drawn for each.
    """
    n = len(next(iter(parameters.values())))
    if simulator.nuisance is not None:
        for_nuisance, seed = seed.spawn(2)
        drawn = simulator.nuisance.draw(np.random.default_rng(for_nuisance), parameters, n)
        parameters = {**parameters, **drawn}
    return observations_of(run(Job(simulator, parameters, seed), n, executor, progressbar, False))


def repeat_at(
    simulator: Simulator, layout: Layout, point: np.ndarray, n: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Which of n simulations at one point ``(D,)`` succeeded, and what of."""
    own = layout.unpack(np.tile(point, (n, 1)))
    return simulate_at(simulator, own, np.random.SeedSequence(rng.integers(2**32)))
