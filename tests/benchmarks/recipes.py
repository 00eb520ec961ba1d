"""What options of `train` gain, by the number of simulations.

``python -m tests.benchmarks.recipes``, from the repository's root. On tasks of sbibm a ratio is
trained by each recipe, with one seed, and judged on pairs that it has not seen: by how many nats
its posterior is denser at the true parameters than the prior, on average. This is largest for the
exact posterior, so that a difference tells which of two ratios is closer to it. Takes some hours,
and resumes.
"""

from itertools import product

import numpy as np
from scipy.special import logsumexp

import pymc_nre as nre

from .combinations import measure_all, parser_of
from .sbibm.catalog import TASKS
from .sbibm.recipes import combined, simulations
from .tables import Table

BUDGETS = (1_000, 10_000, 100_000)
CHOSEN = (
    "gaussian_linear_uniform",
    "bernoulli_glm",
    "slcp",
    "gaussian_mixture",
    "two_moons",
    "lotka_volterra",
)
SMALL = nre.networks.MLP((64, 64))
BASE = "`MLP((64, 64))`"  # what the others are compared with
RECIPES = {
    BASE: {"network": SMALL},
    "`MLP((128, 128))`": {"network": nre.networks.MLP((128, 128))},
    "`MLP((64, 64, 64))`": {"network": nre.networks.MLP((64, 64, 64))},
    "`MLP((128, 128, 128))`": {"network": nre.networks.MLP((128, 128, 128))},
    "`weight_decay=1, learning_rate=3e-3, epochs=20`": {
        "network": SMALL,
        "weight_decay": 1.0,
        "learning_rate": 3e-3,
        "epochs": 20,
    },
    "`members=5`": {"network": SMALL, "members": 5},
}
PAIRS, DRAWS = 400, 10_000
KEYS = ("simulations", "task", "recipe")


def main():
    parser = parser_of(__doc__)
    parser.add_argument("--simulations", nargs="+", type=int, default=BUDGETS)
    options = parser.parse_args()
    combinations = product(options.simulations, CHOSEN, RECIPES)
    measure_all("recipes", KEYS, combinations, measured, table, options, tell=mean_of)


def mean_of(found):
    return round(np.mean(found["nats"]), 3)


def measured(budget, task, recipe):
    """Nats of each pair: log posterior density of the true parameters, less that of the prior."""
    task = TASKS[task]
    options = RECIPES[recipe] | {"random_seed": 1, "progressbar": False}
    ratio = nre.train(simulations(task, budget, 1), **options)
    pairs, pool = simulations(task, PAIRS, 2), simulations(task, DRAWS, 3).theta
    return {"nats": [nats(ratio, *pair, pool) for pair in zip(pairs.theta, pairs.x, strict=True)]}


def nats(ratio, theta, x, pool):
    """Of one pair. The truth is one of the draws that the posterior is normalized over."""
    values = combined([ratio], x)(np.concatenate([theta[None], pool]))
    return float(values[0] - logsumexp(values) + np.log(len(values)))


def table(records):
    """What each recipe has over the base: the mean over tasks that both have, and the extremes."""
    heads = ("recipe", *(f"{n:,} simulations" for n in BUDGETS))
    rows = [[name, *(_cell(records, n, name) for n in BUDGETS)] for name in RECIPES if name != BASE]
    return Table("Nats more than two layers of 64", heads, rows).markdown()


def _cell(records, budget, recipe):
    done = [t for t in CHOSEN if all((budget, t, name) in records for name in (recipe, BASE))]
    if not done:
        return "-"
    gained = [
        np.subtract(*(records[budget, task, name]["nats"] for name in (recipe, BASE)))
        for task in done
    ]
    means = [g.mean() for g in gained]
    error = np.sqrt(sum(g.var() / len(g) for g in gained)) / len(gained)
    return f"{np.mean(means):+.2f} ± {error:.2f} ({min(means):+.2f} to {max(means):+.2f})"


if __name__ == "__main__":
    main()
