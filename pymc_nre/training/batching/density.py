"""The log density of a prior at parameters that may be impossible.

Whoever writes a prior thinks of its draws. Elsewhere it may not even be computed: an integer
indexes beyond the end, a correlation above one makes a matrix without a root, and one such row is
an error for all. Then parameters are looked at level by level, those that depend on no others
first, and what is impossible on one level is not asked on the next.
"""

from __future__ import annotations

import numpy as np

from ...simulation.parameters import Layout
from ...simulation.prior import Prior

__all__ = ["Density"]


class Density:
    """Of packed parameters.

    Parameters
    ----------
    prior : Prior
        With a density.
    layout : Layout
    seen : array, shape (D,)
        A draw of it.
    """

    def __init__(self, prior: Prior, layout: Layout, seen: np.ndarray) -> None:
        self.prior, self.layout, self.seen = prior, layout, seen
        self.levels = [prior.log_density_function()]
        self.by_level = False

    def __call__(self, theta: np.ndarray) -> np.ndarray:
        """Log densities ``(n,)`` of ``(n, D)``; minus infinity or no number where impossible."""
        if not self.by_level:
            try:
                return self.levels[0](self.layout.unpack(theta))
            except Exception:  # whatever a user's prior raises
                self.levels = [level.log_density_function() for level in self.prior.levels()]
                self.by_level = True
        try:
            return self._level_by_level(theta)
        except Exception as error:
            said = str(error).partition("\n")[0]
            raise ValueError(
                "The density of the prior cannot be computed at all parameters near those that "
                f"were drawn ({said}). Train with loss=NREC(), which does not ask for it."
            ) from error

    def _level_by_level(self, theta: np.ndarray) -> np.ndarray:
        possible = np.ones(len(theta), bool)
        for level in self.levels:
            asked = np.where(possible[:, None], theta, self.seen)
            density = level(self.layout.unpack(asked))
            possible &= np.isfinite(density)
        return np.where(possible, density, -np.inf)
