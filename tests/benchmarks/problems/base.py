"""What is asked of a problem, and problems whose parameters are uniform in a box."""

from dataclasses import dataclass, replace

import numpy as np
import pymc as pm

import pymc_nre as nre

from .posteriors import moments, posterior

__all__ = ["Box", "summaries"]


@dataclass(frozen=True, eq=False)
class Box:
    """Trials of a simulator with uniform priors, and the log density of an observation."""

    name: str
    trials: int
    ranges: dict
    truth: tuple
    draw: callable  # (rng, *parameters (n,)) -> (n, *event)
    log_density: callable  # (x (N, *event), *parameters (g, 1)) -> (g, N)
    trained: dict = None  # narrower ranges, if those of the model are not trained

    def prior(self):
        """What the ratio is trained on."""
        return self._uniform(self.trained or self.ranges)

    def simulator(self, rng, **parameters):
        """Many draws at once."""
        return self.draw(rng, *(parameters[name] for name in self.ranges))

    def data(self):
        """Observations ``(trials, *event)``."""
        columns = [np.full(self.trials, value) for value in self.truth]
        return self.draw(np.random.default_rng(8), *columns)

    def model(self, ratio, x):
        """The model that is sampled."""
        model = self._uniform(self.ranges)
        with model:
            nre.RatioLikelihood(
                "x", ratio, observed=x, **{name: model[name] for name in self.ranges}
            )
        return model

    def exact(self, x):
        """Mean and standard deviation of each quantity."""

        def log_p(theta):
            inside = ((theta > ends[0]) & (theta < ends[1])).all(1)
            values = np.full(len(theta), -np.inf)
            rows = theta[inside]
            for block in np.array_split(
                np.flatnonzero(inside), max(1, rows.size * len(x) // 10**7)
            ):
                columns = np.split(theta[block], theta.shape[1], axis=1)
                values[block] = self.log_density(x, *columns).sum(1)
            return values

        ends = np.array(list(self.ranges.values()), dtype=float).T
        found = moments(*posterior(log_p, ends, seed=1))
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

    @staticmethod
    def _uniform(ranges):
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
