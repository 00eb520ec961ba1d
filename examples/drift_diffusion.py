"""A drift-diffusion model: the choices and response times of twenty subjects.

Evidence starts at z a and drifts at rate v, with unit noise, until it leaves the interval from 0
to a. At a the response is 1, at 0 it is -1, and t later it is given (Ratcliff and McKoon 2008,
The diffusion decision model, Neural Computation 20). An observation is one trial, (rt, response),
as in HSSM's data, whose a is half of this one.

What is known of a simulator needs no learning: that t only delays responses, and that in a mirror
one response is the other, is built into the network. The likelihood is known too (`wiener.py`). It
is used for nothing but to tell how good the ratio is.
"""

import sys
from itertools import pairwise
from pathlib import Path

import arviz as az
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pymc as pm
import torch
from torch import nn
from wiener import log_density, simulator

import pymc_nre as nre

FIGURES = Path(__file__).parent / "figures"
COLUMNS = ["rt", "response"]
# As wide as people differ. With a larger v or a one response hardly ever occurs, and then trials no
# longer tell a from z: a ratio would spend its training on what no data can answer.
RANGES = {"v": (-3, 3), "a": (0.6, 1.8), "z": (0.3, 0.7), "t": (0.1, 0.6)}
PEOPLE = {"v": (1.0, 0.6), "a": (1.2, 0.2), "z": (0.5, 0.04), "t": (0.3, 0.04)}  # mean, sd
SOON, NEVER = 0.002, -30.0  # seconds after t in which nobody responds, and a log ratio of that


def layers(*sizes):
    steps = [part for pair in pairwise(sizes) for part in (nn.SiLU(), nn.Linear(*pair))]
    return nn.Sequential(*steps[1:])


class Delayed(nre.networks.RatioNetwork):
    """A function of v, a, z and the decision time rt - t, and another of rt alone."""

    def __init__(self, theta_size, event_shape):
        super().__init__(theta_size, event_shape)
        self.of_decision, self.of_rt = layers(5, 64, 64, 64, 1), layers(2, 32, 32, 1)

    def embed(self, x):  # (n, 2) -> (n, 3)
        """What no parameter changes."""
        rt = x[:, :1]
        return torch.cat([x, self.of_rt(torch.cat([rt.log(), rt / (1 + rt)], -1))], -1)

    def head(self, theta, features):  # (*, 4), (*, 3) -> (*)
        """Log ratios."""
        v, a, z, t = theta.split(1, -1)
        rt, response, of_rt = features.split(1, -1)
        possible = rt - t > SOON
        decision = torch.where(possible, rt - t, SOON)
        mirrored = (response * v, response * (8 * z - 4))  # toward the boundary that was reached
        inputs = (*mirrored, 3 * a - 3, decision.log(), 0.06 / (decision + 0.02))
        log_r = self.of_decision(torch.cat(torch.broadcast_tensors(*inputs), -1)) + of_rt
        return torch.where(possible, log_r, NEVER).squeeze(-1)


def people(rng, subjects, trials):
    """Parameters of subjects, and their data as HSSM would have them."""
    draws = {name: rng.normal(mean, sd, subjects) for name, (mean, sd) in PEOPLE.items()}
    subject = np.repeat(np.arange(subjects), trials)
    x = simulator(rng, **{name: value[subject] for name, value in draws.items()})
    return pd.DataFrame(draws), pd.DataFrame(x, columns=COLUMNS).assign(subject=subject)


def hierarchy(data, likelihood):
    """Each subject has its own parameters; ``likelihood`` stands for the trials given those."""
    subject, fastest = data["subject"].to_numpy(), data.groupby("subject")["rt"].min()
    coords = {"subject": fastest.index, "trial": data.index, "column": COLUMNS}
    with pm.Model(coords=coords) as model:
        own = {}
        for name, (low, high) in RANGES.items():
            mean = pm.Uniform(f"{name}_mean", low, high)
            sd = pm.HalfNormal(f"{name}_sd", (high - low) / 8)
            start = 0.5 * (low + fastest.clip(upper=high)) if name == "t" else None
            own[name] = pm.TruncatedNormal(
                name, mean, sd, lower=low, upper=high, dims="subject", initval=start
            )
        likelihood(data[COLUMNS].to_numpy(), {name: own[name][subject] for name in own})
    return model


def by_ratio(ratio):
    """The likelihood of `hierarchy`, learned."""

    def likelihood(x, parameters):
        nre.RatioLikelihood("x", ratio, observed=x, dims=("trial", "column"), **parameters)

    return likelihood


def by_density(x, parameters):
    """The likelihood of `hierarchy`, exact."""
    pm.Potential("x", log_density(x, **parameters).sum())


def flat(draws):
    """All numbers of draws by name, ``(chain, draw, numbers)``."""
    return np.concatenate([v.reshape(*v.shape[:2], -1) for v in draws.values()], axis=-1)


def compare(drawn, exact, truth):
    """A row for each parameter of each subject and of the group."""
    labels, known = [], []
    for name, own in truth.items():
        labels += [*(f"{name}[{j}]" for j in own.index), f"{name}_mean", f"{name}_sd"]
        known += [*own, *PEOPLE[name]]
    table = pd.DataFrame({"truth": known}, labels)
    for word, draws in {"": drawn, "exact ": exact}.items():
        if draws is not None:
            numbers = flat(draws)
            table[f"{word}ESS"] = [float(az.ess(column)) for column in np.moveaxis(numbers, -1, 0)]
            table[f"{word}mean"], table[f"{word}sd"] = numbers.mean((0, 1)), numbers.std((0, 1))
    if exact is not None:
        table["error / sd"] = (table["mean"] - table["exact mean"]) / table["exact sd"]
        table["sd ratio"] = table["sd"] / table["exact sd"]
    return table


