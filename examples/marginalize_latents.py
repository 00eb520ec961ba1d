"""Latent variables marginalized by simulation: a PyMC model is its own simulator.

Twenty groups of five numbers lie around means of their own. Only the mean and the spread of
those means are of interest, so the ratio is trained on them alone, and the groups' own means
never appear in the model that is sampled. Here they can be integrated out, as a check.
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
DEEP_SET = nre.networks.MLP(embedding=nre.networks.DeepSet())  # the order within a group is chance


def plot(draws, groups, replicated, task):
    figure, (joint, between) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    joint.plot(*(draws[name].ravel()[::5] for name in ("m", "log_tau")), ".", ms=2, alpha=0.3)
    m = np.linspace(draws["m"].min(), draws["m"].max(), 150)
    log_tau = np.linspace(draws["log_tau"].min(), draws["log_tau"].max(), 150)[:, None]
    log_p = task.log_likelihood(groups[:, None, None], m, log_tau).sum(0) - 0.5 * (m / 3) ** 2
    p = np.exp(log_p - log_p.max())
    ordered = np.sort(p.ravel())
    levels = ordered[np.searchsorted(ordered.cumsum() / p.sum(), [0.05, 0.5])]
    joint.contour(m, log_tau.ravel(), p, levels, colors="k", linestyles="--")
    joint.set(xlabel="m", ylabel="log tau", title="draws; exact 50% and 95% regions, dashed")
    averages, sd = np.linspace(-4, 8, 100), np.sqrt(np.exp(2 * log_tau) + 1 / 5)
    between.hist(replicated.mean(-1).ravel(), 80, density=True, alpha=0.5, label="predicted")
    exact = [np.sum(p * norm.pdf(average, m, sd)) / p.sum() for average in averages]
    between.plot(averages, exact, "k--", label="exact")
    between.plot(groups.mean(-1), 0 * groups[:, 0], "k|", ms=20, label="observed")
    between.set(
        xlabel="average of a group", ylabel="density", title="new groups, latents drawn anew"
    )
    between.set_xlim(-4, 8)
    between.legend(frameon=False)
    figure.savefig(FIGURES / "marginalize_latents.png", dpi=120)


def main(quick=False, seed=1, network=DEEP_SET):
    FIGURES.mkdir(exist_ok=True)
    with pm.Model() as one_group:
        m = pm.Normal("m", 0, 3)
        log_tau = pm.Uniform("log_tau", -1.5, 1)
        mu_g = pm.Normal("mu_g", m, pm.math.exp(log_tau))  # latent
        pm.Normal("x", mu_g, 1, shape=5)
    n = 2_000 if quick else 100_000
    sims = nre.simulate(one_group, "x", n, parameters=["m", "log_tau"], random_seed=seed)
    ratio = nre.train(sims, network=network, random_seed=seed)
    print(ratio)

    settings = {"tune": 300, "draws": 100, "chains": 2} if quick else {"draws": 2_500, "chains": 4}
    settings |= {"random_seed": seed, "progressbar": False}
    rng = np.random.default_rng(4)
    groups = rng.normal(rng.normal(2.0, 1.0, size=(20, 1)), 1.0, size=(20, 5))
    with pm.Model(coords={"group": range(20), "member": range(5)}):
        m, log_tau = pm.Normal("m", 0, 3), pm.Uniform("log_tau", -1.5, 1)
        nre.RatioLikelihood(
            "x", ratio, m=m, log_tau=log_tau, observed=groups, dims=("group", "member")
        )
        idata = pm.sample(**settings)
        predicted = pm.sample_posterior_predictive(idata, random_seed=seed, progressbar=False)

    task = nre.tasks.HierarchicalGaussian()  # the same problem, with exact answers
    exact = task.posterior(groups)
    draws = {name: idata["posterior"][name].to_numpy() for name in ("m", "log_tau")}
    rows = {}
    for name, drawn in draws.items():
        mean, sd = float(exact.mean[name]), float(exact.sd[name])
        error, width = (drawn.mean() - mean) / sd, drawn.std() / sd
        rows[name] = [az.ess(drawn), drawn.mean(), drawn.std(), mean, sd, error, width]
    columns = ["ESS", "mean", "sd", "exact mean", "exact sd", "error / sd", "sd ratio"]
    table = pd.DataFrame(rows, columns).T.astype(float)
    plot(draws, groups, predicted["posterior_predictive"]["x"].to_numpy(), task)
    print(f"{table.round(3).to_string()}\n\nFigures: {FIGURES}")
    return table


if __name__ == "__main__":
    main(quick="--quick" in sys.argv)
