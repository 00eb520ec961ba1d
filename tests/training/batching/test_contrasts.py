"""Candidates near the true parameters: at the exact ratio no direction lowers the loss.

Each problem has an exact log likelihood and a prior of another kind: bounded, correlated, on a
simplex, of integers, with a point mass, above others. The derivative of the local term along some
directions is a mean over independent batches, tested by its t-statistic; laws of candidates and
densities with a mistake must be seen.
"""

import logging
import math
from dataclasses import dataclass

import numpy as np
import pymc as pm
import pytest
import torch
from quick_training import quick

import pymc_nre as nre
from pymc_nre.exceptions import SimulationWarning, TrainingWarning
from pymc_nre.losses import NREC, MultiScale
from pymc_nre.networks import MLP
from pymc_nre.simulation.parameters import Layout
from pymc_nre.simulation.prior import Prior
from pymc_nre.training.batching.batches import batches_of
from pymc_nre.training.batching.contrasts import ContrastedBatches, NearbyParameters

BATCHES, BATCH, NEAR, SCALES = 300, 512, 7, (0.05, 1.0)
T_LIMIT = 5.0  # of 300 normal numbers: once in a million directions
COVARIANCE = np.array([[1.0, 0.9], [0.9, 1.0]])


def mean_of(theta):
    return theta.sum(-1)


@dataclass(frozen=True)
class Problem:
    """x is normal around a function of packed parameters ``(n, D)``."""

    prior: dict
    mean: object = mean_of
    sd: float = 0.5
    drawn: object = None  # where PyMC draws one by one

    def log_likelihood(self, theta, x):
        return -0.5 * ((x - self.mean(theta)) / self.sd) ** 2

    def draw(self, n, rng):
        known = Prior.of(self.prior)
        draws = known.draw(n, rng) if self.drawn is None else self.drawn(n, rng)
        theta = layout_of(known).pack(draws)
        return theta, rng.normal(self.mean(torch.tensor(theta)).numpy(), self.sd)


def layout_of(known):
    integer = [name for name, rv in known.variables.items() if rv.dtype.startswith("int")]
    return Layout(known.shapes, frozenset(integer))


def above_another():
    with pm.Model() as prior:
        pm.Normal("mu", 0, pm.HalfNormal("sigma", 1.0))
    return prior


PROBLEMS = {
    "uniform": Problem({"mu": pm.Uniform.dist(-1, 1)}),
    "normal": Problem({"mu": pm.Normal.dist(0, 1)}),
    "skew": Problem({"mu": pm.Exponential.dist(1.0)}),
    "correlated": Problem(
        {"mu": pm.MvNormal.dist([0.0, 0.0], COVARIANCE)}, lambda t: t[..., 0] - t[..., 1]
    ),
    "simplex": Problem(
        {"p": pm.Dirichlet.dist([0.8, 2.0, 3.0])}, lambda t: t[..., 0] + 2 * t[..., 1], 0.2
    ),
    "integer": Problem({"k": pm.Poisson.dist(2.0), "mu": pm.Normal.dist(0, 1)}),
    "point mass": Problem(
        {"mu": pm.Censored.dist(pm.Normal.dist(0, 1), -0.5, None), "nu": pm.Normal.dist(0, 0.5)},
        drawn=lambda n, rng: {
            "mu": rng.normal(size=n).clip(-0.5),
            "nu": rng.normal(scale=0.5, size=n),
        },
    ),
    "above another": Problem(above_another(), lambda t: t[..., 1]),
    "sum of zero": Problem({"z": pm.ZeroSumNormal.dist(1.0, shape=3)}, lambda t: t[..., 0]),
}
DIRECTIONS = {
    "slope": lambda theta, x: torch.sin(theta[..., 0]),
    "skew": lambda theta, x: torch.tanh(theta[..., 0] - x),
    "sharpness": lambda theta, x: torch.exp(-((theta[..., 0] - x) ** 2)),
    "last": lambda theta, x: torch.cos(2 * theta[..., -1] - 0.3 * x),
}


