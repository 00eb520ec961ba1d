"""A psychophysics experiment: known stimuli, lapses, and subjects that differ.

A subject says of a stimulus whether it was stronger than a standard: by a noisy comparison, or now
and then by a lapse, at random. The stimulus is a condition, which the experimenter knows; threshold
and slope of a subject are parameters. The chance of an answer is known, so the same model with it
is sampled to compare.
"""

import sys
from pathlib import Path

import arviz as az
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pymc as pm

import pymc_nre as nre

FIGURES = Path(__file__).parent / "figures"
LAPSE, REPEATS = 0.05, 10  # chance of a lapse; trials at a stimulus, of which yes is counted
STIMULI, SUBJECTS = np.linspace(-2, 2, 9), 8


def simulator(rng, threshold, log_slope, stimulus):
    """How often of ten times a stimulus is called stronger."""
    each = (len(stimulus), REPEATS)
    compared = (
        stimulus[:, None]
        - threshold[:, None]
        + rng.logistic(size=each) / np.exp(log_slope[:, None])
    )
    lapses = rng.random(each) < LAPSE
    answers = np.where(lapses, rng.random(each) < 0.5, compared > 0)
    return answers.sum(1).astype(float)


def chance(threshold, log_slope, stimulus, exp=np.exp):
    """What the simulator's answers come to; no simulator of interest has such a line."""
    return LAPSE / 2 + (1 - LAPSE) / (1 + exp(-exp(log_slope) * (stimulus - threshold)))


def sampled(likelihood, settings):
    """Subjects around a mean, with a spread that is inferred."""
    with pm.Model(coords={"subject": range(SUBJECTS), "stimulus": STIMULI}):
        mean, spread = pm.Normal("mean", 0, 1), pm.HalfNormal("spread", 0.5)
        threshold = pm.Normal("threshold", mean, spread, dims="subject")
        slope = pm.Normal("slope", 0.5, 0.3)
        likelihood(threshold=threshold[:, None], log_slope=slope)
        return pm.sample(**settings)


def main(quick=False, seed=1):
    FIGURES.mkdir(exist_ok=True)
    prior = {"threshold": pm.Uniform.dist(-3, 3), "log_slope": pm.Uniform.dist(-1, 2)}
    sims = nre.simulate(
        prior,
        simulator,
        2_000 if quick else 200_000,
        conditions={"stimulus": pm.Uniform.dist(-2.5, 2.5)},
        batched=True,
        random_seed=seed,
    )
    options = {"epochs": 20} if quick else {"batch_size": 512, "epochs": 15}
    ratio = nre.train(sims, **options, random_seed=seed)

    rng = np.random.default_rng(3)
    thresholds = rng.normal(0.3, 0.5, SUBJECTS)
    grid = (np.repeat(thresholds, len(STIMULI)), np.tile(STIMULI, SUBJECTS))
    answers = simulator(rng, grid[0], np.full(len(grid[0]), 0.7), grid[1]).reshape(SUBJECTS, -1)

    settings = {"tune": 300, "draws": 100, "chains": 2} if quick else {"draws": 2_500, "chains": 4}
    settings |= {"random_seed": seed, "progressbar": False, "target_accept": 0.95}
    data = {"observed": answers, "dims": ("subject", "stimulus")}
    by_ratio = sampled(
        lambda **p: nre.RatioLikelihood("yes", ratio, stimulus=STIMULI, **p, **data), settings
    )
    exact = sampled(
        lambda **p: pm.Binomial(
            "yes", REPEATS, chance(**p, stimulus=STIMULI, exp=pm.math.exp), **data
        ),
        settings,
    )

    rows = {}
    columns = ["ESS", "mean", "sd", "exact mean", "exact sd", "error / sd", "sd ratio"]
    for name in ("mean", "spread", "slope"):
        own, other = (each["posterior"][name].to_numpy() for each in (by_ratio, exact))
        center, sd = other.mean(), other.std()
        error, width = (own.mean() - center) / sd, own.std() / sd
        rows[name] = [az.ess(own), own.mean(), own.std(), center, sd, error, width]
    table = pd.DataFrame(rows, columns).T.astype(float)

    figure, ax = plt.subplots(figsize=(7, 4), layout="constrained")
    x = np.linspace(-2.5, 2.5, 101)
    draws = by_ratio["posterior"]
    for k, color in zip((0, 3, 6), ("C0", "C1", "C2"), strict=True):
        curves = chance(
            draws["threshold"].to_numpy()[..., k].ravel()[::10, None],
            draws["slope"].to_numpy().ravel()[::10, None],
            x,
        )
        ax.fill_between(x, *np.quantile(curves, [0.05, 0.95], axis=0), color=color, alpha=0.3, lw=0)
        ax.plot(STIMULI, answers[k] / REPEATS, "o", color=color, ms=4, label=f"subject {k + 1}")
    ax.set(
        xlabel="stimulus", ylabel="called stronger", title="90 % bands of three subjects' curves"
    )
    ax.legend(frameon=False)
    figure.savefig(FIGURES / "psychometric.png", dpi=120)
    print(f"{table.round(3).to_string()}\n\nFigures: {FIGURES}")
    return table


if __name__ == "__main__":
    main(quick="--quick" in sys.argv)
