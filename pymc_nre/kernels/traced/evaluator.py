"""Evaluate traced networks, NumPy in and out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import entries
from .program import Program

__all__ = ["ENTRIES", "CompiledEvaluator", "Traced"]

ENTRIES: dict[str, Callable[..., Any]] = {
    "value": entries.value,
    "value_and_gradient": entries.value_and_gradient,
    "hessian_product": entries.hessian_product,
}


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
    wall : ndarray, shape (Q,)
        What `Wall.to_vector` gives; empty if there is none.

    Notes
    -----
    Below, ``theta`` is ``(n, D)``, or ``(1, D)`` where all observations share it, and ``x``
    features ``(n, *F)`` or observations ``(n, *event)``; both float64.
    """

    program: Program
    moments: np.ndarray
    weights: np.ndarray
    wall: np.ndarray

    @classmethod
    def of(cls, traced: Traced) -> CompiledEvaluator:
        """In double precision, without a wall."""
        return cls(traced.program, traced.moments, traced.weights, np.empty(0))

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
        given = [_plain(np.asarray(array, dtype=np.float64)) for array in (theta, rows, *v)]
        given.append(not program.embedded)
        constants = self.moments, self.weights, self.wall
        return ENTRIES[quantity](*given, code.address, code.memory, *constants)


def _plain(array: np.ndarray) -> np.ndarray:
    """Contiguous and writable: other kinds of arrays would be compiled for anew."""
    return array if array.flags.carray else np.array(array, order="C")
