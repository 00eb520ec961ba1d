"""A likelihood that is a direct ratio, as a function of two points of a chain."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np
import pymc as pm
import pytensor
from pytensor.tensor import TensorConstant

from ..estimators.contents import pairs_of
from ..estimators.evaluator import same_numbers
from ..estimators.wall import Wall
from ..likelihood.model_parameters import data_graphs, own_node, packed_values
from ..ops.engines.compilable import evaluator_of_pairs

__all__ = ["Comparison"]


class Comparison:
    r"""How much more likely observations are by one point than by another.

    .. math:: \sum_i \tfrac12 [f(\theta_i, \theta'_i, x_i) - f(\theta'_i, \theta_i, x_i)],

    which is the first term alone where the network is antisymmetric. Of a plain one the other is
    not its negative; accepted without it, steps would have a stationary law that depends on how
    long they are.

    Parameters
    ----------
    model : pymc.Model
    variable : TensorVariable
        A `RatioLikelihood` of a direct ratio.
    """

    def __init__(self, model: pm.Model, variable: Any) -> None:
        op = own_node(variable).op
        self.ratio = ratio = op.ratio
        self.layout, self.domain, self.outside = ratio.layout, ratio.domain, op.outside
        self.sizes = [math.prod(own) for own in ratio.parameters.values()]
        self.wall = Wall.around(ratio.domain)
        self.antisymmetric = pairs_of(ratio.uncorrected)["antisymmetric"]
        self.evaluator = evaluator_of_pairs(ratio)
        self._name, graphs = variable.name, data_graphs(model, variable)
        self._may_change = not all(isinstance(graph, TensorConstant) for graph in graphs)
        self._values = pytensor.function([], graphs, mode="FAST_COMPILE")
        self._known: list[np.ndarray] | None = None
        self.read_data()

    def read_data(self) -> None:
        """Take the data as they are now: `pymc.set_data` may have replaced them."""
        known = self._known
        if known is not None and not self._may_change:
            return
        values = self._values()
        if known is not None and all(map(same_numbers, known, values)):
            return
        self._known = [np.array(value) for value in values]
        data = packed_values(self.ratio, values, self._name)
        self.batch = data.shape[: data.ndim - len(self.ratio.event_shape)]
        rows = data.reshape(-1, *self.ratio.event_shape)
        self.counts = np.ones(len(rows))
        if self.ratio.missing is not None:
            self.counts[self.ratio.missing.without_any(rows)] = 0.0
        # Torch embeds, and remembers, by itself.
        of_torch = self.evaluator is self.ratio.evaluator
        self.rows = rows if of_torch else self.ratio.evaluator.features(rows)

    def __call__(self, one: list[np.ndarray], other: list[np.ndarray]) -> float:
        """Log ratio of all observations, of parameters ``(*batch, *own)`` in their order."""
        rows = [self._packed(values) for values in (one, other)]
        if self.outside == "reject" and not self.domain.inside(rows[0]).all():
            return -np.inf
        walls = 0.0
        if self.outside == "repel":
            both = np.stack(np.broadcast_arrays(*rows))
            heights = self.wall.height(both)
            walls = float(((heights[0] - heights[1]) * self.counts).sum())
            rows = list(both.clip(self.wall.low, self.wall.high))
        logs = self._logs(*rows)
        if not self.antisymmetric:
            logs = (logs - self._logs(*rows[::-1])) / 2
        return float((logs * self.counts).sum()) - walls

    def _packed(self, values: list[np.ndarray]) -> np.ndarray:
        """Parameters ``(1 or n, D)``."""
        if all(map(operator.eq, map(np.size, values), self.sizes)):  # shared: a third of a step
            return np.concatenate([np.ravel(each) for each in values]).astype(float)[None]
        packed = self.layout.pack(dict(zip(self.layout.shapes, values, strict=True)))
        return np.broadcast_to(packed, (*self.batch, packed.shape[-1])).reshape(len(self.rows), -1)

    def _logs(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        one, other = np.broadcast_arrays(one, other)
        return self.evaluator.value(np.concatenate([one, other], axis=1), self.rows)
