"""Tasks on any executor, supplied as they end, and what became of them.

This thread is an executor, too, so that one loop serves all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    Executor,
    Future,
    ThreadPoolExecutor,
    wait,
)
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any

import cloudpickle
import numpy as np

__all__ = [
    "InThisThread",
    "Outcome",
    "as_they_end",
    "executor_of",
    "shares_memory",
    "unpickled",
]


@dataclass(frozen=True)
class Outcome:
    """What became of the tasks ``start`` to ``stop``.

    Attributes
    ----------
    start, stop : int
    result : Any
        What those that succeeded gave; None if none did.
    succeeded : ndarray of bool, shape (stop - start,)
        Which these are.
    error : str
        The first traceback; empty if nothing raised.
    seconds : float
        How long they took.
    """

    start: int
    stop: int
    result: Any
    succeeded: np.ndarray
    error: str = ""
    seconds: float = 0.0

    def __len__(self) -> int:
        return self.stop - self.start


class InThisThread(Executor):
    """Run each task when it is submitted, so that one loop serves every executor."""

    _max_workers = 1

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future:
        """Run it."""
        future: Future = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # handed to whoever asks for the result
            future.set_exception(error)
        return future


def executor_of(given: Any) -> Executor:
    """The executor that a user means; none is this thread.

    Raises
    ------
    TypeError
        If it is no executor.
    """
    if given is None:
        return InThisThread()
    if isinstance(given, type) or not callable(getattr(given, "submit", None)):
        raise TypeError(
            "executor must be a concurrent.futures.Executor, such as ProcessPoolExecutor(4) or "
            f"ThreadPoolExecutor(4), got {given!r}. A multiprocessing.Pool or a number of "
            "processes is none."
        )
    return given


def as_they_end(
    executor: Executor, function: Callable[..., Any], tasks: Iterable[tuple[Any, ...]]
) -> Iterator[Any]:
    """Keep the executor supplied with two tasks for each worker; yield results as they end.

    What raised is raised after the results of all that ended before.
    """
    window = 2 * (getattr(executor, "_max_workers", None) or 8)
    if isinstance(executor, InThisThread):
        window = 1
    tasks = iter(tasks)
    pending: set[Future] = set()
    try:
        while True:
            for task in islice(tasks, window - len(pending)):
                pending.add(_submitted(executor, function, task))
            if not pending:
                return
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            for future in sorted(done, key=_has_failed):
                yield future.result()
    finally:
        for future in pending:
            future.cancel()


def _submitted(executor: Executor, function: Callable[..., Any], task: tuple[Any, ...]) -> Future:
    try:
        future = executor.submit(function, *task)
    except BrokenExecutor as error:  # told in its turn, when what has ended is out
        future = Future()
        future.set_exception(error)
    if not isinstance(future, Future):
        raise TypeError(
            "executor must be a concurrent.futures.Executor, got one of type "
            f"{type(executor).__name__}, whose submit gives a {type(future).__name__}. Pass what "
            "it offers as one, e.g. client.get_executor() of Dask."
        )
    return future


def _has_failed(future: Future) -> bool:
    return future.cancelled() or future.exception() is not None


def shares_memory(executor: Executor) -> bool:
    """Whether what is given to the executor stays in this process."""
    return isinstance(executor, (InThisThread, ThreadPoolExecutor))


@lru_cache(maxsize=4)
def unpickled(pickled: bytes) -> Any:
    """Once for each worker and object, not once for each task."""
    return cloudpickle.loads(pickled)
