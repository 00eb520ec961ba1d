"""ATen's operations that are put together of other ones, such as normalizations.

Torch has such a table, too; what is here saves it the time to look that up.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["COMPOSITIONS"]


def _to_copy(x: Tensor, *, non_blocking: bool = False, **options: Any) -> Tensor:
    return torch.empty_like(x, **options).copy_(x)


def _select_backward(g: Tensor, shape: list[int], axis: int, index: int) -> Tensor:
    whole = g.new_zeros(shape)
    whole.select(axis, index).copy_(g)
    return whole


def _slice_backward(g: Tensor, shape: list[int], *part: int) -> Tensor:
    whole = g.new_zeros(shape)
    torch.ops.aten.slice(whole, *part).copy_(g)
    return whole


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
    scale = _affine(rate, weight, None)
    scaled = (x - _by_channel(mean, x)) * _by_channel(scale, x)
    return _affine(scaled, None, _by_channel(bias, x)), mean, rate


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
    if not training:
        scale = _affine((variance + eps).rsqrt(), weight, None)
        return g * _by_channel(scale, x), None, None
    g = _affine(g, _by_channel(weight, x), None)
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
    "_to_copy": _to_copy,
    "select_backward": _select_backward,
    "slice_backward": _slice_backward,
    "native_layer_norm": _layer_norm,
    "native_layer_norm_backward": _layer_norm_backward,
    "native_batch_norm": _batch_norm,
    "native_batch_norm_backward": _batch_norm_backward,
}
