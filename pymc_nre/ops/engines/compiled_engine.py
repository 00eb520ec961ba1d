"""The engine of networks that could be traced: machine code that was made for them.

It knows the program alone. Moments and weights are inputs, so networks of one architecture share
graphs and code.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from pytensor.graph.basic import Apply
from pytensor.link.numba.dispatch.basic import numba_njit

from ...estimators.evaluator import Evaluator
from ...kernels.entries import address_of, call, contiguous
from ...kernels.inputs import check_finite
from ...kernels.traced.evaluator import CompiledEvaluator
from ...kernels.traced.program import Program
from ...kernels.traced.twin import JaxEvaluator
from ..ratio_ops import RatioOp
from ..wrappers import version

__all__ = ["CompiledEngine"]


@dataclass(frozen=True)
class CompiledEngine:
    """Evaluates all networks of one program."""

    program: Program
    constants: ClassVar[int] = 2  # moments, weights
    x_ndim: ClassVar[None] = None
    kept: ClassVar[None] = None  # weights are inputs of the graph

    @property
    def theta_size(self) -> int:
        """D, for which it was traced."""
        return self.program.size

    def evaluator(self, *constants: np.ndarray) -> CompiledEvaluator:
        """For moments and weights."""
        return CompiledEvaluator(self.program, *constants)

    def jax_evaluator(self, *constants: Any) -> Evaluator:
        """What JAX compiles by itself."""
        return JaxEvaluator(self.program, *constants)

    def for_numba(self, op: RatioOp, node: Apply, **kwargs: Any) -> tuple[Callable[..., Any], str]:
        """A call of the network's code by its name."""
        code = self.program.code(op.quantity, double=node.inputs[3].dtype == "float64")
        # The name tells the quantity, the precision and the program.
        key = hashlib.sha256(f"{code.name} {code.memory} {version()}".encode()).hexdigest()
        rows_of = _rows_of(self.program)
        return _CALLS[op.quantity](rows_of, address_of(code.name), code.memory), key

    def __str__(self) -> str:
        return f"traced {self.program.digest[:8]}"


def _rows_of(program: Program) -> Callable[..., Any]:
    size, columns, whole = program.size, program.columns, not program.embedded
    wanted = f"theta must have {size} columns and one row, or one for each observation."

    @numba_njit
    def rows_of(theta, x):
        n = len(x)
        # The code would read whatever lies behind it.
        fits = theta.shape[1] == size and (len(theta) == 1 or len(theta) == n)
        if not fits or x.size != n * columns:
            raise ValueError(wanted)
        rows = contiguous(x)
        if whole:
            check_finite(rows)
        return contiguous(theta), rows

    return rows_of


def _value(rows_of: Any, address: Any, memory: int) -> Callable[..., Any]:
    @numba_njit
    def value(theta, x, moments, weights):
        t, rows = rows_of(theta, x)
        values, room = np.empty(len(x)), np.empty(memory, np.uint8)
        given = (t, rows, rows, moments, weights, room, values, values)
        call(address(), len(x), len(t) == 1, given)
        return values

    return value


def _value_and_gradient(rows_of: Any, address: Any, memory: int) -> Callable[..., Any]:
    @numba_njit
    def value_and_gradient(theta, x, moments, weights):
        t, rows = rows_of(theta, x)
        values, gradients = np.empty(len(x)), np.empty((len(x), theta.shape[1]))
        room = np.empty(memory, np.uint8)
        given = (t, rows, rows, moments, weights, room, values, gradients)
        call(address(), len(x), len(t) == 1, given)
        return values, gradients

    return value_and_gradient


def _hessian_product(rows_of: Any, address: Any, memory: int) -> Callable[..., Any]:
    @numba_njit
    def hessian_product(theta, x, moments, weights, v):
        t, rows = rows_of(theta, x)
        if len(v) != len(x) or v.shape[1] != theta.shape[1]:
            raise ValueError("v must have one row for each observation.")
        along, products = contiguous(v), np.empty(v.shape)
        room = np.empty(memory, np.uint8)
        given = (t, rows, along, moments, weights, room, products, products)
        call(address(), len(x), len(t) == 1, given)
        return products

    return hessian_product


_CALLS = {
    "value": _value,
    "value_and_gradient": _value_and_gradient,
    "hessian_product": _hessian_product,
}
