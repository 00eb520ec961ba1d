"""What stands between the matrix products of a network in training, in one pass each.

For the backward pass a layer keeps the slope of its activation beside the value: both come of one
exponential. Rows lie one after another, ``(N, H)`` in single precision, and a vector holds
neighbors in a row.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache, partial
from typing import Any

from llvmlite import ir

from .traced.emitter import _at, _folded, _loop
from .traced.functions import Vectors
from .traced.machine import code_of
from .traced.vocabulary import ELEMENTWISE, Arithmetic

__all__ = ["LANES", "SLOPES", "Passes"]

LANES = 16  # numbers in a vector, of which a row must be a multiple
_INDEX, _POINTER, _NUMBER = ir.IntType(64), ir.PointerType(), ir.FloatType()
_EACH = 4  # bytes of a number
_VECTOR = LANES * _EACH

Value = Any

# Slopes by value and argument; names are ATen's, and so are further arguments torch's defaults.
SLOPES: dict[str, Callable[[Arithmetic, Value, Value], Value]] = {
    "silu": lambda a, x, y: ELEMENTWISE["silu_backward"](a, 1.0, x),
    "gelu": lambda a, x, y: ELEMENTWISE["gelu_backward"](a, 1.0, x),
    "tanh": lambda a, x, y: ELEMENTWISE["tanh_backward"](a, 1.0, y),
    "elu": lambda a, x, y: ELEMENTWISE["elu_backward"](a, 1.0, 1.0, 1.0, 1.0, False, x),
    "softplus": lambda a, x, y: ELEMENTWISE["softplus_backward"](a, 1.0, x, 1.0, 20.0),
    "relu": lambda a, x, y: ELEMENTWISE["threshold_backward"](a, 1.0, x, 0.0),
}


class _Pass:
    """A function that is being written: loops over rows, and over the vectors of a row."""

    def __init__(self, module: ir.Module, name: str, counts: int, pointers: int) -> None:
        kind = ir.FunctionType(ir.VoidType(), [_INDEX] * counts + [_POINTER] * pointers)
        self.function = ir.Function(module, kind, name)
        for argument in self.function.args[counts:]:
            argument.add_attribute("noalias")
        self.builder = ir.IRBuilder(self.function.append_basic_block("entry"))
        start = self.builder.append_basic_block("start")
        self.builder.branch(start)
        self.builder.position_at_end(start)
        self.vectors = Vectors(self.builder, _NUMBER, LANES)

    def compute(self, name: str, *values: Value) -> Value:
        """A primitive, of vectors and plain numbers."""
        plain = (self.vectors.constant(v) if isinstance(v, int | float) else v for v in values)
        if name == "sigmoid":
            return self._sigmoid(*plain)
        return getattr(self.vectors, name)(*plain)

    def _sigmoid(self, x: Value) -> Value:
        """Without the last digits of what is smaller than 1e-36."""
        v, one = self.vectors, self.vectors.constant(1.0)
        return v.div(one, v.add(one, v._quick_exp(v.neg(x))))

    def activated(self, activation: str, x: Value) -> tuple[Value, Value]:
        """Value and slope."""
        arithmetic = Arithmetic(self.compute)
        y = ELEMENTWISE[activation](arithmetic, x)
        return y, SLOPES[activation](arithmetic, x, y)

    def loop(self, count: Value) -> Any:
        """Code for each index below ``count``."""
        return _loop(self.builder, count)

    def row(self, width: Value) -> Any:
        """Code for each vector of a row: where it begins, in numbers."""
        return _loop(self.builder, width, LANES)

    def place(self, width: Value, row: Value, column: Value) -> Value:
        """The index of a number of a matrix."""
        return self.builder.add(self.builder.mul(row, width), column)

    def load(self, pointer: Value, index: Value) -> Value:
        """A vector from this number on."""
        place = _at(self.builder, pointer, index, _EACH)
        return self.builder.load(place, typ=self.vectors.type, align=_EACH)

    def number(self, pointer: Value, index: Value) -> Value:
        """One number in all of a vector."""
        place = _at(self.builder, pointer, index, _EACH)
        return self.vectors.broadcast(self.builder.load(place, typ=_NUMBER))

    def store(self, value: Value, pointer: Value, index: Value) -> None:
        """The inverse of `load`."""
        self.builder.store(value, _at(self.builder, pointer, index, _EACH), align=_EACH)


def _write_first(p: _Pass, activation: str) -> None:
    """``(n, K, D, H, theta, matrix, features, slopes, out)``: the first layer's value and slope.

    ``theta`` is ``(n * K, D)``, the matrix ``(D, H)``, and features ``(n, H)`` are added to all K.
    """
    n, each, inner, width, theta, matrix, features, slopes, out = p.function.args
    with p.loop(n) as i, p.loop(each) as k:
        r = p.place(each, i, k)
        with p.row(width) as j:
            (total,) = _folded(
                p.builder,
                inner,
                [p.load(features, p.place(width, i, j))],
                lambda d, totals: [
                    p.vectors.muladd(
                        p.number(theta, p.place(inner, r, d)),
                        p.load(matrix, p.place(width, d, j)),
                        totals[0],
                    )
                ],
            )
            value, slope = p.activated(activation, total)
            p.store(value, out, p.place(width, r, j))
            p.store(slope, slopes, p.place(width, r, j))


def _write_middle(p: _Pass, activation: str) -> None:
    """``(N, H, slopes, out)``: value and slope of what lies where the slopes go."""
    n, width, slopes, out = p.function.args
    with p.row(p.builder.mul(n, width)) as j:
        value, slope = p.activated(activation, p.load(slopes, j))
        p.store(value, out, j)
        p.store(slope, slopes, j)


def _write_bend(p: _Pass, activation: str) -> None:
    """``(n, K, H, gradients, slopes, sums)``: gradients ``(n * K, H)`` times slopes, in place.

    Sums ``(n, H)`` are those over K rows each.
    """
    n, each, width, gradients, slopes, sums = p.function.args

    def bent(r: Value, j: Value, total: Value) -> Value:
        place = p.place(width, r, j)
        value = p.vectors.mul(p.load(gradients, place), p.load(slopes, place))
        p.store(value, gradients, place)
        return p.vectors.add(total, value)

    with p.loop(n) as i, p.row(width) as j:
        start = [p.vectors.constant(0.0)]
        (total,) = _folded(
            p.builder, each, start, lambda k, totals: [bent(p.place(each, i, k), j, *totals)]
        )
        p.store(total, sums, p.place(width, i, j))


# With how many counts and addresses they take.
_PASSES = {
    "first": (_write_first, 4, 5),
    "middle": (_write_middle, 2, 2),
    "bend": (_write_bend, 3, 3),
}


class Passes:
    """Passes over torch's matrices, for one activation.

    All are contiguous, on the CPU and in single precision, and their rows are multiples of `LANES`.
    """

    def __init__(self, activation: str) -> None:
        self._first, self._middle, self._bend = (_function(name, activation) for name in _PASSES)

    def first(self, *arrays: Any) -> None:
        """Of theta ``(n * K, D)``, a matrix ``(D, H)`` and features ``(n, H)``.

        Slopes and values ``(n * K, H)`` are written to the other two.
        """
        theta, matrix, features, *_ = arrays
        n, each = len(features), len(theta) // len(features)
        self._first(n, each, *matrix.shape, *(array.data_ptr() for array in arrays))

    def middle(self, slopes: Any, values: Any) -> None:
        """Slopes and values of what lies where the slopes go, ``(N, H)``."""
        self._middle(*slopes.shape, slopes.data_ptr(), values.data_ptr())

    def bend(self, gradients: Any, slopes: Any, sums: Any) -> None:
        """Multiply gradients ``(n * K, H)`` by slopes; sums ``(n, H)`` are over K rows each."""
        n, width = sums.shape
        arrays = gradients, slopes, sums
        self._bend(n, len(slopes) // n, width, *(array.data_ptr() for array in arrays))


@cache
def _function(name: str, activation: str) -> Callable[..., None]:
    _, counts, pointers = _PASSES[name]
    full = f"pymc_nre_{name}_{activation}"
    code = code_of(full, partial(_text, name, full, activation))
    kind = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * counts, *[ctypes.c_void_p] * pointers)
    return kind(code.address)


def _text(name: str, full: str, activation: str) -> tuple[str, int]:
    """The text of a module, and the memory that its function needs."""
    module = ir.Module(name=full)
    write, counts, pointers = _PASSES[name]
    being_written = _Pass(module, full, counts, pointers)
    write(being_written, activation)
    being_written.builder.ret_void()
    return str(module), 0
