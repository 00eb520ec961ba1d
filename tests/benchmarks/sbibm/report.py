"""Results beside published numbers, as tables for the documentation."""

from itertools import product

import numpy as np

from ..tables import Table
from .catalog import TASKS
from .published import BUDGETS, METHODS, published

_DRAWS = 10_000  # of the published comparison
WHOLE = {  # recipes that take an observation as a whole: `train`'s defaults
    "default": "one network",
    "default_five": "five networks",
}
POINTS = {  # recipes that know of what points an observation consists
    "points": "one network, `train`'s defaults",
    "points_five": "mean of five such networks",
}


def comparison(records, n):
    """Ours beside others at ``n`` simulations, all of that budget."""
    rows = [_row(task, [r for r in records if r["task"] == task], n) for task in TASKS]
    shown = [row for row in rows if row[-1] != "-"]
    columns = [[row[k] for row in shown] for k in range(1, len(METHODS) + len(WHOLE) + 1)]
    means = [float(np.mean(c)) if c and None not in c else None for c in columns]
    rows.append(["mean" if len(shown) == len(rows) else "mean of these", *means, "", "", ""])
    columns = ("task", *METHODS, *WHOLE.values(), "smallest to largest", "observations", "seeds")
    return Table(f"C2ST at {n:,} simulations{_fewer(records)}", columns, rows)


def exactness(records):
    """The sampler with the likelihood in place of a ratio."""
    rows = []
    for task in TASKS:
        row = _ours([r for r in records if r["task"] == task])
        if row[0] is not None:
            rows.append([task, *row[:-1]])
    columns = ("task", "exact likelihood" + _fewer(records), "smallest to largest", "observations")
    return Table("C2ST with the likelihood itself", columns, rows)


def structure(records):
    """Ratios of single points, which add up to that of an observation, beside published ones."""
    rows = []
    for task, n, recipe in product(TASKS, BUDGETS, POINTS):
        which = {"task": task, "simulations": n, "recipe": recipe}
        row = _ours([r for r in records if which.items() <= r.items()])
        if row[0] is not None:
            others = published()[task]
            rows.append([task, n, POINTS[recipe], *(others[m][n] for m in METHODS), *row])
    columns = ("task", "simulations", "ours, as points", *METHODS)
    columns += ("pymc_nre" + _fewer(records), "smallest to largest", "observations", "seeds")
    return Table("C2ST, using structure: as independent points", columns, rows)


def _row(task, records, n):
    others = published()[task]
    ours = [_ours([r for r in records if r["recipe"] == recipe]) for recipe in WHOLE]
    measured = [row for row in ours if row[0] is not None] or ours[:1]
    seeds = " and ".join(str(row[-1]) for row in measured)
    means = *(others[m][n] for m in METHODS), *(row[0] for row in ours)
    return [task, *means, *measured[-1][1:-1], seeds]


def _ours(records):
    """Mean, range, observations, and number of seeds."""
    if not records:
        return None, "-", "-", "-"
    values = [record["c2st"] for record in records]
    numbers, seeds = (sorted({r[key] for r in records}) for key in ("observation", "seed"))
    spread = f"{min(values):.3f} to {max(values):.3f}"
    return float(np.mean(values)), spread, ", ".join(map(str, numbers)), len(seeds)


def _fewer(records):
    """A label for results of fewer draws than the published ones."""
    draws = min((record["draws"] for record in records), default=_DRAWS)
    return "" if draws >= _DRAWS else f" ({draws:,} draws)"
