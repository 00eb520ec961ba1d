"""Prior draws through a simulator, on any executor.

Every draw has its own random stream, spawned from the seed by its index (batched
simulators: every block of 1,000 draws), so the result depends on the seed alone and not on
the executor, its number of workers, or how draws are grouped into tasks.
"""

from __future__ import annotations

import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cloudpickle
import numpy as np

from .data import Simulations, Simulator
from .prior import Prior
from .progress import progress

__all__ = ["SimulationError", "SimulationWarning", "simulate"]

BLOCK = 1_000  # draws in one call of a batched simulator; part of the meaning of a seed
_TASK_SECONDS = 0.25  # aim of a task's length: short for the display, long beside its overhead
_HOPELESS = 100  # if this many failed and none succeeded, the simulator is broken


class SimulationError(RuntimeError):
    """No simulation succeeded."""


class SimulationWarning(UserWarning):
    """Some simulations were left out, or not all were made."""


def simulate(
    prior: Any,
    simulator: Callable[..., Any],
    n: int,
    *,
    batched: bool = False,
    executor: Executor | None = None,
    random_seed: Any = None,
    progressbar: bool = True,
) -> Simulations:
    """Draw parameters from a prior and simulate an observation at each draw.

    Parameters
    ----------
    prior : pymc.Model or dict
        A model whose free variables are the parameters (scalars, vectors or arrays), or a
        dict of name to ``pm.X.dist()``. The ratio will be valid where this prior lives: make
        it wide.
    simulator : callable
        ``simulator(rng, **parameters)`` gives one observation, a number or an array whose
        shape never varies. ``rng`` is a `numpy.random.Generator`, the parameters have their
        own shapes.
    n : int
        Number of simulations.
    batched : bool
        If True, the simulator takes up to 1,000 draws at once: every parameter has a leading
        axis of draws, and so has what it returns.
    executor : concurrent.futures.Executor, optional
        Where the simulator runs: a process or thread pool, or a cluster's executor; by
        default in this thread.
    random_seed : int, SeedSequence or Generator, optional
        The same seed gives the same simulations, whatever the executor.
    progressbar : bool
        Show the number done, the rate, and the time left.

    Returns
    -------
    Simulations
        The successful simulations, in the order of the draws.

    Raises
    ------
    SimulationError
        If no simulation succeeded; it shows the first traceback.
    ValueError
        If the shape of an observation varies, a batched simulator returns the wrong number
        of observations, or the prior has no free variables or reserved names.

    Warns
    -----
    SimulationWarning
        If simulations raised or were not finite (they are left out), or on Ctrl-C (what is
        done is returned).

    Examples
    --------
    >>> import pymc as pm
    >>> import pymc_nre as nre
    >>> prior = {"mu": pm.Uniform.dist(-10, 10)}
    >>> nre.simulate(
    ...     prior, lambda rng, mu: rng.normal(mu, 1.0), 500, random_seed=1, progressbar=False
    ... )
    Simulations: 500 pairs, parameters mu (scalar), observation scalar
    """
    if not callable(simulator):
        raise TypeError(
            "simulator must be a function simulator(rng, **parameters), got "
            f"{type(simulator).__name__}."
        )
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}.")
    prior_seed, simulator_seed = _seed_sequence(random_seed).spawn(2)
    known_prior = Prior.of(prior)
    parameters = known_prior.draw(n, np.random.default_rng(prior_seed))
    job = _Job(Simulator(simulator, batched), parameters, simulator_seed)
    outcome = _run(job, n, executor or _InThisThread(), progressbar)
    return _collect(job, outcome, known_prior)


def _seed_sequence(seed: Any) -> np.random.SeedSequence:
    if isinstance(seed, np.random.Generator):
        return np.random.SeedSequence(int(seed.integers(2**63)))
    if isinstance(seed, np.random.SeedSequence):
        # A copy: spawning from the user's own would make a second call differ.
        return np.random.SeedSequence(seed.entropy, spawn_key=seed.spawn_key)
    return np.random.SeedSequence(seed)


