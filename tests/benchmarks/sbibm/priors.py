"""Training priors in the coordinates that a ratio is trained in.

Both kinds know how PyMC writes them, which is what `pymc_nre.simulate` draws from, and their
log density, which is what the sampler adds to a log ratio.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Box:
    """Uniform between ``low`` and ``high`` in each of ``size`` numbers."""

    low: float
    high: float
    size: int

    def pymc(self):
        """The distribution, for `pymc_nre.simulate`."""
        import pymc as pm

        return pm.Uniform.dist(self.low, self.high, shape=self.size)

    def draw(self, rng, n):
        """Draws ``(n, size)``."""
        return rng.uniform(self.low, self.high, (n, self.size))

    def log_density(self, theta):
        """Up to a constant: zero inside, ``(n,)``."""
        inside = ((theta >= self.low) & (theta <= self.high)).all(-1)
        return np.where(inside, 0.0, -np.inf)


@dataclass(frozen=True, eq=False)
class Normal:
    """Normal with ``mean`` ``(D,)`` and ``covariance`` ``(D, D)``."""

    mean: np.ndarray
    covariance: np.ndarray

    @classmethod
    def independent(cls, mean, sd):
        """Of numbers that do not depend on each other."""
        return cls(np.asarray(mean, float), np.diag(np.square(np.asarray(sd, float))))

    @property
    def size(self):
        """How many numbers."""
        return len(self.mean)

    def pymc(self):
        """The distribution, for `pymc_nre.simulate`."""
        import pymc as pm

        if np.count_nonzero(self.covariance) == self.size:  # much faster to draw from
            return pm.Normal.dist(self.mean, np.sqrt(np.diag(self.covariance)))
        return pm.MvNormal.dist(self.mean, self.covariance)

    def draw(self, rng, n):
        """Draws ``(n, size)``."""
        return rng.multivariate_normal(self.mean, self.covariance, n)

    def log_density(self, theta):
        """Up to a constant, ``(n,)``."""
        white = np.linalg.solve(np.linalg.cholesky(self.covariance), (theta - self.mean).T)
        return -0.5 * (white**2).sum(0)
