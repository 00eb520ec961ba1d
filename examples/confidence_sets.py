"""Confidence sets of a signal over an unknown background, beside the exact ones and a posterior.

A detector counts in three bins, in each of several runs. The background b is the same in all bins,
the signal s is in the first two, so that the third one controls the background. Counts are
Poisson, which makes the likelihood known: a ratio is trained as if it were not, and its sets are
held against those of the likelihood. At s = 0 the parameters end, and Wilks' theorem with them.
"""

import sys
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pymc as pm

import pymc_nre as nre

FIGURES = Path(__file__).parent / "figures"
SIGNAL, BACKGROUND = np.array([3.0, 1.0, 0.0]), np.array([4.0, 4.0, 4.0])
PRIOR = {"s": pm.Uniform.dist(0, 4), "b": pm.Uniform.dist(0.3, 2)}
RUNS, LEVEL = 5, 0.9


def expected(s, b):
    """Mean counts ``(*, 3)``."""
    return np.multiply.outer(s, SIGNAL) + np.multiply.outer(b, BACKGROUND)


GRID = np.linspace(0, 4, 401)
MEANS = expected(*np.meshgrid(GRID, np.linspace(0.3, 2, 301), indexing="ij"))


def simulator(rng, s, b):
    return rng.poisson(expected(s, b)).astype(float)


def exact_profile(x, s):
    """Deviance ``(k,)`` at values of s, by a fine grid over b; of runs ``(n, 3)``."""
    log_p = (x.sum(0) * np.log(MEANS) - len(x) * MEANS).sum(-1)
    return np.interp(s, GRID, 2 * (log_p.max() - log_p.max(1)))


def credible_level(density, mass):
    """The density above which so much of the posterior lies."""
    highest = np.sort(density.ravel())[::-1]
    return highest[np.searchsorted(np.cumsum(highest) / highest.sum(), mass)]


def coverage(ratio, learned, s, sets, rng):
    """Of intervals for s, at one value of it and a background of one."""
    x = simulator(rng, np.full((sets, RUNS), s), np.ones((sets, RUNS)))
    options = {"level": LEVEL, "progressbar": False}
    wilks = nre.point.confidence_set(ratio, x, "s", method="wilks", sets=0, **options)
    own = nre.point.confidence_set(ratio, x, "s", critical_values=learned, **options)
    cut = wilks.critical_values.cut(np.zeros((1, 2)), LEVEL)[0]
    exact = np.mean([exact_profile(one, s) <= cut for one in x])
    return [exact, wilks.holds(s=s).mean(), own.holds(s=s).mean()]


def main(quick=False, seed=1):
    FIGURES.mkdir(exist_ok=True)
    warnings.simplefilter("ignore", nre.TrialsWarning)  # coverage is measured below
    warnings.simplefilter("ignore", nre.DomainWarning)  # estimates end at s = 0
    n, sets = (5_000, 50) if quick else (50_000, 1_000)
    options = {"random_seed": seed, "progressbar": not quick}
    simulations = nre.simulate(PRIOR, simulator, n, batched=True, **options)
    ratio = nre.train(simulations, epochs=20 if quick else None, **options)

    rng = np.random.default_rng(seed)
    x = simulator(rng, np.full(RUNS, 0.6), np.ones(RUNS))
    print(nre.point.maximum_likelihood(ratio, x, progressbar=False))
    few = {"sets": 400} if quick else {}
    learned = nre.point.critical_values(ratio, x, "s", levels=[LEVEL], **few, **options)
    both = nre.point.confidence_set(ratio, x, level=LEVEL, **few, **options)
    of_s = nre.point.confidence_set(ratio, x, "s", level=LEVEL, critical_values=learned, **options)
    print(of_s)

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    s = np.linspace(0.01, 2.5, 120)
    found = nre.point.profile(ratio, x, {"s": s}, progressbar=False)
    left.plot(s, found["deviance"], label="ratio")
    left.plot(s, exact_profile(x, s), "k--", label="exact")
    cuts = learned.at(LEVEL, s=s, b=found["estimate"].sel(parameter="b"))
    left.plot(s, cuts, color="C1", label="learned critical value")
    left.axhline(2.706, color="0.5", ls=":", label="Wilks' critical value")
    left.set(xlabel="s", ylabel="deviance, profiled over b", ylim=(0, 8))
    left.legend(frameon=False)
    both.plot(right, color="C1", label="confidence set")
    posterior = nre.posterior_grid(ratio, x, PRIOR, trials=True, points=80)
    density = posterior["density"].to_numpy()
    axes = posterior["s_grid"].to_numpy(), posterior["b_grid"].to_numpy()
    level = credible_level(density, LEVEL)
    right.contour(*axes, density.T, levels=[level], colors="C2")
    right.plot([], [], color="C2", label="posterior, same content")
    right.plot(0.6, 1.0, "k*", label="truth")
    right.legend(frameon=False)
    figure.savefig(FIGURES / "confidence_sets.png", dpi=120)

    rows = {s: coverage(ratio, learned, s, sets, rng) for s in (0.02, 0.5, 2.0)}
    columns = ["exact, Wilks", "ratio, Wilks", "ratio, learned"]
    table = pd.DataFrame(rows, columns).T.rename_axis("s")
    print(f"\nCoverage of {LEVEL:.0%} intervals for s\n{table.round(3).to_string()}")
    return table


if __name__ == "__main__":
    main(quick="--quick" in sys.argv)
