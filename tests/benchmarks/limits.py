"""What large models and large sets of simulations cost above what they hold.

Run by ``python tests/benchmarks/limits.py``. Each case runs in a process of its own, whose largest
resident memory during the call is compared with what it held before. The model of a hierarchy is
built beside the same with a density in the ratio's place, whose processor time is taken off.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pymc as pm
import xarray as xr

import pymc_nre as nre
from pymc_nre.estimators.domain import Domain

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))
from machine import describe
from tables import Table
from untrained import make_estimator

OUT = Path(__file__).parents[2] / "docs/benchmarks"
NAMES, GROUPS = "vazt", 20
SIZES = {
    False: {"rows": 10_000, "draws": 4_000, "simulations": 10_000_000, "domain": 1_000_000},
    True: {"rows": 500, "draws": 400, "simulations": 100_000, "domain": 20_000},
}
LIMITS = {"model": 500.0, "domain_check": 500.0, "simulate": 1_000.0, "domain": 2_000.0}  # MB
MOST_SECONDS = 1.0  # of the model


def main():
    arguments = _arguments()
    if arguments.case:
        print(json.dumps(CASES[arguments.case](**SIZES[arguments.quick])))
        return
    found = {case: _alone(case, arguments.quick) for case in CASES}
    rows = [[f["what"], f["seconds"], f["megabytes"], LIMITS[c]] for c, f in found.items()]
    columns = ("case", "processor seconds", "MB", "at most")
    note = f"Seconds of the model are those above the same with a density. {describe()}."
    table = Table("Memory above what is held anyway", columns, rows, note).markdown()
    print(table)
    if not arguments.quick:
        major = pm.__version__.split(".")[0]
        (OUT / f"limits_pymc{major}.inc").write_text(table)
    assert found["model"]["seconds"] <= MOST_SECONDS
    assert all(f["megabytes"] <= LIMITS[case] for case, f in found.items())


def of_the_model(rows, **others):
    """Building it, for the first time in this process."""
    _build(_density, rows)
    without, *_ = measured(lambda: _build(_density, rows))
    seconds, megabytes, _ = measured(lambda: _build(_of_ratio, rows))
    return _found(f"model of {rows:,} rows x 4 parameters", seconds - without, megabytes)


def of_the_domain_check(rows, draws, **others):
    """Looking at every row of every draw."""
    model = _build(_of_ratio, rows)
    values = np.random.default_rng(2).uniform(-1, 1, (4, draws // 4, GROUPS))
    posterior = xr.Dataset(dict.fromkeys(NAMES, (("chain", "draw", "group"), values)))
    check = nre.diagnostics.domain_check
    seconds, megabytes, _ = measured(lambda: check({"posterior": posterior}, _ratio(), model=model))
    return _found(f"domain_check of {draws:,} draws x {rows:,} rows", seconds, megabytes)


def of_simulating(simulations, **others):
    """Cheap and batched: what prior draws and bookkeeping take beside the arrays."""
    task, quiet = nre.tasks.GaussianMean(), {"batched": True, "progressbar": False}
    nre.simulate(task.prior(), task.simulator, 1_000, **quiet)
    seconds, megabytes, pairs = measured(
        lambda: nre.simulate(task.prior(), task.simulator, simulations, **quiet)
    )
    own = (pairs.x.nbytes + pairs.parameters["mu"].nbytes) / 2**20
    return _found(f"{simulations:,} simulations", seconds, megabytes - own)


def of_the_domain(domain, **others):
    """What training makes of its parameters before the first epoch."""
    theta = np.random.default_rng(3).normal(size=(domain, 50))
    seconds, megabytes, _ = measured(lambda: Domain.from_draws(theta))
    return _found(f"domain of {domain:,} draws x 50 parameters", seconds, megabytes)


CASES = {
    "model": of_the_model,
    "domain_check": of_the_domain_check,
    "simulate": of_simulating,
    "domain": of_the_domain,
}


def _found(what, seconds, megabytes):
    return {"what": what, "seconds": seconds, "megabytes": megabytes}


def _ratio():
    return make_estimator(dict.fromkeys(NAMES, ()), (2,))


def _build(likelihood, rows):
    with pm.Model() as model:
        groups = np.arange(rows) % GROUPS
        own = {name: pm.Uniform(name, -1, 1, shape=GROUPS)[groups] for name in NAMES}
        likelihood(own, np.random.default_rng(1).normal(size=(rows, 2)))
    return model


def _density(parameters, x):
    pm.Normal("x", sum(parameters.values())[:, None], 1, observed=x)


def _of_ratio(parameters, x):
    nre.RatioLikelihood("x", _ratio(), **parameters, observed=x)


def measured(call):
    """Processor seconds of a call, the megabytes at its peak above those before, its result."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before, start = _status("VmRSS"), time.process_time()
    result = call()
    seconds = time.process_time() - start
    return seconds, _status("VmHWM") - before, result


def _status(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) / 1024


def _alone(case, quick):
    command = [sys.executable, __file__, "--case", case, *["--quick"] * quick]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(lines.splitlines()[-1])


def _arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--case", choices=CASES, help="run one case in this process")
    parser.add_argument("--quick", action="store_true", help="small sizes, and no table")
    return parser.parse_args()


if __name__ == "__main__":
    main()
