r"""Tasks with normal observations: a mean, a location and scale, a linear model.

Their evidences are differences of normal cdfs, a short quadrature over those, and a
multivariate normal.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.special import log_ndtr, logsumexp
from torch import Tensor

from ..runtime.arrays import whole_number
from .base import LOG_2PI, ExactNetwork, Posterior, Task, log_mass, span

__all__ = ["GaussianMean", "LinearGaussian", "LocationScale"]


@dataclass(frozen=True)
class GaussianMean(Task):
    r""":math:`\mu \sim U(-w, w)` and :math:`x \sim N(\mu, 1)`.

    Parameters
    ----------
    half_width : float
        w, of the uniform training prior.

    Examples
    --------
    >>> import numpy as np
    >>> from pymc_nre.tasks import GaussianMean
    >>> posterior = GaussianMean().posterior(np.array([1.0, 2.0, 3.0, 2.0]))
    >>> float(posterior.mean["mu"]), float(posterior.sd["mu"])
    (2.0, 0.5)
    """

    half_width: float = 10.0

    def __post_init__(self) -> None:
        self._number("half_width", above=0)

    def _parameters(self, pm: Any) -> None:
        pm.Uniform("mu", -self.half_width, self.half_width)

    def simulator(self, rng: np.random.Generator, mu: np.ndarray) -> np.ndarray:
        """Batched: mu ``(n,)`` to observations ``(n,)``."""
        return rng.normal(mu, 1.0)

    def _network(self) -> ExactNetwork:
        return _GaussianMeanRatio(self.half_width)

    def log_evidence(self, x: np.ndarray) -> np.ndarray:
        """Log of p(x) under the training prior; shape of ``x``."""
        w = self.half_width
        # Reflect to the lower tail, where the difference of log cdfs keeps its digits.
        x = -np.abs(self._observations(x, "log_evidence"))
        upper, lower = log_ndtr(x + w), log_ndtr(x - w)
        return upper + np.log1p(-np.exp(lower - upper)) - math.log(2 * w)

    def log_likelihood(self, x: np.ndarray, mu: np.ndarray) -> np.ndarray:
        """Log density of each observation, broadcast."""
        x, mu = self._broadcast(x, {"mu": ()}, mu=mu)
        return -0.5 * (x - mu) ** 2 - 0.5 * LOG_2PI

    def maximum_likelihood(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Maximum within the prior's support, given all of ``x`` ``(n,)``."""
        mean = np.mean(self._data(x, "maximum_likelihood"))
        return {"mu": np.clip(mean, -self.half_width, self.half_width)}

    def posterior(self, x: np.ndarray) -> Posterior:
        """Under the training prior, given all of ``x`` ``(n,)``: a truncated normal."""
        from scipy.stats import truncnorm  # imports much, which nobody else needs

        x = self._data(x, "posterior")
        sd, center = len(x) ** -0.5, float(np.mean(x))
        ends = ((end - center) / sd for end in (-self.half_width, self.half_width))
        exact = truncnorm(*ends, loc=center, scale=sd)
        return Posterior({"mu": np.asarray(exact.mean())}, {"mu": np.asarray(exact.std())})


class _GaussianMeanRatio(ExactNetwork):
    def __init__(self, half_width: float) -> None:
        super().__init__(1, ())
        self.half_width = half_width

    def head(self, theta: Tensor, features: Tensor) -> Tensor:
        x = features[..., 0]
        return -0.5 * (x - theta[..., 0]) ** 2 - 0.5 * LOG_2PI - self.log_evidence(features)

    def log_evidence(self, features: Tensor) -> Tensor:
        x = features[..., 0]
        return log_mass(x, self.half_width, torch.ones_like(x)) - math.log(2 * self.half_width)

    def extra_repr(self) -> str:
        return f"half_width={self.half_width}"


