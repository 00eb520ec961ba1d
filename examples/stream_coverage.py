"""Coverage of stellar streams: do 68% regions hold the truth 68 times in a hundred?

Hermans et al. (2020, Towards constraining warm dark matter with stellar streams through neural
simulation-based inference, arXiv:2011.14923) asked this of ratios with six networks, for streams
whose likelihood nobody knows. Here it is known (`streams.py`), so that the exact posterior goes
through the same check, and each network can be told from it.

``--full`` makes the table of all networks, for one and for two parameters. That takes half an hour
or more; finished trainings are kept in ``examples/figures/stream_coverage.jsonl``, and a run that
was cut off goes on from there. ``--full 10`` trains each network ten times.
"""

import json
import sys
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from streams import RANGES, exact, prior, simulator

import pymc_nre as nre
from pymc_nre.networks import MLP, Dense, ResNet

FIGURES = Path(__file__).parent / "figures"
# The age is drawn in either case; where it is not a parameter, it is marginalized.
PARAMETERS = {"mass": ["mass"], "mass and age": ["mass", "age"]}
# The networks differ in what reads a stream; the parameters meet that in two layers of 64.
EMBEDDINGS = {
    "MLP": Dense((128, 128, 128)),
    "MLP-BN": Dense((128, 128, 128), norm="batch"),
    "ResNet-18": ResNet(18, width=8),
    "ResNet-18-BN": ResNet(18, width=8, norm="batch"),
    "ResNet-50": ResNet(50, width=4),
    "ResNet-50-BN": ResNet(50, width=4, norm="batch"),
}
TRAININGS = {"exact": 3, "MLP": 3, "MLP-BN": 3, "ResNet-18": 2, "ResNet-18-BN": 2}  # others one
QUICK = {"per_epoch": 12_800, "epochs": 4, "pairs": 1_000, "draws": 500}
FULL = {"per_epoch": 12_800, "epochs": 20, "pairs": 10_000, "draws": 500}
LEVELS = np.array([0.68, 0.95])
STREAMS = 100  # of one mass and age, for the last column
ERROR = f"error / sd, {STREAMS} streams"
TRUTH = (12.0, 5.0)  # mass and age of the stream in the figure


def trained(name, names, settings, seed):
    """One training, on fresh simulations in every epoch."""
    each, epochs = settings["per_epoch"], settings["epochs"]
    options = {"parameters": names, "batched": True, "per_epoch": each, "random_seed": seed}
    supply = nre.Online(prior(), simulator, **options)
    network = MLP((64, 64), embedding=EMBEDDINGS[name])
    options = {"learning_rate": 3e-3, "batch_size": 256, "epochs": epochs, "progressbar": False}
    options["loss"] = nre.losses.NREC()  # contrasts of the prior, as in the paper
    return nre.train(supply, network=network, random_seed=seed, **options)


def held_out(names, settings, seed):
    """Pairs that no training sees, the same for all networks of a seed."""
    options = {"parameters": names, "batched": True, "progressbar": False}
    return nre.simulate(prior(), simulator, settings["pairs"], random_seed=10_000 + seed, **options)


def ranks_of(ratio, pairs, settings):
    options = {"draws": settings["draws"], "random_seed": 1, "progressbar": False}
    return nre.diagnostics.posterior_ranks(ratio, pairs, **options)


def checks(ratio, pairs, settings):
    """Columns of the table.

    Coverage; how much streams tell, at least; how well a classifier tells reweighted streams from
    simulated ones; and how far posteriors of many streams are from their truth.
    """
    ranks = ranks_of(ratio, pairs, settings)
    coverage = nre.diagnostics.coverage(ranks, LEVELS)["coverage"]
    information = nre.diagnostics.normalization(ranks)["information"]
    areas = nre.diagnostics.auc(ratio, pairs, n=1_000, points=5, random_seed=1)["auc"]
    options = {"n": (1, 10, STREAMS), "truths": 50, "random_seed": 1, "progressbar": False}
    last = nre.diagnostics.convergence(ratio, pairs, **options).sel(n=STREAMS)
    return {
        "68%": float(coverage.sel(level=0.68)),
        "95%": float(coverage.sel(level=0.95)),
        "nats": float(information.sel(bound="I1")),
        "AUC": float(areas.mean()),
        ERROR: float(((last["error"] / last["spread"]) ** 2).mean() ** 0.5),  # one if right
    }


def plan(trainings):
    """What to train, first all networks once."""
    for seed in range(1, max(trainings.values()) + 1):
        for what in PARAMETERS:
            for name, wanted in trainings.items():
                if seed <= wanted:
                    yield {"parameters": what, "network": name, "seed": seed}


def measured(what, settings):
    """A row of results."""
    names = PARAMETERS[what["parameters"]]
    start = time.process_time()
    pairs = held_out(names, settings, what["seed"])
    if what["network"] == "exact":
        ratio = exact(pairs)
    else:
        ratio = trained(what["network"], names, settings, what["seed"])
    found = checks(ratio, pairs, settings)
    return {**what, **settings, "seconds": time.process_time() - start, "checks": found}