def nearby(problem, scales=SCALES, near=NEAR, kind=NearbyParameters):
    known = Prior.of(problem.prior)
    layout = layout_of(known)
    draws, _ = problem.draw(4_000, np.random.default_rng(7))
    return kind(layout, known, draws, near, scales)


def t_statistics(problem, law, change=lambda log_prior: log_prior):
    """Of the local term's derivative at the exact ratio, along each direction."""
    rng = np.random.default_rng(1)
    theta, x = problem.draw(BATCHES * BATCH, rng)
    candidates, log_prior = law.beside(theta, rng)
    everything = torch.tensor(np.concatenate([theta[:, None], candidates], 1))
    x = torch.tensor(x)[:, None]
    logits = problem.log_likelihood(everything, x) + torch.tensor(change(log_prior))
    weights = logits.softmax(1)
    found = {}
    for name, direction in DIRECTIONS.items():
        h = direction(everything, x)
        derivative = ((weights * h).sum(1) - h[:, 0]).reshape(BATCHES, BATCH).mean(1).numpy()
        found[name] = derivative.mean() / (derivative.std(ddof=1) / math.sqrt(BATCHES))
    return found


@pytest.mark.parametrize("name", PROBLEMS)
def test_exact_ratio_is_stationary(name):
    found = t_statistics(PROBLEMS[name], nearby(PROBLEMS[name]))
    assert max(map(abs, found.values())) < T_LIMIT, found


class AroundTheTruth(NearbyParameters):
    """Candidates drawn around the true parameters, which then are in the middle of all."""

    def _steps(self, scale, rng):
        steps = super()._steps(scale, rng)
        steps[:, 0] = 0
        return steps


class WiderWhereLarge(NearbyParameters):
    """Steps in proportion to the parameters."""

    def beside(self, theta, rng):
        self.theta = theta
        return super().beside(theta, rng)

    def _steps(self, scale, rng):
        return super()._steps(scale, rng) * (0.2 + np.abs(self.theta[:, None]))


class BetweenIntegers(NearbyParameters):
    """Integers take steps as other parameters do."""

    def _steps(self, scale, rng):
        self.whole = np.zeros_like(self.whole)
        return super()._steps(scale, rng)


class OffTheSimplex(NearbyParameters):
    """The last of tied parameters takes no part in a step, as if it were not tied."""

    def _steps(self, scale, rng):
        steps = super()._steps(scale, rng)
        steps[..., -1] = 0
        return steps


def inside_only(log_prior):
    return np.where(np.isfinite(log_prior), 0.0, -np.inf)


def everywhere(log_prior):
    return np.maximum(log_prior, -3.0)


BUGS = {
    "prior forgotten, normal": ("normal", NearbyParameters, inside_only),
    "prior forgotten, skew": ("skew", NearbyParameters, inside_only),
    "prior forgotten, correlated": ("correlated", NearbyParameters, inside_only),
    "prior forgotten, simplex": ("simplex", NearbyParameters, inside_only),
    "prior forgotten, integer": ("integer", NearbyParameters, inside_only),
    "prior forgotten, above another": ("above another", NearbyParameters, inside_only),
    "outside the support": ("uniform", NearbyParameters, everywhere),
    "around the truth": ("normal", AroundTheTruth, np.array),
    "wider where large": ("normal", WiderWhereLarge, np.array),
    "between integers": ("integer", BetweenIntegers, np.array),
    "off the simplex": ("simplex", OffTheSimplex, np.array),
}


@pytest.mark.parametrize("bug", BUGS)
def test_mistakes_are_seen(bug):
    name, kind, change = BUGS[bug]
    found = t_statistics(PROBLEMS[name], nearby(PROBLEMS[name], kind=kind), change)
    assert max(map(abs, found.values())) > T_LIMIT, found


