"""The trial budget: exact ratios have no bias, planted ones are found, predictions come true."""

import json
import math
import re
from functools import cache

import matplotlib.pyplot as plt
import numpy as np
import pymc as pm
import pytest
import torch
from untrained import make_estimator

import pymc_nre as nre
from pymc_nre.estimators.domain import Domain
from pymc_nre.estimators.estimator import RatioEstimator
from pymc_nre.estimators.trial_budgets.measured_budget import _mean_squares
from pymc_nre.estimators.trial_budgets.scores import nested_cells, scatter, standardized_scores
from pymc_nre.estimators.trial_budgets.trial_budget import TrialBudget
from pymc_nre.networks import MLP, RatioNetwork

TASKS = {
    "mean": nre.tasks.GaussianMean(),
    "location and scale": nre.tasks.LocationScale(),
    "linear": nre.tasks.LinearGaussian(),
    "rate": nre.tasks.PoissonRate(),
}
M = 100_000


@cache
def simulated(name):
    return TASKS[name].simulate(M, random_seed=1)


class Planted(RatioNetwork):
    """An exact ratio, multiplied, and with a known function of theta added."""

    def __init__(self, exact, added=lambda theta: 0.0, sharpness=1.0):
        size = exact.standardize_theta.mean.numel()
        super().__init__(size, exact.event_shape)
        self.exact, self.added, self.sharpness = exact, added, sharpness

    def embed(self, x):
        return self.exact.embed(x)

    def head(self, theta, features):
        return self.sharpness * self.exact.head(theta, features) + self.added(theta)


def planted(task, **options):
    ratio = task.estimator()
    network = Planted(ratio.network, **options)
    return RatioEstimator(network, ratio.parameters, domain=ratio.domain, probe_x=ratio.probe_x)


@pytest.mark.parametrize("name", TASKS)
def test_exact_ratios_have_no_bias(name):
    budget = nre.trial_budget(TASKS[name].estimator(), simulated(name))
    # 5 standard errors: 6e-7, for at most 4 numbers at 9 resolutions.
    assert (np.abs(budget.bias_squared) < 5 * budget.bias_squared_error).all()
    assert (np.abs(budget.width - 1) < 5 * budget.width_error).all()
    assert budget.trials > 40  # three parameters have 512 cells


@pytest.mark.parametrize("name", TASKS)
def test_scatter_is_what_is_not_bias(name):
    task, simulations = TASKS[name], simulated(name)

    def scatter_of(**options):
        return scatter(task.estimator(), planted(task, **options), simulations.theta, simulations.x)

    # A tenth of every score, whose variance is one, but for the cells' means.
    np.testing.assert_allclose(scatter_of(sharpness=1.1), 0.1, rtol=0.01)
    np.testing.assert_allclose(scatter_of(added=lambda theta: theta.sum(-1)), 0, atol=1e-9)


class _OfCounts(RatioNetwork):
    """The exact ratio of shares and multinomial counts, up to a function of the counts."""

    def __init__(self, planted=0.0):
        super().__init__(3, (3,))
        self.planted = planted

    def embed(self, x):
        return x

    def head(self, theta, features):
        return torch.special.xlogy(features, theta).sum(-1) + self.planted * theta[..., 0]


@pytest.mark.parametrize("planted", [0.0, 2.0])
def test_parameters_that_add_up_to_one(planted):
    # The gradient across the simplex is 20, and no bias. A share has at most a variance of 1/80
    # given one trial, and so 2 times its sd, .22, is seen.
    simulations = nre.simulate(
        {"w": pm.Dirichlet.dist(2 * np.ones(3))},
        lambda rng, w: rng.multinomial(20, w / w.sum(-1, keepdims=True)),
        50_000,
        batched=True,
        random_seed=3,
        progressbar=False,
    )
    ratio = RatioEstimator(
        _OfCounts(planted),
        {"w": (3,)},
        domain=Domain.from_draws(simulations.theta, simulations.log_prior),
        probe_x=simulations.x,
    )
    budget = nre.trial_budget(ratio, simulations)
    assert budget.is_seen == (planted > 0)
    # Where counts are of a few trials, the observed and the expected curvature differ little.
    np.testing.assert_allclose(budget.width, 1, atol=5 * budget.width_error.max())