@dataclass(frozen=True)
class _Outcome:
    """Draws ``start`` to ``stop``: observations of those that succeeded, and the rest."""

    start: int
    stop: int
    x: np.ndarray | None  # (m, *event)
    succeeded: np.ndarray  # (stop - start,) bool
    first_error: str | None
    seconds: float


@dataclass(frozen=True)
class _Job:
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


class _InThisThread(Executor):
    """Run each task when it is submitted, so that one loop serves every executor."""

    _max_workers = 1

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future:
        future: Future = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # handed to whoever asks for the result
            future.set_exception(error)
        return future


def _run(job: _Job, n: int, executor: Executor, progressbar: bool) -> list[_Outcome]:
    """Outcomes in the order of the draws; on Ctrl-C those before the first gap."""
    shares_memory = isinstance(executor, (_InThisThread, ThreadPoolExecutor))
    pickled = None if shares_memory else cloudpickle.dumps(job.simulator)
    outcomes: list[_Outcome] = []
    try:
        with progress(enabled=progressbar) as display:
            bar = display.add_task("simulating", total=n, status="")
            started = time.monotonic()
            done = 0
            for outcome in _outcomes(job, n, executor, pickled):
                outcomes.append(outcome)
                done += outcome.stop - outcome.start
                rate = done / max(time.monotonic() - started, 1e-9)
                display.update(bar, completed=done, status=f"{rate:,.1f}/s")
                _give_up_if_hopeless(outcomes)
    except KeyboardInterrupt:
        outcomes = _before_first_gap(outcomes)
        if not outcomes:
            raise
        warnings.warn(
            f"Interrupted: returning the first {outcomes[-1].stop:,} of {n:,} simulations.",
            SimulationWarning,
            stacklevel=3,
        )
    return sorted(outcomes, key=lambda outcome: outcome.start)


def _outcomes(job: _Job, n: int, executor: Executor, pickled: bytes | None) -> Iterator[_Outcome]:
    """Keep the executor supplied with two tasks for each worker; yield as they end."""
    window = 2 * (getattr(executor, "_max_workers", None) or 8)
    if isinstance(executor, _InThisThread):
        window = 1
    pending: set[Future] = set()
    start, seconds_per_draw = 0, None
    try:
        while start < n or pending:
            while start < n and len(pending) < window:
                stop = start + job.task_length(seconds_per_draw, n, start)
                pending.add(executor.submit(_simulate_slice, *job.task(start, stop, pickled)))
                start = stop
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                outcome = future.result()
                seconds_per_draw = outcome.seconds / (outcome.stop - outcome.start)
                yield outcome
    finally:
        for future in pending:
            future.cancel()


@lru_cache(maxsize=4)
def _unpickled(pickled: bytes) -> Simulator:
    """Once for each worker and simulator, not once for each task."""
    return cloudpickle.loads(pickled)


def _simulate_slice(
    simulator: Simulator | bytes,
    parameters: Mapping[str, np.ndarray],
    root: tuple[Any, tuple[int, ...]],
    start: int,
    stop: int,
) -> _Outcome:
    """Simulate draws ``start`` to ``stop``; runs in a worker."""
    if isinstance(simulator, bytes):
        simulator = _unpickled(simulator)
    began = time.monotonic()
    run = _simulate_block if simulator.batched else _simulate_each
    x, succeeded, first_error = run(simulator, parameters, root, start, stop)
    return _Outcome(start, stop, x, succeeded, first_error, time.monotonic() - began)


def _generator(root: tuple[Any, tuple[int, ...]], index: int) -> np.random.Generator:
    """The stream that ``SeedSequence.spawn`` would give its child number ``index``."""
    entropy, spawn_key = root
    return np.random.default_rng(np.random.SeedSequence(entropy, spawn_key=(*spawn_key, index)))


