"""What is asked of a problem, and problems whose parameters are uniform in a box."""

from dataclasses import dataclass, fields, replace

import numpy as np
import pymc as pm

import pymc_nre as nre

from .posteriors import moments, posterior

__all__ = ["Box", "Trials", "summaries", "uniform"]


@dataclass(frozen=True, eq=False)
class Trials:
    """Trials of a simulator with uniform priors, and the log density of an observation."""

    name: str
    trials: int
    ranges: dict
    truth: tuple
    draw: callable  # (rng, *parameters (n,)) -> (n, *event)
    log_density: callable  # (x (N, *event), *parameters (g, 1)) -> (g, N)

    @property
    def ends(self):
        """Least and largest values ``(2, D)``."""
        return np.array(list(self.ranges.values()), dtype=float).T

    def prior(self):
        """What the ratio is trained on."""
        return uniform(self.ranges)

    def simulator(self, rng, **parameters):
        """Many draws at once."""
        return self.draw(rng, *(parameters[name] for name in self.ranges))

    def data(self, seed=8):
        """Observations ``(trials, *event)``."""
        columns = [np.full(self.trials, value) for value in self.truth]
        return self.draw(np.random.default_rng(seed), *columns)

    def log_likelihood(self, x):
        """A function of parameters ``(g, D)``: the log likelihood within the prior."""

        def log_p(theta):
            blocks = np.array_split(theta, max(1, len(theta) * len(x) // 2_000_000))
            return np.concatenate(
                [self.log_density(x, *np.split(b, b.shape[1], axis=1)).sum(1) for b in blocks]
            )

        return self.within(log_p)

    def within(self, log_p):
        """The same as a function, and minus infinity outside of the prior."""
        low, high = self.ends

        def inside(theta):
            values, there = np.full(len(theta), -np.inf), ((theta > low) & (theta < high)).all(1)
            if there.any():
                values[there] = log_p(theta[there])
            return values

        return inside

    def as_a(self, kind):
        """The same trials as another kind of problem."""
        return kind(*(getattr(self, field.name) for field in fields(Trials)))


@dataclass(frozen=True, eq=False)
class Box(Trials):
    """Trials whose ratio may be trained in narrower ranges than those of the model."""

    trained: dict = None

    def prior(self):
        """What the ratio is trained on."""
        return uniform(self.trained or self.ranges)

    def model(self, ratio, x):
        """The model that is sampled."""
        model = uniform(self.ranges)
        with model:
            nre.RatioLikelihood(
                "x", ratio, observed=x, **{name: model[name] for name in self.ranges}
            )
        return model

    def exact(self, x):
        """Mean and standard deviation of each quantity."""
        found = moments(*posterior(self.log_likelihood(x), self.ends, seed=1))
        return dict(zip(self.ranges, zip(*found, strict=True), strict=True))

    def narrower(self, found):
        """The same, trained around a posterior, of means and standard deviations by name."""
        ranges = self.trained or self.ranges
        ends = {
            name: (
                max(low, found[name][0] - 8 * found[name][1]),
                min(high, found[name][0] + 8 * found[name][1]),
            )
            for name, (low, high) in ranges.items()
        }
        return replace(self, trained=ends)


def uniform(ranges):
    """A model of independent uniform variables."""
    with pm.Model() as model:
        for name, (low, high) in ranges.items():
            pm.Uniform(name, low, high)
    return model


def summaries(posterior, names):
    """Mean and standard deviation of each number in a posterior, by name."""
    found = {}
    for name in names:
        values = posterior[name].to_numpy()
        flat = values.reshape(values.shape[0] * values.shape[1], -1)
        labels = [name] if values.ndim == 2 else [f"{name}[{i}]" for i in range(flat.shape[1])]
        found |= {k: (c.mean(), c.std()) for k, c in zip(labels, flat.T, strict=True)}
    return found
