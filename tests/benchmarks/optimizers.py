"""Do optimizers find what they find with a density? ``python tests/benchmarks/optimizers.py``.

Ten models with a ratio where a likelihood would stand, the maxima of some near the edge of the
training domain: L-BFGS-B as `pm.find_MAP` runs it, from forty starts all over the domain,
mean-field ADVI, and Pathfinder of pymc-extras, beside the same with the density. By the policies
for parameters outside. Takes a quarter of an hour on one core; pymc-extras is needed.
"""

import argparse
import os
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

from worker import ONE_THREAD

os.environ |= ONE_THREAD

import machine
import numpy as np
import pymc as pm
import pymc_extras as extras
import pytensor.tensor as pt
from tables import Table

import pymc_nre as nre

sys.path.insert(0, str(Path(__file__).parents[1]))
from searches import searched

STARTS, ITERATIONS, DRAWS = 40, 15_000, 2_000
POLICIES = ("repel", "reject")


@dataclass(frozen=True, eq=False)
class Case:
    """A model of data, by a likelihood that is given its free parameters."""

    name: str
    priors: dict  # name: (mean, sd) of a normal prior, or (mean, sd, shape)
    task: object
    x: np.ndarray
    density: callable  # (parameters, x)
    parameters: callable = lambda given: given

    def model(self, outside=None):
        """With the density, or with the ratio and a policy."""
        with pm.Model() as model, warnings.catch_warnings():
            warnings.simplefilter("ignore", nre.DomainWarning)  # priors are wider, on purpose
            free = {name: pm.Normal(name, *prior[:2], shape=prior[2:] or None)
                    for name, prior in self.priors.items()}  # fmt: skip
            given = self.parameters(free)
            if outside is None:
                self.density(given, self.x)
            else:
                ratio = self.task.estimator()
                nre.RatioLikelihood("x", ratio, **given, observed=self.x, outside=outside)
        return model


def normal(given, x):
    pm.Normal("x", given["mu"], pt.exp(given.get("log_sigma", 0.0)), observed=x)


def cases():
    """Ten of them."""
    rng = np.random.default_rng(1)
    scale, mean = nre.tasks.LocationScale(), nre.tasks.GaussianMean()
    linear = nre.tasks.LinearGaussian()
    counts, groups = nre.tasks.PoissonRate(), np.repeat(np.arange(4), 10)
    both = {"mu": (0, 3), "log_sigma": (0, 1)}
    for name, center, sd, n in (
        ("location and scale, a small scale near the edge", 1.3, 0.7, 20),
        ("the same far from edges, 300 observations", -1.0, 1.5, 300),
        ("the same, a large scale near the edge", 0.5, 2.5, 30),
        ("the same, the location near the edge", 4.8, 1.0, 30),
    ):
        yield Case(name, both, scale, rng.normal(center, sd, n), normal)
    for name, center in (("a mean", 2.0), ("a mean near the edge", 9.7)):
        yield Case(name, {"mu": (0, 10)}, mean, rng.normal(center, 1, 10), normal)
    yield Case(
        "means of four groups, one near the edge",
        {"mu": (0, 10, 4)}, mean, rng.normal(np.array([-3, 0, 5, 9.5])[groups], 1), normal,
        lambda given: {"mu": given["mu"][groups]},
    )  # fmt: skip
    hierarchy = {"center": (0, 5), "offset": (0, 1, 4)}
    yield Case(
        "a hierarchy of four groups",
        hierarchy, mean, rng.normal(np.array([-1, 0, 1, 2])[groups], 1), normal,
        lambda given: {"mu": (given["center"] + 2 * given["offset"])[groups]},
    )  # fmt: skip
    x = linear.simulator(rng, np.tile([[0.5, -1.0, 1.5]], (10, 1))[:, : linear.matrix.shape[1]])
    yield Case(
        "a linear model of several parameters",
        {"theta": (0, 1, linear.matrix.shape[1])}, linear, x,
        lambda given, x: pm.Normal("x", linear.matrix @ given["theta"], linear.noise, observed=x),
    )  # fmt: skip
    yield Case(
        "a rate of counts, through its logarithm",
        {"log_rate": (1, 1)}, counts, rng.poisson(3.0, 20).astype(float),
        lambda given, x: pm.Poisson("x", given["rate"], observed=x.astype(int)),
        lambda given: {"rate": pt.exp(given["log_rate"])},
    )  # fmt: skip


