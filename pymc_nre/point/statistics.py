r"""How far parameters are from what data say: three statistics of a data set and parameters.

With :math:`\ell(\theta) = \sum_i \log r(\theta, x_i)`, profiled over nuisance parameters where the
set is one of some parameters only,

- ``likelihood_ratio``: :math:`2\,[\max \ell - \ell(\theta)]`,
- ``bayes_factor``: :math:`2\,[\log \int p(\theta) e^{\ell(\theta)} d\theta - \ell(\theta)]`, with
  the training prior p,
- ``waldo``: :math:`(\theta - m)^\top V^{-1} (\theta - m)`, with mean and covariance of the
  posterior under that prior.

All are on the scale of :math:`\chi^2`, and large where data speak against the parameters.

References
----------
A. L. Lee, N. Dalmasso et al. (2021), arXiv:2107.03920; L. Masserano et al. (2022),
arXiv:2205.15680.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..estimators.estimator import RatioEstimator
from .integrals import Moments, moments
from .profile import profiled
from .searches.search import Found, highest
from .searches.summed import SummedRatio

__all__ = ["STATISTICS", "Prepared", "Statistic"]

STATISTICS = ("likelihood_ratio", "bayes_factor", "waldo")


@dataclass(frozen=True)
class Prepared:
    """What is known of data sets before any parameters are asked of."""

    summed: SummedRatio
    found: Found
    moments: Moments | None


@dataclass(frozen=True)
class Statistic:
    """Of a ratio, for the parameters at ``places``."""

    ratio: RatioEstimator
    kind: str
    places: np.ndarray
    starts: int = 20

    def prepared(self, summed: SummedRatio) -> Prepared:
        """Of data sets."""
        found = highest(self.ratio, summed, self.starts)
        wanted = self.kind != "likelihood_ratio"
        return Prepared(summed, found, moments(self.ratio, summed, found) if wanted else None)

    def at(
        self, known: Prepared, which: np.ndarray, held: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Values ``(R,)``, infinite outside of the domain, and all parameters there ``(R, D)``.

        Of the data sets ``which`` ``(R,)``, at ``held`` ``(R, D)``, of which nuisance parameters
        are not read.
        """
        theta, height = profiled(self.ratio, known.summed, known.found, which, held, self.places)
        if self.kind == "waldo":
            value = self._waldo(known.moments, which, theta)
        elif self.kind == "bayes_factor":
            value = 2 * (known.moments.log_mean[which] - height)
        else:
            # A height above all that was found before is the highest: the search was not over.
            highest = known.found.value.copy()
            np.maximum.at(highest, which, height)
            value = 2 * (highest[which] - height)
        return np.where(np.isfinite(height), value, np.inf), theta

    def _waldo(self, known: Moments, which: np.ndarray, theta: np.ndarray) -> np.ndarray:
        places = self.places
        off = (theta - known.mean[which])[:, places]
        covariance = known.covariance[:, places][:, :, places][which]
        return (off * np.linalg.solve(covariance, off[..., None])[..., 0]).sum(1)
