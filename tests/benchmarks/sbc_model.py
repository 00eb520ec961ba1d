"""Calibration of a hierarchical model with 8 groups: what a replicate costs, here and in simuk.

``python tests/benchmarks/sbc_model.py`` prints the rows of a table. A ratio that is good must have
uniform ranks, and the same ratio shifted in its parameter must not. simuk is given the same chain,
500 draws after 500 steps of tuning, and then left its defaults. It is optional (``pip install
simuk``); ``--simuk 0`` leaves it out.
"""

import argparse
import copy
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pymc as pm
from machine import describe

import pymc_nre as nre

TASK = nre.tasks.GaussianMean()
GROUPS, TRIALS = 8, 10
CHAIN = {"draws": 500, "tune": 500, "target_accept": 0.9}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replicates", type=int, default=200)
    parser.add_argument("--simuk", type=int, default=5, help="replicates of simuk")
    parser.add_argument("--shift", type=float, default=0.3, help="of the bad ratio")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--ratio", help="a file, which is used if it is there")
    options = parser.parse_args()
    others = [name for name in ("nutpie", "simuk") if find_spec(name)]
    print(describe(), *(f"{name} {version(name)}" for name in others), sep=", ")
    good = trained(options.ratio)
    bad, n = shifted(good, options.shift), options.replicates
    if find_spec("simuk") and options.simuk:
        simuk("the same chain", good, options.simuk, CHAIN | {"chains": 1, "cores": 1})
        simuk("its defaults", good, options.simuk, {})
    with ThreadPoolExecutor(options.threads) as threads:
        ours("bad ratio", bad, n, executor=threads)
        ours("good ratio", good, n, executor=threads)
    ours("good ratio", good, max(1, n // 10), sampler="pymc")


def trained(path):
    simulator = nre.Simulator(TASK.simulator, batched=True)
    if path and Path(path).exists():
        return nre.load(path, simulator=simulator)
    ratio = nre.train(
        TASK.simulate(50_000, random_seed=1),
        network=nre.networks.MLP((64, 64)),
        random_seed=1,
        progressbar=False,
    )
    if path:
        ratio.save(path)
    return ratio


def shifted(ratio, by):
    """The same ratio, taking ``mu`` for ``mu + by``."""
    network = copy.deepcopy(ratio.network)
    network.standardize_theta.mean -= by
    return ratio.replace(network=network)


def model_of(ratio):
    group = np.repeat(np.arange(GROUPS), TRIALS)
    with pm.Model() as model:
        m = pm.Normal("m", 0, 2)
        s = pm.HalfNormal("s", 1)
        mu = pm.Deterministic("mu", m + s * pm.Normal("z", 0, 1, shape=GROUPS))
        nre.RatioLikelihood("x", ratio, mu=mu[group], observed=np.zeros(GROUPS * TRIALS))
    return model


def ours(what, ratio, replicates, sampler="nutpie", **options):
    """All replicates, the compilation among them."""
    model = model_of(ratio)
    options |= CHAIN | {"var_names": ["m", "s", "mu"], "random_seed": 1, "progressbar": False}
    cpu, wall, ranks = timed(
        lambda: nre.diagnostics.sbc_model(model, replicates=replicates, sampler=sampler, **options)
    )
    told(f"pymc_nre, {what}, {sampler}", replicates, cpu, wall)
    print(f"    {nre.diagnostics.sbc(ranks).attrs['summary']}")
    print(f"    {int(ranks['diverging'].sum())} divergences", flush=True)


def simuk(what, ratio, replicates, options):
    """Without the first replicate, which fills the caches of the compilers."""
    from simuk import SBC

    # nutpie is what PyMC 6 takes of itself where it is installed.
    calibration = SBC(
        model_of(ratio), num_simulations=replicates + 1, seed=1, sample_kwargs=dict(options)
    )
    sample, spent = calibration._get_posterior_samples, []

    def measured(*arguments):
        *both, posterior = timed(lambda: sample(*arguments))
        spent.append(both)
        return posterior

    calibration._get_posterior_samples = measured
    calibration.run_simulations()
    told(f"simuk, good ratio, {what}", replicates, *np.sum(spent[1:], axis=0))


def timed(function):
    cpu, wall = time.process_time(), time.perf_counter()
    result = function()
    return time.process_time() - cpu, time.perf_counter() - wall, result


def told(what, replicates, cpu, wall):
    row = (what, replicates, f"{cpu:.0f}", f"{cpu / replicates:.2f}", f"{wall / replicates:.2f}")
    print("|", " | ".join(map(str, row)), "|", flush=True)


if __name__ == "__main__":
    sys.exit(main())
