"""Observations over many powers of ten: ``python -m tests.benchmarks.heavy_tails``, from the root.

A training for each problem and way, by `train`'s defaults: networks that spread heavy tails, and
the same without. Exact posteriors are sums on a grid. Takes some minutes.
"""

import argparse
import warnings
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from scipy import stats

import pymc_nre as nre
from pymc_nre.networks.layers import Standardize

SIMULATIONS = 10_000
# Name: range of the parameter, the simulator, the log density, and what is observed.
PROBLEMS = {
    "Poisson(exp b), b ~ U(-3, 15)": (
        (-3, 15),
        lambda rng, b: rng.poisson(np.exp(b)).astype(float),
        lambda x, b: stats.poisson.logpmf(x, np.exp(b)),
        [0, 1, 5, 20, 100, 400],
    ),
    "Normal(0, 10^s), s ~ U(-6, 2)": (
        (-6, 2),
        lambda rng, s: rng.normal(0, 10.0**s),
        lambda x, s: stats.norm.logpdf(x, 0, 10.0**s),
        [1e-5, -1e-4, 1e-3, -1e-2, 0.1, -1, 10],
    ),
    "Cauchy(m), m ~ U(-5, 5)": (
        (-5, 5),
        lambda rng, m: m + rng.standard_cauchy(len(m)),
        lambda x, m: stats.cauchy.logpdf(x - m),
        [-3, -1, 0, 2, 4, 20],
    ),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    default = Path(__file__).parents[2] / "docs" / "benchmarks"
    parser.add_argument("--out", type=Path, default=default)
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", nre.TrainingWarning)
    lines = [
        "| | x | exact | by mean and spread | with heavy tails spread | error, width |",
        "|---|---|---|---|---|---|",
    ]
    for name in PROBLEMS:
        lines += rows(name, range(1, options.seeds + 1))
        print(*lines[-8:], sep="\n", flush=True)
        (options.out / "heavy_tails.inc").write_text("\n".join(lines) + "\n")


def rows(name, seeds):
    """Lines of the table: one for each observation, and one of all."""
    ends, _, log_density, observed = PROBLEMS[name]
    grid = np.linspace(*ends, 20_001)
    exact = np.array([moments(grid, log_density(x, grid)) for x in observed])
    with straight():
        before = np.array([posteriors(name, grid, seed) for seed in seeds])
    after = np.array([posteriors(name, grid, seed) for seed in seeds])
    lines = []
    for k, x in enumerate(observed):
        told = [f"{mean:.2f} ± {sd:.2f}" for mean, sd in (exact[k], before[0, k], after[0, k])]
        error, width = off(after[:, k], exact[k])
        lines.append(f"| {name} | {x:g} | {' | '.join(told)} | {error:.3f}, {width:.3f} |")
    worst = [off(found, exact) for found in (before, after)]
    told = [f"{error:.3f}, {width:.3f}" for error, width in worst]
    return [*lines, f"| {name}, mean of all | | | {' | '.join(told)} | |"]


def off(found, exact):
    """Mean error in standard deviations, without its sign, and mean ratio of the widths."""
    error = np.abs(found[..., 0] - exact[..., 0]) / exact[..., 1]
    return error.mean(), (found[..., 1] / exact[..., 1]).mean()


def posteriors(name, grid, seed):
    """Mean and standard deviation by each observation, ``(n, 2)``, of one training."""
    ends, simulator, _, observed = PROBLEMS[name]
    rng = np.random.default_rng(seed)
    theta = rng.uniform(*ends, SIMULATIONS)
    simulations = nre.Simulations({"theta": theta}, simulator(rng, theta))
    ratio = nre.train(simulations, random_seed=seed, measure_budget=False, progressbar=False)
    return [moments(grid, ratio.log_ratio(float(x), theta=grid)) for x in observed]


def moments(grid, log_p):
    p = np.exp(log_p - log_p.max())
    p /= p.sum()
    mean = p @ grid
    return mean, np.sqrt(p @ (grid - mean) ** 2)


@contextmanager
def straight():
    """Networks that standardize by mean and spread alone."""
    kept, Standardize.bear_tails = Standardize.bear_tails, lambda self, values: None
    try:
        yield
    finally:
        Standardize.bear_tails = kept


if __name__ == "__main__":
    main()
