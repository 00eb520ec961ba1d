r"""Losses that are least where the network's logit is a log likelihood ratio.

A ratio estimator is a classifier: it sees *joint* pairs, :math:`\theta \sim p(\theta),
x \sim p(x \mid \theta)`, and *marginal* pairs, in which the two are independent, and the
logit :math:`s(\theta, x)` that separates them best is :math:`\log p(x \mid \theta) / p(x)`.
Marginal pairs are made by rolling the parameters of a batch against its observations. Every
roll is by a non-zero offset, so no marginal pair is secretly a joint one; a random
permutation would leave fixed points and bias the loss at order 1 / batch size.

A loss is a frozen, callable value, ``loss(net, theta, x)``, where ``net.embed(x)`` turns
observations into features, once each, and ``net.head(theta, features)`` gives logits. It
states the facts that the rest of the library reads:

``reference``
    What the likelihood is divided by: ``"evidence"``, or for `CARL` ``"fixed"``, the
    likelihood at fixed parameters. A loss with a fixed reference carries
    ``reference_simulations`` and is called with a third batch, drawn from their ``x``.
``normalized``
    Whether the optimal logit is the log ratio itself, or only up to a function of ``x``.
``chance``
    The loss of a network that has learned nothing (logit zero everywhere).
``minimum_batch``
    The smallest batch that the loss can be computed on.
``batch_size``, ``learning_rate``
    What it trains best with (optional: 256 and 0.01), measured in docs/training.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Protocol

import torch
from torch import Tensor
from torch.nn.functional import softplus

if TYPE_CHECKING:
    from .simulation.simulations import Simulations

__all__ = ["BNRE", "CARL", "NREA", "NREB", "NREC", "Balanced", "Loss"]


class Network(Protocol):
    """What a loss needs of a network."""

    def embed(self, x: Tensor) -> Tensor:
        """Features ``(n, F)`` of observations ``(n, *event)``."""

    def head(self, theta: Tensor, features: Tensor) -> Tensor:
        """Logits ``(*)`` of parameters ``(*, D)`` with features ``(*, F)``."""


class Loss(Protocol):
    """What `pymc_nre.train` needs of a loss."""

    reference: str
    normalized: bool
    chance: float
    minimum_batch: int

    def __call__(self, net: Network, theta: Tensor, x: Tensor, *reference_x: Tensor) -> Tensor:
        """Scalar loss of joint pairs, theta ``(n, D)`` and x ``(n, *event)``."""


class _Contrastive:
    """Losses of one joint and ``rolls`` marginal logits for each observation."""

    rolls: int

    def __call__(self, net: Network, theta: Tensor, x: Tensor) -> Tensor:
        """Scalar loss of joint pairs, theta ``(n, D)`` and x ``(n, *event)``."""
        return self.of_logits(_logits(net, theta, x, self.rolls))

    def of_logits(self, s: Tensor) -> Tensor:
        """Scalar loss of logits ``(n, 1 + rolls)``, the joint pairs first."""
        raise NotImplementedError

    @property
    def minimum_batch(self) -> int:
        """Each observation meets ``rolls`` other parameter draws."""
        return self.rolls + 1


def _logits(net: Network, theta: Tensor, x: Tensor, rolls: int) -> Tensor:
    """Logits ``(n, 1 + rolls)``: the joint pairs, then theta rolled by 1, 2, ..."""
    n = len(theta)
    if n <= rolls:
        raise ValueError(
            f"This loss compares each observation with {rolls} other parameter draws and needs "
            f"batches of at least {rolls + 1} pairs, got {n}. Use more simulations, a larger "
            "batch_size, or fewer candidates."
        )
    device = theta.device
    pairs = torch.arange(n, device=device)[:, None] + torch.arange(rolls + 1, device=device)
    return net.head(theta[pairs % n], net.embed(x)[:, None])


@dataclass(frozen=True)
class NREA(_Contrastive):
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

    def of_logits(self, s: Tensor) -> Tensor:
        """Scalar loss of logits ``(n, 2)``, the joint pairs first."""
        joint, marginal = s.unbind(-1)
        return 0.5 * (softplus(-joint).mean() + softplus(marginal).mean())


@dataclass(frozen=True)
class NREB(_Contrastive):
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

    def of_logits(self, s: Tensor) -> Tensor:
        """Scalar loss of logits ``(n, K)``, the joint pairs first."""
        return (s.logsumexp(-1) - s[:, 0]).mean()


@dataclass(frozen=True)
class NREC(_Contrastive):
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
        if self.candidates < 1:
            raise ValueError(f"NREC needs candidates >= 1, got {self.candidates}.")
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

    def of_logits(self, s: Tensor) -> Tensor:
        """Scalar loss of logits ``(n, K + 1)``, the joint pairs first.

        Both kinds of candidate sets share their network evaluations: K + 1 logits for each
        observation instead of 2 K. Expectations do not mind, only the variance might.
        """
        k, log_gamma = self.candidates, math.log(self.gamma)
        none = s.new_full((len(s), 1), math.log(k))
        independent, dependent = (
            torch.cat([log_gamma + part, none], -1).logsumexp(-1) for part in (s[:, 1:], s[:, :-1])
        )
        when_none = (independent - math.log(k)).mean()
        when_true = (dependent - log_gamma - s[:, 0]).mean()
        return (when_none + self.gamma * when_true) / (1 + self.gamma)


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
        if not (isinstance(self.loss, _Contrastive) and self.loss.normalized):
            raise ValueError(
                "Balanced needs a loss of joint and marginal pairs whose logit is the log ratio "
                f"itself, NREA() or NREC(), got {self.loss!r}."
            )
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
        s = _logits(net, theta, x, self.loss.rolls)
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


@dataclass(frozen=True, repr=False)
class CARL:
    r"""Which parameters made this observation, these or the fixed reference? (CARL)

    .. math:: \tfrac12 E_{x \sim p(x \mid \theta)}\,\log(1 + e^{-s})
              + \tfrac12 E_{x \sim p(x \mid \theta_{ref})}\,\log(1 + e^{s})

    The optimal logit is :math:`\log p(x \mid \theta) / p(x \mid \theta_{ref})`. It is learned
    only where the two overlap: observations that the reference never makes teach nothing, so
    choose a reference whose observations cover those of the whole prior.

    Parameters
    ----------
    reference_simulations : Simulations
        Made at the reference: ``simulate(prior, simulator, n, at={"mu": 0.0})``. As many as
        the training simulations, or more.

    Raises
    ------
    ValueError
        If the simulations are not all at the same parameters.

    References
    ----------
    Cranmer, Pavez and Louppe (2015), arXiv:1506.02169.

    Examples
    --------
    >>> import pymc as pm
    >>> import pymc_nre as nre
    >>> prior = {"mu": pm.Uniform.dist(-2, 2)}
    >>> simulator = lambda rng, mu: rng.normal(mu, 1.0)
    >>> nre.losses.CARL(
    ...     nre.simulate(prior, simulator, 100, at={"mu": 0.5}, random_seed=1, progressbar=False)
    ... )
    CARL(100 reference simulations at mu = 0.5)
    """

    reference_simulations: Simulations

    reference: ClassVar[str] = "fixed"
    normalized: ClassVar[bool] = True
    minimum_batch: ClassVar[int] = 1
    chance: ClassVar[float] = math.log(2)

    def __post_init__(self) -> None:
        theta = self.reference_simulations.theta
        if not (theta == theta[0]).all():
            raise ValueError(
                "CARL needs reference simulations that all have the same parameters; these vary "
                f"in {int((theta != theta[0]).any(0).sum())} of {theta.shape[1]} numbers. Make "
                "them by simulate(prior, simulator, n, at={...})."
            )

    def __repr__(self) -> str:
        simulations = self.reference_simulations
        values = zip(simulations.layout.labels, simulations.theta[0], strict=True)
        at = ", ".join(f"{label} = {value:.6g}" for label, value in values)
        return f"CARL({len(simulations):,} reference simulations at {at})"

    def __call__(self, net: Network, theta: Tensor, x: Tensor, reference_x: Tensor) -> Tensor:
        """Scalar loss of theta ``(n, D)``, x ``(n, *event)`` and reference_x ``(n, *event)``."""
        # In one pass: batch normalization would tell the two apart by their own moments.
        logits = net.head(torch.cat([theta, theta]), net.embed(torch.cat([x, reference_x])))
        joint, reference = logits.chunk(2)
        return 0.5 * (softplus(-joint).mean() + softplus(reference).mean())
