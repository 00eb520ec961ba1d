r"""PyTensor Ops over the compiled kernels: the counterparts of those in `pymc_nre.ops`.

`CompiledRatioAndGradient`
    log ratios ``(n,)`` and, row by row, their gradients ``(n, D)``.
`CompiledRatio`
    the values alone; a rewrite puts it in wherever nobody asks for gradients.
`CompiledHessianProduct`
    row by row, the Hessian times a matrix.

Their inputs are ``theta``, ``(n, D)`` or ``(1, D)``; ``x``, ``(n, *event)`` or features
``(n, H)``; and what makes them a particular ratio: ``moments``, ``weights`` and ``domain``
(empty: every theta is inside; outside the log ratio is minus infinity). An Op itself knows
only the program. So graphs of two networks of one architecture are compiled to the same code.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.compile import optdb
from pytensor.gradient import DisconnectedType, grad_not_implemented
from pytensor.graph.basic import Apply, Variable
from pytensor.graph.op import Op
from pytensor.graph.rewriting.basic import dfs_rewriter, node_rewriter
from pytensor.link.jax.ops import JAXOp
from pytensor.link.numba.dispatch.basic import numba_njit, register_funcify_default_op_cache_key
from pytensor.tensor.rewriting.basic import register_specialize

from . import activations, checks, curvature, kernels
from .checks import finite_and_inside
from .domain import Domain
from .export import Exported

__all__ = ["CompiledHessianProduct", "CompiledRatio", "CompiledRatioAndGradient"]

_HOLES = (
    "observed data of a RatioLikelihood must have no NaN or infinite values: a ratio is not a "
    "density in x and cannot impute them. Leave out incomplete observations."
)
_CONSTANTS = 3  # inputs after theta and x: moments, weights, domain


class _CompiledOp(Op):
    """What the three share: a program, checked inputs, the calls of the kernels."""

    __props__ = ("program",)
    kernel: Callable[..., Any]

    def __init__(self, program: tuple[tuple[int, ...], ...]) -> None:
        self.program = program
        arrays = Exported(program, np.empty(0), np.empty(0))
        self.steps, self.variant = arrays.steps, arrays.variant
        kind, before, after, *_ = program[0]
        self.columns = before if kind == kernels.JOIN else after  # of x, its axes flattened

    def _inputs(self, theta: Any, x: Any, *others: Any) -> list[Variable]:
        inputs = [pt.as_tensor_variable(value) for value in (theta, x, *others)]
        for name, value, ndim in (("theta", inputs[0], 2), ("x", inputs[1], None)):
            if value.dtype != "float64" or ndim not in (None, value.ndim):
                raise TypeError(
                    f"{type(self).__name__} needs {name} in float64, theta with 2 axes, got "
                    f"{value.dtype} with {value.ndim}. Cast it: {name}.astype('float64')."
                )
        return inputs

    def perform(
        self, node: Apply, inputs: Sequence[np.ndarray], output_storage: list[list[Any]]
    ) -> None:
        theta, x, moments, weights, domain, *v = map(_plain, inputs)
        x = x.reshape(len(x), self.columns)
        _check_rows(theta, x)
        finite, inside = finite_and_inside(theta, x, domain)
        if not finite:
            raise ValueError(_HOLES)
        results = self.kernel(theta, x, *v, self.steps, moments, weights, self.variant)
        results = results if isinstance(results, tuple) else (results,)
        if not inside.all():
            for result, outside in zip(results, self.outside, strict=True):
                result[~inside if len(inside) > 1 else slice(None)] = outside
        for storage, result in zip(output_storage, results, strict=True):
            storage[0] = result

    def infer_shape(self, *arguments: Any) -> list[tuple[Any, ...]]:
        # PyTensor 2 passes (fgraph, node, shapes), PyTensor 3 (node, shapes).
        node, shapes = arguments[-2:]
        return [(shapes[1][0], shapes[0][1])[: out.type.ndim] for out in node.outputs]

    def connection_pattern(self, node: Apply) -> list[list[bool]]:
        """Moments, weights and domain are given, not differentiated in."""
        constants = range(2, 2 + _CONSTANTS)
        return [[i not in constants] * len(node.outputs) for i in range(len(node.inputs))]


def _plain(array: np.ndarray) -> np.ndarray:
    """Contiguous and writable: other kinds of arrays would be compiled for anew."""
    flags = array.flags
    return array if flags.c_contiguous and flags.writeable else np.array(array, order="C")


def _check_rows(theta: np.ndarray, x: np.ndarray) -> None:
    if len(theta) not in (1, len(x)):
        raise ValueError(
            f"theta has {len(theta)} rows and x has {len(x)}; expected one row of theta for all "
            "observations, or one for each."
        )


class CompiledRatioAndGradient(_CompiledOp):
    """Log ratios ``(n,)`` and their gradients in theta, ``(n, D)``, row by row."""

    kernel = staticmethod(kernels.value_and_gradient)
    outside = (-np.inf, 0.0)
    default_output = 0

    def make_node(self, theta: Any, x: Any, moments: Any, weights: Any, domain: Any) -> Apply:
        """Inputs theta ``(1 or n, D)``, x ``(n, *event)``, moments, weights, domain."""
        inputs = self._inputs(theta, x, moments, weights, domain)
        return Apply(self, inputs, [_value_type(inputs), _gradient_type(inputs)])

    def pullback(
        self,
        inputs: Sequence[Variable],
        outputs: Sequence[Variable],
        cotangents: Sequence[Variable],
    ) -> list[Variable]:
        """Cotangent of theta; a shared theta gathers those of all rows."""
        of_value, of_gradient = cotangents
        terms = []
        if not isinstance(of_value.type, DisconnectedType):
            terms.append(of_value[:, None] * outputs[1])
        if not isinstance(of_gradient.type, DisconnectedType):
            terms.append(CompiledHessianProduct(self.program)(*inputs, of_gradient))
        return _cotangents(self, inputs, sum(terms))

    L_op = pullback  # its name in PyTensor 2


class CompiledRatio(_CompiledOp):
    """Log ratios ``(n,)``."""

    kernel = staticmethod(kernels.value)
    outside = (-np.inf,)

    def make_node(self, theta: Any, x: Any, moments: Any, weights: Any, domain: Any) -> Apply:
        """Inputs theta ``(1 or n, D)``, x ``(n, *event)``, moments, weights, domain."""
        inputs = self._inputs(theta, x, moments, weights, domain)
        return Apply(self, inputs, [_value_type(inputs)])

    def pullback(
        self,
        inputs: Sequence[Variable],
        outputs: Sequence[Variable],
        cotangents: Sequence[Variable],
    ) -> list[Variable]:
        """Through `CompiledRatioAndGradient`."""
        gradient = CompiledRatioAndGradient(self.program).make_node(*inputs).outputs[1]
        return _cotangents(self, inputs, cotangents[0][:, None] * gradient)

    L_op = pullback


class CompiledHessianProduct(_CompiledOp):
    """Row by row, the Hessian of the log ratio in theta times ``v``; ``(n, D)``."""

    kernel = staticmethod(curvature.hessian_product)
    outside = (0.0,)

    def make_node(
        self, theta: Any, x: Any, moments: Any, weights: Any, domain: Any, v: Any
    ) -> Apply:
        """As for the others, and v ``(n, D)``."""
        inputs = self._inputs(theta, x, moments, weights, domain, v)
        return Apply(self, inputs, [_gradient_type(inputs)])

    def pullback(self, *arguments: Any) -> list[Variable]:
        """Third derivatives are refused, not guessed."""
        raise NotImplementedError(
            "Third derivatives of a ratio in its parameters are not available; values, gradients "
            "and Hessians are."
        )

    L_op = pullback


def _value_type(inputs: Sequence[Variable]) -> Variable:
    return pt.TensorType("float64", shape=(inputs[1].type.shape[0],))()


def _gradient_type(inputs: Sequence[Variable]) -> Variable:
    theta, x = inputs[:2]
    return pt.TensorType("float64", shape=(x.type.shape[0], theta.type.shape[1]))()


def _cotangents(op: Op, inputs: Sequence[Variable], by_row: Variable) -> list[Variable]:
    theta, x = inputs[:2]
    if theta.type.broadcastable[0] and not by_row.type.broadcastable[0]:
        by_row = by_row.sum(axis=0, keepdims=True)
    # Asking for the derivative in x is an error, not a zero.
    of_x = grad_not_implemented(
        op, 1, x, "A ratio is not differentiated in x: let its data not depend on parameters."
    )
    return [by_row, of_x, *(DisconnectedType()() for _ in range(_CONSTANTS))]


@register_specialize
@node_rewriter([CompiledRatioAndGradient])
def drop_unused_compiled_gradient(fgraph: Any, node: Apply) -> dict[Variable, Variable] | bool:
    """Evaluate the value alone where the gradient has no use."""
    if fgraph.clients[node.outputs[1]]:
        return False
    return {node.outputs[0]: CompiledRatio(node.op.program)(*node.inputs)}


@register_funcify_default_op_cache_key(CompiledRatioAndGradient)
def _numba_value_and_gradient(op: CompiledRatioAndGradient, node: Apply, **kwargs: Any) -> Any:
    steps, variant, rows_of, kernel = op.steps, op.variant, _rows_of(node), op.kernel

    @numba_njit
    def value_and_gradient(theta, x, moments, weights, domain):
        t, rows = np.ascontiguousarray(theta), rows_of(x)
        inside = _checked(t, rows, domain)
        values, gradients = kernel(t, rows, steps, moments, weights, variant)
        for i in range(len(values)):
            if not inside[min(i, len(inside) - 1)]:
                values[i] = -np.inf
                gradients[i] = 0.0
        return values, gradients

    return value_and_gradient, _version()


@register_funcify_default_op_cache_key(CompiledRatio)
def _numba_value(op: CompiledRatio, node: Apply, **kwargs: Any) -> Any:
    steps, variant, rows_of, kernel = op.steps, op.variant, _rows_of(node), op.kernel

    @numba_njit
    def value(theta, x, moments, weights, domain):
        t, rows = np.ascontiguousarray(theta), rows_of(x)
        inside = _checked(t, rows, domain)
        values = kernel(t, rows, steps, moments, weights, variant)
        for i in range(len(values)):
            if not inside[min(i, len(inside) - 1)]:
                values[i] = -np.inf
        return values

    return value, _version()


@register_funcify_default_op_cache_key(CompiledHessianProduct)
def _numba_hessian_product(op: CompiledHessianProduct, node: Apply, **kwargs: Any) -> Any:
    steps, variant, rows_of, kernel = op.steps, op.variant, _rows_of(node), op.kernel

    @numba_njit
    def hessian_product(theta, x, moments, weights, domain, v):
        t, rows = np.ascontiguousarray(theta), rows_of(x)
        inside = _checked(t, rows, domain)
        products = kernel(t, rows, np.ascontiguousarray(v), steps, moments, weights, variant)
        for i in range(len(products)):
            if not inside[min(i, len(inside) - 1)]:
                products[i] = 0.0
        return products

    return hessian_product, _version()


@cache
def _version() -> int:
    """Of the compiled code: PyTensor keeps on disk what it compiled, beyond our updates."""
    files = (module.__file__ for module in (activations, checks, curvature, kernels))
    sources = b"".join(Path(file).read_bytes() for file in (*files, __file__))
    return int(hashlib.sha256(sources).hexdigest()[:12], 16)


@numba_njit
def _checked(theta, x, domain):
    """Which rows of theta are inside; an error if the rows do not match, or data have holes."""
    if len(theta) != 1 and len(theta) != len(x):
        raise ValueError("theta must have one row, or one for each observation")
    finite, inside = finite_and_inside(theta, x, domain)
    if not finite:
        raise ValueError(_HOLES)
    return inside


def _rows_of(node: Apply) -> Callable[[np.ndarray], np.ndarray]:
    """A compiled function that flattens observations to rows."""
    columns = node.op.columns
    return numba_njit(lambda x: np.ascontiguousarray(x).reshape(len(x), columns))


@node_rewriter([CompiledRatioAndGradient, CompiledRatio, CompiledHessianProduct])
def become_jax_kernel(fgraph: Any, node: Apply) -> list[Variable]:
    """Where PyTensor compiles for JAX, put a JAX function in the place of an Op."""
    from . import jax_kernels

    name = {2: "value_and_gradient", 1: "value"}[len(node.outputs)]
    if isinstance(node.op, CompiledHessianProduct):
        name = "hessian_product"
    function = getattr(jax_kernels, name)(node.op.program)
    size = node.inputs[0].type.shape[1]

    def guarded(theta: Any, x: Any, moments: Any, weights: Any, domain: Any, *v: Any) -> Any:
        import jax.numpy as jnp

        results = function(theta, x, moments, weights, *v)
        if not domain.shape[0]:
            return results
        inside = Domain.from_vector(domain, size or theta.shape[1]).inside(theta)
        return tuple(
            jnp.where(inside.reshape(-1, *[1] * (result.ndim - 1)), result, outside)
            for result, outside in zip(results, node.op.outside, strict=True)
        )

    inputs, outputs = ([v.type for v in variables] for variables in (node.inputs, node.outputs))
    return JAXOp(inputs, outputs, guarded).make_node(*node.inputs).outputs


optdb.register("compiled_ratio_to_jax", dfs_rewriter(become_jax_kernel), "jax", position=100)
