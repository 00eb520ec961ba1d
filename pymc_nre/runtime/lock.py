"""One owner of a file at a time, among threads and processes.

The lock is one on a small file beside it, which the system takes from a process that dies, however
it dies. Forked children do not inherit it.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

__all__ = ["owned"]

_FLAGS = os.O_CREAT | os.O_RDWR | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
_TAKEN = {errno.EACCES, errno.EAGAIN, errno.EDEADLK}
_here: dict[str, int] = {}  # owned by this process: a process can lock a file of its own twice
_guard = threading.Lock()


@contextmanager
def owned(path: str | os.PathLike[str], what: str) -> Iterator[None]:
    """Own a file for the length of a block.

    Parameters
    ----------
    path : str or path-like
        It need not exist; beside it lies ``<path>.lock`` meanwhile.
    what : str
        What errors call it.

    Raises
    ------
    RuntimeError
        If another thread or process owns it.
    OSError
        If no file can be made beside it.
    """
    beside = f"{os.path.realpath(path)}.lock"
    with _guard:
        if _here.get(beside) == os.getpid():
            raise _in_use(what, "this process")
        _here[beside] = os.getpid()
    try:
        descriptor = _locked(beside, what)
        try:
            yield
        finally:
            _give_up(descriptor, beside)
    finally:
        with _guard:
            _here.pop(beside, None)


def _locked(beside: str, what: str) -> int:
    """A descriptor of the lock file, with its lock; the file may vanish while it is waited for."""
    while True:
        descriptor = os.open(beside, _FLAGS, 0o600)
        try:
            _take(descriptor)
            if _is_the_file(descriptor, beside):
                os.ftruncate(descriptor, 0)
                os.lseek(descriptor, 0, os.SEEK_SET)
                os.write(descriptor, f"{os.getpid()}".encode())
                return descriptor
        except OSError as error:
            owner = os.pread(descriptor, 20, 0).decode(errors="replace") if _POSIX else ""
            os.close(descriptor)
            if error.errno in _TAKEN:
                raise _in_use(what, f"process {owner or 'unknown'}") from None
            raise
        os.close(descriptor)


def _give_up(descriptor: int, beside: str) -> None:
    # The file goes first: who has opened it meanwhile sees that it is no more.
    with suppress(OSError):
        os.unlink(beside)
    os.close(descriptor)
    with suppress(OSError):
        os.unlink(beside) if not _POSIX else None  # Windows keeps files that are open


def _is_the_file(descriptor: int, beside: str) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(beside, follow_symlinks=False))
    except FileNotFoundError:
        return False


def _in_use(what: str, owner: str) -> RuntimeError:
    return RuntimeError(
        f"{what} is in use by {owner}. Wait until that has ended, or give another path."
    )


try:
    import fcntl
except ImportError:  # Windows
    import msvcrt

    _POSIX = False

    def _take(descriptor: int) -> None:
        # Far behind what is written: Windows lets nobody read what is locked.
        os.lseek(descriptor, 1_000, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

else:
    _POSIX = True

    def _take(descriptor: int) -> None:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}:
                raise  # otherwise the file system has no locks, and there is no telling