@pytest.mark.parametrize("bias", [0.05, -0.2])
def test_a_planted_bias_is_found(bias):
    # The information of a trial about mu is 1, but for the edges.
    task = TASKS["mean"]
    ratio = planted(task, added=lambda theta: bias * theta[..., 0])
    budget = nre.trial_budget(ratio, simulated("mean"))
    assert budget.is_seen
    error = budget.bias_squared_error[0]
    assert abs(budget.bias_squared[0] - bias**2) < 5 * error + 0.05 * bias**2
    assert budget.trials <= (0.2 / bias) ** 2 < 2 * budget.likely_trials
    sign = np.sign(budget.curves[0, 3:-3])
    assert (sign == np.sign(bias)).all()


def test_a_bias_that_changes_its_sign_is_found():
    ratio = planted(TASKS["mean"], added=lambda theta: -0.1 * torch.cos(2 * theta[..., 0]))
    budget = nre.trial_budget(ratio, simulated("mean"))
    # b = 0.2 sin(2 mu), of mean square 0.02; its mean over the domain is zero.
    assert abs(budget.bias_squared[0] - 0.02) < 5 * budget.bias_squared_error[0] + 0.002


def test_a_bias_that_changes_within_large_cells_is_found():
    # b = 0.2 sin(20 mu) has the wavelength of the 64 cells that vouch, and those of half their
    # size see (2 / pi)^2 of its mean square 0.02.
    ratio = planted(TASKS["mean"], added=lambda theta: -0.01 * torch.cos(20 * theta[..., 0]))
    budget = nre.trial_budget(ratio, simulated("mean"))
    assert abs(budget.bias_squared[0] - 0.0081) < 5 * budget.bias_squared_error[0]
    assert budget.trials < 0.2**2 / 0.0081


def test_simulations_of_a_region_tell_of_that_region():
    # b = 0.2 where mu is above 5, a fourth of the prior.
    ratio = planted(TASKS["mean"], added=lambda theta: 0.2 * (theta[..., 0] - 5).clamp(min=0))
    without = nre.trial_budget(
        ratio,
        nre.simulate(
            {"mu": pm.Uniform.dist(-10, 4)},
            TASKS["mean"].simulator,
            M,
            batched=True,
            random_seed=2,
            progressbar=False,
        ),
    )
    everywhere = nre.trial_budget(ratio, simulated("mean"))
    assert not without.is_seen
    assert abs(everywhere.bias_squared[0] - 0.01) < 5 * everywhere.bias_squared_error[0] + 0.0005


def test_only_the_parameter_that_is_biased():
    ratio = planted(TASKS["location and scale"], added=lambda theta: 0.2 * theta[..., 1])
    budget = nre.trial_budget(ratio, simulated("location and scale"))
    mu, log_sigma = budget.bias_squared > 5 * budget.bias_squared_error
    assert log_sigma
    assert not mu
    # A trial's information about log sigma is 2.
    assert budget.bias_squared[1] == pytest.approx(0.02, rel=0.15)


@pytest.mark.parametrize(("sharpness", "width"), [(1.5, 1.5**-0.5), (0.67, 0.67**-0.5)])
def test_a_wrong_width_is_found(sharpness, width):
    budget = nre.trial_budget(planted(TASKS["mean"], sharpness=sharpness), simulated("mean"))
    assert abs(budget.width[0] - width) < 5 * budget.width_error[0]
    assert abs(budget.width[0] - 1) > 5 * budget.width_error[0]


def test_the_prediction_comes_true():
    """The posterior mean of N trials is off by what was predicted; exact: by b = 0.1 at I = 1."""
    task, n = TASKS["mean"], 100
    budget = nre.trial_budget(
        planted(task, added=lambda theta: 0.1 * theta[..., 0]), simulated("mean")
    )
    # The log likelihood of N trials gains N b mu: the posterior moves by N b / N, in units of
    # its standard deviation by b sqrt(N).
    predicted, error = (part[0] for part in budget.bias(n))
    assert abs(predicted - 0.1 * math.sqrt(n)) < 5 * error + 0.02


