r"""Tasks with a latent variable that the simulator draws and the likelihood has summed out.

In `GaussianMixture` it is a label with two values, in `HierarchicalGaussian` a group's mean.
A ratio trained on parameters and observations alone marginalizes such latents by itself; the
exact answers are the check that it did.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.special import logsumexp
from torch import Tensor

from ..runtime.arrays import finite_array, whole_number
from .base import LOG_2PI, ExactNetwork, Posterior, Task, legendre, log_mass

__all__ = ["GaussianMixture", "HierarchicalGaussian"]

# A cell whose density is below e^-45 of the peak is left out. All of them together: for the
# default box less than 400 e^-45 / (2 pi 0.1^2 / n) = 2e-16 n of the posterior.
_NEGLIGIBLE = 45.0
# Nodes along each side of a cell that is at most 2 sd of the narrowest normal wide: 4e-12.
_CELL_NODES = 8
_EM_TOLERANCE, _EM_STEPS = 1e-12, 10_000


@dataclass(frozen=True)
class GaussianMixture(Task):
    r""":math:`x` from :math:`N(\theta, I_2)` or :math:`N(\theta, s^2 I_2)`, with even odds.

    :math:`\theta` has two elements, uniform in :math:`[-w, w]^2`. The ratio has a narrow peak
    on a broad one: a network that smooths it away gives posteriors that are too wide.

    Parameters
    ----------
    half_width : float
        w, of the uniform training prior.
    narrow : float
        s.

    Examples
    --------
    >>> import numpy as np
    >>> from pymc_nre.tasks import GaussianMixture
    >>> posterior = GaussianMixture().posterior(np.array([[1.0, 2.0]]))
    >>> posterior.mean["theta"].round(3), posterior.sd["theta"].round(3)
    (array([1., 2.]), array([0.711, 0.711]))
    """

    half_width: float = 10.0
    narrow: float = 0.1

    def __post_init__(self) -> None:
        self._number("half_width", above=0)
        self._number("narrow", above=0)

    def _parameters(self, pm: Any) -> None:
        pm.Uniform("theta", -self.half_width, self.half_width, shape=2)

    def simulator(self, rng: np.random.Generator, theta: np.ndarray) -> np.ndarray:
        """Batched: theta ``(n, 2)`` to observations ``(n, 2)``."""
        sd = np.where(rng.random((len(theta), 1)) < 0.5, 1.0, self.narrow)
        return rng.normal(theta, sd)

    def _network(self) -> ExactNetwork:
        return _GaussianMixtureRatio(self.half_width, self.narrow)

    def log_likelihood(self, x: np.ndarray, theta: np.ndarray) -> np.ndarray:
        """Log density ``(*)`` of observations ``(*, 2)`` at theta ``(*, 2)``, broadcast."""
        x, theta = self._broadcast(x, {"theta": (2,)}, theta=theta)
        return np.logaddexp(*self._log_components(x - theta))

    def maximum_likelihood(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Maximum within the box, given all of ``x`` ``(n, 2)``: a numerical optimum.

        Starts EM at the center of every cell (see `posterior`) that comes within a factor e of
        the best, so that no mode is overlooked.
        """
        x = self._data(x, "maximum_likelihood")
        centers, _ = self._cells(x)
        density = self._log_density(x, centers)
        theta = centers[density > density.max() - 1]
        for _ in range(_EM_STEPS):
            before, theta = theta, self._em_step(x, theta)
            if np.abs(theta - before).max() < _EM_TOLERANCE:
                break
        return {"theta": theta[self._log_density(x, theta).argmax()]}

    def posterior(self, x: np.ndarray) -> Posterior:
        r"""Under the training prior, given all of ``x`` ``(n, 2)``, in the box or near it.

        The product of n mixtures is a sum of normals, none narrower than :math:`s / \sqrt n`.
        The box is halved until cells are as small as that, dropping those in which the density
        cannot matter; what is left is a sum by Gauss and Legendre in each cell. That takes about
        a second for ten observations, longer where the mixture is narrower.
        """
        x = self._data(x, "posterior")
        centers, half = self._cells(x)
        nodes, weights = legendre(-half, half, _CELL_NODES)
        offsets = np.stack(np.meshgrid(nodes, nodes), -1).reshape(-1, 2)
        theta = (centers[:, None] + offsets).reshape(-1, 2)
        log_weights = np.log(np.outer(weights, weights)).ravel()
        log_p = self._log_density(x, theta) + np.tile(log_weights, len(centers))
        p = np.exp(log_p - logsumexp(log_p))[:, None]
        mean = np.sum(p * theta, 0)
        return Posterior({"theta": mean}, {"theta": np.sqrt(np.sum(p * (theta - mean) ** 2, 0))})

    def _log_components(self, distance: np.ndarray) -> np.ndarray:
        """Log of both weighted densities ``(2, *)`` at distances ``(*, 2)``."""
        squares = np.sum(distance**2, -1)
        logs = [-0.5 * squares / s**2 - 2 * math.log(s) for s in (1.0, self.narrow)]
        return np.stack(logs) - math.log(2) - LOG_2PI

    def _log_density(self, x: np.ndarray, theta: np.ndarray, margin: float = 0.0) -> np.ndarray:
        """Log density ``(m,)`` of all of ``x`` at each theta ``(m, 2)``.

        With a margin: its upper bound in the square of that half width around theta, since
        either component falls with the distance from each observation.
        """
        total = np.zeros(len(theta))
        for observation in x:  # one at a time: m is large
            distance = np.maximum(np.abs(observation - theta) - margin, 0.0)
            total += np.logaddexp(*self._log_components(distance))
        return total

    def _cells(self, x: np.ndarray) -> tuple[np.ndarray, float]:
        """Centers ``(m, 2)`` and half width of the square cells that hold the posterior."""
        centers, half, peak = np.zeros((1, 2)), self.half_width, -np.inf
        finest = min(1.0, self.narrow) / len(x) ** 0.5
        while half > finest:
            half /= 2
            corners = half * np.array([[-1, -1], [-1, 1], [1, -1], [1, 1]])
            centers = (centers[:, None] + corners).reshape(-1, 2)
            peak = max(peak, self._log_density(x, centers).max())
            centers = centers[self._log_density(x, centers, half) > peak - _NEGLIGIBLE]
            if not len(centers):
                raise ValueError(
                    "x: observations are so far from the box that no density in it is a number; "
                    f"expected them near [-{self.half_width:g}, {self.half_width:g}]."
                )
        return centers, half

    def _em_step(self, x: np.ndarray, theta: np.ndarray) -> np.ndarray:
        """The mean of ``x`` ``(n, 2)``, weighted by expected precision, for each theta ``(m, 2)``.

        Precisions are equal in both directions, so the best point of the box is the nearest.
        """
        components = self._log_components(x - theta[:, None])  # (2, m, n)
        shares = np.exp(components - logsumexp(components, axis=0))
        precision = shares[0] + shares[1] / self.narrow**2
        mean = precision @ x / precision.sum(-1, keepdims=True)
        return np.clip(mean, -self.half_width, self.half_width)


