"""Tasks on any executor, supplied as they end; this thread is one, too."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from functools import lru_cache
from itertools import islice
from typing import Any

import cloudpickle

__all__ = ["InThisThread", "as_they_end", "shares_memory", "unpickled"]


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
