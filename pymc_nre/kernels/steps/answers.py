"""What questions about logits cost, and the slopes of that, in one pass.

A question has several answers, the first of them true, as `pymc_nre.losses.questions` says. Here a
vector holds neighboring observations, whose logits go through all questions in registers.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from .passes import LANES, Pass, Value, compiled

__all__ = ["Answers"]


class Answers:
    """Questions, as machine code takes them.

    Parameters
    ----------
    columns : array of int, shape (Q, A)
        The logit of each answer; one more than the last is zero.
    constants : array, shape (Q, A)
        Are added; minus infinity where a question has fewer answers than others.
    weights : array, shape (Q,)
    logits : int
        K.
    """

    def __init__(
        self, columns: np.ndarray, constants: np.ndarray, weights: np.ndarray, logits: int
    ) -> None:
        self.shape, self.logits = columns.shape, logits
        self._columns = np.ascontiguousarray(columns, np.int64)
        self._constants = np.ascontiguousarray(constants, np.float32)
        self._weights = np.ascontiguousarray(weights, np.float32)
        self._room = np.empty((2 * logits + 2 + 2 * columns.shape[1], LANES), np.float32)
        arrays = self._columns, self._constants, self._weights, self._room
        self._given = [array.ctypes.data for array in arrays]

    def __call__(self, s: Any, log_prior: Any, slopes: Any) -> float:
        """The loss of logits ``(n, K)``; its slopes are written to another such matrix.

        ``log_prior``, ``(n, B)``, is added to the answers of the last question.
        """
        sums = (ctypes.c_float * LANES)()
        beside = 0 if log_prior is None else log_prior.shape[1]
        arrays = s, slopes if log_prior is None else log_prior, slopes
        addresses = (array.data_ptr() for array in arrays)
        _answer()(len(s), self.logits, *self.shape, beside, *addresses, *self._given, sums)
        return sum(sums) / len(s)


def _write(p: Pass) -> None:
    """``(n, K, Q, A, B, s, log_prior, slopes, columns, constants, weights, room, sums)``."""
    n, logits, asked, answers, beside, s, log_prior, slopes, *given, room, sums = p.function.args
    columns, constants, weights = given
    b, v = p.builder, p.vectors
    zero, one = p.constant_index(0), p.constant_index(1)
    # Vectors of logits and slopes, each with one more for "none"; of answers, and of the prior.
    of_slopes = b.add(logits, one)
    of_answers = b.add(of_slopes, of_slopes)
    of_prior = b.add(of_answers, answers)

    def place(k: Value) -> Value:
        return b.mul(k, p.constant_index(LANES))

    def at_room(begin: Value, k: Value) -> Value:
        return p.load(room, place(b.add(begin, k)))

    def keep(value: Value, begin: Value, k: Value) -> None:
        p.store(value, room, place(b.add(begin, k)))

    last = b.sub(asked, one)
    with p.row(n) as i:
        rows = p.rows(i, n)
        with p.loop(of_slopes) as k:
            keep(v.constant(0.0), zero, k)
            keep(v.constant(0.0), of_slopes, k)
        with p.loop(answers) as k:
            keep(v.constant(0.0), of_prior, k)
        with p.loop(logits) as k:
            keep(p.gather(s, rows, logits, k), zero, k)
        with p.loop(beside) as k:
            keep(p.gather(log_prior, rows, beside, k), of_prior, k)
        with p.loop(asked) as q:
            weight = p.number(weights, q)
            is_last = b.icmp_signed("==", q, last)

            def answer(a: Value, q: Value = q, is_last: Value = is_last) -> Value:
                index = p.place(answers, q, a)
                prior = b.select(is_last, at_room(of_prior, a), v.constant(0.0))
                known = v.add(p.number(constants, index), prior)
                return v.add(at_room(zero, p.entry(columns, index)), known)

            truth = answer(zero)
            (largest,) = p.fold(answers, [truth], lambda a, m: [v.max(*m, answer(a))])

            def share(a: Value, total: Value, largest: Value = largest) -> Value:
                value = v.exp(v.sub(answer(a), largest))
                keep(value, of_answers, a)
                return v.add(total, value)

            (total,) = p.fold(answers, [v.constant(0.0)], lambda a, t: [share(a, *t)])
            cost = v.mul(weight, v.sub(v.add(v.log(total), largest), truth))
            known = v.select(p.are_below(i, n), cost, v.constant(0.0))
            p.store(v.add(p.load(sums, zero), known), sums, zero)
            with p.loop(answers) as a:
                true = b.select(b.icmp_signed("==", a, zero), v.constant(1.0), v.constant(0.0))
                wrong = v.sub(v.div(at_room(of_answers, a), total), true)
                column = p.entry(columns, p.place(answers, q, a))
                slope = v.muladd(weight, wrong, at_room(of_slopes, column))
                keep(slope, of_slopes, column)
        with p.loop(logits) as k:
            p.scatter(v.div(at_room(of_slopes, k), p.as_number(n)), slopes, rows, logits, k)


@cache
def _answer() -> Callable[..., None]:
    return compiled("pymc_nre_answer", _write, 5, 8)
