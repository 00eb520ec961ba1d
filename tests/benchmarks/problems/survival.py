"""Survival of patients in clinics, some of them censored: Weibull, with a treatment."""

import numpy as np
import pymc as pm
import pytensor.tensor as pt

import pymc_nre as nre

from .base import summaries

__all__ = ["Survival"]

CLINICS = 8
_CENSORED = 0.5, 6.0  # times, uniform between these


class Survival:
    """Parameters of a patient are the log scale and the log shape of a Weibull distribution.

    An observation is the log of the time, and 1 where that is the end, or 0 where it is censored.
    """

    name, trials = "survival", 240
    quantities = ("mean", "treatment", "spread", "log_shape")

    def prior(self):
        with pm.Model() as model:
            pm.Uniform("log_scale", -3, 5)
            pm.Uniform("log_shape", -1, 1.5)
        return model

    def simulator(self, rng, log_scale, log_shape):
        ends = log_scale + np.log(rng.exponential(size=np.shape(log_scale))) / np.exp(log_shape)
        censored = np.log(rng.uniform(*_CENSORED, size=np.shape(log_scale)))
        return np.stack([np.minimum(ends, censored), (ends < censored).astype(float)], -1)

    def data(self):
        rng = np.random.default_rng(8)
        clinic, treated = self._design()
        effects = 0.4 * rng.normal(size=CLINICS)
        log_scale = 0.8 + 0.5 * treated + (effects - effects.mean())[clinic]
        return self.simulator(rng, log_scale, np.full(self.trials, 0.3))

    def _design(self):
        patient = np.arange(self.trials)
        return patient % CLINICS, (patient // CLINICS) % 2

    def _with(self, likelihood):
        clinic, treated = self._design()
        with pm.Model() as model:
            mean = pm.Normal("mean", 1, 1)
            treatment = pm.Normal("treatment", 0, 1)
            spread = pm.HalfNormal("spread", 0.5)
            effects = pm.Normal("effects", 0, 1, shape=CLINICS)
            log_shape = pm.Normal("log_shape", 0.3, 0.3)
            log_scale = mean + treatment * treated + spread * effects[clinic]
            likelihood(log_scale=log_scale, log_shape=log_shape)
        return model

    def model(self, ratio, x):
        return self._with(lambda **p: nre.RatioLikelihood("x", ratio, observed=x, **p))

    def exact(self, x):
        """By the density of those who died and the survival of the others; four long chains."""
        with self._with(lambda **p: pm.Potential("x", log_density(x, xp=pt, **p).sum())):
            idata = pm.sample(
                2_000, chains=4, cores=1, random_seed=1, target_accept=0.95, progressbar=False
            )
        return summaries(idata["posterior"], self.quantities)


def log_density(x, log_scale, log_shape, xp=np):
    """But what depends on the time of censoring alone."""
    standardized = xp.exp(log_shape) * (x[..., 0] - log_scale)
    return x[..., 1] * (log_shape + standardized) - xp.exp(standardized)
