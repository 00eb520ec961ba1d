"""The random variable behind `RatioLikelihood`: drawn by a simulator, measured by a ratio.

It is one class for all ratios, an instance for each, so that graphs hash, merge and pickle.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numba
import numpy as np
import pytensor.tensor as pt
from pymc.logprob.abstract import _logprob
from pytensor.graph.basic import Apply
from pytensor.link.numba.dispatch.basic import get_numba_type, numba_njit
from pytensor.link.numba.dispatch.random import numba_core_rv_funcify
from pytensor.tensor import TensorVariable
from pytensor.tensor.random.op import RandomVariable

from ..estimators.estimator import RatioEstimator
from ..ops.data_check import warn_if_new_data_are_far
from ..ops.guards import take_off_mask
from ..ops.held import HeldRatio, keep
from ..simulation.parameters import Layout
from ..simulation.prediction import predict
from ..simulation.simulator import Simulator
from .batches import likelihood_of
from .conditions import warn_if_new_conditions_leave, with_conditions
from .direct import Denominator, direct_likelihood
from .minibatches import some_of_the_whole

__all__ = ["RatioLikelihoodRV"]


class _Observations(TensorVariable):
    """Draws whose shape is known without drawing them, which would run the simulator.

    `pymc.model_to_graphviz` evaluates shapes without the rewrites that see to this elsewhere.
    """

    @property
    def shape(self) -> TensorVariable:
        if self.owner is None or None not in self.type.shape:
            return super().shape
        _, size, *parameters = self.owner.inputs
        return pt.stack(self.owner.op._infer_shape(size, parameters))


class RatioLikelihoodRV(RandomVariable):
    """A random variable whose density in the parameters is a ratio, drawn by a simulator."""

    name = "RatioLikelihood"
    dtype = "floatX"
    __props__ = (
        *("name", "signature", "dtype", "inplace"),
        *("held", "outside", "engine", "precision", "denominator"),
    )
    _print_name = ("RatioLikelihood", "\\operatorname{RatioLikelihood}")

    def __init__(
        self,
        *,
        held: HeldRatio,
        outside: str,
        engine: str,
        precision: str,
        denominator: Denominator | None = None,
        **props: Any,
    ) -> None:
        self.held, self.outside, self.denominator = held, outside, denominator
        self.engine, self.precision = engine, precision
        super().__init__(**props)

    @property
    def ratio(self) -> RatioEstimator:
        """With its simulator; it is kept by the nodes."""
        return self.held()

    @property
    def simulator(self) -> Simulator | None:
        """What draws."""
        return self.held().simulator

    def __str__(self) -> str:
        return f"{self.name}_rv{{{', '.join(self.ratio.parameters)}}}"

    def make_node(self, *arguments: Any, **options: Any) -> Apply:
        """As any random variable's, but for the shape of its draws."""
        node = super().make_node(*arguments, **options)
        rng, draws = (output.type for output in node.outputs)
        node = Apply(node.op, node.inputs, [rng(), _Observations(draws, None)])
        return keep(node, self.held())

    def rng_fn(self, rng: np.random.Generator, *arguments: Any) -> np.ndarray:
        """Simulate; arguments are parameters and conditions in order, then the size."""
        *values, size = arguments
        if self.simulator is None:
            raise ValueError(
                "Predictive sampling needs the simulator, which is not saved with a ratio. Pass "
                "RatioLikelihood(..., simulator=simulator) or nre.load(path, simulator=simulator)."
            )
        packed = [
            layout.pack(named, "RatioLikelihood")
            for layout, named in zip(self._layouts, self.named(values), strict=True)
        ]
        batch = np.broadcast_shapes(*(rows.shape[:-1] for rows in packed))
        batch = batch if size is None else tuple(size)
        given, event, n = {}, self.ratio.observation_shape, math.prod(batch)
        for layout, rows in zip(self._layouts, packed, strict=True):
            given |= layout.unpack(np.broadcast_to(rows, (*batch, layout.size)).reshape(n, -1))
        return predict(self.simulator, rng, given, n, event).reshape((*batch, *event))

    @property
    def _layouts(self) -> list[Layout]:
        """Of the parameters, and of the conditions if there are any."""
        ratio = self.ratio
        return [ratio.layout, *([] if ratio.conditions is None else [ratio.conditions.layout])]

    def named(self, values: Sequence[Any]) -> list[dict[str, Any]]:
        """Parameters, and conditions if there are any, of the inputs in their order."""
        rest = iter(values)
        return [{name: next(rest) for name in layout.shapes} for layout in self._layouts]


@numba_core_rv_funcify.register(RatioLikelihoodRV)
def _numba_draw(op: RatioLikelihoodRV, node: Any) -> tuple[Any, None]:
    """One observation at a time, from Python, where the simulator is; not cached (key None)."""
    core_type = numba.float64
    if op.ndim_supp:
        core_type = get_numba_type(pt.TensorType("float64", shape=(None,) * op.ndim_supp))

    def simulate(rng: Any, parameters: tuple[Any, ...]) -> Any:
        observation = node.op.rng_fn(rng, *parameters, None)  # the node keeps the ratio
        return observation if op.ndim_supp else float(observation)

    @numba_njit
    def draw(rng: Any, *parameters: Any) -> Any:
        with numba.objmode(observation=core_type):
            observation = simulate(rng, parameters)
        return observation  # noqa: RET504  # objmode blocks cannot return

    return draw, None


@_logprob.register(RatioLikelihoodRV)
def _ratio_logprob(
    op: RatioLikelihoodRV, values: Any, rng: Any, size: Any, *parameters: Any, **kwargs: Any
) -> TensorVariable:
    """Unsummed: `pm.compute_log_likelihood` and LOO need one value for each observation."""
    [value] = values
    take_off_mask(op.ratio, value)
    warn_if_new_data_are_far(op.ratio, value)
    named, *given = op.named(parameters)
    for conditions in given:
        warn_if_new_conditions_leave(op.ratio, conditions)
    packed = with_conditions("RatioLikelihood", op.ratio, value, *given)
    options = {"outside": op.outside, "engine": op.engine, "precision": op.precision}
    if op.denominator is None:
        return likelihood_of(op.ratio, packed, named, **options)
    whole = some_of_the_whole(value, *given)
    whole = with_conditions("RatioLikelihood", op.ratio, *whole)
    return direct_likelihood(op.ratio, packed, named, op.denominator, whole=whole, **options)
