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
``(n, *event)`` or what stands for it; both float64. What evaluates them is an `Engine`, which may
want inputs of its own, its *constants*. Ops of equal engines are equal, so that graphs merge, hash
and pickle. Ratios are differentiated neither in ``x`` nor in constants.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Protocol

import numpy as np
import pytensor.tensor as pt
from pytensor.compile import optdb
from pytensor.gradient import DisconnectedType
from pytensor.graph.basic import Apply, Variable
from pytensor.graph.op import Op
from pytensor.graph.rewriting.basic import dfs_rewriter, node_rewriter
from pytensor.link.numba.dispatch.basic import register_funcify_and_cache_key
from pytensor.tensor.rewriting.basic import register_specialize

from ..compat import OpOfBothMajors
from ..estimators.evaluator import Evaluator, check_rows
from .gradients import Variables, for_theta, not_in_x
from .held import keep
from .wrappers import jax_op

__all__ = ["Engine", "HessianProduct", "LogRatio", "LogRatioAndGradient", "RatioOp"]


class Engine(Protocol):
    """What evaluates a ratio in graphs; a value, hashable and picklable.

    Attributes
    ----------
    constants : int
        How many inputs come after theta and x: what makes it a particular ratio, where that is not
        part of the engine.
    theta_size, x_ndim : int or None
        What is known of the shapes of theta ``(1 or n, D)`` and of x.
    kept : RatioEstimator or None
        What nodes keep alive for it.
    """

    constants: ClassVar[int]
    theta_size: int | None
    x_ndim: int | None
    kept: Any

    def evaluator(self, *constants: np.ndarray) -> Evaluator:
        """Evaluates NumPy arrays."""

    def jax_evaluator(self, *constants: Any) -> Evaluator:
        """Evaluates what JAX traces."""

    def for_numba(
        self, op: RatioOp, node: Apply, **kwargs: Any
    ) -> tuple[Callable[..., Any], str | None]:
        """A function that Numba compiles, and what to keep it by on disk, if that is possible."""


