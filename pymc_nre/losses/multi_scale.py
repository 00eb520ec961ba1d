"""Another loss, and which of some candidates near each other are the true parameters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from ..runtime.arrays import plain_fields, real_number, whole_number
from .base import Network
from .contrastive import NREA, NREB, NREC, Contrastive, rolled
from .questions import Asked, Question, cost

__all__ = ["MultiScale"]


@dataclass(frozen=True)
class MultiScale:
    r"""Contrasts at every scale: also tell the true parameters from others near them.

    Parameters drawn from the prior are nearly all far from the true ones. They teach where a
    posterior is, and little of what it looks like. So each pair also meets candidates nearby. A
    scale :math:`\sigma` is drawn log-uniformly, a center :math:`c \sim N(\theta, \sigma^2)`, and
    :math:`K - 1` candidates :math:`\theta_k \sim N(c, \sigma^2)`. Seen from the center the true
    parameters are one of K that nothing tells apart but the prior and the likelihood, and

    .. math:: L - w\,E\Bigl[\log \frac{p(\theta)\,e^{s(\theta, x)}}
              {\sum_k p(\theta_k)\,e^{s(\theta_k, x)}}\Bigr]

    is least at the log ratio for every law of the scale. The other loss :math:`L` pins its
    normalization, and contrasts what is far. Integers take whole steps, and parameters that are
    tied to each other, as on a simplex, steps that keep the tie.

    It needs the log density of the prior: simulations made by `pymc_nre.simulate` know it, and
    ready arrays that come with their prior, ``Simulations(..., prior=prior)``.

    Parameters
    ----------
    loss : NREA, NREB or NREC
        A loss of contrasts from all of the prior; by default ``NREC(candidates=3)``.
    candidates : int
        K, the number of candidates near each other, the true one among them; at least 2.
    scales : tuple of float
        The smallest and the largest scale, in standard deviations of the prior.
    weight : float
        w, positive.

    Raises
    ------
    TypeError, ValueError
        If the loss is another one, or a number does not fit. A balance penalty keeps posteriors
        wide, which contrasts nearby undo: the two are not for each other.

    References
    ----------
    Not published in this form as far as we know. Related: Miller, Weniger and Forré (2022),
    arXiv:2210.06170; Xu et al. (2023), telescoping density-ratio estimation, arXiv:2308.08597.

    Examples
    --------
    >>> from pymc_nre.losses import NREC, MultiScale
    >>> MultiScale(NREC(candidates=5), scales=(0.03, 1.0)).normalized
    True
    """

    loss: NREA | NREB | NREC = field(default_factory=lambda: NREC(candidates=3))
    candidates: int = 4
    scales: tuple[float, float] = (0.01, 1.0)
    weight: float = 1.0

    reference: ClassVar[str] = "evidence"

    def __post_init__(self) -> None:
        if not isinstance(self.loss, Contrastive):
            raise TypeError(
                "MultiScale: loss must contrast joint with marginal pairs, NREA(), NREB() or "
                f"NREC(), got {self.loss!r}."
            )
        if type(self.loss).of_logits is not Contrastive.of_logits:
            raise TypeError(
                "MultiScale: loss has an of_logits of its own, which nobody would call, got "
                f"{self.loss!r}. Say what it asks by its questions."
            )
        plain_fields(self)
        taken = {
            "candidates": whole_number(self.candidates, "MultiScale: candidates", least=2),
            "scales": _checked_scales(self.scales),
            "weight": real_number(self.weight, "MultiScale: weight", above=0),
        }
        for name, value in taken.items():
            object.__setattr__(self, name, value)

    @property
    def normalized(self) -> bool:
        """What the other loss says: candidates nearby leave a function of x free."""
        return self.loss.normalized

    @property
    def minimum_batch(self) -> int:
        """That of the other loss."""
        return self.loss.minimum_batch

    @property
    def near(self) -> int:
        """Each pair meets K - 1 candidates besides the true one."""
        return self.candidates - 1

    @property
    def chance(self) -> float:
        """At logit zero under a flat prior; where it is not flat it tells by itself, and less."""
        return self.loss.chance + self.weight * math.log(self.candidates)

    def __call__(
        self, net: Network, theta: Tensor, x: Tensor, near: Tensor, log_prior: Tensor
    ) -> Tensor:
        """Scalar loss of joint pairs.

        Parameters
        ----------
        net : Network
        theta : Tensor, shape (n, D)
        x : Tensor, shape (n, *event)
        near : Tensor, shape (n, K - 1, D)
            The other candidates.
        log_prior : Tensor, shape (n, K)
            Of the true parameters and the others, up to a constant; minus infinity outside the
            support of the prior.
        """
        candidates = torch.cat([rolled(theta, self.loss.rolls), near], 1)
        return cost(net.head(candidates, net.embed(x)[:, None]), self.questions, log_prior)

    def asked(self, near: Tensor, log_prior: Tensor) -> Asked:
        """The same in words: what is asked of which logits."""
        return Asked(self.questions, self.loss.rolls, near, log_prior)

    @property
    def questions(self) -> tuple[Question, ...]:
        """Those of the other loss, and which of the candidates nearby."""
        far = self.loss.rolls
        near = Question((0, *range(far + 1, far + self.candidates)), (0.0,) * self.candidates)
        return *self.loss.questions, replace(near, weight=self.weight)


def _checked_scales(scales: object) -> tuple[float, float]:
    name = "MultiScale: scales"
    ordered = isinstance(scales, Sequence | np.ndarray) and not isinstance(scales, str | bytes)
    if not ordered or (isinstance(scales, np.ndarray) and not scales.ndim) or len(scales) != 2:
        raise TypeError(f"{name} must be the smallest and the largest, got {scales!r}.")
    smallest, largest = (real_number(scale, name, above=0) for scale in scales)
    if smallest > largest:
        raise ValueError(f"{name} must rise from the first to the second, got {scales!r}.")
    return smallest, largest
