"""Rounds on the sbibm tasks: ``python -m tests.benchmarks.rounds``, from the root.

All simulations for one observation, by both methods of `pymc_nre.rounds`, beside one round of as
many and beside published numbers; and how much of the reference posterior lies outside of what was
kept. A killed run goes on where it was.
"""

import os
import time
import warnings
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

# Before NumPy and torch are imported: the arrays are small, and other processes want cores too.
os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")

import numpy as np

import pymc_nre as nre

from .results import Results
from .sbibm.catalog import TASKS
from .sbibm.classifier_test import c2st
from .sbibm.options import parser as command_line
from .sbibm.published import published
from .sbibm.recipes import RECIPES, combined, trained
from .sbibm.references import References
from .sbibm.sampler import sample
from .tables import Table

METHODS = ("one round", "truncated", "posterior")
KEYS = ("task", "method", "simulations", "rounds", "observation", "draws", "seed")


def main():
    """Fill in what is missing, then write the tables."""
    options = _options()
    results = Results(options.work / "rounds.jsonl", KEYS)
    references = References(options.cache)
    for which in _jobs(options):
        record = results.get(partial(_measure, which, references, options), **which)
        print(*record.values(), flush=True)
    records = [r for r in results.read().values() if _same(r, options)]
    path = options.out / "rounds.inc"
    path.write_text("\n".join(table.markdown() for table in tables(records, options)))
    print(f"\n{path.read_text()}\n{path}", flush=True)


def _same(record, options):
    wanted = {"simulations": options.simulations, "draws": options.draws}
    return wanted.items() <= record.items() and all(
        record[key] in vars(options)[f"{key}s"] for key in ("observation", "method", "seed")
    )


def _jobs(options):
    """All tasks by all methods, then the next observation."""
    order = product(options.seeds, options.observations, options.tasks, options.methods)
    for seed, number, task, method in order:
        rounds = 1 if method == "one round" else options.rounds
        values = task, method, options.simulations, rounds, number, options.draws, seed
        yield dict(zip(KEYS, values, strict=True))


def _measure(which, references, options):
    """C2ST of one observation, and what was cut off."""
    task, number, n = TASKS[which["task"]], which["observation"], which["draws"]
    x, rng = task.features(references.observation(task, number)), np.random.default_rng(number)
    reference, began = references.draws(task, number), time.process_time()
    prior = task.prior
    if which["method"] == "one round":
        folder = options.work / "one_round" / task.name / str(which["simulations"])
        ratio, told = trained(task, which["simulations"], RECIPES["default"], folder)[0], {}
        log_ratio = combined([ratio], x)
    else:
        found = _rounds(task, x, which)
        log_ratio = _within(found.ratio, combined([found.ratio], x))
        prior = _Inside(task.prior, found.ratio.domain.draws)
        told = _told(found, task, reference)
    told["seconds"] = round(time.process_time() - began, 1)
    draws = task.natural(sample(prior, log_ratio, n, rng))
    return {"c2st": c2st(reference[:n], draws)} | told


def _rounds(task, x, which):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", nre.SimulationWarning)
        return nre.rounds(
            task.training_prior(),
            task.simulator,
            which["simulations"],
            observed=x,
            rounds=which["rounds"],
            method=which["method"],
            batched=True,
            random_seed=which["seed"],
            progressbar=False,
        )


@dataclass(frozen=True)
class _Inside:
    """A prior whose draws are inside of a domain, which may be a millionth of it."""

    prior: Any
    inside: np.ndarray

    def draw(self, rng, n):
        return rng.choice(self.inside, n)

    def log_density(self, theta):
        return self.prior.log_density(theta)


def _within(ratio, log_ratio):
    """The log ratio of coordinates ``(n, D)``, which is nothing outside of the domain."""

    def bounded(theta):
        return np.where(ratio.domain.inside(theta), log_ratio(theta), -np.inf)

    return bounded


def _told(found, task, reference):
    """What is said of the last round, and how much of the reference is outside of what it keeps."""
    theta = np.log(reference) if task.natural is np.exp else reference
    last = found.table.isel(round=-1)
    return {
        "lost": float((~found.ratio.domain.inside(theta)).mean()),
        "volume": float(last["kept_volume"]),
        "ess": float(last["ess"]),
        "trained": int(found.table.sizes["round"]),
    }


def tables(records, options):
    """C2ST beside others; what was cut off."""
    measured = {task: [r for r in records if r["task"] == task] for task in TASKS}
    measured = {task: its for task, its in measured.items() if its}
    methods = [m for m in METHODS if any(r["method"] == m for r in records)]
    yield _of_accuracy(measured, methods, options)
    yield _of_losses(measured, [m for m in methods if m != "one round"])


def _of_accuracy(measured, methods, options):
    n, rows = options.simulations, []
    for task, records in measured.items():
        others = [published()[task][name].get(n) for name in ("SNRE", "best published")]
        means = [_mean(records, method, "c2st") for method in methods]
        numbers = sorted({r["observation"] for r in records})
        rows.append([task, *others, *means, ", ".join(map(str, numbers))])
    columns = list(zip(*rows, strict=True))[1:-1]
    name = "mean" if len(rows) == len(TASKS) else "mean of these"
    rows.append([name, *(None if None in c else float(np.mean(c)) for c in columns), ""])
    titles = ("task", "SNRE", "best published", *methods, "observations")
    return Table(f"C2ST at {n:,} simulations in all ({options.draws:,} draws)", titles, rows)


def _of_losses(measured, methods):
    rows = []
    for task, records in measured.items():
        cells = []
        for method in methods:
            own = [r for r in records if r["method"] == method]
            worst = max((r["lost"] for r in own), default=None)
            cells += [
                None if worst is None else f"{worst:.2%}",
                *(_short(_mean(own, method, key)) for key in ("volume", "ess", "seconds")),
            ]
        rows.append([task, *cells])
    told = ("most lost", "kept volume", "ESS", "seconds")
    columns = [f"{method}: {name}" for method in methods for name in told]
    return Table("What rounds keep", ("task", *columns), rows)


def _short(value):
    return None if value is None else f"{value:.2g}" if value < 1 else f"{value:,.0f}"


def _mean(records, method, key):
    found = [r[key] for r in records if r["method"] == method]
    return float(np.mean(found)) if found else None


def _options():
    parser = command_line("rounds", __doc__, work="rounds")
    parser.add_argument("--simulations", type=int, default=10_000, help="in all rounds together")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    return parser.parse_args()


if __name__ == "__main__":
    main()
