"""Direct ratios on the sbibm tasks: ``python -m tests.benchmarks.direct_sbibm``, from the root.

Losses that compare two parameter vectors (DNRE) beside NRE-A and BNRE, with the network and the
batches of Cobb et al. (2023), arXiv:2311.10571, and beside `train` without options. The learning
rate is that of the smallest loss on held-out simulations. All ratios are sampled by the same
particles, direct ones with the best fixed reference; of some tasks also in other ways. A killed
run goes on where it was.
"""

import os
from functools import partial
from itertools import product

# Before NumPy and torch are imported: the arrays are small, and other processes want cores too.
os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")

import numpy as np
import pymc as pm

import pymc_nre as nre
from pymc_nre.estimators.direct import best_reference
from pymc_nre.losses import BNRE, DNRE, NREA, NREC

from .results import Results
from .sbibm.catalog import TASKS
from .sbibm.classifier_test import c2st
from .sbibm.options import parser as command_line
from .sbibm.recipes import RECIPES, Recipe, combined, trained
from .sbibm.references import References
from .sbibm.sampler import sample
from .tables import Table

LOSSES = {
    "NRE-A": NREA(),
    "BNRE": BNRE(),
    "NRE-C, 5": NREC(candidates=5),  # as many contrasts as the direct ratios of five
    "plain, 2": DNRE("plain", 2),
    "plain, 5": DNRE("plain", 5),
    "antisymmetric, 2": DNRE("antisymmetric", 2),
    "antisymmetric, 5": DNRE("antisymmetric", 5),
    "additive, 2": DNRE("additive", 2),
    "additive, 5": DNRE("additive", 5),
    "default": None,  # `train` without options
}
RIVALS = ("NRE-A", "BNRE")  # of which DNRE is said to win
CLEARLY = 0.02  # two standard errors of a difference of C2ST, by 2,000 draws of one observation
_GAINS = {  # of how much smaller C2ST is than that of the better rival
    "wins": lambda gain: gain > 0,
    "clear wins": lambda gain: gain > CLEARLY,
    "clear losses": lambda gain: gain < -CLEARLY,
}
SETTINGS = {
    "network": nre.networks.MLP((64,) * 5, activation="elu"),
    "batch_size": 512,
    "measure_budget": False,
}
KEYS = ("task", "loss", "way", "simulations", "epochs", "rates", "observation", "draws", "seed")
_PARTICLES = "particles"
_CHAINS = 20  # from draws of the prior, so that each mode has some
_TUNE = {"Metropolis": 1_000, "NUTS": 500}
_THIN = {"Metropolis": 25, "NUTS": 1}


def main():
    """Fill in what is missing, then write the tables."""
    options = _options()
    results = Results(options.work / "direct.jsonl", KEYS)
    references = References(options.cache)
    for which in _jobs(options):
        record = results.get(partial(_measure, which, references, options), **which)
        print(*(record[key] for key in (*KEYS, "rate", "c2st")), flush=True)
    records = [r for r in results.read().values() if _settings(options).items() <= r.items()]
    path = options.out / "direct_sbibm.inc"
    path.write_text("\n".join(table.markdown() for table in tables(records, options)))
    print(f"\n{path.read_text()}\n{path}", flush=True)


def _settings(options):
    rates = " ".join(f"{rate:g}" for rate in options.rates)
    named = {key: vars(options)[key] for key in ("simulations", "epochs", "draws")}
    return named | {"rates": rates}


def _jobs(options):
    """What is to be measured: each task by all losses, then in other ways, then the next one."""
    order = product(options.seeds, options.observations, options.tasks)
    for seed, number, task in order:
        jobs = [(loss, _PARTICLES) for loss in options.losses]
        if task in options.ways_of:
            compared = [loss for loss in options.losses if _is_direct(loss)]
            jobs += product(compared, (f"marginal({options.marginal})", *_TUNE))
        for loss, way in jobs:
            which = {"task": task, "loss": loss, "way": way, "observation": number, "seed": seed}
            yield which | _settings(options)


def _is_direct(loss):
    """Whether it makes ratios of pairs."""
    return loss != "default" and LOSSES[loss].reference == "pair"