def measure(trainings, settings, path):
    """Rows of all that is planned; those that are in the file already are not made again."""
    kept = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    rows = []
    for what in plan(trainings):
        known = [row for row in kept if (what | settings).items() <= row.items()]
        rows.append(known[0] if known else measured(what, settings))
        if not known:
            print(rows[-1], flush=True)
            with path.open("a") as file:
                file.write(json.dumps(rows[-1]) + "\n")
    return rows


def summary(rows):
    """Means over trainings and their standard errors.

    Few trainings tell their spread badly, so the error of a coverage is never less than what the
    number of pairs leaves.
    """
    found = pd.DataFrame([row["checks"] for row in rows])
    by = [[row[key] for row in rows] for key in ("parameters", "network")]
    groups = found.groupby(by, sort=False)
    error, pairs = groups.sem(), groups.size() * rows[0]["pairs"]
    for level in LEVELS:
        column = f"{level:.0%}"
        error[column] = np.fmax(error[column], np.sqrt(level * (1 - level) / pairs))
    told = error.map(lambda e: "" if np.isnan(e) else f" ± {e:.3f}")
    table = groups.mean().map("{:.3f}".format) + told
    seconds = pd.Series([row["seconds"] for row in rows]).groupby(by, sort=False).mean()
    return table.assign(trainings=groups.size(), seconds=seconds.round().astype(int))


def markdown(table):
    table = table.rename_axis(["parameters", "network"]).reset_index().astype(str)
    lines = [table.columns, ["---"] * table.shape[1], *table.to_numpy()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def posterior(ratio, x, mass, age):
    """Probabilities of the cells of a grid, ``(mass, age)``."""
    p = np.exp(ratio.log_ratio(x, mass=mass[:, None], age=age))
    return p / p.sum()


def lowest(p, level):
    """The least probability in the smallest region of that level."""
    ordered = np.sort(p.ravel())[::-1]
    return ordered[np.searchsorted(ordered.cumsum(), level)]


def plot(ratios, found):
    x = simulator(np.random.default_rng(3), *np.array(TRUTH)[:, None])[0]
    figure, (stream, curves, regions) = plt.subplots(1, 3, figsize=(13, 3.8), layout="constrained")
    stream.step(np.arange(len(x)), x, color="k", where="mid")
    stream.set(xlabel="bin along the stream", ylabel="density contrast")
    mass, age = np.linspace(*RANGES["mass"], 120), np.linspace(*RANGES["age"], 40)
    for j, (name, ratio) in enumerate(ratios.items()):
        style = {"color": f"C{j - 1}" if j else "k", "ls": "-" if j else "--"}
        coverage = found[name]
        level = coverage["level"]
        curves.plot(level, coverage["coverage"] - level, label=name, **style)
        p = posterior(ratio, x, mass, age)
        shown = {"colors": style["color"], "linestyles": style["ls"]}
        regions.contour(mass, age, p.T, [lowest(p, LEVELS[0])], **shown)
    error = 2 * found["exact"]["error"]
    curves.fill_between(level, -error, error, color="gray", alpha=0.3, label="± 2 errors")
    curves.set(xlabel="credible level", ylabel="coverage - level")
    curves.legend(frameon=False, fontsize="small")
    regions.plot(*TRUTH, "r*", label="truth")
    regions.set(xlabel="mass (keV)", ylabel="age (Gyr)", title="68% regions of this stream")
    regions.legend(frameon=False)
    figure.savefig(FIGURES / "stream_coverage.png", dpi=120)


def quick(seed=1):
    """Three networks, trained briefly, beside the exact posterior."""
    names = PARAMETERS["mass and age"]
    pairs = held_out(names, QUICK, seed)
    ratios = {"exact": exact(pairs)}
    for name in ("MLP", "MLP-BN", "ResNet-18-BN"):
        ratios[name] = trained(name, names, QUICK, seed)
    ranks = {name: ranks_of(ratio, pairs, QUICK) for name, ratio in ratios.items()}
    found = {name: nre.diagnostics.coverage(r) for name, r in ranks.items()}
    plot(ratios, found)
    for name, coverage in found.items():
        print(f"{name}: {coverage.summary}")
    print(f"\nFigure: {FIGURES / 'stream_coverage.png'}")
    return found


def full(each=None):
    trainings = {name: each or TRAININGS.get(name, 1) for name in ("exact", *EMBEDDINGS)}
    table = summary(measure(trainings, FULL, FIGURES / "stream_coverage.jsonl"))
    (FIGURES / "stream_coverage.inc").write_text(markdown(table))
    print(f"{table.to_string()}\n\nTable: {FIGURES / 'stream_coverage.inc'}")
    return table


def main(arguments=()):
    FIGURES.mkdir(exist_ok=True)
    if "--full" not in arguments:
        return quick()
    return full(*(int(word) for word in arguments if word.isdigit()))


if __name__ == "__main__":
    main(sys.argv[1:])
