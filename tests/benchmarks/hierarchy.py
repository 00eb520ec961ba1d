"""What the checks of a hierarchical model cost: ten thousand rows, four parameters.

Run by ``python tests/benchmarks/hierarchy.py``. It prints processor time above that of the same
model with a density, and the growth of the largest resident memory.
"""

import resource
import sys
import time
from pathlib import Path

import numpy as np
import pymc as pm
import xarray as xr

import pymc_nre as nre

sys.path.insert(0, str(Path(__file__).parents[1]))
from untrained import make_estimator

ROWS, GROUPS, DRAWS = 10_000, 20, 4_000
MOST_SECONDS, MOST_MEGABYTES = 1.0, 500.0
NAMES = "vazt"


def build(likelihood):
    with pm.Model() as model:
        groups = np.arange(ROWS) % GROUPS
        likelihood({name: pm.Uniform(name, -1, 1, shape=GROUPS)[groups] for name in NAMES})
    return model


def measured(call):
    """Seconds, megabytes and the result of a call."""
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    result = call()
    seconds = time.process_time() - start
    megabytes = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return seconds, megabytes, result


def main():
    ratio = make_estimator(dict.fromkeys(NAMES, ()), (2,))
    x = np.random.default_rng(1).normal(size=(ROWS, 2))

    def density(parameters):
        pm.Normal("x", sum(parameters.values())[:, None], 1, observed=x)

    def of_ratio(parameters):
        nre.RatioLikelihood("x", ratio, **parameters, observed=x)

    build(density)
    without, _, _ = measured(lambda: build(density))
    seconds, megabytes, model = measured(lambda: build(of_ratio))
    print(f"model of {ROWS:,} rows: {seconds - without:.2f} s more, {megabytes:.0f} MB")
    draws = np.random.default_rng(2).uniform(-1, 1, (4, DRAWS // 4, GROUPS))
    posterior = xr.Dataset(dict.fromkeys(NAMES, (("chain", "draw", "group"), draws)))
    took, memory, _ = measured(
        lambda: nre.diagnostics.domain_check({"posterior": posterior}, ratio, model=model)
    )
    print(f"domain_check of {DRAWS:,} draws of it: {took:.2f} s, {memory:.0f} MB")
    assert seconds - without <= MOST_SECONDS
    assert max(megabytes, memory) <= MOST_MEGABYTES


if __name__ == "__main__":
    main()
