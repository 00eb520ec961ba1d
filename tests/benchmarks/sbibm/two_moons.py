r"""Two moons: a crescent of noise, moved by :math:`(-|\theta_1 + \theta_2|, \theta_2 - \theta_1)`.

The absolute value makes the posterior two crescents.
"""

import numpy as np

from .priors import Box
from .task import Task

_RADIUS, _SPREAD = 0.1, 0.01
_OFFSET = 0.25


def _moved(theta):
    """Where the crescent of each parameter ``(n, 2)`` is, ``(n, 2)``."""
    along, across = theta[:, 0] + theta[:, 1], theta[:, 1] - theta[:, 0]
    return np.stack([-np.abs(along), across], -1) / np.sqrt(2)


def _simulate(rng, theta):
    angle = rng.uniform(-np.pi / 2, np.pi / 2, len(theta))
    radius = rng.normal(_RADIUS, _SPREAD, len(theta))
    crescent = np.stack([radius * np.cos(angle) + _OFFSET, radius * np.sin(angle)], -1)
    return crescent + _moved(theta)


def _log_likelihood(theta, x):
    """Of the crescent: uniform in the angle, so its density in the plane has a factor 1 / r."""
    u, v = (x - _moved(theta)).T - np.array([[_OFFSET], [0.0]])
    radius = np.hypot(u, v)
    with np.errstate(divide="ignore"):
        ring = -0.5 * np.square((radius - _RADIUS) / _SPREAD) - np.log(radius)
    return np.where(u > 0, ring, -np.inf)


TASKS = (Task("two_moons", Box(-1.0, 1.0, 2), _simulate, _log_likelihood),)
