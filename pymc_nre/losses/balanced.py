"""Another loss, with a penalty on classifiers that are out of balance (BNRE)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from ..runtime.arrays import plain_fields
from .base import Network
from .contrastive import NREA, NREC, Contrastive, check_number, contrastive_logits

__all__ = ["BNRE", "Balanced"]


@dataclass(frozen=True)
class Balanced:
    r"""Another loss, with a penalty on classifiers that are out of balance (BNRE).

    .. math:: L + \lambda\,\bigl(E_{joint}\,\sigma(s) + E_{marginal}\,\sigma(s) - 1\bigr)^2

    The exact ratio is balanced, so the optimum stays where it is; on the way there, with few
    simulations, balanced estimators tend to posteriors that are too wide rather than too
    narrow. The penalty is taken batch by batch and adds its own variance, about
    0.2 strength / batch size, so it trains on batches of 2,048 where there is enough for them.

    Parameters
    ----------
    loss : NREA or NREC
        A loss whose optimal logit is the log ratio itself.
    strength : float
        lambda, not negative.

    Raises
    ------
    ValueError
        If the loss leaves the logit unnormalized, as NREB does.

    References
    ----------
    Delaunoy et al. (2022), arXiv:2208.13624; Delaunoy et al. (2023), arXiv:2304.10978.

    Examples
    --------
    >>> from pymc_nre.losses import NREC, Balanced
    >>> Balanced(NREC(candidates=5), strength=50.0).normalized
    True
    """

    loss: NREA | NREC = field(default_factory=NREA)
    strength: float = 100.0

    reference: ClassVar[str] = "evidence"
    normalized: ClassVar[bool] = True
    batch_size: ClassVar[int] = 2_048
    learning_rate: ClassVar[float] = 3e-3

    def __post_init__(self) -> None:
        if not (isinstance(self.loss, Contrastive) and self.loss.normalized):
            raise ValueError(
                "Balanced needs a loss of joint and marginal pairs whose logit is the log ratio "
                f"itself, NREA() or NREC(), got {self.loss!r}."
            )
        plain_fields(self)
        check_number(self.strength, "Balanced: strength")
        if not 0 <= self.strength < math.inf:
            raise ValueError(f"Balanced needs a strength >= 0, got {self.strength}.")

    @property
    def minimum_batch(self) -> int:
        """That of the loss it balances."""
        return self.loss.minimum_batch

    @property
    def chance(self) -> float:
        """A logit of zero is in balance."""
        return self.loss.chance

    def __call__(self, net: Network, theta: Tensor, x: Tensor) -> Tensor:
        """Scalar loss of joint pairs, theta ``(n, D)`` and x ``(n, *event)``."""
        s = contrastive_logits(net, theta, x, self.loss.rolls)
        return self.loss.of_logits(s) + self.strength * self.imbalance(s) ** 2

    @staticmethod
    def imbalance(s: Tensor) -> Tensor:
        """How far logits ``(n, 1 + rolls)`` are from balance; a scalar, zero on average."""
        return s[:, 0].sigmoid().mean() + s[:, 1:].sigmoid().mean() - 1


def BNRE(strength: float = 100.0) -> Balanced:  # noqa: N802  # the method's name
    """Balanced neural ratio estimation: ``Balanced(NREA(), strength)``.

    Parameters
    ----------
    strength : float
        Weight of the balance penalty.

    Returns
    -------
    Balanced

    References
    ----------
    Delaunoy et al. (2022), arXiv:2208.13624.

    Examples
    --------
    >>> from pymc_nre.losses import BNRE
    >>> BNRE()
    Balanced(loss=NREA(), strength=100.0)
    """
    return Balanced(NREA(), strength)
