"""AdamW with clipped gradients, in few calls of torch.

Torch's own optimizer does the same arithmetic, and prepares it at every step: for a small network
that takes longer than the arithmetic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

__all__ = ["AdamW"]

_BETAS, _EPSILON = (0.9, 0.999), 1e-8  # torch's
_TINY = 1e-6  # beside the norm of gradients, as torch has it


class AdamW:
    """Steps of some weights.

    Parameters
    ----------
    weights : sequence of Tensor
        Those without a gradient stay where they are.
    rate : float
        Of learning; may be set before each step.
    weight_decay : float

    References
    ----------
    Loshchilov and Hutter (2019), arXiv:1711.05101.
    """

    def __init__(self, weights: Sequence[Tensor], rate: float, weight_decay: float) -> None:
        self.weights, self.rate, self.weight_decay = list(weights), rate, weight_decay
        self.moments: dict[int, dict[str, Tensor]] = {}  # of weights that have moved, by number

    def forget_gradients(self) -> None:
        """Before the next ones are computed."""
        for weight in self.weights:
            weight.grad = None

    @torch.no_grad()
    def clip(self, longest: float) -> None:
        """Shorten all gradients together, if they are longer."""
        gradients = [weight.grad for weight in self.weights if weight.grad is not None]
        if gradients:
            norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
            torch._foreach_mul_(gradients, (longest / (norm + _TINY)).clamp(max=1.0))

    @torch.no_grad()
    def step(self) -> None:
        """Move the weights against their gradients."""
        moved = [i for i, weight in enumerate(self.weights) if weight.grad is not None]
        if not moved:
            return
        weights = [self.weights[i] for i in moved]
        moments = [self._moments(i) for i in moved]
        steps, means, squares = (
            [each[name] for each in moments] for name in ("step", "exp_avg", "exp_avg_sq")
        )
        torch._foreach_add_(steps, 1)
        torch._fused_adamw_(
            weights,
            [weight.grad for weight in weights],
            means,
            squares,
            [],
            steps,
            amsgrad=False,
            lr=self.rate,
            beta1=_BETAS[0],
            beta2=_BETAS[1],
            weight_decay=self.weight_decay,
            eps=_EPSILON,
            maximize=False,
        )

    def _moments(self, i: int) -> dict[str, Tensor]:
        if i not in self.moments:
            self.moments[i] = self.like(i)
        return self.moments[i]

    def like(self, i: int) -> dict[str, Tensor]:
        """The moments of a weight that has not moved yet, by the names that torch gives them."""
        weight = self.weights[i].detach()
        step = torch.zeros((), device=weight.device)
        zeros = {name: torch.zeros_like(weight) for name in ("exp_avg", "exp_avg_sq")}
        return {"step": step} | zeros

    def restore(self, moments: Mapping[int, Mapping[str, Tensor]]) -> None:
        """Go on with what `moments` were."""
        self.moments = {
            i: {name: value.to(self.weights[i].device).clone() for name, value in its.items()}
            for i, its in moments.items()
        }