def starts_of(case, number):
    """All over the domain; free parameters elsewhere within two standard deviations."""
    domain, rng = case.task.estimator().domain, np.random.default_rng(5)
    names = list(case.task.estimator().parameters)
    ends = {n: (domain.lower[i], domain.upper[i]) for i, n in enumerate(names)}
    columns = []
    for name, (mean, sd, *shape) in case.priors.items():
        low, high = ends.get(name, (mean - 2 * sd, mean + 2 * sd))
        middle, half = (low + high) / 2, 0.49 * (high - low)
        size = (number, *(shape or (1,)))
        columns.append(rng.uniform(middle - half, middle + half, size).reshape(number, -1))
    return np.concatenate(columns, axis=1)


def record(case, number, iterations, draws):
    """What is found, by the density and by the policies."""
    starts = starts_of(case, number)
    exact = case.model()
    search = searched(exact)
    found = np.array([search(start) for start in starts])
    maximum = np.median(found, axis=0)
    wanted = by_advi(exact, iterations), by_pathfinder(exact, draws)
    again = by_advi(exact, iterations, seed=2), by_pathfinder(exact, draws, seed=2)
    result = {"density": [arrived(found, maximum), *map(distances, again, wanted)]}
    for outside in POLICIES:
        model = case.model(outside)
        search = searched(model)
        found = np.array([search(start) for start in starts])
        got = by_advi(model, iterations), by_pathfinder(model, draws)
        result[outside] = [arrived(found, maximum), *map(distances, got, wanted)]
    return result


def arrived(found, maximum):
    return int((np.abs(found - maximum).max(1) < 2e-3).sum())


def distances(got, wanted):
    """The largest error of a mean, in standard deviations, and factor between those, in words."""
    if got is None:
        return "broke off"
    error = (np.abs(got[0] - wanted[0]) / wanted[1]).max()
    return f"{error:.2f}, {np.exp(np.abs(np.log(got[1] / wanted[1])).max()):.2f}"


def by_advi(model, iterations, seed=1):
    """Means and standard deviations, or None where it broke off."""
    try:
        with model:
            fit = pm.fit(iterations, random_seed=seed, progressbar=False)
    except FloatingPointError:
        return None
    return fit.mean.eval(), fit.std.eval()


def by_pathfinder(model, draws, seed=1):
    """The same."""
    alone = {"parallel": False}
    if pm.__version__.startswith("5."):
        alone = {"concurrent": None, "display_summary": False}
    try:
        with model:
            idata = extras.fit_pathfinder(
                num_paths=4, num_draws=draws, random_seed=seed, progressbar=False, **alone
            )
    except (ValueError, RuntimeError):  # all of its paths failed
        return None
    names = [variable.name for variable in model.free_RVs]
    posterior = idata["posterior"] if hasattr(idata, "children") else idata.posterior
    columns = [posterior[name].values.reshape(draws, -1) for name in names]
    joined = np.concatenate(columns, axis=1)
    return joined.mean(0), joined.std(0)


def table(records):
    measures = ("searches that arrive", "ADVI", "Pathfinder")
    of = ("density, another seed", *POLICIES)
    rows = [
        (name, *(value for policy in ("density", *POLICIES) for value in result[policy]))
        for name, result in records.items()
    ]
    note = (
        f"Of {STARTS} searches by L-BFGS-B from all over the domain, how many arrive within 0.002 "
        "of the maximum of the density. Mean-field ADVI and Pathfinder, four paths, beside those "
        "of the density: the largest error of a mean, in standard deviations, and largest factor "
        f"between those. {machine.describe()}."
    )
    columns = ("model", *(f"{measure}: {policy}" for policy in of for measure in measures))
    return Table("Optimizers and approximations around a ratio", columns, rows, note)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    sizes = (3, 200, 100) if arguments.quick else (STARTS, ITERATIONS, DRAWS)
    records = {}
    for case in list(cases())[: 2 if arguments.quick else None]:
        records[case.name] = record(case, *sizes)
        print(case.name, records[case.name], flush=True)
    text = table(records).markdown()
    print(text)
    if arguments.out:
        arguments.out.write_text(text)


if __name__ == "__main__":
    main()
