"""Convolutional embeddings of series and images.

Observations have the shape of their places, ``(length,)`` or ``(height, width)``, with channels
first where there are several. All places of a channel share their standardization.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .layers import (
    ACTIVATIONS,
    Embedding,
    Specification,
    Standardize,
    check_choices,
    checked_widths,
)

__all__ = ["Convolutional", "ResNet"]


@dataclass(frozen=True, repr=False)
class Convolutional(Specification):
    """Convolutions over a series or an image, each of stride two, then one dense layer.

    It knows where things are: the last maps are flattened, not averaged.

    Parameters
    ----------
    channels : tuple of int
        Channels after each convolution.
    features : int
        Length of the feature vector.
    dimensions : {1, 2}
        1: observations ``(length,)`` or ``(channels, length)``; 2: ``(height, width)`` or
        ``(channels, height, width)``.
    kernel : int
        Width of each filter, odd.
    activation, norm
        As for `Dense`; ``"layer"`` normalizes over channels and places together.

    Examples
    --------
    >>> from pymc_nre.networks import MLP, Convolutional
    >>> network = MLP((64, 64), embedding=Convolutional((8, 16), dimensions=2, kernel=3))
    """

    channels: tuple[int, ...] = (16, 32, 64)
    features: int = 32
    dimensions: int = 1
    kernel: int = 5
    activation: str = "silu"
    norm: str | None = None

    def __post_init__(self) -> None:
        self._take("features", "dimensions", "kernel")
        object.__setattr__(
            self, "channels", checked_widths("Convolutional", "channels", self.channels)
        )
        check_choices(self.activation, self.norm)
        _check_dimensions("Convolutional", self.dimensions)
        if self.kernel < 1 or self.kernel % 2 == 0 or self.features < 1:
            raise ValueError(
                "Convolutional needs an odd kernel and features >= 1, got "
                f"kernel={self.kernel}, features={self.features}."
            )

    def build(self, event_shape: tuple[int, ...]) -> Embedding:
        """An untrained embedding of series or images of that shape."""
        channels, places = _channels_and_places("Convolutional", self.dimensions, event_shape)
        layers: list[nn.Module] = [_Maps(self.dimensions)]
        for after in self.channels:
            layers += [
                _convolution(self.dimensions, channels, after, self.kernel, stride=2),
                _map_norm(self.dimensions, self.norm, after),
                ACTIVATIONS[self.activation](),
            ]
            channels, places = after, tuple((length + 1) // 2 for length in places)
        last = nn.Linear(channels * math.prod(places), self.features)
        body = nn.Sequential(*layers, nn.Flatten(), last, ACTIVATIONS[self.activation]())
        return Embedding(_standardize_maps(self.dimensions, event_shape), body, self.features)


_RESNETS = {  # depth: blocks in each of the four stages, and whether they are bottlenecks
    10: ((1, 1, 1, 1), False),
    18: ((2, 2, 2, 2), False),
    34: ((3, 4, 6, 3), False),
    50: ((3, 4, 6, 3), True),
}


@dataclass(frozen=True, repr=False)
class ResNet(Specification):
    """A residual network over a series or an image, averaged over places at the end.

    Every residual branch starts at zero (it is multiplied by a weight that is learned), so
    that deep networks train with and without normalization.

    Parameters
    ----------
    depth : {10, 18, 34, 50}
        The usual sizes; 50 is made of bottleneck blocks.
    dimensions : {1, 2}
        As for `Convolutional`.
    width : int
        Channels of the first stage; each of the four doubles them.
    activation, norm
        As for `Convolutional`.

    References
    ----------
    He et al. (2016), arXiv:1512.03385; Bachlechner et al. (2021), ReZero, arXiv:2003.04887.

    Examples
    --------
    >>> from pymc_nre.networks import MLP, ResNet
    >>> network = MLP((128, 128), embedding=ResNet(18, dimensions=1, norm="batch"))
    """

    depth: int = 18
    dimensions: int = 1
    width: int = 64
    activation: str = "relu"
    norm: str | None = None

    def __post_init__(self) -> None:
        self._take("depth", "dimensions", "width")
        check_choices(self.activation, self.norm)
        _check_dimensions("ResNet", self.dimensions)
        if self.depth not in _RESNETS or self.width < 1:
            raise ValueError(
                f"ResNet needs a depth of {', '.join(map(str, _RESNETS))} and width >= 1, got "
                f"depth={self.depth}, width={self.width}."
            )

    def build(self, event_shape: tuple[int, ...]) -> Embedding:
        """An untrained embedding of series or images of that shape."""
        channels, _ = _channels_and_places("ResNet", self.dimensions, event_shape)
        stages, bottleneck = _RESNETS[self.depth]
        layers: list[nn.Module] = [
            _Maps(self.dimensions),
            _convolution(self.dimensions, channels, self.width, kernel=7, stride=2),
            _map_norm(self.dimensions, self.norm, self.width),
            ACTIVATIONS[self.activation](),
        ]
        before = self.width
        for stage, blocks in enumerate(stages):
            inner = self.width * 2**stage
            after = inner * (4 if bottleneck else 1)
            for block in range(blocks):
                stride = 2 if stage and not block else 1
                layers.append(_ResNetBlock(self, before, inner, after, stride, bottleneck))
                before = after
        body = nn.Sequential(*layers, _MeanOverPlaces())
        return Embedding(_standardize_maps(self.dimensions, event_shape), body, before)


class _Maps(nn.Module):
    """Give observations that have none an axis of channels."""

    def __init__(self, dimensions: int) -> None:
        super().__init__()
        self.dimensions = dimensions

    def forward(self, x: Tensor) -> Tensor:
        return x[:, None] if x.ndim == 1 + self.dimensions else x


class _MeanOverPlaces(nn.Module):
    def forward(self, h: Tensor) -> Tensor:
        return h.flatten(2).mean(-1)


class _ResNetBlock(nn.Module):
    """``shortcut + weight * branch``, the weight zero at first."""

    def __init__(
        self, net: ResNet, before: int, inner: int, after: int, stride: int, bottleneck: bool
    ) -> None:
        super().__init__()
        kernels = (1, 3, 1) if bottleneck else (3, 3)
        widths = (before, *[inner] * (len(kernels) - 1), after)
        strides = [stride if i == (1 if bottleneck else 0) else 1 for i in range(len(kernels))]
        layers: list[nn.Module] = []
        for kernel, step, width, wider in zip(
            kernels, strides, widths[:-1], widths[1:], strict=True
        ):
            layers += [
                _convolution(net.dimensions, width, wider, kernel, step),
                _map_norm(net.dimensions, net.norm, wider),
                ACTIVATIONS[net.activation](),
            ]
        self.branch = nn.Sequential(*layers[:-1])
        self.weight = nn.Parameter(torch.zeros(()))
        same = stride == 1 and before == after
        self.shortcut = (
            nn.Identity() if same else _convolution(net.dimensions, before, after, 1, stride)
        )
        self.activation = ACTIVATIONS[net.activation]()

    def forward(self, h: Tensor) -> Tensor:
        return self.activation(self.shortcut(h) + self.weight * self.branch(h))


def _convolution(
    dimensions: int, before: int, after: int, kernel: int, stride: int = 1
) -> nn.Module:
    kind = nn.Conv1d if dimensions == 1 else nn.Conv2d
    return kind(before, after, kernel, stride=stride, padding=kernel // 2)


def _map_norm(dimensions: int, norm: str | None, channels: int) -> nn.Module:
    if norm == "batch":
        return (nn.BatchNorm1d if dimensions == 1 else nn.BatchNorm2d)(channels)
    return nn.GroupNorm(1, channels) if norm == "layer" else nn.Identity()


def _standardize_maps(dimensions: int, event_shape: tuple[int, ...]) -> Standardize:
    axes = range(len(event_shape))
    return Standardize(event_shape, shared=tuple(axes)[-dimensions:])


def _channels_and_places(
    kind: str, dimensions: int, event_shape: tuple[int, ...]
) -> tuple[int, tuple[int, ...]]:
    if len(event_shape) not in (dimensions, dimensions + 1):
        places = "(length,)" if dimensions == 1 else "(height, width)"
        raise ValueError(
            f"{kind}(dimensions={dimensions}) needs observations of shape {places}, or the same "
            f"with channels first, got {event_shape}."
        )
    channels = event_shape[0] if len(event_shape) > dimensions else 1
    return channels, event_shape[-dimensions:]


def _check_dimensions(kind: str, dimensions: int) -> None:
    if dimensions not in (1, 2):
        raise ValueError(f"{kind} needs dimensions 1 or 2, got {dimensions}.")
