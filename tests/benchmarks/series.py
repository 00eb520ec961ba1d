"""How far are posteriors of series off, by a ratio of one transition?

``python tests/benchmarks/series.py``
Four series whose transition densities are known, each with two parameters: AR(1), AR(2), an
Ornstein-Uhlenbeck process seen at intervals, and a Ricker map with noise in its growth, seen
without error. Each ratio is trained once, by defaults, on single steps from pasts of series at
other draws of the prior. Then posteriors on a grid, by the ratio and by the density, of the same
series at parameters from the inner eight tenths of the prior; of long ones also by the ratio
centered around its posterior. ``--embedding`` does the same by ratios of whole series of AR(1).
Three quarters of an hour on a free core; both write docs/benchmarks.
"""

import argparse
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pymc as pm
import xarray as xr
from scipy.stats import norm
from tables import Table

import pymc_nre as nre

OUT = Path(__file__).parents[2] / "docs" / "benchmarks"
PILOTS, PILOT_LENGTH = 40, 50  # series that pasts are taken from; their steps count
SETS = {10: 20, 100: 20, 1_000: 10}
CENTERED = 100  # the shortest series whose posterior is narrow enough to center around
DRAWS = 1_000  # of a posterior, to center around
ROUGH, FINE = 61, 17  # points of a grid over the prior, and over ± 6 posterior sds
TITLE = "Root mean square error in exact sds, and width, of the worst parameter"
NOTE = (
    "Centered: around its posterior, `center(ratio, around=idata)`, from 100 transitions on; the "
    "last column tells for how many series it was better, by its own measure. The others stay as "
    "they were, and count as they are."
)
WHOLE = 100  # length of series that are embedded as a whole


@dataclass(frozen=True)
class Case:
    """A series whose next value is normal given its past."""

    bounds: dict  # of the uniform prior
    moments: object  # mean and sd of the next value, of a past (..., order) and parameters
    start: tuple

    def step(self, rng, past, **theta):
        return rng.normal(*self.moments(past, **theta))

    @property
    def prior(self):
        return {name: pm.Uniform.dist(*ends) for name, ends in self.bounds.items()}

    def series(self, rng, length, theta):
        """``length`` values after the first ones."""
        x = list(self.start)
        for _ in range(length):
            x.append(self.step(rng, np.array(x[-len(self.start) :]), **theta))
        return np.array(x)

    def truth(self, rng):
        """Parameters from the inner eight tenths of the prior."""
        return {
            k: rng.uniform(0.9 * a + 0.1 * b, 0.1 * a + 0.9 * b)
            for k, (a, b) in self.bounds.items()
        }


def ar1(past, phi, log_sigma):
    return phi * past[..., -1], np.exp(log_sigma)


def ar2(past, phi1, phi2):
    return phi1 * past[..., -1] + phi2 * past[..., -2], 1.0


def ornstein_uhlenbeck(past, log_rate, level, step=0.5, volatility=1.0):
    rate = np.exp(log_rate)
    kept = np.exp(-rate * step)
    sd = volatility * np.sqrt((1 - kept**2) / (2 * rate))
    return level + (past[..., -1] - level) * kept, sd


def ricker(past, log_r, log_sigma):
    """Of log numbers: N' = r N exp(-N + sigma e)."""
    return past[..., -1] + log_r - np.exp(past[..., -1]), np.exp(log_sigma)


CASES = {
    "AR(1)": Case({"phi": (-0.95, 0.95), "log_sigma": (-1, 1)}, ar1, (0.0,)),
    "AR(2)": Case({"phi1": (-0.9, 0.9), "phi2": (-0.9, 0.05)}, ar2, (0.0, 0.0)),
    "Ornstein-Uhlenbeck": Case({"log_rate": (-2, 1), "level": (-2, 2)}, ornstein_uhlenbeck, (0.0,)),
    "Ricker": Case({"log_r": (0, 2.5), "log_sigma": (-2, 0)}, ricker, (0.0,)),
}


def trained(case, transitions):
    """A ratio of that many transitions, those of the pilots with them."""
    options = {"batched": True, "progressbar": False}
    pilots = nre.simulate_series(
        case.prior,
        case.step,
        PILOTS,
        start=case.start,
        length=PILOT_LENGTH + len(case.start),
        random_seed=1,
        **options,
    )
    cut = nre.transitions(pilots, len(case.start))
    steps = transitions - len(cut)
    simulations = nre.simulate(
        case.prior, case.step, steps, conditions={"past": cut.past}, random_seed=2, **options
    )
    return nre.train(simulations, random_seed=3, progressbar=False, measure_budget=False)


# --- posteriors on a grid -----------------------------------------------------------------------


def flat(axes):
    """Parameters ``(points, 1)`` of a grid."""
    points = np.meshgrid(*axes.values(), indexing="ij")
    return {name: each.reshape(-1, 1) for name, each in zip(axes, points, strict=True)}


def moments(log_density, grid):
    """Mean and sd of each parameter, weights of the points."""
    p = np.exp(log_density - log_density.max())
    p /= p.sum()
    means = {name: float(p @ each[:, 0]) for name, each in grid.items()}
    sds = {name: float(p @ (each[:, 0] - means[name]) ** 2) ** 0.5 for name, each in grid.items()}
    return means, sds, p


def exact(case, cut, axes):
    grid = flat(axes)
    mean, sd = case.moments(cut.past, **grid)
    return norm.logpdf(cut.next, mean, sd).sum(1), grid


