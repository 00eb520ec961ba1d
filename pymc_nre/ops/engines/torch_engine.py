"""The engine that takes any network: torch, called back from wherever a graph runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from threading import current_thread, main_thread
from typing import Any, ClassVar

import numpy as np
import torch
from pytensor.graph.basic import Apply

from ...estimators.estimator import RatioEstimator
from ...runtime.devices import one_thread_if
from ..held import HeldRatio
from ..ratio_ops import RatioOp
from ..wrappers import by_perform
from .jax_callbacks import JaxCallbacks

__all__ = ["TorchEngine"]


@dataclass(frozen=True, init=False)
class TorchEngine:
    """Evaluates an estimator; engines of equal estimators are equal.

    Parameters
    ----------
    estimator : RatioEstimator
        It is not kept by the engine, but by the nodes of Ops that have the engine.
    """

    held: HeldRatio
    theta_size: int  # D, the length of the packed parameter vector
    x_ndim: int  # axes of observations (n, *event)
    constants: ClassVar[int] = 0

    def __init__(self, estimator: RatioEstimator) -> None:
        object.__setattr__(self, "held", HeldRatio(estimator))
        object.__setattr__(self, "theta_size", estimator.layout.size)
        object.__setattr__(self, "x_ndim", 1 + len(estimator.event_shape))

    @property
    def kept(self) -> RatioEstimator:
        """What nodes keep."""
        return self.held()

    def evaluator(self) -> _InAnyProcess:
        """The estimator's own, for chains."""
        return _InAnyProcess(self.held())

    def jax_evaluator(self) -> JaxCallbacks:
        """It calls back."""
        return JaxCallbacks(self.held())

    def for_numba(self, op: RatioOp, node: Apply, **kwargs: Any) -> tuple[Callable[..., Any], None]:
        """Let Numba call ``op.perform``, where torch is."""
        return by_perform(op, node, **kwargs)

    def __str__(self) -> str:
        return ", ".join(self.held().parameters)


@dataclass(frozen=True)
class _InAnyProcess:
    """The evaluator of an estimator, in the process or the thread of a chain."""

    estimator: RatioEstimator

    def value(self, theta: np.ndarray, x: np.ndarray) -> np.ndarray:
        return self._run("value", theta, x)

    def value_and_gradient(self, theta: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self._run("value_and_gradient", theta, x)

    def hessian_product(self, theta: np.ndarray, x: np.ndarray, v: np.ndarray) -> np.ndarray:
        return self._run("hessian_product", theta, x, v)

    def _run(self, quantity: str, *arguments: np.ndarray) -> Any:
        if self.estimator.device.type == "cuda" and torch.cuda._is_in_bad_fork():
            raise RuntimeError(
                "This ratio lives on CUDA, which cannot be used in a forked process. Sample with "
                "pm.sample(..., cores=1) or mp_ctx='forkserver', or move it: ratio.to('cpu')."
            )
        # Outside the main thread there are samplers with a thread for each chain (nutpie): more
        # threads below each would fight over the cores.
        with one_thread_if(current_thread() is not main_thread()):
            return getattr(self.estimator.evaluator, quantity)(*arguments)
