r"""A task with counts: observations need not be continuous.

A ratio of probabilities is learned like a ratio of densities; what does not depend on
:math:`\theta`, here :math:`x!`, cancels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.special import gammaln, xlogy
from torch import Tensor

from .base import ExactNetwork, Posterior, Task

__all__ = ["PoissonRate"]


@dataclass(frozen=True)
class PoissonRate(Task):
    r""":math:`\lambda \sim \text{Gamma}` and :math:`x \sim \text{Poisson}(\lambda)`.

    Its parameter is ``rate``. The evidence is negative binomial. With the defaults the rate
    is mostly between 0.5 and 11, and one observation in nine is 0.

    Parameters
    ----------
    shape : float
        Shape of the training prior.
    mean : float
        Mean of the training prior.

    Examples
    --------
    >>> import numpy as np
    >>> from pymc_nre.tasks import PoissonRate
    >>> posterior = PoissonRate().posterior(np.array([3, 5, 1, 3]))
    >>> round(float(posterior.mean["rate"]), 3), round(float(posterior.sd["rate"]), 3)
    (3.111, 0.831)
    """

    shape: float = 2.0
    mean: float = 4.0

    def __post_init__(self) -> None:
        self._number("shape", above=0)
        self._number("mean", above=0)

    def _parameters(self, pm: Any) -> None:
        pm.Gamma("rate", self.shape, self.shape / self.mean)

    def simulator(self, rng: np.random.Generator, rate: np.ndarray) -> np.ndarray:
        """Batched: rate ``(n,)`` to observations ``(n,)``."""
        return rng.poisson(rate)

    def _network(self) -> ExactNetwork:
        return _PoissonRateRatio(self.shape, self.mean)

    def log_likelihood(self, x: np.ndarray, rate: np.ndarray) -> np.ndarray:
        """Log probability of each observation, broadcast."""
        x, rate = self._broadcast(x, {"rate": ()}, rate=rate)
        return xlogy(x, rate) - rate - gammaln(x + 1)

    def maximum_likelihood(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Maximum given all of ``x`` ``(n,)``: their mean.

        If all are zero it is 0, the end of the support, outside of any training domain.
        """
        return {"rate": np.mean(self._data(x, "maximum_likelihood"))}

    def posterior(self, x: np.ndarray) -> Posterior:
        """Under the training prior, given all of ``x`` ``(n,)``: a gamma distribution."""
        x = self._data(x, "posterior")
        shape, inverse_scale = self.shape + np.sum(x), self.shape / self.mean + len(x)
        return Posterior(
            {"rate": np.asarray(shape / inverse_scale)},
            {"rate": np.asarray(np.sqrt(shape) / inverse_scale)},
        )


class _PoissonRateRatio(ExactNetwork):
    def __init__(self, shape: float, mean: float) -> None:
        super().__init__(1, ())
        self.shape, self.inverse_scale = shape, shape / mean

    def head(self, theta: Tensor, features: Tensor) -> Tensor:
        # log x! would only cost digits: the evidence has it, too
        x, rate = features[..., 0], theta[..., 0]
        return torch.xlogy(x, rate) - rate - self._log_evidence_times_factorial(x)

    def log_evidence(self, features: Tensor) -> Tensor:
        x = features[..., 0]
        return self._log_evidence_times_factorial(x) - torch.lgamma(x + 1)

    def _log_evidence_times_factorial(self, x: Tensor) -> Tensor:
        a, b = self.shape, self.inverse_scale
        return torch.lgamma(a + x) - math.lgamma(a) + a * math.log(b) - (a + x) * math.log1p(b)

    def extra_repr(self) -> str:
        return f"shape={self.shape}, inverse_scale={self.inverse_scale}"
