"""A traced network as a value: what engines hold, and what code is found by."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

from .emitter import Shape, emit
from .graph import Graph, Node
from .machine import Code, code_of, vector_bytes
from .plan import Plan

__all__ = ["Program", "shapes"]

_IN_REGISTERS = 2  # registers of a column in a block of rows
_NARROW = 4  # rows
_TOGETHER, _TOGETHER_OF_FEW = 8, 4  # columns at once where there are 32 registers, and 16


@dataclass(frozen=True)
class Program:
    """What is done with parameters and features, whatever the weights.

    Attributes
    ----------
    size : int
        D, the length of theta.
    columns : int
        Numbers of x in a row: the features of an observation, or those of the observation itself.
    embedded : bool
        Whether it is features that it takes.
    value, value_and_gradient, hessian_product : tuple of Node
        The graph of each.
    """

    size: int
    columns: int
    embedded: bool
    value: tuple[Node, ...]
    value_and_gradient: tuple[Node, ...]
    hessian_product: tuple[Node, ...]

    @cached_property
    def digest(self) -> str:
        """Of all of it."""
        graphs = self.value, self.value_and_gradient, self.hessian_product
        described = repr((self.size, self.columns, self.embedded, graphs))
        return hashlib.sha256(described.encode()).hexdigest()[:16]

    def __hash__(self) -> int:
        return hash(self.digest)

    def code(self, quantity: str, *, double: bool) -> Code:
        """Machine code for ``"value"``, ``"value_and_gradient"`` or ``"hessian_product"``."""
        precision = "double" if double else "single"
        name = f"pymc_nre_{quantity}_{precision}_{self.digest}"
        return code_of(name, lambda: self._text(quantity, double, name))

    def _text(self, quantity: str, double: bool, name: str) -> str:
        plan = Plan.of(Graph.of(getattr(self, quantity)))
        return emit(plan, *shapes(double), name)


def shapes(double: bool) -> tuple[Shape, Shape]:
    """Wide and narrow blocks on this processor."""
    register = vector_bytes()
    together = _TOGETHER if register == 64 else _TOGETHER_OF_FEW
    wide = Shape(double, _IN_REGISTERS * register // (8 if double else 4), together)
    return wide, Shape(double, _NARROW, together)
