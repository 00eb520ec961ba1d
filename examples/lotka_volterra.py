"""Predators and prey: pelts of hares and lynx, 1900 to 1920, and the animals behind them.

The animals follow the equations of Lotka and Volterra, h' = h (alpha - beta l) and
l' = l (delta h - gamma), and pelts are their numbers with log-normal noise. Animals are hidden: a
year's pelts do not make the next year's, so an observation is the whole series, not a step of it.
The model and its priors are those of Carpenter (2018, Predator-prey population dynamics: the
Lotka-Volterra model in Stan), so there is a published posterior; the likelihood is used for nothing
but to compare with the exact one.

The ratio knows other parameters than the model, such as data tell nearly one by one: the average of
each species (gamma / delta hares and alpha / beta lynx), the period of small cycles, alpha / gamma.
"""

import sys
import warnings
from itertools import pairwise
from pathlib import Path

import arviz as az
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pymc as pm
import torch
from scipy.special import softmax
from scipy.stats import multivariate_t, norm
from torch import nn

import pymc_nre as nre

HERE = Path(__file__).parent
FIGURES = HERE / "figures"
STEPS = 10  # of Runge and Kutta in a year
# Centers and sds of the first training prior, normal: what is usual of such animals.
USUAL = {
    "log_hares": (np.log(30), 0.5), "log_lynx": (np.log(20), 0.5),
    "log_period": (np.log(9), 0.25), "log_ratio": (0.0, 0.5),
    "log_hares_0": (np.log(30), 0.7), "log_lynx_0": (np.log(10), 0.7),
    "log_noise_hares": (-1.2, 0.4), "log_noise_lynx": (-1.2, 0.4),
}  # fmt: skip
PUBLISHED = {  # means of the case study
    "alpha": 0.545, "beta": 0.028, "gamma": 0.803, "delta": 0.024, "hares_0": 33.956,
    "lynx_0": 5.933,
}  # fmt: skip
# Priors of the model: normal above zero, and normal logarithms
RATE_PRIOR = {"alpha": (1, 0.5), "beta": (0.05, 0.05), "gamma": (1, 0.5), "delta": (0.05, 0.05)}
LOG_PRIOR = {"hares_0": (np.log(10), 1), "lynx_0": (np.log(10), 1)}
LOG_PRIOR |= {"noise_hares": (-1, 1), "noise_lynx": (-1, 1)}


def animals(theta, years):
    """Log numbers ``(n, 2, years)`` of hares and lynx, for `USUAL` parameters ``(n, 8)``."""
    center, start, (log_period, log_ratio) = theta[:, :2].T, theta[:, 4:6].T, theta[:, 2:4].T
    rate = 2 * np.pi * np.exp([log_ratio / 2 - log_period, -log_ratio / 2 - log_period])
    rate *= [[1], [-1]]

    def slope(state):
        return -rate * np.expm1(state[::-1])

    state, h, seen = start - center, 1 / STEPS, [start - center]
    for _ in range(years - 1):
        for _ in range(STEPS):
            a = slope(state)
            b = slope(state + h / 2 * a)
            c = slope(state + h / 2 * b)
            state = state + h / 6 * (a + 2 * b + 2 * c + slope(state + h * c))
        seen.append(state)
    return np.transpose(seen, (2, 1, 0)) + center.T[:, :, None]


def pelts(rng, years=21, **parameters):
    """Their noisy logarithms."""
    theta = np.column_stack([parameters[name] for name in USUAL])
    return rng.normal(animals(theta, years), np.exp(theta[:, 6:, None]))


def natural(theta):
    """What the model calls its parameters, by name, ``(n)`` each."""
    hares, lynx, period, ratio, *others = np.exp(theta).T
    alpha, gamma = 2 * np.pi / period * ratio**0.5, 2 * np.pi / period / ratio**0.5
    rates = {"alpha": alpha, "beta": alpha / lynx, "gamma": gamma, "delta": gamma / hares}
    return rates | dict(zip(LOG_PRIOR, others, strict=True))


def of_ratio(log, alpha, beta, gamma, delta, **others):
    """What the ratio calls them, by name; ``log`` is that of NumPy or of PyTensor."""
    found = {"log_hares": log(gamma / delta), "log_lynx": log(alpha / beta)}
    found["log_period"] = np.log(2 * np.pi) - log(alpha * gamma) / 2
    found["log_ratio"] = log(alpha / gamma)
    return found | {f"log_{name}": log(value) for name, value in others.items()}


def log_prior(theta):
    """Of the model, as a density of `USUAL` parameters, up to a constant."""
    values = natural(theta)
    rates = sum(
        norm.logpdf(values[name], *at) + np.log(values[name]) for name, at in RATE_PRIOR.items()
    )
    return rates + sum(norm.logpdf(np.log(values[name]), *at) for name, at in LOG_PRIOR.items())


