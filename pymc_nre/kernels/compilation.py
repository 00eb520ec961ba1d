"""How functions are compiled, and how others call them by name.

Numba copies the code of whatever a function calls into that function, and optimizes all of it
again. PyTensor wraps an Op in four more functions, so a kernel would be optimized five times,
and four of them in every new model. What is called by name is compiled once: the caller holds
a name, which is looked up when it is loaded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite.binding
import numba
from numba import types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.extending import intrinsic

__all__ = ["call_by_name", "inner", "outer", "sources", "version"]

_OPTIONS = {
    "nogil": True,
    "error_model": "numpy",
    # Sums may be reordered, which vectorizes them; NaN and infinity keep their meaning.
    "fastmath": {"contract", "nsz", "arcp", "reassoc"},
}
# Python calls the outer functions only; to compile what would let it call others takes time.
inner = numba.njit(**_OPTIONS, no_cpython_wrapper=True, no_cfunc_wrapper=True)
outer = numba.njit(**_OPTIONS, cache=True)


@cache
def sources() -> str:
    """A digest of the package: compiled code that others keep on disk is good for this one."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


def version() -> int:
    """The same as a number, which PyTensor takes for an Op's compiled code."""
    return int(sources(), 16)


@cache
def call_by_name(function: Callable[..., Any], arguments: tuple[types.Type, ...]) -> Any:
    """Compile an outer function, or load it from disk, and return how to call it by name.

    Parameters
    ----------
    function : callable
        Made by `outer`.
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
    if not isinstance(wanted, types.Array):
        return value == wanted
    return isinstance(value, types.Array) and all(
        getattr(value, name) == getattr(wanted, name) for name in ("dtype", "ndim", "layout")
    )
