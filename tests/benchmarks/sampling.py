"""The whole problem: 4 chains x (1,000 + 1,000) draws for 10 observations, on one core."""

from statistics import median

import arviz as az
import numpy as np
import problem
from tables import Table

SETTINGS = {"chains": 4, "tune": 1_000, "draws": 1_000}
QUICK = {"chains": 4, "tune": 100, "draws": 100}
WARM_UP = {"chains": 1, "tune": 5, "draws": 5}
_LONG = 20.0  # seconds; who takes longer is run once
_COLUMNS = ("contestant", "seconds", "ESS", "ESS / s", "mean", "sd", "in units of ours: seconds")
_COLUMNS += ("ESS / s of ours over theirs",)


def run(context):
    """A table for each sampler."""
    with context.contestants() as contestants:
        results = _measure(contestants, context)
        libraries = contestants.libraries()
    mean, sd = problem.exact_posterior(problem.observations())
    note = f"Exact posterior: mean {mean:.3f}, sd {sd:.3f}. Neighbors: {libraries}."
    return [
        _table(kind, results, note)
        for kind in ("slice", "NUTS")
        if any(f"| {kind}" in name for name in results)
    ]


def _measure(contestants, context):
    """Lists of ``(seconds, ess, mean, sd)`` by name."""
    settings = QUICK if context.quick else SETTINGS
    path = str(context.folder / "draws.npy")
    names = contestants.names("samplers")
    ready = contestants.try_each(
        "samplers", names, "sample", context.say, path=path, seed=0, **WARM_UP
    )
    results = {name: [] for name in ready}
    context.say("warm")
    for seed in range(1, 2 if context.quick else context.rounds + 1):
        for name, done in results.items():
            if done and done[0][0] > _LONG:
                continue
            seconds = contestants.ask("samplers", name, "sample", path=path, seed=seed, **settings)
            draws = np.load(path)
            done.append((seconds, float(az.ess(draws)), float(draws.mean()), float(draws.std())))
            context.say(f"{name}: {done[-1]}")
    context.record("sampling", settings=settings, results=results)
    return results


def _table(kind, results, note):
    rows = {
        name.split(" | ")[0] + name.split(" | ")[1].removeprefix(kind): _medians(done)
        for name, done in results.items()
        if f"| {kind}" in name
    }
    ours = rows[next(name for name in rows if name.startswith("pymc_nre"))]
    lines = [[name, *row, row[0] / ours[0], ours[2] / row[2]] for name, row in rows.items()]
    return Table(f"Sampler: {kind}", _COLUMNS, lines, note)


def _medians(done):
    seconds, ess, mean, sd = (median(column) for column in zip(*done, strict=True))
    return seconds, ess, median(row[1] / row[0] for row in done), mean, sd
