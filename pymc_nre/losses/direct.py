r"""The direct ratio of two parameter vectors (DNRE)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import softplus

from .base import Network
from .contrastive import rolled, take_candidates
from .questions import Asked, Question

__all__ = ["DNRE"]

_HEADS = ("antisymmetric", "additive", "plain")


@dataclass(frozen=True)
class DNRE:
    r"""Which of two parameter vectors made this observation? (direct NRE)

    .. math:: \tfrac12 E\,[\log(1 + e^{-f(\theta, \theta', x)})
        + \log(1 + e^{f(\theta', \theta, x)})], \quad x \sim p(x \mid \theta)

    The optimal logit is :math:`\log p(x \mid \theta) / p(x \mid \theta')`, in one evaluation, which
    is what a Metropolis step compares (`pymc_nre.steps.DirectRatioMetropolis`).
    ``RatioEstimator.marginal`` makes of it an ordinary ratio to the evidence. On problems of few
    simulations it is less accurate than the default loss: docs/direct_ratios.md has a table.

    Parameters
    ----------
    head : {"antisymmetric", "additive", "plain"}
        What a network :math:`g` of both parameter vectors makes of them. Antisymmetric is
        :math:`g(\theta, \theta', x) - g(\theta', \theta, x)`, so that swapping them changes the
        sign. Additive is :math:`g(\theta, x) - g(\theta', x)`, of which nothing but :math:`g` is
        kept: an ordinary estimator, as by `NREB`, which it equals with two candidates. Plain is
        :math:`g` itself, as published, which is not even antisymmetric.
    candidates : int
        How many parameter vectors an observation meets, the true one among them; at least 2, which
        is as published. More make better use of each simulation, and an epoch takes longer.

    Raises
    ------
    TypeError, ValueError
        If there is no such head, or candidates are no whole number or less than 2.

    References
    ----------
    Cobb et al. (2023), Direct amortized likelihood ratio estimation, arXiv:2311.10571.

    Examples
    --------
    >>> from pymc_nre.losses import DNRE
    >>> DNRE().reference
    'pair'
    >>> DNRE("additive").normalized
    False
    """

    head: str = "antisymmetric"
    candidates: int = 5

    chance: ClassVar[float] = math.log(2)

    def __post_init__(self) -> None:
        take_candidates(self)
        if self.head not in _HEADS:
            raise ValueError(f"DNRE: head must be one of {', '.join(_HEADS)}, got {self.head!r}.")
        if self.candidates < 2:
            raise ValueError(f"DNRE needs candidates >= 2, got {self.candidates}.")

    @property
    def reference(self) -> str:
        """What an additive head is divided by is a function of x."""
        return "evidence" if self.head == "additive" else "pair"

    @property
    def normalized(self) -> bool:
        """An additive head may be off by any function of x."""
        return self.head != "additive"

    @property
    def antisymmetric(self) -> bool:
        """Whether networks of pairs are made so."""
        return self.head == "antisymmetric"

    @property
    def rolls(self) -> int:
        """Each observation meets as many other parameter draws."""
        return self.candidates - 1

    @property
    def minimum_batch(self) -> int:
        """All of them different."""
        return self.candidates

    def __call__(self, net: Network, theta: Tensor, x: Tensor) -> Tensor:
        """Scalar loss of joint pairs, theta ``(n, D)`` and x ``(n, *event)``.

        The network takes both parameter vectors as one, ``(*, 2 D)``, unless the head is additive.
        """
        candidates, features = rolled(theta, self.rolls), net.embed(x)[:, None]
        if self.head == "additive":
            s = net.head(candidates, features)
            return softplus(s[:, 1:] - s[:, :1]).mean()
        others = candidates[:, 1:]
        own = theta[:, None].expand_as(others)
        loss = softplus(-net.head(torch.cat([own, others], -1), features)).mean()
        if self.antisymmetric:  # the other half is the same
            return loss
        swapped = net.head(torch.cat([others, own], -1), features)
        return (loss + softplus(swapped).mean()) / 2

    def asked(self) -> Asked:
        """An additive head in words: this one or that? Of each other candidate."""
        each = 1 / self.rolls
        questions = (Question((0, k), (0.0, 0.0), each) for k in range(1, self.candidates))
        return Asked(tuple(questions), self.rolls)
