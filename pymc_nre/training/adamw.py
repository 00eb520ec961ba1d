"""AdamW with clipped gradients, in few calls of torch.

Torch's own optimizer does the same arithmetic, and prepares it at every step: for a small network
that takes longer than the arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..kernels.steps.descent import Arrays, descend, sum_of_squares

__all__ = ["AdamW"]

_BETAS, _EPSILON = (0.9, 0.999), 1e-8  # torch's
_FEW = 100_000  # numbers; of more the arithmetic counts, which torch has many threads for
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
        self.moments: dict[int, dict[str, Tensor]] = {}
        # Where weights and moments are, if all have moved together, and how many steps.
        self._arrays: list[Arrays] | None = None
        self._steps = 0
        plain = (torch.float32, "cpu", True)
        self._plain = sum(each.numel() for each in self.weights) <= _FEW and all(
            (each.dtype, each.device.type, each.is_contiguous()) == plain for each in self.weights
        )

    def forget_gradients(self) -> None:
        """Before the next ones are computed."""
        for weight in self.weights:
            weight.grad = None

    @torch.no_grad()
    def clip(self, longest: float) -> None:
        """Shorten all gradients together, if they are longer."""
        gradients = self._gradients()
        if not gradients:
            return
        if self._quick(gradients):
            norm = math.sqrt(sum_of_squares(Arrays(gradients)))
            factor = longest / (norm + _TINY)
            if not factor >= 1:  # it may be NaN
                torch._foreach_mul_(gradients, factor)
            return
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        torch._foreach_mul_(gradients, (longest / (norm + _TINY)).clamp(max=1.0))

    @torch.no_grad()
    def step(self) -> None:
        """Move the weights against their gradients."""
        moved = [i for i, weight in enumerate(self.weights) if weight.grad is not None]
        if not moved:
            return
        gradients = self._gradients()
        for i in moved:
            if i not in self.moments:
                self._count()
                self._arrays = None
                self.moments[i] = self.like(i)
        if self._quick(gradients) and self._together():
            self._step_of_all(gradients)
        else:
            self._step_of(moved, gradients)

    def _gradients(self) -> list[Tensor]:
        return [weight.grad for weight in self.weights if weight.grad is not None]

    def _quick(self, gradients: list[Tensor]) -> bool:
        """Whether all weights have gradients that lie as machine code takes them."""
        return (
            self._plain
            and len(gradients) == len(self.weights)
            and all(each.is_contiguous() for each in gradients)
        )

    def _together(self) -> bool:
        """Whether all weights have gone as many steps; notes where everything lies."""
        if self._arrays is None:
            moments = [self.moments[i] for i in range(len(self.weights))]
            if len({float(each["step"]) for each in moments}) > 1:
                return False
            parts = ([each[name] for each in moments] for name in ("exp_avg", "exp_avg_sq"))
            self._arrays = [Arrays(each) for each in (self.weights, *parts)]
            self._steps = int(moments[0]["step"])
        return True

    def _step_of_all(self, gradients: list[Tensor]) -> None:
        weights, means, squares = self._arrays
        self._steps += 1
        descend(
            weights,
            Arrays(gradients),
            means,
            squares,
            step=self._steps,
            rate=self.rate,
            weight_decay=self.weight_decay,
            betas=_BETAS,
            epsilon=_EPSILON,
        )

    def _step_of(self, moved: list[int], gradients: list[Tensor]) -> None:
        self._count()
        self._arrays = None
        steps, means, squares = (
            [self.moments[i][name] for i in moved] for name in ("step", "exp_avg", "exp_avg_sq")
        )
        torch._foreach_add_(steps, 1)
        torch._fused_adamw_(
            [self.weights[i] for i in moved],
            gradients,
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

    def _count(self) -> None:
        """Write down how many steps all weights have gone together."""
        if self._arrays is not None:
            for each in self.moments.values():
                each["step"].fill_(self._steps)

    def state(self) -> dict[int, dict[str, Tensor]]:
        """Moments of weights that have moved, by the number of the weight."""
        self._count()
        return self.moments

    def like(self, i: int) -> dict[str, Tensor]:
        """The moments of a weight that has not moved yet, by the names that torch gives them."""
        weight = self.weights[i].detach()
        step = torch.zeros((), device=weight.device)
        zeros = {name: torch.zeros_like(weight) for name in ("exp_avg", "exp_avg_sq")}
        return {"step": step} | zeros

    def restore(self, moments: Mapping[int, Mapping[str, Tensor]]) -> None:
        """The inverse of `state`."""
        self.moments = {
            i: {name: value.to(self.weights[i].device).clone() for name, value in its.items()}
            for i, its in moments.items()
        }
        self._arrays = None