def around(means, sds, axes, bounds, points):
    """Axes of six sds to either side, or six steps of the ones before."""
    made = {}
    for name, (low, high) in bounds.items():
        reach = 6 * max(sds[name], axes[name][1] - axes[name][0])
        ends = max(low, means[name] - reach), min(high, means[name] + reach)
        made[name] = np.linspace(*ends, points)
    return made


def near(case, cut):
    """Axes around the exact posterior."""
    axes = {name: np.linspace(*ends, ROUGH) for name, ends in case.bounds.items()}
    for points in (ROUGH, ROUGH, FINE):
        means, sds, _ = moments(*exact(case, cut, axes))
        axes = around(means, sds, axes, case.bounds, points)
    return axes


def by_whole(ratio, x, grid):
    return ratio.log_ratio(x, **{name: each[:, 0] for name, each in grid.items()})


def by_ratio(ratio, cut, grid):
    parts = np.array_split(np.arange(len(cut)), max(1, len(cut) // 200))
    return sum(
        ratio.log_ratio(cut.next[rows], past=cut.past[rows], **grid).sum(1) for rows in parts
    )


def centered(ratio, cut, log_density, grid, seed):
    """The ratio centered around its posterior, or as it was; whether it was centered."""
    rng = np.random.default_rng(seed)
    _, _, p = moments(log_density, grid)
    chosen = rng.choice(len(p), DRAWS, p=p)
    widths = {name: np.diff(np.unique(each))[0] for name, each in grid.items()}
    draws = {
        name: (("chain", "draw"), (each[chosen, 0] + jitter(rng, widths[name])).reshape(2, -1))
        for name, each in grid.items()
    }
    with pm.Model() as model, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theta = {name: pm.Flat(name) for name in grid}
        nre.RatioLikelihood("x", ratio, **theta, observed=cut, engine="torch", outside="ignore")
        found = nre.center(
            ratio, around={"posterior": xr.Dataset(draws)}, model=model, random_seed=seed,
            progressbar=False,
        )  # fmt: skip
    return found, found is not ratio


def jitter(rng, width):
    """Within a cell of the grid."""
    return rng.uniform(-width / 2, width / 2, DRAWS)


def compared(log_density, reference, grid):
    """Errors in exact sds and widths, of each parameter."""
    means, sds, _ = moments(reference, grid)
    its_means, its_sds, _ = moments(log_density, grid)
    return [((its_means[k] - means[k]) / sds[k], its_sds[k] / sds[k]) for k in grid]


# --- tables ---------------------------------------------------------------------------------------


def summary(found, names):
    """Root mean square error and mean width of the worst parameter."""
    errors, widths = np.moveaxis(np.array(found), -1, 0)
    worst = np.sqrt((errors**2).mean(0))
    k = int(worst.argmax())
    return f"{worst[k]:.2f} ({names[k]})", float(
        widths.mean(0)[np.abs(widths.mean(0) - 1).argmax()]
    )


def off(case, ratio, length, center=False):
    """What comes of series of that length, at parameters from the prior.

    With ``center`` also what comes of the ratio centered around each posterior, and how many were.
    """
    rng, found, after, count = np.random.default_rng(length), [], [], 0
    for seed in range(SETS[length]):
        x = case.series(rng, length, case.truth(rng))
        cut = nre.transitions(x, len(case.start))
        reference, grid = exact(case, cut, near(case, cut))
        whole = ratio.event_shape == x.shape
        log_density = by_whole(ratio, x, grid) if whole else by_ratio(ratio, cut, grid)
        found.append(compared(log_density, reference, grid))
        if center:
            other, better = centered(ratio, cut, log_density, grid, seed)
            count += better
            after.append(compared(by_ratio(other, cut, grid), reference, grid))
    names = list(case.bounds)
    told = summary(found, names)
    return (*told, *summary(after, names), f"{count} of {SETS[length]}") if center else told


def row(name, ratio, amount, length):
    """Of the table; short series are not centered."""
    if length < CENTERED:
        return [name, amount, length, *off(CASES[name], ratio, length), "-", "-", "-"]
    return [name, amount, length, *off(CASES[name], ratio, length, center=True)]


def transitions_table(names, amounts):
    rows = []
    for name in names:
        for amount in amounts:
            ratio = trained(CASES[name], amount)
            for length in SETS:
                rows.append(row(name, ratio, amount, length))
                print(rows[-1], flush=True)
    columns = ("series", "transitions", "T", "error", "width", "centered: error", "width", "were")
    return Table(TITLE, columns, rows, NOTE)


def embedding_table(amounts):
    case, rows = CASES["AR(1)"], []
    for amount in amounts:
        simulations = nre.simulate_series(
            case.prior, case.step, amount, start=case.start, length=WHOLE + 1, batched=True,
            random_seed=1, progressbar=False,
        )  # fmt: skip
        network = nre.networks.MLP(embedding=nre.networks.Convolutional())
        ratio = nre.train(
            simulations, network=network, random_seed=3, progressbar=False, measure_budget=False
        )
        rows.append([amount, amount * WHOLE, *off(case, ratio, WHOLE)])
        print(rows[-1], flush=True)
    title = f"AR(1), T = {WHOLE}, by an embedding of whole series: {TITLE[0].lower()}{TITLE[1:]}"
    return Table(title, ("whole series", "transitions in them", "error", "width"), rows)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--transitions", nargs="+", type=int, default=[10_000, 100_000])
    parser.add_argument("--embedding", nargs="*", type=int)
    options = parser.parse_args()
    if options.embedding is None:
        table, name = transitions_table(options.cases, options.transitions), "series.inc"
    else:
        table, name = embedding_table(options.embedding or [1_000, 10_000]), "series_embedding.inc"
    (OUT / name).write_text(table.markdown())


if __name__ == "__main__":
    main()
