"""Evaluate traced networks, NumPy in and out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..entries import run
from .program import Program

__all__ = ["CompiledEvaluator", "Traced"]


@dataclass(frozen=True)
class Traced:
    """A network as a program and constants, in double precision.

    Attributes
    ----------
    program : Program
    moments : ndarray, shape (M,)
        What is taken off parameters and observations.
    weights : ndarray, shape (W,)
        All other constants.
    """

    program: Program
    moments: np.ndarray
    weights: np.ndarray


@dataclass(eq=False, slots=True)
class CompiledEvaluator:
    """Log ratios and derivatives of a traced network.

    Parameters
    ----------
    program : Program
    moments, weights : ndarray
        As in `Traced`, contiguous; the precision of the weights is that of the computation.

    Notes
    -----
    Below, ``theta`` is ``(n, D)``, or ``(1, D)`` where all observations share it, and ``x``
    features ``(n, *F)`` or observations ``(n, *event)``; both float64.
    """

    program: Program
    moments: np.ndarray
    weights: np.ndarray

    @classmethod
    def of(cls, traced: Traced) -> CompiledEvaluator:
        """In double precision."""
        return cls(traced.program, traced.moments, traced.weights)

    def value(self, theta: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Log ratios ``(n,)``."""
        values = np.empty(len(x))
        self._run("value", theta, x, None, values)
        return values

    def value_and_gradient(self, theta: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Log ratios ``(n,)`` and their gradients in theta, ``(n, D)``, row by row."""
        values, gradients = np.empty(len(x)), np.empty((len(x), self.program.size))
        self._run("value_and_gradient", theta, x, None, values, gradients)
        return values, gradients

    def hessian_product(self, theta: np.ndarray, x: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Row by row, the Hessian in theta times ``v``; both ``(n, D)``."""
        if v.shape != (len(x), self.program.size):
            raise ValueError(f"v has shape {v.shape}; expected {(len(x), self.program.size)}.")
        products = np.empty(v.shape)
        self._run("hessian_product", theta, x, _plain(v), products)
        return products

    def _run(
        self,
        quantity: str,
        theta: np.ndarray,
        x: np.ndarray,
        along: np.ndarray | None,
        *results: np.ndarray,
    ) -> None:
        program = self.program
        # The code would read what lies behind it.
        if theta.shape[1] != program.size:
            raise ValueError(f"theta has {theta.shape[1]} columns; expected {program.size}.")
        if len(theta) not in (1, len(x)):
            raise ValueError("theta must have one row, or one for each observation.")
        rows = _plain(x.reshape(len(x), program.columns))
        code = program.code(quantity, double=self.weights.dtype == np.float64)
        direction = rows if along is None else along
        given = _plain(theta), rows, direction, self.moments, self.weights
        run(code.address, not program.embedded, *given, code.memory, results[0], results[-1])


def _plain(array: np.ndarray) -> np.ndarray:
    """Contiguous and writable: `run` would be compiled anew for other kinds of arrays."""
    array = np.asarray(array, dtype=np.float64)
    return array if array.flags.carray else np.array(array, order="C")
