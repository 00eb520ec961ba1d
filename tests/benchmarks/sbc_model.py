"""Calibration of a hierarchical model with 8 groups: what a replicate costs, here and in simuk.

``python tests/benchmarks/sbc_model.py`` prints the rows of a table. A ratio that is good must have
uniform ranks, and the same ratio shifted in its parameter must not. All draw 500 times after 500
steps of tuning, in one chain. simuk is optional (``pip install simuk``); ``--simuk 0`` leaves it
out.
"""

import argparse
import copy
import sys
import time
from importlib.metadata import version
from importlib.util import find_spec

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
    parser.add_argument("--samplers", nargs="+", default=["nutpie", "pymc"])
    options = parser.parse_args()
    others = [name for name in ("nutpie", "simuk") if find_spec(name)]
    print(describe(), *(f"{name} {version(name)}" for name in others), sep=", ")
    good = nre.train(TASK.simulate(50_000, random_seed=1), random_seed=1, progressbar=False)
    for sampler in options.samplers:
        ours("good", model_of(good), sampler, options.replicates)
        if find_spec("simuk") and options.simuk:
            simuk(model_of(good), sampler, options.simuk)
    ours("bad", model_of(shifted(good, options.shift)), options.samplers[0], options.replicates)


def shifted(ratio, by):
    """The same ratio, taking ``mu`` for ``mu + by``."""
    network = copy.deepcopy(ratio.network)
    network.standardize_theta.mean -= by
    return ratio.with_network(network)


def model_of(ratio):
    group = np.repeat(np.arange(GROUPS), TRIALS)
    with pm.Model() as model:
        m = pm.Normal("m", 0, 2)
        s = pm.HalfNormal("s", 1)
        mu = pm.Deterministic("mu", m + s * pm.Normal("z", 0, 1, shape=GROUPS))
        nre.RatioLikelihood("x", ratio, mu=mu[group], observed=np.zeros(GROUPS * TRIALS))
    return model


def ours(name, model, sampler, replicates):
    """All replicates, the compilation among them."""
    options = {"var_names": ["m", "s", "mu"], "random_seed": 1, "progressbar": False}
    run = nre.diagnostics.sbc_model
    cpu, wall, ranks = timed(lambda: run(model, replicates=replicates, sampler=sampler, **options))
    judged = nre.diagnostics.sbc(ranks)
    told(f"pymc_nre, {name} ratio, {sampler}", replicates, cpu, wall)
    print(f"    {judged.attrs['summary']} {int(ranks['diverging'].sum())} divergences", flush=True)


def simuk(model, sampler, replicates):
    """Without the first replicate, which fills the caches of the compilers."""
    from simuk import SBC

    # nutpie is what PyMC 6 takes of itself where it is installed.
    options = CHAIN | {"chains": 1, "cores": 1, "nuts_sampler": sampler}
    calibration = SBC(model, num_simulations=replicates + 1, seed=1, sample_kwargs=options)
    sample, spent = calibration._get_posterior_samples, []

    def measured(*arguments):
        *both, posterior = timed(lambda: sample(*arguments))
        spent.append(both)
        return posterior

    calibration._get_posterior_samples = measured
    calibration.run_simulations()
    told(f"simuk, good ratio, {sampler}", replicates, *np.sum(spent[1:], axis=0))


def timed(function):
    cpu, wall = time.process_time(), time.perf_counter()
    result = function()
    return time.process_time() - cpu, time.perf_counter() - wall, result


def told(what, replicates, cpu, wall):
    row = (what, replicates, f"{cpu:.0f}", f"{cpu / replicates:.2f}", f"{wall / replicates:.2f}")
    print("|", " | ".join(map(str, row)), "|", flush=True)


if __name__ == "__main__":
    sys.exit(main())
