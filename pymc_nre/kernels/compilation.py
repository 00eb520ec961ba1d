"""How functions are compiled, and how others call them by name.

Numba copies the code of whatever a function calls into that function, and optimizes all of it
again. PyTensor wraps an Op in four more functions, so a kernel would be optimized five times,
and four of them in every new model. What is called by name is compiled once: the caller holds
a name, which is looked up when it is loaded.

What is compiled stays on disk. Numba takes it for fresh as long as the file of the function is the
same, but its code holds that of other files too. So here it is good for one state of the package.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite.binding
import numba
from numba import types
from numba.core import cgutils
from numba.core.caching import CompileResultCacheImpl, FunctionCache
from numba.core.errors import TypingError
from numba.extending import intrinsic

__all__ = ["call_by_name", "code_folder", "digest_of", "jit_entry", "jit_inline", "sources"]

_log = logging.getLogger("pymc_nre")
_OPTIONS = {
    "nogil": True,
    "error_model": "numpy",
    # Sums may be reordered, which vectorizes them; NaN and infinity keep their meaning.
    "fastmath": {"contract", "nsz", "arcp", "reassoc"},
}
# Python calls the entries only; to compile what would let it call others takes time.
jit_inline = numba.njit(**_OPTIONS, no_cpython_wrapper=True, no_cfunc_wrapper=True)


def jit_entry(function: Callable[..., Any]) -> Any:
    """Compile a function that Python calls, and keep its code on disk."""
    compiled = numba.njit(**_OPTIONS)(function)
    try:
        compiled._cache = _Cache(function)  # what `cache=True` does, with another stamp
    except RuntimeError:  # numba's, if neither the package nor the home can be written
        _tell_that_nothing_is_kept("neither the package nor the home can be written")
    return compiled


@cache
def _tell_that_nothing_is_kept(reason: str) -> None:
    """Once for each reason."""
    _log.warning(
        "Compiled code cannot be kept on disk (%s), so each process compiles for itself, which "
        "takes seconds. Let the environment variable NUMBA_CACHE_DIR name a folder that can be "
        "written.",
        reason,
    )


class _CacheFiles(CompileResultCacheImpl):
    """Where code is kept, and stamped with all the sources that may have gone into it."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        own_file = self.locator.get_source_stamp()
        self.locator.get_source_stamp = lambda: (own_file, sources())


@cache
def code_folder() -> Path | None:
    """Where machine code of this package is kept; None if there is no such place."""
    try:
        files = _CacheFiles(code_folder.__wrapped__)
    except RuntimeError:
        _tell_that_nothing_is_kept("neither the package nor the home can be written")
        return None
    return Path(files.locator.get_cache_path())


class _Cache(FunctionCache):
    """What cannot be read is compiled, and what cannot be written is compiled again next time."""

    _impl_class = _CacheFiles

    def load_overload(self, *signature: Any) -> Any:
        try:
            return super().load_overload(*signature)
        except OSError:
            return None

    def save_overload(self, *compiled: Any) -> None:
        try:
            super().save_overload(*compiled)
        except OSError as error:
            _tell_that_nothing_is_kept(error.strerror or "an error of the disk")


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


@cache
def call_by_name(function: Callable[..., Any], arguments: tuple[types.Type, ...]) -> Any:
    """Compile an entry, or load it from disk, and return how to call it by name.

    Parameters
    ----------
    function : callable
        Made by `jit_entry`.
    arguments : tuple of numba type
        The types of its arguments.

    Returns
    -------
    callable
        For compiled code; takes the arguments as one tuple, which may hold read-only arrays.
    """
    function.compile(arguments)
    compiled = function.overloads[arguments]
    described = f"{function.py_func.__qualname__} {arguments} {sources()}"
    name = f"pymc_nre_{hashlib.sha256(described.encode()).hexdigest()[:16]}"
    address = compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name)
    llvmlite.binding.add_symbol(name, address)
    result = compiled.signature.return_type

    @intrinsic
    def call(typing_context: Any, values: Any) -> Any:
        if not all(map(_fits, values.types, arguments)):
            raise TypingError(f"{name} takes {arguments}, got {values.types}")

        def generate(context: Any, builder: Any, signature: Any, packed: Any) -> Any:
            convention = context.call_conv
            kind = convention.get_function_type(result, arguments)
            symbol = cgutils.get_or_insert_function(builder.module, kind, name)
            unpacked = cgutils.unpack_tuple(builder, packed[0])
            status, value = convention.call_function(builder, symbol, result, arguments, unpacked)
            with cgutils.if_unlikely(builder, status.is_error):
                convention.return_status_propagate(builder, status)
            return value

        return result(values), generate

    return call


def _fits(value: types.Type, wanted: types.Type) -> bool:
    """Whether a value is laid out as wanted; it may be read-only, which kernels respect."""
    if isinstance(wanted, types.NamedTuple):
        same = getattr(value, "instance_class", None) is wanted.instance_class
        return same and all(map(_fits, value.types, wanted.types))
    if not isinstance(wanted, types.Array):
        return value == wanted
    return isinstance(value, types.Array) and all(
        getattr(value, name) == getattr(wanted, name) for name in ("dtype", "ndim", "layout")
    )
