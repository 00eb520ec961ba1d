"""Inverse design: ask for what a quadcopter should do, and get designs that do it.

Cobb et al. (2023, Direct amortized likelihood ratio estimation, arXiv:2311.10571) inferred designs
from a wanted performance. Here the simulator is at hand (`quadcopter.py`), so that all that is
proposed is simulated again: does it do what was wanted? The wanted outcome takes the place of data
in a PyMC model whose parameters are the design. One ratio answers for all that may be wanted, where
an optimizer starts anew for each.
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pymc as pm
from matplotlib.patches import Circle, Rectangle
from quadcopter import NOISE, OUTCOMES, RANGES, battery_size, outcomes, simulator
from scipy.optimize import differential_evolution

import pymc_nre as nre

FIGURES = Path(__file__).parent / "figures"
LOSSES = [
    ("default", None),
    ("NREC", nre.losses.NREC()),
    ("DNRE", nre.losses.DNRE()),
    ("DNRE, plain", nre.losses.DNRE("plain", candidates=2)),  # as published
]
# In the order of OUTCOMES: kg, A, W, min, km, m/s, and no interferences
WANTED = {
    "steady": np.array([2.5, 100, 300, 25, 20, 30, 0]),
    "far": np.array([2.0, 60, 220, 30, 25, 25, 0]),
    "fast": np.array([2.5, 200, 320, 20, 15, 38, 0]),
}
# Of what was wanted, in each but interferences. It is two sds of the noise: with less noise the
# posterior would be narrower than what is allowed, with more many of its draws would miss.
TOLERANCE = 2 * NOISE
WAYS = ["prior", *dict(LOSSES), "optimizer", "exact posterior"]  # in the figure
COLORS = {way: f"C{k}" for k, way in enumerate(WAYS)}
CHAINS = 400  # with the exact likelihood
LOWER, UPPER = np.array(list(RANGES.values())).T
PRIOR_SD = (UPPER - LOWER) / 12**0.5
FULL = {
    "simulations": 9_000,
    "draws_of_prior": 1_000_000,
    "proposals": 1_000,
    "steps": 5_000,  # of chains with the exact likelihood
    "losses": len(LOSSES),
    "wanted": list(WANTED),
    "training": {},
    "sampling": {"tune": 500, "draws": 500, "chains": 4},
}
QUICK = {
    "simulations": 3_000,
    "draws_of_prior": 20_000,
    "proposals": 100,
    "steps": 0,
    "losses": 1,
    "wanted": ["steady"],
    "training": {"epochs": 20},
    "sampling": {"tune": 200, "draws": 100, "chains": 2, "compute_convergence_checks": False},
}


def uniform(seed, n):
    """Designs ``(n, 16)``."""
    return np.random.default_rng(seed).uniform(LOWER, UPPER, (n, len(RANGES)))


def simulated(designs):
    """Outcomes ``(n, 7)`` without noise."""
    parts = np.array_split(designs, len(designs) // 20_000 + 1)  # as caches have room for
    return np.concatenate([outcomes(**dict(zip(RANGES, part.T, strict=True))) for part in parts])


def misses(x, wanted):
    """By how many tolerances outcomes ``(n, 7)`` miss what is wanted, ``(n, 6)``."""
    return (x[:, :-1] / wanted[:-1] - 1) / TOLERANCE


def judged(x, wanted):
    """Are outcomes ``(n, 7)`` as wanted within tolerances, and are they without interferences?"""
    return (np.abs(misses(x, wanted)) <= 1).all(1), x[:, -1] == wanted[-1]


def log_likelihood(x, wanted):
    """Of noiseless outcomes: the simulator is a formula and noise. No ratio is told of it."""
    flies, free = x[:, -2] > 0, x[:, -1] == wanted[-1]
    scale = NOISE * np.where(flies[:, None], x[:, :-1], 1)
    log_p = -0.5 * (((wanted[:-1] - x[:, :-1]) / scale) ** 2).sum(1) - np.log(scale).sum(1)
    return np.where(flies & free, log_p, -np.inf)


def trained(loss, settings, seed):
    prior = {name: pm.Uniform.dist(*ends) for name, ends in RANGES.items()}
    options = {"random_seed": seed, "progressbar": False}
    sims = nre.simulate(prior, simulator, settings["simulations"], batched=True, **options)
    return nre.train(sims, loss=loss, **settings["training"], **options)


def proposals(ratio, wanted, settings, seed):
    """Designs ``(n, 16)``: draws of the posterior, evenly from all chains."""
    with pm.Model():
        design = {name: pm.Uniform(name, *ends) for name, ends in RANGES.items()}
        nre.RatioLikelihood("outcome", ratio, **design, observed=wanted[None])
        idata = pm.sample(**settings["sampling"], random_seed=seed, progressbar=False)
    draws = np.stack([idata["posterior"][name].to_numpy().ravel() for name in RANGES], axis=-1)
    return draws[np.linspace(0, len(draws) - 1, settings["proposals"]).astype(int)]


def optimized(wanted, budget, seed):
    """All designs that differential evolution tries, in their order."""
    tried = []

    def badness(columns):  # (16, n)
        tried.append(columns.T.copy())
        x = simulated(columns.T)
        return (misses(x, wanted) ** 2).sum(1) + x[:, -1]

    size = 3 * len(RANGES)  # five and fifteen times as many found fewer in 10,000 trials
    differential_evolution(
        badness,
        list(RANGES.values()),
        popsize=3,
        maxiter=budget // size - 1,
        tol=0,
        polish=False,
        vectorized=True,
        updating="deferred",
        rng=seed,
    )
    return np.concatenate(tried)


def exact(wanted, settings, seed):
    """Draws of the exact posterior, by chains that learn their steps from each other.

    Differential evolution Markov chains (ter Braak 2006, Statistics and Computing 16). That takes
    two million simulations, and tells what a perfect ratio would have found.
    """
    rng = np.random.default_rng(seed)
    here = uniform(seed, 20 * CHAINS)
    here = here[np.isfinite(log_likelihood(simulated(here), wanted))][:CHAINS]
    size, log_p = len(here), log_likelihood(simulated(here), wanted)
    for step in range(settings["steps"]):
        one, other = (rng.integers(0, size, size) for _ in range(2))
        far = 1.0 if step % 10 == 0 else 2.38 / (2 * len(RANGES)) ** 0.5
        there = here + far * (here[one] - here[other])
        there += 1e-4 * (UPPER - LOWER) * rng.normal(size=here.shape)
        inside = ((there > LOWER) & (there < UPPER)).all(1)
        at = log_likelihood(simulated(np.clip(there, LOWER, UPPER)), wanted)
        better = inside & (np.log(rng.uniform(size=size)) < at - log_p)
        here, log_p = np.where(better[:, None], there, here), np.where(better, at, log_p)
    return here


def compared(ratios, settings, seed):
    """Designs ``(n, 16)`` and their outcomes, by what was wanted and how they were found."""
    budget, n = settings["simulations"] + settings["proposals"], settings["proposals"]
    prior = uniform(seed + 1, settings["draws_of_prior"])
    known, found = simulated(prior), {}
    for name in settings["wanted"]:
        wanted = WANTED[name]
        found[name, "prior"] = prior, known
        found[name, "random search"] = prior[:budget], known[:budget]
        ways = {loss: proposals(ratio, wanted, settings, seed) for loss, ratio in ratios.items()}
        ways["optimizer"] = optimized(wanted, budget, seed)[-n:]
        if settings["steps"]:
            ways["exact posterior"] = exact(wanted, settings, seed)
        found |= {(name, way): (designs, simulated(designs)) for way, designs in ways.items()}
    return found


def does_it(x, wanted):
    return np.logical_and(*judged(x, wanted))


def row(designs, x, wanted):
    """Shares, and how far those designs are apart that do what was wanted.

    The spread is their standard deviation over that of the prior, on average over 16 numbers.
    """
    close, free = judged(x, wanted)
    good = designs[close & free]
    spread = np.mean(good.std(0) / PRIOR_SD) if len(good) > 1 else np.nan
    return {
        "designs": len(designs),
        "within tolerance": close.mean(),
        "no interference": free.mean(),
        "both": len(good) / len(designs),
        "spread": spread,
    }


def draw(ax, design):
    """A quadcopter from above, its nose up; the battery is dashed."""
    d = dict(zip(RANGES, design, strict=True))
    for right, ahead in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
        x, y = right * d["arm"] * np.sin(d["angle"]), ahead * d["arm"] * np.cos(d["angle"])
        ax.plot([0, x], [0, y], "k", lw=2)
        ax.add_patch(Circle((x, y), d["diameter"] / 2, alpha=0.3))
    long, wide, _ = battery_size(d)[1]
    boxes = (d["body_length"], d["body_width"], 0.0), (long, wide, d["battery_x"])
    styles = {"fc": "0.85", "ec": "k"}, {"fc": "none", "ec": "k", "ls": "--"}
    for (long, wide, ahead), style in zip(boxes, styles, strict=True):
        corner = -wide / 2, ahead - long / 2
        ax.add_patch(Rectangle(corner, wide, long, zorder=3, **style))
    ax.set(aspect="equal", xlim=(-0.55, 0.55), ylim=(-0.55, 0.55), xticks=[], yticks=[])
    said = f"{d['kv']:.0f} rpm/V, {d['motor'] * 1e3:.0f} g, {d['voltage']:.0f} V"
    ax.set_title(f"{said}, {d['capacity']:.1f} Ah", fontsize="small")


def plot(found, table, name, ways):
    """What was found does, where it lies, how much of it is good, and what some looks like."""
    wanted, parts = WANTED[name], ["diameter", "capacity"]
    figure = plt.figure(figsize=(13, 7.5), layout="constrained")
    upper, lower = figure.subfigures(2, 1, height_ratios=(1.4, 1))
    outcome, plane, shares = upper.subplots(1, 3, width_ratios=(2, 1, 1))
    good = {way: found[name, way][0][does_it(found[name, way][1], wanted)] for way in ways}
    for k, way in enumerate(ways):
        miss = misses(found[name, way][1], wanted)
        low, middle, high = np.quantile(miss, [0.05, 0.5, 0.95], axis=0)
        at = np.arange(len(middle)) + 0.12 * (k - (len(ways) - 1) / 2)
        style = {"fmt": "o", "ms": 4, "color": COLORS[way], "label": way}
        outcome.errorbar(at, middle, [middle - low, high - middle], **style)
    for way in [way for way in ("exact posterior", "default", "optimizer") if way in ways]:
        x, y = good[way][:300, [list(RANGES).index(part) for part in parts]].T
        plane.plot(x, y, ".", ms=5, color=COLORS[way])
    outcome.axhspan(-1, 1, color="0.9", zorder=-1, label="wanted")
    outcome.set(ylim=(-7, 7), ylabel="miss, in tolerances", title=f"{name}: median and 90 %")
    outcome.set_xticks(range(len(wanted) - 1), list(OUTCOMES)[:-1])
    upper.legend(frameon=False, ncols=len(ways) + 1, loc="outside lower center")
    plane.set(xlabel="propeller diameter (m)", ylabel="capacity (Ah)", title="those that do it")
    plane.set(xlim=RANGES["diameter"], ylim=RANGES["capacity"])
    both = table["both"].unstack(0)[list(table.index.unique(0))].loc[ways[::-1]]
    both.plot.barh(ax=shares, color=["0.2", "0.5", "0.8"])
    shares.set(title="share that does it", xlim=(0, 1), ylabel="")
    shares.legend(frameon=False, title=None)
    some = good["default"][:: max(1, len(good["default"]) // 5)]
    for ax, design in zip(lower.subplots(1, 5), some, strict=False):
        draw(ax, design)
    figure.savefig(FIGURES / "quadcopter_design.png", dpi=120)


def main(quick=False, seed=1):
    FIGURES.mkdir(exist_ok=True)
    settings = QUICK if quick else FULL
    losses = dict(LOSSES[: settings["losses"]])
    ratios = {name: trained(loss, settings, seed) for name, loss in losses.items()}
    found = compared(ratios, settings, seed)
    rows = {key: row(*what, WANTED[key[0]]) for key, what in found.items()}
    table = pd.DataFrame(rows).T
    plot(found, table, settings["wanted"][0], [way for way in WAYS if way in table.index.levels[1]])
    print(f"{table.to_string(float_format='{:.5g}'.format)}\n\nFigures: {FIGURES}")
    return table


if __name__ == "__main__":
    main(quick="--quick" in sys.argv)
