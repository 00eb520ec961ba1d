r"""Contrastive losses: joint pairs beside marginal ones of the same batch.

Marginal pairs are made by rolling the parameters of a batch against its observations. Every
roll is by a non-zero offset, so no marginal pair is secretly a joint one; a random
permutation would leave fixed points and bias the loss at order 1 / batch size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..runtime.arrays import plain_fields, whole_number
from .base import Network
from .questions import NONE, Asked, Question, cost

__all__ = ["NREA", "NREB", "NREC"]


class Contrastive:
    """Losses of one joint and ``rolls`` marginal logits for each observation."""

    rolls: int

    def __call__(self, net: Network, theta: Tensor, x: Tensor) -> Tensor:
        """Scalar loss of joint pairs, theta ``(n, D)`` and x ``(n, *event)``."""
        return self.of_logits(contrastive_logits(net, theta, x, self.rolls))

    def of_logits(self, s: Tensor) -> Tensor:
        """Scalar loss of logits ``(n, 1 + rolls)``, the joint pairs first."""
        return cost(s, self.questions)

    def asked(self) -> Asked:
        """The same in words: what is asked of which logits."""
        return Asked(self.questions, self.rolls)

    @property
    def questions(self) -> tuple[Question, ...]:
        """What the loss asks of these logits."""
        raise NotImplementedError

    @property
    def minimum_batch(self) -> int:
        """Each observation meets ``rolls`` other parameter draws."""
        return self.rolls + 1


def contrastive_logits(net: Network, theta: Tensor, x: Tensor, rolls: int) -> Tensor:
    """Logits ``(n, 1 + rolls)``: the joint pairs, then theta rolled by 1, 2, ..."""
    return net.head(rolled(theta, rolls), net.embed(x)[:, None])


def rolled(theta: Tensor, rolls: int) -> Tensor:
    """Candidates ``(n, 1 + rolls, D)``: theta ``(n, D)`` itself, then rolled by 1, 2, ..."""
    n = len(theta)
    if n <= rolls:
        raise ValueError(
            f"This loss compares each observation with {rolls} other parameter draws and needs "
            f"batches of at least {rolls + 1} pairs, got {n}. Use more simulations, a larger "
            "batch_size, or fewer candidates."
        )
    around = torch.cat([theta, theta[:rolls]])
    return around.unfold(0, rolls + 1, 1).transpose(1, 2)


def check_number(value: Any, name: str) -> None:
    """Raise TypeError unless it is a plain real number; NaN is one."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number, got {value!r}.")


def take_candidates(loss: Any) -> None:
    """Read the fields of a loss with candidates, as whole numbers and plain ones."""
    plain_fields(loss)
    name = f"{type(loss).__name__}: candidates"
    candidates = whole_number(loss.candidates, name, least=-math.inf)
    object.__setattr__(loss, "candidates", candidates)


@dataclass(frozen=True)
class NREA(Contrastive):
    r"""Binary cross-entropy between joint and marginal pairs (NRE-A, also AALR).

    .. math:: \tfrac12 E_{joint}\,\log(1 + e^{-s}) + \tfrac12 E_{marginal}\,\log(1 + e^{s})

    The optimal logit is the log likelihood-to-evidence ratio.

    References
    ----------
    Hermans, Begy and Louppe (2020), arXiv:1903.04057.

    Examples
    --------
    >>> from pymc_nre.losses import NREA
    >>> round(NREA().chance, 4)
    0.6931
    """

    reference: ClassVar[str] = "evidence"
    normalized: ClassVar[bool] = True
    rolls: ClassVar[int] = 1
    chance: ClassVar[float] = math.log(2)

    @property
    def questions(self) -> tuple[Question, ...]:
        """Is a pair a joint one? Of a joint and a marginal pair."""
        return Question((0, NONE), (0.0, 0.0), 0.5), Question((NONE, 1), (0.0, 0.0), 0.5)


