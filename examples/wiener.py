r"""The process behind `drift_diffusion.py`: an exact simulator, and the likelihood it has.

Evidence starts at z a and drifts at rate v, with unit noise, until it leaves the interval from 0
to a. The likelihood is there to hold a ratio to. With decision time :math:`s = (rt - t)/a^2`, start
w as a share of a, and no drift, the density of an exit through the lower boundary has two series,

.. math::

    f(s) = \frac{1}{\sqrt{2\pi s^3}} \sum_k (w + 2k)\, e^{-(w + 2k)^2 / 2s}
         = \pi \sum_j j \sin(j\pi w)\, e^{-j^2\pi^2 s/2},

one for short times and one for long ones (Navarro & Fuss 2009, Fast and accurate calculations for
first-passage times in Wiener diffusion models, J. Math. Psychol. 53). Drift adds a factor, and the
upper boundary is the lower one seen in a mirror.
"""

import numpy as np
import pytensor.tensor as pt

STEP = 0.025  # in units of a^2: to cross all of it in one step takes six standard deviations
# Where both series need few terms: at s = 0.2 the first ones left out are e^-120 and e^-62 of the
# leading one.
SWITCH = 0.2
SHORT = [k for k in range(-3, 4) if k]
LONG = range(2, 8)


def simulator(rng, v, a, z, t):
    """Trials ``(n, 2)`` of parameters ``(n,)``, exact.

    Space is in units of a and time of a^2. Of a Brownian path between two points it is known how
    likely it crossed a boundary, and when if it did, so that steps need not be small.
    """
    place, drift, clock, going = z.copy(), a * v, 0.0, np.arange(len(v))
    time, response = np.empty((2, len(v)))
    while len(going):
        here = place[going]
        there = rng.normal(here + STEP * drift[going], STEP**0.5)
        u = rng.random(len(going))
        down = u < np.exp(-2 * here * there.clip(0) / STEP)
        up = 1 - u < np.exp(-2 * (1 - here) * (1 - there).clip(0) / STEP)
        out = down | up
        before, after = (np.where(down, y, 1 - y)[out] for y in (here, there))
        odds = rng.wald(before / np.abs(after).clip(1e-12), before**2 / STEP)
        time[going[out]] = clock + STEP * odds / (1 + odds)
        response[going[out]] = np.where(down[out], -1, 1)
        place[going], going, clock = there, going[~out], clock + STEP
    return np.column_stack([t + a**2 * time, response])


def log_short(s, w):
    """The log of f by the series for short times, its leading term taken out; shapes broadcast."""
    terms = [(1 + 2 * k / w) * pt.exp(-2 * k * (w + k) / s) for k in SHORT]
    return (
        pt.log(w) - w**2 / (2 * s) - 1.5 * pt.log(s) - np.log(2 * np.pi) / 2 + pt.log1p(sum(terms))
    )


def log_long(s, w):
    """The same by the series for long times."""
    terms = [j * pt.sin(j * np.pi * w) * pt.exp(-(j**2 - 1) * np.pi**2 * s / 2) for j in LONG]
    return np.log(np.pi) - np.pi**2 * s / 2 + pt.log(pt.sin(np.pi * w) + sum(terms))


def log_density(x, v, a, z, t):
    """Log densities ``(n,)`` of x ``(n, 2)``, rt in seconds and response -1 or 1.

    v, a, z and t are scalars or ``(n,)``. Minus infinity for responses faster than t.
    """
    rt, upper = x[..., 0], x[..., 1] > 0
    w, v = pt.switch(upper, 1 - z, z), pt.switch(upper, -v, v)
    decision = rt - t
    # Each series gets only times at which it is finite: a gradient would see it where it is not.
    s = pt.maximum(decision, 1e-9) / a**2
    f = pt.switch(
        s < SWITCH, log_short(pt.minimum(s, SWITCH), w), log_long(pt.maximum(s, SWITCH), w)
    )
    log_p = f - v * a * w - v**2 * decision / 2 - 2 * pt.log(a)
    return pt.switch(decision > 0, log_p, -np.inf)
