"""Two populations counted for years: a Ricker map, whose next value depends on the last one.

The ratio knows one step of the map; a model adds up the steps of both series, which share the
noise and differ in their growth. A step is normal on the scale of logarithms, so the exact
posterior is at hand to compare with.
"""

import sys
from pathlib import Path

import arviz as az
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pymc as pm
from scipy.special import logsumexp, softmax
from scipy.stats import norm

import pymc_nre as nre

FIGURES = Path(__file__).parent / "figures"
LOG_R, LOG_SIGMA = (0.0, 2.5), (-2.0, 0.0)  # uniform


def expected(past, log_r):
    return past + log_r - np.exp(past)


def step(rng, past, log_r, log_sigma):
    """Log numbers of next year, of many draws at once."""
    return rng.normal(expected(past[:, -1], log_r), np.exp(log_sigma))


def observe(log_r, log_sigma, years, seed):
    rng, x = np.random.default_rng(seed), [0.0]
    while len(x) < years:
        x.append(rng.normal(expected(x[-1], log_r), np.exp(log_sigma)))
    return np.array(x)


def exact(cuts):
    """Means and sds of the growth of each series and of the noise, summed over a grid."""
    growth, noise = np.linspace(*LOG_R, 1_001)[:, None], np.linspace(*LOG_SIGMA, 201)
    tables = [
        np.stack([
            norm.logpdf(cut.next, expected(cut.past[:, 0], growth), np.exp(s)).sum(1) for s in noise
        ])
        for cut in cuts
    ]  # fmt: skip
    of_noise = [logsumexp(table, axis=1) for table in tables]
    p = softmax(sum(of_noise))
    weights = [p @ softmax(table, axis=1) for table in tables]
    grids = [growth[:, 0]] * len(cuts) + [noise]
    moments = []
    for grid, weight in zip(grids, [*weights, p], strict=True):
        mean = weight @ grid
        moments.append((mean, (weight @ (grid - mean) ** 2) ** 0.5))
    return np.array(moments).T


def main(quick=False, seed=1):
    FIGURES.mkdir(exist_ok=True)
    with pm.Model() as training_prior:
        pm.Uniform("log_r", *LOG_R)
        pm.Uniform("log_sigma", *LOG_SIGMA)
    options = {"batched": True, "random_seed": seed, "progressbar": False}
    made = nre.simulate_series(training_prior, step, 40, start=[0.0], length=51, **options)
    past = {"past": nre.transitions(made).past}  # of parameters that are others than each step's
    n = 2_000 if quick else 200_000
    steps = nre.simulate(training_prior, step, n, conditions=past, **options)
    ratio = nre.train(steps, random_seed=seed, progressbar=False)

    series = [observe(0.8, -1.2, 21, 2), observe(2.1, -1.2, 31, 3)]
    cut = nre.transitions(series)
    settings = {"tune": 300, "draws": 100, "chains": 2} if quick else {"draws": 2_500, "chains": 4}
    with pm.Model():
        log_r = pm.Uniform("log_r", *LOG_R, shape=2)
        log_sigma = pm.Uniform("log_sigma", *LOG_SIGMA)
        theta = {"log_r": log_r[cut.series], "log_sigma": log_sigma}
        nre.RatioLikelihood("x", ratio, **theta, observed=cut)
        idata = pm.sample(**settings, random_seed=seed, progressbar=False)
    posterior = idata["posterior"]

    rows = {}
    growths = {f"log_r[{k}]": posterior["log_r"][..., k].to_numpy() for k in range(2)}
    means, sds = exact([nre.transitions(x) for x in series])
    all_draws = {**growths, "log_sigma": posterior["log_sigma"].to_numpy()}
    for (name, draws), mean, sd in zip(all_draws.items(), means, sds, strict=True):
        error, width = (draws.mean() - mean) / sd, draws.std() / sd
        rows[name] = [az.ess(draws), draws.mean(), draws.std(), mean, sd, error, width]
    columns = ["ESS", "mean", "sd", "exact mean", "exact sd", "error / sd", "sd ratio"]
    table = pd.DataFrame(rows, columns).T.astype(float)

    figure, axes = plt.subplots(2, 1, figsize=(7, 5), layout="constrained")
    for k, (ax, x) in enumerate(zip(axes, series, strict=True)):
        draws = {
            "log_r": growths[f"log_r[{k}]"].ravel(),
            "log_sigma": all_draws["log_sigma"].ravel(),
        }
        few = {name: values[:: max(1, len(values) // 500)] for name, values in draws.items()}
        paths = nre.forecast(step, x[-1:], 10, few, batched=True, random_seed=seed)
        low, middle, high = np.quantile(paths, [0.05, 0.5, 0.95], axis=0)
        years = np.arange(len(x), len(x) + 10)
        ax.plot(np.arange(len(x)), x, "ko-", ms=4, lw=0.8, label="observed")
        ax.fill_between(years, low, high, alpha=0.25, lw=0, label="forecast, 90 %")
        ax.plot(years, middle)
        ax.set(ylabel=f"log numbers, series {k}")
    axes[1].set(xlabel="year")
    axes[0].legend(frameon=False, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1))
    figure.savefig(FIGURES / "ricker.png", dpi=120)
    print(f"{table.round(3).to_string()}\n\nFigures: {FIGURES}")
    return table


if __name__ == "__main__":
    main(quick="--quick" in sys.argv)
