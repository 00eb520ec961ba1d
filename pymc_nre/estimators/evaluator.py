"""Evaluate log ratios and their derivatives in theta: what every engine does, and torch's way.

`TorchEvaluator` is the engine that takes any network, on the CPU or on CUDA, one log ratio for each
observation. MCMC evaluates it again and again on the same observations, so their embedding
is computed once and kept; and it walks over them in blocks, so that memory stays bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..networks.base import RatioNetwork, floating
from ..runtime.devices import one_thread_if

__all__ = ["Evaluator", "TorchEvaluator", "check_rows", "same_numbers"]

_BLOCK = 16_384  # rows at once: 8 MB for each layer of 64 in float64
_REMEMBERED_BYTES = 256 * 2**20  # embeddings kept for all data sets together
_ONE_THREAD_ROWS = 10_000  # above it two threads gain more than they risk
# Numbers in a layer at once, of a table: from 4,096 rows of 64 on, which fit the cache, blocks take
# longer (2**18 rows: five times), but on an accelerator.
_TABLE_NUMBERS, _TABLE_NUMBERS_CUDA = 2**18, 2**24
_LAYER = 64  # numbers that one log ratio takes in a layer, unless there are more features
_TABLE_ROWS = 1_024  # observations embedded at once
_REMEMBERED_DATA = 4  # data sets whose embeddings are kept (a model may hold several)


@runtime_checkable
class Evaluator(Protocol):
    """What evaluates a ratio; torch, compiled code and JAX are three of them.

    ``theta`` is ``(n, D)``, or ``(1, D)`` where all observations share it, and ``x`` is ``(n,
    *event)``, or whatever stands for observations in an engine. Row by row: nothing is summed.
    """

    def value(self, theta: Any, x: Any) -> Any:
        """Log ratios ``(n,)``."""

    def value_and_gradient(self, theta: Any, x: Any) -> tuple[Any, Any]:
        """Log ratios ``(n,)`` and their gradients in theta, ``(n, D)``."""

    def hessian_product(self, theta: Any, x: Any, v: Any) -> Any:
        """The Hessian in theta times ``v``; both ``(n, D)``."""


@dataclass(frozen=True)
class _Embedded:
    x: np.ndarray  # a private copy: the caller may write into its own
    features: Tensor


class TorchEvaluator:
    """Log ratios and derivatives of a frozen network, NumPy in and out.

    Parameters
    ----------
    network : RatioNetwork
        Frozen, in evaluation mode.

    Notes
    -----
    Below, ``theta`` is ``(n, D)``, or ``(1, D)`` where all observations share it, and ``x``
    is ``(n, *event)``; both float64.
    """

    def __init__(self, network: RatioNetwork) -> None:
        self.network = network
        like = floating(network)
        self._options = {"dtype": like.dtype, "device": like.device}
        self._remembered: list[_Embedded] = []

    def value(self, theta: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Log ratios ``(n,)``."""
        rows = check_rows(theta, x)
        with torch.no_grad(), one_thread_if(rows <= _ONE_THREAD_ROWS):
            parts = [self.network.head(t, f) for t, f in self._blocks(theta, x)]
        return _join(parts, (rows,))

    def value_and_gradient(self, theta: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Log ratios ``(n,)`` and their gradients in theta, ``(n, D)``, row by row."""
        rows = check_rows(theta, x)
        values, gradients = [], []
        with one_thread_if(rows <= _ONE_THREAD_ROWS):
            for t, f in self._blocks(theta, x):
                value, gradient, _ = self._differentiate(t, f)
                values.append(value.detach())
                gradients.append(gradient.detach())
        return _join(values, (rows,)), _join(gradients, (rows, theta.shape[1]))

    def hessian_product(self, theta: np.ndarray, x: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Row by row, the Hessian in theta times ``v``; both ``(n, D)``."""
        rows = check_rows(theta, x)
        products, start = [], 0
        for t, f in self._blocks(theta, x):
            with sdpa_kernel(SDPBackend.MATH):  # others have no second derivatives
                _, gradient, t_rows = self._differentiate(t, f, again=True)
            with torch.enable_grad():
                along = (gradient * self._tensor(v[start : start + len(f)])).sum()
                products.append(self._second_derivative(along, t_rows))
            start += len(f)
        return _join(products, (rows, theta.shape[1]))

    def table(self, theta: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Log ratios ``(b, m)`` of parameters ``(b or 1, m, D)`` and observations ``(b, *event)``.

        Each observation is embedded once, and memory grows by the result only.
        """
        check_rows(theta, x)
        table = np.empty((len(x), theta.shape[1]))
        with torch.no_grad(), one_thread_if(table.size <= _ONE_THREAD_ROWS):
            for start in range(0, len(x), _TABLE_ROWS):
                rows = slice(start, start + _TABLE_ROWS)
                own = theta if len(theta) == 1 else theta[rows]
                self._fill(table[rows], own, self._embed(x[rows]))
        return table

    def _fill(self, table: np.ndarray, theta: np.ndarray, features: Tensor) -> None:
        """A part of a table, in blocks of rows and columns."""
        most = _TABLE_NUMBERS if features.device.type == "cpu" else _TABLE_NUMBERS_CUDA
        most //= self.network.evaluations
        pairs = max(1, most // max(_LAYER, features[0].numel()))
        points = table.shape[1]
        height, width = max(1, pairs // max(points, 1)), min(points, pairs)
        for top in range(0, len(table), height):
            rows = slice(top, top + height)
            own = theta if len(theta) == 1 else theta[rows]
            for left in range(0, points, max(width, 1)):
                columns = slice(left, left + width)
                t = self._tensor(own[:, columns])
                table[rows, columns] = self.network.head(t, features[rows, None]).cpu().numpy()

    def features(self, x: np.ndarray) -> np.ndarray:
        """Features ``(n, F)``, at least one row: what of x the rest of the network is given."""
        with one_thread_if(len(x) <= _ONE_THREAD_ROWS):
            return self._features(x)(0, len(x)).flatten(1).cpu().numpy()

    def _differentiate(
        self, theta: Tensor, features: Tensor, again: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Values, gradients, and the leaf they are taken in, one row for each observation."""
        # Other libraries turn autograd off globally; here it is on whatever they did.
        with torch.enable_grad():
            leaf = theta.expand(len(features), -1).clone().requires_grad_()
            value = self.network.head(leaf, features)
            (gradient,) = torch.autograd.grad(value.sum(), leaf, create_graph=again)
        return value, gradient, leaf

    @staticmethod
    def _second_derivative(along: Tensor, leaf: Tensor) -> Tensor:
        if not along.requires_grad:  # a network that is linear in theta
            return torch.zeros_like(leaf)
        (product,) = torch.autograd.grad(along, leaf, materialize_grads=True)
        return product

    @property
    def _block(self) -> int:
        """Rows at once."""
        return max(1, _BLOCK // self.network.evaluations)

    def _blocks(self, theta: np.ndarray, x: np.ndarray) -> Iterator[tuple[Tensor, Tensor]]:
        """Theta and features, block by block."""
        if not len(x):
            return
        packed = self._tensor(theta)
        shared = len(theta) == 1
        features = self._features(x)
        for start in range(0, len(x), self._block):
            stop = start + self._block
            yield (packed if shared else packed[start:stop]), features(start, stop)

    def _features(self, x: np.ndarray) -> Callable[[int, int], Tensor]:
        """A function that gives the features of rows ``start`` to ``stop``."""
        for known in self._remembered:
            # Comparing costs about a hundredth of an evaluation and sees writes in place.
            if same_numbers(known.x, x):
                return lambda start, stop: known.features[start:stop]
        block = self._block
        first = self._embed(x[:block])
        bytes_needed = first.nbytes / max(len(first), 1) * len(x)
        if bytes_needed > _REMEMBERED_BYTES:
            return lambda start, stop: first if stop == block else self._embed(x[start:stop])
        rest = [self._embed(x[i : i + block]) for i in range(block, len(x), block)]
        features = torch.cat([first, *rest])
        self._remember(_Embedded(x.copy(), features))
        return lambda start, stop: features[start:stop]

    def _remember(self, embedded: _Embedded) -> None:
        kept = [embedded, *self._remembered][:_REMEMBERED_DATA]
        while sum(e.features.nbytes for e in kept) > _REMEMBERED_BYTES:
            kept.pop()
        self._remembered = kept

    def _embed(self, x: np.ndarray) -> Tensor:
        with torch.no_grad():
            return self.network.embed(self._tensor(x))

    def _tensor(self, array: np.ndarray) -> Tensor:
        # A copy: torch warns when it borrows the read-only arrays that PyTensor may pass.
        return torch.tensor(np.ascontiguousarray(array), **self._options)


def _join(parts: list[Tensor], shape: tuple[int, ...]) -> np.ndarray:
    if not parts:
        return np.zeros(shape)
    return torch.cat(parts).cpu().numpy().astype(np.float64, copy=False).reshape(shape)


def same_numbers(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two arrays are equal; what is missing in both is."""
    if one.shape != other.shape:
        return False
    return np.array_equal(one, other) or (
        bool(np.isnan(one).any()) and np.array_equal(one, other, equal_nan=True)
    )


def check_rows(theta: np.ndarray, x: np.ndarray) -> int:
    """The number of observations; ValueError unless theta has one row or as many."""
    if len(theta) not in (1, len(x)):
        raise ValueError(
            f"theta has {len(theta)} rows and x has {len(x)}; expected one row of theta for all "
            "observations, or one for each."
        )
    return len(x)
