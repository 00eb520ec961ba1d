"""Posteriors of 10 to 10,000 trials, before and after centering, ours and the neighbors'.

``python tests/benchmarks/many_trials.py`` takes hours and resumes where it was stopped: what
was measured is kept as JSON lines in ``--work``. With ``--neighbors-python`` of an environment
that has sbi and BayesFlow they are trained on the same simulations; ``--only`` names estimators.

For each data set the posterior under the training prior is summed on a grid around the exact
one. A step of one exact standard deviation is enough for a normal density (the trapezoidal rule
errs by exp(-2 pi^2)); the grid follows the posterior, and is widened until no mass is at its edge.
"""

import argparse
import os
import sys
import tempfile
import time
from functools import partial
from importlib.metadata import version
from pathlib import Path
from zlib import crc32

from worker import ONE_THREAD, Worker

os.environ |= ONE_THREAD

import numpy as np
import xarray as xr
from results import Results
from tables import Table

import pymc_nre as nre

ROOT = Path(__file__).parents[2]
TASKS = ("GaussianMean", "LocationScale")
SIMULATIONS = (50_000, 100_000)
TRIALS = (10, 100, 1_000, 10_000)
SETS = 20
TRAINED, CENTERED = "pymc_nre, as trained", "pymc_nre, centered"
BOTH = "pymc_nre, centered, then around the posterior"
ALONE, FINER = "pymc_nre, around the posterior", "the last, with accuracy=0.05"
OURS = (TRAINED, CENTERED, BOTH, FINER, ALONE)
NEIGHBORS = {"sbi, NRE_C": ("sbi", ""), "BayesFlow, RatioApproximator": ("bayesflow", "jax")}
KEYS = ("task", "simulations", "estimator", "trials")
NETWORK = nre.networks.MLP((64, 64))  # of ours
REACH = 6  # exact standard deviations to each side, at first


def main():
    options = _options()
    options.work.mkdir(parents=True, exist_ok=True)
    results = Results(options.work / "many_trials.jsonl", KEYS)
    for task in options.tasks:
        for simulations in options.simulations:
            for name in options.only:
                if name in OURS or options.neighbors_python:
                    _measure(Problem(task, simulations, options), name, results)
    text = "\n".join(table.markdown() for table in tables(results.read()))
    path = options.out / f"many_trials_pymc{version('pymc').split('.')[0]}.inc"
    path.write_text(f"{text}\n")
    print(text, path)


def _options():
    parser = parser_of(__doc__)
    parser.add_argument("--only", nargs="+", default=[*OURS, *NEIGHBORS])
    parser.add_argument("--tasks", nargs="+", default=TASKS, choices=TASKS)
    parser.add_argument("--simulations", nargs="+", type=int, default=SIMULATIONS)
    parser.add_argument("--trials", nargs="+", type=int, default=TRIALS, choices=TRIALS)
    parser.add_argument("--neighbors-python", type=Path)
    return parser.parse_args()


def parser_of(description):
    """What takes a folder for results and one for tables."""
    parser = argparse.ArgumentParser(description=description)
    scratch = Path(tempfile.gettempdir()) / "pymc_nre_benchmarks"
    parser.add_argument("--work", type=Path, default=scratch)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks")
    return parser


class Problem:
    """A task, its training simulations, its data sets, and the ratios made of them."""

    def __init__(self, name, simulations, options):
        self.name, self.size, self.options = name, simulations, options
        self.task = getattr(nre.tasks, name)()
        self.simulator = nre.Simulator(self.task.simulator, batched=True)

    def simulations(self):
        return self.task.simulate(self.size, random_seed=1)

    def data_sets(self, n):
        """``SETS`` data sets of n trials, at parameters from the prior."""
        rng = np.random.default_rng((n, 7))
        drawn = self.task.simulate(SETS, random_seed=7).parameters
        for i in range(SETS):
            each = {name: np.repeat(values[i : i + 1], n, axis=0) for name, values in drawn.items()}
            yield self.task.simulator(rng, **each)

    def trained(self):
        """Trained once."""

        def make():
            return nre.train(self.simulations(), network=NETWORK, random_seed=1)

        return self._kept("trained", make)

    def centered(self):
        """Fine-tuned once, with default options."""

        def make():
            online = nre.Online(self.task.prior(), self.task.simulator, batched=True, random_seed=2)
            return nre.center(self.trained(), online, random_seed=3)

        return self._kept("centered", make)

    def _kept(self, kind, make):
        path = self.options.work / f"{self.name}_{self.size}_{kind}.nre"
        if not path.exists():
            began = time.process_time()
            make().save(path)
            print(f"{path.name}: {time.process_time() - began:.0f} s", flush=True)
        return nre.load(path, simulator=self.simulator)

    def around(self, ratio, x, **options):
        """The ratio centered around its posterior given ``x``.

        Each by simulations of its own. With one seed for all data sets these would differ by their
        location and scale only, and so would share one error.
        """
        seed = crc32(x.tobytes())
        rng = np.random.default_rng(seed)
        theta, weights, *_ = posterior(log_density(ratio, x), self.task.posterior(x), fine=2)
        step = np.array([np.diff(np.unique(column)).min() for column in theta.T])
        draws = theta[rng.choice(len(theta), 400, p=weights)]
        draws = draws + step * rng.uniform(-0.5, 0.5, draws.shape)
        margin = 1e-6 * (ratio.domain.upper - ratio.domain.lower)
        draws = draws.clip(ratio.domain.lower + margin, ratio.domain.upper - margin)
        names = list(ratio.parameters)
        draws = {name: (("chain", "draw"), draws[None, :, j]) for j, name in enumerate(names)}
        with self.task.prior() as model:
            nre.RatioLikelihood("x", ratio, observed=x, **{name: model[name] for name in names})
            given = {"posterior": xr.Dataset(draws)}
            return nre.center(ratio, around=given, random_seed=seed, progressbar=False, **options)