@dataclass(frozen=True)
class LocationScale(Task):
    r""":math:`\mu \sim U(-5, 5)`, :math:`\log\sigma \sim U(-1, 1)`, :math:`x \sim N(\mu, \sigma)`.

    Its parameters are ``mu`` and ``log_sigma``.

    Examples
    --------
    >>> import numpy as np
    >>> from pymc_nre.tasks import LocationScale
    >>> fit = LocationScale().maximum_likelihood(np.array([-1.0, 1.0]))
    >>> float(fit["mu"]), float(fit["log_sigma"])
    (0.0, 0.0)
    """

    half_width: float = 5.0
    log_range: float = 1.0

    def __post_init__(self) -> None:
        self._number("half_width", above=0)
        self._number("log_range", above=0)

    def _parameters(self, pm: Any) -> None:
        pm.Uniform("mu", -self.half_width, self.half_width)
        pm.Uniform("log_sigma", -self.log_range, self.log_range)

    def simulator(
        self, rng: np.random.Generator, mu: np.ndarray, log_sigma: np.ndarray
    ) -> np.ndarray:
        """Batched: parameters ``(n,)`` to observations ``(n,)``."""
        return rng.normal(mu, np.exp(log_sigma))

    def _network(self) -> ExactNetwork:
        return _LocationScaleRatio(self.half_width, self.log_range)

    def log_likelihood(self, x: np.ndarray, mu: np.ndarray, log_sigma: np.ndarray) -> np.ndarray:
        """Log density of each observation, broadcast."""
        own = {"mu": (), "log_sigma": ()}
        x, mu, log_sigma = self._broadcast(x, own, mu=mu, log_sigma=log_sigma)
        z = (x - mu) * np.exp(-log_sigma)
        return -0.5 * z**2 - log_sigma - 0.5 * LOG_2PI

    def maximum_likelihood(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Maximum given all of ``x`` ``(n,)``, for an ``x`` whose maximum is inside the support."""
        x = self._data(x, "maximum_likelihood")
        if not np.ptp(x):
            raise ValueError(
                "maximum_likelihood: x: expected observations that differ, got "
                f"{len(x):,} times {x[0]:.4g}: the smaller the scale, the likelier they are."
            )
        return {"mu": np.mean(x), "log_sigma": np.log(np.std(x))}

    def posterior(self, x: np.ndarray, grid: int = 801) -> Posterior:
        """Under the training prior, given all of ``x`` ``(n,)``: sums over a fine grid.

        The grid covers 10 standard deviations around the maximum, cut to the support.
        """
        x, n = self._data(x, "posterior"), len(x)
        grid = whole_number(grid, "posterior: grid", least=2)
        widest = max(np.std(x), np.exp(self.log_range) if n < 10 else 0.0)  # few say little
        center = np.clip(np.log(max(np.std(x), 1e-300)), -self.log_range, self.log_range)
        mu = span(np.mean(x), 10 * widest / n**0.5, self.half_width, grid)
        log_sigma = span(center, 10 / (2 * n) ** 0.5, self.log_range, grid)[:, None]
        squares = np.sum((x - np.mean(x)) ** 2) + n * (np.mean(x) - mu) ** 2
        log_p = -n * log_sigma - 0.5 * squares * np.exp(-2 * log_sigma)
        p = np.exp(log_p - logsumexp(log_p))
        means = {"mu": np.sum(p * mu), "log_sigma": np.sum(p * log_sigma)}
        sds = {
            "mu": np.sqrt(np.sum(p * (mu - means["mu"]) ** 2)),
            "log_sigma": np.sqrt(np.sum(p * (log_sigma - means["log_sigma"]) ** 2)),
        }
        return Posterior(means, sds)


class _LocationScaleRatio(ExactNetwork):
    """The evidence integrates mu in closed form and log sigma by Gauss and Legendre.

    That costs as much as a hundred likelihoods, so it is a feature, once for each observation.
    """

    nodes: Tensor
    log_weights: Tensor

    def __init__(self, half_width: float, log_range: float) -> None:
        super().__init__(2, ())
        self.half_width, self.log_range = half_width, log_range
        # 64 nodes: the integrand is analytic and varies on the scale of the interval
        nodes, weights = np.polynomial.legendre.leggauss(64)
        self.register_buffer("nodes", torch.tensor(nodes * log_range))
        self.register_buffer("log_weights", torch.tensor(np.log(weights / 2)))

    def embed(self, x: Tensor) -> Tensor:
        """Observations and their evidence, ``(n, 2)``."""
        x = super().embed(x)
        return torch.cat([x, self.log_evidence(x)[:, None]], -1)

    def head(self, theta: Tensor, features: Tensor) -> Tensor:
        x, log_evidence = features.unbind(-1)
        z = (x - theta[..., 0]) * torch.exp(-theta[..., 1])
        return -0.5 * z**2 - theta[..., 1] - 0.5 * LOG_2PI - log_evidence

    def log_evidence(self, features: Tensor) -> Tensor:
        x = features[..., 0]
        sigma = self.nodes.exp().expand(*x.shape, -1)
        mass = log_mass(x[..., None], self.half_width, sigma) - math.log(2 * self.half_width)
        return (mass + self.log_weights).logsumexp(-1)

    def extra_repr(self) -> str:
        return f"half_width={self.half_width}, log_range={self.log_range}"


@dataclass(frozen=True)
class LinearGaussian(Task):
    r""":math:`\theta \sim N(0, I_3)` and :math:`x \sim N(A\theta, s^2 I_4)`: a vector parameter.

    Parameters
    ----------
    noise : float
        s, the standard deviation of each of the four numbers of an observation.

    Examples
    --------
    >>> import numpy as np
    >>> from pymc_nre.tasks import LinearGaussian
    >>> LinearGaussian().posterior(np.zeros((10, 4))).mean["theta"]
    array([0., 0., 0.])
    """

    noise: float = 1.0

    def __post_init__(self) -> None:
        self._number("noise", above=0)

    @property
    def matrix(self) -> np.ndarray:
        """A, ``(4, 3)``."""
        return np.array([[1.0, 0.5, 0.0], [0.0, 1.0, 0.5], [0.5, 0.0, 1.0], [1.0, -1.0, 1.0]])

    def _parameters(self, pm: Any) -> None:
        pm.Normal("theta", 0.0, 1.0, shape=3)

    def simulator(self, rng: np.random.Generator, theta: np.ndarray) -> np.ndarray:
        """Batched: theta ``(n, 3)`` to observations ``(n, 4)``."""
        return rng.normal(theta @ self.matrix.T, self.noise)

    def _network(self) -> ExactNetwork:
        return _LinearGaussianRatio(self.matrix, self.noise)

    def log_likelihood(self, x: np.ndarray, theta: np.ndarray) -> np.ndarray:
        """Log density ``(*)`` of observations ``(*, 4)`` at theta ``(*, 3)``, broadcast."""
        x, theta = self._broadcast(x, {"theta": (3,)}, theta=theta)
        z = (x - theta @ self.matrix.T) / self.noise
        return -0.5 * np.sum(z**2, -1) - 4 * math.log(self.noise) - 2 * LOG_2PI

    def maximum_likelihood(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Maximum given all of ``x`` ``(n, 4)``: least squares."""
        mean = np.mean(self._data(x, "maximum_likelihood"), axis=0)
        return {"theta": np.linalg.lstsq(self.matrix, mean, rcond=None)[0]}

    def posterior(self, x: np.ndarray) -> Posterior:
        """Under the training prior, given all of ``x`` ``(n, 4)``: conjugate."""
        x = self._data(x, "posterior")
        precision = np.eye(3) + len(x) * self.matrix.T @ self.matrix / self.noise**2
        covariance = np.linalg.inv(precision)
        mean = covariance @ self.matrix.T @ np.sum(x, axis=0) / self.noise**2
        return Posterior({"theta": mean}, {"theta": np.sqrt(np.diag(covariance))})


class _LinearGaussianRatio(ExactNetwork):
    matrix: Tensor
    evidence_root: Tensor

    def __init__(self, matrix: np.ndarray, noise: float) -> None:
        super().__init__(matrix.shape[1], (matrix.shape[0],))
        self.noise = noise
        covariance = matrix @ matrix.T + noise**2 * np.eye(len(matrix))
        root = np.linalg.inv(np.linalg.cholesky(covariance))
        self.register_buffer("matrix", torch.tensor(matrix))
        self.register_buffer("evidence_root", torch.tensor(root))

    def head(self, theta: Tensor, features: Tensor) -> Tensor:
        residual = (features - theta @ self.matrix.T) / self.noise
        whitened = features @ self.evidence_root.T
        # log|s| - log|L|, where L L^T is the covariance of x and L^-1 the root
        log_dets = (
            len(self.matrix) * math.log(self.noise) + self.evidence_root.diagonal().log().sum()
        )
        return 0.5 * (whitened**2).sum(-1) - 0.5 * (residual**2).sum(-1) - log_dets

    def log_evidence(self, features: Tensor) -> Tensor:
        whitened = features @ self.evidence_root.T
        log_det = self.evidence_root.diagonal().log().sum()
        return log_det - 0.5 * (whitened**2).sum(-1) - 0.5 * len(self.matrix) * LOG_2PI

    def extra_repr(self) -> str:
        return f"noise={self.noise}"
