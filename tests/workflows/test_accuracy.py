"""Every task with every loss against the exact posterior; an hour, so marked slow.

docs/accuracy.md holds the last table that this printed. Posterior moments need no MCMC here:
draws around the exact posterior are reweighted by the trained ratio.
"""

import time
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from scipy.special import logsumexp
from scipy.stats import qmc, t

import pymc_nre as nre
from pymc_nre import losses, tasks
from pymc_nre.simulation.prior import Prior

SIMULATIONS = 100_000
DATA_SETS = 20
TRIALS = (1, 10)
DRAWS = 2**15
TASKS = {
    "Gaussian mean": tasks.GaussianMean(),
    "location and scale": tasks.LocationScale(),
    "linear Gaussian": tasks.LinearGaussian(),
    "Poisson rate": tasks.PoissonRate(),
    "Gaussian mixture": tasks.GaussianMixture(half_width=3.0, narrow=0.5),
    "hierarchical Gaussian": tasks.HierarchicalGaussian(),
}
# CARL learns where observations of the reference reach: the same tasks, with priors that
# stay near it, and the reference in their middle.
NEAR = {
    "Gaussian mean": (tasks.GaussianMean(half_width=2.0), {"mu": 0.0}),
    "location and scale": (
        tasks.LocationScale(half_width=1.0, log_range=0.5),
        {"mu": 0.0, "log_sigma": 0.5},
    ),
    "linear Gaussian": (tasks.LinearGaussian(noise=2.0), {"theta": np.zeros(3)}),
    "Poisson rate": (tasks.PoissonRate(), {"rate": 6.0}),
    "Gaussian mixture": (tasks.GaussianMixture(half_width=1.0, narrow=0.5), {"theta": np.zeros(2)}),
    "hierarchical Gaussian": (tasks.HierarchicalGaussian(spread=1.0), {"m": 0.0, "log_tau": 0.5}),
}
LOSSES = {
    "every scale": losses.MultiScale(),  # the default
    "NRE-A": losses.NREA(),
    "NRE-B": losses.NREB(),
    "NRE-C": losses.NREC(),
    "BNRE": losses.BNRE(),
    "balanced NRE-C": losses.Balanced(losses.NREC()),
    "CARL": None,
}
NETWORK = nre.networks.MLP((64, 64))
# A strong penalty hides part of what there is to learn: 12,000 and 20,000 steps, not 6,000.
EPOCHS = {("Poisson rate", "BNRE"): 280, ("Gaussian mixture", "BNRE"): 460}


@dataclass(frozen=True)
class Problem:
    """What is trained on, and with which loss."""

    task: object
    loss: object

    @classmethod
    def of(cls, task: str, loss: str) -> "Problem":
        if loss != "CARL":
            return cls(TASKS[task], LOSSES[loss])
        near, at = NEAR[task]
        reference = nre.simulate(
            near.prior(),
            near.simulator,
            SIMULATIONS,
            at=at,
            batched=True,
            random_seed=2,
            progressbar=False,
        )
        return cls(near, losses.CARL(reference))


def proposals(exact, layout, seed):
    """Draws ``(DRAWS, D)`` around the exact posterior and their log density.

    A third each is wider, much wider and much narrower, for posteriors with modes and spikes.
    """
    mean, sd = (layout.pack(part) for part in (exact.mean, exact.sd))
    kinds = [t(4, loc=mean, scale=scale * sd) for scale in (1.5, 6.0, 0.15)]
    uniforms = qmc.Sobol(layout.size, seed=seed).random(DRAWS)
    parts = np.array_split(uniforms, len(kinds))
    theta = np.concatenate([kind.ppf(part) for kind, part in zip(kinds, parts, strict=True)])
    log_q = logsumexp([kind.logpdf(theta).sum(-1) for kind in kinds], axis=0) - np.log(len(kinds))
    return theta, log_q


def moments(ratio, x, theta, log_weight):
    """Posterior means and standard deviations ``(D,)`` of the trained ratio, by weights."""
    for observation in x:
        values = ratio.layout.unpack(theta)
        log_weight = log_weight + ratio.log_ratio(observation, **values)
    weight = np.exp(log_weight - log_weight.max())
    weight /= weight.sum()
    mean = weight @ theta
    return mean, np.sqrt(weight @ (theta - mean) ** 2), 1 / (weight**2).sum()


def compare(task, ratio, trials, seed):
    """Error in exact standard deviations and width ratio, for each number; one data set."""
    rng = np.random.default_rng([seed, trials])
    prior = Prior.of(task.prior())
    truth = {name: np.repeat(value, trials, 0) for name, value in prior.draw(1, rng).items()}
    x = task.simulator(rng, **truth)
    exact, layout = task.posterior(x), ratio.layout
    theta, log_q = proposals(exact, layout, seed)
    density = prior.log_density(layout.unpack(theta))
    inside = np.isfinite(density)
    mean, sd, effective = moments(ratio, x, theta[inside], (density - log_q)[inside])
    true_mean, true_sd = layout.pack(exact.mean), layout.pack(exact.sd)
    return np.abs(mean - true_mean) / true_sd, sd / true_sd, effective


def row(task, ratio):
    """One line of the table."""
    cells = {}
    for trials in TRIALS:
        found = [compare(task, ratio, trials, seed) for seed in range(DATA_SETS)]
        errors, widths, effective = (np.array(part) for part in zip(*found, strict=True))
        cells[f"error, n = {trials}"] = errors.mean()
        cells[f"width, n = {trials}"] = widths.mean()
        cells[f"fewest effective draws, n = {trials}"] = effective.min()
    return cells


@pytest.mark.one_python
@pytest.mark.parametrize("task", TASKS)
def test_the_measure_itself(task):
    """The exact ratio has no error to speak of, a sharpened one is found to be narrow."""
    ratio = TASKS[task].estimator()
    for trials in TRIALS:
        for seed in range(3):
            error, width, effective = compare(TASKS[task], ratio, trials, seed)
            assert effective > 300
            assert error.max() < 0.02
            assert np.abs(width - 1).max() < 0.02


def test_the_measure_sees_a_wrong_ratio():
    class Sharper:
        layout = tasks.GaussianMean().estimator().layout

        @staticmethod
        def log_ratio(x, **parameters):
            return 1.5 * tasks.GaussianMean().log_ratio(x, **parameters)

    _, width, _ = compare(tasks.GaussianMean(), Sharper(), 10, 1)
    assert width == pytest.approx(1.5**-0.5, abs=0.02)


@pytest.mark.slow
@pytest.mark.timeout(7_200)
@pytest.mark.parametrize("loss", LOSSES)
def test_every_task_against_the_exact_posterior(loss, capsys):
    table = {}
    for task in TASKS:
        problem = Problem.of(task, loss)
        simulations = problem.task.simulate(SIMULATIONS, random_seed=1)
        began = time.monotonic()
        ratio = nre.train(
            simulations,
            loss=problem.loss,
            network=NETWORK,
            epochs=EPOCHS.get((task, loss)),
            random_seed=1,
            progressbar=False,
        )
        seconds = time.monotonic() - began
        table[task, loss] = row(problem.task, ratio) | {"training, s": seconds}
        with capsys.disabled():
            print(task, loss, {name: round(v, 3) for name, v in table[task, loss].items()})
    table = pd.DataFrame(table).T
    with capsys.disabled():
        print(f"\n{table.round(3).to_string()}")
    for trials in TRIALS:
        assert table[f"error, n = {trials}"].max() <= 0.15
        assert (table[f"width, n = {trials}"] - 1).abs().max() <= 0.08
