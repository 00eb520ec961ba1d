"""Steps of AdamW for all weights of a network at once.

Weights, gradients and moments are many small arrays. A function is given the addresses of all, so
that none of them has to be called for by itself.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from .passes import LANES, Pass, compiled

__all__ = ["Arrays", "descend", "sum_of_squares"]

_NUMBERS = 7  # that a step depends on


class Arrays:
    """Addresses and sizes of arrays, which must go on to exist."""

    def __init__(self, tensors: Sequence[Any]) -> None:
        self.count = len(tensors)
        kind = ctypes.c_int64 * self.count
        self.addresses = kind(*(tensor.data_ptr() for tensor in tensors))
        self.sizes = kind(*(tensor.numel() for tensor in tensors))


def sum_of_squares(arrays: Arrays) -> float:
    """Of all their numbers."""
    sums = (ctypes.c_float * LANES)()
    _squares()(arrays.count, arrays.sizes, arrays.addresses, sums)
    return sum(sums)


def descend(
    weights: Arrays,
    gradients: Arrays,
    means: Arrays,
    squares: Arrays,
    *,
    step: int,
    rate: float,
    weight_decay: float,
    betas: tuple[float, float],
    epsilon: float,
) -> None:
    """Move weights and moments, in place; ``step`` counts from one."""
    first, second = betas
    numbers = (ctypes.c_float * _NUMBERS)(
        1 - rate * weight_decay,
        1 - first,
        second,
        1 - second,
        (1 - second**step) ** -0.5,
        epsilon,
        rate / (1 - first**step),
    )
    addresses = (each.addresses for each in (weights, gradients, means, squares))
    _step()(weights.count, weights.sizes, *addresses, numbers)


def _write_squares(p: Pass) -> None:
    """``(count, sizes, arrays, sums)``: squares are added to as many sums as a vector has."""
    count, sizes, arrays, sums = p.function.args
    zero = p.constant_index(0)
    with p.loop(count) as i:
        array = p.array(arrays, i)

        def add(j: Any) -> None:
            value = p.load(array, j)
            p.store(p.vectors.muladd(value, value, p.load(sums, zero)), sums, zero)

        p.each(p.entry(sizes, i), add)


def _write_step(p: Pass) -> None:
    """``(count, sizes, weights, gradients, means, squares, numbers)``."""
    count, sizes, *arrays, numbers = p.function.args
    with p.loop(count) as i:
        weights, gradients, means, squares = (p.array(each, i) for each in arrays)

        def move(j: Any) -> None:
            v = p.vectors
            keep, new, decay, add, correct, epsilon, far = (
                p.number(numbers, p.constant_index(k)) for k in range(_NUMBERS)
            )
            g, mean = p.load(gradients, j), p.load(means, j)
            mean = v.muladd(new, v.sub(g, mean), mean)
            square = v.muladd(v.mul(add, g), g, v.mul(decay, p.load(squares, j)))
            p.store(mean, means, j)
            p.store(square, squares, j)
            direction = v.div(mean, v.muladd(v.sqrt(square), correct, epsilon))
            weight = v.mul(keep, p.load(weights, j))
            p.store(v.sub(weight, v.mul(far, direction)), weights, j)

        p.each(p.entry(sizes, i), move)


@cache
def _squares() -> Callable[..., None]:
    return compiled("pymc_nre_squares", _write_squares, 1, 3)


@cache
def _step() -> Callable[..., None]:
    return compiled("pymc_nre_descend", _write_step, 1, 6)
