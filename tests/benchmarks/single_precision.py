"""Does NUTS mind single precision? ``python tests/benchmarks/single_precision.py``.

A quarter of an hour on a free core; resumes. Ratios are trained on 100,000 simulations. PyMC's NUTS
samples the same data sets from the same seeds by either precision. What would disturb it is noise
of the total log ratio, which its energy inherits; so that is told too, over draws of the posterior.
"""

import time
import warnings
from functools import partial
from statistics import median

import arviz as az
import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import torch
from many_trials import Problem, parser_of
from results import Results
from tables import Table

import pymc_nre as nre

TRUTH = {"GaussianMean": {"mu": 2.0}, "LocationScale": {"mu": 1.0, "log_sigma": 0.3}}
SIMULATIONS, SIZES, SEEDS = 100_000, (100, 1_000, 10_000), (1, 2, 3, 4, 5)
SETTINGS = {"chains": 2, "tune": 300, "draws": 300, "cores": 1, "nuts_sampler": "pymc"}
QUIET = {"progressbar": False, "compute_convergence_checks": False}
EVERY = 3  # draws between those whose totals are compared
PRECISIONS = ("double", "single")
BOTH = {"acceptance": "mean acceptance", "divergences": "divergences", "steps": "steps per draw"}
BOTH |= {"rate": "ESS / s"}


def main():
    options = parser_of(__doc__).parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    results = Results(options.work / "single_precision.jsonl", ("task", "n", "seed"))
    for name in TRUTH:
        problem = Problem(name, SIMULATIONS, options)
        for n in SIZES:
            for seed in SEEDS:
                results.get(partial(_compared, problem, n, seed), task=name, n=n, seed=seed)
                print(name, n, seed, flush=True)
    path = options.out / "single_precision.inc"
    path.write_text(_table(results.read()).markdown())
    print(path.read_text(), path)


def _compared(problem, n, seed):
    """What NUTS does by either precision, and how far their totals are from each other."""
    truth = {name: np.full(n, value) for name, value in TRUTH[problem.name].items()}
    x = problem.task.simulator(np.random.default_rng((n, seed)), **truth)
    ratio = problem.trained()
    runs = {precision: _sampled(problem, ratio, x, seed, precision) for precision in PRECISIONS}
    at = runs["double"][1][::EVERY]
    noise = np.std(_totals(ratio, x, at, "single") - _totals(ratio, x, at, "double"))
    return {precision: run for precision, (run, _) in runs.items()} | {"noise": float(noise)}


def _sampled(problem, ratio, x, seed, precision):
    """What a run of NUTS did, and its draws ``(draws, D)``."""
    with warnings.catch_warnings(), problem.task.prior() as model:
        warnings.simplefilter("ignore")
        theta = {name: model[name] for name in ratio.parameters}
        nre.RatioLikelihood("x", ratio, observed=x, precision=precision, **theta)
        began = time.process_time()
        idata = pm.sample(random_seed=seed, **SETTINGS, **QUIET)
        seconds = time.process_time() - began
    draws = np.stack([idata["posterior"][name].to_numpy() for name in theta], axis=-1)
    stats = idata["sample_stats"]
    run = {
        "acceptance": float(stats["acceptance_rate"].mean()),
        "divergences": int(stats["diverging"].sum()),
        "steps": float(stats["n_steps"].mean()),
        "rate": min(float(az.ess(column)) for column in np.moveaxis(draws, -1, 0)) / seconds,
        "mean": draws.mean((0, 1)).tolist(),
        "sd": draws.std((0, 1)).tolist(),
    }
    return run, draws.reshape(-1, len(theta))


def _totals(ratio, x, draws, precision):
    """Sums of log ratios at draws ``(m, D)``, as the sampler computes them: ``(m,)``."""
    theta = {name: pt.dscalar(name) for name in ratio.parameters}
    total = nre.log_ratio(ratio, x, precision=precision, **theta).sum()
    evaluate = pytensor.function(list(theta.values()), total)
    return np.array([evaluate(*row) for row in draws])


def _table(records):
    columns = ["task", "n"]
    columns += [f"{what}, {precision}" for what in BOTH.values() for precision in PRECISIONS]
    columns += ["mean's shift, in sd", "sd of single / of double", "noise of the total"]
    rows = []
    for name in TRUTH:
        for n in SIZES:
            of_size = [it for it in records.values() if (it["task"], it["n"]) == (name, n)]
            rows.append([name, n, *_row(of_size)])
    sizes = f"{SETTINGS['chains']} chains of {SETTINGS['tune']} + {SETTINGS['draws']} draws"
    note = f"{len(SEEDS)} data sets each, {sizes}; divergences are summed, the others medians."
    return Table("NUTS by either precision", columns, rows, note)


def _row(records):
    """Numbers by both precisions, then single against double; the worst parameter's median."""
    both = {
        key: [[record[precision][key] for record in records] for precision in PRECISIONS]
        for key in (*BOTH, "mean", "sd")
    }
    (of_double, of_single), (sd, sd_single) = np.array(both["mean"]), np.array(both["sd"])
    shift = np.median(np.abs(of_single - of_double) / sd, axis=0).max()
    wider = np.median(sd_single / sd, axis=0)
    return [
        *(
            sum(values) if key == "divergences" else median(values)
            for key in BOTH
            for values in both[key]
        ),
        float(shift),
        float(wider[np.argmax(np.abs(wider - 1))]),
        median(record["noise"] for record in records),
    ]


if __name__ == "__main__":
    main()
