"""What direct Metropolis has as its stationary law, by heads: no Monte-Carlo noise.

Points of a grid are the states of a chain, its moves are normal steps that are accepted by
`pymc_nre.steps.comparison.Comparison`, and its law is an eigenvector. Where log ratios in cycles
do not add up to nothing there is no density that it is the law of, and it depends on how long
steps are. What a step tells of cycles, ``transitivity``, is computed here over all cycles that its
chain can go.
"""

import warnings
from functools import partial
from itertools import pairwise, product

import numpy as np
import pymc as pm
from direct_problem import (
    LINES,
    PLANES,
    compared,
    far,
    moments,
    normalized,
    to_best,
    to_many,
    trained,
)
from results import Results
from tables import Table

import pymc_nre as nre
from pymc_nre.steps.comparison import Comparison
from pymc_nre.steps.direct_metropolis import _EVERY

KEYS = ("part", "head", "simulations", "seed", "n", "set")
HEADS = ("antisymmetric", "plain", "additive")
TRAININGS = ((10_000, 1),)
TRIALS, SETS = (1, 10, 100), 4
POINTS = {1: 61, 2: 15}  # of an axis, by how many there are
MANY = 100  # points, above which pairs are not compared one by one, as a step does
STEPS = (0.3, 2.4)  # standard deviations of the exact posterior
PLANTED = {1: 8, 2: 1}  # random errors of each kind, by axes
WAVES, SIZES = (
    (0.3, 1.0, 2.0),
    (0.03, 0.1, 0.3, 1.0, 2.0),
)  # in radians per posterior sd; log ratios
BINS = (0.0, 0.03, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, np.inf)


def run(folder, say):
    """Tables of heads, and of what cycles tell."""
    results = Results(folder / "direct_laws.jsonl", KEYS)
    parts = (*LINES, *PLANES)
    for (simulations, seed), part, head in product(TRAININGS, parts, HEADS):
        ratio = trained(folder, part.task, head, simulations, seed)
        for n in TRIALS:
            for k, (truth, x) in enumerate(part.data(n, SETS)):
                which = (str(part), head, simulations, seed, n, k)
                measured = partial(_measured, ratio, part, truth, x)
                results.get(measured, **dict(zip(KEYS, which, strict=True)))
        say(f"{part}, {head}, {simulations} simulations, seed {seed}")
    records = results.read()
    return [_of_heads(records, map(str, parts)), _of_cycles(records), _of_planted()]


def _measured(ratio, part, truth, x):
    """Laws of both steps, by both readings of the head, and what is compared with fixed ones."""
    grid, exact = part.exact(truth, x, POINTS[len(part.ends)])
    given = part.packed(truth, grid)
    if not ratio.is_direct:
        values = np.stack([ratio.evaluator.value(own[None], x).sum() for own in given])
        raw, fixed = values - values[:, None], normalized(values)
    else:
        raw, fixed = _table(ratio, truth, x, given), normalized(to_best(ratio, given, x))
    swapped = (raw - raw.T) / 2
    found = {"fixed": compared(grid, fixed, exact)}
    for step in STEPS:
        width = step * moments(grid, exact)[1]
        law, cycles = _stationary(swapped, grid, width)
        alone, _ = _stationary(raw, grid, width)
        between = {"fixed": far(law, fixed), "transitive": far(law, _potential(swapped, law))}
        own = {"law": compared(grid, law, exact), "raw": compared(grid, alone, exact)}
        found[str(step)] = own | {"cycles": cycles, "from": between}
    return found


def _table(ratio, truth, x, given):
    """Log ratios ``(G, G)`` of the second to the first, as the network gives them."""
    if len(given) > MANY:
        return to_many(ratio, given, given, x).T
    with warnings.catch_warnings(), pm.Model():
        warnings.simplefilter("ignore")
        rv = nre.RatioLikelihood("x", ratio, observed=x, **ratio.layout.unpack(truth))
        comparison = Comparison(pm.modelcontext(None), rv)
    comparison.antisymmetric = True  # both readings are made of one table
    values = [list(ratio.layout.unpack(own).values()) for own in given]
    return np.array([[comparison(one, other) for one in values] for other in values])


def _stationary(logs, grid, width):
    """The stationary law of Metropolis, and the root mean square of its cycles."""
    accepted = np.exp(np.minimum(0.0, logs))
    proposed = np.exp(-0.5 * (((grid - grid[:, None]) / width) ** 2).sum(-1))
    moves = proposed / proposed.sum(1).max() * accepted  # what is left over stays
    np.fill_diagonal(moves, 0.0)
    moves += np.diag(1 - moves.sum(1))
    values, vectors = np.linalg.eig(moves.T)
    law = np.abs(np.real(vectors[:, np.argmax(np.real(values))]))
    law /= law.sum()
    return law, _cycles(logs, law, np.linalg.matrix_power(moves, _EVERY))


