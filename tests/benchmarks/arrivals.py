"""Flows that sbi and zuko trained, in PyMC models, beside their own draws.

``python -m tests.benchmarks.arrivals``, from the repository's root, where sbi is installed (the
extra ``neighbors``, which brings zuko). A flow is a likelihood or a posterior of two tasks. What
PyMC draws by it is compared with what its own library does: of sbi's likelihoods that is its Markov
chain Monte Carlo, of zuko's, which has none, draws of the prior weighted by the flow; of posteriors
the flow's own draws, less those outside of the prior. Then the prior is another, and the same draws
are weighted. Takes some ten minutes, and resumes.
"""

import logging
import warnings
from itertools import product

import numpy as np
import pymc as pm
import torch

import pymc_nre as nre

from .combinations import measure_all, parser_of
from .tables import Table

LIBRARIES, KINDS = ("sbi", "zuko"), ("likelihood", "posterior")
KEYS = ("task", "library", "kind")
N, DRAWS, WEIGHED, CHAINS, BLOCKS = 2_000, 2_000, 500_000, 8, 20
SWAPS = ("plain", "swapped")
HEADS = ("flow", "mean", "sd", "C2ST", "mean, prior swapped", "sd, prior swapped")


class Gaussian:
    """x ~ N(theta, 0.5^2), two numbers, theta ~ N(0, 1)."""

    observed = np.array([0.6, -0.4])

    def prior(self, torch_too=False):
        if torch_too:
            return torch.distributions.MultivariateNormal(torch.zeros(2), torch.eye(2))
        return {"theta": pm.Normal.dist(0, 1, shape=2)}

    def simulator(self, rng, theta):
        return rng.normal(theta, 0.5)

    def sample(self):
        return pm.sample(
            500, tune=500, chains=CHAINS, cores=1, nuts_sampler="pymc", random_seed=1, **QUIET
        )


class TwoMoons:
    """Two crescents: of Lueckmann et al. (2021), arXiv:2101.04653."""

    observed = np.array([0.0, 0.0])

    def prior(self, torch_too=False):
        if torch_too:
            from sbi.utils import BoxUniform

            return BoxUniform(-torch.ones(2), torch.ones(2))
        return {"theta": pm.Uniform.dist(-1, 1, shape=2)}

    def simulator(self, rng, theta):
        angle = rng.uniform(-np.pi / 2, np.pi / 2, len(theta))
        radius = rng.normal(0.1, 0.01, len(theta))
        moon = np.column_stack([radius * np.cos(angle) + 0.25, radius * np.sin(angle)])
        total, difference = theta.sum(1), theta[:, 1] - theta[:, 0]
        return moon + np.column_stack([-np.abs(total), difference]) / np.sqrt(2)

    def sample(self):  # two modes: no single chain goes through both
        return pm.sample_smc(500, chains=CHAINS, cores=1, random_seed=1, progressbar=False)


QUIET = {"progressbar": False, "compute_convergence_checks": False}
TASKS = {"Gaussian": Gaussian(), "two moons": TwoMoons()}


def main():
    warnings.simplefilter("ignore")
    logging.getLogger("pymc").setLevel(logging.ERROR)
    options = parser_of(__doc__).parse_args()
    measure_all("arrivals", KEYS, product(TASKS, LIBRARIES, KINDS), measured, table, options)


def measured(task, library, kind):
    """How far PyMC's draws are from the library's, in standard errors, and by a classifier."""
    task = TASKS[task]
    torch.manual_seed(1)
    simulations = nre.simulate(
        task.prior(), task.simulator, N, batched=True, random_seed=1, progressbar=False
    )
    theta, x = (torch.tensor(part).float() for part in (simulations.theta, simulations.x))
    flow, own, log_weights = globals()[f"by_{library}"](task, kind, theta, x)
    ratio = nre.from_log_density(flow, prior=task.prior(), kind=kind, x=simulations.x[:1_000])
    ours = drawn(task, ratio, lambda: plain_prior(task))
    swapped = drawn(task, ratio, swapped_prior)
    more = log_weights + log_of_swap(own) - plain_log_density(task, own)
    found = {"plain": compared(ours, own, log_weights), "swapped": compared(swapped, own, more)}
    return found | {"c2st": c2st(ours, own, log_weights)}


def by_sbi(task, kind, theta, x):
    """A flow of sbi with draws and their log weights."""
    from sbi.inference import NLE, NPE

    prior = task.prior(torch_too=True)
    inference = {"likelihood": NLE, "posterior": NPE}[kind](prior, density_estimator="maf")
    flow = inference.append_simulations(theta, x).train(learning_rate=2e-3, max_num_epochs=60)
    seen = torch.tensor(task.observed).float()
    if kind == "posterior":
        return flow, *draws_of_flow(task, flow.sample((DRAWS * 2,), seen[None])[:, 0])
    options = {"num_chains": 200, "warmup_steps": 50, "thin": 5}
    posterior = inference.build_posterior(
        sample_with="mcmc", mcmc_method="slice_np_vectorized", mcmc_parameters=options
    )
    own = posterior.sample((DRAWS,), x=seen, show_progress_bars=False).numpy().astype(float)
    return flow, own, np.zeros(len(own))


