"""Conditions: how right are posteriors of 20 known designs, and what do they cost?

``python tests/benchmarks/conditions.py``, some ten minutes of one core; resumes. Two simulators
whose likelihood is known, a dose-response curve and a regression, 10,000 simulations over 20
designs, 20 data sets with a trial at each design. Beside it the way without conditions: the design
as one more parameter, held fixed where the ratio is used. Writes the table of
docs/howto/conditions.md.
"""

import argparse
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pymc as pm
import torch
from problems.posteriors import moments
from results import Results
from scipy.special import expit, gammaln, logsumexp, softmax
from tables import Table

import pymc_nre as nre

N, SETS, DESIGNS = 10_000, 20, np.linspace(-2, 2, 20)
DRAWS, KEPT = 200_000, 4_000
QUIET = {"random_seed": 1, "progressbar": False}
DOCS = Path(__file__).parents[2] / "docs" / "benchmarks"


def dose_response(rng, a, b, dose):
    """How many of ten respond."""
    return rng.binomial(10, expit(a + b * dose)).astype(float)


def log_dose_response(x, a, b, dose):
    p = expit(a + b * dose).clip(1e-12, 1 - 1e-12)
    choose = gammaln(11) - gammaln(x + 1) - gammaln(11 - x)
    return choose + x * np.log(p) + (10 - x) * np.log1p(-p)


def regression(rng, a, b, log_sigma, dose):
    return rng.normal(a + b * dose, np.exp(log_sigma))


def log_regression(x, a, b, log_sigma, dose):
    return -(((x - a - b * dose) / np.exp(log_sigma)) ** 2) / 2 - log_sigma


CURVE = {"a": pm.Normal.dist(0, 1.5), "b": pm.Normal.dist(0, 1.5)}
LINE = {
    "a": pm.Normal.dist(0, 2),
    "b": pm.Normal.dist(0, 2),
    "log_sigma": pm.Uniform.dist(-1, 1),
}
PROBLEMS = {
    "dose and response": (CURVE, dose_response, log_dose_response),
    "regression": (LINE, regression, log_regression),
}
WAYS = {  # how the design is taken, and how many simulations there are
    "conditions": N,
    "conditions, members=5": N,
    "a parameter instead": N,
    "conditions, ten times as many": 10 * N,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("benchmark_results"))
    parser.add_argument("--out", type=Path, default=DOCS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = Results(options.work / "conditions.jsonl", ("problem", "way"))
    for problem in PROBLEMS:
        for way in WAYS:
            results.get(partial(accuracy, problem, way), problem=problem, way=way)
            print(problem, way, flush=True)
    results.get(cost, problem="cost", way="")
    records = results.read()
    rows = [row(records[problem, way]) for problem in PROBLEMS for way in WAYS]
    heads = ("problem", "design", "bias", "error", "median", "width")
    share = records["cost", ""]["share"]
    note = (
        f"Of {SETS} data sets of 20 trials: mean, root mean square and median size of the errors "
        "of posterior means in exact standard deviations, each of the parameter that is worst; "
        "widths over the exact ones, the least and the largest parameter. A value and gradient of "
        f"1,000 observations with a condition takes {share:.2f} times as long as without, "
        "interleaved."
    )
    path = options.out / "conditions.inc"
    title = f"{N:,} simulations over 20 designs and ten times as many, by defaults"
    path.write_text(Table(title, heads, rows, note).markdown())
    print(path.read_text())


def row(record):
    """The worst parameter's."""
    bias, error, median, width = (record[name] for name in ("bias", "error", "median", "width"))
    worst = max(bias, key=abs)
    return [
        record["problem"],
        record["way"],
        f"{worst:+.2f}",
        f"{max(error):.2f}",
        f"{max(median):.2f}",
        f"{min(width):.2f} to {max(width):.2f}",
    ]


def accuracy(problem, way):
    """Errors and widths of each parameter."""
    prior, simulator, log_density = PROBLEMS[problem]
    ratio = trained(prior, simulator, way)
    rng = np.random.default_rng(7)
    truths, draws = (pm.draw(list(prior.values()), n, random_seed=rng) for n in (SETS, DRAWS))
    z, width = [], []
    for k in range(SETS):
        x = simulator(rng, *(np.full(20, value[k]) for value in truths), DESIGNS)
        exact = sum(log_density(x[i], *draws, DESIGNS[i]) for i in range(20))
        # From the square root of the likelihood, which is wide enough for both.
        chosen = rng.choice(DRAWS, KEPT, p=np.exp(exact / 2 - logsumexp(exact / 2)))
        theta = np.array([draw[chosen] for draw in draws])
        named = {name: values[:, None] for name, values in zip(prior, theta, strict=True)}
        table = ratio.log_ratio(x[None].repeat(KEPT, 0), dose=DESIGNS, **named)
        root = exact[chosen] / 2
        mean, sd = moments(theta.T, softmax(root))
        found, spread = moments(theta.T, softmax(table.sum(1) - root))
        z.append((found - mean) / sd)
        width.append(spread / sd)
    z = np.array(z)
    return {
        "problem": problem,
        "way": way,
        "bias": z.mean(0).tolist(),
        "error": np.sqrt((z**2).mean(0)).tolist(),
        "median": np.median(np.abs(z), axis=0).tolist(),
        "width": np.mean(width, 0).tolist(),
    }


def trained(prior, simulator, way):
    options = {"batched": True, **QUIET}
    if way == "a parameter instead":
        wide = prior | {"dose": pm.Uniform.dist(-2.1, 2.1)}
        return nre.train(
            nre.simulate(wide, simulator_by_name(simulator), WAYS[way], **options), **QUIET
        )
    made = nre.simulate(
        prior, simulator_by_name(simulator), WAYS[way], conditions={"dose": DESIGNS}, **options
    )
    return nre.train(made, members=5 if "members" in way else 1, **QUIET)


def simulator_by_name(simulator):
    return lambda rng, **given: simulator(rng, **given)


def cost(n=1_000, rounds=400):
    """Seconds of a value and gradient with a condition over those without."""
    prior = {"a": pm.Normal.dist(0, 2), "b": pm.Normal.dist(0, 2)}
    with_dose = nre.simulate(
        prior,
        lambda rng, a, b, dose: rng.normal(a + b * dose, 1.0),
        2_000,
        conditions={"dose": DESIGNS},
        batched=True,
        **QUIET,
    )
    bare = nre.Simulations(with_dose.parameters, with_dose.x)
    ratios = [nre.train(made, epochs=3, **QUIET) for made in (with_dose, bare)]
    functions = []
    for ratio, given in zip(ratios, ({"dose": np.resize(DESIGNS, n)}, {}), strict=True):
        with pm.Model() as model:
            named = {name: pm.Normal(name, 0, 2) for name in prior}
            x = np.resize(with_dose.x, n)
            nre.RatioLikelihood("x", ratio, observed=x, **named, **given)
        function = model.logp_dlogp_function(ravel_inputs=True)
        function.set_extra_values({})
        functions.append(function)
    seconds = np.zeros((rounds, 2))
    for k in range(rounds):
        for j, function in enumerate(functions):
            start = time.perf_counter()
            function(np.array([0.1, 0.2]) + 1e-3 * k)
            seconds[k, j] = time.perf_counter() - start
    return {"share": float(np.median(seconds[:, 0] / seconds[:, 1])), "problem": "cost", "way": ""}


if __name__ == "__main__":
    sys.exit(main())
