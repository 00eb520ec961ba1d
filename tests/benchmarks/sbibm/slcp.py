"""Simple likelihood, complex posterior: four points of a normal plane, with and without noise.

Mean, two standard deviations (squares of parameters, so their signs are lost: four modes) and a
correlation. With distractors, the eight numbers hide among 92 that say nothing: draws of a
mixture of twenty Student distributions with two degrees of freedom, whose means and matrices,
like the order of all hundred, are those that NumPy's old generator makes from the seed 42.
"""

from functools import cache

import numpy as np

from .priors import Box
from .task import Task

_POINTS = 4
_DISTRACTORS = 92
_COMPONENTS = 20
_DEGREES = 2
_JITTER = 1e-6  # part of the definition: added to both variances


def covariances(theta):
    """Variances and covariance ``(3, n)`` of parameters ``(n, 5)``."""
    first, second = theta[:, 2] ** 2, theta[:, 3] ** 2
    return np.stack([first**2, second**2, np.tanh(theta[:, 4]) * first * second]) + (
        _JITTER * np.array([[1], [1], [0]])
    )


def _points(rng, theta):
    first, second, both = covariances(theta)[..., None]
    z = rng.standard_normal((2, len(theta), _POINTS))
    x = theta[:, :1] + np.sqrt(first) * z[0]
    slope = both / first
    y = theta[:, 1:2] + slope * (x - theta[:, :1]) + np.sqrt(second - slope * both) * z[1]
    return np.stack([x, y], -1).reshape(len(theta), 2 * _POINTS)


def _log_likelihood(theta, x):
    first, second, both = covariances(theta)[..., None]
    dx, dy = x.reshape(_POINTS, 2).T[:, None] - theta[:, :2].T[..., None]
    determinant = first * second - both**2
    form = (second * dx**2 - 2 * both * dx * dy + first * dy**2) / determinant
    return -0.5 * (form + np.log(determinant)).sum(-1)


@cache
def _mixture():
    """Means ``(20, 92)``, lower triangles ``(20, 92, 92)``, and the order of the 100 numbers."""
    old = np.random.RandomState(42)  # the published files were made by it
    means = np.array([15 * old.normal(size=_DISTRACTORS) for _ in range(_COMPONENTS)])
    square = (_DISTRACTORS, _DISTRACTORS)
    triangles = [
        np.tril(old.normal(size=square)) + np.diag(np.exp(old.normal(size=_DISTRACTORS)))
        for _ in range(_COMPONENTS)
    ]
    return means, 3 * np.array(triangles), old.permutation(_DISTRACTORS + 2 * _POINTS)


def distractors(rng, n):
    """Numbers ``(n, 92)`` that do not depend on the parameters."""
    means, triangles, _ = _mixture()
    z = rng.standard_normal((n, _DISTRACTORS))
    z /= np.sqrt(rng.chisquare(_DEGREES, (n, 1)) / _DEGREES)
    component = rng.integers(_COMPONENTS, size=n)
    noise = np.empty_like(z)
    for k in range(_COMPONENTS):  # a matrix for each row would be 68 kB of it
        rows = component == k
        noise[rows] = means[k] + z[rows] @ triangles[k].T
    return noise


def _hidden(rng, theta):
    return np.hstack([_points(rng, theta), distractors(rng, len(theta))])[:, _mixture()[2]]


def _hidden_log_likelihood(theta, x):
    return _log_likelihood(theta, x[np.argsort(_mixture()[2])][: 2 * _POINTS])


_PRIOR = Box(-3.0, 3.0, 5)
TASKS = (
    Task("slcp", _PRIOR, _points, _log_likelihood, points=_POINTS),
    Task(
        "slcp_distractors",
        _PRIOR,
        _hidden,
        _hidden_log_likelihood,
        folder="slcp",
        observation="observation_distractors.csv",
    ),
)
