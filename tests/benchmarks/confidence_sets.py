"""Coverage of confidence sets: ``python -m tests.benchmarks.confidence_sets``, from the root.

At many values of the parameters, drawn from the training prior, many data sets are simulated, and
it is counted how often sets of 68, 90 and 95 % hold the values: by Wilks' cut and by critical
values that were learned from ``--calibration`` data sets. Three tasks, each by its exact ratio and
by a trained one; the size of learned 90 % sets beside that of the exact likelihood's.

All of it takes hours of one core; what is done is kept in ``--results`` and not done again.
"""

import argparse
import math
from functools import cache, partial
from itertools import product
from pathlib import Path

import numpy as np
import torch

import pymc_nre as nre
from pymc_nre.networks import RatioNetwork
from pymc_nre.point.critical_values import (
    Wilks,
    experiment_of,
    learned,
    simulated_statistics,
    statistic_of,
)
from pymc_nre.point.observed import Observed
from tests.benchmarks.results import Results

LEVELS = np.array([0.68, 0.9, 0.95])
SIMULATIONS = 20_000  # that ratios are trained on
KEYS = "ratio", "task", "trials", "calibration"
SIZES = 50  # data sets whose sets are measured
NAMES = {"exact": "exact ratio", "trained": "trained ratio"}


class Likelihood(RatioNetwork):
    """A log likelihood, up to what depends on x alone: cheaper than a ratio, and as good here."""

    def __init__(self, size, formula):
        super().__init__(size, ())
        self.formula, self.name = formula, formula.__name__

    def embed(self, x):
        return x.reshape(len(x), -1)

    def head(self, theta, features):
        return self.formula(theta, features[..., 0])

    def extra_repr(self):
        return self.name


def mean(theta, x):
    return -0.5 * (x - theta[..., 0]) ** 2


def location_scale(theta, x):
    return -0.5 * ((x - theta[..., 0]) * torch.exp(-theta[..., 1])) ** 2 - theta[..., 1]


def rate(theta, x):
    return x * torch.log(theta[..., 0]) - theta[..., 0]


TASKS = {
    "mean": (nre.tasks.GaussianMean(), mean),
    "location and scale": (nre.tasks.LocationScale(), location_scale),
    "rate": (nre.tasks.PoissonRate(), rate),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    root = Path(__file__).parents[2]
    parser.add_argument("--out", type=Path, default=root / "docs" / "benchmarks")
    parser.add_argument("--results", type=Path, default=Path("confidence_sets.jsonl"))
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=TASKS)
    parser.add_argument("--ratios", nargs="+", default=list(NAMES), choices=NAMES)
    parser.add_argument("--trials", nargs="+", type=int, default=[1, 10, 100, 1_000])
    parser.add_argument("--calibration", type=int, default=2_000)
    parser.add_argument("--values", type=int, default=200)
    parser.add_argument("--sets", type=int, default=200)
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = Results(options.results, KEYS)
    for kind, name, trials in product(options.ratios, options.tasks, options.trials):
        which = dict(zip(KEYS, (kind, name, trials, options.calibration), strict=True))
        found = results.get(partial(covered, which, options.values, options.sets), **which)
        print(found, flush=True)
    write(results.read(), options.out)


@cache
def ratio_of(kind, name):
    """The exact one, up to a function of x, or one that is trained."""
    task, formula = TASKS[name]
    if kind == "exact":
        exact = task.estimator()
        network = Likelihood(exact.layout.size, formula)
        return exact.replace(network=network, normalized=False)
    simulations = task.simulate(SIMULATIONS, random_seed=1)
    ratio = nre.train(simulations, random_seed=1, progressbar=False)
    return ratio.replace(simulator=task.estimator().simulator)


def covered(which, values, sets):
    """Shares of data sets whose sets hold the truth, and their sizes."""
    kind, name, trials, calibration = (which[key] for key in KEYS)
    ratio, rng = ratio_of(kind, name), np.random.default_rng(trials)
    asked, experiment, cuts = prepared(ratio, trials, calibration, rng)
    draws = ratio.domain.draws[ratio.domain.inside(ratio.domain.draws)]
    theta = np.repeat(draws[-values:], sets, axis=0)
    statistics = simulated_statistics(asked, experiment, theta, rng, False)
    found = {"values": values, "sets": sets, "levels": LEVELS.tolist()}
    for method, cut in cuts.items():
        held = [statistics <= cut.cut(theta, level) for level in LEVELS]
        held = np.array(held).reshape(len(LEVELS), values, sets)
        found[method] = {"mean": held.mean((1, 2)).tolist(), "worst": worst_tenth(held)}
    x = experiment.data(draws[-SIZES:], np.random.default_rng(0))
    size = sizes(ratio, x, cuts["calibrated"])
    exact = ratio_of("exact", name)
    own = prepared(exact, trials, calibration, np.random.default_rng(trials))[2]["calibrated"]
    return found | {"size": float(np.median(size / sizes(exact, x, own)))}


def prepared(ratio, trials, calibration, rng):
    """The statistic, how to simulate, and both kinds of critical values."""
    observed = Observed.of(ratio, np.zeros(trials), None, "benchmark")
    asked = statistic_of(observed, "likelihood_ratio", None, 20, "benchmark")
    experiment = experiment_of(observed, None, None, "benchmark")
    cut = learned(asked, experiment, LEVELS, calibration, rng, False)
    return asked, experiment, {"wilks": Wilks(len(asked.places)), "calibrated": cut}


def worst_tenth(held):
    """Coverage in the tenth of values where it is lowest; found by half of the data sets, each.

    It is measured by the other half, so that chance makes none look worse than it is.
    """
    halves = held[..., ::2], held[..., 1::2]
    shares = []
    for one, other in (halves, halves[::-1]):
        tenth = math.ceil(held.shape[1] / 10)
        order = np.argsort(one.mean(2), axis=1)[:, :tenth]
        shares.append(np.take_along_axis(other.mean(2), order, axis=1).mean(1))
    return np.mean(shares, axis=0).tolist()


def sizes(ratio, x, cut):
    options = {"critical_values": cut, "progressbar": False}
    return nre.point.confidence_set(ratio, x, level=0.9, **options).size


def write(records, out):
    lines = ["| ratio | task | trials | values, sets | Wilks: 68 % | 90 % | 95 % "]
    lines[0] += "| learned from | 68 % | 90 % | 95 % | size |"
    lines.append("|---|---|" + "---:|" * 10)
    for (kind, task, trials, calibration), found in sorted(records.items()):
        cells = [NAMES[kind], task, f"{trials:,}", f"{found['values']}, {found['sets']}"]
        for method in ("wilks", "calibrated"):
            pairs = zip(found[method]["mean"], found[method]["worst"], strict=True)
            cells += [f"{calibration:,}"] * (method == "calibrated")
            cells += [f"{average:.3f} ({low:.2f})" for average, low in pairs]
        lines.append(f"| {' | '.join(cells)} | {found['size']:.2f} |")
    text = "\n".join(lines) + "\n"
    (out / "confidence_sets.inc").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
