"""Whatever is passed as an array or a count: the answer of plain arrays, or an error that names it.

`CALLS` is a table of the public functions, each with the arguments that are arrays, counts,
numbers, results or posterior draws; add a row for a new one. `tests/hostile.py` makes other things
of their plain values: of other kinds, masked, complex, ragged, of other lengths. Where these have
a plain meaning, the answer must be that of plain values; where they have none, or the plain values
are refused, the library itself must raise an error that names the argument.
"""

import re
import warnings
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pymc as pm
import pytest
import xarray as xr
from direct_ratios import direct
from formulas import shifted_mean
from hostile import (
    REFUSED,
    ROWS,
    Array,
    Given,
    a,
    count,
    draws,
    flag,
    is_ours,
    number,
    result,
    seed,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from untrained import make_estimator

import pymc_nre as nre
from pymc_nre import diagnostics, losses, networks, plots, point, tasks

TASK, LINEAR = tasks.GaussianMean(), tasks.LinearGaussian()
TASKS = (TASK, tasks.LocationScale(), LINEAR, tasks.PoissonRate(), tasks.GaussianMixture())
UNIFORM = {"mu": pm.Uniform.dist(-10, 10)}
NORMAL = {"mu": pm.Normal.dist(0, 3)}
# Of a few simulations in one epoch, which some arguments are made by.
pytestmark = pytest.mark.filterwarnings("ignore:The validation loss:pymc_nre.TrainingWarning")

QUIET = {"random_seed": 1, "progressbar": False}


@dataclass(frozen=True)
class Call:
    """A function of what may be hostile.

    ``cost`` is 0 for what takes a few milliseconds, 1 for some ten, 2 for more, 3 for seconds:
    from 2 on the short test passes only what must be refused at once.
    """

    function: object
    arguments: dict
    cost: int = 0
    also_called: dict = field(default_factory=dict)  # other words for an argument in errors


def call(function, cost=0, also_called=None, **arguments):
    return Call(function, arguments, cost, also_called or {})


@cache
def ratio():
    return TASK.estimator()


@cache
def network():
    return make_estimator({"mu": (), "beta": (2,)}, (3,))


@cache
def likelihood():
    return shifted_mean(0.0)


@cache
def cut():
    return point.confidence_set(likelihood(), [0.3, 1.1], method="wilks", sets=0, progressbar=False)


@cache
def learned():
    return point.critical_values(likelihood(), [0.0], levels=[0.5], sets=100, **QUIET)


@cache
def pairs(n=120):
    return TASK.simulate(n, random_seed=1)


@cache
def ranks():
    return diagnostics.posterior_ranks(ratio(), pairs(), draws=200, **QUIET)


@cache
def weighted():
    return nre.weighted_draws(ratio(), [0.0, 1.0], NORMAL, draws=300, random_seed=1)


@cache
def model(sd=2.0):
    with pm.Model() as made:
        mu = pm.Normal("mu", 0, sd)
        nre.RatioLikelihood("x", ratio(), mu=mu, observed=[0.3, 1.1], engine="torch")
    return made


@cache
def posterior():
    mu = np.random.default_rng(1).normal(0.7, 0.5, (2, 100))
    return xr.Dataset({"mu": (("chain", "draw"), mu)})


@cache
def budget():
    return nre.trial_budget(ratio(), pairs(2_000))


def observed(x, mu):
    with pm.Model() as built:
        nre.RatioLikelihood("x", ratio(), mu=mu, observed=x, engine="torch", outside="ignore")
    return built.compile_logp()({})


def observed_by(ratio):
    with pm.Model() as built:
        nre.RatioLikelihood("x", ratio, mu=0.5, observed=[0.1], engine="torch")
    return built.compile_logp()({})


def compared(**options):
    with pm.Model() as built:
        nre.RatioLikelihood("x", direct(), mu=0.5, observed=[0.1, 0.4], engine="torch", **options)
    return built.compile_logp()({})


def at_one_point():
    return nre.simulate(NORMAL, TASK.simulator, 20, at={"mu": 0.5}, batched=True, **QUIET)


def three_points(rng, mu):
    return rng.normal(mu[:, None], 1.0, (len(mu), 3))


def loaded(simulator):
    with TemporaryDirectory() as folder:
        briefly_trained().save(f"{folder}/ratio.nre")
        return nre.load(f"{folder}/ratio.nre", simulator=simulator)


def saved(simulations):
    """A file of them, read again: it holds what they are."""
    with TemporaryDirectory() as folder:
        simulations.save(f"{folder}/pairs")
        return nre.Simulations.load(f"{folder}/pairs")


def loaded_simulations(prior, simulator):
    with TemporaryDirectory() as folder:
        pairs(20).save(f"{folder}/pairs")
        return nre.Simulations.load(f"{folder}/pairs", prior=prior, simulator=simulator)


def walk(rng, past, mu):
    return rng.normal(past[-1] + mu, 1.0)


@cache
def series():
    return nre.simulate_series(NORMAL, walk, 200, start=[0.0], length=5, **QUIET)


def trained(**options):
    options = {"epochs": 1, "network": networks.MLP((4,)), **QUIET} | options
    return nre.train(**{"simulations": pairs()} | options)


def log_density(theta, x):
    return -((theta[:, 0] - x) ** 2)


def in_rounds(**options):
    options = {"n": 200, "rounds": 2, "observed": [0.1], "epochs": 1, "batched": True} | options
    options = {"prior": NORMAL, "simulator": TASK.simulator, **QUIET} | options
    return nre.rounds(**options, network=networks.MLP((4,))).table


@cache
def vectors():
    mu = np.random.default_rng(1).uniform(-2, 2, 120)
    return nre.Simulations({"mu": mu}, mu[:, None] + np.random.default_rng(2).normal(size=(120, 3)))


@cache
def incomplete():
    return trained(simulations=vectors(), missing=0.3)


@cache
def of_steps():
    return nre.train_series(series(), epochs=1, network=networks.MLP((4,)), **QUIET)


@cache
def briefly_trained():
    return trained()


@cache
def of_carl():
    return make_estimator({"mu": ()}, reference="fixed", loss="CARL")


@cache
def a_start():
    return trained(simulations=pairs(600), epochs=30)


def closed(draw):
    """A figure that is drawn and closed."""

    def drawn(**arguments):
        import matplotlib.pyplot as plt

        try:
            draw(**arguments)
        finally:
            plt.close("all")

    return drawn


@cache
def found(check):
    """What a diagnostic gives, for its figure."""
    few = {"random_seed": 1}
    makers = {
        "coverage": lambda: diagnostics.coverage(ranks()),
        "sbc": lambda: diagnostics.sbc(ranks()),
        "tarp": lambda: diagnostics.tarp(ranks()),
        "reliability": lambda: diagnostics.reliability(ranks()),
        "roc": lambda: diagnostics.auc(ratio(), pairs(), n=200, points=2, **few),
        "convergence": lambda: diagnostics.convergence(
            ratio(), pairs(), n=(1, 3), truths=10, draws=100, **QUIET
        ),
        "lc2st": lambda: diagnostics.lc2st(ratio(), pairs(), 1.0, draws=20, shuffles=20, **few),
        "observation_check": lambda: diagnostics.observation_check(
            ratio(), pairs(400), [0.5, 1.0], **few
        ),
        "domain": lambda: diagnostics.domain_check({"posterior": posterior()}, ratio()),
        "log_ratios": ranks,
        "evidence": ranks,
    }
    return makers[check]()


def figure(name, argument="result"):
    return call(
        closed(lambda given: getattr(plots, name)(given)),
        1,
        {"given": (f"plots.{name}",)},
        given=result(lambda: found(name)),
    )


def of_ranks(check, **more):
    return call(check, ranks=result(ranks), **more)


RATIO, PAIRS = a(ratio), a(pairs)
FUNCTIONS = "function", "class", "another class"  # of which any may be a simulator
SIMULATOR = a(lambda: TASK.simulator, *FUNCTIONS, optional=True)
PRIOR = a(lambda: NORMAL, "class", "list of it")
X, MU = Array((4,)), Array((4,))
LEVELS = Array((3,), 0.05, 0.95, optional=True)
EVENTS, THETA = Array((2, 4)), Array((2, 3))

OWN_ROWS = {"confidence_set", "loss", "pair"}  # of figures

CALLS = {
    # estimators
    "RatioEstimator.log_ratio": call(lambda x, mu: ratio().log_ratio(x, mu=mu), x=X, mu=MU),
    "RatioEstimator.log_ratio of vectors": call(
        lambda x, mu, beta: network().log_ratio(x, mu=mu, beta=beta),
        x=Array((2, 3)),
        mu=Array((2,)),
        beta=Array((2, 2)),
    ),
    "TrialBudget.bias": call(lambda trials: budget().bias(trials), trials=number(100.0)),
    # amortized
    "posterior_grid": call(
        lambda x, points, quantiles: nre.posterior_grid(
            ratio(), x, NORMAL, points=points, quantiles=quantiles
        ),
        1,
        x=Array((3,)),
        points=count(30, optional=True),
        quantiles=Array((2,), 0.05, 0.95),
    ),
    "posterior_grid bounds": call(
        lambda lower, upper: nre.posterior_grid(
            ratio(), 0.0, NORMAL, bounds={"mu": (lower, upper)}
        ),
        1,
        {"lower": ("bounds",), "upper": ("bounds",)},
        lower=Array((), -5, -4),
        upper=Array((), 4, 5),
    ),
    "weighted_draws": call(
        lambda x, draws: nre.weighted_draws(ratio(), x, draws=draws),
        1,
        x=Array((3,)),
        draws=count(200),
    ),
    "resample": call(
        lambda weighted, draws, chains: nre.resample(
            weighted, draws=draws, chains=chains, random_seed=1
        ),
        weighted=result(weighted),
        draws=count(20),
        chains=count(2),
    ),
    # point
    "maximum_likelihood": call(
        lambda x, starts, progressbar: point.maximum_likelihood(
            likelihood(), x, starts=starts, progressbar=progressbar
        ).dataset["estimate"],
        1,
        x=Array((3,)),
        starts=count(3),
        progressbar=flag(False),
    ),
    "profile": call(
        lambda x, mu, starts: point.profile(
            likelihood(), x, {"a": mu}, starts=starts, progressbar=False
        )["log_ratio"],
        1,
        {"mu": ("at", "profile: a")},
        x=Array((3,)),
        mu=Array((2,)),
        starts=count(3),
    ),
    "confidence_set": call(
        lambda x, level: (
            point.confidence_set(
                likelihood(), x, level=level, method="wilks", sets=0, progressbar=False
            ).size
        ),
        1,
        x=Array((3,)),
        level=number(0.8),
    ),
    "ConfidenceSet.contains": call(lambda mu: cut().contains(a=mu), 1, {"mu": ("a",)}, mu=MU),
    "ConfidenceSet.holds": call(
        lambda mu: cut().holds(a=mu), 1, {"mu": ("a", "points")}, mu=Array(())
    ),
    "critical_values": call(
        lambda x, levels, sets: (
            point.critical_values(likelihood(), x, levels=levels, sets=sets, **QUIET).levels
        ),
        3,
        x=Array((3,)),
        levels=Array((2,), 0.5, 0.9, optional=True),
        sets=count(100),
    ),
    "CriticalValues.at": call(lambda mu: learned().at(0.5, a=mu), 1, {"mu": ("a",)}, mu=MU),
    "confidence_set of": call(
        lambda ratio, simulator, random_seed: (
            point.confidence_set(
                ratio,
                [0.1],
                sets=100,
                simulator=simulator,
                random_seed=random_seed,
                progressbar=False,
            ).size
        ),
        3,
        ratio=RATIO,
        simulator=SIMULATOR,
        random_seed=seed(),
    ),
    # diagnostics
    "coverage": of_ranks(diagnostics.coverage, levels=LEVELS),
    "tarp": of_ranks(diagnostics.tarp, levels=LEVELS),
    "sbc": of_ranks(diagnostics.sbc),
    "normalization": of_ranks(diagnostics.normalization),
    "reliability": of_ranks(diagnostics.reliability, bins=count(5)),
    "posterior_ranks": call(
        lambda draws: diagnostics.posterior_ranks(ratio(), pairs(), draws=draws, **QUIET),
        2,
        draws=count(20),
    ),
    "auc": call(
        lambda mu, n: diagnostics.auc(ratio(), pairs(), at={"mu": mu}, n=n, random_seed=1),
        2,
        {"mu": ("at",)},
        mu=Array((2,)),
        n=count(100),
    ),
    "auc points": call(
        lambda points: diagnostics.auc(ratio(), pairs(), points=points, n=100, random_seed=1),
        2,
        points=count(2),
    ),
    "coverage_at": call(
        lambda mu, n, levels, draws: diagnostics.coverage_at(
            ratio(), pairs(), {"mu": mu}, n=n, levels=levels, draws=draws, random_seed=1
        ),
        2,
        {"mu": ("at",)},
        mu=Array((2,)),
        n=count(20),
        levels=LEVELS,
        draws=count(20),
    ),
    "convergence": call(
        lambda n, truths, draws: diagnostics.convergence(
            ratio(), pairs(), n=(1, n), truths=truths, draws=draws, **QUIET
        ),
        2,
        n=count(3),
        truths=count(10),
        draws=count(60),
    ),
    "lc2st": call(
        lambda observed, draws, shuffles: diagnostics.lc2st(
            ratio(), pairs(), observed, draws=draws, shuffles=shuffles, random_seed=1
        ),
        2,
        observed=Array((2,)),
        draws=count(20),
        shuffles=count(20),
    ),
    "observation_check": call(
        lambda observed: diagnostics.observation_check(
            ratio(), pairs(400), observed, random_seed=1
        ),
        observed=Array((3,)),
    ),
    "report": call(
        lambda observed, draws: diagnostics.report(
            ratio(), pairs(), observed, draws=draws, **QUIET
        ).checks["coverage"],
        3,
        observed=Array((2,), optional=True),
        draws=count(20),
    ),
    "sbc_model": call(
        lambda replicates, draws, tune, target_accept: diagnostics.sbc_model(
            model(),
            replicates=replicates,
            draws=draws,
            tune=tune,
            target_accept=target_accept,
            sampler="pymc",
            **QUIET,
        ),
        2,
        replicates=count(2),
        draws=count(20),
        tune=count(20),
        target_accept=number(0.8),
    ),
    "domain_check": call(
        lambda idata: diagnostics.domain_check(idata, ratio()),
        also_called={"idata": ("posterior",)},
        idata=draws(posterior),
    ),
    "log_marginal_ratio": call(
        lambda draws, chains: diagnostics.log_marginal_ratio(
            model(), model(0.5), draws=draws, chains=chains, cores=1, **QUIET
        ),
        2,
        draws=count(100),
        chains=count(2),
    ),
    "compare": call(
        lambda idata: diagnostics.compare({"one": (model(), idata), "two": (model(0.5), idata)}),
        2,
        {"idata": ("compare: one",)},
        idata=draws(posterior),
    ),
    # tasks
    **{
        f"{type(task).__name__}.{name}": call(
            getattr(task, name),
            2 if name != "log_evidence" and isinstance(task, tasks.GaussianMixture) else 0,
            x=Array((3, *task.estimator().event_shape), 0, 4),
        )
        for task in (
            TASK,
            tasks.LocationScale(),
            LINEAR,
            tasks.PoissonRate(),
            tasks.GaussianMixture(),
        )
        for name in ("posterior", "maximum_likelihood", "log_evidence")
    },
    "HierarchicalGaussian.posterior": call(
        lambda x, nodes: tasks.HierarchicalGaussian().posterior(x, nodes),
        x=Array((3, 5)),
        nodes=count(50),
    ),
    "HierarchicalGaussian": call(tasks.HierarchicalGaussian, size=count(3), spread=number(2.0)),
    "HierarchicalGaussian range": call(
        lambda low, high: tasks.HierarchicalGaussian(log_tau_range=(low, high)),
        also_called={"low": ("log_tau_range",), "high": ("log_tau_range",)},
        low=Array((), -2, -1),
        high=Array((), 0, 2),
    ),
    "GaussianMean": call(tasks.GaussianMean, half_width=number(3.0)),
    "LocationScale": call(tasks.LocationScale, half_width=number(3.0), log_range=number(0.5)),
    "LocationScale.posterior grid": call(
        lambda grid: tasks.LocationScale().posterior([1.0, 2.0], grid), grid=count(50)
    ),
    "LinearGaussian": call(tasks.LinearGaussian, noise=number(3.0)),
    "PoissonRate": call(tasks.PoissonRate, shape=number(3.0), mean=number(2.0)),
    "GaussianMixture": call(tasks.GaussianMixture, half_width=number(3.0), narrow=number(0.5)),
    "GaussianMean.log_likelihood": call(TASK.log_likelihood, x=X, mu=MU),
    "LinearGaussian.log_likelihood": call(LINEAR.log_likelihood, x=EVENTS, theta=THETA),
    # figures
    **{f"plots.{name}": figure(name) for name in sorted(set(plots.__all__) - OWN_ROWS)},
    "plots.confidence_set": call(
        closed(lambda found: plots.confidence_set(found)), 1, found=a(cut)
    ),
    "plots.pair": call(
        closed(lambda idata: plots.pair(idata, ratio())),
        1,
        {"idata": ("The posterior has no variable",)},
        idata=draws(posterior),
    ),
    # simulation
    "Simulations": call(
        lambda mu, x: nre.Simulations({"mu": mu}, x), mu=Array((5,)), x=Array((5,))
    ),
    "Simulations.save": call(
        lambda mu, x: saved(nre.Simulations({"mu": mu}, x)), mu=Array((5,)), x=Array((5,))
    ),
    "Simulations.load": call(
        loaded_simulations,
        1,
        prior=a(lambda: UNIFORM, "class", optional=True),
        simulator=SIMULATOR,
    ),
    "Simulations rows": call(
        lambda rows: pairs(20)[rows],
        also_called={"rows": ("Rows of simulations", "must hold at least one simulation")},
        rows=Given(lambda: np.arange(3), ROWS),
    ),
    "Simulations iid": call(
        lambda mu, x: nre.Simulations({"mu": mu}, x, iid=True), mu=Array((5,)), x=Array((5, 3, 2))
    ),
    "simulate iid": call(
        lambda n: nre.simulate(TASK.prior(), three_points, n, batched=True, iid=True, **QUIET),
        1,
        n=count(20),
    ),
    "simulate": call(
        lambda n: nre.simulate(TASK.prior(), TASK.simulator, n, batched=True, **QUIET),
        1,
        n=count(20),
    ),
    "rounds": call(
        lambda **options: in_rounds(**options),
        3,
        n=count(200),
        rounds=count(2),
        members=count(1),
        observed=Array((3,)),
        epsilon=number(1e-3),
    ),
    "rounds of": call(
        lambda prior, simulator, random_seed, batched, progressbar: in_rounds(
            prior=prior,
            simulator=simulator,
            random_seed=random_seed,
            batched=batched,
            progressbar=progressbar,
        ),
        3,
        prior=PRIOR,
        simulator=a(lambda: TASK.simulator, *FUNCTIONS),
        random_seed=seed(),
        batched=flag(True),
        progressbar=flag(False),
    ),
    "rounds with conditions": call(
        lambda dose: (
            nre.rounds(
                NORMAL,
                lambda rng, mu, dose: rng.normal(mu * dose, 1.0),
                200,
                rounds=2,
                observed=np.zeros(3),
                conditions={"dose": dose},
                epochs=1,
                batched=True,
                network=networks.MLP((4,)),
                **QUIET,
            ).table
        ),
        3,
        {"dose": ("conditions", "x (at")},  # which it makes
        dose=Array((3,)),
    ),
    "simulate at": call(
        lambda mu: nre.simulate(NORMAL, TASK.simulator, 5, at={"mu": mu}, batched=True, **QUIET),
        1,
        {"mu": ("at",)},
        mu=Array(()),
    ),
    "Online": call(
        lambda per_epoch: nre.Online(
            TASK.prior(), TASK.simulator, batched=True, per_epoch=per_epoch, random_seed=1
        ).simulations(0),
        1,
        per_epoch=count(20),
    ),
    "transitions": call(
        lambda series, order: nre.transitions(series, order).past,
        series=Array((6,)),
        order=count(2),
    ),
    "transitions of several": call(
        lambda one, other: nre.transitions([one, other]).next,
        also_called={
            "one": ("series 0", "one shape", "transitions: series"),
            "other": ("series 1", "one shape", "transitions: series"),
        },
        one=Array((6, 2)),
        other=Array((3, 2)),
    ),
    "simulate_series": call(
        lambda n, length, start: nre.simulate_series(
            NORMAL, walk, n, start=start, length=length, **QUIET
        ),
        1,
        {"start": ("length",)},
        n=count(4),
        length=count(4),
        start=Array((2,)),
    ),
    "forecast": call(
        lambda past, steps, mu, random_seed: nre.forecast(
            walk, past, steps, {"mu": mu}, random_seed=random_seed
        ),
        past=Array((2,)),
        steps=count(3),
        mu=Array((4,)),
        random_seed=seed(),
    ),
    # training
    "train": call(
        trained,
        2,
        members=count(2, optional=True),
        validation=number(0.2),
        epochs=count(2, optional=True),
        batch_size=count(20, optional=True),
        learning_rate=number(0.01, optional=True),
        weight_decay=number(0.01, optional=True),
        patience=count(2, optional=True),
    ),
    "train_series": call(
        lambda simulations, order, members: nre.train_series(
            simulations, order, members=members, epochs=3, network=networks.MLP((4,)), **QUIET
        ),
        2,
        simulations=a(series),
        order=count(1),
        members=count(1),
    ),
    "trial_budget": call(
        lambda share: nre.trial_budget(ratio(), pairs(2_000), share=share), 1, share=number(0.1)
    ),
    "center": call(
        lambda steps, strength, replicates: nre.center(
            briefly_trained(),
            pairs(20_000),
            steps=steps,
            strength=strength,
            replicates=replicates,
            **QUIET,
        ),
        2,
        steps=count(2, optional=True),
        strength=number(0.5, optional=True),
        replicates=count(16, optional=True),
    ),
    "center around": call(
        lambda around, n, accuracy: nre.center(
            ratio(), around=around, model=model(), n=n, accuracy=accuracy, **QUIET
        ),
        2,
        {"around": ("posterior",)},
        around=draws(posterior),
        n=count(20_000, optional=True),
        accuracy=number(0.5, optional=True),
    ),
    # losses and networks
    "NREB": call(losses.NREB, candidates=count(3)),
    "DNRE": call(lambda candidates: losses.DNRE("plain", candidates), candidates=count(3)),
    "NREC": call(losses.NREC, candidates=count(3), gamma=number(2.0)),
    "MultiScale": call(
        lambda candidates, smallest, largest, weight: losses.MultiScale(
            candidates=candidates, scales=(smallest, largest), weight=weight
        ),
        also_called={"smallest": ("scales",), "largest": ("scales",)},
        candidates=count(3),
        smallest=number(0.01),
        largest=number(2.0),
        weight=number(0.5),
    ),
    "Balanced": call(lambda strength: losses.Balanced(strength=strength), strength=number(2.0)),
    "BNRE": call(losses.BNRE, strength=number(2.0)),
    "ResidualMLP": call(networks.ResidualMLP, width=count(3), blocks=count(2)),
    **{
        name: call(
            lambda width, of=name: getattr(networks, of)((width,)),
            also_called={"width": ("hidden", "channels")},
            width=count(3),
        )
        for name in ("MLP", "Dense", "DeepSet", "Convolutional")
    },
    "ResNet": call(
        lambda dimensions, width: networks.ResNet(dimensions=dimensions, width=width),
        dimensions=count(2),
        width=count(3),
    ),
    "build": call(
        lambda theta_size: networks.build(networks.MLP((3,)), theta_size, (2,)),
        theta_size=count(2),
    ),
    "masked_set": call(networks.masked_set, values=Array((3, 2)), members=count(5)),
    # models
    "RatioLikelihood": call(
        observed,
        1,
        {"x": ("observed",)},
        x=Array((4,), graph=True),
        mu=Array((4,), graph=True),
    ),
    "log_ratio": call(
        lambda x, mu: nre.log_ratio(ratio(), x, mu=mu, engine="torch", outside="ignore").eval(),
        1,
        x=Array((4,), graph=True),
        mu=Array((4,), graph=True),
    ),
    # flags
    "simulate flags": call(
        lambda batched, progressbar: nre.simulate(
            NORMAL, TASK.simulator, 20, batched=batched, progressbar=progressbar, random_seed=1
        ),
        1,
        batched=flag(True),
        progressbar=flag(False),
    ),
    "Online flags": call(
        lambda batched: nre.Online(
            NORMAL, TASK.simulator, batched=batched, per_epoch=20, random_seed=1
        ).simulations(0),
        1,
        batched=flag(True),
    ),
    "Simulator flags": call(
        lambda batched: nre.Simulator(TASK.simulator, batched).batched, batched=flag(True)
    ),
    "weighted_draws flags": call(
        lambda trials: nre.weighted_draws(
            ratio(), [0.0], NORMAL, trials=trials, draws=200, random_seed=1
        ),
        1,
        trials=flag(True),
    ),
    "DeepSet flags": call(lambda masked: networks.DeepSet((4,), masked=masked), masked=flag(True)),
    "RatioEstimator.replace flags": call(
        lambda normalized: ratio().replace(normalized=normalized).normalized,
        normalized=flag(True),
    ),
    # objects and seeds
    "posterior_grid of": call(
        lambda ratio, prior: nre.posterior_grid(ratio, 0.0, prior), 1, ratio=RATIO, prior=PRIOR
    ),
    "weighted_draws of": call(
        lambda ratio, prior, random_seed: nre.weighted_draws(
            ratio, 0.0, prior, draws=200, random_seed=random_seed
        ),
        1,
        ratio=RATIO,
        prior=a(lambda: NORMAL, optional=True),
        random_seed=seed(),
    ),
    "resample of": call(
        lambda random_seed: nre.resample(weighted(), draws=20, random_seed=random_seed),
        random_seed=seed(),
    ),
    "posterior_ranks of": call(
        lambda ratio, simulations, random_seed, progressbar: diagnostics.posterior_ranks(
            ratio, simulations, draws=20, random_seed=random_seed, progressbar=progressbar
        ),
        2,
        ratio=RATIO,
        simulations=PAIRS,
        random_seed=seed(),
        progressbar=flag(False),
    ),
    "auc of": call(
        lambda ratio, simulations, simulator, random_seed: diagnostics.auc(
            ratio, simulations, n=100, points=2, simulator=simulator, random_seed=random_seed
        ),
        2,
        ratio=RATIO,
        simulations=PAIRS,
        simulator=SIMULATOR,
        random_seed=seed(),
    ),
    "coverage_at of": call(
        lambda ratio, simulations, simulator, random_seed: diagnostics.coverage_at(
            ratio,
            simulations,
            {"mu": 0.5},
            n=20,
            draws=20,
            simulator=simulator,
            random_seed=random_seed,
        ),
        2,
        ratio=RATIO,
        simulations=PAIRS,
        simulator=SIMULATOR,
        random_seed=seed(),
    ),
    "convergence of": call(
        lambda ratio, simulations, simulator, random_seed, progressbar: diagnostics.convergence(
            ratio,
            simulations,
            n=(1, 3),
            truths=10,
            draws=60,
            simulator=simulator,
            random_seed=random_seed,
            progressbar=progressbar,
        ),
        2,
        ratio=RATIO,
        simulations=PAIRS,
        simulator=SIMULATOR,
        random_seed=seed(),
        progressbar=flag(False),
    ),
    "lc2st of": call(
        lambda ratio, simulations, random_seed: diagnostics.lc2st(
            ratio, simulations, 0.5, draws=20, shuffles=20, random_seed=random_seed
        ),
        2,
        ratio=RATIO,
        simulations=PAIRS,
        random_seed=seed(),
    ),
    "observation_check of": call(
        lambda ratio, simulations, random_seed: diagnostics.observation_check(
            ratio, simulations, [0.5], random_seed=random_seed
        ),
        ratio=RATIO,
        simulations=a(lambda: pairs(400)),
        random_seed=seed(),
    ),
    "report of": call(
        lambda ratio, simulations, random_seed, progressbar: diagnostics.report(
            ratio, simulations, draws=20, random_seed=random_seed, progressbar=progressbar
        ).checks["coverage"],
        3,
        ratio=RATIO,
        simulations=PAIRS,
        random_seed=seed(),
        progressbar=flag(False),
    ),
    "sbc_model of": call(
        lambda model, random_seed, progressbar: diagnostics.sbc_model(
            model,
            replicates=2,
            draws=20,
            tune=20,
            sampler="pymc",
            random_seed=random_seed,
            progressbar=progressbar,
        ),
        2,
        model=a(model),
        random_seed=seed(),
        progressbar=flag(False),
    ),
    "domain_check of": call(
        lambda ratio, model: diagnostics.domain_check(
            {"posterior": posterior()}, ratio, model=model
        ),
        ratio=RATIO,
        model=a(model, optional=True),
    ),
    "log_marginal_ratio of": call(
        lambda model, other, random_seed, progressbar: diagnostics.log_marginal_ratio(
            model,
            other,
            draws=50,
            chains=2,
            cores=1,
            random_seed=random_seed,
            progressbar=progressbar,
        ),
        2,
        {"other": ("second model",)},
        model=a(model),
        other=a(lambda: model(0.5)),
        random_seed=seed(),
        progressbar=flag(False),
    ),
    "compare of": call(
        lambda model: diagnostics.compare({"one": (model, {"posterior": posterior()})}),
        2,
        model=a(model),
    ),
    "simulate of": call(
        lambda prior, simulator, random_seed: nre.simulate(
            prior, simulator, 20, batched=True, random_seed=random_seed, progressbar=False
        ),
        1,
        prior=PRIOR,
        simulator=a(lambda: TASK.simulator, *FUNCTIONS),
        random_seed=seed(),
    ),
    "Online of": call(
        lambda prior, simulator, random_seed: nre.Online(
            prior, simulator, batched=True, per_epoch=20, random_seed=random_seed
        ).simulations(0),
        1,
        prior=PRIOR,
        simulator=a(lambda: TASK.simulator, *FUNCTIONS),
        random_seed=seed(),
    ),
    "Online.simulations": call(
        lambda index: nre.Online(
            NORMAL, TASK.simulator, batched=True, per_epoch=20, random_seed=1
        ).simulations(index),
        1,
        index=count(2),
    ),
    "Simulations of": call(
        lambda parameters, prior, simulator: nre.Simulations(
            parameters, [0.1, 0.2], prior=prior, simulator=simulator
        ),
        1,
        parameters=a(lambda: {"mu": np.zeros(2)}, "data set"),
        prior=a(lambda: NORMAL, optional=True),
        simulator=SIMULATOR,
    ),
    "train of incomplete data": call(
        lambda missing: trained(simulations=vectors(), missing=missing),
        2,
        missing=number(0.3, optional=True),
    ),
    "log_ratio of incomplete data": call(
        lambda mu: incomplete().log_ratio([[0.1, np.nan, 0.2], [np.nan] * 3], mu=mu),
        mu=Array((2,)),
    ),
    "Simulator": call(
        lambda simulator: nre.Simulator(simulator, batched=True).draw(
            np.random.default_rng(1), {"mu": np.zeros(3)}, 3
        ),
        simulator=a(lambda: TASK.simulator, *FUNCTIONS),
    ),
    "train of": call(
        lambda simulations, random_seed, progressbar, measure_budget: nre.train(
            simulations,
            network=networks.MLP((4,)),
            epochs=1,
            random_seed=random_seed,
            progressbar=progressbar,
            measure_budget=measure_budget,
        ),
        2,
        simulations=PAIRS,
        random_seed=seed(),
        progressbar=flag(False),
        measure_budget=flag(True),
    ),
    "trained by": call(
        lambda network, loss: trained(network=network, loss=loss),
        2,
        network=a(lambda: networks.MLP((4,)), "function", "another class", optional=True),
        loss=a(losses.NREA, optional=True),
    ),
    "train from": call(
        lambda start: trained(simulations=pairs(600), start=start, network=None),
        2,
        start=a(a_start, optional=True),
    ),
    "from_log_density": call(
        lambda prior, x, simulator, batched, random_seed: nre.from_log_density(
            log_density,
            prior=prior,
            kind="likelihood",
            x=x,
            simulator=simulator,
            batched=batched,
            random_seed=random_seed,
        ).log_ratio([0.1, 0.4], mu=0.2),
        1,
        prior=PRIOR,
        x=Array((3,)),
        simulator=SIMULATOR,
        batched=flag(True),
        random_seed=seed(),
    ),
    "from_log_density with conditions": call(
        lambda x, dose: nre.from_log_density(
            lambda theta, x: -((x[:, 0] - theta[:, 0] * x[:, 1]) ** 2),
            prior=NORMAL,
            kind="likelihood",
            x=x,
            conditions={"dose": dose},
        ).log_ratio([0.1, 0.4], mu=0.2, dose=0.5),
        1,
        x=Array((3,)),
        dose=Array((3,)),
    ),
    "from_log_density of": call(
        lambda module, kind: nre.from_log_density(module, prior=NORMAL, kind=kind, x=[0.1, 0.4]),
        1,
        module=a(lambda: log_density, "class", "another class"),
        kind=a(lambda: "likelihood"),
    ),
    "whole_series": call(
        lambda length: nre.whole_series(of_steps(), length).log_ratio(np.zeros((2, 5)), mu=0.5),
        1,
        length=count(5),
    ),
    "calibrate": call(
        lambda ratio, simulations, reference_simulations, regions: nre.calibrate(
            ratio, simulations, reference_simulations, regions=regions
        ),
        1,
        ratio=a(of_carl),
        simulations=a(lambda: pairs(600)),
        reference_simulations=a(at_one_point),
        regions=count(2, optional=True),
    ),
    "RatioEstimator.log_ratio of a direct ratio": call(
        lambda x, mu, reference: direct().log_ratio(x, mu=mu, reference={"mu": reference}),
        x=X,
        mu=MU,
        reference=MU,
    ),
    "RatioEstimator.relative_to": call(
        lambda mu: direct().relative_to(mu=mu).log_ratio([0.1, 0.4], mu=0.2), mu=Array(())
    ),
    "RatioEstimator.marginal": call(
        lambda draws: direct().marginal(draws).log_ratio([0.1, 0.4], mu=0.2), draws=count(5)
    ),
    "RatioLikelihood of a direct ratio": call(
        lambda reference: compared(reference={"mu": reference}), 1, reference=Array(())
    ),
    "RatioLikelihood to the evidence": call(
        lambda evidence: compared(evidence=evidence), 1, evidence=count(50, optional=True)
    ),
    "ensemble": call(lambda ratios: nre.ensemble([ratios]), ratios=a(briefly_trained)),
    "trial_budget of": call(
        lambda ratio, simulations: nre.trial_budget(ratio, simulations),
        1,
        ratio=RATIO,
        simulations=a(lambda: pairs(2_000)),
    ),
    "TrialBudget.attach": call(lambda ratio: budget().attach(ratio), ratio=RATIO),
    "center of": call(
        lambda ratio, simulations, loss, random_seed, progressbar: nre.center(
            ratio, simulations, loss=loss, steps=2, random_seed=random_seed, progressbar=progressbar
        ),
        2,
        ratio=a(briefly_trained),
        simulations=a(lambda: pairs(20_000)),
        loss=a(losses.NREA, optional=True),
        random_seed=seed(),
        progressbar=flag(False),
    ),
    "center around of": call(
        lambda ratio, model, simulator, random_seed, progressbar: nre.center(
            ratio,
            around={"posterior": posterior()},
            model=model,
            simulator=simulator,
            random_seed=random_seed,
            progressbar=progressbar,
        ),
        2,
        ratio=RATIO,
        model=a(model),
        simulator=SIMULATOR,
        random_seed=seed(),
        progressbar=flag(False),
    ),
    "RatioLikelihood of": call(
        lambda ratio, simulator: nre.RatioLikelihood.dist(ratio, mu=0.5, simulator=simulator).ndim,
        ratio=RATIO,
        simulator=SIMULATOR,
    ),
    "RatioLikelihood in a model": call(lambda ratio: observed_by(ratio), 1, ratio=a(ratio)),
    "log_ratio of": call(
        lambda ratio: nre.log_ratio(ratio, [0.5], mu=0.1, engine="torch").eval(), 1, ratio=RATIO
    ),
    "plots.pair of": call(
        closed(lambda ratio: plots.pair({"posterior": posterior()}, ratio)), 1, ratio=RATIO
    ),
    "plots.loss": call(closed(lambda ratio: plots.loss(ratio)), 1, ratio=a(briefly_trained)),
    "CARL": call(
        lambda reference_simulations: losses.CARL(reference_simulations).reference,
        reference_simulations=a(at_one_point),
    ),
    "MultiScale of": call(lambda loss: losses.MultiScale(loss), loss=a(losses.NREA)),
    "Balanced of": call(lambda loss: losses.Balanced(loss), loss=a(losses.NREA)),
    "load": call(loaded, 1, simulator=SIMULATOR),
    "GaussianMean.simulate": call(
        lambda n, random_seed: TASK.simulate(n, random_seed), 1, n=count(20), random_seed=seed()
    ),
    "GaussianMean.log_ratio": call(lambda x, mu: TASK.log_ratio(x, mu=mu), x=X, mu=MU),
    "LinearGaussian.log_ratio": call(
        lambda x, theta: LINEAR.log_ratio(x, theta=theta), x=EVENTS, theta=THETA
    ),
}

# Public names that take no array and no count.
NO_INPUT = {
    *("DomainWarning", "EstimatorFileError", "PosteriorWarning", "SimulationError"),
    *("CoverageWarning", "SimulationWarning", "TrainingWarning", "TrialsWarning"),
    *("diagnostics", "losses", "networks", "plots", "point", "steps", "tasks"),  # rooms
    # what comes back
    *("diagnostics.Report", "point.Estimates", "tasks.Posterior"),
    *("Rounds", "Transitions", "TrialBudget"),
    *("RatioEstimator", "losses.Loss", "losses.NREA", "networks.RatioNetwork"),
    *("networks.specification_from_dict", "steps.DirectRatioMetropolis"),
}


def test_every_public_function_has_a_row():
    names = Path(__file__).parents[1].joinpath("data/public_names.txt").read_text().split()
    rows = {row.split()[0] for row in CALLS}
    rows |= {row.split(".")[0] for row in rows}
    assert not [n for n in {*names} - NO_INPUT if n not in rows and n.split(".")[-1] not in rows]


@st.composite
def hostile_arguments(draw, row, refused_only=False):
    """What is passed, its plain twin, and which of it has none."""
    passed, plain, refused = {}, {}, []
    arguments = CALLS[row].arguments
    chosen = draw(st.sets(st.sampled_from(sorted(arguments)), min_size=1, max_size=2))
    for name, argument in arguments.items():
        value = argument.make(draw(st.integers(0, 15)) if isinstance(argument, Array) else 0)
        kinds = argument.kinds if name in chosen else {"plain": argument.kinds["plain"]}
        if refused_only and name in chosen:
            kinds = {k: make for k, make in kinds.items() if make(value)[1] is REFUSED}
        passed[name], plain[name] = kinds[draw(st.sampled_from(sorted(kinds)))](value)
        if plain[name] is REFUSED:
            refused.append(name)
    return passed, plain, refused, sorted(chosen)


def outcome(function, arguments):
    """What comes back, or the error."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            return function(**arguments), None
        except Exception as error:
            return None, error


def numbers(answer):
    """All that can be compared of an answer."""
    if isinstance(answer, nre.RatioEstimator):
        x = np.multiply.outer(np.linspace(-1, 1, 5), np.ones(answer.observation_shape))
        known = {} if answer.conditions is None else answer.conditions.shapes
        return [answer.log_ratio(x, mu=0.5, **{k: np.zeros(own) for k, own in known.items()})]
    if isinstance(answer, nre.Simulations):
        return [answer.points, *answer.parameters.values()]
    if isinstance(answer, tasks.Posterior):
        return [*answer.mean.values(), *answer.sd.values()]
    if isinstance(answer, nre.TrialBudget):
        answer = answer.to_dict()
    if isinstance(answer, dict):
        return list(answer.values())
    if isinstance(answer, xr.Dataset):
        return [v.to_numpy() for _, v in sorted(answer.variables.items(), key=lambda p: str(p[0]))]
    if hasattr(answer, "columns"):  # of arviz.compare, with holes in some
        return [answer[column].to_numpy() for column in answer.columns]
    if hasattr(answer, "groups"):
        return numbers(nre.compat.posterior_of(answer))
    if hasattr(answer, "state_dict"):
        return [tuple(weight.shape) for weight in answer.state_dict().values()]
    return [answer]


def compare(row, passed, plain, refused, chosen):
    """Raise AssertionError unless an answer, or an error, is as it should be."""
    function, words = CALLS[row].function, list(chosen)
    words += [word for name in chosen for word in CALLS[row].also_called.get(name, ())]
    if "posterior" in plain or any("idata" in name or name == "around" for name in plain):
        plain = {k: {"posterior": v} if isinstance(v, xr.Dataset) else v for k, v in plain.items()}
    answer, error = outcome(function, passed)
    if error is not None and not is_ours(error, words):
        raise AssertionError(
            f"{row}({passed}): raised elsewhere, or names none of {words}"
        ) from error
    if refused:
        assert error is not None, f"{row}({passed}): {refused} taken for numbers"
        return
    expected, wrong = outcome(function, plain)
    assert (error is None) == (wrong is None), f"{row}({passed}): {error} and {wrong}"
    for got, wanted in zip(numbers(answer), numbers(expected), strict=True):
        if np.asarray(wanted).dtype.kind in "biuf":
            np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-12)
        else:
            assert np.all(np.asarray(got == wanted)), (row, passed)


def check(row, examples, refused_only):
    """Look at so many calls of a row; how many there were."""
    calls = 0

    @settings(max_examples=examples, suppress_health_check=list(HealthCheck))
    @given(hostile_arguments(row, refused_only))
    def each(drawn):
        nonlocal calls
        calls += 1
        compare(row, *drawn)

    each()
    return calls


QUICK = {0: 12, 1: 4, 2: 4, 3: 4}  # calls by cost: some seconds in all
LONG = {0: 250, 1: 60, 2: 20, 3: 4}


@pytest.mark.one_python
@pytest.mark.parametrize("row", sorted(CALLS))
def test_the_answer_is_that_of_plain_values_or_an_error(row):
    assert check(row, QUICK[CALLS[row].cost], CALLS[row].cost >= 2)


@pytest.mark.parametrize("row", sorted(CALLS))
def test_plain_values_are_taken(row):
    """Else nothing is asked of a row: every call of it is refused, for one reason or another."""
    plain = {k: a.kinds["plain"](a.make(0))[0] for k, a in CALLS[row].arguments.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        CALLS[row].function(**plain)


@pytest.mark.slow
@pytest.mark.timeout(7_200)
def test_many_calls_of_all_functions():
    total, failed = 0, {}
    for row in sorted(CALLS):
        try:
            total += check(row, LONG[CALLS[row].cost], refused_only=False)
        except AssertionError as error:
            failed[row] = re.sub(r"\s+", " ", str(error))[:600]
    print(f"{total:,} calls of {len(CALLS)} functions")
    assert not failed, "\n".join(f"{row}: {why}" for row, why in failed.items())
    assert total >= 5_000
