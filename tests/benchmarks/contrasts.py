"""What contrasts at every scale gain, and what they cost.

``python tests/benchmarks/contrasts.py`` trains ratios of problems with exact answers with and
without them, and without them for as long as with them, three seeds each, and resumes where it
was stopped. Their posteriors of 1 and 10 trials are summed on a grid and compared with the exact
ones. For many trials their scores are: by how much the mean score moves a posterior mean is the
bias, which grows with the root of the number of trials, and the rest is scatter, which does not.
"""

import argparse
import importlib
import os
import sys
import tempfile
import time
from functools import partial
from itertools import product
from pathlib import Path

from worker import ONE_THREAD

os.environ |= ONE_THREAD

import numpy as np
from many_trials import posterior
from results import Results
from tables import Table

import pymc_nre as nre
from pymc_nre.simulation.prior import Prior
from pymc_nre.training.settings import Settings

ROOT = Path(__file__).parents[2]
ALONE, AS_LONG = "prior alone", "prior alone, as long"
LOSSES = {ALONE: nre.losses.NREC(candidates=5), "every scale": nre.losses.MultiScale()}
WAYS = (ALONE, AS_LONG, "every scale")
LONGER = 1.25  # so many times the epochs: a step with candidates nearby costs that many without
TASKS = ("GaussianMean", "LocationScale", "LinearGaussian", "PoissonRate", "GaussianMixture")
DRIFT = "drift diffusion"
KEYS = ("problem", "simulations", "loss", "seed")
SETS, FEW = 40, (1, 10)
POINTS, TRIALS = 200, 5_000  # parameters at which scores are compared, and trials at each
MARGIN = 0.02  # of the prior of each parameter, at either end, is left out there
MANY = 1_000


def main():
    options = _options()
    options.work.mkdir(parents=True, exist_ok=True)
    results = Results(options.work / "contrasts.jsonl", KEYS)
    wanted = options.simulations, options.seeds, options.problems, WAYS
    for size, seed, name, way in product(*wanted):
        which = dict(zip(KEYS, (name, size, way, seed), strict=True))
        print(results.get(partial(_measured, **which), **which), flush=True)
    text = "\n".join(table.markdown() for table in _tables(results.read(), options.simulations))
    path = options.out / "contrasts.inc"
    path.write_text(f"{text}\n")
    print(text, path)


def _options():
    parser = argparse.ArgumentParser(description=__doc__)
    scratch = Path(tempfile.gettempdir()) / "pymc_nre_benchmarks"
    parser.add_argument("--work", type=Path, default=scratch)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks")
    parser.add_argument("--simulations", nargs="+", type=int, default=(10_000, 100_000))
    parser.add_argument("--problems", nargs="+", default=(*TASKS, DRIFT))
    parser.add_argument("--seeds", nargs="+", type=int, default=(1, 2, 3))
    return parser.parse_args()


def _measured(problem, simulations, loss, seed):
    made = _Drift() if problem == DRIFT else _Exact(problem)
    drawn = made.simulations(simulations, seed)
    options = {"network": made.network, "random_seed": seed, "progressbar": False}
    began = time.process_time()
    if loss == AS_LONG:
        ratio = _longer(drawn, **options)
    else:
        ratio = nre.train(drawn, loss=LOSSES[loss], **options)
    found = {
        "seconds": time.process_time() - began,
        "labels": ratio.layout.labels,
    }
    found["bias"], found["scatter"] = _by_scores(ratio, made)
    return found | made.few(ratio)


