"""Maximum likelihood: ``python -m tests.benchmarks.maximum_likelihood``, from the root.

Estimates of 1,000 data sets of 100 trials by the exact ratio of every task, beside the exact
optimum: how far they are in standard errors, and how long all of them took in one call, beside a
loop over data sets with scipy on the exact likelihood. Where the exact optimum is beyond the
training domain it is left out and counted. Takes some minutes.
"""

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import minimize

import pymc_nre as nre

TASKS = {
    "mean": nre.tasks.GaussianMean(),
    "location and scale": nre.tasks.LocationScale(),
    "linear model": nre.tasks.LinearGaussian(),
    "rate": nre.tasks.PoissonRate(),
    "mixture": nre.tasks.GaussianMixture(),
    "hierarchy": nre.tasks.HierarchicalGaussian(),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    root = Path(__file__).parents[2]
    parser.add_argument("--out", type=Path, default=root / "docs" / "benchmarks")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=TASKS)
    parser.add_argument("--sets", type=int, default=1_000)
    parser.add_argument("--trials", type=int, default=100)
    options = parser.parse_args()
    torch.set_num_threads(1)
    lines = ["| task | parameters | largest error, in standard errors | at the edge | "]
    lines[0] += "one call, s | loop with scipy, s | ms a data set |"
    lines.append("|---|" + "---:|" * 6)
    for name in options.tasks:
        lines.append(row(name, TASKS[name], options.sets, options.trials))
        print(lines[-1], flush=True)
    (options.out / "maximum_likelihood.inc").write_text("\n".join(lines) + "\n")


def row(name, task, sets, trials):
    ratio = task.estimator()
    theta = ratio.domain.draws[-sets:]
    rng = np.random.default_rng(1)
    parameters = ratio.layout.unpack(np.repeat(theta, trials, axis=0))
    x = task.simulator(rng, **parameters).reshape(sets, trials, *ratio.event_shape).astype(float)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", nre.DomainWarning)
        nre.point.maximum_likelihood(ratio, x[:2], progressbar=False)  # compiles
        began = time.process_time()
        found = nre.point.maximum_likelihood(ratio, x, progressbar=False)
        took = time.process_time() - began
    exact = np.array([ratio.layout.pack(task.maximum_likelihood(one)) for one in x])
    error = np.abs(found["estimate"].to_numpy() - exact) / found["standard_error"].to_numpy()
    known = ~found["at_edge"].to_numpy()
    began = time.process_time()
    for one in x:
        by_scipy(task, ratio, one)
    loop = time.process_time() - began
    worst = error[known].max()
    return (
        f"| {name} | {ratio.layout.size} | {worst:.1g} | {(~known).sum()} | {took:.1f} | "
        f"{loop:.1f} | {1e3 * took / sets:.2g} |"
    )


def by_scipy(task, ratio, x):
    """From the best of twenty draws of the domain, without derivatives, as one would write it."""

    def minus_log_likelihood(theta):
        return -task.log_likelihood(x, **ratio.layout.unpack(theta)).sum()

    starts = ratio.domain.draws[:20]
    best = min(starts, key=minus_log_likelihood)
    bounds = list(zip(ratio.domain.lower, ratio.domain.upper, strict=True))
    return minimize(minus_log_likelihood, best, method="L-BFGS-B", bounds=bounds)


if __name__ == "__main__":
    main()