def test_candidates_keep_what_parameters_are():
    rng = np.random.default_rng(1)
    beside = {}
    for name in ("simplex", "integer", "point mass", "uniform"):
        theta, _ = PROBLEMS[name].draw(500, rng)
        beside[name] = theta, *nearby(PROBLEMS[name]).beside(theta, rng)
    _, simplex, _ = beside["simplex"]
    np.testing.assert_allclose(simplex.sum(-1), 1, rtol=1e-12)
    theta, integer, _ = beside["integer"]
    moved = integer[..., 0] - theta[:, None, 0]
    np.testing.assert_array_equal(moved, np.rint(moved))
    assert 0.3 < (moved != 0).mean() < 0.9
    theta, mass, _ = beside["point mass"]
    np.testing.assert_array_equal(mass[..., 0], np.broadcast_to(theta[:, :1], mass.shape[:2]))
    assert (mass[..., 1] != theta[:, None, 1]).all()
    _, uniform, log_prior = beside["uniform"]
    outside = np.abs(uniform[..., 0]) > 1
    assert outside.any()
    np.testing.assert_array_equal(log_prior[:, 1:], np.where(outside, -np.inf, 0.0))


def test_scales_are_in_units_of_the_bulk_of_the_prior():
    heavy = Problem({"mu": pm.Cauchy.dist(0, 1)})
    law = nearby(heavy, scales=(0.1, 0.1))
    assert law.root[0, 0] == pytest.approx(2 / 1.349, rel=0.1)


def test_parameters_that_rounding_made_impossible_teach_nothing():
    law = nearby(PROBLEMS["uniform"])
    _, log_prior = law.beside(np.array([[1.0000001], [0.0]]), np.random.default_rng(1))
    np.testing.assert_array_equal(log_prior[0], [0.0] + NEAR * [-np.inf])
    assert np.isfinite(log_prior[1]).sum() > 1


@pytest.mark.parametrize(("n", "moves"), [(60, False), (4_000, False), (4_000, True)])
def test_point_masses_of_few_draws_take_no_steps(n, moves):
    rng = np.random.default_rng(1)
    mu = np.where(rng.uniform(size=n) < 0.1, 0.0, rng.gamma(2.0, size=n))
    mu = rng.gamma(2.0, size=n) if moves else mu
    law = NearbyParameters(
        Layout({"mu": ()}), Prior.of({"mu": pm.Gamma.dist(2, 1)}), mu[:, None], NEAR, SCALES
    )
    assert (law.root[0, 0] > 0) == moves


@pytest.mark.parametrize("free", [False, True])
def test_many_parameters(free):
    """Steps of hundreds are those of a product of matrices, and ties among them are found."""
    size = 300
    prior = {"z": pm.Normal.dist(0, 1, shape=size) if free else pm.Dirichlet.dist(np.ones(size))}
    known = Prior.of(prior)
    draws = known.draw(3_000, 1)["z"]
    law = NearbyParameters(Layout(known.shapes), known, draws, 1, (0.5, 0.5))
    assert law.root.shape == (size, size - (not free))
    assert law.alone.size == size * free
    candidates, log_prior = law.beside(draws[:50], np.random.default_rng(1))
    law.alone = np.empty(0)
    again, _ = law.beside(draws[:50], np.random.default_rng(1))
    np.testing.assert_allclose(candidates, again, rtol=1e-12, atol=1e-15)
    assert not free or np.isfinite(log_prior).all()


def test_counts_that_were_given_as_floats_take_whole_steps():
    known = Prior.of({"k": pm.Poisson.dist(2.0)})
    k = np.random.default_rng(1).poisson(2.0, (500, 1)).astype(float)
    law = NearbyParameters(Layout(known.shapes), known, k, NEAR, SCALES)
    candidates, log_prior = law.beside(k, np.random.default_rng(1))
    np.testing.assert_array_equal(candidates, np.rint(candidates))
    assert 0.3 < (candidates != k[:, None]).mean() < 0.9
    assert np.isfinite(log_prior).mean() > 0.7


@pytest.fixture(scope="module")
def simulations():
    return nre.tasks.GaussianMean().simulate(1_000, random_seed=1)


def contrasted(simulations, loss=None, seed=1):
    loss = MultiScale() if loss is None else loss
    whole = batches_of(simulations, loss, 0.1, "cpu", seed)
    return ContrastedBatches.wanted_by(loss, whole, seed)


