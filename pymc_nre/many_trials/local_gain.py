r"""Did centering around a posterior help? Means and widths before and after, by other simulations.

Near a posterior the mean score of a trial is :math:`b_0 + B u` in units of it, u. Right would
be zero. So a posterior whose covariance is C is off by :math:`N C b_0`, to first order, and its
precision is too small by N B: both are read off simulations that the fit has not seen, at
parameters where the centered posterior is. What is taken off is known, so before and after have
the same noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["LocalGain", "slopes_of"]

_SURE = 2.0  # standard errors
_MEAN, _WIDTH = 0.1, 0.05  # what no parameter may get worse by: standard deviations, a share
# What may be left: twice that, or a part of the largest. More is left where no quadratic fits.
_TWICE, _PART = 2.0, 0.25


@dataclass(frozen=True)
class LocalGain:
    """What a posterior is off by, of each parameter; rows are before and after.

    Attributes
    ----------
    parameters : tuple of str
    trials : float
    errors : array, shape (2, D)
        Of the mean, in posterior standard deviations.
    errors_error : array, shape (D,)
        Standard error of either.
    widths : array, shape (2, D)
        The standard deviation, over what it should be; infinite if it is no posterior.
    widths_error : array, shape (D,)
    """

    parameters: tuple[str, ...]
    trials: float
    errors: np.ndarray
    errors_error: np.ndarray
    widths: np.ndarray
    widths_error: np.ndarray

    @classmethod
    def measure(
        cls,
        parameters: tuple[str, ...],
        trials: float,
        shift: np.ndarray,
        root: np.ndarray,
        u: np.ndarray,
        scores: np.ndarray,
    ) -> LocalGain:
        """Of scores ``(2, n, D)`` at ``u`` ``(n, D)``, both in units of the posterior.

        ``shift`` ``(D, D)`` tells how a slope of the log ratio of each trial moves the posterior,
        and ``root`` is a root of its covariance.
        """
        size = root.shape[0]
        spread = np.sqrt((root**2).sum(1))
        along = root @ shift / spread[:, None]
        found = [slopes_of(u, each) for each in scores]
        means = np.array([mean for mean, _ in found])
        noise = np.cov(scores[0].T).reshape(size, size) / len(u)
        before, after = (_symmetric(shift @ slope) for _, slope in found)
        right, now = np.eye(size) + before, np.eye(size) + before - after
        directions = root / spread[:, None]
        of_u = np.einsum("jd,nd->nj", directions, u - u.mean(0)).var(0)
        return cls(
            parameters,
            trials,
            means @ along.T,
            np.sqrt(np.einsum("jd,de,je->j", along, noise, along)),
            np.array([_widths(np.eye(size), right, root), _widths(now, right, root)]),
            np.sqrt(np.einsum("jd,de,je->j", along, noise, along) / of_u) / 2,
        )

    @property
    def refusal(self) -> str | None:
        """Why the ratio had better stay as it is."""
        worse = np.abs(self.errors[1]) - np.abs(self.errors[0])
        moved = np.abs(self.errors[1] - self.errors[0])
        off = np.abs(np.log(self.widths))
        wider = off[1] - off[0]
        if not np.isfinite(self.widths[1]).all():
            return "what comes back would have no maximum there"
        if worse.max() > _MEAN:
            return f"the bias of {self.parameters[worse.argmax()]} gets larger"
        if wider.max() > _WIDTH:
            return f"the width of {self.parameters[wider.argmax()]} gets worse"
        if self._is_left(*np.abs(self.errors), _MEAN, self.errors_error):
            return "much of the bias is left"
        if self._is_left(*off, _WIDTH, self.widths_error):
            return "much of what is wrong with the widths is left"
        # The squares differ by moved (2 |before| - moved), of which only |before| is noisy.
        better = np.abs(self.errors[0]) - moved / 2 > self.errors_error
        if (better & (worse < 0)).any() or (-wider > _SURE * self.widths_error).any():
            return None
        return "neither bias nor width gets better by more than the noise"

    @staticmethod
    def _is_left(before: np.ndarray, after: np.ndarray, limit: float, noise: np.ndarray) -> bool:
        return bool((after > np.maximum(_TWICE * limit, _PART * before.max()) + noise).any())

    @property
    def is_small(self) -> bool:
        """Whether the posterior was nearly right before."""
        bias, width = np.abs(self.errors[0]), np.abs(np.log(self.widths[0]))
        within = (bias < _MEAN + self.errors_error) & (width < _WIDTH + self.widths_error)
        return bool(within.all())

    def in_words(self) -> str:
        """Before and after."""
        return f"{self._told(0)} before, {self._told(1)} after"

    def _told(self, row: int) -> str:
        return ", ".join(
            f"{label} {error:.2f} ± {noise:.2f} (width {width:.2f} ± {width_noise:.2f})"
            for label, error, noise, width, width_noise in zip(
                self.parameters,
                self.errors[row],
                self.errors_error,
                self.widths[row],
                self.widths_error,
                strict=True,
            )
        )


def slopes_of(u: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean ``(D,)`` at the mean of u and symmetric slope ``(D, D)`` of scores, by least squares."""
    from scipy.linalg import solve_continuous_lyapunov  # slow to import

    middle = u.mean(0)
    spread, slope = u - middle, (u - middle).T @ scores
    # Of a symmetric B the normal equations are S B + B S = C + C'.
    return scores.mean(0), solve_continuous_lyapunov(spread.T @ spread, slope + slope.T)


def _symmetric(matrix: np.ndarray) -> np.ndarray:
    return (matrix + matrix.T) / 2


def _widths(precision: np.ndarray, right: np.ndarray, root: np.ndarray) -> np.ndarray:
    """Standard deviations of a precision, over those of the right one."""
    spreads = []
    for matrix in (precision, right):
        values, vectors = np.linalg.eigh(matrix)
        if values[0] <= 0:
            return np.full(len(root), np.inf)
        spreads.append(np.sqrt(((root @ vectors) ** 2 / values).sum(1)))
    return spreads[0] / spreads[1]
