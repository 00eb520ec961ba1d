"""Does `trial_budget` predict the error that is seen? ``python tests/benchmarks/trial_budget.py``.

Takes an hour or two and 5 GB of memory, and resumes. A ratio of two layers of 64 is trained for
each task; its budget is measured on simulations of their own, and the posteriors of data sets at
parameters from the prior are compared with the exact ones: all of them, and those in the prior's
inner part.
"""

import sys
from functools import cache, partial

import many_trials
import numpy as np
from many_trials import Problem, log_density, packed, parser_of, posterior
from results import Results
from tables import Table

import pymc_nre as nre
from pymc_nre.simulation.prior import Prior

TASKS = ("GaussianMean", "LocationScale", "PoissonRate", "HierarchicalGaussian", "GaussianMixture")
SIMULATIONS, MEASURED, SETS = 50_000, 8_000_000, 400
FEWER = {"GaussianMixture": 40}  # whose grids are large
TRIALS = (100, 1_000)
MARGIN = 0.05  # of the prior of each parameter, at either end, is not in its inner part


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
    ratio, budgets = problem.trained(), _budgets(problem)
    true = ratio.layout.pack(problem.task.simulate(many_trials.SETS, random_seed=7).parameters)
    return {
        "squares": _squares(problem, ratio, n),
        "inner": budgets["inside"](true).tolist(),
        "everywhere": _predicted(budgets["everywhere"], n),
        "within": _predicted(budgets["within"], n),
        "labels": ratio.layout.labels,
    }


@cache
def _budgets(problem):
    """Over the whole prior and over its inner part, and what is inside of that."""
    ratio = problem.trained()
    simulations = problem.task.simulate(MEASURED, random_seed=11)
    low, high = np.quantile(simulations.theta, [MARGIN, 1 - MARGIN], axis=0)

    def inside(theta):
        return ((theta > low) & (theta < high)).all(1)

    kept = inside(simulations.theta)
    within = {name: values[kept] for name, values in simulations.parameters.items()}
    return {
        "inside": inside,
        "everywhere": nre.trial_budget(ratio, simulations),
        "within": nre.trial_budget(ratio, nre.Simulations(within, simulations.x[kept])),
    }


def _predicted(budget, n):
    bias, error = budget.bias(n)
    return {"bias": bias.tolist(), "error": error.tolist(), "budget": budget.trials}


def _squares(problem, ratio, n):
    """Squared errors of each data set's posterior mean, in exact standard deviations."""
    prior, seen = Prior.of(problem.task.prior()), []

    def log_prior(theta):
        return prior.log_density(ratio.layout.unpack(theta))

    for x in problem.data_sets(n):
        exact = problem.task.posterior(x)
        log_p = log_density(ratio, x)
        _, _, mean, _ = posterior(lambda theta: log_p(theta) + log_prior(theta), exact)  # noqa: B023
        seen.append((mean - packed(exact.mean)) / packed(exact.sd))
    return (np.array(seen) ** 2).tolist()


def _table(records):
    rows = []
    for (name, n), row in records.items():
        squares, inner = np.array(row["squares"]), np.array(row["inner"])
        for j, label in enumerate(row["labels"]):
            everywhere = _cells(row["everywhere"], squares, j)
            within = _cells(row["within"], squares[inner], j)
            rows.append([f"{name}: {label}", n, *everywhere, *within])
    heads = ("predicted", "seen", "budget")
    heads = (*heads, *(f"{head}, inner part" for head in heads))
    title = "Root mean square error, in exact posterior standard deviations"
    return Table(title, ("task and parameter", "trials", *heads), rows)


def _cells(predicted, squares, j):
    seen = np.sqrt(squares.mean(0)[j])
    error = squares.std(0)[j] / len(squares) ** 0.5 / (2 * seen)
    told = f"{predicted['bias'][j]:.2f} ± {predicted['error'][j]:.2f}"
    return told, f"{seen:.2f} ± {error:.2f}", predicted["budget"]


if __name__ == "__main__":
    sys.exit(main())
