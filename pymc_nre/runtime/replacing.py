"""Files that are whole: written beside the place where they belong, and put there in one step.

Whoever reads while others write sees the old file or the new one, and nothing between. Each
writer has a temporary file of its own; where two write, the later one wins.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

__all__ = ["check_writable", "replace_file"]

# EXCL: no file of others, and no link, is written through.
_NEW = os.O_CREAT | os.O_EXCL | os.O_RDWR
_NEW |= getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)


def replace_file(path: str | os.PathLike[str], write: Callable[[BinaryIO], None]) -> None:
    """Make the file what ``write`` writes: all of it, or nothing.

    A link stays, and what it points to is replaced; permissions stay those of the old file.

    Parameters
    ----------
    path : str or path-like
    write : callable
        Given a file that is open for writing, and can be read and sought.

    Raises
    ------
    OSError
        With the path that was given: if the folder does not exist or takes no files, the disk is
        full, or there is something that is no file.
    """
    check_writable(path)
    target = Path(os.path.realpath(path))
    # The target's name may be as long as names can be: so much of it as a person needs.
    partial = target.with_name(f".{target.name[:20]}.{secrets.token_hex(8)}.partial")
    try:
        descriptor = os.open(partial, _NEW, 0o666)
        with open(descriptor, "w+b") as file:
            _keep_permissions(descriptor, target)
            write(file)
            file.flush()
            os.fsync(descriptor)
        os.replace(partial, target)
    except BaseException as error:
        with suppress(OSError):
            partial.unlink()
        if isinstance(error, OSError) and error.errno is not None:
            raise OSError(error.errno, error.strerror, os.fspath(path)) from error
        raise
    _sync_folder(target.parent)


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise OSError if it can be known that no file can be put there."""
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        raise FileNotFoundError(f"The folder of {path} does not exist. Make it first.")
    if not target.exists():
        wanted, what = target.parent, f"The folder of {path}"
    elif not stat.S_ISREG(target.stat().st_mode):
        raise FileExistsError(f"{path} is there and is no regular file. Give another path.")
    else:
        wanted, what = target, f"{path}"
    if not os.access(wanted, os.W_OK):
        raise PermissionError(f"{what} is read-only. Make it writable, or give another path.")


def _keep_permissions(descriptor: int, target: Path) -> None:
    if hasattr(os, "fchmod"):
        with suppress(FileNotFoundError):
            os.fchmod(descriptor, stat.S_IMODE(target.stat().st_mode))


def _sync_folder(folder: Path) -> None:
    """Let the new name survive a power failure, where folders can be opened."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
