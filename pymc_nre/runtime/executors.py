"""Tasks on any executor, supplied as they end, and what became of them.

This thread is an executor, too, so that one loop serves all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any

import cloudpickle
import numpy as np

__all__ = ["InThisThread", "Outcome", "as_they_end", "shares_memory", "unpickled"]


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


def as_they_end(
    executor: Executor, function: Callable[..., Any], tasks: Iterable[tuple[Any, ...]]
) -> Iterator[Any]:
    """Keep the executor supplied with two tasks for each worker; yield results as they end."""
    window = 2 * (getattr(executor, "_max_workers", None) or 8)
    if isinstance(executor, InThisThread):
        window = 1
    tasks = iter(tasks)
    pending: set[Future] = set()
    try:
        while True:
            for task in islice(tasks, window - len(pending)):
                pending.add(executor.submit(function, *task))
            if not pending:
                return
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
    finally:
        for future in pending:
            future.cancel()


def shares_memory(executor: Executor) -> bool:
    """Whether what is given to the executor stays in this process."""
    return isinstance(executor, (InThisThread, ThreadPoolExecutor))


@lru_cache(maxsize=4)
def unpickled(pickled: bytes) -> Any:
    """Once for each worker and object, not once for each task."""
    return cloudpickle.loads(pickled)