class RatioOp(OpOfBothMajors, Op):
    """What the three share: an engine, checked inputs, an evaluation."""

    __props__ = ("engine",)
    quantity: ClassVar[str]  # the method of an evaluator
    ndims: ClassVar[tuple[int, ...]]  # of its results: 1 for log ratios, 2 for derivatives

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def make_node(self, theta: Any, x: Any, *others: Any) -> Apply:
        """Inputs theta ``(1 or n, D)``, x ``(n, *event)``, constants; v ``(n, D)``, if it has."""
        inputs = [pt.as_tensor_variable(value) for value in (theta, x, *others)]
        theta, x = inputs[:2]
        size = self.engine.theta_size
        self._check("theta", theta, 2)
        self._check("x", x, self.engine.x_ndim)
        if size is not None and theta.type.shape[1] not in (None, size):
            raise ValueError(
                f"{type(self).__name__} needs theta of shape (1 or n, {size}), got "
                f"{theta.type.shape}."
            )
        shape = x.type.shape[0], theta.type.shape[1] if size is None else size
        outputs = [pt.TensorType("float64", shape=shape[:ndim])() for ndim in self.ndims]
        return keep(Apply(self, inputs, outputs), self.engine.kept)

    def _check(self, name: str, value: Variable, ndim: int | None) -> None:
        if value.dtype != "float64" or ndim not in (None, value.ndim):
            axes = "" if ndim is None else f" with {ndim} axes"
            raise TypeError(
                f"{type(self).__name__} needs {name} as a float64 tensor{axes}, got "
                f"{value.dtype} with {value.ndim}. Cast it: {name}.astype('float64')."
            )

    def perform(
        self, node: Apply, inputs: Sequence[np.ndarray], output_storage: list[list[Any]]
    ) -> None:
        """Evaluate for the linkers that call Python."""
        n = check_rows(*inputs[:2])
        for v in inputs[2 + self.engine.constants :]:
            if len(v) != n:  # kernels would read whatever lies behind it
                raise ValueError(
                    f"v has {len(v)} rows and x has {n}; expected one row for each observation."
                )
        results = self._evaluate(self.engine.evaluator, inputs)
        for storage, result in zip(output_storage, results, strict=True):
            storage[0] = result

    def for_jax(self, *inputs: Any) -> tuple[Any, ...]:
        """The same for JAX."""
        return self._evaluate(self.engine.jax_evaluator, inputs)

    def _evaluate(
        self, evaluator: Callable[..., Evaluator], inputs: Sequence[Any]
    ) -> tuple[Any, ...]:
        theta, x, *others = inputs
        constants = self.engine.constants
        evaluate = getattr(evaluator(*others[:constants]), self.quantity)
        results = evaluate(theta, x, *others[constants:])
        return results if isinstance(results, tuple) else (results,)

    def output_shapes(self, node: Apply, shapes: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Without an evaluation."""
        return [(shapes[1][0], shapes[0][1])[:ndim] for ndim in self.ndims]

    def connection_pattern(self, node: Apply) -> list[list[bool]]:
        """Constants are given, not differentiated in."""
        constants = range(2, 2 + self.engine.constants)
        return [[i not in constants] * len(node.outputs) for i in range(len(node.inputs))]

    def _cotangents(self, inputs: Variables, by_row: Variable) -> list[Variable]:
        """Of all inputs; a shared theta gathers those of all rows."""
        theta, x, *constants = inputs
        disconnected = (DisconnectedType()() for _ in constants)
        return [for_theta(theta, by_row), not_in_x(self, x), *disconnected]

    def __str__(self) -> str:
        return f"{type(self).__name__}{{{self.engine}}}"


class LogRatioAndGradient(RatioOp):
    """Log ratios ``(n,)`` and their gradients in theta, ``(n, D)``, row by row."""

    quantity, ndims = "value_and_gradient", (1, 2)
    default_output = 0

    def pullback(
        self, inputs: Variables, outputs: Variables, cotangents: Variables
    ) -> list[Variable]:
        """Through the gradient that is there, and through `HessianProduct`."""
        of_value, of_gradient = cotangents
        terms = []
        if not isinstance(of_value.type, DisconnectedType):
            terms.append(of_value[:, None] * outputs[1])
        if not isinstance(of_gradient.type, DisconnectedType):
            terms.append(HessianProduct(self.engine)(*inputs, of_gradient))
        return self._cotangents(inputs, sum(terms))


class LogRatio(RatioOp):
    """Log ratios ``(n,)``."""

    quantity, ndims = "value", (1,)

    def pullback(
        self, inputs: Variables, outputs: Variables, cotangents: Variables
    ) -> list[Variable]:
        """Through `LogRatioAndGradient`."""
        gradient = LogRatioAndGradient(self.engine).make_node(*inputs).outputs[1]
        return self._cotangents(inputs, cotangents[0][:, None] * gradient)


class HessianProduct(RatioOp):
    """Row by row, the Hessian of the log ratio in theta times ``v``; ``(n, D)``."""

    quantity, ndims = "hessian_product", (2,)

    def pullback(self, *arguments: Any) -> list[Variable]:
        """Refused, not guessed."""
        raise NotImplementedError(
            "Third derivatives of a ratio in its parameters are not available; values, gradients "
            "and Hessians are."
        )


@register_specialize
@node_rewriter([LogRatioAndGradient])
def drop_unused_gradient(fgraph: Any, node: Apply) -> dict[Variable, Variable] | bool:
    """Evaluate the value alone where the gradient has no use."""
    if fgraph.clients[node.outputs[1]]:
        return False
    return {node.outputs[0]: LogRatio(node.op.engine)(*node.inputs)}


@register_funcify_and_cache_key(RatioOp)
def _for_numba(op: RatioOp, node: Apply, **kwargs: Any) -> tuple[Callable[..., Any], str | None]:
    return op.engine.for_numba(op, node, **kwargs)


@node_rewriter([LogRatioAndGradient, LogRatio, HessianProduct])
def become_jax_op(fgraph: Any, node: Apply) -> list[Variable]:
    """Where PyTensor compiles for JAX, put a JAX function in the place of an Op.

    As a rewrite it runs only then, and nobody else needs JAX.
    """
    kept = node.op.engine.kept

    def evaluated(*inputs: Any, kept: Any = kept) -> tuple[Any, ...]:
        return node.op.for_jax(*inputs)

    return jax_op(node, evaluated)


# After all others, and so after `drop_unused_gradient`; PyTensor's own for JAX are at 100.
optdb.register("ratio_to_jax", dfs_rewriter(become_jax_op), "jax", position=100)
