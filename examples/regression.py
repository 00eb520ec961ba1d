"""A regression: the mean and the spread of each observation depend on its own covariate.

The ratio knows one observation with a mean and a spread; the regression is the model's. The
simulator is normal, so the exact posterior is at hand to compare with.
"""

import sys
from pathlib import Path

import arviz as az
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pymc as pm
from scipy.special import softmax

import pymc_nre as nre

FIGURES = Path(__file__).parent / "figures"


def exact(time, x, new_time):
    """Means and sds of a, b, c, d and of x at new times.

    Given c and d this is linear regression; those two are summed over a fine grid.
    """
    steps = np.linspace(-1.5, 1.5, 201)  # ± 6 prior sds
    c, d = (grid.reshape(-1, 1) for grid in np.meshgrid(steps, steps))
    log_p = -0.5 * (c**2 + d**2) / 0.25**2
    log_sigma, design = c + d * time, np.stack([np.ones_like(time), time], axis=-1)
    weights = np.exp(-2 * log_sigma)  # (grid, observation)
    precision = np.einsum("gi,ij,ik->gjk", weights, design, design) + np.eye(2)
    covariance = np.linalg.inv(precision)
    beta = np.einsum("gjk,gi,ik->gj", covariance, weights * x, design)
    fit = np.einsum("gj,gjk,gk->g", beta, precision, beta) - weights @ x**2
    log_p = log_p[:, 0] - log_sigma.sum(1) + (fit - np.linalg.slogdet(precision)[1]) / 2
    p = softmax(log_p)[:, None]
    new = np.stack([np.ones_like(new_time), new_time], axis=-1)
    noise = np.exp(2 * (c + d * new_time)) + np.einsum("nj,gjk,nk->gn", new, covariance, new)
    means = np.hstack([beta, c, d, beta @ new.T])
    variances = np.hstack([covariance[:, [0, 1], [0, 1]], 0 * c, 0 * d, noise])
    mean = np.sum(p * means, axis=0)
    return mean, np.sum(p * (variances + (means - mean) ** 2), axis=0) ** 0.5


def simulator(rng, mu, log_sigma):
    return rng.normal(mu, np.exp(log_sigma))


def main(quick=False, seed=1):
    FIGURES.mkdir(exist_ok=True)
    with pm.Model() as training_prior:  # of one observation
        pm.Uniform("mu", -5, 5)
        pm.Uniform("log_sigma", -1, 1)
    n = 2_000 if quick else 400_000
    sims = nre.simulate(training_prior, simulator, n, batched=True, random_seed=seed)
    # Its error adds up over 25 observations, so train on more, and in larger batches
    options = {} if quick else {"batch_size": 512, "epochs": 8}
    ratio = nre.train(sims, **options, random_seed=seed)

    settings = {"tune": 300, "draws": 100, "chains": 2} if quick else {"draws": 2_500, "chains": 4}
    settings |= {"random_seed": seed, "progressbar": False}
    rng = np.random.default_rng(2)
    time, new_time = np.sort(rng.uniform(-1, 1, 25)), np.linspace(-1, 1.5, 26)
    x = simulator(rng, 0.5 + 1.2 * time, -0.2 + 0.4 * time)
    with pm.Model(coords={"trial": range(len(x))}):
        t = pm.Data("t", time, dims="trial")
        observed = pm.Data("observed", x, dims="trial")
        a, b = pm.Normal("a", 0, 1), pm.Normal("b", 0, 1)
        c, d = pm.Normal("c", 0, 0.25), pm.Normal("d", 0, 0.25)
        parameters = {"mu": a + b * t, "log_sigma": c + d * t}
        nre.RatioLikelihood("x", ratio, **parameters, observed=observed, dims="trial")
        idata = pm.sample(**settings)
        new = {"t": new_time, "observed": np.zeros_like(new_time)}  # the zeros only have a length
        pm.set_data(new, coords={"trial": range(len(new_time))})
        predicted = pm.sample_posterior_predictive(
            idata, predictions=True, random_seed=seed, progressbar=False
        )["predictions"]["x"].to_numpy()

    means, sds = exact(time, x, new_time)
    columns = ["ESS", "mean", "sd", "exact mean", "exact sd", "error / sd", "sd ratio"]
    rows = {}
    for name, mean, sd in zip("abcd", means, sds, strict=False):
        draws = idata["posterior"][name].to_numpy()
        error, width = (draws.mean() - mean) / sd, draws.std() / sd
        rows[name] = [az.ess(draws), draws.mean(), draws.std(), mean, sd, error, width]
    table = pd.DataFrame(rows, columns).T.astype(float)

    figure, ax = plt.subplots(figsize=(7, 4), layout="constrained")
    middle, spread = predicted.mean((0, 1)), predicted.std((0, 1))
    ax.fill_between(new_time, middle - 2 * spread, middle + 2 * spread, alpha=0.25, lw=0)
    ax.plot(new_time, middle, label="ratio: predictive mean ± 2 sd")
    for k in (-2, 0, 2):
        ax.plot(new_time, means[4:] + k * sds[4:], "k--", lw=1, label="exact" * (k == 0))
    ax.plot(time, x, "ko", ms=4, label="observed")
    ax.set(xlabel="covariate t", ylabel="x")
    ax.legend(frameon=False, loc="upper left")
    figure.savefig(FIGURES / "regression.png", dpi=120)
    print(f"{table.round(3).to_string()}\n\nFigures: {FIGURES}")
    return table


if __name__ == "__main__":
    main(quick="--quick" in sys.argv)