def log_likelihood(theta, x):
    with np.errstate(over="ignore", invalid="ignore"):  # what explodes is not like the data
        found = norm.logpdf(x, animals(theta, 21), np.exp(theta[:, 6:, None])).sum((1, 2))
    return np.where(np.isnan(found), -np.inf, found)


def layers(*sizes):
    steps = [part for pair in pairwise(sizes) for part in (nn.SiLU(), nn.Linear(*pair))]
    return nn.Sequential(*steps[1:])


class CurveAndNoise(nn.Module):
    """It learns a curve for each parameter, and looks at what remains of the series.

    Neither the equations nor the distribution of the noise are known to it.
    """

    def __init__(self, theta_size, event_shape):
        super().__init__()
        size = np.prod(event_shape)
        self.of_series = layers(size, 128, 64, 16)
        self.curve, self.weight = layers(6, 64, 64, size), nn.Parameter(torch.ones(size))
        self.of_all = layers(theta_size + 16 + 4, 64, 64, 64, 1)

    def embed(self, x):  # (n, 2, years) -> (n, 2 years + 16)
        """The series, and features of it."""
        x = x.flatten(1)
        return torch.cat([x, self.of_series(x)], -1)

    def head(self, theta, features):  # (n, 8), (n, 2 years + 16) -> (n)
        """Log ratios."""
        x, of_series = features[..., :-16], features[..., -16:]
        squares = (self.weight * (x - self.curve(theta[..., :6]))).square()
        hares, lynx = squares.split(squares.shape[-1] // 2, -1)
        remains = torch.stack([hares.sum(-1), lynx.sum(-1)], -1) + 0.01
        theta, of_series, remains = same_rows(theta, of_series, remains)
        return self.of_all(torch.cat([theta, of_series, remains.log(), remains.sqrt()], -1))[..., 0]

    def forward(self, theta, x):
        """Log ratios of pairs."""
        return self.head(theta, self.embed(x))


def same_rows(*parts):
    rows = torch.broadcast_shapes(*(part.shape[:-1] for part in parts))
    return [part.expand(*rows, part.shape[-1]) for part in parts]


def weighted(log_density, center, spread, seed, n=20_000):
    """Draws ``(n, 8)`` of t distributions that approach a density, and weights that sum to one."""
    rng, covariance, power, rounds = np.random.default_rng(seed), np.diag(spread**2), 0.0, 0
    while rounds < 4:
        t = multivariate_t(center, covariance, df=5)
        theta = t.rvs(n, random_state=rng)
        log_weights = log_density(theta) - t.logpdf(theta)
        for power in 0.5 ** np.arange(12):  # flattened, until they rest on a hundred draws
            weights = softmax(power * log_weights)
            if 1 / np.sum(weights**2) > 100:
                break
        rounds += power == 1
        center = weights @ theta
        covariance = (theta - center).T @ ((theta - center) * weights[:, None])
    return theta, weights


def moments(values, weights):
    mean = weights @ values
    return mean, np.sqrt(weights @ np.square(values - mean))


def training(x, quick, seed):
    """A ratio, its training prior, and the center and spread of that.

    The first ratio is of the usual animals, the second of those that the first does not rule out.
    """

    def train(at, turn, epochs):
        prior = {name: pm.Normal.dist(*own) for name, own in zip(USUAL, at.T, strict=True)}
        per_epoch = 2_560 if quick else 12_800
        supply = nre.Online(
            prior, pelts, batched=True, per_epoch=per_epoch, random_seed=seed + turn
        )
        settings = {"epochs": epochs, "measure_budget": False, "progressbar": False}
        return prior, nre.train(supply, network=CurveAndNoise, random_seed=seed, **settings)

    def log_posterior(theta):
        likelihood = first.log_ratio(x, **dict(zip(USUAL, theta.T, strict=True)))
        return likelihood + norm.logpdf(theta, *usual).sum(1)

    usual = np.array(list(USUAL.values())).T
    _, first = train(usual, 0, 5 if quick else 60)
    center, spread = moments(*weighted(log_posterior, *usual, seed))
    near = np.array([center, 2 * spread])  # with room on either side
    prior, ratio = train(near, 1, 3 if quick else 120)
    return ratio, prior, near


def sample(ratio, x, start, **settings):
    """Draws of NUTS by name, ``(chain, draw)`` each."""
    start = natural(start[None])
    with pm.Model():
        parameters = {
            name: pm.TruncatedNormal(name, *at, lower=0, initval=start[name].item())
            for name, at in RATE_PRIOR.items()
        }
        for name, at in LOG_PRIOR.items():
            parameters[name] = pm.LogNormal(name, *at, initval=start[name].item())
        with warnings.catch_warnings():  # it cuts priors only where the likelihood is no more
            warnings.simplefilter("ignore", nre.DomainWarning)
            nre.RatioLikelihood("x", ratio, **of_ratio(pm.math.log, **parameters), observed=x)
        idata = pm.sample(init="adapt_diag", progressbar=False, **settings)
    return {name: idata["posterior"][name].to_numpy() for name in parameters}


def compare(draws, theta, weights):
    """A row for each parameter of the model."""
    rows = {}
    for name, exact in natural(theta).items():
        own, (mean, sd) = draws[name], moments(exact, weights)
        error, width = (own.mean() - mean) / sd, own.std() / sd
        published = PUBLISHED.get(name, np.nan)
        rows[name] = [az.ess(own), own.mean(), own.std(), mean, sd, error, width, published]
    columns = ["ESS", "mean", "sd", "exact mean", "exact sd", "error / sd", "sd ratio", "published"]
    return pd.DataFrame(rows, columns).T.astype(float)


def plot(draws, exact, data, rng):
    """Numbers of animals and of pelts by NUTS, and pelts exactly, ten years beyond the data."""
    figure, axes = plt.subplots(2, 1, figsize=(8, 6), sharex=True, layout="constrained")
    years = np.arange(1900, 1931)
    hidden = animals(draws, len(years))
    bands = {
        "pelts, 90 %": np.exp(rng.normal(hidden, np.exp(draws[:, 6:, None]))),
        "animals, 90 %": np.exp(hidden),
    }
    of_exact = np.exp(rng.normal(animals(exact, len(years)), np.exp(exact[:, 6:, None])))
    for k, (ax, name) in enumerate(zip(axes, ("hare", "lynx"), strict=True)):
        for (label, numbers), alpha in zip(bands.items(), (0.2, 0.5), strict=True):
            ends = np.quantile(numbers[:, k], [0.05, 0.95], axis=0)
            ax.fill_between(years, *ends, color="C0", alpha=alpha, lw=0, label=label)
        for end in np.quantile(of_exact[:, k], [0.05, 0.95], axis=0):
            ax.plot(years, end, "k--", lw=0.8)
        ax.plot([], [], "k--", lw=0.8, label="pelts, exact posterior")
        ax.plot(data["year"], data[name], "ko", ms=4, label="observed")
        ax.axvline(1920.5, color="0.5", lw=0.8)
        ax.set(ylabel=f"{name}, thousands", yscale="log", yticks=(5, 10, 20, 50, 100))
        ax.yaxis.set_major_formatter("{x:.0f}")
        ax.yaxis.set_minor_formatter("")
    axes[0].legend(frameon=False, ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1))
    axes[1].set(xlabel="year")
    figure.savefig(FIGURES / "lotka_volterra.png", dpi=120)


