"""What a direct ratio is compared with: fixed parameters of several choices, or prior draws.

Posteriors are sums on a grid of what a model of `RatioLikelihood` computes, with its own choice of
a reference and its own draws. The error of a ratio itself is in all of them; what matters is by
how much one choice has more than another.
"""

from functools import partial
from itertools import product

import numpy as np
from direct_problem import LINES, compared, normalized, to_best, to_many, to_one, trained
from results import Results
from scipy.special import logsumexp
from tables import Table

from pymc_nre.estimators.direct import _CANDIDATES, best_reference
from pymc_nre.likelihood.direct import _FEW, _effective

KEYS = ("line", "n", "set")
DRAWS = (10, 100, 1_000)
SETS = {1: 20, 10: 12, 100: 5}
PAIRS = {1: 20, 10: 6, 100: 2}  # data sets for which all pairs of candidates are compared
POINTS, RANDOM = 31, 5
MEASURES = ("error", "width", "far")
FAILED = 0.25  # exact standard deviations, or of these, more than by the default


def run(folder, say):
    """Tables of what to compare with, of warnings, and of the choice of a reference."""
    results = Results(folder / "direct_evidence.jsonl", KEYS)
    for line, n in product(LINES, SETS):
        ratio = trained(folder, line.task, "antisymmetric")
        for k, (truth, x) in enumerate(line.data(n, SETS[n])):
            measured = partial(_measured, ratio, line, truth, x, k < PAIRS[n])
            results.get(measured, **dict(zip(KEYS, (str(line), n, k), strict=True)))
        say(f"{line}, {n} trials")
    records = results.read()
    return [_of_choices(records), _of_warnings(records), _of_pairs(records)]


def _measured(ratio, line, truth, x, pairs):
    grid, exact = line.exact(truth, x, POINTS)
    given, others = line.packed(ratio, truth, grid), ratio.domain.draws[: max(DRAWS)]
    logs, best = to_many(ratio, given, others, x), best_reference(ratio, x)
    lead = -to_one(ratio, others, best, x)  # how far behind the reference each draw is

    def by(values):
        return compared(grid, normalized(values), exact)

    found = {"best": by(to_best(ratio, given, x)), "one": [by(v) for v in logs.T[:RANDOM]]}
    for count in DRAWS:
        own = {"effective": _effective(ratio, others[:count], x)}
        own["behind"] = float(lead[:count].min())
        found[str(count)] = own | by(-logsumexp(-logs[:, :count], axis=1))
    if pairs:
        candidates = ratio.domain.draws[:_CANDIDATES]
        table = to_many(ratio, candidates, candidates, x)
        chosen = candidates[(-logsumexp(-table, axis=1)).argmax()]
        found["pairs"] = by(to_one(ratio, given, chosen, x)) | {
            "same": bool((chosen == best).all())
        }
    return found


def _of_choices(records):
    columns = ("line", "trials", "compared with", "error", "worst", "width", "total variation")
    rows = []
    for name, n in product(map(str, LINES), SETS):
        own = [row for key, row in records.items() if key[:2] == (name, n)]
        ways = {"one random draw": [one for row in own for one in row["one"]]}
        ways |= {f"{count:,} draws": [row[str(count)] for row in own] for count in DRAWS}
        ways["best of 256"] = [row["best"] for row in own]
        rows += [[name, n, way, *_cells(found)] for way, found in ways.items() if found]
    return Table(
        "What a direct ratio is compared with (antisymmetric, 10,000 simulations)",
        columns,
        rows,
        "Errors of posterior means in exact standard deviations, means and worst of "
        f"{', '.join(f'{count} data sets of {n}' for n, count in SETS.items())}.",
    )


def _cells(found):
    errors, widths, away = ([row[what] for row in found] for what in ("error", "width", "far"))
    yield from (f"{np.mean(errors):.3f}", f"{np.max(errors):.2f}")
    yield from (f"{np.mean(widths):.3f}", f"{np.mean(away):.3f}")


def _of_warnings(records):
    """Where averages over draws fail, and what would have told."""
    columns = ("line", "trials", "draws", "effective", "warned", "failed", "warned of them")
    columns += ("false alarms", "behind", "behind, failed")
    rows = []
    for name, n, count in product(map(str, LINES), SETS, DRAWS):
        own = [row for key, row in records.items() if key[:2] == (name, n)]
        if not own:
            continue
        few = np.array([row[str(count)]["effective"] for row in own])
        behind = np.array([row[str(count)]["behind"] for row in own])
        failed, warned = np.array([_failed(row, str(count)) for row in own]), few < _FEW
        rows.append(
            [
                *(name, n, count, f"{np.median(few):.1f}", int(warned.sum()), int(failed.sum())),
                *(int((warned & failed).sum()), int((warned & ~failed).sum())),
                f"{np.median(behind):.2f}",
                f"{behind[failed].min():.2f}" if failed.any() else "-",
            ]
        )
    return Table(
        "Where averages over draws fail",
        columns,
        rows,
        f"Failed: the mean is {FAILED} exact standard deviations farther off than with the best of "
        "256, or the standard deviation by as much of the exact one. Behind: how much less likely "
        "the likeliest of the draws makes the data than the best of 256, in log ratios.",
    )


def _failed(row, count):
    own, best = row[count], row["best"]
    wrong = abs(np.log(own["width"])) - abs(np.log(best["width"]))
    return own["error"] - best["error"] > FAILED or wrong > FAILED


def _of_pairs(records):
    rows = []
    for name, n in product(map(str, LINES), SETS):
        own = [r for key, r in records.items() if key[:2] == (name, n) and "pairs" in r]
        if own:
            same = sum(row["pairs"]["same"] for row in own)
            both = ([row[way] for row in own] for way in ("best", "pairs"))
            errors = (f"{np.mean([r[w] for r in rows]):.3f}" for rows in both for w in MEASURES)
            rows.append([name, n, f"{same} of {len(own)}", *errors])
    return Table(
        "The reference: by going from best to best, and by all pairs of 256",
        ("line", "trials", "the same", *MEASURES, *(f"{what}, by pairs" for what in MEASURES)),
        rows,
    )
