r"""Coordinates in which a training domain has no edge, so that searches need no constraints.

A domain is a ball: parameters are mapped to normal scores z, and inside means
:math:`z^\top Q z \le \rho^2`. Where some numbers are held at values, what is left of a ball is a
ball, of another center and radius. Any vector v is a point of it,

.. math:: z = c + r L^{-\top} b, \qquad b = v / \sqrt{1 + |v|^2}, \qquad Q_{ff} = L L^\top,

so that the edge is at infinity, where derivatives in v vanish.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ...estimators.domain import Domain

__all__ = ["Coordinates"]

_LAST = 0.99  # of the radius: where starts are taken to that lie farther out


@dataclass(frozen=True)
class Coordinates:
    """Of the domain, with all numbers held but those at ``free`` places."""

    domain: Domain
    free: np.ndarray

    @cached_property
    def _held(self) -> np.ndarray:
        return np.setdiff1d(np.arange(len(self.domain.lower)), self.free)

    @cached_property
    def _parts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """L and its inverse, what held scores do to the center, and to the square of the radius."""
        free, held = self.free, self._held
        precision = self.domain.whiten @ self.domain.whiten.T
        root = np.linalg.cholesky(precision[np.ix_(free, free)])
        across = precision[np.ix_(free, held)]
        shift = -np.linalg.solve(precision[np.ix_(free, free)], across)
        return root, np.linalg.inv(root), shift, precision[np.ix_(held, held)] + across.T @ shift

    def _ball(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Center ``(R, k)`` and radius ``(R, 1)``, by the held ones of parameters ``(R, D)``."""
        shift, left = self._parts[2:]
        scores = self.domain.scores(theta)[:, self._held]
        room = self.domain.largest_rarity - ((scores @ left) * scores).sum(1, keepdims=True)
        return scores @ shift.T, np.sqrt(np.maximum(room, 0.0))

    def of(self, theta: np.ndarray) -> np.ndarray:
        """Coordinates ``(R, k)`` of parameters ``(R, D)``."""
        center, radius = self._ball(theta)
        scores = self.domain.scores(theta)[:, self.free]
        b = (scores - center) @ self._parts[0] / np.where(radius > 0, radius, np.inf)
        length = np.linalg.norm(b, axis=1, keepdims=True)
        b *= np.minimum(1.0, _LAST / np.maximum(length, _LAST))
        return b / np.sqrt(1 - (b**2).sum(1, keepdims=True))

    def theta(self, v: np.ndarray, held: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Parameters ``(R, D)`` and slopes ``(R, k)``; others are as in ``held`` ``(R, D)``."""
        center, radius = self._ball(held)
        scores = np.zeros(held.shape)
        scores[:, self.free] = center + radius * (v / _length(v)) @ self._parts[1]
        theta, slope = self.domain.at_scores(scores)
        theta[:, self._held] = held[:, self._held]
        return theta, slope[:, self.free] * radius

    def gradient(self, v: np.ndarray, slope: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        """In v, ``(R, k)``, of a gradient in the parameters ``(R, D)``."""
        b = v / _length(v)
        g = (gradient[:, self.free] * slope) @ self._parts[1].T
        return (g - b * (b * g).sum(1, keepdims=True)) / _length(v)

    @staticmethod
    def outwardness(v: np.ndarray) -> np.ndarray:
        """Share of the radius ``(R,)`` at which a point is."""
        return np.linalg.norm(v / _length(v), axis=1)


def _length(v: np.ndarray) -> np.ndarray:
    return np.sqrt(1 + (v**2).sum(1, keepdims=True))
