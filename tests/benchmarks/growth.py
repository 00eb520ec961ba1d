"""How time grows with observations, width, depth and the number of parameters: our engines."""

import json
from statistics import median

from tables import Table
from worker import ContestantError, Worker

DEFAULT = {"n": 1_000, "width": 64, "depth": 2, "parameters": 1}
SWEEPS = {
    "n": (10, 100, 1_000, 10_000, 100_000),
    "width": (32, 64, 128, 256, 512),
    "depth": (1, 2, 3, 4, 6),
    "parameters": (1, 2, 5, 10, 20, 50),
}
ROUNDS = 5
SECONDS = 0.1


def run(context):
    """A table for each of them, the others at their defaults."""
    log = context.folder / "contestants.log"
    with Worker(context.python, "contestants_growth.py", log=log) as worker:
        engines = worker.ask("describe")["evaluators"]
        return [_sweep(worker, engines, what, values, context) for what, values in SWEEPS.items()]


def _sweep(worker, engines, what, values, context):
    rows = []
    for value in values[:2] if context.quick else values:
        problem = DEFAULT | {what: value}
        rows.append([value, *_times(worker, engines, problem, context)])
    fixed = ", ".join(f"{name} = {value:,}" for name, value in DEFAULT.items() if name != what)
    return Table(f"Microseconds per value and gradient by {what} ({fixed})", (what, *engines), rows)


def _times(worker, engines, problem, context):
    n = problem["n"]
    times = {}
    for engine in engines:
        name = json.dumps(problem | {"engine": engine})
        try:
            worker.ask("prepare", name=name, n=n)
            times[name] = []
        except ContestantError as error:
            context.say(f"{name}: {error}")
            times[name] = None
    for _ in range(ROUNDS):
        for name, measured in times.items():
            if measured is not None:
                measured.append(worker.ask("time", name=name, seconds=SECONDS))
    worker.ask("forget")
    context.record("growth", times=times)
    context.say(str(times))
    return [None if measured is None else median(measured) for measured in times.values()]
