"""What samplers get out of direct and ordinary ratios, and what gradients of a ratio overflow at.

Seconds are those of the processor between a chain's first draw and the last chain's last, tuning
included and compiling not. Passes through a network are counted in short runs by torch, whose
evaluator goes through Python; an antisymmetric head takes two for each log ratio.
"""

import time
import warnings
from functools import partial
from itertools import product

import arviz as az
import numpy as np
import pymc as pm
from direct_problem import trained
from results import Results
from tables import Table

import pymc_nre as nre
from pymc_nre.networks.base import SplitNetwork
from pymc_nre.steps import comparison

KEYS = ("task", "loss", "sampler")
TASKS = ("GaussianMean", "LocationScale", "LinearGaussian")
WAYS = (
    ("NRE-C", "Metropolis"),
    ("additive", "Metropolis"),
    ("antisymmetric", "Metropolis"),
    ("antisymmetric", "DirectRatioMetropolis"),
    ("plain", "DirectRatioMetropolis"),
    ("NRE-C", "HMC"),
    ("antisymmetric", "HMC"),
    ("NRE-C", "NUTS"),
    ("antisymmetric", "NUTS"),
)
STEPS = {
    "Metropolis": pm.Metropolis,
    "DirectRatioMetropolis": nre.steps.DirectRatioMetropolis,
    "HMC": pm.HamiltonianMC,
    "NUTS": pm.NUTS,
}
OBSERVED = 10
SETTINGS = {"tune": 500, "draws": 2_000, "chains": 2}
COUNTED = {"tune": 100, "draws": 100, "chains": 1}


def run(folder, say):
    """A table of samplers, and those of gradients."""
    results = Results(folder / "direct_chains.jsonl", KEYS)
    for task, (loss, sampler) in product(TASKS, WAYS):
        which = dict(zip(KEYS, (task, loss, sampler), strict=True))
        ratio = trained(folder, task, loss)
        say(results.get(partial(_measured, ratio, **which), **which))
    return [_of_samplers(results.read())]


def _measured(ratio, task, loss, sampler):
    task = getattr(nre.tasks, task)()
    [theta] = task.simulate(1, random_seed=11).theta
    rows = ratio.layout.unpack(np.tile(theta / 2, (OBSERVED, 1)))  # away from the ends
    x = task.simulator(np.random.default_rng(11), **rows)
    clock = _Watch(time.process_time)
    idata = _sampled(task, ratio, x, sampler, callback=clock, **SETTINGS)
    with _Counted() as counted:
        rows = _Watch(lambda: counted.rows)
        _sampled(task, ratio, x, sampler, engine="torch", callback=rows, **COUNTED)
    exact, posterior = task.posterior(x), idata["posterior"]
    errors, widths = [], []
    for name, mean in exact.mean.items():
        drawn = posterior[name]
        errors += list(np.ravel(np.abs(drawn.mean(("chain", "draw")) - mean) / exact.sd[name]))
        widths += list(np.ravel(drawn.std(("chain", "draw")) / exact.sd[name]))
    ess = az.ess(posterior)
    found = {
        "ess": min(float(ess[name].min()) for name in exact.mean),
        "seconds": clock.passed,
        "passes": rows.passed / OBSERVED / (COUNTED["tune"] + COUNTED["draws"] - 1),
        "error": float(max(errors)),
        "widths": [float(min(widths)), float(max(widths))],
    }
    cycles = idata["sample_stats"].get("transitivity")
    return found | ({} if cycles is None else {"cycles": float(cycles[..., -1].max())})


def _sampled(task, ratio, x, sampler, engine="auto", **settings):
    with task.prior() as model, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        values = {name: model[name] for name in ratio.parameters}
        nre.RatioLikelihood("x", ratio, observed=x, engine=engine, **values)
        return pm.sample(
            step=STEPS[sampler](),
            cores=1,
            random_seed=5,
            progressbar=False,
            compute_convergence_checks=False,
            **settings,
        )


class _Watch:
    """What passes by a clock or a counter from the first draw to the last."""

    def __init__(self, read):
        self.read, self.began = read, None

    def __call__(self, **_):
        self.ended = self.read()
        if self.began is None:
            self.began = self.ended

    @property
    def passed(self):
        return self.ended - self.began


class _Counted:
    """Rows that go through networks while this is open; direct steps are made to use torch."""

    def __enter__(self):
        self.rows, self.kept = 0, (SplitNetwork.head, comparison.evaluator_of_pairs)
        head = SplitNetwork.head

        def counted(network, theta, features):
            logits = head(network, theta, features)
            self.rows += logits.numel()
            return logits

        SplitNetwork.head = counted
        comparison.evaluator_of_pairs = lambda ratio: ratio.evaluator
        return self

    def __exit__(self, *_):
        SplitNetwork.head, comparison.evaluator_of_pairs = self.kept


def _of_samplers(records):
    columns = ("task", "loss", "sampler", "passes per step", "seconds", "ESS per draw")
    columns += ("passes per ESS", "ESS / s", "of NRE-C, Metropolis", "error", "widths")
    rows = []
    for task, (loss, sampler) in product(TASKS, WAYS):
        found = records.get((task, loss, sampler))
        if found is None:
            continue
        rate = found["ess"] / found["seconds"]
        first = records[(task, *WAYS[0])]
        draws = SETTINGS["chains"] * SETTINGS["draws"]
        of_all = SETTINGS["chains"] * (SETTINGS["draws"] + SETTINGS["tune"])
        rows.append(
            [
                *(task, loss, sampler),
                f"{found['passes']:.1f}",
                f"{found['seconds']:.2f}",
                f"{found['ess'] / draws:.3f}",
                f"{found['passes'] * of_all / found['ess']:.0f}",
                f"{rate:,.0f}",
                f"{rate / (first['ess'] / first['seconds']):.2f}",
                f"{found['error']:.2f}",
                ", ".join(f"{width:.2f}" for width in found["widths"]),
            ]
        )
    return Table(
        f"Samplers, {OBSERVED} observations, 10,000 simulations",
        columns,
        rows,
        "Passes through the network for each observation and step, those of gradients counted as "
        "one; least effective sample sizes, largest errors of means in exact standard deviations, "
        f"and least and largest ratios of these. {SETTINGS['chains']} chains of "
        f"{SETTINGS['draws']:,} draws after {SETTINGS['tune']} of tuning.",
    )