def _measure(which, references, options):
    """C2ST of one observation, and the learning rate that was chosen."""
    task, number, n = TASKS[which["task"]], which["observation"], which["draws"]
    ratio = _ratio(task, which, options)
    x, rng = task.features(references.observation(task, number)), np.random.default_rng(number)
    draws = posterior(which["way"], ratio, task, x, n, rng)
    accuracy = c2st(references.draws(task, number)[:n], task.natural(draws))
    history = ratio.history.attrs
    return {
        "c2st": accuracy,
        "rate": history["learning_rate"],
        "loss_reached": history["best_loss"],
    }


def _ratio(task, which, options):
    """The one of the smallest loss on held-out simulations; trained before, or now."""
    seed, loss = which["seed"], LOSSES[which["loss"]]
    source = task, which["simulations"]
    folder = options.work / which["loss"].replace(", ", "_") / task.name / str(source[1])
    if loss is None:
        return trained(*source, RECIPES["default"], folder / f"seed_{seed}", seed)[0]
    own = SETTINGS | {"loss": loss, "epochs": which["epochs"]}
    found = [
        trained(
            *source,
            Recipe(options=own | {"learning_rate": rate}),
            folder / f"{which['epochs']}_epochs_{rate:g}" / f"seed_{seed}",
            seed,
        )[0]
        for rate in options.rates
    ]
    return min(found, key=lambda ratio: ratio.history.attrs["best_loss"])


def posterior(way, ratio, task, x, n, rng):
    """Draws ``(n, D)`` of the posterior of one observation, in the ratio's coordinates."""
    if way in _TUNE:
        return _by_chains(way, ratio, task, x, n, rng)
    if way.startswith("marginal"):
        ratio = ratio.marginal(int(way[len("marginal(") : -1]))
    elif ratio.is_direct:
        ratio = ratio.relative_to(theta=best_reference(ratio, x[None]))
    return sample(task.prior, combined([ratio], x), n, rng)


