"""Many ordinary differential equations at once: the classical Runge-Kutta method.

All simulations take the same steps, so that a step is array arithmetic; how many steps are
enough is measured against an adaptive solver in the tests.
"""

import numpy as np


def solve(slope, start, every, times, steps):
    """Solutions at ``every``, 2 ``every``, ..., and at zero.

    Parameters
    ----------
    slope : callable
        Of a state ``(S, n)``: its time derivative ``(S, n)``.
    start : array, shape (S, n)
    every : float
        Time between two results.
    times : int
        How many results, the start among them.
    steps : int
        Steps from one result to the next.

    Returns
    -------
    ndarray, shape (times, S, n)
    """
    h, state, results = every / steps, start, [start]
    for _ in range(times - 1):
        for _ in range(steps):
            state = _step(slope, state, h)
        results.append(state)
    return np.stack(results)


def _step(slope, state, h):
    a = slope(state)
    b = slope(state + 0.5 * h * a)
    c = slope(state + 0.5 * h * b)
    d = slope(state + h * c)
    return state + h / 6 * (a + 2 * b + 2 * c + d)
