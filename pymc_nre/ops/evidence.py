r"""The log ratio to the evidence, of a table of log ratios to draws of the training prior.

A table ``(S, *groups, *trials)`` has the log ratios :math:`f_{ji}` of S draws. Of each group

.. math:: L = -\log \frac1S \sum_j e^{-F_j}, \quad F_j = \sum_i f_{ji},

and models want a value for each trial. It gets the mean :math:`\sum_j w_j f_{ji}` of its own log
ratios, by weights :math:`w_j \propto e^{-F_j}`, and an equal share of what these leave of L. What
is differentiated is the sum: each trial has the derivative of an equal share of L.

These are Ops, with code of their own, because PyTensor takes most of a minute to compile for Numba
what takes a dozen of its operations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.compile import optdb
from pytensor.graph.basic import Apply, Variable
from pytensor.graph.op import Op
from pytensor.graph.rewriting.basic import dfs_rewriter, node_rewriter
from pytensor.link.numba.dispatch.basic import numba_njit, register_funcify_and_cache_key

from ..compat import OpOfBothMajors
from .wrappers import jax_op, version

__all__ = ["TrialEvidence", "TrialWeights"]

# What infinite log ratios count as, so that differences of two are numbers; many trials of it too.
_LARGEST = 1e290


class _OfTable(OpOfBothMajors, Op):
    """One input, a table ``(S, *groups, *trials)`` in float64.

    Parameters
    ----------
    trials : int
        How many of its last axes are trials.
    """

    __props__ = ("trials",)

    def __init__(self, trials: int) -> None:
        self.trials = trials

    def make_node(self, table: Any) -> Apply:
        """Types of what it gives follow from that of the table."""
        table = pt.as_tensor_variable(table)
        return Apply(self, [table], [pt.TensorType("float64", shape=self.kept(table.type.shape))()])

    def kept(self, shape: Sequence[Any]) -> tuple[Any, ...]:
        """The shape of what it gives, of that of a table."""
        raise NotImplementedError

    def output_shapes(self, node: Apply, shapes: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Without an evaluation."""
        return [self.kept(shapes[0])]

    def perform(
        self, node: Apply, inputs: Sequence[np.ndarray], output_storage: list[list[Any]]
    ) -> None:
        """Evaluate for the linkers that call Python."""
        output_storage[0][0] = self.evaluate(inputs[0], np)

    def evaluate(self, table: Any, numpy: Any) -> Any:
        """By NumPy, or what is written like it."""
        raise NotImplementedError

    def together(self, table: Any) -> tuple[Any, ...]:
        """Sums ``(S, *groups, 1...)`` over trials."""
        return table.sum(self._axes(table), keepdims=True) if self.trials else table

    def _axes(self, table: Any) -> tuple[int, ...]:
        return tuple(range(table.ndim - self.trials, table.ndim))


class TrialWeights(_OfTable):
    """What each draw counts for, ``(S, *groups, 1...)``: they add up to one."""

    def kept(self, shape: Sequence[Any]) -> tuple[Any, ...]:
        """With a length of one for all trials."""
        return (*shape[: len(shape) - self.trials], *[1] * self.trials)

    def evaluate(self, table: Any, numpy: Any) -> Any:
        """By NumPy, or what is written like it."""
        sums = -self.together(_bounded(table, numpy))
        terms = numpy.exp(sums - sums.max(0))
        return terms / terms.sum(0)

    def pullback(
        self, inputs: Sequence[Variable], outputs: Sequence[Variable], cotangents: Any
    ) -> list[Variable]:
        """Second derivatives of L."""
        [table], [weights], [own] = inputs, outputs, cotangents
        slopes = weights * ((weights * own).sum(0) - own)
        return [slopes + pt.zeros_like(table)]


class TrialEvidence(_OfTable):
    """A value for each trial, ``(*groups, *trials)``; those of a group add up to its L."""

    def kept(self, shape: Sequence[Any]) -> tuple[Any, ...]:
        """Without the draws."""
        return tuple(shape[1:])

    def evaluate(self, table: Any, numpy: Any) -> Any:
        """By NumPy, or what is written like it."""
        table = _bounded(table, numpy)
        sums = -self.together(table)
        highest = sums.max(0)
        terms = numpy.exp(sums - highest)
        weights = terms / terms.sum(0)
        whole = -highest - numpy.log(terms.mean(0))
        own = (weights * table).sum(0)
        count = max(1, table.size // sums.size)  # there may be no trials
        values = own + (whole + (weights * sums).sum(0)) / count
        return numpy.where(highest >= _LARGEST, -numpy.inf, values)

    def pullback(
        self, inputs: Sequence[Variable], outputs: Sequence[Variable], cotangents: Any
    ) -> list[Variable]:
        """That of an equal share of L for each trial."""
        [table], [own] = inputs, cotangents
        if self.trials:
            own = own.mean(tuple(range(own.ndim - self.trials, own.ndim)), keepdims=True)
        return [TrialWeights(self.trials)(table) * own + pt.zeros_like(table)]


def _bounded(table: Any, numpy: Any) -> Any:
    return numpy.clip(table, -_LARGEST, _LARGEST)


@register_funcify_and_cache_key(_OfTable)
def _for_numba(op: _OfTable, node: Apply, **kwargs: Any) -> tuple[Callable[..., Any], str]:
    trials, ndim = op.trials, node.inputs[0].type.ndim

    @numba_njit
    def tables(table):
        count = 1
        for axis in range(ndim - trials, ndim):
            count *= table.shape[axis]
        draws = table.shape[0]
        groups = table.size // max(draws * count, 1)
        bounded = np.minimum(np.maximum(table, -_LARGEST), _LARGEST)
        return bounded.reshape((draws, groups, count))

    @numba_njit
    def weights_of(of):
        sums = -of.sum(2)
        for g in range(sums.shape[1]):
            terms = np.exp(sums[:, g] - sums[:, g].max())
            sums[:, g] = terms / terms.sum()
        return sums

    make = _numba_weights if isinstance(op, TrialWeights) else _numba_evidence
    return make(
        tables, weights_of, ndim - trials, trials
    ), f"{type(op).__name__} {trials} {ndim} {version()}"


def _numba_weights(tables: Any, weights_of: Any, lead: int, trials: int) -> Callable[..., Any]:
    ones = (1,) * trials

    @numba_njit
    def weights(table):
        found = weights_of(tables(table))
        return found.reshape(table.shape[:lead] + ones)

    return weights


def _numba_evidence(tables: Any, weights_of: Any, lead: int, trials: int) -> Callable[..., Any]:
    @numba_njit
    def evidence(table):
        of = tables(table)
        draws, groups, count = of.shape
        weights, values = weights_of(of), np.zeros((groups, count))
        for g in range(groups):
            lowest, rest = of[:, g].sum(1).min(), 0.0
            for j in range(draws):
                total = of[j, g].sum()
                rest += np.exp(lowest - total)
                values[g] += weights[j, g] * of[j, g]
            whole = lowest - np.log(rest / draws)
            values[g] += (whole - values[g].sum()) / count
            if lowest <= -_LARGEST:
                values[g] = -np.inf
        return values.reshape(table.shape[1:])

    return evidence


@node_rewriter([TrialEvidence, TrialWeights])
def become_jax_op(fgraph: Any, node: Apply) -> list[Variable]:
    """Where PyTensor compiles for JAX, the same by its NumPy."""
    import jax.numpy

    op = node.op
    return jax_op(node, lambda table: (op.evaluate(table, jax.numpy),))


optdb.register("evidence_to_jax", dfs_rewriter(become_jax_op), "jax", position=100)