def _by_chains(way, ratio, task, x, n, rng):
    """By PyMC: a Metropolis step by the direct ratio, or NUTS with the best fixed reference."""
    kept = -(-n // _CHAINS) * _THIN[way]
    with pm.Model() as model:
        theta = model.register_rv(task.prior.pymc(), "theta")
        nre.RatioLikelihood("x", ratio, theta=theta, observed=x)
        step = nre.steps.DirectRatioMetropolis() if way == "Metropolis" else pm.NUTS()
        chains = pm.sample(
            kept,
            tune=_TUNE[way],
            chains=_CHAINS,
            cores=1,
            step=step,
            initvals=[{"theta": start} for start in task.prior.draw(rng, _CHAINS)],
            random_seed=int(rng.integers(2**31)),
            progressbar=False,
            compute_convergence_checks=False,
        )
    draws = chains.posterior["theta"].to_numpy()[:, :: _THIN[way]]
    return rng.permutation(draws.reshape(-1, draws.shape[-1]))[:n]


def tables(records, options):
    """Losses by the same sampler; the same by training seed; other ways of sampling them."""
    same = [r for r in records if r["way"] == _PARTICLES]
    yield _of_losses(same, options)
    if len(_values(same, "seed")) > 1:
        yield _of_seeds(same, options)
    others = [r for r in records if r["way"] != _PARTICLES]
    if others:
        yield _of_ways(same, others)


def _of_losses(records, options):
    """A row for each task; below them means, and how often a direct ratio wins."""
    losses = [loss for loss in options.losses if _mean(records, loss=loss) is not None]
    tasks = [task for task in TASKS if _mean(records, task=task) is not None]
    by_loss = {loss: [_mean(records, task=task, loss=loss) for task in tasks] for loss in losses}
    told = [_listed(_values(records, "observation", task=task)) for task in tasks]
    rows = [list(row) for row in zip(tasks, *by_loss.values(), told, strict=True)]
    means = (None if None in column else float(np.mean(column)) for column in by_loss.values())
    rows.append(["mean", *means, ""])
    for name, gained in _GAINS.items():
        rows.append([name, *(_counted(gained, loss, by_loss) for loss in losses), ""])
    title = f"C2ST at {options.simulations:,} simulations ({options.draws:,} draws)"
    columns = ("task", *map(_titled, losses), "observations")
    return Table(title, columns, rows, _note(records, options))


def _of_seeds(records, options):
    """Means over tasks and observations that all seeds have, and on how many tasks a loss wins."""
    seeds = _values(records, "seed")
    losses = [name for name in options.losses if _values(records, "seed", loss=name) == seeds]

    def of_all(key, values):
        return [
            value
            for value in values
            if all(_values(records, "seed", **{key: value}, loss=name) == seeds for name in losses)
        ]

    numbers = of_all("observation", _values(records, "observation"))
    tasks, rows = of_all("task", TASKS), []
    for seed in seeds:
        own = [r for r in records if r["seed"] == seed and r["observation"] in numbers]
        by_loss = {name: [_mean(own, task=task, loss=name) for task in tasks] for name in losses}
        rows.append([str(seed), *(np.mean(cells) for cells in by_loss.values())])
        rows.append(
            [f"{seed}: wins", *(_counted(_GAINS["wins"], name, by_loss) for name in losses)]
        )
    title = f"Mean C2ST of {len(tasks)} tasks by training seed, observations {_listed(numbers)}"
    return Table(title, ("seed", *map(_titled, losses)), rows)


def _of_ways(same, others):
    """The same ratios, sampled in several ways."""
    ways = list(dict.fromkeys(r["way"] for r in others))
    rows = []
    for task, loss in dict.fromkeys((r["task"], r["loss"]) for r in others):
        which = {"task": task, "loss": loss}
        numbers = _values(others, "observation", **which)
        seeds = _values(others, "seed", **which)
        fixed = _mean(
            [r for r in same if r["observation"] in numbers and r["seed"] in seeds], **which
        )
        means = [_mean(others, **which, way=way) for way in ways]
        rows.append([f"{task}: {_titled(loss)}", fixed, *means, _listed(numbers)])
    columns = ("ratio", "particles, fixed reference", *ways, "observations")
    return Table("C2ST by how it is sampled", columns, rows)


def _counted(gained, loss, by_loss):
    """On how many tasks a direct ratio gained so much, of those that were measured."""
    if not isinstance(LOSSES[loss], DNRE) or not by_loss.keys() >= set(RIVALS):
        return None
    cells = zip(by_loss[loss], *(by_loss[rival] for rival in RIVALS), strict=True)
    gains = [min(rivals) - own for own, *rivals in cells if None not in (own, *rivals)]
    return f"{sum(map(gained, gains))} of {len(gains)}"


def _note(records, options):
    epochs = f"{options.epochs} epochs" if options.epochs else "as many epochs as by default"
    rates = ", ".join(f"{rate:g}" for rate in options.rates)
    return (
        "*A loss's number is of the parameter vectors that an observation meets. All but the "
        f"default: five layers of 64 ELU, batches of 512, {epochs}, learning rate of {rates} by "
        f"held-out loss. Training seeds: {_listed(_values(records, 'seed'))}. Wins: better than "
        f"NRE-A and BNRE both; clear ones, and losses to the better, by more than {CLEARLY:g}, "
        "two standard errors of the test with 2,000 draws of one observation; trainings may vary "
        "by more. C2ST: .5 is best.*"
    )


def _titled(loss):
    return f"DNRE {loss}" if isinstance(LOSSES[loss], DNRE) else loss


def _mean(records, **which):
    """Over observations, each by all of its training seeds; None of no records."""
    by_observation = {}
    for record in records:
        if which.items() <= record.items():
            by_observation.setdefault(record["observation"], []).append(record["c2st"])
    means = [np.mean(found) for found in by_observation.values()]
    return float(np.mean(means)) if means else None


def _values(records, key, **which):
    """Which values of a key there are."""
    return sorted({r[key] for r in records if which.items() <= r.items()})


def _listed(values):
    return ", ".join(map(str, values))


def _options():
    parser = command_line("direct_sbibm", __doc__, work="direct")
    parser.set_defaults(seeds=[1, 2, 3])
    parser.add_argument("--simulations", type=int, default=10_000)
    parser.add_argument("--losses", nargs="+", choices=LOSSES, default=list(LOSSES), metavar="LOSS")
    parser.add_argument("--epochs", type=int, help="by default those of `train`")
    parser.add_argument("--rates", nargs="+", type=float, default=[1e-3, 3e-3, 1e-2])
    parser.add_argument("--ways-of", nargs="*", choices=TASKS, default=[], metavar="TASK")
    parser.add_argument("--marginal", type=int, default=256, help="draws of the prior")
    return parser.parse_args()


if __name__ == "__main__":
    main()
