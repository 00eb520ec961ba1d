"""Which engine evaluates a ratio in a model: compiled kernels, or torch.

The kernels take networks of the family that `pymc_nre.networks` builds; torch takes any.
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
import torch
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.tensor import TensorConstant, TensorVariable

from .compiled_ops import CompiledRatioAndGradient
from .estimator import RatioEstimator
from .export import Exported, export, takes_numbers
from .guard import check_held, only_finite
from .ops import LogRatioAndGradient, make_torch_survive_forks

__all__ = ["ENGINES", "PRECISIONS", "as_data", "as_rows", "check_engine", "log_ratios"]

ENGINES = ("auto", "compiled", "torch")
PRECISIONS = {"double": np.float64, "single": np.float32}
_DIRECT = 8  # with more numbers in an observation, their part of the first layer is kept
_KEPT_BYTES = 256 * 2**20  # and if it takes no more than this
_log = logging.getLogger("pymc_nre")
_shared: WeakValueDictionary[str, SharedVariable] = WeakValueDictionary()


def check_engine(engine: str, precision: str, ratio: RatioEstimator) -> None:
    """Raise ValueError unless this engine can evaluate that ratio."""
    if engine not in ENGINES:
        raise ValueError(f"engine must be one of {', '.join(ENGINES)}, got {engine!r}.")
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be 'double' or 'single', got {precision!r}.")
    why = _why_not_compiled(ratio)
    if why and engine == "compiled":
        raise ValueError(f"engine='compiled' cannot evaluate this ratio: {why}. Use 'auto'.")
    if precision == "single" and (why or engine == "torch"):
        raise ValueError(
            "precision='single' is for the compiled engine; "
            f"{why or 'with engine=' + repr(engine)} a ratio is evaluated by torch, in double."
        )


def as_data(x: TensorVariable) -> TensorVariable:
    """Observations in double precision, without holes; constants become shared variables."""
    check_held(x)
    if not isinstance(x, TensorConstant):
        return x.astype("float64")
    return _share("x", np.asarray(x.data, dtype=float))


def as_rows(x: TensorVariable, event_shape: tuple[int, ...]) -> TensorVariable:
    """Observations ``(n, *event)`` of ``(*batch, *event)``."""
    if x.ndim == 1 + len(event_shape):
        return x
    if _is_private(x):
        return _share("x", x.get_value(borrow=True).reshape(-1, *event_shape))
    return x.reshape((-1, *event_shape))


def log_ratios(
    ratio: RatioEstimator,
    theta: TensorVariable,
    x: TensorVariable,
    *,
    reject: bool,
    engine: str,
    precision: str,
) -> TensorVariable:
    """Log ratios ``(n,)`` of theta ``(1 or n, D)`` and observations ``(n, *event)``."""
    if engine == "torch" or not _compiles(ratio, x):
        # Constants were looked at when the graph was built.
        values = LogRatioAndGradient(ratio)(theta, x if _is_private(x) else only_finite(x))
        return pt.switch(ratio.domain.inside(theta), values, -np.inf) if reject else values
    make_torch_survive_forks()  # the user's own code may use it in a chain's process
    exported, x = _with_features(ratio, x)
    arrays = {
        "moments": exported.moments,
        "weights": exported.weights.astype(PRECISIONS[precision]),
        "domain": ratio.domain.to_vector() if reject else np.empty(0),
    }
    constants = [_share(name, array) for name, array in arrays.items()]
    return CompiledRatioAndGradient(exported.program)(theta, x, *constants)


def _why_not_compiled(ratio: RatioEstimator) -> str:
    """Why the kernels cannot evaluate a ratio; nothing if they can."""
    if ratio.device.type != "cpu":
        return f"it lives on {ratio.device}"
    if _exported(ratio, True) is None:
        return f"its network, {type(ratio.network).__name__}, is not built of MLP or ResidualMLP"
    return ""


def _compiles(ratio: RatioEstimator, x: TensorVariable) -> bool:
    """Whether the kernels serve; if not, the log tells why."""
    why = _why_not_compiled(ratio)
    if not why and not takes_numbers(ratio.network) and not _is_private(x):
        why = "its embedding must be evaluated again if the data change"
    if why:
        _log.info("A ratio is evaluated by torch, because %s.", why)
    return not why


def _with_features(ratio: RatioEstimator, x: TensorVariable) -> tuple[Exported, TensorVariable]:
    """What the kernels run, and what they take for x: observations, or their features."""
    direct = _exported(ratio, False)
    if direct is not None and (np.prod(ratio.event_shape) <= _DIRECT or not _is_private(x)):
        return direct, x
    data = x.get_value(borrow=True)
    width = ratio.network.x_in.out_features
    if direct is not None and len(data) * width * 8 > _KEPT_BYTES:
        return direct, x
    with torch.no_grad():
        features = ratio.network.embed(torch.tensor(data)).numpy()
    return _exported(ratio, True), _share("features", features)


@lru_cache(maxsize=32)
def _exported(ratio: RatioEstimator, features: bool) -> Exported | None:
    return export(ratio.network, features=features)


def _is_private(x: TensorVariable) -> bool:
    """Whether these data were constants, which nobody can replace."""
    return isinstance(x, SharedVariable) and _shared.get(x.name) is x


def _share(kind: str, array: np.ndarray) -> SharedVariable:
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
