"""What the machine code does, slowly: in NumPy, or as JAX traces it.

It goes through the same graph, with an array ``(n, count)`` for each node. In NumPy it is what the
machine code is tested against. JAX makes code of its own of it, without a call back, and has its
own derivatives.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from .graph import Graph, Node, Run
from .program import Program

__all__ = ["JaxEvaluator", "evaluate"]

_MANY_ROWS = 256  # from here on chains go one after another: side by side they leave the cache


def evaluate(
    nodes: tuple[Node, ...], moments: Any, weights: Any, inputs: dict[str, Any], xp: Any
) -> list[Any]:
    """The results ``(n, count)`` of a graph.

    Parameters
    ----------
    nodes : tuple of Node
    moments : array, shape (M,)
    weights : array, shape (W,)
    inputs : dict of str to array
        ``theta``, ``x`` and perhaps ``along``, each with n rows.
    xp : module
        `numpy`, or `jax.numpy`.
    """
    return _Twin(Graph.of(nodes), moments, weights, inputs, xp).run()


class _Twin:
    def __init__(
        self, graph: Graph, moments: Any, weights: Any, inputs: dict[str, Any], xp: Any
    ) -> None:
        self.graph, self.inputs, self.xp = graph, inputs, xp
        self.moments, self.weights = moments, weights
        self._values: dict[int, Any] = {}
        self._functions = _functions(xp)

    def run(self) -> list[Any]:
        results = []
        for node in self.graph.nodes:
            value = self._value(node)
            if node.kind == "result":
                n = len(self.inputs["x"])
                results.append(self.xp.broadcast_to(value, (n, node.count)))
            else:
                self._values[node.start] = value
        return results

    def _value(self, node: Node) -> Any:
        method = getattr(self, f"_{node.kind}", None)
        if method is not None:
            return method(node)
        if node.kind in self.inputs:
            return self.inputs[node.kind]
        values = [self._columns(run, node.count) for run in node.inputs]
        value = self._functions[node.kind](*values)
        return self.xp.broadcast_to(value, (len(value), node.count))

    def _columns(self, run: Run, count: int) -> Any:
        maker = self.graph.maker(run.start)
        first = run.start - maker.start
        return self._values[maker.start][:, first : first + (count if run.step else 1)]

    def _centered(self, node: Node) -> Any:
        kind, first = node.options
        return self.inputs[kind] - self.moments[None, first : first + node.count]

    def _weight(self, node: Node) -> Any:
        (first,) = node.options
        return self.weights[None, first : first + node.count]

    def _literal(self, node: Node) -> Any:
        return self.xp.full((1, 1), node.options[0])

    def _result(self, node: Node) -> Any:
        return self._columns(node.inputs[0], node.count)

    def _gather(self, node: Node) -> Any:
        makers = [self.graph.maker(column) for column in node.options[0]]
        parts = [
            self._values[maker.start][:, column - maker.start]
            for maker, column in zip(makers, node.options[0], strict=True)
        ]
        return self.xp.stack(self.xp.broadcast_arrays(*parts), -1)

    def _layer(self, node: Node) -> Any:
        matrix, bias, inner = node.options
        weights = self.weights[matrix : matrix + inner * node.count].reshape(inner, node.count)
        product = self._matmul(self._columns(node.inputs[0], inner), weights)
        return product if bias < 0 else product + self.weights[None, bias : bias + node.count]

    def _product(self, node: Node) -> Any:
        m, k, n = node.options
        left = self._columns(node.inputs[0], m * k).reshape(-1, m, k)
        right = self._columns(node.inputs[1], k * n).reshape(-1, k, n)
        return self._matmul(left, right).reshape(-1, m * n)

    def _matmul(self, left: Any, right: Any) -> Any:
        if self.xp is np:
            return left @ right
        import jax

        # XLA rounds more on accelerators, unless it is told not to.
        return self.xp.matmul(left, right, precision=jax.lax.Precision.HIGHEST)

    def _folds(self, node: Node) -> Any:
        (length,) = node.options
        columns = self._columns(node.inputs[0], node.count * length)
        return columns.reshape(-1, node.count, length)

    def _sum(self, node: Node) -> Any:
        return self._folds(node).sum(-1)

    def _largest(self, node: Node) -> Any:
        return self._folds(node).max(-1)

    def _smallest(self, node: Node) -> Any:
        return self._folds(node).min(-1)


def _functions(xp: Any) -> dict[str, Any]:
    """Primitives of arrays."""
    if xp is np:
        from scipy import special
    else:
        from jax.scipy import special
    functions = {
        "add": lambda x, y: x + y,
        "sub": lambda x, y: x - y,
        "mul": lambda x, y: x * y,
        "div": lambda x, y: x / y,
        "neg": lambda x: -x,
        "sigmoid": special.expit,
        "erf": special.erf,
        "lgamma": special.gammaln,
        "digamma": special.digamma,
        "pow": xp.power,
        "max": xp.maximum,
        "min": xp.minimum,
        "where": lambda c, x, y: xp.where(c != 0, x, y),
        "both": lambda x, y: ((x != 0) & (y != 0)) * 1.0,
        "either": lambda x, y: ((x != 0) | (y != 0)) * 1.0,
        "gt": lambda x, y: (x > y) * 1.0,
        "ge": lambda x, y: (x >= y) * 1.0,
        "lt": lambda x, y: (x < y) * 1.0,
        "le": lambda x, y: (x <= y) * 1.0,
        "eq": lambda x, y: (x == y) * 1.0,
        "ne": lambda x, y: (x != y) * 1.0,
    }
    plain = ["exp", "expm1", "log", "log1p", "sqrt", "tanh", "sin", "cos", "abs", "floor", "ceil"]
    return functions | {name: getattr(xp, name) for name in plain}


@dataclass(frozen=True, eq=False)
class JaxEvaluator:
    """Log ratios and derivatives of a traced network, as JAX traces them.

    The gradient is the one that torch wrote down, and not one of JAX's: where a network chooses
    by `torch.where`, what is not chosen may have no derivative.

    Parameters
    ----------
    program : Program
    moments, weights : array, shapes (M,) and (W,)
    """

    program: Program
    moments: Any
    weights: Any

    def value(self, theta: Any, x: Any) -> Any:
        """Log ratios ``(n,)``."""
        return _differentiable(self.program)[0](self._rows(theta, x), x, *self._constants())

    def value_and_gradient(self, theta: Any, x: Any) -> tuple[Any, Any]:
        """Log ratios ``(n,)`` and the gradients of each row in its parameters, ``(n, D)``."""
        return _differentiable(self.program)[1](self._rows(theta, x), x, *self._constants())

    def hessian_product(self, theta: Any, x: Any, v: Any) -> Any:
        """The Hessians of each row times ``v``; both ``(n, D)``."""
        import jax

        rows = self._rows(theta, x)
        # What is linear in v can be transposed only if JAX sees that it is.
        if self._is_tracer(v):
            units = jax.numpy.eye(self.program.size, dtype=rows.dtype)
            columns = [
                self._evaluate("hessian_product", rows, x, jax.numpy.broadcast_to(u, rows.shape))[0]
                for u in units
            ]
            return (jax.numpy.stack(columns, -1) * v[:, None, :]).sum(-1)
        return self._evaluate("hessian_product", rows, x, v)[0]

    @staticmethod
    def _is_tracer(v: Any) -> bool:
        import jax

        return isinstance(v, jax.core.Tracer)

    def _rows(self, theta: Any, x: Any) -> Any:
        import jax.numpy as jnp

        theta = jnp.asarray(theta, jnp.result_type(float))
        return jnp.broadcast_to(theta, (len(x), theta.shape[1]))

    def _constants(self) -> tuple[Any, Any]:
        return self.moments, self.weights

    def _evaluate(self, quantity: str, theta: Any, x: Any, *along: Any) -> list[Any]:
        import jax.numpy as jnp
        from jax.custom_batching import sequential_vmap

        kind = jnp.result_type(float)
        x = jnp.asarray(x, kind).reshape(len(x), math.prod(x.shape[1:]))
        constants = (jnp.asarray(vector, kind) for vector in (self.moments, self.weights))

        def results(moments: Any, weights: Any, theta: Any, x: Any, *along: Any) -> list[Any]:
            inputs = {"theta": theta, "x": x} | dict(zip(["along"], along, strict=False))
            return evaluate(getattr(self.program, quantity), moments, weights, inputs, jnp)

        if len(x) >= _MANY_ROWS:
            results = sequential_vmap(results)
        return results(*constants, theta, x, *along)


@lru_cache(maxsize=32)
def _differentiable(program: Program) -> tuple[Any, Any]:
    """Values, and values and gradients, with the derivatives that torch wrote down.

    All that JAX may trace is an argument, not only what there are derivatives in.
    """
    import jax

    @jax.custom_jvp
    def value(theta: Any, x: Any, *constants: Any) -> Any:
        return JaxEvaluator(program, *constants)._evaluate("value", theta, x)[0][:, 0]

    @jax.custom_jvp
    def both(theta: Any, x: Any, *constants: Any) -> Any:
        evaluate = JaxEvaluator(program, *constants)._evaluate
        values, gradients = evaluate("value_and_gradient", theta, x)
        return values[:, 0], gradients

    @value.defjvp
    def of_value(primals: Any, tangents: Any) -> Any:
        values, gradients = both(*primals)
        return values, (gradients * tangents[0]).sum(-1)

    @both.defjvp
    def of_both(primals: Any, tangents: Any) -> Any:
        (theta, x, *constants), along = primals, tangents[0]
        values, gradients = both(*primals)
        products = JaxEvaluator(program, *constants).hessian_product(theta, x, along)
        return (values, gradients), ((gradients * along).sum(-1), products)

    return value, both
