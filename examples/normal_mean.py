"""From a simulator to a posterior: the mean of a normal distribution.

The likelihood is known, so each step is checked. Figures go to ``examples/figures``.
"""

import sys
from pathlib import Path

import arviz as az
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pymc as pm
from scipy.stats import norm

import pymc_nre as nre

FIGURES = Path(__file__).parent / "figures"
FEW = {"tune": 300, "draws": 100, "chains": 2}


def plot_ratio(ratio, sims, task):
    figure, (loss, pairs, evidence) = plt.subplots(1, 3, figsize=(12, 3.5), layout="constrained")
    ratio.history.to_dataframe().filter(like="loss").plot(ax=loss, ylabel="loss")
    loss.axhline(ratio.history.attrs["chance"], color="gray", ls=":", label="chance")
    mu, x = sims.parameters["mu"][:5_000], sims.x[:5_000]
    for label, theta in {"matching": mu, "not matching": np.roll(mu, 1)}.items():
        log_r = ratio.log_ratio(x, mu=theta).clip(-20)
        pairs.hist(log_r, np.linspace(-20, 4, 60), alpha=0.6, label=label)
    pairs.set(xlabel="log ratio (less than -20 shown at -20)", ylabel="pairs")
    grid = np.linspace(-10, 10, 200)
    for point in (-5.0, 0.0, 5.0):  # log-likelihood - log ratio = log evidence, whatever mu
        difference = task.log_likelihood(point, grid) - ratio.log_ratio(point, mu=grid)
        evidence.plot(grid, difference, label=f"x = {point:g}")
    evidence.axhline(task.log_evidence(0.0), color="gray", ls=":", label="exact log evidence")
    evidence.set(xlabel="mu", ylabel="log likelihood - log ratio", ylim=(-6, 0))
    [axes.legend(frameon=False) for axes in (loss, pairs, evidence)]
    figure.savefig(FIGURES / "ratio.png", dpi=120)


def main(quick=False, seed=1):
    FIGURES.mkdir(exist_ok=True)
    prior, n = {"mu": pm.Uniform.dist(-10, 10)}, 2_000 if quick else 100_000
    sims = nre.simulate(prior, lambda rng, mu: rng.normal(mu, 1.0), n, random_seed=seed)
    ratio = nre.train(sims, random_seed=seed)
    print(ratio)
    task = nre.tasks.GaussianMean()  # knows the exact answers
    plot_ratio(ratio, sims, task)
    x_obs = np.random.default_rng(0).normal(2.0, 1.0, size=10)
    with pm.Model() as potential:
        pm.Potential("x", nre.log_ratio(ratio, x_obs, mu=pm.Uniform("mu", -10, 10)).sum())
    with pm.Model() as likelihood:
        nre.RatioLikelihood("x", ratio, mu=pm.Uniform("mu", -10, 10), observed=x_obs)
    exact = task.posterior(x_obs)
    mean, sd = float(exact.mean["mu"]), float(exact.sd["mu"])
    figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
    rows = {}
    for model, word in ((potential, "potential"), (likelihood, "likelihood")):
        for step, draws in ((pm.Slice, 1_500), (pm.Metropolis, 12_500), (pm.NUTS, 5_000)):
            settings = FEW if quick else {"draws": draws, "chains": 4}
            with model:
                idata = pm.sample(**settings, step=step(), random_seed=seed, progressbar=False)
            mu, label = idata["posterior"]["mu"].to_numpy(), f"{step.name}, {word}"
            axes.hist(mu.ravel(), 40, density=True, histtype="step", label=label)
            rows[label] = [az.ess(mu), mu.mean(), mu.std(), (mu.mean() - mean) / sd, mu.std() / sd]
    grid = np.linspace(mean - 4 * sd, mean + 4 * sd, 200)
    axes.plot(grid, norm.pdf(grid, mean, sd), "k--", label="exact")
    axes.set(xlabel="mu", ylabel="posterior density")
    axes.legend(frameon=False)
    figure.savefig(FIGURES / "posterior.png", dpi=120)
    trace = az.plot_trace(idata, var_names=["mu"])  # ArviZ 1 returns a collection of plots
    (trace if hasattr(trace, "savefig") else trace.flat[0].figure).savefig(FIGURES / "trace.png")
    table = pd.DataFrame(rows, ["ESS", "mean", "sd", "error / sd", "sd ratio"]).T.astype(float)
    print(f"\nNUTS:\n{az.summary(idata)}\n\nExact posterior: mean {mean:.3f}, sd {sd:.3f}")
    print(f"{table.round(3).to_string()}\n\nFigures: {FIGURES}")
    return table


if __name__ == "__main__":
    main(quick="--quick" in sys.argv)
