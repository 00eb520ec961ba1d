"""An embedding of observations with missing numbers, which are NaN.

What is missing is zero after standardization, the mean of the training data, and a mask of ones and
zeros beside the numbers tells the network where that is so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from .beside import Beside
from .convolutions import Convolutional, ResNet
from .embeddings import DeepSet, build_embedding
from .layers import Embedding, Specification, Standardize

__all__ = ["Incomplete", "Seen", "incomplete", "sees_holes"]


@dataclass(frozen=True, repr=False)
class Incomplete(Specification):
    """Features of an observation with its mask.

    Parameters
    ----------
    embedding : Dense, DeepSet, Convolutional, ResNet or callable, optional
        Of both. Series and images get the mask as further channels, sets as further numbers of
        each member; a callable is given them side by side along a new last axis, ``(*event, 2)``.
    """

    is_embedding: ClassVar[bool] = True

    embedding: Any = None

    def build(self, event_shape: tuple[int, ...]) -> Embedding:
        """An untrained embedding of observations of that shape."""
        places, axis = _places(self.embedding, event_shape)
        both = tuple(2 * n if i == axis else n for i, n in enumerate(places))
        inner = build_embedding(self.embedding, both)
        own = hasattr(self.embedding, "build")
        numbers = self.embedding.build(event_shape).standardize if own else Standardize(event_shape)
        return Embedding(Seen(numbers, places, axis), inner.body, inner.features, both)


class Seen(nn.Module):
    """Standardized numbers, zero where they are missing, and the mask along one of the axes.

    Parameters
    ----------
    numbers : nn.Module
        Standardizes observations.
    places : tuple of int
        Their shape, with the axis.
    axis : int
    """

    def __init__(self, numbers: nn.Module, places: tuple[int, ...], axis: int) -> None:
        super().__init__()
        self.numbers, self.places, self.axis = numbers, places, axis

    def fit(self, values: Tensor) -> None:
        """Take the moments of whole observations."""
        self.numbers.fit(values)

    def bear_tails(self, values: Tensor) -> None:
        """Spread heavy tails, where that can be."""
        if hasattr(self.numbers, "bear_tails"):
            self.numbers.bear_tails(values)

    def forward(self, values: Tensor) -> Tensor:
        """Of observations ``(n, *event)``."""
        holes = values.isnan()
        # Before too: what standardizes may look at what it is given.
        known = self.numbers(values.masked_fill(holes, 0.0)).masked_fill(holes, 0.0)
        parts = (part.reshape(len(values), *self.places) for part in (known, holes.to(known)))
        return torch.cat([*parts], 1 + self.axis)


def incomplete(network: Any) -> Any:
    """The specification of a network for observations with missing numbers.

    Raises
    ------
    TypeError
        If it is no specification, whose first layers are made here.
    ValueError
        If its embedding has a mask of its own.
    """
    if sees_holes(network):
        return network
    if not isinstance(network, Specification) or not hasattr(network, "embedding"):
        raise TypeError(
            "train: missing: expected network= to be MLP or ResidualMLP, whose first layer is "
            f"given the mask beside the numbers, got {network!r}. Make yours an embedding, "
            "network=MLP(embedding=lambda event_shape: Mine(event_shape)), of event_shape "
            "(*event, 2): numbers, and 1 where they are missing."
        )
    if getattr(network, "features", None) is not None:
        raise ValueError(
            "train: missing: features= would be given NaN where numbers are missing. Leave them "
            "out, or let an embedding find them."
        )
    embedding = network.embedding
    if isinstance(embedding, DeepSet) and embedding.masked:
        raise ValueError(
            "train: missing: DeepSet(masked=True) has a mask of its own. Leave members that are "
            "missing out of the sets, or train with DeepSet(masked=False)."
        )
    return replace(network, embedding=Incomplete(embedding))


def sees_holes(network: Any) -> bool:
    """Whether a specification is one of networks for observations with missing numbers."""
    embedding = getattr(network, "embedding", None)
    embedding = embedding.embedding if isinstance(embedding, Beside) else embedding
    return isinstance(embedding, Incomplete)


def _places(embedding: Any, event_shape: tuple[int, ...]) -> tuple[tuple[int, ...], int]:
    """The shape of an observation with the axis that the mask joins, and which that is."""
    if isinstance(embedding, Convolutional | ResNet):
        channels = event_shape[: len(event_shape) - embedding.dimensions]
        places = event_shape[len(channels) :]
        return (math.prod(channels), *places), 0
    if isinstance(embedding, DeepSet) and len(event_shape) == 2:
        return event_shape, 1
    return (*event_shape, 1), len(event_shape)
