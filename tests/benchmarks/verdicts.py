"""Ten ratios, good and bad in known ways: who says what of each?

``python tests/benchmarks/verdicts.py``. For each the posterior that the ratio gives is compared
with the exact one, and what `train`, `RatioLikelihood`, `report` and `domain_check` say is written
down, from defaults. Takes some ten minutes of one core, resumes, and writes the table of
docs/diagnostics.md. With ``--alarms 200`` it trains and checks the two good ones with as many
seeds, and counts what is said of them.
"""

import argparse
import sys
import warnings
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import pymc as pm
import torch
from results import Results
from scipy import stats
from tables import Table

import pymc_nre as nre

QUIET = {"random_seed": 1, "progressbar": False}
SAMPLING = {"draws": 500, "tune": 500, "chains": 2, "cores": 1, "progressbar": False}
DOCS = Path(__file__).parents[2] / "docs" / "benchmarks"
MEAN, SCALE = nre.tasks.GaussianMean(), nre.tasks.LocationScale()
GROUPS = np.repeat(np.arange(10), 5)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("benchmark_results"))
    parser.add_argument("--out", type=Path, default=DOCS)
    parser.add_argument("--alarms", type=int, default=0, help="seeds of the good ones")
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = Results(options.work / "verdicts.jsonl", ("case", "seed"))
    for case in CASES:
        results.get(partial(judged, case, 1), case=case, seed=1)
        print(case, flush=True)
    rows = [_row(results.read()[case, 1]) for case in CASES]
    heads = ("ratio", "posterior", "`train`", "`RatioLikelihood`", "`report`", "`domain_check`")
    path = options.out / "verdicts.inc"
    note = (
        "Errors are in exact standard deviations, widths in exact widths. Of a simulator that is "
        "wrong none can know, and the report ends by saying so."
    )
    path.write_text(Table("What is said of ten ratios", heads, rows, note).markdown())
    print(path.read_text())
    for seed in range(2, options.alarms + 2):
        for case in GOOD:
            results.get(partial(judged, case, seed, False), case=case, seed=seed)
    if options.alarms:
        _count(results.read())


def judged(case, seed, sampled=True):
    """What everybody says of a ratio, and, if it is sampled, how far its posterior is off."""
    make, data, exact, prior = CASES[case]
    said, x = {}, data(np.random.default_rng(100 + seed))
    (ratio, held_out), said["train"] = heard(lambda: make(seed))
    model, said["model"] = heard(lambda: modelled(ratio, x, prior))
    found, said["report"] = heard(
        lambda: nre.diagnostics.report(
            ratio, held_out, x, trials=max(2, len(x)), random_seed=seed, progressbar=False
        )
    )
    said["verdicts"] = {k: v for k, v in found.verdicts.items() if v not in ("right", "usual")}
    said["headline"] = found.headline
    if not sampled:
        return said
    idata, _ = heard(lambda: pm.sample(model=model, random_seed=seed, **SAMPLING))
    check, _ = heard(lambda: nre.diagnostics.domain_check(idata, ratio, model=model))
    said["domain"] = check.attrs["summary"]
    return said | {"off": _off(idata["posterior"], exact(x)) if exact else None}