def test_more_simulations_see_more():
    few = nre.trial_budget(TASKS["mean"].estimator(), TASKS["mean"].simulate(2_000, random_seed=2))
    many = nre.trial_budget(TASKS["mean"].estimator(), simulated("mean"))
    assert many.trials > 5 * few.trials


def test_piecewise_linear_networks_have_no_curvature():
    net = MLP((16,), activation="relu").build(1, ())
    simulations = TASKS["mean"].simulate(2_000, random_seed=3)
    net.fit_standardization(torch.tensor(simulations.theta), torch.tensor(simulations.x))
    exact = TASKS["mean"].estimator()
    ratio = RatioEstimator(net, {"mu": ()}, domain=exact.domain, probe_x=exact.probe_x)
    budget = nre.trial_budget(ratio, simulations)
    assert np.isnan(budget.width).all()
    assert "piece by piece" in repr(budget)


def test_words_and_figure():
    budget = nre.trial_budget(
        TASKS["location and scale"].estimator(), simulated("location and scale")
    )
    assert "or more: no bias was seen" in repr(budget)
    figure = budget.plot()
    assert [axis.get_xlabel() for axis in figure.axes] == ["mu", "log_sigma"]
    plt.close(figure)
    again = TrialBudget.from_dict(budget.to_dict())
    assert repr(again) == repr(budget)
    np.testing.assert_array_equal(again.curves, budget.curves)


def test_wrong_arguments():
    ratio = TASKS["mean"].estimator()
    with pytest.raises(ValueError, match="do not fit the ratio: expected"):
        nre.trial_budget(ratio, simulated("location and scale"))
    with pytest.raises(ValueError, match=r"at least 1,000 simulations, got 999"):
        nre.trial_budget(ratio, TASKS["mean"].simulate(999, random_seed=1))
    for share in (0, np.inf, np.nan):
        with pytest.raises(ValueError, match="share: expected a number above 0 and finite, got"):
            nre.trial_budget(ratio, simulated("mean"), share=share)


def test_units_do_not_matter():
    """One parameter in units that are a million times larger, which its score feels."""
    task, scale = TASKS["location and scale"], 1e6
    exact, simulations = task.estimator(), simulated("location and scale")

    class Rescaled(Planted):
        def head(self, theta, features):
            return super().head(theta * torch.tensor([scale, 1.0]), features)

    parameters = simulations.parameters | {"mu": simulations.parameters["mu"] / scale}
    ratio = RatioEstimator(
        Rescaled(exact.network, added=lambda theta: 0.2 * theta[..., 1]),
        exact.parameters, domain=exact.domain, probe_x=exact.probe_x,
    )  # fmt: skip
    budget = nre.trial_budget(ratio, nre.Simulations(parameters, simulations.x))
    mu, log_sigma = budget.bias_squared > 5 * budget.bias_squared_error
    assert log_sigma
    assert not mu


def test_a_parameter_that_the_ratio_does_not_feel():
    exact = TASKS["location and scale"].estimator()

    class Blind(Planted):
        def head(self, theta, features):
            return super().head(theta * torch.tensor([1.0, 0.0]), features)

    ratio = RatioEstimator(
        Blind(exact.network), exact.parameters, domain=exact.domain, probe_x=exact.probe_x
    )
    budget = nre.trial_budget(ratio, simulated("location and scale"))
    assert budget.bias_squared[1] == 0
    assert "log_sigma" in repr(budget)
    assert isinstance(budget.trials, int)


def test_integers_have_no_score():
    rng = np.random.default_rng(1)
    n = rng.integers(1, 30, 2_000)
    simulations = nre.Simulations({"n": n}, rng.binomial(n, 0.5).astype(float))
    ratio = nre.train(simulations, epochs=1, random_seed=1, progressbar=False)
    with pytest.raises(ValueError, match="n is an integer"):
        nre.trial_budget(ratio, simulations)


