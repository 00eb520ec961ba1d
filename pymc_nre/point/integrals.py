r"""Means over the training prior, by few evaluations: for Bayes factors and posterior moments.

In normal scores z the training prior is about :math:`N(0, Q^{-1})`, and it is that here. Half of
the points are its draws; the others are of Student's t around the posterior that a parabola at the
maximum gives. Both together are one proposal, weighted by its density: many trials are resolved by
the second half, several modes by the first. The points are the same for all data sets, so that a
statistic is a function of the data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln, logsumexp

from ..estimators.estimator import RatioEstimator
from .searches.search import Found
from .searches.summed import SummedRatio

__all__ = ["Moments", "moments"]

_POINTS = 64  # of each half
_FREEDOM = 4.0  # degrees of the t: tails that are heavier than those of posteriors
_SETS = 1_000  # at once


@dataclass(frozen=True)
class Moments:
    """Of data sets, under the training prior: log of the mean likelihood, and of the posterior."""

    log_mean: np.ndarray  # (S,)
    mean: np.ndarray  # (S, D)
    covariance: np.ndarray  # (S, D, D)

    def of(self, sets: slice) -> Moments:
        """Of some of them."""
        return Moments(self.log_mean[sets], self.mean[sets], self.covariance[sets])

    @classmethod
    def joined(cls, parts: Sequence[Moments]) -> Moments:
        """One after another."""
        names = ("log_mean", "mean", "covariance")
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def moments(ratio: RatioEstimator, summed: SummedRatio, found: Found) -> Moments:
    """Of all data sets, of which the maxima were found before."""
    parts = []
    for start in range(0, len(found.value), _SETS):
        which = np.arange(start, min(start + _SETS, len(found.value)))
        parts.append(_some(ratio, summed, found, which))
    return Moments.joined(parts)


def _some(ratio: RatioEstimator, summed: SummedRatio, found: Found, which: np.ndarray) -> Moments:
    domain, size = ratio.domain, ratio.layout.size
    precision = domain.whiten @ domain.whiten.T
    prior_root = np.linalg.inv(np.linalg.cholesky(precision))
    center, root = _around(found, which, domain.scores(found.theta[which]), ratio, precision)
    of_prior, of_posterior = _standard(size)
    shared = np.broadcast_to(of_prior @ prior_root, (len(which), *of_prior.shape))
    own = center[:, None] + of_posterior @ root
    z = np.concatenate([shared, own], axis=1)
    log_prior = -0.5 * ((z @ domain.whiten) ** 2).sum(-1) + 0.5 * np.linalg.slogdet(precision)[1]
    log_prior -= 0.5 * size * np.log(2 * np.pi)
    away = np.einsum("rpi,rij->rpj", z - center[:, None], np.linalg.inv(root))
    log_own = _log_t(away, size) - np.linalg.slogdet(root)[1][:, None]
    theta = domain.at_scores(z)[0]
    inside = ((z @ domain.whiten) ** 2).sum(-1) <= domain.largest_rarity
    height = summed.table(theta, which)
    weight = np.where(inside, height + log_prior - np.logaddexp(log_prior, log_own), -np.inf)
    weight -= np.log(_POINTS)
    log_mean = logsumexp(weight, axis=1)
    share = np.exp(weight - log_mean[:, None])
    mean = np.einsum("rp,rpd->rd", share, theta)
    off = theta - mean[:, None]
    return Moments(log_mean, mean, np.einsum("rp,rpi,rpj->rij", share, off, off))


def _around(
    found: Found, which: np.ndarray, scores: np.ndarray, ratio: RatioEstimator, prior: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Center ``(S, D)`` and root of the covariance ``(S, D, D)`` of posteriors, by a parabola."""
    continuous, slope = ratio.layout.continuous, ratio.domain.at_scores(scores)[1]
    steep = slope[:, continuous]
    own = found.information[which] * steep[:, :, None] * steep[:, None, :]
    peaked = (np.linalg.eigvalsh(own) > 0).all(1)
    information = np.zeros((len(which), *prior.shape))
    information[np.ix_(peaked, continuous, continuous)] = own[peaked]
    both = information + prior
    center = np.linalg.solve(both, np.einsum("rij,rj->ri", information, scores)[..., None])[..., 0]
    lower = np.linalg.inv(np.linalg.cholesky(both))
    return np.where(peaked[:, None], center, scores), lower


def _standard(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Points ``(P, D)`` of standard normal variables, and of t: always the same ones."""
    rng = np.random.default_rng(20_210_703)
    normal = rng.standard_normal((2, _POINTS, size))
    chi = rng.chisquare(_FREEDOM, (_POINTS, 1)) / _FREEDOM
    return normal[0], normal[1] / np.sqrt(chi)


def _log_t(z: np.ndarray, size: int) -> np.ndarray:
    """Log density of standard t variables ``(*, D)``."""
    total = _FREEDOM + size
    constant = gammaln(total / 2) - gammaln(_FREEDOM / 2) - 0.5 * size * np.log(_FREEDOM * np.pi)
    return constant - 0.5 * total * np.log1p((z**2).sum(-1) / _FREEDOM)
