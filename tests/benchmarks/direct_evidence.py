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
from scipy.stats import multivariate_normal
from tables import Table

import pymc_nre as nre
from pymc_nre.estimators.direct import _CANDIDATES, against, best_reference
from pymc_nre.tasks.base import span

KEYS = ("line", "n", "set")
DRAWS = (10, 100, 1_000)
SETS = {1: 20, 10: 12, 100: 4}
PAIRS = {1: 20, 10: 4, 100: 1}  # data sets for which all pairs of candidates are compared
POINTS, RANDOM, VALUES, MANY = 31, 5, 20, 20_001
MEASURES = ("error", "width", "far")
FEW, BEHIND = 2.0, 10.0  # effective draws, and log ratios, from which one could warn
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
    tables = [_of_choices(records), _of_warnings(records), _of_pairs(records)]
    return [*tables, _of_values(folder)]


def _measured(ratio, line, truth, x, pairs):
    grid, exact = line.exact(truth, x, POINTS)
    given, others = line.packed(truth, grid), ratio.domain.draws[: max(DRAWS)]
    logs, best = to_many(ratio, given, others, x), best_reference(ratio, x)
    lead = -to_one(ratio, others, best, x)  # how far behind the reference each draw is

    def by(values):
        return compared(grid, normalized(values), exact)

    found = {"best": by(to_best(ratio, given, x)), "one": [by(v) for v in logs.T[:RANDOM]]}
    for count in DRAWS:
        own = {"effective": _effective(lead[:count]), "behind": float(lead[:count].min())}
        found[str(count)] = own | by(-logsumexp(-logs[:, :count], axis=1))
    if pairs:
        candidates = ratio.domain.draws[:_CANDIDATES]
        table = to_many(ratio, candidates, candidates, x)
        chosen = candidates[(-logsumexp(-table, axis=1)).argmax()]
        found["pairs"] = by(to_one(ratio, given, chosen, x)) | {
            "same": bool((chosen == best).all())
        }
    return found


def _effective(lead):
    """How many draws an average is made of, by how far behind they are."""
    weights = np.exp(lead.min() - lead)
    return float(weights.sum() ** 2 / (weights**2).sum())


def _of_choices(records):
    columns = ("unknown", "trials", "compared with", "error", "worst", "width", "total variation")
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
    columns = ("unknown", "trials", "draws", "failed", "effective", f"below {FEW:g}", "of failed")
    columns += ("behind", f"above {BEHIND:g}", "of failed")
    rows = []
    for name, n, count in product(map(str, LINES), SETS, DRAWS):
        own = [row for key, row in records.items() if key[:2] == (name, n)]
        if own:
            rows.append([name, n, count, *_told([_of_one(row, count) for row in own])])
    everything = [_of_one(row, count) for row in records.values() for count in DRAWS]
    rows.append(["all", "", "", *_told(everything)])
    return Table(
        "Where averages over draws fail",
        columns,
        rows,
        f"Failed: the mean is {FAILED} exact standard deviations farther off than with the best of "
        "256, or the log of the standard deviation. Effective: draws that count, median. Behind: "
        "how much less likely the likeliest of the draws makes the data than the best of 256, in "
        "log ratios, median. Beside each stands how often it is beyond a limit, and in how many of "
        "the failures.",
    )


def _of_one(row, count):
    return *(row[str(count)][what] for what in ("effective", "behind")), _failed(row, str(count))


def _told(found):
    few, behind, failed = map(np.array, zip(*found, strict=True))
    yield f"{failed.sum()} of {len(failed)}"
    for values, warned in ((few, few < FEW), (behind, behind > BEHIND)):
        yield from (f"{np.median(values):.1f}", int(warned.sum()), int((warned & failed).sum()))


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
        ("unknown", "trials", "the same", *MEASURES, *(f"{what}, by pairs" for what in MEASURES)),
        rows,
    )


def _of_values(folder):
    """Errors of the evidence itself, which a fixed reference does not give."""
    rows = []
    for line, n in product((LINES[0], LINES[3]), SETS):
        ratio = trained(folder, line.task, "antisymmetric")
        errors = [_errors(ratio, line.task, theta, x) for theta, x in line.data(n, VALUES)]
        rows.append([line.task, n, *(f"{v:.2f}" for v in np.sqrt(np.square(errors).mean(0)))])
    columns = ("task", "trials", *(f"{count:,} draws" for count in DRAWS))
    note = (
        "Root mean square errors of log p(X | theta) / p(X) at the true theta, over "
        f"{VALUES} data sets; those of the ratio itself are in all of them."
    )
    return Table("The evidence itself", columns, rows, note)


def _errors(ratio, task, theta, x):
    """Of estimates by so many draws."""
    task = getattr(nre.tasks, task)()
    likelihood = task.log_likelihood(x, **ratio.layout.unpack(theta)).sum()
    logs = against(ratio, theta, ratio.domain.draws[: max(DRAWS)], x)
    estimates = (np.log(count) - logsumexp(-logs[:count]) for count in DRAWS)
    return [value - (likelihood - _log_evidence(task, x)) for value in estimates]


def _log_evidence(task, x):
    """Of all observations together."""
    if isinstance(task, nre.tasks.GaussianMean):
        grid = span(0.0, task.half_width, task.half_width, MANY)
        return logsumexp(task.log_likelihood(x, grid[:, None]).sum(1)) - np.log(MANY)
    among = np.kron(np.ones((len(x), len(x))), task.matrix @ task.matrix.T)
    return multivariate_normal.logpdf(x.ravel(), cov=among + task.noise**2 * np.eye(x.size))
