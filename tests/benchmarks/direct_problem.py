"""What benchmarks of direct ratios share: ratios kept on disk, and posteriors on small grids.

Of a task one or two parameters are unknown, so that a posterior is a sum over few points, and the
stationary law of a chain a vector.
"""

import time
import warnings
from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

import pymc_nre as nre
from pymc_nre.estimators.direct import against, best_reference
from pymc_nre.tasks.base import span

LOSSES = {head: nre.losses.DNRE(head) for head in ("antisymmetric", "plain", "additive")}
LOSSES["NRE-C"] = nre.losses.NREC(candidates=5)
SIMULATIONS = 10_000
FINE, ZOOMS = 101, 6  # points of an axis, of which the first grid must see a posterior


def trained(folder, task, loss, simulations=SIMULATIONS, seed=1):
    """A ratio by its defaults, from disk if it is there."""
    path = folder / f"{task}-{loss}-{simulations}-{seed}.nre"
    if not path.exists():
        began = time.process_time()
        drawn = getattr(nre.tasks, task)().simulate(simulations, random_seed=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", nre.TrainingWarning)
            ratio = nre.train(drawn, loss=LOSSES[loss], random_seed=seed, progressbar=False)
        ratio.save(path)
        print(f"{path.name}: {time.process_time() - began:.0f} s", flush=True)
    return nre.load(path)


@dataclass(frozen=True)
class Part:
    """One or two of a task's parameters, here uniform in a box; the others are known."""

    task: str
    name: str
    ends: tuple  # the box is from -end to end
    columns: tuple = (0,)
    reach: float = 5.0  # of a grid, in standard deviations

    def __str__(self):
        return f"{self.task}, {self.name}"

    def data(self, n, count):
        """Data sets: true parameters ``(D,)`` and observations ``(n, *event)``."""
        task, rng = getattr(nre.tasks, self.task)(), np.random.default_rng((n, 7))
        drawn = task.simulate(count, random_seed=7)
        for truth in drawn.theta:
            rows = drawn.layout.unpack(np.tile(truth, (n, 1)))
            yield truth, task.simulator(rng, **rows)

    def exact(self, truth, x, points):
        """A grid ``(points**k, k)`` around the exact posterior, and its weights there."""
        task = getattr(nre.tasks, self.task)()

        def weights(grid):
            values = task.estimator().layout.unpack(self.packed(truth, grid)[:, None])
            return normalized(task.log_likelihood(x, **values).sum(1))

        middle, reach = np.zeros(len(self.ends)), np.array(self.ends)
        for _ in range(ZOOMS):
            grid = self._grid(middle, reach, FINE)
            middle, sd = moments(grid, weights(grid))
            reach = np.minimum(reach, np.maximum(2 * self.reach * sd, 4 * reach / FINE))
        grid = self._grid(middle, self.reach * sd, points)
        return grid, weights(grid)

    def _grid(self, middle, reach, points):
        axes = [span(*each, points) for each in zip(middle, reach, self.ends, strict=True)]
        return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(axes))

    def packed(self, truth, grid):
        """Parameter vectors ``(len(grid), D)``."""
        rows = np.tile(truth, (len(grid), 1))
        rows[:, self.columns] = grid
        return rows


LINES = (
    Part("GaussianMean", "mu", (10.0,)),
    Part("LocationScale", "mu", (5.0,)),
    Part("LocationScale", "log_sigma", (1.0,), (1,)),
    Part("LinearGaussian", "theta[0]", (3.0,)),
    Part("GaussianMixture", "theta[0]", (10.0,)),
)
PLANES = (
    Part("LocationScale", "both", (5.0, 1.0), (0, 1), 3.5),
    Part("LinearGaussian", "theta[:2]", (3.0, 3.0), (0, 1), 3.5),
    Part("GaussianMixture", "both", (10.0, 10.0), (0, 1), 3.5),
)


def normalized(logs):
    """Weights of log densities on a grid."""
    return np.exp(logs - logsumexp(logs))


def moments(grid, weights):
    """Means and standard deviations ``(k,)`` on a grid ``(G, k)``."""
    mean = weights @ grid
    return mean, np.sqrt(weights @ (grid - mean) ** 2)


def far(one, other):
    """Total variation of two laws on a grid."""
    return np.abs(one - other).sum() / 2


def compared(grid, law, exact):
    """Total variation, largest error of a mean in exact standard deviations, ratio of these."""
    (mean, sd), (right, its) = moments(grid, law), moments(grid, exact)
    error, width = np.max(np.abs(mean - right) / its), np.exp(np.mean(np.log(sd / its)))
    return {"far": float(far(law, exact)), "error": float(error), "width": float(width)}


def to_one(ratio, theta, other, x):
    """Log ratios ``(G,)`` of parameters ``(G, D)`` to one ``(D,)``, of all observations."""
    return to_many(ratio, theta, other[None], x)[:, 0]


def to_many(ratio, theta, others, x):
    """Log ratios ``(G, S)`` of parameters ``(G, D)`` to others ``(S, D)``, of all observations."""
    return np.stack([against(ratio, own, others, x) for own in theta])


def to_best(ratio, theta, x):
    """What a model says by default, ``(G,)``."""
    return to_one(ratio, theta, best_reference(ratio, x), x)