def _simulate_each(
    simulator: Simulator, parameters: Mapping[str, np.ndarray], root: Any, start: int, stop: int
) -> tuple[np.ndarray | None, np.ndarray, str | None]:
    x: list[np.ndarray] = []
    succeeded = np.zeros(stop - start, dtype=bool)
    first_error = None
    for i in range(stop - start):
        row = {name: value[i] for name, value in parameters.items()}
        try:
            returned = simulator.function(_generator(root, start + i), **row)
        except Exception:
            first_error = first_error or traceback.format_exc()
            continue
        observation = _as_float(returned)
        if x and observation.shape != x[0].shape:
            raise _varying_shape(observation.shape, x[0].shape)
        if np.isfinite(observation).all():
            succeeded[i] = True
            x.append(observation)
    return (np.stack(x) if x else None), succeeded, first_error


def _simulate_block(
    simulator: Simulator, parameters: Mapping[str, np.ndarray], root: Any, start: int, stop: int
) -> tuple[np.ndarray | None, np.ndarray, str | None]:
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
    return (x[succeeded] if succeeded.any() else None), succeeded, None


def _as_float(returned: Any) -> np.ndarray:
    x = np.asarray(returned)
    if x.dtype.kind not in "biuf":
        raise TypeError(
            f"The simulator must return numbers, got {type(returned).__name__} of dtype {x.dtype}. "
            "Does it end with a return statement?"
        )
    return x.astype(float)


def _varying_shape(got: tuple[int, ...], before: tuple[int, ...]) -> ValueError:
    return ValueError(
        f"The simulator returned an observation of shape {got} after one of shape {before}; all "
        "must have the same shape. Pad them, or return summary statistics."
    )


def _give_up_if_hopeless(outcomes: list[_Outcome]) -> None:
    if any(outcome.x is not None for outcome in outcomes):
        return
    if sum(outcome.stop - outcome.start for outcome in outcomes) >= _HOPELESS:
        raise _all_failed(outcomes)


def _all_failed(outcomes: list[_Outcome]) -> SimulationError:
    tried = sum(outcome.stop - outcome.start for outcome in outcomes)
    errors = [outcome.first_error for outcome in outcomes if outcome.first_error]
    why = f"The first error was:\n\n{errors[0]}" if errors else "All were NaN or infinite."
    return SimulationError(f"All of {tried:,} simulations failed. {why}")


def _before_first_gap(outcomes: list[_Outcome]) -> list[_Outcome]:
    """What ended early may be what is quick to simulate; a prefix of the draws is fair."""
    prefix: list[_Outcome] = []
    for outcome in sorted(outcomes, key=lambda o: o.start):
        if outcome.start != (prefix[-1].stop if prefix else 0):
            break
        prefix.append(outcome)
    return prefix


def _collect(job: _Job, outcomes: list[_Outcome], prior: Prior) -> Simulations:
    parts = [outcome.x for outcome in outcomes if outcome.x is not None]
    if not parts:
        raise _all_failed(outcomes)
    for part in parts:
        if part.shape[1:] != parts[0].shape[1:]:
            raise _varying_shape(part.shape[1:], parts[0].shape[1:])
    succeeded = np.concatenate([outcome.succeeded for outcome in outcomes])
    kept = {name: value[: len(succeeded)][succeeded] for name, value in job.parameters.items()}
    simulations = Simulations(kept, np.concatenate(parts), simulator=job.simulator)
    simulations.log_prior = prior.log_density(kept)
    simulations.n_failed = int((~succeeded).sum())
    if simulations.n_failed:
        _warn_failed(simulations.n_failed, outcomes)
    return simulations


def _warn_failed(n_failed: int, outcomes: list[_Outcome]) -> None:
    tried = sum(outcome.stop - outcome.start for outcome in outcomes)
    errors = [outcome.first_error for outcome in outcomes if outcome.first_error]
    last_line = errors[0].strip().splitlines()[-1] if errors else "NaN or infinite values"
    warnings.warn(
        f"{n_failed:,} of {tried:,} simulations ({n_failed / tried:.1%}) failed and were left out; "
        f"the first: {last_line}. The ratio will describe observations given that the simulation "
        "succeeded. If failing depends on the parameters, posteriors lack the factor "
        "P(success | parameters): mend the simulator, or shrink the prior to where it works.",
        SimulationWarning,
        stacklevel=4,
    )
