"""Gradients of small networks, written out.

A gradient step of a small network consists of some dozen operations that take microseconds each.
Torch writes every one down for the backward pass, and walks back through what it wrote; that takes
longer than some of them. For perceptrons and losses that are questions about logits the way back is
short, and here it is written out. Matrix products are torch's. What stands between them is one
pass of machine code, which keeps slopes beside values (`pymc_nre.kernels.steps`). Embeddings of
observations are left to torch.

Gradients are the same up to rounding, and so is what is learned.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..kernels.steps.activated import Passes
from ..kernels.steps.answers import Answers
from ..kernels.steps.candidates import standardized_candidates
from ..kernels.steps.passes import LANES
from ..losses.base import Loss, is_known_loss
from ..losses.questions import Asked, tables
from ..networks.base import RatioNetwork, SplitNetwork
from ..networks.layers import ACTIVATIONS

__all__ = ["ByHand"]

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_NAMES = {kind: name for name, kind in ACTIVATIONS.items()}


class ByHand:
    """Gradients of a loss in the weights of a perceptron.

    Parameters
    ----------
    net : SplitNetwork
        One that `of` takes.
    loss : Loss
    """

    def __init__(self, net: SplitNetwork, loss: Any) -> None:
        self.net, self.loss = net, loss
        self.passes = Passes(_NAMES[type(net.body[0])])
        # Of the hidden layers, and of the logit.
        self.layers = [layer for layer in net.body if isinstance(layer, nn.Linear)]
        self.widths = [layer.in_features for layer in self.layers]
        self.learned = any(weight.requires_grad for weight in net.embedding.parameters())
        self.answers: Answers | None = None
        self.kept: list[tuple[Tensor, Tensor]] = []  # slopes and values of each hidden layer

    @classmethod
    def of(cls, net: RatioNetwork, loss: Loss) -> ByHand | None:
        """None, where torch has to do it."""
        if not (is_known_loss(loss) and hasattr(loss, "asked") and _is_perceptron(net)):
            return None
        return cls(net, loss)

    def applies_to(self, theta: Tensor) -> bool:
        """Whether these parameters are enough for the loss, and torch has one thread.

        With several, passes in one would keep them waiting.
        """
        return torch.get_num_threads() == 1 and len(theta) >= self.loss.minimum_batch

    def __call__(self, theta: Tensor, x: Tensor, *others: Tensor) -> Tensor:
        """The loss; the gradients of all weights are set."""
        theta, *others = (part.float().contiguous() for part in (theta, *others))
        features, asked = self._embedded(x), self.loss.asked(*others)
        with torch.no_grad():
            rows = self._candidates(theta, asked)
            s = self._logits(rows, self._first(features))
            slopes = torch.empty_like(s)
            value = self._answers(asked, s.shape[1])(s, asked.log_prior, slopes)
            to_first = self._head_back(slopes, rows)
            to_features = self._first_back(to_first, features)
        if self.learned:
            features.backward(to_features)
        return torch.tensor(value)

    def _embedded(self, x: Tensor) -> Tensor:
        """What observations give the first layer."""
        with torch.set_grad_enabled(self.learned):
            return self.net.embedding(self.net.standardize_x(x))

    def _candidates(self, theta: Tensor, asked: Asked) -> Tensor:
        """Standardized parameters ``(n * K, D)``."""
        n, size = theta.shape
        each = 1 + asked.rolls + (0 if asked.near is None else asked.near.shape[1])
        rows, moments = theta.new_empty(n * each, size), self.net.standardize_theta
        parts = theta, asked.rolls, asked.near, moments.mean, moments.scale
        standardized_candidates(*parts, rows)
        return rows

    def _answers(self, asked: Asked, logits: int) -> Answers:
        if self.answers is None:
            self.answers = Answers(*tables(asked.questions, logits), logits)
        return self.answers

    def _first(self, features: Tensor) -> Tensor:
        layer = self.net.x_in
        return torch.addmm(layer.bias, features, layer.weight.t())

    def _first_back(self, g: Tensor, features: Tensor) -> Tensor | None:
        """From gradients ``(n, H)`` to those of features, if they are learned."""
        layer = self.net.x_in
        layer.bias.grad, layer.weight.grad = g.sum(0), g.t() @ features.detach()
        return g @ layer.weight if self.learned else None

    def _logits(self, rows: Tensor, first: Tensor) -> Tensor:
        """Logits ``(n, K)`` of rows ``(n * K, D)``; keeps slopes and values."""
        if not self.kept or len(self.kept[0][0]) != len(rows):
            self.kept = [
                (rows.new_empty(len(rows), width), rows.new_empty(len(rows), width))
                for width in self.widths
            ]
        (slopes, h), *others = self.kept
        self.passes.first(rows, self.net.theta_in.weight.t().contiguous(), first, slopes, h)
        for layer, (slopes, values) in zip(self.layers, others, strict=False):
            torch.addmm(layer.bias, h, layer.weight.t(), out=slopes)
            self.passes.middle(slopes, values)
            h = values
        last = self.layers[-1]
        return torch.addmm(last.bias, h, last.weight.t()).view(len(first), -1)

    def _head_back(self, slopes_of_logits: Tensor, rows: Tensor) -> Tensor:
        """From gradients of logits to those of the first layer, summed for each observation.

        They are written where values lay, which are not needed any more.
        """
        n, g = len(slopes_of_logits), slopes_of_logits.view(-1, 1)
        summed = g.sum(0)
        for i in reversed(range(len(self.layers))):
            layer, (slopes, values) = self.layers[i], self.kept[i]
            layer.bias.grad, layer.weight.grad = summed.view_as(layer.bias), g.t() @ values
            g = torch.mm(g, layer.weight, out=values)
            summed = g.new_empty(n if i == 0 else 1, g.shape[1])
            self.passes.bend(g, slopes, summed)
        self.net.theta_in.weight.grad = (rows.t() @ g).t().contiguous()
        return summed


def _is_perceptron(net: RatioNetwork) -> bool:
    """Dense layers and one activation, all of whose weights are learned, in single precision."""
    if type(net) is not SplitNetwork or not isinstance(net.body, nn.Sequential):
        return False
    activations, layers = list(net.body)[:-1:2], [net.theta_in, net.x_in, *net.body[1::2]]
    weights = [weight for layer in layers for weight in layer.parameters()]
    moments = [net.standardize_theta.mean, net.standardize_theta.scale]
    return (
        type(net.body[0]) in _NAMES
        and not any(map(_has_hooks, [net, *net.body, *layers, *weights]))
        and len({*map(id, weights)}) == len(weights)
        and net.standardize_theta.unit is None
        and {*map(type, activations)} == {type(net.body[0])}
        and {*map(type, layers)} == {nn.Linear}
        and all(width % LANES == 0 for width in (layer.in_features for layer in net.body[1::2]))
        and all(weight.requires_grad for weight in weights)
        and {(each.dtype, each.device.type) for each in weights + moments}
        == {(torch.float32, "cpu")}
    )


def _has_hooks(part: nn.Module | Tensor) -> bool:
    """Whether somebody is called beside a module, or with the gradient of a weight."""
    return any(getattr(part, name, None) for name in _HOOKS)
