"""Evaluate traced networks, NumPy in and out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..evaluator import plain
from . import entries
from .program import TracedProgram

__all__ = ["ENTRIES", "TracedEvaluator"]

ENTRIES: dict[str, Callable[..., Any]] = {
    "value": entries.value,
    "value_and_gradient": entries.value_and_gradient,
    "hessian_product": entries.hessian_product,
}


@dataclass(eq=False, slots=True)
class TracedEvaluator:
    """Log ratios and derivatives of a traced network.

    Parameters
    ----------
    program : TracedProgram
    weights : ndarray, shape (W,)
        Its precision is that of the computation.
    wall : ndarray, shape (Q,)
        What `Wall.to_vector` gives; empty if there is none.

    Notes
    -----
    Below, ``theta`` is ``(n, D)``, or ``(1, D)`` where all observations share it, and ``x`` is
    features ``(n, F)``; both float64.
    """

    program: TracedProgram
    weights: np.ndarray
    wall: np.ndarray

    def value(self, theta: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Log ratios ``(n,)``."""
        return self._run("value", theta, x)

    def value_and_gradient(self, theta: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Log ratios ``(n,)`` and their gradients in theta, ``(n, D)``, row by row."""
        return self._run("value_and_gradient", theta, x)

    def hessian_product(self, theta: np.ndarray, x: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Row by row, the Hessian in theta times ``v``; both ``(n, D)``."""
        return self._run("hessian_product", theta, x, v)

    def _run(self, quantity: str, theta: np.ndarray, x: np.ndarray, *v: np.ndarray) -> Any:
        program = self.program
        if theta.shape[1] != program.size:  # the code would read what lies behind it
            raise ValueError(f"theta has {theta.shape[1]} columns; expected {program.size}.")
        if any(along.shape != (len(x), program.size) for along in v):
            raise ValueError(f"v has shape {v[0].shape}; expected {(len(x), program.size)}.")
        rows = x.reshape(len(x), program.columns)
        code = program.code(quantity, double=self.weights.dtype == np.float64)
        given = [plain(np.asarray(array, dtype=np.float64)) for array in (theta, rows, *v)]
        return ENTRIES[quantity](*given, code.address, code.memory, self.weights, self.wall)
