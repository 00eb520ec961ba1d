"""Counts of animals: how many there are, an integer, and of what kinds, a simplex."""

import numpy as np
import pymc as pm
from scipy.special import gammaln

import pymc_nre as nre

__all__ = ["Counts", "log_density"]

_SEEN = 0.5  # chance to see an animal at one visit
_MOST = 60


class Counts:
    """Each visit sees every animal with the same chance, and counts those of each kind."""

    name, trials = "counts of kinds", 20
    truth = 30, np.array([0.5, 0.3, 0.2])

    def prior(self):
        with pm.Model() as model:
            pm.DiscreteUniform("animals", 5, _MOST)
            pm.Dirichlet("kinds", np.ones(3))
        return model

    def simulator(self, rng, animals, kinds):
        chances = np.concatenate([_SEEN * kinds, np.full((len(kinds), 1), 1 - _SEEN)], -1)
        return rng.multinomial(animals, chances / chances.sum(-1, keepdims=True))[:, :3] * 1.0

    def data(self):
        animals, kinds = self.truth
        each = np.full(self.trials, animals), np.tile(kinds, (self.trials, 1))
        return self.simulator(np.random.default_rng(8), *each)

    def model(self, ratio, x):
        with self.prior() as model:
            nre.RatioLikelihood(
                "x", ratio, animals=model["animals"], kinds=model["kinds"], observed=x
            )
        return model

    def exact(self, x):
        """The kinds are Dirichlet and independent of their number, of which each is tried."""
        alpha = 1 + x.sum(0)
        mean = alpha / alpha.sum()
        sd = np.sqrt(mean * (1 - mean) / (alpha.sum() + 1))
        found = {f"kinds[{i}]": (mean[i], sd[i]) for i in range(3)}
        animals = np.arange(5, _MOST + 1)
        values = log_density(x, animals[:, None], np.full((1, 1, 3), 1 / 3)).sum(1)
        weights = np.exp(values - values.max())
        weights /= weights.sum()
        middle = weights @ animals
        return found | {"animals": (middle, np.sqrt(weights @ (animals - middle) ** 2))}


def log_density(x, animals, kinds):
    """Multinomial, ``(*)``, of counts ``(*, 3)``, numbers ``(*)`` and kinds ``(*, 3)``."""
    missed = animals - x.sum(-1)
    possible = missed >= 0
    missed = np.where(possible, missed, 0)
    value = gammaln(animals + 1.0) - gammaln(missed + 1.0) - gammaln(x + 1).sum(-1)
    value = value + (x * np.log(_SEEN * kinds)).sum(-1) + missed * np.log(1 - _SEEN)
    return np.where(possible, value, -np.inf)
