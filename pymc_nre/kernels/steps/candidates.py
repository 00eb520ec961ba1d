"""The candidates of observations in a batch, standardized and side by side."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from .passes import Pass, compiled

__all__ = ["standardized_candidates"]


def standardized_candidates(
    theta: Any, rolls: int, near: Any, mean: Any, scale: Any, rows: Any
) -> None:
    """Parameters ``(n, D)``, those of the next ``rolls`` observations, and ``(n, B, D)`` near them.

    Less means and over scales ``(D,)`` they are written to rows, ``(n * K, D)``.
    """
    n, size = theta.shape
    beside = 0 if near is None else near.shape[1]
    arrays = theta, theta if near is None else near, mean, scale, rows
    _candidates()(n, rolls + 1, beside, size, *(array.data_ptr() for array in arrays))


def _write(p: Pass) -> None:
    """``(n, far, near, D, theta, near, mean, scale, rows)``."""
    n, far, beside, size, theta, near, mean, scale, rows = p.function.args
    b, v = p.builder, p.one_by_one()
    each = b.add(far, beside)

    def put(values: Any, place: Any, i: Any, k: Any, d: Any) -> None:
        value = v.div(v.sub(p.load(values, place), p.load(mean, d)), p.load(scale, d))
        p.store(value, rows, p.place(size, p.place(each, i, k), d))

    with p.loop(n) as i:
        with p.loop(far) as k, p.loop(size) as d:
            other = b.srem(b.add(i, k), n)
            put(theta, p.place(size, other, d), i, k, d)
        with p.loop(beside) as k, p.loop(size) as d:
            place = p.place(size, p.place(beside, i, k), d)
            put(near, place, i, b.add(far, k), d)


@cache
def _candidates() -> Callable[..., None]:
    return compiled("pymc_nre_candidates", _write, 4, 5)
