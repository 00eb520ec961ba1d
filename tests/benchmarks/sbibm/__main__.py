"""The sbibm benchmark: ``python -m tests.benchmarks.sbibm``, from the root of the repository.

Trains one ratio for each task, draws posteriors of observations 1 to 5, and compares them with
the published draws. A killed run goes on where it was: networks and results are kept in the
folder of ``--work``. Writes the tables that docs/benchmarks.md includes.
"""

import os
import time
from functools import partial
from itertools import product

# Before NumPy and torch are imported: the arrays are small, and other processes want cores too.
os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")

import numpy as np

from ..results import Results
from .catalog import TASKS
from .classifier_test import c2st
from .options import parser as command_line
from .published import BUDGETS
from .recipes import RECIPES, combined, trained
from .references import References
from .report import POINTS, WHOLE, comparison, exactness, structure
from .sampler import sample

_KEYS = ("task", "recipe", "simulations", "observation", "draws", "seed")
_EXACT = "exact"  # stands for a recipe where the likelihood takes the place of a ratio


def main():
    """Fill in what is missing, then write the tables."""
    options = _options()
    results = Results(options.work / "results.jsonl", _KEYS)
    references = References(options.cache)
    for job in _jobs(options):
        record = results.get(partial(_measure, job, references, options.work), **job)
        print(*(record[key] for key in (*_KEYS, "c2st")), flush=True)
    _write_tables(list(results.read().values()), options)


def _jobs(options):
    """What is to be measured, in such an order that no task waits until others are complete."""
    budgets = [0] if options.exact else options.simulations
    seeds = [0] if options.exact else options.seeds
    for n, seed, number, task in product(budgets, seeds, options.observations, options.tasks):
        values = task, _recipe(options), n, number, options.draws, seed
        yield dict(zip(_KEYS, values, strict=True))


def _recipe(options):
    return _EXACT if options.exact else options.recipe


def _measure(which, references, work):
    """C2ST of one observation, and how many seconds its parts took."""
    task, number = TASKS[which["task"]], which["observation"]
    x = references.observation(task, number)
    seconds = {}
    with _timed(seconds, "training"):
        log_ratio = _log_ratio(task, x, which, work)
    with _timed(seconds, "sampling"):
        rng = np.random.default_rng(number)
        draws = task.natural(sample(task.prior, log_ratio, which["draws"], rng))
    with _timed(seconds, "c2st"):
        # Draws in random order, for the sampler leaves them so; the reference is cut to as many.
        accuracy = c2st(references.draws(task, number)[: which["draws"]], draws)
    return {"c2st": accuracy, "seconds": seconds}


def _log_ratio(task, x, which, work):
    """A function of coordinates ``(n, D)``, of a ratio or of the likelihood itself."""
    if which["recipe"] == _EXACT:
        return lambda theta: task.log_likelihood(theta, x)
    # The network of one is the first of five.
    n, seed = which["simulations"], which["seed"]
    folder = work / which["recipe"].removesuffix("_five") / task.name / str(n) / f"seed_{seed}"
    recipe = RECIPES[which["recipe"]]
    ratios = trained(task, n, recipe, folder, seed)
    features = task.features(x)
    return combined(ratios, task.as_points(features[None])[0] if recipe.iid else features)


class _timed:  # noqa: N801  # used like a function
    """Seconds of the processor, which others on the machine do not lengthen."""

    def __init__(self, seconds, name):
        self.seconds, self.name = seconds, name

    def __enter__(self):
        self.began = time.process_time()

    def __exit__(self, *exception):
        self.seconds[self.name] = round(time.process_time() - self.began, 1)


def _write_tables(records, options):
    """One file for each budget that has results, one for the exact likelihood, one for points."""
    records = [r for r in records if r["draws"] == options.draws]
    of_points = not options.exact and RECIPES[options.recipe].iid
    tables = {}
    if options.exact:
        tables["exact"] = exactness([r for r in records if r["recipe"] == _EXACT])
    if of_points:
        tables["points"] = structure([r for r in records if r["recipe"] in POINTS])
    for n in () if options.exact or of_points else BUDGETS:
        at_n = [r for r in records if r["simulations"] == n and r["recipe"] in WHOLE]
        if at_n:
            tables[str(n)] = comparison(at_n, n)
    options.out.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        path = options.out / f"sbibm_{name}.inc"
        path.write_text(table.markdown())
        print(f"\n{table.markdown()}\n{path}", flush=True)


def _options():
    parser = command_line("sbibm", __doc__)
    parser.add_argument("--simulations", nargs="+", type=int, default=[10_000], metavar="N")
    parser.add_argument("--recipe", choices=RECIPES, default="default_five")
    parser.add_argument("--exact", action="store_true", help="the likelihood instead of a ratio")
    return parser.parse_args()


if __name__ == "__main__":
    main()