def check(ratio, prior, x, quick, seed):
    """What the diagnostics say of the ratio, where it was trained."""
    n, draws = (200, 1_000) if quick else (300, 100_000)
    unseen = nre.simulate(prior, pelts, n, batched=True, random_seed=seed + 9, progressbar=False)
    options = {"trials": 1, "draws": draws, "progressbar": False}
    with warnings.catch_warnings():  # the report says it too
        warnings.simplefilter("ignore", nre.PosteriorWarning)
        return nre.diagnostics.report(ratio, unseen, x, random_seed=seed, **options)


def main(quick=False, seed=1):
    FIGURES.mkdir(exist_ok=True)
    data = pd.read_csv(HERE / "hudson_bay.csv", comment="#")
    x = np.log(data[["hare", "lynx"]].to_numpy().T)
    ratio, prior, near = training(x, quick, seed)

    settings = {"tune": 100, "draws": 50, "chains": 1} if quick else {"draws": 2_500, "chains": 4}
    draws = sample(ratio, x, near[0], random_seed=seed, **settings)
    theta, weights = weighted(lambda at: log_likelihood(at, x) + log_prior(at), *near, seed)
    table = compare(draws, theta, weights)

    rng = np.random.default_rng(seed)
    drawn = of_ratio(np.log, **{name: own.ravel() for name, own in draws.items()})
    drawn = rng.choice(np.column_stack([drawn[name] for name in USUAL]), 2_000)
    plot(drawn, rng.choice(theta, 2_000, p=weights), data, rng)
    print(check(ratio, prior, x, quick, seed))
    print(f"\n{table.round(3).to_string()}\n\nFigures: {FIGURES}")
    return table


if __name__ == "__main__":
    main(quick="--quick" in sys.argv)