@dataclass(frozen=True)
class NREB(Contrastive):
    r"""Which of K candidate parameters made this observation? (NRE-B, contrastive)

    .. math:: -E\,[\, s_{true} - \log \textstyle\sum_{k=1}^K e^{s_k} \,]

    The optimal logit is the log ratio plus an unknown function of ``x``. Posteriors do not
    feel it; evidences and classifier checks do, so the estimator is marked unnormalized.

    Parameters
    ----------
    candidates : int
        K, the number of candidates, the true one among them; at least 2.

    References
    ----------
    Durkan, Murray and Papamakarios (2020), arXiv:2002.03712.

    Examples
    --------
    >>> from pymc_nre.losses import NREB
    >>> NREB(candidates=5).normalized
    False
    """

    candidates: int = 5

    reference: ClassVar[str] = "evidence"
    normalized: ClassVar[bool] = False

    def __post_init__(self) -> None:
        take_candidates(self)
        if self.candidates < 2:
            raise ValueError(f"NREB needs candidates >= 2, got {self.candidates}.")

    @property
    def rolls(self) -> int:
        """Each observation meets K - 1 other parameter draws."""
        return self.candidates - 1

    @property
    def chance(self) -> float:
        """log K: every candidate is as likely as the next."""
        return math.log(self.candidates)

    @property
    def questions(self) -> tuple[Question, ...]:
        """Which of K candidates?"""
        return (Question(tuple(range(self.candidates)), (0.0,) * self.candidates),)


@dataclass(frozen=True)
class NREC(Contrastive):
    r"""Which of K candidates made this observation, or none of them? (NRE-C)

    With weight :math:`1/(1+\gamma)` all K candidates are independent of ``x`` and the answer
    is "none"; with weight :math:`\gamma/(1+\gamma)` one of them is the true one. "None" pins
    the unknown function of ``x`` that NRE-B leaves free: the optimal logit is the log ratio.
    One candidate with :math:`\gamma = 1` is NRE-A; :math:`\gamma \to \infty` is NRE-B.

    Parameters
    ----------
    candidates : int
        K, at least 1.
    gamma : float
        Odds that the true parameters are among the candidates; positive.

    References
    ----------
    Miller, Weniger and Forré (2022), arXiv:2210.06170, version 3 (its first two versions
    weight gamma wrongly).

    Examples
    --------
    >>> from pymc_nre.losses import NREC
    >>> round(NREC(candidates=5, gamma=1.0).chance, 4)
    1.4979
    """

    candidates: int = 5
    gamma: float = 1.0

    reference: ClassVar[str] = "evidence"
    normalized: ClassVar[bool] = True

    def __post_init__(self) -> None:
        take_candidates(self)
        if self.candidates < 1:
            raise ValueError(f"NREC needs candidates >= 1, got {self.candidates}.")
        check_number(self.gamma, "NREC: gamma")
        if not 0 < self.gamma < math.inf:
            raise ValueError(f"NREC needs a positive, finite gamma, got {self.gamma}.")

    @property
    def rolls(self) -> int:
        """Each observation meets K other parameter draws."""
        return self.candidates

    @property
    def chance(self) -> float:
        """The loss at logit zero."""
        weight = self.gamma / (1 + self.gamma)
        return math.log1p(self.gamma) + weight * math.log(self.candidates / self.gamma)

    @property
    def questions(self) -> tuple[Question, ...]:
        """Which of K candidates or none? Once the true one is among them, and once none.

        Both kinds of candidate sets share their network evaluations: K + 1 logits for each
        observation instead of 2 K. Expectations do not mind, only the variance might.
        """
        k, share = self.candidates, 1 / (1 + self.gamma)
        zeros, none = (0.0,) * k, math.log(k / self.gamma)
        among = Question((*range(k), NONE), (*zeros, none), self.gamma * share)
        return among, Question((NONE, *range(1, k + 1)), (none, *zeros), share)
