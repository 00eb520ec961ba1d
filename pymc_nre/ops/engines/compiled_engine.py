"""The engine of networks that could be traced: machine code that was made for them.

It knows the program alone. Moments, weights and a wall around the training domain are inputs, so
networks of one architecture share graphs and code.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numba
import numpy as np
from numba import types
from pytensor.graph.basic import Apply
from pytensor.link.numba.dispatch.basic import numba_njit

from ...estimators.evaluator import Evaluator
from ...kernels.compilation import call_by_name
from ...kernels.entries import address_of
from ...kernels.traced.evaluator import ENTRIES, CompiledEvaluator
from ...kernels.traced.program import Program
from ...kernels.traced.twin import JaxEvaluator
from ..ratio_ops import RatioOp
from ..wrappers import version
from .walled import Walled

__all__ = ["CompiledEngine"]


@dataclass(frozen=True)
class CompiledEngine:
    """Evaluates all networks of one program."""

    program: Program
    constants: ClassVar[int] = 3  # moments, weights, wall
    x_ndim: ClassVar[None] = None
    kept: ClassVar[None] = None  # weights are inputs of the graph

    @property
    def theta_size(self) -> int:
        """D, for which it was traced."""
        return self.program.size

    def evaluator(self, *constants: np.ndarray) -> CompiledEvaluator:
        """For moments, weights and a wall."""
        return CompiledEvaluator(self.program, *constants)

    def jax_evaluator(self, moments: Any, weights: Any, wall: Any) -> Evaluator:
        """What JAX compiles by itself."""
        evaluator = JaxEvaluator(self.program, moments, weights)
        return Walled(evaluator, wall) if wall.shape[0] else evaluator

    def for_numba(self, op: RatioOp, node: Apply, **kwargs: Any) -> tuple[Callable[..., Any], str]:
        """A call by name, with the address of the network's own code, which has a name too."""
        vectors = [
            types.Array(numba.from_dtype(np.dtype(v.dtype)), 1, "C") for v in node.inputs[2:5]
        ]
        matrices = (types.float64[:, ::1],) * (len(node.inputs) - 3)  # theta, x; v, if it has one
        arguments = (*matrices, types.boolean, types.int64, types.int64, *vectors)
        entry = call_by_name(ENTRIES[op.quantity], arguments)
        code = self.program.code(op.quantity, double=vectors[1].dtype == types.float64)
        address, memory = address_of(code.name), code.memory
        size, columns = self.program.size, self.program.columns
        whole = not self.program.embedded

        @numba_njit
        def rows_of(theta, x):
            if theta.shape[1] != size:  # the code would read whatever lies behind it
                raise ValueError("theta has another number of columns than the network.")
            return np.ascontiguousarray(theta), np.ascontiguousarray(x).reshape(len(x), columns)

        @numba_njit
        def ratio(theta, x, moments, weights, wall):
            t, rows = rows_of(theta, x)
            return entry((t, rows, whole, address(), memory, moments, weights, wall))

        @numba_njit
        def hessian_product(theta, x, moments, weights, wall, v):
            t, rows = rows_of(theta, x)
            if len(v) != len(x) or v.shape[1] != size:
                raise ValueError("v must have one row for each observation.")
            along = np.ascontiguousarray(v)
            return entry((t, rows, along, whole, address(), memory, moments, weights, wall))

        described = f"{code.name} {memory} {whole} {arguments} {version()}"
        key = hashlib.sha256(described.encode()).hexdigest()
        return (ratio if len(matrices) == 2 else hessian_product), key

    def __str__(self) -> str:
        return f"traced {self.program.digest[:8]}"