def test_cells_are_neighbors():
    theta = np.random.default_rng(1).normal(size=(1_000, 2)) * [1, 100]
    cells = nested_cells(theta, 50)
    assert cells.shape == (16, 62)
    assert len(np.unique(cells)) == cells.size
    # Two rows of the result are one larger cell: a box that holds none of the others.
    for start in range(0, 16, 2):
        box = theta[cells[start : start + 2].ravel()]
        inside = ((theta >= box.min(0)) & (theta <= box.max(0))).all(1)
        assert inside[cells.ravel()].sum() == box.shape[0]


def test_scores_have_variance_one():
    simulations = simulated("location and scale")
    ratio = TASKS["location and scale"].estimator()
    rows, shares, directions = standardized_scores(ratio, simulations.theta, simulations.x)
    np.testing.assert_allclose((shares**2).mean((0, 1)), 1, rtol=1e-6)
    assert rows.shape == shares.shape[:2]
    assert directions.shape == (len(rows), 2, 2)


def test_skewed_scores_are_not_biased_ones():
    """Scores of log sigma are z^2 - 1: their mean and their spread vary together."""
    task = TASKS["location and scale"]
    budget = nre.trial_budget(task.estimator(), task.simulate(1_000_000, random_seed=4))
    assert (np.abs(budget.bias_squared) < 4 * budget.bias_squared_error).all()
    assert budget.trials > 500


def test_a_budget_is_attached_to_its_own_ratio():
    ratio = TASKS["mean"].estimator()
    budget = nre.trial_budget(ratio, simulated("mean"))
    assert ratio.budget is None
    assert budget.attach(ratio).budget is budget
    with pytest.raises(ValueError, match="parameters mu, and the ratio has mu, log_sigma"):
        budget.attach(TASKS["location and scale"].estimator())


class _OfCoins(RatioNetwork):
    """The exact ratio of a rate and k Poisson trials of it, up to a function of their sum."""

    def __init__(self, planted=0.0):
        super().__init__(2, ())
        self.planted = planted

    def embed(self, x):
        return x[:, None]

    def head(self, theta, features):
        rate, k = theta[..., 0], theta[..., 1]
        exact = torch.special.xlogy(features[..., 0], rate * k) - rate * k
        return exact + self.planted * torch.where(k > 2, -rate, rate)


@pytest.mark.parametrize("planted", [0.0, 0.1])
def test_an_integer_beside_others_which_are_measured_at_each_of_its_values(planted):
    # The bias has another sign where k > 2: over all values of k its mean is zero.
    simulations = nre.simulate(
        {"rate": pm.Uniform.dist(2, 6), "k": pm.DiscreteUniform.dist(1, 4)},
        lambda rng, rate, k: rng.poisson(rate * k),
        60_000,
        batched=True,
        random_seed=5,
        progressbar=False,
    )
    ratio = RatioEstimator(
        _OfCoins(planted),
        {"rate": (), "k": ()},
        domain=Domain.from_draws(simulations.theta, simulations.log_prior),
        probe_x=simulations.x,
        integer={"k"},
    )
    budget = nre.trial_budget(ratio, simulations)
    assert budget.parameters == ("rate",)
    assert budget.is_seen == (planted > 0)
    # In units of a trial, whose information about the rate is k / rate.
    rate, k = simulations.parameters["rate"], simulations.parameters["k"]
    wanted = planted**2 * (rate / k).mean()
    assert abs(budget.bias_squared[0] - wanted) < 5 * budget.bias_squared_error[0] + 0.05 * wanted
    np.testing.assert_allclose(budget.width, 1, atol=5 * budget.width_error[0] + planted)
    assert budget.attach(ratio).budget is budget


def test_where_in_the_prior_a_bias_is():
    # b = 0.4 where mu is above 6, a fifth of the prior.
    ratio = planted(TASKS["mean"], added=lambda theta: 0.4 * (theta[..., 0] - 6).clamp(min=0))
    budget = nre.trial_budget(ratio, simulated("mean"))
    region = budget.region
    assert (region.parameter, region.high) == ("mu", math.inf)
    assert 5 < region.low < 7
    assert region.share > 0.9
    assert budget.trials < 2 < 20 < region.elsewhere
    assert re.search(r"(9\d|100)% of the squared bias is where mu is above", repr(budget))
    again = TrialBudget.from_dict(json.loads(json.dumps(budget.to_dict())))
    assert again.region == region


