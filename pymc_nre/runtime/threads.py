"""One thread at a time, where something belongs to the whole process."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["OneAtATime"]


class OneAtATime:
    """Threads wait for each other within ``with alone():``; a thread never for itself.

    A forked process begins anew: whoever held it in the parent does not exist there.
    """

    def __init__(self) -> None:
        self._renew()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        self._lock = threading.RLock()

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Within, no other thread is."""
        with self._lock:  # this one to the end, though a fork puts another in its place
            yield