def by_zuko(task, kind, theta, x):
    """A flow of zuko with draws and their log weights."""
    import zuko

    inputs, context = (x, theta) if kind == "likelihood" else (theta, x)
    flow = zuko.flows.MAF(2, 2, transforms=5, hidden_features=(64, 64))
    fit(flow, inputs, context)
    seen = torch.tensor(task.observed).float()
    with torch.no_grad():
        if kind == "posterior":
            return flow, *draws_of_flow(task, flow(seen).sample((DRAWS * 2,)))
        prior = task.prior(torch_too=True).sample((WEIGHED,))
        weights = flow(prior).log_prob(seen.expand(WEIGHED, 2))
    return flow, prior.numpy().astype(float), weights.numpy().astype(float)


def fit(flow, inputs, context, steps=1_000):
    """Maximum likelihood, by steps that fall to zero."""
    optimizer = torch.optim.Adam(flow.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        rows = torch.randint(len(inputs), (256,))
        loss = -flow(context[rows]).log_prob(inputs[rows]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


def draws_of_flow(task, draws):
    """Those where the prior is, all of the same weight."""
    draws = draws.detach().numpy().astype(float)
    draws = draws[np.isfinite(plain_log_density(task, draws))]
    return draws, np.zeros(len(draws))


def plain_prior(task):
    if isinstance(task, Gaussian):
        return pm.Normal("theta", 0, 1, shape=2)
    return pm.Uniform("theta", -1, 1, shape=2)


def plain_log_density(task, theta):
    if isinstance(task, Gaussian):
        return -(theta**2).sum(1) / 2
    return np.where((np.abs(theta) <= 1).all(1), 0.0, -np.inf)


def swapped_prior():
    return pm.TruncatedNormal("theta", 0.3, 0.5, lower=-1, upper=1, shape=2)


def log_of_swap(theta):
    inside = (np.abs(theta) <= 1).all(1)
    return np.where(inside, -(((theta - 0.3) / 0.5) ** 2).sum(1) / 2, -np.inf)


def drawn(task, ratio, prior):
    """PyMC's draws ``(chains, draws, 2)``."""
    with pm.Model():
        nre.RatioLikelihood("x", ratio, theta=prior(), observed=task.observed[None])
        idata = task.sample()
    return np.asarray(idata["posterior"]["theta"])


def compared(ours, own, log_weights):
    """Largest differences of means and standard deviations, in standard errors.

    Errors are those of what differs among chains, and among blocks of the library's draws.
    """
    weights = np.exp(log_weights - log_weights.max())
    blocks = np.array_split(np.arange(len(own)), BLOCKS)  # those of a chain stay together
    theirs = np.stack([moments(own[rows], weights[rows]) for rows in blocks])
    mine = np.stack([moments(chain, np.ones(len(chain))) for chain in ours])
    error = np.hypot(spread_of_mean(mine), spread_of_mean(theirs))
    off = np.abs(mine.mean(0) - moments(own, weights)) / error
    return {"mean": off[0].max(), "sd": off[1].max(), "theirs": moments(own, weights).tolist()}


def moments(rows, weights):
    """Means and standard deviations ``(2, D)`` of weighted rows."""
    mean = np.average(rows, axis=0, weights=weights)
    return np.stack([mean, np.sqrt(np.average((rows - mean) ** 2, axis=0, weights=weights))])


def spread_of_mean(each):
    return each.std(0, ddof=1) / len(each) ** 0.5


def c2st(ours, own, log_weights, n=1_000):
    """How well a classifier tells them apart; half is not at all.

    It would learn draws that are there twice; those that are taken by chance, with a probability
    that goes with their weights, are not.
    """
    from sbi.utils.metrics import c2st as classify

    rng = np.random.default_rng(2)
    taken = rng.random(len(own)) < np.exp(log_weights - log_weights.max())
    theirs = rng.permutation(own[taken])[:n]
    mine = rng.choice(ours.reshape(-1, 2), len(theirs), replace=False)
    parts = (torch.tensor(part).float() for part in (mine, theirs))
    return float(classify(*parts))


def table(records):
    """A row for each flow."""
    rows = []
    for names, found in records.items():
        plain, swapped = (
            [f"{found[which][moment]:.1f}" for moment in ("mean", "sd")] for which in SWAPS
        )
        rows.append([", ".join(names), *plain, f"{found['c2st']:.3f}", *swapped])
    return Table("Draws of PyMC and of the flow's own library", HEADS, rows).markdown()


if __name__ == "__main__":
    main()
