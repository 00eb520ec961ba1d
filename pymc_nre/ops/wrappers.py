"""What our Ops share where PyTensor compiles them, by Numba or by JAX."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from pytensor.graph.basic import Apply, Variable
from pytensor.graph.op import Op
from pytensor.link.jax.ops import JAXOp
from pytensor.link.numba.dispatch.basic import generate_fallback_impl

from .. import kernels
from ..kernels.code_folder import digest_of

__all__ = ["by_perform", "host_callback", "jax_op", "version"]


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


def host_callback(
    evaluate: Callable[[np.ndarray], np.ndarray], x: Any, shape: tuple[int, ...]
) -> Any:
    """What a NumPy function gives of observations, of that shape, called back from JAX."""
    import jax

    dtype = jax.numpy.result_type(float)

    def host(x: Any) -> np.ndarray:
        return evaluate(np.asarray(x, dtype=np.float64)).astype(dtype, copy=False)

    result = jax.ShapeDtypeStruct(shape, dtype)
    return jax.pure_callback(host, result, x, vmap_method="sequential")


def by_perform(op: Op, node: Apply, **kwargs: Any) -> tuple[Callable[..., Any], None]:
    """Let Numba call ``op.perform``; such a graph is not cached (key None).

    PyTensor does the same for any Op that it does not know, but warns: what is an oversight
    elsewhere is meant here.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Numba will use object mode", UserWarning)
        return generate_fallback_impl(op, node, **kwargs), None
