r"""What the simulations of all rounds were drawn from: the prior, times a weight that is known.

Round j draws from :math:`q_j(\theta) = p(\theta)\,w_j(\theta)`: of the whole prior first, w = 1;
then of the prior inside the kept set K, whose mass is V, and, a share a of them, of the posterior,

.. math:: w_j(\theta) = 1_K(\theta) \Bigl[\frac{1 - a}{V} + a\,\frac{r(\theta, x_o)}{Z}\Bigr].

The simulations of all rounds are draws of the mixture of their proposals. For one data set the
ratio to any mixture is its likelihood up to a constant, so none of them needs to be weighed, and
all count. Contrasts at every scale want the density of what was drawn, which is this one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from scipy.special import logsumexp

from ..simulation.prior import Prior
from .kept import KeptSet
from .study import KnownPrior

__all__ = ["Mixture", "Proposal"]


@dataclass(frozen=True, eq=False)
class Proposal:
    """What a round draws from.

    Attributes
    ----------
    kept : KeptSet
    share : float
        Of draws of the posterior; the others are of the prior.
    """

    kept: KeptSet
    share: float

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """``n`` draws ``(n, D)``."""
        posterior = self.kept.posterior
        inside = posterior.theta[posterior.log_ratio > self.kept.threshold]
        most = inside[: round(self.share * n)]
        return rng.permutation(np.concatenate([most, self.kept.draws.theta[: n - len(most)]]))

    def log_weight(self, theta: np.ndarray) -> np.ndarray:
        """Log density beside that of the prior, ``(n,)`` of ``(n, D)``."""
        log_ratio = self.kept.data.in_single(theta)
        log_weight = np.full(len(theta), np.log1p(-self.share) - self.kept.log_volume)
        if self.share:
            of_posterior = np.log(self.share) + log_ratio - self.kept.posterior.log_mass
            log_weight = np.logaddexp(log_weight, of_posterior)
        return np.where(log_ratio > self.kept.threshold, log_weight, -np.inf)


@dataclass(frozen=True, eq=False)
class Mixture(Prior):
    """What simulations of several rounds are draws of, as one prior.

    Attributes
    ----------
    known : KnownPrior
        What the first ones were drawn from.
    proposals : tuple of Proposal
        Of the others.
    counts : tuple of int
        How many were drawn in each round.
    """

    known: KnownPrior = field(kw_only=True)
    proposals: tuple[Proposal, ...] = field(kw_only=True)
    counts: tuple[int, ...] = field(kw_only=True)

    @classmethod
    def of(
        cls, known: KnownPrior, proposals: tuple[Proposal, ...], counts: tuple[int, ...]
    ) -> Mixture:
        """That of the same variables."""
        its = {"known": known, "proposals": proposals, "counts": counts}
        return cls(known.prior.variables, known.prior.shapes, **its)

    def log_weight(self, theta: np.ndarray) -> np.ndarray:
        """Log density beside that of the prior, ``(n,)`` of ``(n, D)``."""
        weights = [np.zeros(len(theta)), *(each.log_weight(theta) for each in self.proposals)]
        shares = np.array(self.counts) / sum(self.counts)
        return logsumexp(weights, axis=0, b=shares[:, None])

    def log_density_function(self) -> Callable[[Mapping[str, np.ndarray]], np.ndarray]:
        """Of draws ``(n, *own)`` by name."""

        def density(parameters: Mapping[str, np.ndarray]) -> np.ndarray:
            theta = self.known.layout.pack(parameters)
            found = self.known.log_prior(theta)
            possible = np.isfinite(found)
            found[possible] += self.log_weight(theta[possible])
            return found

        return density
