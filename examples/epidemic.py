"""Influenza in a boarding school: all simulations for one series of a stochastic epidemic.

Boys catch the disease from those who are ill and not yet in bed, go to bed, and get up again; each
step is a matter of chance. Only those in bed were counted, on fourteen days. Most epidemics that
the prior allows look nothing like this one, so they are simulated in rounds, each where the last
ratio finds these data likely.
"""

import sys
from pathlib import Path

import arviz as az
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pymc as pm

import pymc_nre as nre

HERE = Path(__file__).parent
FIGURES = HERE / "figures"
BOYS = 763
STEPS = 10  # in a day
# Means and standard deviations of logarithms: contacts of a boy in a day that would pass the
# disease on, days until he goes to bed, days in bed, and boys who are ill on the first day.
PRIOR = {
    "log_contacts": (np.log(2.0), 0.7),
    "log_about": (np.log(1.0), 0.7),
    "log_in_bed": (np.log(3.0), 0.5),
    "log_ill": (np.log(5.0), 1.0),
}


def in_bed(rng, log_contacts, log_about, log_in_bed, log_ill, days=14):
    """How many boys are in bed on each day after the first, when there were three, ``(n, 13)``."""
    infect = np.exp(log_contacts) / STEPS / BOYS
    to_bed, up = (-np.expm1(-np.exp(-log) / STEPS) for log in (log_about, log_in_bed))
    bed = np.full(len(infect), 3)
    about = np.minimum(rng.poisson(np.exp(log_ill)), BOYS - 3)
    healthy, counts = BOYS - bed - about, []
    for _ in range(days - 1):
        for _ in range(STEPS):
            caught = rng.binomial(healthy, -np.expm1(-infect * about))
            lay_down, got_up = rng.binomial(about, to_bed), rng.binomial(bed, up)
            healthy, about = healthy - caught, about + caught - lay_down
            bed = bed + lay_down - got_up
        counts.append(bed)
    return np.stack(counts, 1)


def simulator(rng, **parameters):
    """The same on a scale on which chance is as large everywhere: square roots."""
    return np.sqrt(in_bed(rng, **parameters))


def observed():
    return pd.read_csv(HERE / "boarding_school.csv", comment="#")["in_bed"].to_numpy()


def priors():
    return {name: pm.Normal(name, *moments) for name, moments in PRIOR.items()}


def summary(posterior):
    """Numbers that one would ask for, of draws."""
    draws = {name: posterior[name].to_numpy() for name in PRIOR}
    numbers = {
        "reproduction number": np.exp(draws["log_contacts"] + draws["log_about"]),
        "days until in bed": np.exp(draws["log_about"]),
        "days in bed": np.exp(draws["log_in_bed"]),
        "ill on the first day": np.exp(draws["log_ill"]),
    }
    rows = {
        name: [az.ess(values), values.mean(), *np.quantile(values, [0.05, 0.95])]
        for name, values in numbers.items()
    }
    return pd.DataFrame(rows, ["ESS", "mean", "5 %", "95 %"]).T.astype(float)


def figure(counts, simulated):
    """The data and what the posterior predicts."""
    low, middle, high = np.quantile(simulated**2, [0.05, 0.5, 0.95], axis=0)
    days = np.arange(1, len(counts) + 1)
    fig, ax = plt.subplots(figsize=(6, 3.5), layout="constrained")
    ax.fill_between(days[1:], low, high, alpha=0.25, lw=0, label="predicted, 90 %")
    ax.plot(days[1:], middle)
    ax.plot(days, counts, "ko", ms=4, label="observed")
    ax.set(xlabel="day", ylabel=f"boys in bed, of {BOYS}")
    ax.legend(frameon=False)
    fig.savefig(FIGURES / "epidemic.png", dpi=120)


def main(quick=False, seed=1):
    FIGURES.mkdir(exist_ok=True)
    counts = observed()
    x = np.sqrt(counts[1:])
    with pm.Model() as training_prior:
        priors()
    found = nre.rounds(
        training_prior,
        simulator,
        2_000 if quick else 10_000,
        observed=x,
        rounds=2 if quick else 4,
        method="posterior",
        batched=True,
        random_seed=seed,
        progressbar=False,
    )
    print(found)
    settings = {"tune": 300, "draws": 200, "chains": 2} if quick else {"draws": 1_000, "chains": 4}
    with pm.Model():
        nre.RatioLikelihood("x", found.ratio, **priors(), observed=x)
        idata = pm.sample(**settings, random_seed=seed, progressbar=False)
        predicted = pm.sample_posterior_predictive(idata, random_seed=seed, progressbar=False)
    simulated = predicted["posterior_predictive"]["x"].to_numpy().reshape(-1, len(x))
    figure(counts, simulated)
    table = summary(idata["posterior"])
    print(f"\n{table.round(2).to_string()}\n\nFigures: {FIGURES}")
    return found, table, simulated


if __name__ == "__main__":
    main(quick="--quick" in sys.argv)
