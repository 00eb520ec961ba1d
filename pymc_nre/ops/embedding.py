"""The Op that embeds observations which may change, for engines that cannot.

The kernels take features. Where the observations of a network with an embedding are constant,
their features are a constant too. Those of a `pm.Data` go through this Op. It is given data and
features that belong together, so that data which nobody has replaced cost a comparison; for
others it calls torch, whose evaluator keeps the features of the last few data sets.

Compiled code calls it by name. So it needs no Python object of its own and can be kept on disk.
"""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, ClassVar

import llvmlite.binding
import numpy as np
import pytensor.tensor as pt
from numba import types
from pytensor.compile import optdb
from pytensor.graph.basic import Apply, Variable
from pytensor.graph.op import Op
from pytensor.graph.rewriting.basic import dfs_rewriter, node_rewriter
from pytensor.link.numba.dispatch.basic import numba_njit, register_funcify_and_cache_key

from ..compat import OpOfBothMajors
from ..estimators.estimator import RatioEstimator
from ..estimators.evaluator import same_numbers
from ..kernels.inputs import MISSING_DATA
from .gradients import not_in_x
from .held import HeldRatio, keep
from .wrappers import host_callback, jax_op, version

__all__ = ["Features"]

_log = logging.getLogger("pymc_nre")
_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int,
    ctypes.POINTER(ctypes.c_double),
    ctypes.c_int64,
    ctypes.POINTER(ctypes.c_double),
)


class Features(OpOfBothMajors, Op):
    """Features ``(n, H)`` of observations ``(n, *event)``; no derivatives.

    It does not keep its estimator, but its nodes do.
    """

    __props__ = ("held",)
    view_map: ClassVar[dict[int, list[int]]] = {0: [2]}

    def __init__(self, estimator: RatioEstimator) -> None:
        self.held, self.event_shape = HeldRatio(estimator), estimator.event_shape
        self.width = estimator.evaluator.features(estimator.probe_x[:1]).shape[1]

    def make_node(self, x: Any, known_x: Any, known_features: Any) -> Apply:
        """Inputs in float64: x, and known observations ``(m, *event)`` with features ``(m, H)``."""
        inputs = [pt.as_tensor_variable(value) for value in (x, known_x, known_features)]
        out = pt.TensorType("float64", shape=(inputs[0].type.shape[0], self.width))()
        return keep(Apply(self, inputs, [out]), self.held())

    def evaluate(self, x: np.ndarray) -> np.ndarray:
        """Features; ValueError where observations have holes."""
        if not self.held().takes(x):
            raise ValueError(MISSING_DATA)
        return self.held().evaluator.features(x)

    def perform(
        self, node: Apply, inputs: Sequence[np.ndarray], output_storage: list[list[Any]]
    ) -> None:
        """Evaluate for the linkers that call Python."""
        x, known_x, known_features = inputs
        known = same_numbers(x, known_x)
        output_storage[0][0] = known_features if known else self.evaluate(x)

    def output_shapes(self, node: Apply, shapes: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Without an evaluation."""
        return [(shapes[0][0], self.width)]

    def pullback(self, inputs: Sequence[Variable], *others: Any) -> list[Variable]:
        """Refused: a ratio is not differentiated in x."""
        return [not_in_x(self, x, i) for i, x in enumerate(inputs)]


_compiled: dict[str, list[Features]] = {}  # by name, Ops that are equal, of ratios that may be gone


def _callback(op: Features) -> str:
    """The name under which compiled code finds an Op.

    Nobody can tell when compiled code is gone, so a name stays for good; estimators only as long as
    the code that keeps them. Code of one of them serves those that are equal, so whichever is there
    still is asked.
    """
    name, _ = _named_callback(op)
    there = [other for other in _compiled.get(name, []) if other.held.is_there()]
    _compiled[name] = [*there, op]
    return name


@cache
def _named_callback(op: Features) -> tuple[str, Any]:
    """A name, and what must outlive all code that knows it."""
    name = f"pymc_nre_features_{op.held.digest}"

    def call(x: Any, n: int, features: Any) -> int:
        try:
            rows = np.ctypeslib.as_array(x, (n, *op.event_shape))
            there = next((o for o in _compiled[name] if o.held.is_there()), op)
            np.ctypeslib.as_array(features, (n, op.width))[:] = there.evaluate(rows)
        except BaseException:  # none may pass through compiled code, Ctrl-C neither
            _log.exception("The embedding of a ratio failed.")
            return 1
        return 0

    callback = _Callback(call)
    llvmlite.binding.add_symbol(name, ctypes.cast(callback, ctypes.c_void_p).value)
    return name, callback


@register_funcify_and_cache_key(Features)
def _numba_features(op: Features, node: Apply, **kwargs: Any) -> tuple[Callable[..., Any], str]:
    width = op.width
    number = types.CPointer(types.float64)
    name = _callback(op)
    embed = types.ExternalFunction(name, types.int32(number, types.int64, number))

    @numba_njit
    def features(x, known_x, known_features):
        rows = np.ascontiguousarray(x)
        if _equal(rows, known_x):
            return known_features
        found = np.empty((len(x), width))
        if len(x) and embed(rows.ctypes, len(x), found.ctypes):
            raise ValueError("The embedding of a ratio failed on these data; the log tells why.")
        return found

    features.py_func.kept_ratio = op.held()
    return features, f"{name} {width} {version()}"


@numba_njit
def _equal(rows, known):
    a, b = rows.reshape(-1), known.reshape(-1)
    same = len(rows) == len(known) and len(a) == len(b)
    for i in range(len(a)):
        missing = a[i] != a[i] and b[i] != b[i]
        same = same and (missing or a[i] == b[i])
    return same


@node_rewriter([Features])
def become_jax_callback(fgraph: Any, node: Apply) -> list[Variable]:
    """Where PyTensor compiles for JAX, call back from there."""

    def features(x: Any, *known: Any) -> tuple[Any, ...]:
        return (host_callback(node.op.evaluate, x, (len(x), node.op.width)),)

    return jax_op(node, features)


optdb.register("features_to_jax", dfs_rewriter(become_jax_callback), "jax", position=100)
