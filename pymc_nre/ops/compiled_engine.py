r"""PyTensor Ops over the compiled kernels: the counterparts of those in `pymc_nre.ops.torch_ops`.

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

from collections.abc import Callable, Sequence
from typing import Any

import numba
import numpy as np
import pytensor.tensor as pt
from numba import types
from pytensor.compile import optdb
from pytensor.gradient import DisconnectedType
from pytensor.graph.basic import Apply, Variable
from pytensor.graph.op import Op
from pytensor.graph.rewriting.basic import dfs_rewriter, node_rewriter
from pytensor.link.jax.ops import JAXOp
from pytensor.link.numba.dispatch.basic import numba_njit, register_funcify_default_op_cache_key
from pytensor.tensor.rewriting.basic import register_specialize

from ..estimators.domain import Domain
from ..estimators.evaluator import check_rows
from ..kernels import hessian as curvature
from ..kernels import ratio as kernels
from ..kernels.compilation import call_by_name
from ..kernels.program import Exported
from .gradients import for_theta, not_in_x, refuse_third_derivatives
from .wrappers import version

__all__ = ["CompiledHessianProduct", "CompiledRatio", "CompiledRatioAndGradient"]

_CONSTANTS = 3  # inputs after theta and x: moments, weights, domain


class _CompiledOp(Op):
    """What the three share: a program, checked inputs, the calls of the kernels."""

    __props__ = ("program",)
    kernel: Callable[..., Any]
    outside: tuple[float, ...]  # the results where theta is outside the domain

    def __init__(self, program: tuple[tuple[int, ...], ...]) -> None:
        self.program = program
        arrays = Exported(program, np.empty(0), np.empty(0))
        self.steps, self.variant = arrays.steps, arrays.variant
        self.columns = arrays.columns  # of x, its axes flattened

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
        check_rows(theta, x)
        results = self.kernel(theta, x, *v, self.steps, moments, weights, domain, self.variant)
        results = results if isinstance(results, tuple) else (results,)
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

    pullback = L_op = refuse_third_derivatives


def _value_type(inputs: Sequence[Variable]) -> Variable:
    return pt.TensorType("float64", shape=(inputs[1].type.shape[0],))()


def _gradient_type(inputs: Sequence[Variable]) -> Variable:
    theta, x = inputs[:2]
    return pt.TensorType("float64", shape=(x.type.shape[0], theta.type.shape[1]))()


def _cotangents(op: Op, inputs: Sequence[Variable], by_row: Variable) -> list[Variable]:
    theta, x = inputs[:2]
    constants = (DisconnectedType()() for _ in range(_CONSTANTS))
    return [for_theta(theta, by_row), not_in_x(op, x), *constants]


@register_specialize
@node_rewriter([CompiledRatioAndGradient])
def drop_unused_compiled_gradient(fgraph: Any, node: Apply) -> dict[Variable, Variable] | bool:
    """Evaluate the value alone where the gradient has no use."""
    if fgraph.clients[node.outputs[1]]:
        return False
    return {node.outputs[0]: CompiledRatio(node.op.program)(*node.inputs)}


@register_funcify_default_op_cache_key(CompiledRatioAndGradient)
@register_funcify_default_op_cache_key(CompiledRatio)
def _numba_ratio(op: _CompiledOp, node: Apply, **kwargs: Any) -> Any:
    kernel, steps, variant, rows_of = *_called_by_name(op, node), _rows_of(op)

    @numba_njit
    def ratio(theta, x, moments, weights, domain):
        t = np.ascontiguousarray(theta)
        return kernel((t, rows_of(x), steps, moments, weights, domain, variant))

    return ratio, version()


@register_funcify_default_op_cache_key(CompiledHessianProduct)
def _numba_hessian_product(op: CompiledHessianProduct, node: Apply, **kwargs: Any) -> Any:
    kernel, steps, variant, rows_of = *_called_by_name(op, node), _rows_of(op)

    @numba_njit
    def hessian_product(theta, x, moments, weights, domain, v):
        t, along = np.ascontiguousarray(theta), np.ascontiguousarray(v)
        return kernel((t, rows_of(x), along, steps, moments, weights, domain, variant))

    return hessian_product, version()


def _called_by_name(op: _CompiledOp, node: Apply) -> tuple[Any, np.ndarray, tuple[Any, ...]]:
    """The kernel for compiled code, and its constant arguments."""
    double, weights = types.float64[:, ::1], types.float64[::1]
    if node.inputs[3].type.dtype == "float32":
        weights = types.float32[::1]
    of_data = (double,) * (3 if isinstance(op, CompiledHessianProduct) else 2)
    of_ratio = (types.int64[:, ::1], types.float64[::1], weights, types.float64[::1])
    kernel = call_by_name(op.kernel, (*of_data, *of_ratio, numba.typeof(op.variant)))
    return kernel, op.steps, op.variant


def _rows_of(op: _CompiledOp) -> Callable[[np.ndarray], np.ndarray]:
    """A compiled function that flattens observations to rows."""
    columns = op.columns
    return numba_njit(lambda x: np.ascontiguousarray(x).reshape(len(x), columns))


@node_rewriter([CompiledRatioAndGradient, CompiledRatio, CompiledHessianProduct])
def become_jax_kernel(fgraph: Any, node: Apply) -> list[Variable]:
    """Where PyTensor compiles for JAX, put a JAX function in the place of an Op."""
    from .kernels import jax_kernels

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
