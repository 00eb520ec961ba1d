"""What the budget and the report take beside the training.

``python tests/benchmarks/report_cost.py``. Seconds of the processor, one thread, all in one run of
a few minutes; writes the table of docs/diagnostics.md.
"""

import sys
import time
from pathlib import Path

import numpy as np
import pymc as pm
import torch
from tables import Table

import pymc_nre as nre
from pymc_nre.training.unseen import with_budget

QUIET = {"random_seed": 1, "progressbar": False}
PAIRS, MOST = 2_000, 0.25


def main():
    torch.set_num_threads(1)
    rows = [[name, *measured(*make())] for name, make in PROBLEMS.items()]
    heads = ("problem", "training", "budget", "report", "report, with data", "all of training")
    title = "Seconds of the processor; the last column is the budget and the report with data"
    path = Path(__file__).parents[2] / "docs" / "benchmarks" / "report_cost.inc"
    path.write_text(Table(title, heads, rows).markdown())
    print(path.read_text())
    for _, training, budget, _, report, _ in rows:
        assert budget <= MOST * training
        assert budget + report <= training


def measured(n, prior, simulator, network=None):
    """Seconds of each, and what budget and report are of the training."""

    def simulate(m, seed):
        options = {"batched": True, "random_seed": seed, "progressbar": False}
        return nre.simulate(prior, simulator, m, **options)

    simulations, pairs, data = simulate(n, 1), simulate(PAIRS, 2), simulate(3, 3).x
    training, ratio = timed(
        lambda: nre.train(simulations, network=network, measure_budget=False, **QUIET)
    )
    held_out = np.random.default_rng(1).permutation(n)[: n // 10]
    budget, _ = timed(lambda: with_budget(ratio, simulations, [held_out]))
    plain, _ = timed(lambda: nre.diagnostics.report(ratio, pairs, **QUIET))
    full, _ = timed(lambda: nre.diagnostics.report(ratio, pairs, data, **QUIET))
    return training, budget, plain, full, f"{(budget + full) / training:.0%}"


def timed(call):
    """Seconds of the processor, and what it returns."""
    start = time.process_time()
    result = call()
    return time.process_time() - start, result


def of_task(name, n):
    task = getattr(nre.tasks, name)()
    return n, task.prior(), task.simulator


def of_sets():
    """Ten numbers in an observation, pooled."""

    def simulator(rng, mu, log_sigma):
        return rng.normal(mu[:, None], np.exp(log_sigma)[:, None], (len(mu), 10))

    prior = {"mu": pm.Uniform.dist(-5, 5), "log_sigma": pm.Uniform.dist(-1, 1)}
    network = nre.networks.MLP((64, 64), embedding=nre.networks.DeepSet())
    return 10_000, prior, simulator, network


PROBLEMS = {
    "GaussianMean, 10,000": lambda: of_task("GaussianMean", 10_000),
    "LocationScale, 50,000": lambda: of_task("LocationScale", 50_000),
    "PoissonRate, 20,000": lambda: of_task("PoissonRate", 20_000),
    "sets of ten, DeepSet, 10,000": of_sets,
}


if __name__ == "__main__":
    sys.exit(main())