def quantile_probability(axis, data, style, **options):
    """Quantiles of the response times over how frequent the response is, both of each subject."""
    for _, own in data.groupby("subject"):
        for _, same in own.groupby("response"):
            at = np.full(5, len(same) / len(own))
            axis.plot(at, same["rt"].quantile([0.1, 0.3, 0.5, 0.7, 0.9]), style, **options)
            options.pop("label", None)


def plot(drawn, exact, truth, data, predicted):
    layout = [[f"{name} {what}" for name in RANGES] for what in ("group", "subjects")]
    figure, axes = plt.subplot_mosaic(
        [*layout, ["quantiles"] * 4], figsize=(13, 10), layout="constrained"
    )
    for name, (mean, _) in PEOPLE.items():
        group, subjects = axes[f"{name} group"], axes[f"{name} subjects"]
        for draws, color, shift in ((drawn, "C0", 0), (exact, "k", 0.02 * np.ptp(truth[name]))):
            if draws is None:
                continue
            who = "ratio" if draws is drawn else "exact likelihood"
            bars = draws[f"{name}_mean"].ravel()
            group.hist(bars, 25, density=True, histtype="step", color=color, label=who)
            middle, spread = draws[name].mean((0, 1)), draws[name].std((0, 1))
            bar = {"fmt": "o", "ms": 3, "color": color, "label": who}
            subjects.errorbar(truth[name] + shift, middle, 2 * spread, **bar)
        group.axvline(mean, color="C1", ls="--", label="truth")
        group.set(xlabel=f"mean of {name} over subjects", ylabel="posterior density")
        subjects.axline((truth[name].mean(),) * 2, slope=1, color="C1", ls="--")
        subjects.set(xlabel=f"{name} of a subject, truth", ylabel="posterior mean ± 2 sd")
    axes["v group"].legend(frameon=False, fontsize="x-small", loc="upper left")
    quantile_probability(axes["quantiles"], predicted, "C0o", ms=4, label="predicted")
    quantile_probability(axes["quantiles"], data, "kx", ms=5, label="observed")
    axes["quantiles"].set(
        xlabel="share of a response, for each subject and response",
        ylabel="rt: 10, 30, 50, 70, 90%",
    )
    axes["quantiles"].legend(frameon=False)
    figure.savefig(FIGURES / "drift_diffusion.png", dpi=120)


def training(quick, seed):
    """The ratio as trained, and as centered."""
    with pm.Model() as training_prior:
        for name, ends in RANGES.items():
            pm.Uniform(name, *ends)
    each, epochs, steps = (5_000, 10, 100) if quick else (100_000, 40, 1_000)
    supply = nre.Online(training_prior, simulator, batched=True, per_epoch=each, random_seed=seed)
    options = {"learning_rate": 5e-3, "batch_size": 512, "epochs": epochs}
    # Contrasts at every scale, the default, leave more to center here: see docs/examples.md.
    options["loss"] = nre.losses.NREC()
    ratio = nre.train(supply, network=Delayed, **options, random_seed=seed)
    n = 20_000 if quick else 1_000_000
    fresh = nre.simulate(training_prior, simulator, n, batched=True, random_seed=seed + 2)
    print(f"As trained, {nre.trial_budget(ratio, fresh)}")
    # By ten times the strength trials would tell other things than before: see docs/many_trials.md.
    centered = nre.center(ratio, supply, steps=steps, strength=10, random_seed=seed + 1)
    print(f"Centered, {nre.trial_budget(centered, fresh)}")
    return ratio, centered


def sample(model, **settings):
    """What NUTS drew, and the draws of each parameter, ``(chain, draw, ...)``."""
    with model:
        idata = pm.sample(init="adapt_diag", progressbar=False, **settings)
    names = [name + part for name in RANGES for part in ("", "_mean", "_sd")]
    return idata, {name: idata["posterior"][name].to_numpy() for name in names}


def predict(model, idata, data, seed):
    """New trials of the same subjects, as many times as there are draws kept."""
    with model:
        new = pm.sample_posterior_predictive(
            idata.isel(draw=slice(None, None, 10)), random_seed=seed, progressbar=False
        )
    x = new["posterior_predictive"]["x"].to_numpy().reshape(-1, len(data), 2)
    subject = np.tile(data["subject"], len(x))
    return pd.DataFrame(x.reshape(-1, 2), columns=COLUMNS).assign(subject=subject)


def main(quick=False, seed=1):
    FIGURES.mkdir(exist_ok=True)
    _, ratio = training(quick, seed)
    truth, data = people(np.random.default_rng(2), *((3, 50) if quick else (20, 200)))
    settings = {"tune": 500, "draws": 1_000, "chains": 2, "random_seed": seed}
    if quick:
        settings |= {"tune": 20, "draws": 10, "max_treedepth": 3}
    model = hierarchy(data, by_ratio(ratio))
    idata, drawn = sample(model, **settings)
    exact = None if quick else sample(hierarchy(data, by_density), **settings)[1]
    table = compare(drawn, exact, truth)
    plot(drawn, exact, truth, data, predict(model, idata, data, seed))
    print(f"{table.round(3).to_string()}\n\nFigures: {FIGURES}")
    return table


if __name__ == "__main__":
    main(quick="--quick" in sys.argv)
