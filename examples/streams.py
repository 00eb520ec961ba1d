r"""The streams behind `stream_coverage.py`: a simulator, and the ratio that it has.

A stellar stream is stars on one orbit around a galaxy. Clumps of dark matter that fly by tear gaps
in it. Warm dark matter has no small clumps, so the lighter its particles are the smoother are
streams, and the contrast grows with age. Here is a caricature of that which has a likelihood: the
density contrast x in 64 bins of a ring is a Gaussian process whose frequencies have the variances

.. math:: S_k = s^2 + \frac{(t / 5)^2}{(1 + k)\,(1 + k^2 / m^2)^2}, \qquad
    \log p(x \mid m, t) = -\tfrac12 \sum_{k=0}^{63} \log 2\pi S_k + |\hat x_k|^2 / S_k,

with mass m (keV), age t (billions of years), s the noise of a bin and k counted from either end. On
a ring frequencies are independent, so no matrix has to be inverted.
"""

import numpy as np
import pymc as pm
import torch

import pymc_nre as nre
from pymc_nre.estimators.domain import Domain

BINS, NOISE = 64, 0.05
RANGES = {"mass": (1.0, 50.0), "age": (3.0, 7.0)}
FREQUENCIES = np.arange(BINS // 2 + 1)
NODES = {"mass": 64, "age": 16}  # twice as many change log ratios by less than 1e-5


def power_at_five(k, mass):
    return 1 / ((1 + k) * (1 + (k / mass) ** 2) ** 2)


def spectrum(k, mass, age):
    """S_k of arrays or tensors that broadcast."""
    return NOISE**2 + (age / 5) ** 2 * power_at_five(k, mass)


def simulator(rng, mass, age):
    """Streams ``(n, 64)`` of masses and ages ``(n,)``: white noise, colored."""
    white = np.fft.rfft(rng.normal(size=(len(mass), BINS)))
    variances = spectrum(FREQUENCIES, mass[:, None], age[:, None])
    return np.fft.irfft(np.sqrt(variances) * white, BINS)


def prior():
    return {name: pm.Uniform.dist(*ends) for name, ends in RANGES.items()}


def nodes(name):
    """Points and log weights of a mean over the prior of a parameter (Gauss and Legendre)."""
    points, weights = np.polynomial.legendre.leggauss(NODES[name])
    low, high = RANGES[name]
    return torch.tensor(low + (high - low) * (points + 1) / 2), torch.tensor(np.log(weights / 2))


class ExactRatio(nre.networks.RatioNetwork):
    """Of mass and age, or of mass alone, the age then summed over its prior."""

    def __init__(self, theta_size):
        super().__init__(theta_size, (BINS,))
        mass, age = nodes("mass"), nodes("age")
        self.register_buffer("k", torch.tensor(FREQUENCIES, dtype=torch.double))
        # Frequencies that a real transform leaves out are those it has, once more.
        self.register_buffer("times", torch.tensor([1.0, *[2.0] * (BINS // 2 - 1), 1.0]))
        self.register_buffer("ages", torch.stack(age, -1))
        self.register_buffer("grid", torch.cartesian_prod(mass[0], age[0]))
        self.register_buffer("log_weights", (mass[1][:, None] + age[1]).flatten())

    def embed(self, x):  # (n, 64) -> (n, 34)
        """Powers of the frequencies, and the log evidence, both but for log 2 pi."""
        power = torch.fft.rfft(x, norm="ortho").abs() ** 2
        variances = spectrum(self.k, *self.grid[..., None].unbind(1))
        squares = power @ (self.times / variances).T
        log_p = -0.5 * (squares + (self.times * variances.log()).sum(-1))
        log_evidence = (log_p + self.log_weights).logsumexp(-1, keepdim=True)
        return torch.cat([power, log_evidence], -1)

    def head(self, theta, features):  # (*, D), (*, 34) -> (*)
        """Log ratios."""
        power, log_evidence = features[..., :-1], features[..., -1]
        mass, *age = theta.split(1, -1)
        ages = [(age[0], 0.0)] if age else self.ages
        signal = power_at_five(self.k, mass)

        def log_p(age):
            variances = NOISE**2 + (age / 5) ** 2 * signal
            return -0.5 * (variances.log() + power / variances) @ self.times

        return torch.stack([log_p(t) + w for t, w in ages]).logsumexp(0) - log_evidence


def exact(simulations):
    """The exact ratio of the parameters that simulations have, as an estimator."""
    return nre.RatioEstimator(
        ExactRatio(simulations.layout.size),
        simulations.layout.shapes,
        domain=Domain.from_draws(simulations.theta, simulations.log_prior),
        probe_x=simulations.x,
        simulator=simulations.simulator,
    )
