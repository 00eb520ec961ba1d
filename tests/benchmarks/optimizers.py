"""Do optimizers find what they find with a density? ``python tests/benchmarks/optimizers.py``.

Ten models with a ratio where a likelihood would stand, the maxima of some near the edge of the
training domain: L-BFGS-B as `pm.find_MAP` runs it, from forty starts all over the domain, and
mean-field ADVI, beside the same with the density. By the policies for parameters outside.
Takes ten minutes on one core.
"""

import argparse
import os
import warnings
from dataclasses import dataclass
from pathlib import Path

from worker import ONE_THREAD

os.environ |= ONE_THREAD

import machine
import numpy as np
import pymc as pm
import pytensor.tensor as pt
from scipy.optimize import minimize
from tables import Table

import pymc_nre as nre

STARTS, ITERATIONS = 40, 15_000
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
        ("location and scale, 20 observations", 1.3, 0.7, 20),
        ("the same, 300", -1.0, 1.5, 300),
        ("its scale near the edge", 0.5, 2.5, 30),
        ("its location near the edge", 4.8, 1.0, 30),
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


def searched(model):
    """A search like that of `pm.find_MAP`, compiled once for all starts."""
    both = model.logp_dlogp_function(ravel_inputs=True)
    both.set_extra_values({})

    def negative(point):
        value, slope = both(point)
        return -value, -slope

    return lambda start: minimize(negative, start, jac=True, method="L-BFGS-B").x


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


def record(case, number, iterations):
    """What is found, by the density and by the policies."""
    starts = starts_of(case, number)
    exact = case.model()
    search = searched(exact)
    found = np.array([search(start) for start in starts])
    maximum = np.median(found, axis=0)
    result = {"density": (int((np.abs(found - maximum).max(1) < 2e-3).sum()),)}
    with exact:
        wanted, again = (approximated(iterations, seed) for seed in (1, 2))
    result["another seed"] = distances(again, wanted)
    for outside in POLICIES:
        model = case.model(outside)
        search = searched(model)
        hits = sum(np.abs(search(start) - maximum).max() < 2e-3 for start in starts)
        with model:
            got = approximated(iterations)
        result[outside] = int(hits), *(distances(got, wanted) if got else (np.nan, np.nan))
    return result


def distances(got, wanted):
    """The largest error of a mean, in standard deviations, and factor between those."""
    error = (np.abs(got[0] - wanted[0]) / wanted[1]).max()
    return float(error), float(np.exp(np.abs(np.log(got[1] / wanted[1])).max()))


def approximated(iterations, seed=1):
    """Means and standard deviations of mean-field ADVI, or None where it broke off."""
    try:
        fit = pm.fit(iterations, random_seed=seed, progressbar=False)
    except FloatingPointError:
        return None
    return fit.mean.eval(), fit.std.eval()


def table(records):
    rows = []
    for name, result in records.items():
        row = [name, result["density"][0], *(f"{value:.2f}" for value in result["another seed"])]
        for outside in POLICIES:
            hits, worst, spread = result[outside]
            broke = np.isnan(worst)
            row += [
                hits,
                "broke off" if broke else f"{worst:.2f}",
                "" if broke else f"{spread:.2f}",
            ]
        rows.append(row)
    measures = ("searches that arrive", "ADVI: error", "width by a factor")
    of = ("density, another seed", *POLICIES)
    note = (
        f"Of {STARTS} searches by L-BFGS-B from all over the domain, how many arrive within "
        "0.002 of the maximum of the density; and mean-field ADVI beside that of the density: the "
        "largest error of a mean, in standard deviations, and the largest factor between those. "
        f"{machine.describe()}."
    )
    columns = ("model", *(f"{measure}, {policy}" for policy in of for measure in measures))
    return Table("Optimizers and ADVI around a ratio", columns, rows, note)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    number, iterations = (3, 200) if arguments.quick else (STARTS, ITERATIONS)
    records = {}
    for case in list(cases())[: 2 if arguments.quick else None]:
        records[case.name] = record(case, number, iterations)
        print(case.name, records[case.name], flush=True)
    text = table(records).markdown()
    print(text)
    if arguments.out:
        arguments.out.write_text(text)


if __name__ == "__main__":
    main()
