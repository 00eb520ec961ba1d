"""Parts that networks and embeddings share: activations, normalization, standardization."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..runtime.arrays import plain_fields, whole_number
from .tails import Curve, curve_of, enough, is_heavy

__all__ = [
    "ACTIVATIONS",
    "Embedding",
    "Specification",
    "Standardize",
    "check_choices",
    "check_value",
    "checked_widths",
    "dense",
    "normalization",
]

ACTIVATIONS: Mapping[str, type[nn.Module]] = {
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "tanh": nn.Tanh,
    "elu": nn.ELU,
    "softplus": nn.Softplus,
    "relu": nn.ReLU,
}


class Specification:
    """Base of the small frozen values that describe networks; shows only what is set."""

    def _take(self, *counts: str) -> None:
        """Make all fields plain, and those that count whole numbers; they may be too small yet."""
        plain_fields(self)
        for name in counts:
            text = f"{type(self).__name__}: {name}"
            value = whole_number(getattr(self, name), text, least=-math.inf)
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        shown = (f"{name}={value!r}" for name, value in values.items() if value is not None)
        return f"{type(self).__name__}({', '.join(shown)})"


def check_value(name: str, specification: Any) -> None:
    """Raise TypeError if it is a class of specifications and not one of them."""
    if isinstance(specification, type) and issubclass(specification, Specification):
        kind = specification.__name__
        raise TypeError(f"{name} must be a value, got the class {kind}. Make one: {name}={kind}().")


class BatchNorm(nn.BatchNorm1d):
    """Batch normalization of features ``(*, F)``, all leading axes taken together."""

    def forward(self, h: Tensor) -> Tensor:
        return super().forward(h.reshape(-1, h.shape[-1])).reshape(h.shape)


NORMS = {None: nn.Identity, "batch": BatchNorm, "layer": nn.LayerNorm}


def check_choices(activation: str, norm: str | None) -> None:
    """Raise ValueError unless both names are known."""
    if activation not in ACTIVATIONS:
        raise ValueError(
            f"Unknown activation {activation!r}; expected one of {', '.join(ACTIVATIONS)}."
        )
    if norm not in NORMS:
        raise ValueError(f"Unknown norm {norm!r}; expected None, 'batch' or 'layer'.")


def checked_widths(kind: str, name: str, widths: Any) -> tuple[int, ...]:
    """The widths as a tuple; ValueError unless there is one and all are positive."""
    if isinstance(widths, str | Mapping) or not isinstance(widths, Iterable):
        raise TypeError(
            f"{kind}: {name} must be a width for each layer, such as (64, 64), got {widths!r}."
        )
    widths = tuple(whole_number(width, f"{kind}: {name}", least=-math.inf) for width in widths)
    if not widths or min(widths) < 1:
        raise ValueError(f"{kind} needs at least one {name} width >= 1, got {name}={widths}.")
    return widths


def normalization(norm: str | None, width: int) -> nn.Module:
    """Normalization of features ``(*, width)``."""
    return NORMS[norm](width)


def dense(widths: Sequence[int], activation: str, norm: str | None) -> list[nn.Module]:
    """Dense layers from width to width, each normalized and activated."""
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), normalization(norm, after), ACTIVATIONS[activation]()]
    return [layer for layer in layers if not isinstance(layer, nn.Identity)]


class Standardize(nn.Module):
    """``(v - mean) / scale`` over the trailing axes, with the training data's moments.

    Numbers with heavy tails are spread first, if `bear_tails` finds any. Then there are two more
    buffers, ``center`` and ``unit``, and the moments are those of ``arcsinh((v - center) / unit)``;
    where the unit is infinite, a number is left as it is.

    Parameters
    ----------
    shape : tuple of int
        Shape of one value.
    shared : tuple of int
        Axes of that shape along which the moments are the same (the pixels of an image).
    """

    mean: Tensor
    scale: Tensor
    center: Tensor | None
    unit: Tensor | None

    def __init__(self, shape: tuple[int, ...], shared: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.shared = shared
        kept = [1 if axis in shared else length for axis, length in enumerate(shape)]
        self.register_buffer("mean", torch.zeros(kept))
        self.register_buffer("scale", torch.ones(kept))
        self.register_buffer("center", None)
        self.register_buffer("unit", None)

    def fit(self, values: Tensor) -> None:
        """Take the moments of ``(n, *shape)``; what does not vary keeps its scale."""
        self.center = self.unit = None
        self._take(*self._moments(values.double()))

    def bear_tails(self, values: Tensor) -> None:
        """After `fit` to the same ``(n, *shape)``: spread what has heavy tails, if anything has."""
        columns, (_, spread) = self._columns(values), self._moments(values.double())
        heavy = is_heavy(columns, spread.cpu().numpy().ravel())
        curves = [Curve()] * len(heavy)
        for k in heavy.nonzero()[0]:
            curves[k] = curve_of(columns[:, k])
        if any(curve != Curve() for curve in curves):
            self.make_curved()
            for name, buffer in (("center", self.center), ("unit", self.unit)):
                found = [getattr(curve, name) for curve in curves]
                buffer.copy_(torch.tensor(found, dtype=torch.double).reshape(buffer.shape))
            self._take(*self._moments(self.spread(values.double())))

    def make_curved(self) -> None:
        """Have buffers for curves, which leave all numbers as they are."""
        self.center = torch.zeros_like(self.mean)
        self.unit = torch.full_like(self.mean, math.inf)

    @property
    def curves(self) -> list[Curve]:
        """What each number of a value goes through, in the order of its entries."""
        if self.unit is None:
            return [Curve()] * self.mean.numel()
        pairs = zip(self.center.flatten().tolist(), self.unit.flatten().tolist(), strict=True)
        return [Curve(*pair) for pair in pairs]

    def spread(self, values: Tensor) -> Tensor:
        """Values ``(*, *shape)``, those with heavy tails spread."""
        if self.unit is None:
            return values
        center, unit = self.center.to(values.device), self.unit.to(values.device)
        return torch.where(unit.isinf(), values, ((values - center) / unit).asinh())

    def forward(self, values: Tensor) -> Tensor:
        """Standardized values ``(*, *shape)``."""
        return (self.spread(values) - self.mean) / self.scale

    def _take(self, mean: Tensor, spread: Tensor) -> None:
        self.mean.copy_(mean)
        self.scale.copy_(torch.where(spread > 0, spread, torch.ones_like(spread)))

    def _moments(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Means and standard deviations of the axes that are kept; zero where nothing varies."""
        axes = (0, *(axis + 1 for axis in self.shared))
        spread = values.std(axes, correction=0, keepdim=True)[0]
        # Rounding leaves a spread of about eps times the mean in a constant column.
        varies = spread > 1e-12 * values.abs().amax(axes, keepdim=True)[0].clamp(min=1e-300)
        return values.mean(axes, keepdim=True)[0], torch.where(varies, spread, 0.0)

    def _columns(self, values: Tensor) -> np.ndarray:
        """Some of the values ``(n, *shape)``: a column for each mean."""
        places = math.prod(values.shape[axis + 1] for axis in self.shared)
        some = values[: math.ceil(enough(self.mean.numel()) / places)].cpu().double()
        own = [axis for axis in range(self.mean.ndim) if axis not in self.shared]
        order = (0, *(axis + 1 for axis in (*self.shared, *own)))
        return some.permute(order).reshape(-1, self.mean.numel()).numpy()


@dataclass(frozen=True)
class Embedding:
    """What an embedding's specification builds.

    Attributes
    ----------
    standardize : nn.Module
        With ``fit(x)``, and ``bear_tails(x)`` if it has it; maps observations ``(n, *event)``, to
        the same shape if no other is told.
    body : nn.Module
        Maps standardized observations to features ``(n, features)``.
    features : int
        Length of the feature vector.
    standardized : tuple of int, optional
        Shape of a standardized observation, where it is another than that of one.
    """

    standardize: nn.Module
    body: nn.Module
    features: int
    standardized: tuple[int, ...] | None = None
