"""One trained ratio under three priors: normal, truncated, hierarchical.

A ratio stands for the simulator alone, so that another prior needs no other training. The
simulator draws from N(mu, 1), which makes every posterior known.
"""

import sys
from pathlib import Path

import arviz as az
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pymc as pm
from scipy.special import softmax
from scipy.stats import halfnorm, norm, truncnorm

import pymc_nre as nre

FIGURES = Path(__file__).parent / "figures"
LABELS = ["m", "tau", *(f"mu[{g}]" for g in range(8))]


def exact_hierarchy(x, group):
    """Means and sds, as in LABELS. Given tau all is normal; tau is summed over a fine grid."""
    tau, n = (np.arange(5_000) + 0.5)[:, None] * 0.003, np.bincount(group)
    average = np.bincount(group, x) / n
    variance = tau**2 + 1 / n  # of the averages around m, (tau, group)
    var_m = 1 / (1 / 2.5**2 + np.sum(1 / variance, axis=1, keepdims=True))
    m = var_m * np.sum(average / variance, axis=1, keepdims=True)
    # p(x | tau) = p(x | m, tau) p(m) / p(m | x, tau), the same at any m: take 0
    log_p = np.sum(norm.logpdf(average, 0, variance**0.5), axis=1, keepdims=True)
    p = softmax(log_p - norm.logpdf(0, m, var_m**0.5) + halfnorm.logpdf(tau, scale=1.5))
    pull = 1 / n / variance  # of m on the mean of a group
    means = np.hstack([m, tau, pull * m + (1 - pull) * average])
    variances = np.hstack([var_m, 0 * tau, (1 - pull) / n + pull**2 * var_m])
    mean = np.sum(p * means, axis=0)
    return mean, np.sum(p * (variances + (means - mean) ** 2), axis=0) ** 0.5


def row(draws, mean, sd):
    """What NUTS drew, ``(chain, draw)``, beside the exact mean and sd."""
    error, width = (draws.mean() - mean) / sd, draws.std() / sd
    return [az.ess(draws), draws.mean(), draws.std(), mean, sd, error, width]


def main(quick=False, seed=1):
    FIGURES.mkdir(exist_ok=True)
    prior, n = {"mu": pm.Uniform.dist(-10, 10)}, 2_000 if quick else 100_000
    sims = nre.simulate(prior, lambda rng, mu: rng.normal(mu, 1.0), n, random_seed=seed)
    ratio = nre.train(sims, random_seed=seed)  # once

    rng, group = np.random.default_rng(0), np.repeat(range(8), [3, 4, 5, 6, 6, 7, 8, 9])
    x = rng.normal(2.0, 1.0, size=10)
    x_grouped = rng.normal(rng.normal(1.0, 1.5, size=8)[group], 1.0)
    with pm.Model() as normal:
        nre.RatioLikelihood("x", ratio, mu=pm.Normal("mu", 0, 3), observed=x)
    with pm.Model() as truncated:
        mu = pm.TruncatedNormal("mu", 0, 3, lower=0, upper=2)
        nre.RatioLikelihood("x", ratio, mu=mu, observed=x)
    with pm.Model(coords={"group": range(8), "trial": range(len(group))}) as hierarchical:
        m, tau = pm.Normal("m", 0, 2.5), pm.HalfNormal("tau", 1.5)
        mu = pm.Normal("mu", m, tau, dims="group")
        nre.RatioLikelihood("x", ratio, mu=mu[group], observed=x_grouped, dims="trial")

    sd = (1 / 3**2 + len(x)) ** -0.5
    mean = sd**2 * x.sum()
    bounded = truncnorm((0 - mean) / sd, (2 - mean) / sd, mean, sd)
    known = {"normal": norm(mean, sd), "truncated": bounded}
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
    settings = {"tune": 300, "draws": 100, "chains": 2} if quick else {"draws": 3_000, "chains": 4}
    settings |= {"random_seed": seed, "progressbar": False}
    rows = {}
    for ax, (name, exact), model in zip(axes, known.items(), (normal, truncated), strict=False):
        with model:
            idata = pm.sample(**settings)
        mu = idata["posterior"]["mu"].to_numpy()
        rows[name, "mu"] = row(mu, exact.mean(), exact.std())
        ax.hist(mu.ravel(), 50, density=True, alpha=0.5, label="ratio, NUTS")
        grid = np.linspace(mu.min(), mu.max(), 300)
        ax.plot(grid, exact.pdf(grid), "k--", label="exact")
        ax.set(title=f"{name} prior", xlabel="mu", ylabel="posterior density")
    with hierarchical:
        idata = pm.sample(**settings, target_accept=0.9)
    drawn = [idata["posterior"][name].to_numpy() for name in ("m", "tau", "mu")]
    drawn = np.concatenate([v.reshape(*v.shape[:2], -1) for v in drawn], axis=-1)
    means, sds = exact_hierarchy(x_grouped, group)
    for k, label in enumerate(LABELS):
        rows["hierarchical", label] = row(drawn[..., k], means[k], sds[k])
    at = np.arange(len(LABELS))
    axes[2].errorbar(at - 0.15, drawn.mean((0, 1)), 2 * drawn.std((0, 1)), fmt="o", label="ratio")
    axes[2].errorbar(at + 0.15, means, 2 * sds, fmt="k_", ls="none", label="exact")
    axes[2].set(title="hierarchical prior", ylabel="posterior mean ± 2 sd")
    axes[2].set_xticks(at, LABELS, rotation=45)
    axes[0].legend(frameon=False)
    figure.savefig(FIGURES / "prior_swap.png", dpi=120)
    columns = ["ESS", "mean", "sd", "exact mean", "exact sd", "error / sd", "sd ratio"]
    table = pd.DataFrame(rows, columns).T.astype(float)
    print(f"{table.round(3).to_string()}\n\nFigures: {FIGURES}")
    return table


if __name__ == "__main__":
    main(quick="--quick" in sys.argv)