def epoch(batches, index, size=100):
    return list(batches.epoch(index, size, torch.Generator().manual_seed(index)))


def test_candidates_are_new_in_each_batch_and_epoch_and_the_same_again(simulations):
    batches = contrasted(simulations)
    first, second = epoch(batches, 0), epoch(batches, 1)
    steps = [near - theta[:, None] for theta, _, near, _ in (*first, *second)]
    assert len({each.numpy().tobytes() for each in steps}) == len(steps)
    for one, other in zip(steps[: len(first)], steps[len(first) :], strict=True):
        assert not torch.allclose(one, other, atol=1e-3)  # more than rounding
    for one, other in zip(first, epoch(contrasted(simulations), 0), strict=True):
        for part, its in zip(one, other, strict=True):
            torch.testing.assert_close(part, its, rtol=0, atol=0)
    held_out = [list(batches.validation(50, 4)) for _ in range(2)]
    for one, other in zip(*held_out, strict=True):
        torch.testing.assert_close(one[2], other[2], rtol=0, atol=0)


def test_batches_have_their_own_candidates(simulations):
    """Those that are drawn at once for many batches go to the right rows."""
    loss = MultiScale(scales=(1e-4, 1e-4))
    for theta, _, near, log_prior in epoch(contrasted(simulations, loss), 0):
        assert near.shape == (100, 3, 1)
        assert log_prior.shape == (100, 4)
        assert (near - theta[:, None]).abs().max() < 0.01


NO_DENSITY_BESIDE = {
    "constant": {"mu": pm.Normal.dist(0, 1), "c": pm.DiracDelta.dist(0.1)},
    "masses": {"mu": pm.Normal.dist(0, 1), "c": pm.Censored.dist(pm.Normal.dist(0, 1), -0.3, 0.1)},
    "sum of zero": {"mu": pm.Normal.dist(0, 1), "c": pm.ZeroSumNormal.dist(1.0, shape=3)},
}


@pytest.mark.parametrize("name", NO_DENSITY_BESIDE)
@pytest.mark.parametrize("options", [{}, {"iid": True}, {"fresh": True}], ids=str)
def test_the_prior_is_asked_at_what_was_drawn(name, options):
    """In single precision 0.1 is not 0.1, and zeros do not add up to zero."""

    def simulator(rng, mu, c):
        return rng.normal(mu, 1.0, 2)

    prior, options = NO_DENSITY_BESIDE[name], dict(options)
    if options.pop("fresh", False):
        source = nre.Online(prior, simulator, per_epoch=300, random_seed=1)
    else:
        made = {"random_seed": 1, "progressbar": False}
        source = nre.simulate(prior, simulator, 300, **made, **options)
    batches = contrasted(source)
    assert {part.dtype for part in (*batches.training, *batches.held_out)} == {torch.float32}
    for theta, _, near, log_prior in [*epoch(batches, 0, 50), *batches.validation(50, 4)]:
        assert theta.dtype == near.dtype == log_prior.dtype == torch.float32
        assert log_prior.isfinite().float().mean() > 0.9
        assert (near[..., 0] != theta[:, None, 0]).all()


def test_a_loss_without_candidates_has_the_batches_as_they_are(simulations):
    assert not isinstance(contrasted(simulations, NREC()), ContrastedBatches)


FEW = pytest.mark.filterwarnings("ignore:.*cannot be told from chance")


def arrays(n=400, seed=1, **options):
    rng = np.random.default_rng(seed)
    mu = rng.normal(0, 1, n)
    return nre.Simulations({"mu": mu}, rng.normal(mu, 1.0), **options)


def test_default_is_multi_scale_where_the_prior_is_known(simulations, caplog):
    assert "MultiScale" in quick(simulations).loss
    assert "MultiScale" in quick(arrays(prior={"mu": pm.Normal.dist(0, 1)})).loss
    with caplog.at_level(logging.INFO, "pymc_nre"):
        ratio = quick(arrays())
    assert ratio.loss == repr(NREC())
    assert "Simulations(..., prior=prior)" in caplog.text


