"""How what Numba compiles calls the code of traced networks."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic, overload

from .code_folder import kept_on_disk
from .inputs import check_finite

__all__ = ["address_of", "call", "contiguous", "run"]


def contiguous(array: Any) -> Any:
    """The same numbers one after another; Numba takes long to compile a copy that is not needed."""
    return np.ascontiguousarray(array)


@overload(contiguous)
def _contiguous(array):
    if array.layout == "C":
        return lambda array: array
    return lambda array: np.ascontiguousarray(array)


@intrinsic
def call(typing_context: Any, address: Any, n: Any, shared: Any, arrays: Any) -> Any:
    """Call the function at an address, for n rows.

    ``arrays`` are theta, x, a direction, moments, weights, memory and two results, all contiguous.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        index, pointer = ir.IntType(64), ir.PointerType(ir.IntType(8))
        place, count, sharing, packed = arguments
        parts = zip(signature.args[3], cgutils.unpack_tuple(builder, packed), strict=True)
        given = [
            builder.bitcast(context.make_array(kind)(context, builder, array).data, pointer)
            for kind, array in parts
        ]
        kind = ir.FunctionType(ir.VoidType(), [index, index, *[pointer] * len(given)])
        function = builder.inttoptr(place, kind.as_pointer())
        builder.call(function, [count, builder.zext(sharing, index), *given])
        return context.get_dummy_value()

    return types.none(address, n, shared, arrays), generate


@kept_on_disk
@njit(nogil=True)
def run(code, whole, theta, x, along, moments, weights, memory, first, second):
    """The same for Python, to which the addresses of so many arrays would cost more.

    If ``x`` are ``whole`` observations, they must have no holes.
    """
    if whole:
        check_finite(x)
    room = np.empty(memory, np.uint8)
    given = (theta, x, along, moments, weights, room, first, second)
    call(code, len(x), len(theta) == 1, given)


def address_of(name: str) -> Any:
    """A compiled function without arguments that gives the address of code by its name."""

    @intrinsic
    def address(typing_context: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            kind = ir.FunctionType(ir.VoidType(), [])
            symbol = cgutils.get_or_insert_function(builder.module, kind, name)
            return builder.ptrtoint(symbol, ir.IntType(64))

        return types.int64(), generate

    return address
