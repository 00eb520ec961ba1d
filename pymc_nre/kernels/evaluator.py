"""Evaluate log ratios by compiled code, NumPy in and out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import hessian, ratio
from .program import Exported, Program

__all__ = ["KERNELS", "CompiledEvaluator", "plain"]

KERNELS: dict[str, Callable[..., Any]] = {
    "value": ratio.value,
    "value_and_gradient": ratio.value_and_gradient,
    "hessian_product": hessian.hessian_product,
}


@dataclass(eq=False, slots=True)
class CompiledEvaluator:
    """Log ratios and derivatives of a network of the known family.

    Parameters
    ----------
    program : Program
    moments, weights : ndarray
        As in `Exported`, contiguous; the precision of the weights is that of the computation.
    wall : ndarray, shape (Q,)
        What `Wall.to_vector` gives; empty if there is none.

    Notes
    -----
    Below, ``theta`` is ``(n, D)``, or ``(1, D)`` where all observations share it, and ``x``
    is ``(n, *event)`` or features ``(n, K H)``; both float64.
    """

    program: Program
    moments: np.ndarray
    weights: np.ndarray
    wall: np.ndarray

    @classmethod
    def of(cls, exported: Exported) -> CompiledEvaluator:
        """In double precision, without a wall."""
        return cls(exported.program, exported.moments, exported.weights, np.empty(0))

    def value(self, theta: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Log ratios ``(n,)``."""
        return ratio.value(plain(theta), self._rows(x), *self._constants())

    def value_and_gradient(self, theta: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Log ratios ``(n,)`` and their gradients in theta, ``(n, D)``, row by row."""
        return ratio.value_and_gradient(plain(theta), self._rows(x), *self._constants())

    def hessian_product(self, theta: np.ndarray, x: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Row by row, the Hessian in theta times ``v``; both ``(n, D)``."""
        rows = self._rows(x)
        return hessian.hessian_product(plain(theta), rows, plain(v), *self._constants())

    def _rows(self, x: np.ndarray) -> np.ndarray:
        return plain(x if x.ndim == 2 else x.reshape(len(x), self.program.columns))

    def _constants(self) -> tuple[Any, ...]:
        return self.program.instructions, self.moments, self.weights, self.wall


def plain(array: np.ndarray) -> np.ndarray:
    """Contiguous and writable: other kinds of arrays would be compiled for anew."""
    return array if array.flags.carray else np.array(array, order="C")
