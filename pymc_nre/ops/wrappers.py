"""What our Ops share where PyTensor compiles them, by Numba or by JAX."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from pytensor.graph.basic import Apply, Variable
from pytensor.link.jax.ops import JAXOp

from .. import kernels
from ..kernels.code_folder import digest_of

__all__ = ["jax_op", "version"]


@cache
def version() -> int:
    """A number for one state of the Ops and of the kernels that they call by name.

    PyTensor keeps on disk what is compiled around them; it is good for this number.
    """
    return int(digest_of(Path(__file__).parent, Path(kernels.__file__).parent), 16)


def jax_op(node: Apply, function: Callable[..., tuple[Any, ...]]) -> list[Variable]:
    """What to put in the place of a node: the same by a function that JAX traces."""
    inputs, outputs = ([v.type for v in variables] for variables in (node.inputs, node.outputs))
    return JAXOp(inputs, outputs, function).make_node(*node.inputs).outputs
