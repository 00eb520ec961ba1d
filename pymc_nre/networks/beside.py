"""An embedding of observations that come with conditions: both in one vector.

A network without an embedding takes that vector as it is. An embedding knows sets, series or
images; so it is given the observation in its own shape, and conditions join its features.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..runtime.arrays import whole_number
from .embeddings import build_embedding
from .layers import Embedding, Specification, Standardize

__all__ = ["Beside", "beside"]


@dataclass(frozen=True, repr=False)
class Beside(Specification):
    """Features of an observation, and its conditions as they are.

    Parameters
    ----------
    embedding : Dense, DeepSet, Convolutional, ResNet or callable
        Of the observation.
    event_shape : tuple of int
        Shape of one observation.
    """

    is_embedding: ClassVar[bool] = True

    embedding: Any = None
    event_shape: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.event_shape, Iterable):
            raise TypeError(f"Beside: event_shape must be a shape, got {self.event_shape!r}.")
        shape = tuple(whole_number(each, "Beside: event_shape") for each in self.event_shape)
        object.__setattr__(self, "event_shape", shape)

    def build(self, event_shape: tuple[int, ...]) -> Embedding:
        """An untrained embedding of vectors that hold an observation and conditions."""
        inner, size = build_embedding(self.embedding, self.event_shape), math.prod(self.event_shape)
        if len(event_shape) != 1 or event_shape[0] <= size:
            raise ValueError(
                f"Beside(event_shape={self.event_shape}) needs vectors of more than {size} "
                f"numbers, got observations of shape {event_shape}."
            )
        standardize = _StandardizeBoth(
            inner.standardize, Standardize((event_shape[0] - size,)), self.event_shape
        )
        body = _EmbedOne(inner.body, inner.standardized or self.event_shape)
        return Embedding(standardize, body, inner.features + event_shape[0] - size)


def beside(network: Any, event_shape: tuple[int, ...] | None) -> Any:
    """The specification of a network for observations of that shape with conditions.

    Without a shape there are none, and the network is as it was.
    """
    embedding = getattr(network, "embedding", None)
    is_specification = isinstance(network, Specification) and embedding is not None
    if event_shape is None or not is_specification or isinstance(embedding, Beside):
        return network
    return replace(network, embedding=Beside(embedding, event_shape))


class _Split(nn.Module):
    def __init__(self, event_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.event_shape, self.size = event_shape, math.prod(event_shape)

    def split(self, packed: Tensor) -> tuple[Tensor, Tensor]:
        """Observations ``(n, *event)`` and conditions ``(n, C)`` of vectors ``(n, K)``."""
        x, conditions = packed.split([self.size, packed.shape[-1] - self.size], -1)
        return x.reshape(len(packed), *self.event_shape), conditions


class _StandardizeBoth(_Split):
    def __init__(
        self, of_x: nn.Module, of_conditions: Standardize, event_shape: tuple[int, ...]
    ) -> None:
        super().__init__(event_shape)
        self.of_x, self.of_conditions = of_x, of_conditions

    def fit(self, values: Tensor) -> None:
        """Take the moments of each."""
        x, conditions = self.split(values)
        self.of_x.fit(x)
        self.of_conditions.fit(conditions)

    def bear_tails(self, values: Tensor) -> None:
        """Spread heavy tails of each, where that can be."""
        for part, own in zip((self.of_x, self.of_conditions), self.split(values), strict=True):
            if hasattr(part, "bear_tails"):
                part.bear_tails(own)

    def forward(self, values: Tensor) -> Tensor:
        x, conditions = self.split(values)
        return torch.cat([self.of_x(x).flatten(1), self.of_conditions(conditions)], -1)


class _EmbedOne(_Split):
    def __init__(self, body: nn.Module, event_shape: tuple[int, ...]) -> None:
        super().__init__(event_shape)
        self.body = body

    def forward(self, packed: Tensor) -> Tensor:
        x, conditions = self.split(packed)
        return torch.cat([self.body(x), conditions], -1)
