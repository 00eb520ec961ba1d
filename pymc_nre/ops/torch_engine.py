r"""PyTensor Ops that evaluate a ratio: its value, its gradient, its second derivatives.

PyMC differentiates a model before it compiles it, and one evaluation of a network yields
both the value and the gradient. So the Op that users' graphs are built of gives both:

`LogRatioAndGradient`
    log ratios ``(n,)`` and, row by row, their gradients ``(n, D)``.
`LogRatio`
    the values alone. A rewrite puts it in wherever nobody asks for gradients (slice,
    Metropolis and SMC), so that each sampler pays for one evaluation of what it needs.
`HessianProduct`
    row by row, the Hessian times a matrix: the gradient of the gradient.

All take ``theta``, ``(n, D)`` or, where every observation shares it, ``(1, D)``, and ``x``,
``(n, *event)``; both float64. All are equal when their estimators are equal, so that graphs
merge, hash and pickle. Ratios are not differentiated in ``x``.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from threading import current_thread, main_thread
from typing import Any

import numpy as np
import pytensor.tensor as pt
import torch
from pytensor.compile import optdb
from pytensor.gradient import DisconnectedType
from pytensor.graph.basic import Apply, Variable
from pytensor.graph.op import Op
from pytensor.graph.rewriting.basic import dfs_rewriter, node_rewriter
from pytensor.link.jax.ops import JAXOp
from pytensor.link.numba.dispatch.basic import (
    generate_fallback_impl,
    register_funcify_and_cache_key,
)
from pytensor.tensor.rewriting.basic import register_specialize

from ..estimators.estimator import RatioEstimator
from ..runtime.devices import make_torch_survive_forks, one_thread_if
from .gradients import for_theta, not_in_x, refuse_third_derivatives

__all__ = ["HessianProduct", "LogRatio", "LogRatioAndGradient"]


class _RatioOp(Op):
    """What the three Ops share: an estimator, checked inputs, fork safety."""

    __props__ = ("estimator",)
    quantity: str  # what is evaluated: the name of the evaluator's method

    def __init__(self, estimator: RatioEstimator) -> None:
        self.estimator = estimator.for_evaluation()
        make_torch_survive_forks()

    def _evaluate(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        outputs = getattr(self.estimator.evaluator, self.quantity)(*inputs)
        return outputs if isinstance(outputs, tuple) else (outputs,)

    def _checked(self, theta: Any, x: Any) -> list[Variable]:
        size, event_ndim = self.estimator.layout.size, len(self.estimator.event_shape)
        theta, x = pt.as_tensor_variable(theta), pt.as_tensor_variable(x)
        for name, value, ndim in (("theta", theta, 2), ("x", x, 1 + event_ndim)):
            if value.dtype != "float64" or value.ndim != ndim:
                raise TypeError(
                    f"{type(self).__name__} needs {name} as a float64 tensor with {ndim} axes, got "
                    f"{value.dtype} with {value.ndim}. Cast it: {name}.astype('float64')."
                )
        if theta.type.shape[1] not in (None, size):
            raise ValueError(
                f"{type(self).__name__} needs theta of shape (1 or n, {size}), got "
                f"{theta.type.shape}."
            )
        return [theta, x]

    def perform(
        self, node: Apply, inputs: Sequence[np.ndarray], output_storage: list[list[Any]]
    ) -> None:
        if self.estimator.device.type == "cuda" and torch.cuda._is_in_bad_fork():
            raise RuntimeError(
                "This ratio lives on CUDA, which cannot be used in a forked process. Sample with "
                "pm.sample(..., cores=1) or mp_ctx='forkserver', or move it: ratio.to('cpu')."
            )
        # Outside the main thread there are samplers with a thread for each chain (nutpie): more
        # threads below each would fight over the cores.
        with one_thread_if(current_thread() is not main_thread()):
            results = self._evaluate(*inputs)
        for storage, result in zip(output_storage, results, strict=True):
            storage[0] = result

    def infer_shape(self, *arguments: Any) -> list[tuple[Any, ...]]:
        # PyTensor 2 passes (fgraph, node, shapes), PyTensor 3 (node, shapes).
        node, shapes = arguments[-2:]
        n = shapes[1][0]
        return [(n, self.estimator.layout.size)[: out.type.ndim] for out in node.outputs]

    def __str__(self) -> str:
        return f"{type(self).__name__}{{{', '.join(self.estimator.parameters)}}}"

    def _value_type(self, x: Variable) -> Variable:
        return pt.TensorType("float64", shape=(x.type.shape[0],))()

    def _gradient_type(self, x: Variable) -> Variable:
        return pt.TensorType("float64", shape=(x.type.shape[0], self.estimator.layout.size))()


class LogRatioAndGradient(_RatioOp):
    """Log ratios ``(n,)`` and their gradients in theta, ``(n, D)``, row by row."""

    quantity = "value_and_gradient"
    default_output = 0

    def make_node(self, theta: Any, x: Any) -> Apply:
        """Inputs theta ``(1 or n, D)`` and x ``(n, *event)``."""
        theta, x = self._checked(theta, x)
        return Apply(self, [theta, x], [self._value_type(x), self._gradient_type(x)])

    def pullback(
        self,
        inputs: Sequence[Variable],
        outputs: Sequence[Variable],
        cotangents: Sequence[Variable],
    ) -> list[Variable]:
        """Cotangent of theta; a shared theta gathers those of all rows."""
        theta, x = inputs
        of_value, of_gradient = cotangents
        terms = []
        if not isinstance(of_value.type, DisconnectedType):
            terms.append(of_value[:, None] * outputs[1])
        if not isinstance(of_gradient.type, DisconnectedType):
            terms.append(HessianProduct(self.estimator)(theta, x, of_gradient))
        return [for_theta(theta, sum(terms)), not_in_x(self, x)]

    L_op = pullback  # its name in PyTensor 2


class LogRatio(_RatioOp):
    """Log ratios ``(n,)``."""

    quantity = "value"

    def make_node(self, theta: Any, x: Any) -> Apply:
        """Inputs theta ``(1 or n, D)`` and x ``(n, *event)``."""
        theta, x = self._checked(theta, x)
        return Apply(self, [theta, x], [self._value_type(x)])

    def pullback(
        self,
        inputs: Sequence[Variable],
        outputs: Sequence[Variable],
        cotangents: Sequence[Variable],
    ) -> list[Variable]:
        """Through `LogRatioAndGradient`."""
        theta, x = inputs
        gradient = LogRatioAndGradient(self.estimator).make_node(theta, x).outputs[1]
        return [for_theta(theta, cotangents[0][:, None] * gradient), not_in_x(self, x)]

    L_op = pullback


class HessianProduct(_RatioOp):
    """Row by row, the Hessian of the log ratio in theta times ``v``; ``(n, D)``."""

    quantity = "hessian_product"

    def make_node(self, theta: Any, x: Any, v: Any) -> Apply:
        """Inputs theta ``(1 or n, D)``, x ``(n, *event)`` and v ``(n, D)``."""
        theta, x = self._checked(theta, x)
        return Apply(self, [theta, x, pt.as_tensor_variable(v)], [self._gradient_type(x)])

    pullback = L_op = refuse_third_derivatives


@register_specialize
@node_rewriter([LogRatioAndGradient])
def drop_unused_gradient(fgraph: Any, node: Apply) -> list[Variable | None] | bool:
    """Evaluate the value alone where the gradient has no use."""
    if fgraph.clients[node.outputs[1]]:
        return False
    value = LogRatio(node.op.estimator)(*node.inputs)
    return {node.outputs[0]: value}


@register_funcify_and_cache_key(LogRatioAndGradient)
@register_funcify_and_cache_key(LogRatio)
@register_funcify_and_cache_key(HessianProduct)
def _call_back_into_python(op: Op, node: Apply, **kwargs: Any) -> tuple[Any, None]:
    """Let numba call ``op.perform``, where torch is; such a graph is not cached (key None).

    PyTensor does the same for any Op that it does not know, but warns: what is an oversight
    elsewhere is meant here.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Numba will use object mode", UserWarning)
        return generate_fallback_impl(op, node, **kwargs), None


@node_rewriter([LogRatioAndGradient, LogRatio, HessianProduct])
def become_jax_op(fgraph: Any, node: Apply) -> list[Variable]:
    """Where PyTensor compiles for JAX, put a JAX function in the place of an Op.

    As a rewrite it runs only then, and nobody else needs JAX.
    """
    from . import jax_callbacks

    function = getattr(jax_callbacks, node.op.quantity)(node.op.estimator)
    inputs, outputs = ([v.type for v in variables] for variables in (node.inputs, node.outputs))
    return JAXOp(inputs, outputs, function).make_node(*node.inputs).outputs


# After all others, and so after `drop_unused_gradient`; PyTensor's own for JAX are at 100.
optdb.register("ratio_to_jax", dfs_rewriter(become_jax_op), "jax", position=100)
