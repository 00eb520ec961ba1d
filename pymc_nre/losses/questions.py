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

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

__all__ = ["NONE", "Asked", "Question", "cost", "tables"]

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
    questions : tuple of Question
        About the logits of an observation, whose candidates are its own parameters, those of the
        next observations, and some near its own.
    rolls : int
        How many next ones.
    near : Tensor, shape (n, near, D), optional
    log_prior : Tensor, shape (n, answers), optional
        Is added to the logits of the last question.
    """

    questions: tuple[Question, ...]
    rolls: int
    near: Tensor | None = None
    log_prior: Tensor | None = None


def cost(s: Tensor, questions: tuple[Question, ...], log_prior: Tensor | None = None) -> Tensor:
    """The loss, a scalar, of logits ``(n, K)``; see `Asked`."""
    matrix, constants, weights = _tables(questions, s.shape[1], s.dtype, s.device)
    if log_prior is not None:
        constants = constants.expand(-1, len(s)).clone()
        last = len(constants) - len(constants) // len(questions)
        constants[last : last + log_prior.shape[1]] += log_prior.t()
    logits = torch.addmm(constants, matrix, s.t()).view(len(questions), -1, len(s))
    return -(logits.log_softmax(1)[:, 0].mean(1) @ weights)


@lru_cache(maxsize=64)
def _tables(
    questions: tuple[Question, ...], logits: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Which logits are answers ``(Q * A, K)``, the constants ``(Q * A, 1)``, and weights."""
    columns, constants, weights = tables(questions, logits)
    matrix = np.eye(logits + 1)[columns.ravel(), :logits]
    parts = matrix, constants.reshape(-1, 1), weights
    return tuple(torch.tensor(part, dtype=dtype, device=device) for part in parts)


def tables(
    questions: tuple[Question, ...], logits: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Columns of answers and constants, ``(Q, A)`` both, and weights ``(Q,)``.

    The column of `NONE` is one more than the last. Questions with fewer answers than others get
    impossible ones.
    """
    shape = len(questions), max(len(each.answers) for each in questions)
    columns, constants = np.full(shape, logits), np.full(shape, -np.inf)
    for q, each in enumerate(questions):
        k = len(each.answers)
        columns[q, :k] = [logits if answer == NONE else answer for answer in each.answers]
        constants[q, :k] = each.constants
    return columns, constants, np.array([each.weight for each in questions])
