"""ATen's operations that are put together of other ones: normalizations, and their derivatives.

Torch has such tables, too; these save it the time to load them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["COMPOSITIONS"]


def _layer_norm(
    x: Tensor, shape: list[int], weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    axes = list(range(x.ndim - len(shape), x.ndim))
    variance, mean = torch.var_mean(x, axes, correction=0, keepdim=True)
    rate = (variance + eps).rsqrt()
    return _affine((x - mean) * rate, weight, bias), mean, rate


def _layer_norm_backward(
    g: Tensor,
    x: Tensor,
    shape: list[int],
    mean: Tensor,
    rate: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    wanted: list[bool],
) -> tuple[Tensor | None, ...]:
    axes = list(range(x.ndim - len(shape), x.ndim))
    return _through_moments(_affine(g, weight, None), x, mean, rate, axes), None, None


def _batch_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor | None,
    variance: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    if training:
        variance, mean = torch.var_mean(x, _beside_channels(x), correction=0)
    rate = (variance + eps).rsqrt()
    normal = (x - _by_channel(mean, x)) * _by_channel(rate, x)
    return _affine(normal, *(_by_channel(part, x) for part in (weight, bias))), mean, rate


def _batch_norm_backward(
    g: Tensor,
    x: Tensor,
    weight: Tensor | None,
    mean: Tensor | None,
    variance: Tensor | None,
    own_mean: Tensor | None,
    own_rate: Tensor | None,
    training: bool,
    eps: float,
    wanted: list[bool],
) -> tuple[Tensor | None, ...]:
    g = _affine(g, _by_channel(weight, x), None)
    if not training:
        return g * _by_channel((variance + eps).rsqrt(), x), None, None
    moments = _by_channel(own_mean, x), _by_channel(own_rate, x)
    return _through_moments(g, x, *moments, _beside_channels(x)), None, None


def _affine(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    x = x if weight is None else x * weight
    return x if bias is None else x + bias


def _through_moments(g: Tensor, x: Tensor, mean: Tensor, rate: Tensor, axes: list[int]) -> Tensor:
    """From the gradient in ``(x - mean) * rate`` to that in ``x``, of which both are moments."""
    normal = (x - mean) * rate
    along = (g * normal).mean(axes, keepdim=True)
    return rate * (g - g.mean(axes, keepdim=True) - normal * along)


def _beside_channels(x: Tensor) -> list[int]:
    return [0, *range(2, x.ndim)]


def _by_channel(values: Tensor | None, x: Tensor) -> Tensor | None:
    return None if values is None else values.reshape(-1, *[1] * (x.ndim - 2))


# Names are ATen's, without the overload. Weights are constant: they have no derivatives.
COMPOSITIONS: dict[str, Any] = {
    "native_layer_norm": _layer_norm,
    "native_layer_norm_backward": _layer_norm_backward,
    "native_batch_norm": _batch_norm,
    "native_batch_norm_backward": _batch_norm_backward,
}
