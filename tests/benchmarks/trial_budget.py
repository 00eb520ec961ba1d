"""Does `trial_budget` predict the error that is seen? ``python tests/benchmarks/trial_budget.py``.

Takes an hour or two, and resumes. A ratio is trained for each task with default options; its
budget is measured on simulations of their own, and the posteriors of data sets at parameters from
the prior are compared with the exact ones.
"""

import copy
import sys
from functools import partial

import many_trials
import numpy as np
from many_trials import Problem, log_density, packed, parser_of, posterior
from results import Results
from tables import Table

import pymc_nre as nre
from pymc_nre.prior import Prior

TASKS = ("GaussianMean", "LocationScale", "PoissonRate", "HierarchicalGaussian", "GaussianMixture")
SIMULATIONS, MEASURED, SETS = 50_000, 2_000_000, 400
FEWER = {"GaussianMixture": 40}  # whose grids are large
TRIALS = (100, 1_000)


def main():
    options = parser_of(__doc__).parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    results = Results(options.work / "trial_budget.jsonl", ("task", "trials"))
    for name in TASKS:
        problem = Problem(name, SIMULATIONS, options)
        many_trials.SETS = FEWER.get(name, SETS)
        for n in TRIALS:
            results.get(partial(_measured, problem, n), task=name, trials=n)
            print(name, n, flush=True)
    path = options.out / "trial_budget.inc"
    path.write_text(_table(results.read()).markdown())
    print(path.read_text(), path)


def _measured(problem, n):
    ratio = problem.trained()
    budget = nre.trial_budget(
        copy.copy(ratio), problem.task.simulate(MEASURED, random_seed=11), share=0.2
    )
    bias, error = budget.bias(n)
    prior, seen = Prior.of(problem.task.prior()), []

    def log_prior(theta):
        return prior.log_density(ratio.layout.unpack(theta))

    for x in problem.data_sets(n):
        exact = problem.task.posterior(x)
        log_p = log_density(ratio, x)
        _, _, mean, _ = posterior(lambda theta: log_p(theta) + log_prior(theta), exact)  # noqa: B023
        seen.append((mean - packed(exact.mean)) / packed(exact.sd))
    return {
        "predicted": bias.tolist(),
        "predicted_error": error.tolist(),
        "squares": (np.array(seen) ** 2).tolist(),
        "budget": budget.trials,
        "labels": ratio.layout.labels,
    }


def _table(records):
    rows = []
    for (name, n), row in records.items():
        squares = np.array(row["squares"])
        seen = np.sqrt(squares.mean(0))
        error = squares.std(0) / len(squares) ** 0.5 / (2 * seen)
        for j, label in enumerate(row["labels"]):
            predicted = f"{row['predicted'][j]:.2f} ± {row['predicted_error'][j]:.2f}"
            found = f"{seen[j]:.2f} ± {error[j]:.2f}"
            rows.append([f"{name}: {label}", n, predicted, found, row["budget"]])
    heads = ("task and parameter", "trials", "predicted", "seen", "budget")
    return Table("Root mean square error, in exact posterior standard deviations", heads, rows)


if __name__ == "__main__":
    sys.exit(main())