class _GaussianMixtureRatio(ExactNetwork):
    """The evidence is a mixture of two products of differences of normal cdfs."""

    sd: Tensor

    def __init__(self, half_width: float, narrow: float) -> None:
        super().__init__(2, (2,))
        self.half_width, self.narrow = half_width, narrow
        self.register_buffer("sd", torch.tensor([1.0, narrow], dtype=torch.float64))

    def head(self, theta: Tensor, features: Tensor) -> Tensor:
        squares = ((features - theta) ** 2).sum(-1, keepdim=True)
        components = -0.5 * squares / self.sd**2 - 2 * self.sd.log()
        log_likelihood = components.logsumexp(-1) - math.log(2) - LOG_2PI
        return log_likelihood - self.log_evidence(features)

    def log_evidence(self, features: Tensor) -> Tensor:
        mass = log_mass(features[..., None], self.half_width, self.sd).sum(-2)
        return mass.logsumexp(-1) - math.log(2) - 2 * math.log(2 * self.half_width)

    def extra_repr(self) -> str:
        return f"half_width={self.half_width}, narrow={self.narrow}"


@dataclass(frozen=True)
class HierarchicalGaussian(Task):
    r"""One observation is a group of k numbers around a mean of its own.

    .. math::

        m \sim N(0, s), \quad \log\tau \sim U(a, b), \quad
        \mu_g \sim N(m, \tau), \quad x_{gj} \sim N(\mu_g, 1), \; j = 1, \dots, k

    Its parameters are ``m`` and ``log_tau``; :math:`\mu_g` is the latent. Without it a group is
    multivariate normal with covariance :math:`I + \tau^2 1 1^\top`. That depends on a group's
    mean and sum of squares, and the ratio on the mean alone.

    Parameters
    ----------
    size : int
        k, the numbers in a group.
    spread : float
        s, the standard deviation of m under the training prior.
    log_tau_range : tuple of float
        a and b.

    Examples
    --------
    >>> import numpy as np
    >>> from pymc_nre.tasks import HierarchicalGaussian
    >>> task = HierarchicalGaussian(size=2)
    >>> fit = task.maximum_likelihood(np.array([[-2.0, -1.0], [1.0, 2.0]]))
    >>> float(fit["m"]), round(float(fit["log_tau"]), 3)
    (0.0, 0.28)
    """

    size: int = 5
    spread: float = 3.0
    log_tau_range: tuple[float, float] = (-1.5, 1.0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", whole_number(self.size, "HierarchicalGaussian: size"))
        self._number("spread", above=0)
        ends = finite_array(self.log_tau_range, "HierarchicalGaussian: log_tau_range")
        if ends.shape != (2,) or not ends[0] < ends[1]:
            raise ValueError(
                "HierarchicalGaussian: log_tau_range: expected a pair (lower, upper) with lower < "
                f"upper, got {self.log_tau_range}."
            )
        object.__setattr__(self, "log_tau_range", tuple(ends.tolist()))

    def model(self) -> Any:
        """The same with the latent and one group written out, a `pymc.Model`.

        Its free variables are ``m``, ``log_tau``, ``mu_g`` and ``x``, shape ``(k,)``; nothing
        is observed. Draws of it have the joint distribution that `simulate` gives, with
        ``mu_g`` besides.
        """
        import pymc as pm

        with pm.Model(model=None) as model:  # not part of one that is open
            m, log_tau = self._parameters(pm)
            mu_g = pm.Normal("mu_g", m, pm.math.exp(log_tau))
            pm.Normal("x", mu_g, 1.0, shape=self.size)
        return model

    def _parameters(self, pm: Any) -> tuple[Any, Any]:
        return pm.Normal("m", 0.0, self.spread), pm.Uniform("log_tau", *self.log_tau_range)

    def simulator(self, rng: np.random.Generator, m: np.ndarray, log_tau: np.ndarray) -> np.ndarray:
        """Batched: parameters ``(n,)`` to observations ``(n, k)``; it draws the latent."""
        mu_g = rng.normal(m, np.exp(log_tau))
        return rng.normal(mu_g[:, None], 1.0, (len(mu_g), self.size))

    def _network(self) -> ExactNetwork:
        return _HierarchicalGaussianRatio(self.size, self.spread, self.log_tau_range)

    def log_likelihood(self, x: np.ndarray, m: np.ndarray, log_tau: np.ndarray) -> np.ndarray:
        """Log density ``(*)`` of observations ``(*, k)``, broadcast; without the latent."""
        own, k = {"m": (), "log_tau": ()}, self.size
        x, m, log_tau = self._broadcast(x, own, m=m, log_tau=log_tau)
        mean, inflation = x.mean(-1), 1 + k * np.exp(2 * log_tau)
        squares = np.sum((x - mean[..., None]) ** 2, -1) + k * (mean - m) ** 2 / inflation
        return -0.5 * (squares + np.log(inflation) + k * LOG_2PI)

    def maximum_likelihood(self, x: np.ndarray) -> dict[str, np.ndarray]:
        r"""Maximum within the range of log tau, given all of ``x`` ``(n, k)``.

        The groups' means have variance :math:`\tau^2 + 1/k`; where they vary less than the
        range allows, log tau is at its lower end.
        """
        means = np.mean(self._data(x, "maximum_likelihood"), axis=-1)
        ends = np.exp(2 * np.asarray(self.log_tau_range))
        tau_squared = np.clip(np.var(means) - 1 / self.size, *ends)
        return {"m": np.mean(means), "log_tau": 0.5 * np.log(tau_squared)}

    def posterior(self, x: np.ndarray, nodes: int = 400) -> Posterior:
        """Under the training prior, given all of ``x`` ``(n, k)``.

        Given tau, m is normal; log tau is integrated over by Gauss and Legendre, with enough
        nodes for thousands of groups.
        """
        means = np.mean(self._data(x, "posterior"), axis=-1)
        nodes, n = whole_number(nodes, "posterior: nodes", least=2), len(means)
        log_tau, weights = legendre(*self.log_tau_range, nodes)
        variance = np.exp(2 * log_tau) + 1 / self.size  # of a group's mean, given m
        total = variance + n * self.spread**2  # n times the variance of the mean of means
        squares = n * np.var(means) / variance + n * np.mean(means) ** 2 / total
        log_p = np.log(weights) - 0.5 * ((n - 1) * np.log(variance) + np.log(total) + squares)
        p = np.exp(log_p - logsumexp(log_p))
        m, var_m = np.sum(means) * self.spread**2 / total, variance * self.spread**2 / total
        mean = {"m": np.sum(p * m), "log_tau": np.sum(p * log_tau)}
        sd = {
            "m": np.sqrt(np.sum(p * (var_m + (m - mean["m"]) ** 2))),
            "log_tau": np.sqrt(np.sum(p * (log_tau - mean["log_tau"]) ** 2)),
        }
        return Posterior(mean, sd)


class _HierarchicalGaussianRatio(ExactNetwork):
    """The evidence integrates m in closed form and log tau by Gauss and Legendre."""

    nodes: Tensor
    log_weights: Tensor

    def __init__(self, size: int, spread: float, log_tau_range: tuple[float, float]) -> None:
        super().__init__(2, (size,))
        self.size, self.spread, self.log_tau_range = size, spread, tuple(log_tau_range)
        # 64 nodes: the integrand is analytic and varies on the scale of the interval
        nodes, weights = legendre(*log_tau_range, 64)
        self.register_buffer("nodes", torch.tensor(nodes))
        self.register_buffer("log_weights", torch.tensor(np.log(weights)))

    def head(self, theta: Tensor, features: Tensor) -> Tensor:
        # what varies within the group cancels
        m, log_tau = theta.unbind(-1)
        log_likelihood = self._log_density_of_mean(features.mean(-1) - m, log_tau)
        return log_likelihood - self._log_evidence_of_mean(features.mean(-1))

    def log_evidence(self, features: Tensor) -> Tensor:
        mean = features.mean(-1)
        within = ((features - mean[..., None]) ** 2).sum(-1)
        # x = mean 1 + residual: k - 1 standard normals, and a length sqrt(k) in dx
        normalizer = 0.5 * (self.size - 1) * LOG_2PI + 0.5 * math.log(self.size)
        return self._log_evidence_of_mean(mean) - 0.5 * within - normalizer

    def _log_evidence_of_mean(self, mean: Tensor) -> Tensor:
        density = self._log_density_of_mean(mean[..., None], self.nodes, self.spread**2)
        return (density + self.log_weights).logsumexp(-1)

    def _log_density_of_mean(
        self, deviation: Tensor, log_tau: Tensor, extra: float = 0.0
    ) -> Tensor:
        variance = torch.exp(2 * log_tau) + 1 / self.size + extra
        return -0.5 * (deviation**2 / variance + variance.log() + LOG_2PI)

    def extra_repr(self) -> str:
        return f"size={self.size}, spread={self.spread}, log_tau_range={self.log_tau_range}"
