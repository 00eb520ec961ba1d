"""Sums over trials of log ratios, of many data sets at many parameters, with derivatives.

Searches ask again and again for the same observations at other parameters. So what networks
make of observations is computed once, by the compiled engine where a network can be traced. Memory
is bounded by blocks, whatever the number of data sets, trials and parameters.

Shapes: ``S`` data sets, ``n`` trials of each, ``R`` rows, each a data set at some parameters.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ...estimators.estimator import RatioEstimator
from ...estimators.evaluator import Evaluator, TorchEvaluator
from ...kernels.traced.evaluator import CompiledEvaluator
from ...networks.base import RatioNetwork, floating
from ...ops.engines.compilable import compilable, is_small, whole

__all__ = ["SummedRatio"]

_NUMBERS = 2**21  # of parameters and observations at once: 16 MB
_PAIRS = 2**17  # and log ratios of single trials


@dataclass(frozen=True)
class SummedRatio:
    """Of one ratio and data sets.

    Attributes
    ----------
    evaluator : Evaluator
    x : ndarray, shape (S, n, *F)
        What it takes for observations.
    silent : ndarray, shape (S, n), optional
        Trials that tell nothing, since all of their numbers are missing.
    """

    evaluator: Evaluator
    x: np.ndarray
    silent: np.ndarray | None = None

    @classmethod
    def of(cls, ratio: RatioEstimator, rows: np.ndarray) -> SummedRatio:
        """Of observations ``(S, n, *event)`` with their conditions."""
        flat = rows.reshape(-1, *ratio.event_shape)
        silent = None
        if ratio.missing is not None:
            silent = ratio.missing.without_any(flat).reshape(rows.shape[:2])
        evaluator, known = _engine(ratio, flat)
        return cls(evaluator, known.reshape(*rows.shape[:2], *known.shape[1:]), silent)

    @property
    def trials(self) -> int:
        """Of each data set."""
        return self.x.shape[1]

    def some(self, trials: int) -> SummedRatio:
        """Of that many trials of each data set, evenly taken, and not of more than there are."""
        if trials >= self.trials:
            return self
        chosen = np.arange(trials) * self.trials // trials
        silent = None if self.silent is None else self.silent[:, chosen]
        return replace(self, x=self.x[:, chosen], silent=silent)

    def value(self, theta: np.ndarray, which: np.ndarray) -> np.ndarray:
        """Sums ``(R,)`` at parameters ``(R, D)``, of the data sets of these indices ``(R,)``."""
        total = np.zeros(len(theta))
        for rows, t, x, told in self._blocks(theta, which):
            total[rows] += (self.evaluator.value(t, x).reshape(told.shape) * told).sum(1)
        return total

    def table(self, theta: np.ndarray, which: np.ndarray) -> np.ndarray:
        """Sums ``(R, C)`` at parameters ``(R, C, D)``, of the data sets of indices ``(R,)``."""
        table = np.empty(theta.shape[:2])
        rows = max(1, _PAIRS // theta.shape[1])
        for start in range(0, len(theta), rows):
            part, owners = theta[start : start + rows], which[start : start + rows]
            flat = part.reshape(-1, part.shape[2])
            values = self.value(flat, np.repeat(owners, part.shape[1]))
            table[start : start + rows] = values.reshape(part.shape[:2])
        return table

    def value_and_gradient(
        self, theta: np.ndarray, which: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The same, and gradients ``(R, D)``."""
        total, slope = np.zeros(len(theta)), np.zeros(theta.shape)
        for rows, t, x, told in self._blocks(theta, which):
            values, gradients = self.evaluator.value_and_gradient(t, x)
            total[rows] += (values.reshape(told.shape) * told).sum(1)
            slope[rows] += (gradients.reshape(*told.shape, -1) * told[..., None]).sum(1)
        return total, slope

    def hessian(self, theta: np.ndarray, which: np.ndarray) -> np.ndarray:
        """Second derivatives ``(R, D, D)``."""
        size = theta.shape[1]
        found = np.zeros((len(theta), size, size))
        for rows, t, x, told in self._blocks(theta, which):
            for d in range(size):
                along = np.zeros(t.shape)
                along[:, d] = 1.0
                products = self.evaluator.hessian_product(t, x, along)
                found[rows, d] += (products.reshape(*told.shape, size) * told[..., None]).sum(1)
        return (found + found.swapaxes(1, 2)) / 2

    def _blocks(
        self, theta: np.ndarray, which: np.ndarray
    ) -> Iterator[tuple[slice, np.ndarray, np.ndarray, np.ndarray]]:
        """Rows, and their parameters and observations, trial by trial, and which of them tell."""
        each = theta.shape[1] + int(np.prod(self.x.shape[2:]))
        pairs = max(1, min(_PAIRS, _NUMBERS // each))
        height, width = max(1, pairs // self.trials), min(self.trials, pairs)
        for top in range(0, len(theta), height):
            rows = slice(top, top + height)
            for left in range(0, self.trials, width):
                columns = slice(left, left + width)
                x = self.x[which[rows], columns]
                told = np.ones(x.shape[:2], bool)
                if self.silent is not None:
                    told = ~self.silent[which[rows], columns]
                t = np.repeat(theta[rows], x.shape[1], axis=0)
                yield rows, t, x.reshape(-1, *x.shape[2:]), told


def _engine(ratio: RatioEstimator, x: np.ndarray) -> tuple[Evaluator, np.ndarray]:
    """What evaluates it, and observations ``(N, *event)`` as that takes them."""
    if ratio.device.type == "cpu":
        if is_small(ratio) and (found := whole(ratio, False)) is not None:
            return CompiledEvaluator.of(found), x.reshape(len(x), -1)
        traced = compilable(ratio, False)
        if not isinstance(traced, str):
            return CompiledEvaluator.of(traced), ratio.evaluator.features(x)
    features = ratio.evaluator.features(x)
    return TorchEvaluator(_Head(ratio.network, _feature_shape(ratio))), features


def _feature_shape(ratio: RatioEstimator) -> tuple[int, ...]:
    like = floating(ratio.network)
    with torch.no_grad():
        one = torch.tensor(ratio.probe_x[:1], dtype=like.dtype, device=like.device)
        return tuple(ratio.network.embed(one).shape[1:])


class _Head(RatioNetwork):
    """A network of which observations were embedded before."""

    def __init__(self, network: RatioNetwork, shape: tuple[int, ...]) -> None:
        super().__init__(1, ())
        self.network, self.shape = network, shape
        self.to(floating(network))
        self.evaluations = network.evaluations

    def embed(self, x: Tensor) -> Tensor:
        return x.reshape(-1, *self.shape)

    def head(self, theta: Tensor, features: Tensor) -> Tensor:
        return self.network.head(theta, features)
