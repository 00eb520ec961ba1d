"""Does `center(around=)` make posteriors worse? ``python tests/benchmarks/centering_problems.py``.

Takes half an hour on one core and resumes. Ten problems whose likelihood is known, some of them
skewed, some with two modes, from 100 to 10,000 trials. A ratio of two layers of 64 is trained for
each on 50,000 simulations; its posterior of a data set is compared with the exact one, as it is
and after `center(around=)`, or that refused and said why. Posteriors of one or two parameters
are summed on grids, those of four are drawn by tempering from the prior, which finds all modes.
"""

import os
import sys
import time
import warnings
from functools import cache, partial

from worker import ONE_THREAD

os.environ |= ONE_THREAD

import numpy as np
import torch
import xarray as xr
from many_trials import parser_of
from problems.base import Trials
from problems.boxes import QUANTILES, RACE
from problems.posteriors import moments, posterior
from results import Results
from scipy.special import gammaln
from scipy.stats import norm
from tables import Table

import pymc_nre as nre

SIMULATIONS, SETS = 50_000, 1
NETWORK = nre.networks.MLP((64, 64))
TOLD = 1_000  # draws of a posterior that `center` is given


class Problem(Trials):
    """Trials that are centered."""

    def approximate(self, ratio, x):
        """The log likelihood by a ratio."""
        network = ratio.network.to(torch.float64)
        with torch.no_grad():
            features = network.embed(torch.tensor(x))[None]

        def log_p(theta):
            blocks = np.array_split(theta, max(1, len(theta) * len(x) // 20_000))
            with torch.no_grad():
                parts = [network.head(torch.tensor(b)[:, None], features).sum(1) for b in blocks]
            return torch.cat(parts).numpy()

        return self.within(log_p)


# The problems.


def _mixture(rng, first, second):
    means = np.where(rng.random(len(first)) < 0.5, first, second)
    return rng.normal(means, 1)


def _log_mixture(x, first, second):
    return np.logaddexp(norm.logpdf(x, first), norm.logpdf(x, second)) - np.log(2)


def _log_student(x, mu, log_nu):
    nu = np.exp(log_nu)
    constant = gammaln((nu + 1) / 2) - gammaln(nu / 2) - np.log(nu * np.pi) / 2
    return constant - (nu + 1) / 2 * np.log1p((x - mu) ** 2 / nu)


def _log_gamma(x, log_shape, log_scale):
    shape = np.exp(log_shape)
    return shape * (x - log_scale) - np.exp(x - log_scale) - gammaln(shape)


def _log_weibull(x, log_shape, log_scale):
    shape = np.exp(log_shape)
    return log_shape + shape * (x - log_scale) - np.exp(shape * (x - log_scale))


PROBLEMS = (
    QUANTILES.as_a(Problem),
    RACE.as_a(Problem),
    Problem(
        "location",
        1_000,
        {"mu": (-10, 10)},
        (2.0,),
        lambda rng, mu: rng.normal(mu, 1),
        lambda x, mu: norm.logpdf(x, mu),
    ),
    Problem(
        "location and scale",
        10_000,
        {"mu": (-5, 5), "log_sigma": (-1, 1)},
        (1.0, 0.3),
        lambda rng, mu, log_sigma: rng.normal(mu, np.exp(log_sigma)),
        lambda x, mu, log_sigma: norm.logpdf(x, mu, np.exp(log_sigma)),
    ),
    Problem(
        "rate of counts, near zero",
        100,
        {"rate": (0, 10)},
        (0.05,),
        lambda rng, rate: rng.poisson(rate).astype(float),
        lambda x, rate: x * np.log(rate) - rate - gammaln(x + 1),
    ),
    Problem(
        "square of a location (two modes)",
        200,
        {"mu": (-3, 3)},
        (1.0,),
        lambda rng, mu: rng.normal(mu**2, 1),
        lambda x, mu: norm.logpdf(x, mu**2),
    ),
    Problem(
        "two locations (two modes)",
        1_000,
        {"first": (-3, 3), "second": (-3, 3)},
        (-0.8, 1.2),
        _mixture,
        _log_mixture,
    ),
    Problem(
        "degrees of freedom (skewed)",
        100,
        {"mu": (-5, 5), "log_nu": (0, 4)},
        (0.0, 1.8),
        lambda rng, mu, log_nu: mu + rng.standard_t(np.exp(log_nu)),
        _log_student,
    ),
    Problem(
        "shape and scale, gamma (correlated)",
        2_000,
        {"log_shape": (-1, 2), "log_scale": (-2, 2)},
        (1.0, 0.0),
        lambda rng, shape, scale: np.log(np.maximum(rng.gamma(np.exp(shape)), 1e-300)) + scale,
        _log_gamma,
    ),
    Problem(
        "shape and scale, Weibull",
        5_000,
        {"log_shape": (-1, 1.5), "log_scale": (-2, 2)},
        (0.4, 0.5),
        lambda rng, shape, scale: scale + np.log(rng.exponential(size=len(shape))) / np.exp(shape),
        _log_weibull,
    ),
)


# Before and after.


@cache
def trained(problem, work):
    path = work / f"centering_{problem.name.replace(' ', '_')}.nre"
    if not path.exists():
        simulations = nre.simulate(
            problem.prior(),
            problem.simulator,
            SIMULATIONS,
            batched=True,
            random_seed=1,
            progressbar=False,
        )
        nre.train(simulations, network=NETWORK, random_seed=1, progressbar=False).save(path)
    return nre.load(path, simulator=nre.Simulator(problem.simulator, batched=True))


def centered(problem, ratio, x, theta, weights, seed):
    """What `center` gives, and what it says where it refuses."""
    rng = np.random.default_rng(seed)
    draws = theta[rng.choice(len(theta), TOLD, p=weights)]
    idata = {name: (("chain", "draw"), draws[None, :, j]) for j, name in enumerate(problem.ranges)}
    with problem.prior() as model, warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        nre.RatioLikelihood("x", ratio, observed=x, **{n: model[n] for n in problem.ranges})
        around = {"posterior": xr.Dataset(idata)}
        again = nre.center(ratio, around=around, random_seed=seed, progressbar=False)
    words = [str(w.message) for w in told if issubclass(w.category, nre.TrainingWarning)]
    return again, words


def measure(problem, seed, work):
    began, ratio, x = time.process_time(), trained(problem, work), problem.data((seed, 8))
    mean, sd = moments(*posterior(problem.log_likelihood(x), problem.ends, seed))
    theta, weights = posterior(problem.approximate(ratio, x), problem.ends, seed)
    before = moments(theta, weights)
    again, words = centered(problem, ratio, x, theta, weights, seed)
    refused = again is ratio
    after = before
    if not refused:
        after = moments(*posterior(problem.approximate(again, x), problem.ends, seed))
    record = {"refused": refused, "words": words}
    for name, (middle, spread) in {"before": before, "after": after}.items():
        record[f"error_{name}"] = ((middle - mean) / sd).tolist()
        record[f"width_{name}"] = (spread / sd).tolist()
    return record | {"seconds": round(time.process_time() - began)}


def table(records):
    rows = []
    for problem in PROBLEMS:
        for seed in range(1, SETS + 1):
            row = records.get((problem.name, seed))
            if row is None:
                continue
            done = "refused" if row["refused"] else "centered"
            for j, label in enumerate(problem.ranges):
                pairs = [
                    f"{row['error_before'][j]:+.2f}, {row['width_before'][j]:.2f}",
                    "as before"
                    if row["refused"]
                    else f"{row['error_after'][j]:+.2f}, {row['width_after'][j]:.2f}",
                ]
                rows.append([f"{problem.name}: {label}", problem.trials, seed, *pairs, done])
    title = "Error of the posterior mean, in exact posterior standard deviations, and width"
    heads = (
        "problem and parameter",
        "trials",
        "data set",
        "as trained",
        "around it",
        "what it did",
    )
    return Table(title, heads, rows)


def main():
    parser = parser_of(__doc__)
    parser.add_argument("--only", nargs="+", default=[problem.name for problem in PROBLEMS])
    parser.add_argument("--sets", type=int, default=SETS)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    results = Results(options.work / "centering_problems.jsonl", ("problem", "seed"))
    for problem in PROBLEMS:
        for seed in range(1, options.sets + 1):
            if problem.name in options.only:
                which = {"problem": problem.name, "seed": seed}
                print(results.get(partial(measure, problem, seed, options.work), **which))
    path = options.out / "centering_problems.inc"
    path.write_text(table(results.read()).markdown())
    print(path.read_text(), path)


if __name__ == "__main__":
    sys.exit(main())
