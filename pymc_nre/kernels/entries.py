"""Compiled functions around the code of traced networks: checks, the wall, a call by address."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .compilation import jit_entry
from .inputs import check, row_of
from .traced.emitter import ALIGNED
from .wall import bend_back, confined, lowered, push_back, within

__all__ = ["address_of", "hessian_product", "value", "value_and_gradient"]


@jit_entry
def value(theta, x, whole, code, memory, moments, weights, wall):
    """Log ratios ``(n,)``, behind the wall around the training domain.

    Parameters
    ----------
    theta : array, shape (1 or n, D)
    x : array, shape (n, F)
        Features, or observations.
    whole : bool
        Whether those are observations, which must have no holes.
    code : int
        The address of the function.
    memory : int
        Bytes that it needs.
    moments : array, shape (M,)
        In double precision.
    weights : array, shape (W,)
        In the precision of the function.
    wall : array, shape (Q,)
        As `pymc_nre.kernels.wall.confined` takes it.

    Raises
    ------
    ValueError
        If observations have holes, or theta the wrong number of rows.
    """
    check(theta, x, whole)
    at, heights = confined(theta, wall)
    values = np.empty(len(x))
    room = np.empty(memory + ALIGNED, np.uint8)
    _call(code, len(x), len(theta) == 1, at, x, x, moments, weights, room, values, values)
    for i in range(len(x)):
        values[i] = lowered(values[i], heights[row_of(theta, i)])
    return values


@jit_entry
def value_and_gradient(theta, x, whole, code, memory, moments, weights, wall):
    """Log ratios ``(n,)`` and, row by row, their gradients in theta, ``(n, D)``."""
    check(theta, x, whole)
    at, heights = confined(theta, wall)
    values, gradients = np.empty(len(x)), np.empty((len(x), theta.shape[1]))
    room = np.empty(memory + ALIGNED, np.uint8)
    _call(code, len(x), len(theta) == 1, at, x, x, moments, weights, room, values, gradients)
    for i in range(len(x)):
        values[i] = lowered(values[i], heights[row_of(theta, i)])
    push_back(theta, heights, wall, gradients)
    return values, gradients


@jit_entry
def hessian_product(theta, x, v, whole, code, memory, moments, weights, wall):
    """Row by row, the Hessian in theta of the log ratio times ``v``, ``(n, D)``."""
    check(theta, x, whole)
    at, heights = confined(theta, wall)
    along = within(theta, at, heights, v)
    products = np.empty(v.shape)
    room = np.empty(memory + ALIGNED, np.uint8)
    _call(code, len(x), len(theta) == 1, at, x, along, moments, weights, room, products, products)
    bend_back(theta, heights, wall, v, products)
    return products


@intrinsic
def _call(
    typing_context: Any,
    code: Any,
    n: Any,
    shared: Any,
    theta: Any,
    x: Any,
    along: Any,
    moments: Any,
    weights: Any,
    room: Any,
    first: Any,
    second: Any,
) -> Any:
    """Call the function at an address, with memory that is aligned."""
    kinds = (code, n, shared, theta, x, along, moments, weights, room, first, second)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        index, pointer = ir.IntType(64), ir.PointerType(ir.IntType(8))

        def data(kind: Any, array: Any) -> Any:
            begin = context.make_array(kind)(context, builder, array).data
            return builder.ptrtoint(begin, index)

        address, count, sharing, *arrays = arguments
        pairs = zip(signature.args[3:], arrays, strict=True)
        at = [data(kind, array) for kind, array in pairs]
        room = at[5]
        up = builder.add(room, ir.Constant(index, ALIGNED - 1))
        at[5] = builder.and_(up, ir.Constant(index, -ALIGNED))
        kind = ir.FunctionType(ir.VoidType(), [index, index, *[pointer] * len(at)])
        function = builder.inttoptr(address, kind.as_pointer())
        given = [builder.inttoptr(place, pointer) for place in at]
        builder.call(function, [count, builder.zext(sharing, index), *given])
        return context.get_dummy_value()

    return types.none(*kinds), generate


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
