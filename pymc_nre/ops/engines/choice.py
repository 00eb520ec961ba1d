"""Which engine evaluates a ratio in a model: compiled code, or torch.

Code is made for networks that can be traced; torch takes any.
Weights and data enter a graph as shared variables, not as constants: what is compiled for one
network and one data set then serves the next ones.
"""

from __future__ import annotations

import hashlib
import logging
from functools import lru_cache
from weakref import WeakValueDictionary

import numpy as np
import pytensor
import pytensor.tensor as pt
from pytensor.compile.mode import Mode
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.utils import MissingInputError
from pytensor.tensor import TensorConstant, TensorVariable

from ...estimators.estimator import RatioEstimator
from ...estimators.wall import Wall
from ...kernels.traced.evaluator import Traced
from .. import vectorize  # noqa: F401  # registers how graphs with our Ops are vectorized
from ..embedding import Features
from ..guards import check_held, only_finite
from ..ratio_ops import LogRatioAndGradient
from .compilable import compilable, is_small, lost_in_single, whole
from .compiled_engine import CompiledEngine
from .torch_engine import TorchEngine

__all__ = [
    "ENGINES",
    "PRECISIONS",
    "as_data",
    "as_rows",
    "check_engine",
    "is_private",
    "log_ratios",
    "share",
]

ENGINES = ("auto", "compiled", "torch")
PRECISIONS = {"double": np.float64, "single": np.float32}
_KEPT_BYTES = 256 * 2**20  # features of observations are kept if they take no more than this
_log = logging.getLogger("pymc_nre")
_shared: WeakValueDictionary[str, SharedVariable] = WeakValueDictionary()


def check_engine(engine: str, precision: str, ratio: RatioEstimator, outside: str) -> None:
    """Raise ValueError unless this engine can evaluate that ratio."""
    walled = outside == "repel"
    if engine not in ENGINES:
        raise ValueError(f"engine must be one of {', '.join(ENGINES)}, got {engine!r}.")
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be 'double' or 'single', got {precision!r}.")
    if engine == "torch" and precision == "double":
        return
    why = _why_not_compiled(ratio, walled)
    if why and engine == "compiled":
        raise ValueError(f"engine='compiled' cannot evaluate this ratio: {why}. Use 'auto'.")
    if precision == "single" and (why or engine == "torch"):
        raise ValueError(
            "precision='single' is for the compiled engine; "
            f"{why or 'with engine=' + repr(engine)} a ratio is evaluated by torch, in double."
        )
    if precision == "single" and (lost := lost_in_single(ratio, walled)):
        raise ValueError(
            f"precision='single' loses too much of this ratio: {lost}. Use precision='double', or "
            "train it on parameters and observations that are not far from zero."
        )


def as_data(ratio: RatioEstimator, x: TensorVariable) -> TensorVariable:
    """Observations in double precision, as the ratio takes them; constants are shared then."""
    check_held(ratio, x)
    if not isinstance(x, TensorConstant):
        return x.astype("float64")
    return share("x", np.asarray(x.data, dtype=float))


def as_rows(x: TensorVariable, event_shape: tuple[int, ...]) -> TensorVariable:
    """Observations ``(n, *event)`` of ``(*batch, *event)``."""
    if x.ndim == 1 + len(event_shape):
        return x
    if is_private(x):
        return share("x", x.get_value(borrow=True).reshape(-1, *event_shape))
    return x.reshape((-1, *event_shape))


def log_ratios(
    ratio: RatioEstimator,
    theta: TensorVariable,
    x: TensorVariable,
    *,
    outside: str,
    engine: str,
    precision: str,
) -> TensorVariable:
    """Log ratios ``(n,)`` of theta ``(1 or n, D)`` and observations ``(n, *event)``."""
    if outside == "reject":
        # What observations share has no rows: a length of one is forgotten in vectorized graphs.
        inside = ratio.domain.inside(theta[0] if theta.type.broadcastable[0] else theta)
        options = {"outside": "ignore", "engine": engine, "precision": precision}
        return pt.switch(inside, log_ratios(ratio, theta, x, **options), -np.inf)
    walled = outside == "repel"
    if engine == "torch" or not _compiles(ratio, walled):
        # Constants were looked at when the graph was built.
        return _by_torch(ratio, theta, x if is_private(x) else only_finite(ratio, x), walled)
    found, x = _with_features(ratio, x, walled)
    constants = (
        share("moments", found.moments),
        share("weights", found.weights.astype(PRECISIONS[precision])),
    )
    return LogRatioAndGradient(CompiledEngine(found.program))(theta, x, *constants)


