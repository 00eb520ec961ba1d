"""Many data sets with exact posteriors, for posteriors without MCMC."""

import numpy as np
import pymc as pm
import xarray as xr

import pymc_nre as nre
from pymc_nre.estimators.domain import Domain

GAUSSIAN = nre.tasks.GaussianMean()
MEAN = GAUSSIAN.estimator()
SIGMAS = 5  # standard errors: exceeded by chance once in two million


def data_sets(n_sets, n_trials, seed=1):
    rng = np.random.default_rng(seed)
    return rng.normal(rng.normal(0, 3, (n_sets, 1)), 1.0, (n_sets, n_trials))


def conjugate(x, center, spread):
    """Exact mean and sd of a normal mean with unit noise, trials last."""
    precision = spread**-2 + x.shape[-1]
    return (center / spread**2 + x.sum(-1)) / precision, precision**-0.5


def integer_ratio():
    """The exact ratio of a normal mean that is an integer from -9 to 9."""
    draws = np.random.default_rng(1).integers(-9, 10, (20_000, 1))
    return nre.RatioEstimator(
        MEAN.network,
        {"mu": ()},
        domain=Domain.from_draws(draws),
        probe_x=MEAN.probe_x,
        integer=("mu",),
    )


NORMAL = {"mu": pm.Normal.dist(0, 1)}


def standard_error(weighted):
    """Of the weighted means, ``(*batch, parameter)``."""
    values = xr.concat([weighted[name] for name in weighted["parameter"].values], "parameter")
    spread = weighted["weight"] ** 2 * (values - weighted["mean"]) ** 2
    return np.sqrt(spread.sum("draw")).transpose(*weighted["mean"].dims)
