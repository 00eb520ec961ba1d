"""The whole problem: 4 chains on one core for 10 observations, 1,000, and 20 groups of 50."""

from statistics import median

import arviz as az
import numpy as np
import problem
from tables import Table

SETTINGS = {"chains": 4, "tune": 1_000, "draws": 1_000}
QUICK = {"chains": 2, "tune": 20, "draws": 20}
WARM_UP = {"chains": 1, "tune": 5, "draws": 5}
# Takes 20 to 30 ms for each value and gradient: a tenth of the draws.
_SHORTER = {"setu, PyMC export | NUTS": 10}
_LONG = 20.0  # seconds; who takes longer is run once
_COLUMNS = ("contestant", "draws", "seconds", "ESS", "ESS / s", "mean", "sd")
_COLUMNS += ("ESS / s of ours over theirs",)


def run(context):
    """A table for each sampler and data set; slice samplers for the smallest only."""
    few, *others = problem.DATA
    with context.contestants() as contestants:
        versions = contestants.libraries()
        return [
            _table(data, kind, *_measure(contestants, data, kind, context), versions)
            for data, kind in [(few, "slice"), *((data, "NUTS") for data in (few, *others))]
        ]


def _measure(contestants, data, kind, context):
    """Lists of ``(draws, seconds, ess, mean, sd)`` by name, and why others have none."""
    names = [name for name in contestants.names("samplers") if f"| {kind}" in name]
    path, failures = str(context.folder / "draws.npy"), {}
    order = {"do": "sample", "say": context.say, "failures": failures, "data": data, "path": path}
    ready = contestants.try_each("samplers", names, seed=0, **order, **WARM_UP)
    results = {name: [] for name in ready}
    for seed in range(1, 2 if context.quick else context.rounds + 1):
        for name, done in results.items():
            if not done or done[0][1] < _LONG:
                settings = _settings(name, context.quick)
                taken = contestants.try_each("samplers", [name], seed=seed, **order, **settings)
                done += [(settings["draws"], it, *_summary(path)) for it in taken.values()]
                context.say(f"{data}, {name}: {done}")
    context.record("sampling", data=data, kind=kind, results=results, failures=failures)
    return {name: done for name, done in results.items() if done}, failures


def _settings(name, quick):
    if quick:
        return QUICK
    shorter = _SHORTER.get(name, 1)
    return SETTINGS | {key: SETTINGS[key] // shorter for key in ("tune", "draws")}


def _summary(path):
    """The least effective sample size of all parameters; moments of the first."""
    draws = np.load(path)
    ess = min(float(az.ess(draws[..., i])) for i in range(draws.shape[-1]))
    return ess, float(draws[..., 0].mean()), float(draws[..., 0].std())


def _table(data, kind, results, failures, versions):
    rows = {_shown(name, kind): _medians(done) for name, done in results.items()}
    ours = next(row for name, row in rows.items() if name.startswith("pymc_nre"))
    lines = [[name, *row, ours[3] / row[3]] for name, row in rows.items()]
    left_out = [f"{_shown(name, kind)}: {why.rstrip('.')}." for name, why in failures.items()]
    return Table(
        f"{kind}, {data}",
        _COLUMNS,
        lines,
        " ".join(filter(None, [_exact(data), *left_out, versions])),
    )


def _shown(name, kind):
    contestant, sampler = name.split(" | ")
    return contestant + sampler.removeprefix(kind)


def _medians(done):
    draws, seconds, ess, mean, sd = (median(column) for column in zip(*done, strict=True))
    return draws, seconds, ess, median(row[2] / row[1] for row in done), mean, sd


def _exact(data):
    x = problem.DATA[data]()
    if x.ndim > 1:
        return "Mean and sd of the groups' center; the plain model has the exact likelihood."
    mean, sd = problem.exact_posterior(x)
    return f"Exact posterior: mean {mean:.3f}, sd {sd:.3f}."