def _cycles(logs, law, later):
    """Of three points that are so many steps apart, and different."""
    weights = law[:, None, None] * later[:, :, None] * later[None]
    distinct = 1 - np.eye(len(law))
    weights *= distinct[:, :, None] * distinct[None] * distinct[:, None]
    around = logs[:, :, None] + logs[None] + logs.T[:, None]
    return float(np.sqrt((weights * around**2).sum() / weights.sum()))


def _potential(logs, law):
    """The law by what is nearest to these log ratios among differences."""
    return normalized(law @ logs)


def _of_heads(records, names):
    columns = ("unknown", "trials", "head", "fixed reference", "width")
    for step in STEPS:
        columns += (f"steps of {step}", "width", "raw", "cycles")
    rows = []
    for name, n, head in product(names, TRIALS, HEADS):
        chosen = [
            row for key, row in records.items() if key[:3] == (name, head, 10_000) and key[4] == n
        ]
        if len(chosen) == SETS:
            rows.append([name, n, head, *_cells(chosen, head)])
    return Table(
        "Stationary laws by heads, 10,000 simulations",
        columns,
        rows,
        "Total variation to the exact posterior, means over "
        f"{SETS} data sets; widths are standard deviations over exact ones. Raw is what a plain "
        "head has if swapped parameters are not taken off. Steps in exact standard deviations.",
    )


def _cells(chosen, head):
    yield from (_mean([row["fixed"][what] for row in chosen]) for what in ("far", "width"))
    for step in map(str, STEPS):
        own = [row[step] for row in chosen]
        yield from (_mean([row["law"][what] for row in own]) for what in ("far", "width"))
        yield _mean([row["raw"]["far"] for row in own]) if head == "plain" else None
        yield _mean([row["cycles"] for row in own]) if head != "additive" else None


def _mean(values):
    return f"{np.mean(values):.3f}"


def _of_cycles(records):
    """What goes with cycles that do not close, all trainings and data sets together."""
    found = [row | {"n": key[4]} for key, row in records.items() if key[1] != "additive"]
    rows = []
    for low, high in pairwise(BINS):
        pairs = [(r, r[s]) for r in found for s in map(str, STEPS) if low <= r[s]["cycles"] < high]
        if pairs:
            exact = np.array([own["law"]["far"] for _, own in pairs])
            moved = np.array([own["from"]["transitive"] for _, own in pairs])
            fixed = np.array([row["fixed"]["far"] for row, _ in pairs])
            rows.append(
                [
                    _between(low, high),
                    len(pairs),
                    *(f"{v:.3f}" for v in (np.median(exact), np.quantile(exact, 0.9))),
                    f"{(exact > 0.1).mean():.2f}",
                    *(f"{v:.3f}" for v in (np.median(moved), np.quantile(moved, 0.9))),
                    *(f"{v:.3f}" for v in (np.median(fixed), np.quantile(fixed, 0.9))),
                ]
            )
    return Table(
        "What cycles tell, antisymmetric and plain heads",
        ("cycles", "laws", "exact", "90 %", "above .1", "transitive", "90 %", "fixed", "90 %"),
        rows,
        "Root mean squares of log ratios in cycles. Total variation of the stationary law, median "
        "and upper decile, to the exact posterior; to that by the nearest differences, which is "
        "what cycles alone do; and of the posterior by a fixed reference to the exact one.",
    )


def _of_planted():
    """What errors that close no cycle do to a normal posterior: random waves, taken off swapped."""
    rng, found = np.random.default_rng(3), []
    for axes, waves, size in product(PLANTED, WAVES, SIZES):
        steps = np.linspace(-4, 4, POINTS[axes])
        grid = np.stack(np.meshgrid(*[steps] * axes, indexing="ij"), -1).reshape(-1, axes)
        log_p = -0.5 * (grid**2).sum(-1)
        for _ in range(PLANTED[axes]):
            one, other = (grid @ rng.normal(0, waves, (axes, 20)) for _ in range(2))
            error = np.sin(one + rng.uniform(0, 7, 20)) @ np.cos(other + rng.uniform(0, 7, 20)).T
            logs = log_p - log_p[:, None] + size * (error - error.T) / 20**0.5
            for step in STEPS:
                law, cycles = _stationary(logs, grid, step * np.ones(axes))
                found.append((cycles, far(law, _potential(logs, law))))
    cycles, moved = np.array(found).T
    rows = []
    for low, high in pairwise(BINS):
        own = moved[(cycles >= low) & (cycles < high)]
        if len(own):
            quantiles = (f"{np.quantile(own, q):.3f}" for q in (0.5, 0.9, 1.0))
            rows.append([_between(low, high), len(own), *quantiles])
    return Table(
        "What cycles that were planted do",
        ("cycles", "laws", "total variation", "90 %", "largest"),
        rows,
        "A normal posterior of one or two parameters, whose log ratios are off by random waves "
        "with the sign of an order; to the law by the nearest differences.",
    )


def _between(low, high):
    return f"{low:g} to {high:g}" if np.isfinite(high) else f"above {low:g}"
