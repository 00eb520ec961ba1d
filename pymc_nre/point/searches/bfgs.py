"""Many maximizations at once: the quasi-Newton method of Broyden, Fletcher, Goldfarb and Shanno.

Each row has its own point, its own approximation of the inverse Hessian and its own step length;
only evaluations are shared. A row that is done is evaluated no more.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

__all__ = ["Function", "maximize"]

_RISE = 1e-4  # of what the slope promises, that a step must rise at least (Armijo)
_SHORTEST = 1e-10  # step, where rounding hides all rises
_DONE = 1e-8  # a step that promises so little ends the search: 1e-4 standard errors
Function = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def maximize(function: Function, v: np.ndarray, steps: int) -> np.ndarray:
    """Points ``(R, k)`` of local maxima.

    Parameters
    ----------
    function : callable
        Points ``(r, k)`` and the indices ``(r,)`` of their rows to values ``(r,)`` and gradients
        ``(r, k)``.
    v : ndarray, shape (R, k)
        Where to start.
    steps : int
        Evaluations of each row, at most.
    """
    found = v.copy()
    active = np.arange(len(v))
    state = _State.at(v, *function(v, active))
    for _ in range(steps):
        trial = state.trial()
        state.enter(trial, *function(trial, active))
        going = ~state.is_done()
        found[active[~going]] = state.v[~going]
        active, state = active[going], state.of(going)
        if not active.size:
            return found
    found[active] = state.v
    return found


class _State:
    """Points, values, gradients, inverse Hessians, step lengths and whether any step was taken."""

    def __init__(self, *parts: np.ndarray) -> None:
        self.v, self.f, self.g, self.inverse, self.step, self.fresh = parts

    @classmethod
    def at(cls, v: np.ndarray, f: np.ndarray, g: np.ndarray) -> _State:
        # The first step is a tenth of the radius of the domain: nothing is known of curvature.
        length = np.linalg.norm(g, axis=1)
        scale = np.minimum(1.0, 0.1 / np.maximum(length, np.finfo(float).tiny))
        inverse = np.eye(v.shape[1]) * scale[:, None, None]
        return cls(v.copy(), f, g, inverse, np.ones(len(v)), np.ones(len(v), bool))

    def of(self, rows: np.ndarray) -> _State:
        parts = (self.v, self.f, self.g, self.inverse, self.step, self.fresh)
        return _State(*(part[rows] for part in parts))

    @property
    def direction(self) -> np.ndarray:
        p = np.einsum("rij,rj->ri", self.inverse, self.g)
        # Not out of sight, where there is no slope that leads back.
        longest = 1 + np.linalg.norm(self.v, axis=1)
        shorter = np.minimum(1.0, longest / np.maximum(np.linalg.norm(p, axis=1), longest))
        return p * shorter[:, None]

    def trial(self) -> np.ndarray:
        return self.v + self.step[:, None] * self.direction

    def is_done(self) -> np.ndarray:
        promised = (self.direction * self.g).sum(1)
        return (self.step < _SHORTEST) | (promised < _DONE) & ~self.fresh | (promised == 0)

    def enter(self, trial: np.ndarray, f: np.ndarray, g: np.ndarray) -> None:
        """Take the steps that rise, and shorten the others."""
        slope = (self.direction * self.g).sum(1)
        with np.errstate(invalid="ignore"):  # where the data are impossible here and there
            rise = f - self.f
            taken = rise >= _RISE * self.step * slope
        self._update(taken, trial - self.v, self.g - g)
        with np.errstate(invalid="ignore", divide="ignore"):
            best = self.step**2 * slope / (2 * (self.step * slope - rise))  # of a parabola
        shorter = np.where(np.isfinite(best), np.clip(best, 0.1 * self.step, 0.5 * self.step), 0.0)
        shorter = np.where(np.isfinite(rise), shorter, 0.1 * self.step)
        self.step = np.where(taken, 1.0, shorter)
        self.v = np.where(taken[:, None], trial, self.v)
        self.g = np.where(taken[:, None], g, self.g)
        self.f = np.where(taken, f, self.f)

    def _update(self, taken: np.ndarray, s: np.ndarray, y: np.ndarray) -> None:
        """Learn curvature of steps s from what gradients fell by, y; both ``(R, k)``."""
        sy, yy = (s * y).sum(1), (y * y).sum(1)
        learn = np.flatnonzero(taken & (sy > 1e-12 * np.sqrt((s * s).sum(1) * yy)))
        first = learn[self.fresh[learn]]
        self.inverse[first] = np.eye(s.shape[1]) * (sy / np.maximum(yy, 1e-300))[first, None, None]
        self.fresh[learn] = False
        s, y, sy, old = s[learn], y[learn], sy[learn, None, None], self.inverse[learn]
        along = np.einsum("rij,rj->ri", old, y)
        both = s[:, :, None] * along[:, None, :]
        grown = 1 + (y * along).sum(1)[:, None, None] / sy
        self.inverse[learn] += (grown * s[:, :, None] * s[:, None, :] - both) / sy
        self.inverse[learn] -= both.swapaxes(1, 2) / sy
