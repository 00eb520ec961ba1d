"""The network of one step of a series, added up over a whole one."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..base import RatioNetwork
from ..layers import Standardize
from .ensemble import members_of

__all__ = ["OverTime"]


class OverTime(RatioNetwork):
    """Logits of series ``(length, *event)``: the sum of those of their steps.

    Parameters
    ----------
    step : RatioNetwork
        Of vectors ``(K,)``: a value and the ``order`` values before it.
    order : int
        Values in a past.
    event_shape : tuple of int
        Shape of a series, ``(length, *event)``.
    """

    def __init__(self, step: RatioNetwork, order: int, event_shape: tuple[int, ...]) -> None:
        torch.nn.Module.__init__(self)  # the network of a step standardizes
        self.event_shape = tuple(event_shape)
        self.order, self.steps = order, event_shape[0] - order
        self.step = step

    @property
    def standardize_x(self) -> Standardize | None:
        """What the step does to its values, at every time; None where that is not known.

        Nothing here needs it: it tells what data the network has seen.
        """
        [first, *_] = members_of(self.step)
        known = getattr(first, "standardize_x", None)
        if type(known) is not Standardize:
            return None
        made, event = Standardize(self.event_shape), self.event_shape[1:]
        for name in ("mean", "scale", "center", "unit"):
            buffer = getattr(known, name)
            if buffer is not None:  # a value stands before its past
                value = buffer.flatten()[: math.prod(event)].reshape(event)
                setattr(made, name, value.expand(self.event_shape))
        return made

    def embed(self, x: Tensor) -> Tensor:
        """Features of all steps, one after another, ``(n, steps * F)``."""
        windows = x.reshape(*x.shape[:2], -1).unfold(1, self.order + 1, 1)
        value, past = windows[..., -1], windows[..., :-1].transpose(-1, -2)
        packed = torch.cat([value, past.flatten(2)], dim=-1)
        return self.step.embed(packed.flatten(0, 1)).unflatten(0, (len(x), self.steps)).flatten(1)

    def head(self, theta: Tensor, features: Tensor) -> Tensor:
        """The sum over steps, which share the parameters."""
        each = features.unflatten(-1, (self.steps, -1))
        return self.step.head(theta[..., None, :], each).sum(-1)
