"""The engine for networks of the known family: the compiled kernels.

It knows the program alone. What makes it a particular ratio are three inputs: ``moments``,
``weights`` and ``wall``, around the training domain (empty: there is none).
So graphs of two networks of one architecture are compiled to the same code.
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
from ...kernels.evaluator import KERNELS, CompiledEvaluator
from ...kernels.jax_kernels import JaxEvaluator
from ...kernels.program import Program
from ..ratio_ops import RatioOp
from ..wrappers import version
from .walled import Walled

__all__ = ["CompiledEngine"]


@dataclass(frozen=True)
class CompiledEngine:
    """Evaluates all networks of one program."""

    program: Program
    constants: ClassVar[int] = 3  # moments, weights, wall
    theta_size: ClassVar[None] = None  # a program serves any number of parameters
    x_ndim: ClassVar[None] = None
    kept: ClassVar[None] = None  # weights are inputs of the graph

    def evaluator(self, *constants: np.ndarray) -> CompiledEvaluator:
        """For moments, weights and a wall."""
        return CompiledEvaluator(self.program, *constants)

    def jax_evaluator(self, moments: Any, weights: Any, wall: Any) -> Evaluator:
        """What JAX compiles by itself."""
        evaluator = JaxEvaluator(self.program, moments, weights)
        return Walled(evaluator, wall) if wall.shape[0] else evaluator

    def for_numba(self, op: RatioOp, node: Apply, **kwargs: Any) -> tuple[Callable[..., Any], str]:
        """The call of a kernel by name."""
        program, rows_of = self.program.instructions, self._rows_of()
        vectors = (
            types.Array(numba.from_dtype(np.dtype(v.dtype)), 1, "C") for v in node.inputs[2:5]
        )
        matrices = (types.float64[:, ::1],) * (len(node.inputs) - 3)  # theta, x; v, if it has one
        arguments = (*matrices, numba.typeof(program), *vectors)
        kernel = call_by_name(KERNELS[op.quantity], arguments)

        @numba_njit
        def ratio(theta, x, moments, weights, wall):
            t = np.ascontiguousarray(theta)
            return kernel((t, rows_of(x), program, moments, weights, wall))

        @numba_njit
        def hessian_product(theta, x, moments, weights, wall, v):
            t, along = np.ascontiguousarray(theta), np.ascontiguousarray(v)
            if len(v) != len(x):  # the kernel would read whatever lies behind it
                raise ValueError("v must have one row for each observation.")
            return kernel((t, rows_of(x), along, program, moments, weights, wall))

        described = f"{op.quantity} {self.program} {arguments} {version()}"
        key = hashlib.sha256(described.encode()).hexdigest()
        return (ratio if len(matrices) == 2 else hessian_product), key

    def _rows_of(self) -> Callable[[np.ndarray], np.ndarray]:
        """A compiled function that flattens observations to rows."""
        columns = self.program.columns
        return numba_njit(lambda x: np.ascontiguousarray(x).reshape(len(x), columns))

    def __str__(self) -> str:
        return f"{self.program.activation}, {len(self.program.steps)} steps"