def heard(call):
    """What a call returns, and the warnings of the library."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = call()
    ours = [w for w in caught if w.category.__module__.startswith("pymc_nre")]
    return result, [f"{w.category.__name__}: {w.message}" for w in ours]


def modelled(ratio, x, prior):
    with pm.Model() as model:
        nre.RatioLikelihood("x", ratio, observed=x, **prior())
    return model


def _off(draws, exact):
    """Error of each mean in exact standard deviations, and width over the exact one."""
    return {
        name: [
            float(np.abs((draws[name].mean(("chain", "draw")) - mean) / sd).max()),
            float((draws[name].std(("chain", "draw")) / sd).mean()),
        ]
        for name, (mean, sd) in exact.items()
    }


def unseen(seed):
    """Of simulations that training has not seen."""
    return np.random.SeedSequence([2, seed])


@lru_cache(maxsize=1)  # the good ones are one ratio, in two models
def trained(task, n, seed=1, held_out=2_000):
    ratio = nre.train(task.simulate(n, random_seed=seed), random_seed=seed, progressbar=False)
    return ratio, task.simulate(held_out, random_seed=unseen(seed))


def simulated(prior, simulator, n, seed=1):
    options = {"batched": True, "progressbar": False}
    made, held_out = (
        nre.simulate(prior, simulator, m, random_seed=s, **options)
        for m, s in ((n, seed), (2_000, unseen(seed)))
    )
    return nre.train(made, random_seed=seed, progressbar=False), held_out


def of_task(task):
    def exact(x):
        found = task.posterior(x)
        return {name: (found.mean[name], found.sd[name]) for name in found.mean}

    return exact


def on_grid(log_density, low, high):
    """Moments under a flat prior, of one parameter."""

    def exact(x):
        grid = np.linspace(low, high, 20_001)
        log_p = log_density(x[:, None], grid).sum(0)
        p = np.exp(log_p - log_p.max())
        p /= p.sum()
        mean = p @ grid
        return {"theta": (mean, np.sqrt(p @ (grid - mean) ** 2))}

    return exact


# --- the ten ----------------------------------------------------------------------------------


def shuffled(seed):
    """Ready arrays of which one was sorted in another way."""
    made, held_out = (MEAN.simulate(n, random_seed=seed) for n in (10_000, 2_000))
    made, held_out = (
        nre.Simulations(
            {"mu": np.roll(each.parameters["mu"], 7)},
            each.x,
            prior=MEAN.prior(),
            simulator=nre.Simulator(MEAN.simulator, batched=True),
        )
        for each in (made, held_out)
    )
    return nre.train(made, random_seed=seed, progressbar=False), held_out


def cauchy(rng, theta):
    return theta + rng.standard_cauchy(len(theta))


def quantiles(rng, a, b, g, k):
    """25 quantiles of 1,000 draws of g-and-k."""
    z = rng.normal(size=(len(a), 1_000))
    a, b, g, k = (each[:, None] for each in (a, b, g, k))
    x = a + b * (1 + 0.8 * np.tanh(g * z / 2)) * (1 + z**2) ** k * z
    return np.quantile(x, PLACES, axis=1).T


PLACES = np.linspace(0.02, 0.98, 25)
G_AND_K = {"a": 3.0, "b": 1.0, "g": 2.0, "k": 0.5}


def of_quantiles(x):
    """By Metropolis steps of many chains: quantiles are all but order statistics."""
    rng, ranks = np.random.default_rng(1), PLACES * 999 + 1
    grid = np.linspace(-6, 6, 4_001)

    def log_density(theta):
        a, b, g, k = (theta[:, [j]] for j in range(4))
        curve = a + b * (1 + 0.8 * np.tanh(g * grid / 2)) * (1 + grid**2) ** k * grid
        z = np.array([np.interp(x[0], own, grid) for own in curve])
        slopes = zip(curve, np.gradient(curve, grid, axis=1), strict=True)
        slope = np.array([np.interp(x[0], own, each) for own, each in slopes])
        u = np.column_stack([np.zeros(len(z)), stats.norm.cdf(z), np.ones(len(z))])
        gaps = np.diff(np.concatenate([[0], ranks, [1_001]])) - 1
        values = (gaps * np.log(np.diff(u).clip(1e-300))).sum(1)
        values += (stats.norm.logpdf(z) - np.log(slope)).sum(1)
        return np.where(((theta > 0) & (theta < 10)).all(1), values, -np.inf)

    theta = np.array(list(G_AND_K.values())) * np.exp(0.02 * rng.normal(size=(100, 4)))
    now, kept = log_density(theta), []
    for step in range(600):
        one, other = (theta[rng.permutation(100)] for _ in range(2))
        proposed = theta + 0.8 * (one - other) + 1e-4 * rng.normal(size=theta.shape)
        then = log_density(proposed)
        taken = np.log(rng.random(100)) < then - now
        theta, now = np.where(taken[:, None], proposed, theta), np.where(taken, then, now)
        if step >= 200:
            kept.append(theta)
    draws = np.concatenate(kept)
    return {name: (draws[:, j].mean(), draws[:, j].std()) for j, name in enumerate(G_AND_K)}


def uniform(low, high, *names):
    return {name: pm.Uniform.dist(low, high) for name in names}


def flat(low, high, *names):
    return lambda: {name: pm.Uniform(name, low, high) for name in names}


def both():
    return {"mu": pm.Uniform("mu", -5, 5), "log_sigma": pm.Uniform("log_sigma", -1, 1)}


def by_group():
    m = pm.Normal("m", 0, 3)
    return {"mu": pm.Normal("mu", m, 1.0, shape=10)[GROUPS]}


def exact_hierarchy(x):
    """Of m alone: group means are normal around it with variance 1 + 1 / 5."""
    means = x.reshape(10, 5).mean(1)
    precision = 10 / 1.2 + 1 / 9
    return {"m": (means.sum() / 1.2 / precision, precision**-0.5)}


def hierarchy_data(rng):
    return rng.normal(rng.normal(1.0, 1.0, 10)[GROUPS], 1.0)


GOOD = ("good", "good, hierarchical")
mu_prior = flat(-10, 10, "mu")
CASES = {
    "knows nothing: parameters in another order": (
        shuffled,
        lambda rng: rng.normal(2.0, 1.0, 10),
        of_task(MEAN),
        mu_prior,
    ),
    "too few simulations: 300": (
        lambda seed: trained(SCALE, 300, seed),
        lambda rng: rng.normal(1.0, 2.0, 20),
        of_task(SCALE),
        both,
    ),
    "heavy tails: Cauchy": (
        lambda seed: simulated(uniform(-5, 5, "theta"), cauchy, 10_000, seed),
        lambda rng: 1.0 + rng.standard_cauchy(20),
        on_grid(stats.cauchy.logpdf, -5, 5),
        flat(-5, 5, "theta"),
    ),
    "edge of the prior: an exact ratio, data around 13": (
        lambda seed: (MEAN.estimator(), MEAN.simulate(2_000, random_seed=unseen(seed))),
        lambda rng: rng.normal(13.0, 1.0, 50),
        lambda x: {"mu": (x.mean(), 50**-0.5)},
        lambda: {"mu": pm.Normal("mu", 0, 20)},
    ),
    "too many trials: 1,000": (
        lambda seed: trained(SCALE, 10_000, seed),
        lambda rng: rng.normal(1.0, 2.0, 1_000),
        of_task(SCALE),
        both,
    ),
    "data from elsewhere: in another unit": (
        lambda seed: trained(MEAN, 10_000, seed),
        lambda rng: 1_000 * rng.normal(2.0, 1.0, 20),
        lambda x: {"mu": (x.mean() / 1_000, 20**-0.5)},
        mu_prior,
    ),
    "very informative: 25 quantiles of 1,000 draws": (
        lambda seed: simulated(uniform(0, 10, "a", "b", "g", "k"), quantiles, 10_000, seed),
        lambda rng: quantiles(rng, **{name: np.array([v]) for name, v in G_AND_K.items()}),
        of_quantiles,
        flat(0, 10, "a", "b", "g", "k"),
    ),
    "wrong simulator: the data have three times its spread": (
        lambda seed: trained(MEAN, 10_000, seed),
        lambda rng: rng.normal(2.0, 3.0, 20),
        lambda x: {"mu": (x.mean(), 3 / 20**0.5)},
        mu_prior,
    ),
    "good": (
        lambda seed: trained(MEAN, 20_000, seed),
        lambda rng: rng.normal(2.0, 1.0, 10),
        of_task(MEAN),
        mu_prior,
    ),
    "good, hierarchical": (
        lambda seed: trained(MEAN, 20_000, seed),
        hierarchy_data,
        exact_hierarchy,
        by_group,
    ),
}


# --- the table --------------------------------------------------------------------------------


def _row(record):
    verdicts = "; ".join(f"{check} {verdict}" for check, verdict in record["verdicts"].items())
    return [
        record["case"],
        _posterior(record["off"]),
        _short(record["train"]),
        _short(record["model"]),
        f"{record['headline']}{f' ({verdicts})' if verdicts else ''}",
        record["domain"].split(":")[0],
    ]


def _posterior(off):
    if off is None:
        return "not known"
    return "; ".join(f"{name} off by {e:.2f} sd, width {w:.2f}" for name, (e, w) in off.items())


def _short(messages):
    """The first sentence of each."""
    return "; ".join(". ".join(m.split(". ")[:1]).replace("|", " ") for m in messages) or "-"


def _count(records):
    for case in GOOD:
        found = [record for (name, _), record in records.items() if name == case]
        loud = [r for r in found if r["train"] or r["model"]]
        wrong = [r for r in found if any(v != "not known" for v in r["verdicts"].values())]
        print(
            f"{case}: {len(found)} seeds, {len(loud)} with a warning, {len(wrong)} with a verdict"
        )


if __name__ == "__main__":
    sys.exit(main())
