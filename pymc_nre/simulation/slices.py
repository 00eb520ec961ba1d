"""Some draws of a simulation, one after another or as a block; runs in a worker."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..runtime.executors import Outcome, unpickled
from .calls import FAILURES, call_error, observation, observations, own
from .independent_points.returned import of_equal_number
from .simulator import Simulator

__all__ = ["BLOCK", "FIRST", "Simulated", "simulate_slice"]

BLOCK = 1_000  # draws in one call of a batched simulator; part of the meaning of a seed
FIRST = 100  # draws by which a simulator is judged: what is wrong with them is no accident

_REMEDY = (
    "Let it take rng and every free variable of the prior by name; what else it needs, such as a "
    "pm.Deterministic, it computes from those."
)

Root = tuple[Any, tuple[int, ...]]  # entropy and spawn key of a seed


@dataclass(frozen=True)
class Simulated(Outcome):
    """What became of the draws ``start`` to ``stop``.

    Attributes
    ----------
    result : dict of shape to (array of bool, array), or None
        Of each shape which draws have it, ``(stop - start,)``, and their observations.
    succeeded : ndarray of bool, shape (stop - start,)
        Which have finite observations.
    wrong : (int, Exception), optional
        The first row, after ``start``, for which the simulator returned no observation, and what
        to say of it.
    """

    wrong: tuple[int, Exception] | None = None


def simulate_slice(
    simulator: Simulator | bytes,
    parameters: Mapping[str, np.ndarray],
    root: Root,
    start: int,
    stop: int,
) -> Simulated:
    """Simulate draws ``start`` to ``stop``, of parameters ``(stop - start, *own)``."""
    if isinstance(simulator, bytes):
        simulator = unpickled(simulator)
    began = time.monotonic()
    found = _Found(stop - start, simulator.iid)
    rows = found.where_finite(parameters)
    if simulator.batched:
        _in_halves(simulator, parameters, (root, (start // BLOCK,)), rows, found)
    else:
        _one_by_one(simulator, parameters, (root, start), rows, found)
    return found.outcome(start, time.monotonic() - began)


def _generator(root: Root, *indices: int) -> np.random.Generator:
    """The stream that ``SeedSequence.spawn`` would give its child of that number."""
    entropy, spawn_key = root
    return np.random.default_rng(np.random.SeedSequence(entropy, spawn_key=(*spawn_key, *indices)))


class _Found:
    """What was simulated so far, and the first that went wrong."""

    def __init__(self, n: int, iid: bool) -> None:
        self.n, self.iid, self.alone = n, iid, 0
        self.parts: dict[tuple[int, ...], list[tuple[Any, np.ndarray]]] = {}
        self.error = ""
        self.wrong: tuple[int, Exception] | None = None

    def where_finite(self, parameters: Mapping[str, np.ndarray]) -> np.ndarray:
        """Rows whose parameters are finite; no simulator is asked for the others."""
        finite = np.ones(self.n, dtype=bool)
        for name, values in parameters.items():
            its = np.isfinite(values).reshape(self.n, -1).all(1)
            if not its.all():
                self.error = self.error or f"{name} was drawn as NaN or infinity"
            finite &= its
        return np.flatnonzero(finite)

    def enter(self, rows: Any, x: np.ndarray) -> None:
        """Observations ``(k, *event)`` of so many rows; those that are not finite have failed."""
        # Whatever the shape of one: NaN alone may stand for a failure.
        finite = self._good(x)
        if finite.all():
            self.parts.setdefault(x.shape[1:], []).append((rows, x))
        elif finite.any():
            self.parts.setdefault(x.shape[1:], []).append((rows[finite], x[finite]))

    def _good(self, x: np.ndarray) -> np.ndarray:
        """Which observations are finite, ``(k,)``; of several points one is enough."""
        if not self.iid:
            return np.isfinite(x).reshape(len(x), -1).all(1)
        if not x.shape[1]:
            self.error = self.error or "there were no points"
            return np.zeros(len(x), bool)
        return np.isfinite(x).reshape(*x.shape[:2], -1).all(2).any(1)

    def fail(self, alone: bool) -> None:
        """The exception that is being handled is why rows failed."""
        self.error = self.error or traceback.format_exc()
        self.alone += alone

    def refuse(self, row: int, error: Exception) -> None:
        """No observation came back for a row."""
        self.wrong = self.wrong or (row, error)

    def refuse_call(
        self, function: Callable[..., Any], parameters: Mapping[str, Any], error: BaseException
    ) -> bool:
        """Whether an error came of calling a function that does not take these parameters."""
        wrong = call_error(function, parameters, _REMEDY) if type(error) is TypeError else None
        if wrong is not None:
            self.refuse(0, wrong)
        return wrong is not None

    @property
    def is_hopeless(self) -> bool:
        """Whether so many draws failed each for itself that the others need not be tried."""
        return self.alone >= FIRST and not self.parts

    def outcome(self, start: int, seconds: float) -> Simulated:
        """All of it."""
        result, succeeded = {}, np.zeros(self.n, dtype=bool)
        for shape, parts in self.parts.items():
            has = np.zeros(self.n, dtype=bool)
            for rows, _ in parts:
                has[rows] = True
            whole = parts[0][1] if len(parts) == 1 else np.concatenate([x for _, x in parts])
            result[shape] = has, whole
            succeeded |= has
        fields = (result or None, succeeded, self.error, seconds, self.wrong)
        return Simulated(start, start + self.n, *fields)


def _one_by_one(
    simulator: Simulator,
    parameters: Mapping[str, np.ndarray],
    stream: tuple[Root, int],
    rows: np.ndarray,
    found: _Found,
) -> None:
    root, start = stream
    for i in rows:
        row = own({name: values[i] for name, values in parameters.items()})
        try:
            returned = simulator.function(_generator(root, start + int(i)), **row)
        except FAILURES as error:
            found.fail(alone=True)
            if found.refuse_call(simulator.function, row, error):
                return
            continue
        try:
            if simulator.iid:
                [(_, x)] = of_equal_number(returned, None)
            else:
                x = observation(returned)[None]
            found.enter(i, x)
        except (TypeError, ValueError) as error:
            found.fail(alone=True)
            found.refuse(int(i), error)
            if start + i < FIRST:
                return


def _in_halves(
    simulator: Simulator,
    parameters: Mapping[str, np.ndarray],
    stream: tuple[Root, tuple[int, ...]],
    rows: np.ndarray,
    found: _Found,
) -> None:
    """All rows in one call; where that fails each half, by a stream that its rows tell."""
    if found.is_hopeless or not len(rows):
        return
    root, indices = stream
    several = {name: values[rows] for name, values in parameters.items()}  # copies
    whole, alone = len(indices) == 1, len(rows) == 1
    try:
        returned = simulator.function(_generator(root, *indices), **several)
    except FAILURES as error:
        found.fail(alone)
        if whole and found.refuse_call(simulator.function, several, error):
            return
    else:
        try:
            if simulator.iid:
                for of, x in of_equal_number(returned, len(rows)):
                    found.enter(rows[of], x)
            else:
                found.enter(rows, observations(returned, len(rows)))
            return
        except (TypeError, ValueError) as error:
            found.fail(alone)
            if whole:
                found.refuse(int(rows[0]), error)
            if indices == (0,):
                return
    if not alone:
        for half in np.array_split(rows, 2):
            indices = (stream[1][0], int(half[0]), int(half[-1]) + 1)
            _in_halves(simulator, parameters, (root, indices), half, found)
