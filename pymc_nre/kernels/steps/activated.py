"""What stands between the matrix products of a network in training, in one pass each.

For the backward pass a layer keeps the slope of its activation beside the value: both come of one
exponential.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

from ..traced.vocabulary import ELEMENTWISE, Arithmetic
from .passes import Pass, Value, compiled

__all__ = ["SLOPES", "Passes"]

# Slopes by value and argument; names are ATen's, and so are further arguments torch's defaults.
SLOPES: dict[str, Callable[[Arithmetic, Value, Value], Value]] = {
    "silu": lambda a, x, y: ELEMENTWISE["silu_backward"](a, 1.0, x),
    "gelu": lambda a, x, y: ELEMENTWISE["gelu_backward"](a, 1.0, x),
    "tanh": lambda a, x, y: ELEMENTWISE["tanh_backward"](a, 1.0, y),
    "elu": lambda a, x, y: ELEMENTWISE["elu_backward"](a, 1.0, 1.0, 1.0, 1.0, False, x),
    "softplus": lambda a, x, y: ELEMENTWISE["softplus_backward"](a, 1.0, x, 1.0, 20.0),
    "relu": lambda a, x, y: ELEMENTWISE["threshold_backward"](a, 1.0, x, 0.0),
}


def _activated(p: Pass, activation: str, x: Value) -> tuple[Value, Value]:
    """Value and slope."""
    arithmetic = Arithmetic(p.compute)
    y = ELEMENTWISE[activation](arithmetic, x)
    return y, SLOPES[activation](arithmetic, x, y)


def _write_first(p: Pass, activation: str) -> None:
    """``(n, K, D, H, theta, matrix, features, slopes, out)``: the first layer's value and slope.

    ``theta`` is ``(n * K, D)``, the matrix ``(D, H)``, and features ``(n, H)`` are added to all K.
    """
    n, each, inner, width, theta, matrix, features, slopes, out = p.function.args
    with p.loop(n) as i, p.loop(each) as k:
        r = p.place(each, i, k)
        with p.row(width) as j:
            (total,) = p.fold(
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
            value, slope = _activated(p, activation, total)
            p.store(value, out, p.place(width, r, j))
            p.store(slope, slopes, p.place(width, r, j))


def _write_middle(p: Pass, activation: str) -> None:
    """``(N, H, slopes, out)``: value and slope of what lies where the slopes go."""
    n, width, slopes, out = p.function.args
    with p.row(p.builder.mul(n, width)) as j:
        value, slope = _activated(p, activation, p.load(slopes, j))
        p.store(value, out, j)
        p.store(slope, slopes, j)


def _write_bend(p: Pass, activation: str) -> None:
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
        (total,) = p.fold(each, start, lambda k, totals: [bent(p.place(each, i, k), j, *totals)])
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
    write, counts, pointers = _PASSES[name]
    write = partial(write, activation=activation)
    return compiled(f"pymc_nre_{name}_{activation}", write, counts, pointers)
