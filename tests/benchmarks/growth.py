"""How time grows with observations, width, depth and the number of parameters: our engines."""

import json
from statistics import median

from tables import Table
from worker import ContestantError, Worker

DEFAULT = {"n": 1_000, "width": 64, "depth": 2, "parameters": 1}
PARAMETERS = (1, 2, 4, 10, 20, 50)
# What grows, its values, and what else is not at its default.
SWEEPS = (
    ("n", (10, 100, 1_000, 10_000, 100_000), {}),
    ("width", (32, 64, 128, 256, 512), {}),
    ("depth", (1, 2, 3, 4, 6), {}),
    ("parameters", PARAMETERS, {}),
    ("parameters", PARAMETERS, {"own": True}),
    ("parameters", PARAMETERS, {"own": True, "n": 4_000}),
)
ROUNDS = 5
SECONDS = 0.1


def run(context):
    """A table for each of them, the others at their defaults."""
    log = context.folder / "contestants.log"
    with Worker(context.python, "contestants_growth.py", log=log) as worker:
        engines = worker.ask("describe")["evaluators"]
        return [_sweep(worker, engines, *sweep, context) for sweep in SWEEPS]


def _sweep(worker, engines, what, values, others, context):
    values = values[:2] if context.quick else values
    problems = [DEFAULT | others | {what: value} for value in values]
    times = _times(worker, engines, problems, context)
    rows = [
        [value, *(times.get((row, engine)) for engine in engines)]
        for row, value in enumerate(values)
    ]
    whose = ", theta of its own for each row" if others.get("own") else ""
    fixed = [f"{name} = {others.get(name, DEFAULT[name]):,}" for name in DEFAULT if name != what]
    title = f"Microseconds per value and gradient by {what}{whose} ({', '.join(fixed)})"
    return Table(title, (what, *engines), rows)


def _times(worker, engines, problems, context):
    """Medians by row and engine: all of a table in turn, round after round."""
    measured, names = {}, {}
    for row, problem in enumerate(problems):
        for engine in engines:
            name = json.dumps(problem | {"engine": engine})
            try:
                worker.ask("prepare", name=name, n=problem["n"])
                names[row, engine], measured[row, engine] = name, []
            except ContestantError as error:
                context.say(f"{name}: {error}")
    for _ in range(ROUNDS):
        for which, name in names.items():
            measured[which].append(worker.ask("time", name=name, seconds=SECONDS))
    worker.ask("forget")
    context.record("growth", times={names[which]: times for which, times in measured.items()})
    context.say(f"{problems[0]} to {problems[-1]}: done")
    return {which: median(times) for which, times in measured.items()}
