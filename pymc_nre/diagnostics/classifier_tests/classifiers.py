"""Small classifiers that tell two samples apart, many trained at once.

The checks that need one compare it with others that were trained on shuffled labels, a hundred of
them. So all are trained side by side, on the same batches and each with its own labels and
weights.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["Classifiers"]

_WIDTH = 24
_BATCH = 256
_RATE = 1e-2
_DECAY = 1e-3


class Classifiers(nn.Module):
    """Logits of class one, of K networks with two hidden layers.

    Parameters
    ----------
    inputs : Tensor, shape (n, F)
        By which they are standardized.
    k : int
        How many.
    generator : torch.Generator
        Of the first weights.
    """

    def __init__(self, inputs: Tensor, k: int, generator: torch.Generator) -> None:
        super().__init__()
        self.mean, self.scale = inputs.mean(0), inputs.std(0).clamp_min(1e-6)
        sizes = [(inputs.shape[1], _WIDTH), (_WIDTH, _WIDTH), (_WIDTH, 1)]
        self.weights = nn.ParameterList(
            torch.randn(k, *size, generator=generator).to(inputs) / math.sqrt(size[0])
            for size in sizes
        )
        self.biases = nn.ParameterList(inputs.new_zeros(k, 1, size[1]) for size in sizes)

    def forward(self, inputs: Tensor) -> Tensor:
        """``(K, n)`` of inputs ``(n, F)``."""
        hidden = ((inputs - self.mean) / self.scale).clamp(-10, 10)
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            hidden = functional.silu(hidden @ weight + bias)
        return (hidden @ self.weights[-1] + self.biases[-1])[..., 0]

    def fit(
        self,
        inputs: Tensor,
        labels: Tensor,
        weights: Tensor,
        *,
        epochs: int,
        generator: torch.Generator,
    ) -> None:
        """Train on inputs ``(n, F)``, labels ``(K, n)`` of zeros and ones, weights ``(n,)``."""
        steps = max(1, len(inputs) // _BATCH)
        optimizer = torch.optim.AdamW(self.parameters(), lr=_RATE, weight_decay=_DECAY)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, steps * epochs)
        for _ in range(epochs):
            order = torch.randperm(len(inputs), generator=generator).to(inputs.device)
            for batch in order.tensor_split(steps):
                optimizer.zero_grad(set_to_none=True)
                loss = functional.binary_cross_entropy_with_logits(
                    self(inputs[batch]), labels[:, batch], weights[batch], reduction="none"
                )
                # A sum over networks: each has a gradient of its own.
                loss.mean(1).sum().backward()
                optimizer.step()
                schedule.step()