def _longer(simulations, **options):
    """What `train` does by itself, for longer: told how long, it leaves its second run out."""
    loss, n = LOSSES[ALONE], len(simulations)
    epochs = round(LONGER * Settings().plan(n - n // 10, loss, False, n).epochs)
    options |= {"loss": loss, "epochs": epochs}
    first = nre.train(simulations, **options)
    if options["network"] or first.history.attrs["stopped"] != "no better for a while":
        return first
    again = nre.train(simulations, learning_rate=3e-3, weight_decay=0.1, **options)
    return min(first, again, key=lambda ratio: ratio.history.attrs["best_loss"])


def _by_scores(ratio, made):
    """Bias of a single trial and scatter, in posterior sds: root mean squares over the prior."""
    rng, found = np.random.default_rng(3), []
    for theta in made.inner(rng):
        rows = np.tile(theta, (TRIALS, 1))
        x = made.simulate(rng, rows)
        exact = made.scores(rows, x)
        wrong = ratio.evaluator.value_and_gradient(rows, x)[1] - exact
        inverse = np.linalg.inv(np.atleast_2d(np.cov(exact.T)))
        shares = wrong @ inverse / inverse.diagonal() ** 0.5
        found.append([shares.mean(0), shares.std(0)])
    return np.sqrt(np.square(found).mean(0)).tolist()


class _Exact:
    """A task whose log ratio is known."""

    network = None

    def __init__(self, name):
        self.task = getattr(nre.tasks, name)()
        self.exact = self.task.estimator()
        self.density = Prior.of(self.task.prior()).log_density_function()

    def simulations(self, n, seed):
        return self.task.simulate(n, random_seed=seed)

    def inner(self, rng):
        """Parameters ``(POINTS, D)`` away from the ends of the prior."""
        drawn = self.task.simulate(20_000, random_seed=3).theta
        low, high = np.quantile(drawn, [MARGIN, 1 - MARGIN], axis=0)
        inside = drawn[((drawn > low) & (drawn < high)).all(1)]
        return inside[rng.choice(len(inside), POINTS, replace=False)]

    def simulate(self, rng, theta):
        return self.task.simulator(rng, **self.exact.layout.unpack(theta))

    def scores(self, theta, x):
        return self.exact.evaluator.value_and_gradient(theta, x)[1]

    def few(self, ratio):
        """Mean absolute errors of posterior means, in sds, and ratios of sds."""
        found = {}
        for n in FEW:
            errors, widths = [], []
            for x in self._data_sets(n):
                exact = self.task.posterior(x)
                fine = 4 if ratio.layout.size < 3 else 1
                _, _, mean, sd = posterior(self._log_posterior(ratio, x), exact, fine)
                _, _, right, its = posterior(self._log_posterior(self.exact, x), exact, fine)
                errors.append(np.abs(mean - right) / its)
                widths.append(sd / its)
            found[f"error {n}"], found[f"width {n}"] = np.mean(errors), np.mean(widths)
        return found

    def _log_posterior(self, ratio, x):
        """A function of parameters ``(g, D)``, with the training prior."""

        def log_p(theta):
            log_prior = self.density(ratio.layout.unpack(theta))
            inside = np.isfinite(log_prior)
            pairs = np.repeat(theta[inside], len(x), 0), np.concatenate([x] * inside.sum())
            log_prior[inside] += ratio.evaluator.value(*pairs).reshape(-1, len(x)).sum(1)
            return log_prior

        return log_p

    def _data_sets(self, n):
        rng = np.random.default_rng((n, 7))
        drawn = self.task.simulate(SETS, random_seed=7).theta
        for theta in drawn:
            yield self.simulate(rng, np.tile(theta, (n, 1)))


class _Drift:
    """The drift-diffusion example, with a network of its own."""

    def __init__(self):
        sys.path.insert(0, str(ROOT / "examples"))
        self.example, self.wiener = map(importlib.import_module, ("drift_diffusion", "wiener"))
        self.network = self.example.Delayed

    def simulations(self, n, seed):
        import pymc as pm

        prior = {name: pm.Uniform.dist(*ends) for name, ends in self.example.RANGES.items()}
        options = {"batched": True, "progressbar": False, "random_seed": seed}
        return nre.simulate(prior, self.wiener.simulator, n, **options)

    def inner(self, rng):
        low, high = np.array(list(self.example.RANGES.values())).T
        margin = MARGIN * (high - low)
        return rng.uniform(low + margin, high - margin, (POINTS, 4))

    def simulate(self, rng, theta):
        return self.wiener.simulator(rng, *theta.T)

    def scores(self, theta, x):
        import pytensor
        import pytensor.tensor as pt

        if not hasattr(self, "gradient"):
            data, parameters = pt.dmatrix(), pt.matrix(shape=(None, 4), dtype="float64")
            log_p = self.wiener.log_density(data, *(parameters[:, j] for j in range(4)))
            gradient = pytensor.grad(log_p.sum(), parameters)
            self.gradient = pytensor.function([data, parameters], gradient)
        return self.gradient(x, theta)

    def few(self, ratio):
        return {}


def _tables(records, sizes):
    for size in sizes:
        rows = [row for name in (*TASKS, DRIFT) for row in _rows(records, name, size)]
        if rows:
            heads = ("problem", "contrasts", "seeds", "seconds", "error, 1", "width, 1")
            heads += ("error, 10", "width, 10", f"bias, {MANY:,}", "scatter")
            yield Table(f"{size:,} simulations", heads, rows)


def _rows(records, name, size):
    chosen = {key[2:]: row for key, row in records.items() if key[:2] == (name, size)}
    by_way = {way: {seed: r for (its, seed), r in chosen.items() if its == way} for way in WAYS}
    seeds = sorted(set.intersection(*map(set, by_way.values())))
    for way, by_seed in by_way.items():
        found = [by_seed[seed] for seed in seeds]
        if found:
            yield [
                name,
                way,
                ", ".join(map(str, seeds)),
                _mean(found, "seconds", 1),
                *(_mean(found, f"{what} {n}", 3) for n in FEW for what in ("error", "width")),
                "; ".join(_of_parameters(found, "bias", MANY**0.5)),
                "; ".join(_of_parameters(found, "scatter", 1)),
            ]


def _mean(found, name, digits):
    values = [row[name] for row in found if name in row]
    return f"{np.mean(values):.{digits}f}" if values else "-"


def _of_parameters(found, name, factor):
    """For each the mean of all seeds."""
    pairs = zip(found[0]["labels"], factor * np.mean([r[name] for r in found], 0), strict=True)
    return [f"{label} {value:.2f}" for label, value in pairs]


if __name__ == "__main__":
    sys.exit(main())
