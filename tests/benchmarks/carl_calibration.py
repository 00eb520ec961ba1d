"""Calibrated CARL: errors of posteriors and coverage, with calibration and without.

``python tests/benchmarks/carl_calibration.py``, a quarter of an hour of one core; resumes. Four
problems of a normal mean, whose posterior is known: one where the reference makes no observations
like those of most parameters, one that is learned well, one of few simulations of 20 numbers of
which one tells anything, and a training that was stopped too early. Each ratio is calibrated on
10,000 fresh simulations, and beside it stands one that was trained on those, too. Writes the table
of docs/training.md.
"""

import argparse
import sys
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import pymc as pm
import torch
from results import Results
from scipy.special import softmax
from tables import Table

import pymc_nre as nre

FRESH, SETS, POINTS = 10_000, 50, 301
DOCS = Path(__file__).parents[2] / "docs" / "benchmarks"
QUIET = {"progressbar": False, "batched": True}


@dataclass(frozen=True)
class Problem:
    """A normal mean below ``widest``, and how it is learned."""

    widest: float
    n: int  # to train on
    trials: int
    numbers: int = 1  # of an observation; the first one tells of the mean
    training: dict = field(default_factory=dict)

    @property
    def prior(self):
        return {"mu": pm.Uniform.dist(-self.widest, self.widest)}

    def simulator(self, rng, mu):
        x = rng.normal(size=(len(mu), self.numbers))
        x[:, 0] += mu
        return x

    def simulate(self, n, seed):
        """Simulations of the prior, and of the reference."""
        seeds = np.random.SeedSequence(seed).generate_state(2)
        drawn = nre.simulate(self.prior, self.simulator, n, random_seed=int(seeds[0]), **QUIET)
        return drawn, nre.simulate(
            self.prior, self.simulator, n, at={"mu": 0.0}, random_seed=int(seeds[1]), **QUIET
        )

    def train(self, n, seed):
        drawn, reference = self.simulate(n, (seed, 0))
        loss = nre.losses.CARL(reference)
        options = {"measure_budget": False, "random_seed": seed, "progressbar": False}
        return nre.train(drawn, loss=loss, **options, **self.training)


PROBLEMS = {
    "no overlap": Problem(10.0, 10_000, 10),
    "learned well": Problem(2.0, 10_000, 30),
    "few and noisy": Problem(2.0, 1_000, 30, numbers=20),
    "stopped early": Problem(2.0, 5_000, 30, training={"epochs": 1}),
}
CALIBRATIONS = {
    "isotonic": {},
    "histogram": {"method": "histogram"},
    "kernel": {"method": "kernel"},
    "isotonic, one region": {"regions": 1},
}
WAYS = ["plain", *CALIBRATIONS, "trained on all"]


def one_training(problem, seed):
    """What each way gives, of one training, by ``way``."""
    ratio = problem.train(problem.n, seed)
    fresh = problem.simulate(FRESH, (seed, 1))
    ratios = {"plain": ratio}
    for way, options in CALIBRATIONS.items():
        ratios[way] = nre.calibrate(ratio, *fresh, **options)
    ratios["trained on all"] = problem.train(problem.n + FRESH, seed)
    return {way: measured(problem, each, seed) for way, each in ratios.items()}


def measured(problem, ratio, seed):
    """Errors of posterior means in exact standard deviations, widths, and ranks of the truth."""
    rng = np.random.default_rng(seed)
    truths = rng.uniform(-problem.widest, problem.widest, SETS)
    x = problem.simulator(rng, np.repeat(truths, problem.trials)).reshape(SETS, problem.trials, -1)
    mu = np.linspace(-problem.widest, problem.widest, POINTS)
    table = ratio.evaluator.table(mu[None, :, None], x.reshape(-1, problem.numbers))
    found = softmax(table.reshape(SETS, problem.trials, POINTS).sum(1), axis=1)
    exact = softmax(-problem.trials * (mu - x[:, :, :1].mean(1)) ** 2 / 2, axis=1)
    (mean, sd), (right, width) = (moments(mu[:, None], each) for each in (found, exact))
    return {
        "truth": truths.tolist(),
        "error": ((mean - right) / width).tolist(),
        "width": (sd / width).tolist(),
        "rank": np.where(mu < truths[:, None], found, 0).sum(1).tolist(),
    }


def moments(mu, weights):
    mean = (weights @ mu)[:, 0]
    return mean, np.sqrt(np.maximum((weights @ mu**2)[:, 0] - mean**2, 1e-12))


def row(name, way, records):
    """Of all data sets of all trainings."""
    of = {key: np.concatenate([each[way][key] for each in records]) for key in records[0][way]}
    far = np.abs(of["truth"]) > 0.75 * PROBLEMS[name].widest
    return [
        name,
        way,
        f"{root_mean_square(of['error']):.2f}",
        f"{np.median(np.abs(of['error'])):.2f}",
        f"{root_mean_square(of['error'][far]):.2f}",
        f"{np.mean(of['width']):.2f}",
        f"{np.mean(np.abs(of['rank'] - 0.5) < 0.45):.2f}",
    ]


def root_mean_square(values):
    return np.sqrt(np.mean(np.square(values)))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--work", type=Path, default=Path("benchmark_results"))
    parser.add_argument("--out", type=Path, default=DOCS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = Results(options.work / "carl_calibration.jsonl", ("problem", "seed"))
    rows = []
    for name, problem in PROBLEMS.items():
        records = []
        for seed in range(1, options.seeds + 1):
            compute = partial(one_training, problem, seed)
            records.append(results.get(compute, problem=name, seed=seed))
            print(name, seed, flush=True)
        rows += [row(name, way, records) for way in WAYS]
    heads = ("problem", "ratio", "error", "median", "far out", "width", "coverage of .9")
    note = (
        f"Of {options.seeds} trainings and {SETS} data sets for each, with parameters of the "
        "prior: root mean square and median size of the errors of posterior means in exact "
        "standard deviations, the former also of the outer quarter of the parameters; widths over "
        "the exact ones, on average; and the share of data sets whose central interval of 90 % "
        "holds the parameter."
    )
    title = f"CARL, calibrated on {FRESH:,} fresh simulations"
    path = options.out / "carl_calibration.inc"
    path.write_text(Table(title, heads, rows, note).markdown())
    print(path.read_text())


if __name__ == "__main__":
    sys.exit(main())
