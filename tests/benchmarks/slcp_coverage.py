"""Coverage with few simulations: ``python -m tests.benchmarks.slcp_coverage``, from the root.

The first two parameters of SLCP, the other three being nuisance, from 1,024 simulations: by some
losses, by the default one, which contrasts at every scale, and by ensembles of five. Takes some
minutes.
"""

import argparse
from pathlib import Path

import numpy as np
import pymc as pm
import torch

import pymc_nre as nre
from tests.benchmarks.sbibm.catalog import TASKS

LEVELS = np.array([0.5, 0.9, 0.95])
SIMULATIONS, PAIRS, DRAWS = 1_024, 5_000, 1_000
RECIPES = {
    "NRE-A": {"loss": nre.losses.NREA()},
    "NRE-C": {"loss": nre.losses.NREC()},
    "NRE-C, members=5": {"loss": nre.losses.NREC(), "members": 5},
    "every scale": {},
    "every scale, members=5": {"members": 5},
    "BNRE": {"loss": nre.losses.BNRE()},
}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    default = Path(__file__).parents[2] / "docs" / "benchmarks"
    parser.add_argument("--out", type=Path, default=default)
    parser.add_argument("--trainings", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    pairs = simulations(PAIRS, 0)
    lines = ["| trained by | " + " | ".join(f"{level:g}" for level in LEVELS) + " | report says |"]
    lines += ["|---" * (len(LEVELS) + 2) + "|"]
    for name, recipe in RECIPES.items():
        found = [covered(recipe, pairs, seed) for seed in range(1, options.trainings + 1)]
        shares = np.array([shares for shares, _ in found])
        error = shares.std(0, ddof=1) / len(found) ** 0.5
        cells = [f"{m:.3f} ± {e:.3f}" for m, e in zip(shares.mean(0), error, strict=True)]
        verdicts = [verdict for _, verdict in found]
        told = ", ".join(f"{v} ({verdicts.count(v)})" for v in sorted(set(verdicts)))
        lines.append(f"| {name} | {' | '.join(cells)} | {told} |")
        print(lines[-1], flush=True)
    (options.out / "slcp_coverage.inc").write_text("\n".join(lines) + "\n")


def simulations(n, seed):
    task = TASKS["slcp"]

    def simulator(rng, theta, nuisance):
        return task.simulator(rng, np.concatenate([theta, nuisance], axis=1))

    prior = {"theta": pm.Uniform.dist(-3, 3, shape=2), "nuisance": pm.Uniform.dist(-3, 3, shape=3)}
    return nre.simulate(
        prior,
        simulator,
        n,
        parameters=["theta"],
        batched=True,
        random_seed=seed,
        progressbar=False,
    )


def covered(recipe, pairs, seed):
    """Shares of pairs in regions of the levels, and what `coverage` says of them."""
    ratio = nre.train(simulations(SIMULATIONS, seed), **recipe, random_seed=seed, progressbar=False)
    ranks = nre.diagnostics.posterior_ranks(
        ratio, pairs, draws=DRAWS, random_seed=seed, progressbar=False
    )
    found = nre.diagnostics.coverage(ranks, LEVELS)
    return found["coverage"].to_numpy(), found.attrs["verdict"]


if __name__ == "__main__":
    main()
