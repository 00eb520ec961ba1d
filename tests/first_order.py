"""At the exact log ratio every loss is stationary: what tests of losses share.

For any direction h(theta, x) the derivative of Loss(log r + eps h) at eps = 0 has mean zero.
It is computed for independent batches and tested by its t-statistic. With BATCHES = 400 a
right loss has |t| > 5 with probability below 1e-6 for each direction; planted bugs give tens
to hundreds.
"""

import math

import numpy as np
import torch

from pymc_nre import tasks

BATCHES, BATCH = 400, 64


T_LIMIT = 5.0


DIRECTIONS = {
    "constant": lambda theta, x: torch.ones_like(x),
    "of theta": lambda theta, x: torch.sin(theta[..., 0]),
    "of x": lambda theta, x: torch.cos(x / 2),
    "skew": lambda theta, x: torch.tanh(theta[..., 0] - x),
    # Even in theta - x, as errors of sharpness are: odd ones miss some bugs by symmetry.
    "sharpness": lambda theta, x: torch.exp(-((theta[..., 0] - x) ** 2) / 8),
}


class Perturbed:
    """The exact ratio plus eps times a direction."""

    def __init__(self, exact, direction, eps):
        self.exact, self.direction, self.eps = exact, direction, eps

    def embed(self, x):
        return self.exact.embed(x)

    def head(self, theta, features):
        x = features[..., 0]
        return self.exact.head(theta, features) + self.eps * self.direction(theta, x)


def uniform(batch, generator):
    """Pairs of a Gaussian mean, uniform between -10 and 10, ``(batch, 1)`` and ``(batch,)``."""
    theta = 20 * torch.rand(batch, 1, generator=generator, dtype=torch.float64) - 10
    return theta, theta[:, 0] + torch.randn(batch, generator=generator, dtype=torch.float64)


def t_statistic(loss, direction, shift=None, batch=BATCH, draw=uniform):
    """t of the mean derivative over independent batches; ``shift(x)`` is added to the logit."""
    exact = tasks.GaussianMean().estimator().network
    if shift is not None:
        exact = Perturbed(exact, lambda theta, x: shift(x), 1.0)
    generator = torch.Generator().manual_seed(1)
    derivatives = []
    for _ in range(BATCHES):
        theta, x = draw(batch, generator)
        eps = torch.zeros((), dtype=torch.float64, requires_grad=True)
        (derivative,) = torch.autograd.grad(loss(Perturbed(exact, direction, eps), theta, x), eps)
        derivatives.append(derivative.item())
    derivatives = np.array(derivatives)
    share = np.abs(derivatives).max() / max(np.abs(derivatives).sum(), 1e-300)
    if share > 0.2:  # of 400 normal numbers the largest is a hundredth of the sum
        raise ValueError(
            f"One of {BATCHES} batches makes {share:.0%} of the derivative, which has no finite "
            "variance: t would be near one for any loss. Bound the scores of the loss."
        )
    if np.ptp(derivatives) < 1e-12:  # identically zero: the loss does not feel this direction
        return 0.0 if abs(derivatives[0]) < 1e-12 else math.inf
    return derivatives.mean() / (derivatives.std(ddof=1) / BATCHES**0.5)


def pairs(n, seed=0):
    return uniform(n, torch.Generator().manual_seed(seed))