def test_no_region_where_the_bias_is_everywhere():
    ratio = planted(TASKS["mean"], added=lambda theta: 0.2 * theta[..., 0])
    assert nre.trial_budget(ratio, simulated("mean")).region is None


def test_small_numbers_are_words():
    def of(limit, width_error=0.1):
        one = np.ones(1)
        parts = (one * 0.5 * limit, one * 1e-9, one * limit, 0 * one, one * width_error)
        return TrialBudget(("mu",), 1_000, 0.2, *parts, *[np.ones((1, 2))] * 3)

    assert "bears 1 trial," in repr(of(0.04))
    assert "bears no trial," in repr(of(0.05))
    assert "bears 2 trials," in repr(of(0.02))
    assert "nan" not in repr(of(0.02, np.nan))


def test_other_things_than_simulations_are_refused():
    supply = nre.Online(TASKS["mean"].prior(), TASKS["mean"].simulator, batched=True)
    with pytest.raises(
        TypeError, match=r"simulations: expected Simulations, got Online\. Pass what nre"
    ):
        nre.trial_budget(TASKS["mean"].estimator(), supply)


def test_a_ratio_that_knows_nothing_bears_no_trial():
    """Scores of noise have mean zero, which is no virtue."""
    ratio = make_estimator({"mu": ()})
    budget = nre.trial_budget(ratio, simulated("mean"))
    assert not budget.informed
    assert (budget.trials, budget.likely_trials) == (0, 0)
    assert "no trial: it knows nothing of its parameters" in repr(budget)
    assert not budget.bears(np.array([1]))
    assert not TrialBudget.from_dict(budget.to_dict()).informed
    exact = nre.trial_budget(TASKS["mean"].estimator(), simulated("mean"))
    assert exact.informed
    assert exact.bears(np.array([30]))


def of_points(shared, seed):
    """A hundred simulations of twelve points: the exact ratio's, or alike by a shared part."""
    rng = np.random.default_rng(seed)
    mu = rng.uniform(-10, 10, 100)
    own, common = rng.normal(size=(100, 12)), rng.normal(size=(100, 1))
    x = mu[:, None] + np.sqrt(1 - shared) * own + np.sqrt(shared) * common
    return nre.Simulations({"mu": mu}, x, iid=True)


def mean_score_of_squares(shared, sets=60):
    """Squares of means in standard errors, ``(R,)``, averaged over sets; times their root."""
    ratio, found = TASKS["mean"].estimator(), []
    for seed in range(sets):
        simulations = of_points(shared, seed)
        theta = np.repeat(simulations.theta, 12, axis=0)
        _, shares, _ = standardized_scores(ratio, theta, simulations.points)
        means, errors, _ = _mean_squares(shares)
        found.append((means / errors)[:, 0])
    return np.mean(found, axis=0) * math.sqrt(sets)


def test_points_of_one_simulation_are_trials_of_their_own():
    # Squares of means have a variance of one in these units, and 4.5 errors happen in 1e-5.
    assert (np.abs(mean_score_of_squares(0.0)) < 4.5).all()
    # Not so if points shared more than their parameters, here four fifths of their variance.
    assert mean_score_of_squares(0.8).max() > 9


def test_a_budget_counts_points():
    simulations = of_points(0.0, 1)
    budget = nre.trial_budget(TASKS["mean"].estimator(), simulations)
    assert budget.simulations == 1_200
    assert not budget.is_seen
    flat = nre.Simulations({"mu": np.repeat(simulations.parameters["mu"], 12)}, simulations.points)
    other = nre.trial_budget(TASKS["mean"].estimator(), flat)
    assert budget.to_dict() == other.to_dict()
    with pytest.raises(ValueError, match="at least 1,000 simulations, got 960"):
        nre.trial_budget(TASKS["mean"].estimator(), simulations[:80])
