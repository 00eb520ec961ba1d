"""Where machine code is kept on disk, and what it is good for.

It lies where Numba would keep it: beside the package, or else in the user's home; or where the
environment variable NUMBA_CACHE_DIR says. It is good for one state of the package.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from numba.core.caching import CompileResultCacheImpl, FunctionCache

__all__ = ["code_folder", "digest_of", "kept_on_disk", "sources", "tell_that_nothing_is_kept"]

_log = logging.getLogger("pymc_nre")
_NO_PLACE = "neither the package nor the home can be written"


class _Files(CompileResultCacheImpl):
    """Numba's files, stamped with all the sources that may have gone into what they hold."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        own_file = self.locator.get_source_stamp()
        self.locator.get_source_stamp = lambda: (own_file, sources())


class _Kept(FunctionCache):
    """What cannot be read is compiled, and what cannot be written is compiled again next time."""

    _impl_class = _Files

    def load_overload(self, *signature: Any) -> Any:
        try:
            return super().load_overload(*signature)
        except OSError:
            return None
        except Exception:  # whatever comes of a file that was cut off
            with suppress(OSError):
                self.flush()
            return None

    def save_overload(self, *compiled: Any) -> None:
        try:
            super().save_overload(*compiled)
        except OSError as error:
            tell_that_nothing_is_kept(error.strerror or "an error of the disk")


def kept_on_disk(compiled: Any) -> Any:
    """Keep what Numba makes of a function: ``cache=True`` with another stamp, and no error."""
    try:
        compiled._cache = _Kept(compiled.py_func)
    except RuntimeError:  # Numba's
        tell_that_nothing_is_kept(_NO_PLACE)
    return compiled


@cache
def code_folder() -> Path | None:
    """The folder; None if there is no place for one."""
    try:
        files = _Files(code_folder.__wrapped__)
    except RuntimeError:
        tell_that_nothing_is_kept(_NO_PLACE)
        return None
    return Path(files.locator.get_cache_path())


@cache
def tell_that_nothing_is_kept(reason: str) -> None:
    """Once for each reason."""
    _log.warning(
        "Compiled code cannot be kept on disk (%s), so each process compiles for itself, which "
        "takes seconds. Let the environment variable NUMBA_CACHE_DIR name a folder that can be "
        "written.",
        reason,
    )


def digest_of(*folders: Path) -> str:
    """A digest of the Python sources in folders and in what lies in them."""
    digest = hashlib.sha256()
    for folder in folders:
        for file in sorted(folder.rglob("*.py")):
            digest.update(f"{file.relative_to(folder)} {file.stat().st_size} ".encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


@cache
def sources() -> str:
    """A digest of this package: machine code on disk is good for this one."""
    return digest_of(Path(__file__).parent)
