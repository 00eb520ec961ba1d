"""What contrasts at every scale leave for `center` to do around posteriors of 1,000 trials.

``python tests/benchmarks/centering_contrasts.py`` trains ratios of location and scale by defaults,
with and without them, and compares their posteriors of twenty data sets with the exact ones: as
trained, and centered around each on 25,000 and 100,000 simulations. It resumes where it was
stopped.
"""

import os
import sys
import warnings
from functools import partial
from itertools import product

from worker import ONE_THREAD

os.environ |= ONE_THREAD

import numpy as np
from contrasts import LOSSES
from many_trials import Problem, _cell, log_density, packed, parser_of, posterior
from results import Results
from tables import Table

import pymc_nre as nre

TASK, TRIALS = "LocationScale", 1_000
ACCURACIES = {"25,000 simulations": 0.2, "100,000 simulations": 0.1}  # TRIALS / accuracy**2
SIMULATIONS = (10_000, 100_000)
KEYS = ("simulations", "loss")


def main():
    options = parser_of(__doc__).parse_args()
    results = Results(options.work / "centering_contrasts.jsonl", KEYS)
    for values in product(SIMULATIONS, LOSSES):
        which = dict(zip(KEYS, values, strict=True))
        print(results.get(partial(_measured, options, **which), **which), flush=True)
    heads = ("training simulations", "contrasts", "as trained", *ACCURACIES)
    table = Table(f"{TASK}, {TRIALS:,} trials", heads, list(_rows(results.read())))
    path = options.out / "centering_contrasts.inc"
    path.write_text(table.markdown() + "\n")
    print(table.markdown(), path)


def _measured(options, simulations, loss):
    problem = Problem(TASK, simulations, options)
    ratio = nre.train(problem.simulations(), loss=LOSSES[loss], random_seed=1, progressbar=False)
    found = {"as trained": [], **{name: [] for name in ACCURACIES}}
    for x in problem.data_sets(TRIALS):
        found["as trained"].append(_compared(problem, ratio, x))
        for name, accuracy in ACCURACIES.items():
            with warnings.catch_warnings():  # of what is measured here: bias, and what is left
                warnings.simplefilter("ignore", nre.TrialsWarning)
                warnings.simplefilter("ignore", nre.TrainingWarning)
                around = problem.around(ratio, x, accuracy=accuracy)
            found[name].append(_compared(problem, around, x))
    return {name: _summary(np.array(each)) for name, each in found.items()}


def _compared(problem, ratio, x):
    """Errors of means in exact sds, and ratios of sds: ``(2, D)``."""
    exact = problem.task.posterior(x)
    _, _, mean, sd = posterior(log_density(ratio, x), exact)
    return (mean - packed(exact.mean)) / packed(exact.sd), sd / packed(exact.sd)


def _summary(found):
    errors, widths = np.abs(found[:, 0]), found[:, 1]
    return {
        "error": errors.mean(0).tolist(),
        "largest": errors.max(0).tolist(),
        "width": widths.mean(0).tolist(),
    }


def _rows(records):
    for (simulations, loss), found in records.items():
        cells = (_cell(found[name]) for name in ("as trained", *ACCURACIES))
        yield [f"{simulations:,}", loss, *cells]


if __name__ == "__main__":
    sys.exit(main())
