"""How good are posteriors of incomplete data, against exact marginals, and beside naive ones?

``python tests/benchmarks/missing.py``
Two problems whose marginals are known. One network for each is trained on 10,000 simulations with
``missing=0.35`` and defaults otherwise, and one without, which is given zeros where numbers are
missing, as a naive user would. Both posteriors and the exact one are made by weights of the same
draws of the prior. Takes ten minutes and more of a busy core.
"""

import argparse
from pathlib import Path

import numpy as np
import pymc as pm
import torch
from problems.posteriors import moments
from scipy import stats
from scipy.special import softmax
from tables import Table

import pymc_nre as nre

SIMULATIONS, DRAWS, SETS, SHARE = 10_000, 20_000, 20, 0.35
SHARES = (0.0, 0.2, 0.4, 0.6)
TRIALS = (1, 10)
TIMES = np.linspace(-1.5, 1.5, 4)
NOISE = 0.7 ** np.abs(np.subtract.outer(np.arange(4), np.arange(4)))


def location_scale(rng, mu, sigma):
    """Three normal numbers."""
    return rng.normal(mu[:, None], sigma[:, None], (len(mu), 3))


def log_location_scale(x, mu, sigma):
    """Of what is there of a row ``(3,)``, ``(P,)``."""
    x = x[~np.isnan(x)]
    return stats.norm.logpdf(x[:, None], mu, sigma).sum(0)


def line(rng, a, b):
    """Four points of a line with correlated noise."""
    return a[:, None] + b[:, None] * TIMES + rng.multivariate_normal(np.zeros(4), NOISE, len(a))


def log_line(x, a, b):
    """Of what is there of a row ``(4,)``, ``(P,)``: a Gaussian of the columns that are."""
    seen = ~np.isnan(x)
    if not seen.any():
        return np.zeros(len(a))
    rest = x[seen] - a[:, None] - b[:, None] * TIMES[seen]
    return stats.multivariate_normal.logpdf(rest, cov=NOISE[np.ix_(seen, seen)])


PROBLEMS = {
    "location and scale, three columns": (
        lambda: {"mu": pm.Normal.dist(0, 2), "sigma": pm.Uniform.dist(0.3, 2)},
        location_scale,
        log_location_scale,
    ),
    "line with correlated noise, four columns": (
        lambda: {"a": pm.Normal.dist(0, 2), "b": pm.Normal.dist(0, 1)},
        line,
        log_line,
    ),
}


def holes(x, rule, rng):
    """The same ``(n, d)`` with NaN: a share at random, or by a rule on the first column."""
    x = x.copy()
    if rule == "rule":  # what is missing depends on what is observed
        x[x[:, 0] > 0, 1:-1] = np.nan
    else:
        x[rng.random(x.shape) < rule] = np.nan
    return x


def compared(problem, ratios, rule, trials, rng):
    """Errors of means in sd, and widths, of each ratio: ``(ratios, sets, D)`` both."""
    prior, simulator, log_likelihood = PROBLEMS[problem]
    drawn = nre.simulate(prior(), simulator, DRAWS, batched=True, random_seed=3, progressbar=False)
    names, theta = list(drawn.parameters), drawn.theta
    errors, widths = [], []
    while len(errors) < SETS:
        truth = {name: np.repeat(drawn.parameters[name][len(errors)], trials) for name in names}
        whole = simulator(rng, *truth.values())
        x = holes(whole, rule, rng)
        if np.isnan(x).all():
            continue
        exact = sum(log_likelihood(row, *drawn.parameters.values()) for row in x)
        mean, sd = moments(theta, softmax(exact))
        found = []
        for ratio, given in zip(ratios, (x, np.nan_to_num(x)), strict=True):
            table = ratio.log_ratio(given[:, None], **drawn.parameters)
            found.append(moments(theta, softmax(table.sum(0))))
        errors.append([np.abs(m - mean) / sd for m, _ in found])
        widths.append([s / sd for _, s in found])
    return np.array(errors).swapaxes(0, 1), np.array(widths).swapaxes(0, 1)


def rows_of(problem):
    """Lines of the table."""
    prior, simulator, _ = PROBLEMS[problem]
    simulations = nre.simulate(
        prior(), simulator, SIMULATIONS, batched=True, random_seed=1, progressbar=False
    )
    options = {"random_seed": 2, "progressbar": False, "measure_budget": False}
    ratios = [nre.train(simulations, missing=SHARE, **options), nre.train(simulations, **options)]
    rng = np.random.default_rng(4)
    for rule in (*SHARES, "rule"):
        for trials in TRIALS:
            errors, widths = compared(problem, ratios, rule, trials, rng)
            told = "by a rule" if rule == "rule" else f"{rule:.0%}"
            numbers = [
                (float(e.mean()), float(w.mean())) for e, w in zip(errors, widths, strict=True)
            ]
            print(problem, told, trials, numbers, flush=True)
            yield [problem, told, trials, *numbers[0], *numbers[1]]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    default = Path(__file__).parents[2] / "docs" / "benchmarks"
    parser.add_argument("--out", type=Path, default=default)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = [row for problem in PROBLEMS for row in rows_of(problem)]
    columns = ("problem", "missing", "rows", "error", "width", "error, zeros", "width, zeros")
    note = (
        f"Mean over {SETS} data sets of that many rows and both parameters, of one network each, "
        f"{SIMULATIONS:,} simulations, defaults and `missing={SHARE}`: the error of the posterior "
        "mean in exact standard deviations, and the standard deviation over the exact one. The "
        "rule: columns between the first and the last are missing where the first is positive. "
        "Zeros: a network of complete data, which is given zeros for what is missing."
    )
    path = options.out / "missing.inc"
    path.write_text(Table("Missing entries", columns, rows, note).markdown())
    print(path.read_text())


if __name__ == "__main__":
    main()
