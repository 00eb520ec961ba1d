"""A likelihood that is a direct ratio, as a function of two points of a chain."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np
import pymc as pm

from ..estimators.contents import pairs_of
from ..estimators.wall import Wall
from ..likelihood.model_parameters import own_node, packed_data
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
        ratio, data = op.ratio, packed_data(model, variable, variable.name)
        self.batch = data.shape[: data.ndim - len(ratio.event_shape)]
        rows = data.reshape(-1, *ratio.event_shape)
        self.counts = np.ones(len(rows))
        if ratio.missing is not None:
            self.counts[ratio.missing.without_any(rows)] = 0.0
        self.layout, self.domain, self.outside = ratio.layout, ratio.domain, op.outside
        self.sizes = [math.prod(own) for own in ratio.parameters.values()]
        self.wall = Wall.around(ratio.domain)
        self.antisymmetric = pairs_of(ratio.uncorrected)["antisymmetric"]
        self.evaluator = evaluator_of_pairs(ratio)
        of_torch = self.evaluator is ratio.evaluator  # which embeds, and remembers, by itself
        self.rows = rows if of_torch else ratio.evaluator.features(rows)

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