def _by_torch(
    ratio: RatioEstimator, theta: TensorVariable, x: TensorVariable, walled: bool
) -> TensorVariable:
    """Log ratios of torch, behind a wall of PyTensor's own operations."""
    evaluated = ratio.for_evaluation()  # kept here until there is a node that keeps it
    evaluate = LogRatioAndGradient(TorchEngine(evaluated))
    if not walled:
        return evaluate(theta, x)
    wall = Wall.around(ratio.domain)
    shared = theta.type.broadcastable[0]
    point = theta[0] if shared else theta
    at, height = point.clip(wall.low, wall.high), wall.height(point)
    values = evaluate(at[None] if shared else at, x)
    return pt.switch(pt.isnan(height), -np.inf, values - height)


def _why_not_compiled(ratio: RatioEstimator, walled: bool) -> str:
    """Why compiled code cannot evaluate a ratio; nothing if they can."""
    if ratio.device.type != "cpu":
        return f"it lives on {ratio.device}"
    if is_small(ratio) and whole(ratio, walled) is not None:
        return ""
    found = compilable(ratio, walled)
    if isinstance(found, str):
        return f"its network, {ratio.architecture}, does not compile: {found}"
    return ""


@lru_cache(maxsize=32)
def _compiles(ratio: RatioEstimator, walled: bool) -> bool:
    """Whether compiled code serves; if not, the log tells why, once."""
    why = _why_not_compiled(ratio, walled)
    if why:
        _log.warning(
            "A ratio is evaluated by torch, which takes several times longer than compiled code, "
            "because %s. If you mean it to be, say engine='torch'.",
            why,
        )
    return not why


def _with_features(
    ratio: RatioEstimator, x: TensorVariable, walled: bool
) -> tuple[Traced, TensorVariable]:
    """What is compiled, and what it takes for x: observations, or their features."""
    private = is_private(x)
    if (is_small(ratio) or not private) and (found := whole(ratio, walled)) is not None:
        return found, x
    data = x.get_value(borrow=True) if private else _value_now(x, ratio.event_shape)
    joined = compilable(ratio, walled)
    columns = joined.program.columns
    if len(data) * columns * 8 > _KEPT_BYTES and (found := whole(ratio, walled)) is not None:
        return found, x
    features = ratio.evaluator.features(data) if len(data) else np.empty((0, columns))
    known = share("features", features)
    if private:
        return joined, known
    evaluated = ratio.for_evaluation()
    return joined, Features(evaluated)(x, share("x", data), known)


def _value_now(x: TensorVariable, event_shape: tuple[int, ...]) -> np.ndarray:
    """What a graph of `pm.Data` holds; no rows if it depends on other things."""
    try:
        data = x.eval(mode=Mode(linker="py", optimizer=None))
    except MissingInputError:
        return np.empty((0, *event_shape))
    return np.asarray(data, dtype=float)


def is_private(x: TensorVariable) -> bool:
    """Whether these data were constants, which nobody can replace."""
    return isinstance(x, SharedVariable) and _shared.get(x.name) is x


def share(kind: str, array: np.ndarray) -> SharedVariable:
    """One shared variable for equal arrays, named by their content."""
    # Axes of length one stay known as such: they broadcast.
    shape = tuple(1 if length == 1 else None for length in array.shape)
    content = hashlib.sha256(repr((array.shape, str(array.dtype))).encode())
    array = np.asarray(array, order="C")
    content.update(array.tobytes())
    name = f"ratio_{kind}_{content.hexdigest()[:16]}"
    shared = _shared.get(name)
    if shared is None:
        shared = pytensor.shared(array, name=name, shape=shape)
        _shared[name] = shared
    return shared