def _measure(problem, name, results):
    """All that is not known yet of an estimator."""
    known, shared = results.read(), (problem.name, problem.size, name)
    missing = [n for n in problem.options.trials if (*shared, n) not in known]
    if not missing:
        return
    with _Densities(problem, name) as density_of:
        for n in missing:
            which = dict(zip(KEYS, (*shared, n), strict=True))
            print(results.get(partial(_compared, problem, density_of, n), **which), flush=True)


def _compared(problem, density_of, n):
    """With the exact posteriors of data sets of n trials."""
    began, errors, widths = time.process_time(), [], []
    for x in problem.data_sets(n):
        exact = problem.task.posterior(x)
        _, _, mean, sd = posterior(density_of(x), exact)
        errors.append((mean - packed(exact.mean)) / packed(exact.sd))
        widths.append(sd / packed(exact.sd))
    return {
        "error": np.abs(errors).mean(0).tolist(),
        "largest": np.abs(errors).max(0).tolist(),
        "width": np.mean(widths, 0).tolist(),
        "seconds": round(time.process_time() - began),
    }


class _Densities:
    """A function from data to a function of parameters, in a ``with``."""

    def __init__(self, problem, name):
        self.problem, self.name = problem, name

    def __enter__(self):
        problem = self.problem
        if self.name in OURS:
            ratio = problem.trained() if self.name in (TRAINED, ALONE) else problem.centered()
            if self.name in (TRAINED, CENTERED):
                return lambda x: log_density(ratio, x)
            options = {"accuracy": 0.05} if self.name == FINER else {}
            return lambda x: log_density(problem.around(ratio, x, **options), x)
        library, backend = NEIGHBORS[self.name]
        work, python = problem.options.work, problem.options.neighbors_python
        script = f"many_trials_{library}.py"
        log = work / f"{library}.log"
        self.worker = Worker(python, script, log=log, KERAS_BACKEND=backend).__enter__()
        simulations = problem.simulations()
        inside = np.stack([simulations.theta.min(0), simulations.theta.max(0)])
        self._put(theta=simulations.theta, x=simulations.x.reshape(problem.size, -1))
        self.worker.ask("train", folder=str(work))

        def density_of(x):
            def log_p(theta):
                self._put(theta=theta, x=x.reshape(len(x), -1))
                values = np.array(self.worker.ask("log_density", folder=str(work)))
                return np.where(
                    ((theta >= inside[0]) & (theta <= inside[1])).all(-1), values, -np.inf
                )

            return log_p

        return density_of

    def _put(self, **arrays):
        for name, array in arrays.items():
            np.save(self.problem.options.work / f"{name}.npy", array.astype("float32"))

    def __exit__(self, *exception):
        if hasattr(self, "worker"):
            self.worker.__exit__(*exception)


def log_density(ratio, x):
    """A function of parameters ``(g, D)``: the sum of log ratios, by the kernel."""
    from pymc_nre.kernels.traced.evaluator import CompiledEvaluator
    from pymc_nre.ops.engines.compilable import whole

    rows = x.reshape(len(x), -1)
    evaluator = CompiledEvaluator.of(whole(ratio, walled=True))

    def log_p(theta):
        return np.array([evaluator.value(row[None], rows).sum() for row in theta])

    return log_p


def posterior(log_p, exact, fine=1):
    """Grid ``(g, D)``, weights ``(g,)``, mean and standard deviation ``(D,)``."""
    middle, sd, reach = packed(exact.mean), packed(exact.sd), REACH
    while True:
        steps = np.arange(-reach * fine, reach * fine + 1) / fine
        mesh = np.meshgrid(*[steps] * len(sd), indexing="ij")
        theta = np.stack(mesh, -1).reshape(-1, len(sd)) * sd + middle
        values = log_p(theta)
        weights = np.exp(values - values.max())
        weights /= weights.sum()
        edge = np.any(np.abs(theta - middle) > (reach - 0.5) * sd, axis=-1)
        if weights[edge].sum() < 1e-4 or reach > 50:
            mean = weights @ theta
            return theta, weights, mean, np.sqrt(weights @ (theta - mean) ** 2)
        if edge[values.argmax()]:
            middle = theta[values.argmax()]
        else:
            reach *= 2


def packed(named):
    """One vector ``(D,)`` of named values."""
    return np.concatenate([np.ravel(value) for value in named.values()])


def tables(records):
    """One for each task and number of simulations."""
    for task in TASKS:
        for size in SIMULATIONS:
            found = {key[2:]: row for key, row in records.items() if key[:2] == (task, size)}
            rows = [
                [name, *(_cell(found.get((name, n))) for n in TRIALS)]
                for name in (*OURS, *NEIGHBORS)
                if any((name, n) in found for n in TRIALS)
            ]
            heads = ("estimator", *(f"{n:,} trials" for n in TRIALS))
            if rows:
                yield Table(f"{task}, {size:,} training simulations", heads, rows)


def _cell(row):
    if row is None:
        return "-"
    pairs = zip(row["error"], row["largest"], row["width"], strict=True)
    return "; ".join(f"{error:.2f} ({largest:.2f}), {width:.2f}" for error, largest, width in pairs)


if __name__ == "__main__":
    sys.exit(main())
