r"""Questions with several answers, of which one is true: what contrastive losses are made of.

Which of these parameters made the observation? With logits :math:`s_k` of the answers, the first
of them the true one, a question costs

.. math:: -\log \frac{e^{s_0 + c_0}}{\sum_k e^{s_k + c_k}},

where constants :math:`c_k` say how likely an answer is beforehand. One answer may be "none of
them", whose logit is zero. A loss is a weighted sum of means of such costs.

Batches are small and so are questions: it is not the arithmetic that takes time, but to call for
it. So all questions of a loss are answered together, with the batch along the last axis, where
processors add up fastest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

__all__ = ["NONE", "Asked", "Question", "cost", "cost_and_slopes"]

NONE = -1  # of the logits


@dataclass(frozen=True)
class Question:
    """A question.

    Attributes
    ----------
    answers : tuple of int
        Columns of the logits, the true answer first; `NONE` is a logit of zero.
    constants : tuple of float
        What is added to the logit of each.
    weight : float
    """

    answers: tuple[int, ...]
    constants: tuple[float, ...]
    weight: float = 1.0


@dataclass(frozen=True)
class Asked:
    """What a loss asks of a network.

    Attributes
    ----------
    theta : Tensor, shape (n, K, D)
        The candidates of each observation.
    questions : tuple of Question
        About their logits ``(n, K)``.
    log_prior : Tensor, shape (n, answers), optional
        Is added to the logits of the last question.
    """

    theta: Tensor
    questions: tuple[Question, ...]
    log_prior: Tensor | None = None


def cost(s: Tensor, questions: tuple[Question, ...], log_prior: Tensor | None = None) -> Tensor:
    """The loss, a scalar, of logits ``(n, K)``; see `Asked`."""
    log_shares, _, weights = _log_shares(s, questions, log_prior)
    return -(log_shares[:, 0].mean(1) @ weights)


def cost_and_slopes(
    s: Tensor, questions: tuple[Question, ...], log_prior: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The loss of logits ``(n, K)`` and its gradient, without torch's graph."""
    log_shares, matrix, weights = _log_shares(s, questions, log_prior)
    value = -(log_shares[:, 0].mean(1) @ weights)
    wrong = log_shares.exp_()
    wrong[:, 0] -= 1
    wrong *= (weights / len(s))[:, None, None]
    return value, wrong.view(-1, len(s)).t() @ matrix


def _log_shares(
    s: Tensor, questions: tuple[Question, ...], log_prior: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Log probabilities of answers ``(questions, answers, n)``, which logits they are, weights."""
    matrix, constants, weights = _tables(questions, s.shape[1], s.dtype, s.device)
    if log_prior is not None:
        constants = constants.expand(-1, len(s)).clone()
        last = len(constants) - len(constants) // len(questions)
        constants[last : last + log_prior.shape[1]] += log_prior.t()
    logits = torch.addmm(constants, matrix, s.t()).view(len(questions), -1, len(s))
    return logits.log_softmax(1), matrix, weights


@lru_cache(maxsize=64)
def _tables(
    questions: tuple[Question, ...], logits: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Which logits are answers ``(answers, K)``, the constants ``(answers, 1)``, and weights.

    Questions with fewer answers than others get impossible ones.
    """
    most = max(len(each.answers) for each in questions)
    matrix = torch.zeros(len(questions), most, logits)
    constants = torch.full((len(questions), most, 1), -math.inf, dtype=torch.double)
    for q, question in enumerate(questions):
        for k, (answer, constant) in enumerate(
            zip(question.answers, question.constants, strict=True)
        ):
            constants[q, k] = constant
            if answer != NONE:
                matrix[q, k, answer] = 1.0
    weights = torch.tensor([each.weight for each in questions], dtype=torch.double)
    parts = matrix.flatten(0, 1), constants.flatten(0, 1), weights
    return tuple(part.to(device, dtype) for part in parts)