@FEW
def test_default_does_without_where_many_simulations_failed():
    def simulator(rng, mu):
        return rng.normal(mu, 1.0) if mu < 1.5 else np.nan

    prior = {"mu": pm.Normal.dist(0, 1)}
    with pytest.warns(SimulationWarning):
        some = nre.simulate(prior, simulator, 500, random_seed=1, progressbar=False)
    assert quick(some).loss == repr(NREC())
    with pytest.raises(ValueError, match=r"7% of the simulations failed.*train with NREC\(\)"):
        quick(some, loss=MultiScale())


@FEW
def test_refuses_where_no_density_is_known():
    with pytest.raises(ValueError, match=r"MultiScale draws candidates.*prior=prior.*NREC\(\)"):
        quick(arrays(), loss=MultiScale())
    with pm.Model() as prior:
        pm.Normal("mu", 0, pm.HalfNormal("sigma", 1.0))

    def simulator(rng, mu, sigma):
        return rng.normal(mu, sigma)

    supply = nre.Online(prior, simulator, parameters=["mu"], per_epoch=200, random_seed=1)
    with pytest.raises(ValueError, match="nuisance parameters stand above"):
        quick(supply, loss=MultiScale())
    assert quick(supply, epochs=1).loss == repr(NREC())


def test_chance_is_what_the_prior_alone_tells():
    rng = np.random.default_rng(1)
    prior = {"mu": pm.Normal.dist(0, 1)}
    nothing = nre.Simulations({"mu": rng.normal(size=4_000)}, rng.normal(size=4_000), prior=prior)
    with pytest.warns(TrainingWarning, match="cannot be told from chance"):
        ratio = quick(nothing, epochs=10, learning_rate=1e-3, network=MLP((8,)))
    loss = MultiScale()
    chance = ratio.history.attrs["chance"]
    assert chance < loss.chance - 0.01
    assert ratio.history.attrs["best_loss"] == pytest.approx(chance, abs=0.005)


def points(n=300):
    rng = np.random.default_rng(1)
    mu = rng.normal(0, 1, n)
    x = rng.normal(mu[:, None, None], 1.0, (n, 4, 2))
    return nre.Simulations({"mu": mu}, x, iid=True, prior={"mu": pm.Normal.dist(0, 1)})


def with_conditions(rng, mu, k, dose):
    return rng.normal(mu + k * dose, 1.0, 3)


PRIOR = {"mu": pm.Normal.dist(0, 1), "k": pm.Poisson.dist(2.0)}
KNOWN = {"conditions": {"dose": pm.Uniform.dist(0, 1)}, "random_seed": 1}


@FEW
@pytest.mark.parametrize(
    "make",
    [
        points,
        lambda: nre.simulate(PRIOR, with_conditions, 300, progressbar=False, **KNOWN),
        lambda: nre.Online(PRIOR, with_conditions, per_epoch=200, **KNOWN),
    ],
    ids=["points", "conditions", "online"],
)
@pytest.mark.parametrize("options", [{}, {"missing": 0.3}, {"members": 2}], ids=str)
def test_trains_on_whatever_there_is(make, options):
    ratio = quick(make(), epochs=2, **options)
    assert "MultiScale" in ratio.loss
    assert np.isfinite(ratio.history.attrs["chance"])


@dataclass(frozen=True)
class OwnLoss:
    """Of candidates nearby alone, with as many as it asks for."""

    near: int = 2
    scales: tuple = (0.1, 1.0)
    reference = "evidence"
    normalized = False
    chance = math.log(3)
    minimum_batch = 1

    def __call__(self, net, theta, x, near, log_prior):
        assert near.shape == (len(theta), 2, theta.shape[1])
        s = net.head(torch.cat([theta[:, None], near], 1), net.embed(x)[:, None]) + log_prior
        return (s.logsumexp(-1) - s[:, 0]).mean()


def test_an_own_loss_may_ask_for_candidates(simulations):
    ratio = quick(simulations, loss=OwnLoss(), epochs=10)
    assert ratio.history.attrs["best_loss"] < ratio.history.attrs["chance"] - 0.01
