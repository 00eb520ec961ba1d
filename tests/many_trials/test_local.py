"""Centering around a posterior: the quadratic that is taken off, and what it mends."""

import re
import warnings

import numpy as np
import pymc as pm
import pytest
import torch
import xarray as xr
from traced import evaluator_of, traced
from untrained import make_estimator

import pymc_nre as nre
from pymc_nre.estimators.domain import Domain
from pymc_nre.estimators.evaluator import TorchEvaluator
from pymc_nre.estimators.wall import Wall
from pymc_nre.likelihood.model_parameters import trials_of
from pymc_nre.many_trials import local
from pymc_nre.many_trials.local import _Posterior
from pymc_nre.networks import RatioNetwork
from pymc_nre.networks.composed.correction import QuadraticCorrection
from pymc_nre.ops.engines.walled import Walled

N = 200


def random_tilt(size, seed=1, edge=True):
    """Numbers of a tilt that ends where some of the points below are beyond; or has bounds."""
    rng = np.random.default_rng(seed)
    quadratic = rng.normal(size=(size, size))
    center, linear = rng.normal(size=(2, size))
    turn = np.eye(size) + 0.3 * rng.normal(size=(size, size))
    bounds = np.full(size, np.inf if edge else 1.5)
    parts = center, turn, bounds, linear, quadratic + quadratic.T
    return (*parts, np.array([4.0, 0.5])) if edge else parts


def tilted_estimator(network=None, members=1, edge=True):
    domain = Domain.from_draws(np.random.default_rng(0).normal(1, 2, (500, 3)))
    ratios = [
        make_estimator(event_shape=(2,), network=network, seed=seed, domain=domain)
        for seed in range(members)
    ]
    ratio = nre.ensemble(ratios)
    network = QuadraticCorrection(ratio.network, 3, edge=edge)
    network.set_parts(*random_tilt(3, edge=edge))
    return ratio, ratio.replace(network=network.eval().requires_grad_(False))


def points(shared):
    rng = np.random.default_rng(4)
    theta = rng.normal(0, 1.5, (1 if shared else N, 3))
    return theta, rng.normal(-1, 3, (N, 2)), rng.normal(size=(N, 3))


def within_bounds(theta):
    """The tilt of older files, its gradients and Hessians, by their definition."""
    center, turn, bounds, linear, quadratic = random_tilt(3, edge=False)
    heights, gradients, hessians = [], [], []
    for row in theta:
        v = turn @ (row - center)
        u, inside = np.clip(v, -bounds, bounds), np.diag((np.abs(v) < bounds).astype(float))
        heights.append(linear @ u + u @ quadratic @ u / 2)
        gradients.append(turn.T @ inside @ (linear + quadratic @ u))
        hessians.append(turn.T @ inside @ quadratic @ inside @ turn)
    return np.array(heights), np.array(gradients), np.array(hessians)


def fading(theta):
    """Tilts ``(*)`` of parameters ``(*, 3)`` by their definition."""
    center, turn, _, linear, quadratic, (edge, tau) = random_tilt(3)
    u = (theta - center) @ turn.T
    e = np.maximum((u**2).sum(-1) / edge - 1, 0)
    t, u = np.minimum(e, 1), u * (1 + e[..., None] ** 3) ** (-1 / 6)
    height = u @ linear + (u @ quadratic * u).sum(-1) / 2
    return height + (6 * t**5 - 15 * t**4 + 10 * t**3) * tau * np.logaddexp(0, -height / tau)


def with_an_edge(theta):
    """Tilts, their gradients and Hessians by differences, good to the fourth power of a step."""
    step, weights = 1e-3, {-2: 1 / 12, -1: -2 / 3, 1: 2 / 3, 2: -1 / 12}

    def derivative(function, rows):
        moved = ((k * step * axis, w / step) for axis in np.eye(3) for k, w in weights.items())
        terms = np.array([w * function(rows + move) for move, w in moved])
        return np.moveaxis(terms.reshape(3, 4, *terms.shape[1:]).sum(1), 0, -1)

    def gradient(rows):
        return derivative(fading, rows)

    return fading(theta), gradient(theta), derivative(gradient, theta)


@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("edge", [True, False])
def test_torch_and_kernels_take_it_off(members, shared, edge):
    plain, ratio = tilted_estimator(members=members, edge=edge)
    theta, x, v = points(shared)
    height, slope, bend = (with_an_edge if edge else within_bounds)(theta)
    center, turn, *_ = random_tilt(3)
    u = (theta - center) @ turn.T
    regions = [(u**2).sum(-1) > 4, (u**2).sum(-1) > 8] if edge else [(np.abs(u) > 1.5).any(-1)]
    assert shared or all(0.1 < region.mean() < 0.9 for region in regions)
    before = TorchEvaluator(plain.network)
    value, gradient = before.value_and_gradient(theta, x)
    expected = value - height, gradient - slope
    product = before.hessian_product(theta, x, v)
    product = product - np.einsum("nde,ne->nd", np.broadcast_to(bend, (N, 3, 3)), v)
    evaluator = TorchEvaluator(ratio.network)
    loose = 1e-7 if edge else 1e-11  # differences, or the definition
    for embedded in (True, False):
        compiled = evaluator_of(traced(ratio.network, 3, (2,), embedded=embedded))
        rows = evaluator.features(x) if embedded else x
        found = (
            evaluator.value_and_gradient(theta, x),
            compiled.value_and_gradient(theta, rows),
        )
        for got in found:
            for part, wanted in zip(got, expected, strict=True):
                np.testing.assert_allclose(part, wanted, rtol=0, atol=loose)
        for part, wanted in zip(*found, strict=True):
            np.testing.assert_allclose(part, wanted, rtol=0, atol=1e-11)
        alone = compiled.value(theta, rows)
        np.testing.assert_allclose(alone, expected[0], rtol=0, atol=1e-11)
        bent = evaluator.hessian_product(theta, x, v)
        np.testing.assert_allclose(bent, product, rtol=0, atol=1e3 * loose)
        np.testing.assert_allclose(compiled.hessian_product(theta, rows, v), bent, atol=1e-10)


def test_behind_the_wall_the_tilt_is_that_of_the_edge():
    _, ratio = tilted_estimator()
    wall = Wall.around(ratio.domain)
    plain, walled = (
        evaluator_of(traced(network, 3, (2,)))
        for network in (ratio.network, Walled(ratio.network, wall))
    )
    _, x, v = points(True)
    theta = np.array([[wall.high[0] + 1, *np.median(ratio.domain.draws[:, 1:], axis=0)]])
    at, free = np.clip(theta, wall.low, wall.high), np.array([0, 1, 1])
    height, step = wall.height(theta), 1e-4 * np.eye(3)
    around = [(wall.height(theta + h) - wall.height(theta - h)) / 2e-4 for h in step]
    steep = np.concatenate(around)
    bends = [(wall.height(theta + h) - 2 * height + wall.height(theta - h)) / 1e-8 for h in step]
    assert steep[0] > 1
    np.testing.assert_allclose(steep[1:], 0, atol=0.3)  # hardly a matter of the combination
    value, gradient = walled.value_and_gradient(theta, x)
    expected, slope = plain.value_and_gradient(at, x)
    np.testing.assert_allclose(value, expected - height, rtol=1e-12)
    np.testing.assert_allclose(gradient, slope * free - steep, atol=1e-6)
    v[:, 1:] = 0  # the bends along the first parameter
    bent = walled.hessian_product(theta, x, v)[:, 0]
    np.testing.assert_allclose(bent, -bends[0] * v[:, 0], rtol=1e-4)


@pytest.mark.parametrize("members", [1, 2])
def test_saved_and_loaded(members, tmp_path):
    plain, ratio = tilted_estimator(members=members)
    ratio.save(tmp_path / "tilted.nre")
    again = nre.load(tmp_path / "tilted.nre")
    assert again == ratio
    assert again != plain
    assert again.members == members
    assert repr(again).splitlines()[3] == repr(plain).splitlines()[3]  # the same architecture


def test_a_new_tilt_is_flat():
    plain, _ = tilted_estimator()
    theta, x, _ = points(False)
    flat = TorchEvaluator(QuadraticCorrection(plain.network, 3)).value(theta, x)
    np.testing.assert_array_equal(flat, plain.evaluator.value(theta, x))


# Where the posterior goes.


def test_a_normal_posterior_times_a_slope_moves_by_its_covariance():
    rng = np.random.default_rng(3)
    root = rng.normal(size=(2, 2))
    draws = rng.normal(size=(4_000, 1, 2)) @ root.T
    given = _Posterior(draws, np.array([50.0]), np.full(2, 1e-9))
    slope = np.array([0.03, -0.01])
    moved = given.without(draws @ slope)
    # A normal density times exp(-50 slope theta); covariances of 4,000 draws are good to 2 %.
    expected = given.mean[0] - 50 * root @ root.T @ slope
    np.testing.assert_allclose(moved.mean[0], expected, rtol=0.1)
    np.testing.assert_allclose(moved.without(-moved.draws @ slope).mean, given.mean)
    spread = np.sqrt(np.diag(root @ root.T))
    distance = np.abs(50 * root @ root.T @ slope / spread).max()
    assert moved.distance(given) == pytest.approx(distance, rel=0.1)


def test_groups_that_a_model_ties_together_move_together():
    # One parameter under 100 trials, given as one group or as 100 of which each has one.
    draws = np.random.default_rng(4).normal(0, 0.1, (500, 1, 1))
    one = _Posterior(draws, np.array([100.0]), np.full(1, 1e-9))
    many = _Posterior(np.repeat(draws, 100, axis=1), np.ones(100), np.full(1, 1e-9))
    slope = 0.2
    together = one.without(slope * one.draws[..., 0]).mean
    np.testing.assert_allclose(together, one.mean - 100 * slope * draws.var(), rtol=1e-9)
    np.testing.assert_allclose(many.without(slope * many.draws[..., 0]).mean[:1], together)


# What it mends. The exact ratio with a planted bias: of mu it takes x for x + 0.1, and of
# log sigma it has too large a slope, which is no gradient of a function of the parameters.


class Biased(RatioNetwork):
    def __init__(self, theta_size, event_shape, exact=None):
        super().__init__(2, ())
        self.exact = nre.tasks.LocationScale().estimator().network
        self.double()

    def embed(self, x):
        return self.exact.embed(x)

    def head(self, theta, features):
        mu, log_sigma = theta.unbind(-1)
        log_ratio = self.exact.head(theta, features)
        x = features[..., 0]
        return log_ratio + 0.1 * mu * torch.exp(-2 * log_sigma) + 0.1 * torch.tanh(x) * log_sigma


TASK = nre.tasks.LocationScale()
TRIALS = 500


@pytest.fixture(scope="module")
def biased():
    domain = TASK.estimator().domain
    simulator = nre.Simulator(TASK.simulator, batched=True)
    probe = np.linspace(-2, 2, 5)
    shapes = {"mu": (), "log_sigma": ()}
    return nre.RatioEstimator(
        Biased(2, ()), shapes, domain=domain, probe_x=probe, simulator=simulator
    )


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(8)
    return TASK.simulator(rng, np.full(TRIALS, 0.7), np.full(TRIALS, -0.2))


def model_of(ratio, x):
    with pm.Model() as model:
        mu, log_sigma = pm.Uniform("mu", -5, 5), pm.Uniform("log_sigma", -1, 1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", nre.DomainWarning)
            nre.RatioLikelihood(
                "x", ratio, mu=mu, log_sigma=log_sigma, observed=x, engine="torch"
            )  # fmt: skip
    return model


def moments(ratio, x, exact):
    """Mean and standard deviation of the posterior on a grid, in exact standard deviations."""
    mean, sd = (np.array(list(part.values()), dtype=float) for part in (exact.mean, exact.sd))
    steps = np.arange(-14, 15) / 1.0
    grid = np.stack(np.meshgrid(steps, steps, indexing="ij"), -1).reshape(-1, 2)
    network = ratio.network
    with torch.no_grad():
        features = network.embed(torch.tensor(x))
        values = [network.head(torch.tensor(row * sd + mean), features).sum() for row in grid]
    p = np.exp(np.array(values) - np.max(values))
    p /= p.sum()
    center = p @ grid
    return center, np.sqrt(p @ (grid - center) ** 2)


def draws(center, spread, exact, n=400):
    rng = np.random.default_rng(2)
    parts = zip(exact.mean.items(), exact.sd.values(), center, spread, strict=True)
    found = {
        name: (("chain", "draw"), mean + sd * rng.normal(c, s, (2, n // 2)))
        for (name, mean), sd, c, s in parts
    }
    return {"posterior": xr.Dataset(found)}


@pytest.fixture(scope="module")
def idata(biased, data):
    exact = TASK.posterior(data)
    center, spread = moments(biased, data, exact)
    assert np.abs(center).max() > 2  # posterior standard deviations
    return draws(center, spread, exact)


def test_a_planted_bias_is_found_and_taken_off(biased, data, idata):
    exact = TASK.posterior(data)
    given = {"model": model_of(biased, data), "around": idata, "random_seed": 1}
    measured = biased.replace(budget=nre.trial_budget(biased, TASK.simulate(2_000, random_seed=1)))
    centered = nre.center(measured, **given, progressbar=False)
    after, width = moments(centered, data, exact)
    # sqrt(N / M) = 0.1 is the standard error, and the exact score is nearly efficient.
    assert np.abs(after).max() < 4 * 0.1
    assert np.all(np.abs(width - 1) < 0.05)
    np.testing.assert_array_equal(
        centered.log_ratio(data[:5], mu=0.7, log_sigma=-0.2),
        nre.center(biased, **given, progressbar=False).log_ratio(
            data[:5], mu=0.7, log_sigma=-0.2
        ),
    )  # fmt: skip
    assert centered.budget is None  # what was measured everywhere no longer holds
    assert biased.normalized
    assert not centered.normalized


def test_a_second_centering_begins_anew(biased, data):
    exact = TASK.posterior(data)
    network = QuadraticCorrection(biased.network, 2)
    tilt = np.zeros(2), np.eye(2), np.full(2, np.inf), np.array([0.1, -0.1]), np.zeros((2, 2))
    network.set_parts(*tilt)
    once = biased.replace(network=network)
    center, spread = moments(once, data, exact)
    assert np.abs(center).max() > 1
    idata = draws(center, spread, exact)
    twice = nre.center(
        once, around=idata, model=model_of(once, data), random_seed=2, progressbar=False
    )
    assert isinstance(twice.network, QuadraticCorrection)
    assert not isinstance(twice.network.inner, QuadraticCorrection)
    after, _ = moments(twice, data, exact)
    assert np.abs(after).max() < 4 * 0.1


# What it refuses, and where it ends.


@pytest.fixture(scope="module")
def right():
    return TASK.estimator().replace(simulator=nre.Simulator(TASK.simulator, batched=True))


def test_what_would_not_be_better_is_refused(right, data):
    ratio = right
    idata = draws(np.zeros(2), np.ones(2), TASK.posterior(data))
    with pytest.warns(nre.TrainingWarning, match=r"as it was, not centered.*small already"):
        same = nre.center(
            ratio, around=idata, model=model_of(ratio, data), n=20_000, random_seed=3,
            progressbar=False,
        )  # fmt: skip
    assert same is ratio


def planted(monkeypatch, change):
    """Let the fit be wrong: its parts, changed."""
    fit = local._fit

    def wrong(ratio, where, simulations, sure=0.0):
        network = fit(ratio, where, simulations, sure)
        center, matrix, bounds, linear, quadratic, edge = map(torch.clone, network.parts())
        trials = where.trials.sum()
        if sure:
            linear, quadratic = change(linear, quadratic, trials)
        network.set_parts(center, matrix, bounds, linear, quadratic, edge)
        return network

    monkeypatch.setattr(local, "_fit", wrong)


WRONG = {
    "the bias of mu gets larger": lambda c, bend, n: (c + torch.tensor([0.6, 0.0]) / n, bend),
    "the width of (mu|log_sigma) gets worse": lambda c, bend, n: (c, bend + torch.eye(2) / n),
    "does not stay where it was fitted": lambda c, bend, n: (c, bend - 2 * torch.eye(2) / n),
}


@pytest.mark.parametrize("reason", WRONG)
def test_a_bad_fit_is_refused(right, data, monkeypatch, reason):
    planted(monkeypatch, WRONG[reason])
    idata = draws(np.zeros(2), np.ones(2), TASK.posterior(data))
    given = {"model": model_of(right, data), "around": idata, "n": 20_000, "random_seed": 1}
    with pytest.warns(nre.TrainingWarning, match=f"as it was, not centered: .*({reason})"):
        assert nre.center(right, **given, progressbar=False) is right


def test_twin_the_fit_itself_is_not_refused(biased, data, idata, monkeypatch):
    planted(monkeypatch, lambda c, bend, n: (c, bend))
    given = {"model": model_of(biased, data), "around": idata, "n": 20_000, "random_seed": 1}
    assert nre.center(biased, **given, progressbar=False).is_locally_centered


def test_a_posterior_that_settles_nowhere_is_refused(biased, data, idata, monkeypatch):
    monkeypatch.setattr(local, "_SETTLED", 0.0)
    monkeypatch.setattr(local, "_ROUNDS", 2)
    given = {"model": model_of(biased, data), "around": idata, "n": 20_000, "random_seed": 1}
    with pytest.warns(nre.TrainingWarning, match="moves by .* after 2 rounds.*fine-tune"):
        assert nre.center(biased, **given, progressbar=False) is biased


def heights_beyond(edge, size=3):
    """What a steep correction takes off at points from twice its edge on."""
    center, turn, bounds, linear, quadratic = random_tilt(size, edge=False)
    network = QuadraticCorrection(tilted_estimator()[0].network, size, edge=edge)
    if edge:
        network.set_parts(
            center, turn, np.inf * bounds, linear, quadratic, np.array([4.0, 1e-3])
        )  # fmt: skip
    else:
        network.set_parts(center, turn, bounds, linear, quadratic)
    rng = np.random.default_rng(5)
    u = rng.normal(size=(2_000, size))
    u *= (rng.uniform(8**0.5, 30, 2_000) / np.linalg.norm(u, axis=1))[:, None]
    theta = center + np.linalg.solve(turn, u.T).T
    return network.height(torch.tensor(theta)).numpy()


def test_beyond_its_edge_no_log_ratio_is_raised():
    heights = heights_beyond(edge=True)
    assert heights.min() > -1e-12
    # Nothing that the quadratic would have lowered comes back.
    assert (heights > 1).mean() > 0.2


def test_twin_bounds_alone_raise_log_ratios():
    assert heights_beyond(edge=False).min() < -0.5


@pytest.mark.parametrize("call", [1, 2, 4])
def test_after_ctrl_c_the_ratio_is_as_it_was(biased, data, idata, monkeypatch, call):
    """The second set is the next round's or the last fit's; the fourth measures what was gained."""
    calls = []
    options = {"model": model_of(biased, data), "n": 20_000, "random_seed": 1}
    options["around"] = idata
    simulate_at = local.simulate_at

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == call:
            raise KeyboardInterrupt
        return simulate_at(*arguments)

    monkeypatch.setattr(local, "simulate_at", interrupted)
    if call == 1:  # nothing is there
        with pytest.raises(KeyboardInterrupt):
            nre.center(biased, **options)
        return
    with pytest.warns(nre.TrainingWarning, match="returned as it was, not centered: it was inter"):
        ratio = nre.center(biased, **options)
    assert len(calls) == call
    assert ratio is biased


def test_draws_with_holes_are_told(biased, data):
    idata = draws(np.zeros(2), np.ones(2), TASK.posterior(data))
    idata["posterior"]["mu"][0, 0] = np.nan
    with pytest.raises(ValueError, match=r"around= gives NaN or infinite .* at 1 of 400 draws"):
        nre.center(biased, around=idata, model=model_of(biased, data), progressbar=False)


def test_remarks_tell_what_it_takes_and_what_it_gave(biased, data, idata, capsys):
    nre.center(biased, around=idata, model=model_of(biased, data), n=20_000, random_seed=1)
    told = " ".join(capsys.readouterr().out.split())
    assert "20,000 simulations, which with 500 trials leaves an error of about 0.16" in told
    before, after = re.findall(r"mu (-?[\d.]+) ± [\d.]+ \(width [\d.]+ ± [\d.]+\)", told)
    assert float(before) > 4 * abs(float(after))


def test_groups_of_a_hierarchical_model():
    ratio = nre.tasks.GaussianMean().estimator()
    index = np.array([0, 0, 0, 1, 2, 2])
    with pm.Model() as model:
        group = pm.Normal("group", 0, 1, shape=3)
        nre.RatioLikelihood("x", ratio, mu=2 * group[index], observed=np.arange(6.0))
    values = np.array([[[1.0, 3.0, 2.0], [1.5, 3.5, 2.5]]])
    posterior = xr.Dataset({"group": (("chain", "draw", "g"), values)})
    theta, trials = trials_of(posterior, ratio, model)
    np.testing.assert_allclose(theta[..., 0], 2 * values[0][:, [0, 2, 1]])
    np.testing.assert_array_equal(trials, [3, 2, 1])
    with pm.Model() as model:
        mu = pm.Normal("mu", 0, 1)
        nre.RatioLikelihood("x", ratio, mu=mu, observed=np.arange(6.0))
        nre.RatioLikelihood("y", ratio, mu=mu + 1, observed=np.arange(4.0))
    posterior = xr.Dataset({"mu": (("chain", "draw"), values[..., 0])})
    theta, trials = trials_of(posterior, ratio, model)
    np.testing.assert_allclose(theta[..., 0], [[1.0, 2.0], [1.5, 2.5]])
    np.testing.assert_array_equal(trials, [6, 4])


def test_a_parameter_that_the_model_holds_fixed(biased, data, idata):
    exact = TASK.posterior(data)
    with pm.Model() as model:
        mu = pm.Uniform("mu", -5, 5)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", nre.DomainWarning)
            nre.RatioLikelihood("x", biased, mu=mu, log_sigma=-0.2, observed=data, engine="torch")
    centered = nre.center(
        biased, around=idata, model=model, n=20_000, random_seed=1, progressbar=False
    )
    mu = np.linspace(-0.2, 0.2, 41) + exact.mean["mu"]

    def middle(ratio):
        values = np.array([ratio.log_ratio(data, mu=m, log_sigma=-0.2).sum() for m in mu])
        p = np.exp(values - values.max())
        return (p @ mu / p.sum() - data.mean()) / (np.exp(-0.2) / TRIALS**0.5)

    assert abs(middle(biased)) > 1
    assert abs(middle(centered)) < 4 * (TRIALS / 20_000) ** 0.5


def test_minibatches_count_as_what_they_stand_for():
    ratio = nre.tasks.GaussianMean().estimator()
    with pm.Model() as model:
        mu = pm.Normal("mu", 0, 1)
        nre.RatioLikelihood("x", ratio, mu=mu, observed=np.arange(6.0), total_size=60)
    posterior = xr.Dataset({"mu": (("chain", "draw"), np.array([[0.1, 0.2]]))})
    theta, trials = trials_of(posterior, ratio, model)
    assert theta.shape == (2, 1, 1)
    np.testing.assert_array_equal(trials, [60])


def test_simulations_around_the_posterior_are_checked(biased, data):
    exact = TASK.posterior(data)
    given = {"around": draws(np.zeros(2), np.ones(2), exact), "model": model_of(biased, data)}

    def failing(rng, mu, log_sigma):
        return np.where(rng.random(len(mu)) < 0.9, np.nan, mu)

    def of_three(rng, mu, log_sigma):
        return rng.normal(size=(len(mu), 3))

    for simulator, error, words in (
        (failing, nre.SimulationError, "without a failure"),
        (of_three, ValueError, r"shape \(3,\)"),
    ):
        with pytest.raises(error, match=words):
            nre.center(
                biased, **given, simulator=nre.Simulator(simulator, batched=True),
                progressbar=False,
            )  # fmt: skip
    few = {"posterior": given["around"]["posterior"].isel(draw=slice(0, 20))}
    with pytest.raises(ValueError, match="at least 100 posterior draws, got 40"):
        nre.center(biased, around=few, model=given["model"])


def test_what_was_centered_around_a_posterior_is_not_fine_tuned_or_combined():
    _, ratio = tilted_estimator()
    assert "centered    around one posterior" in repr(ratio)
    with pytest.raises(ValueError, match="centered around a posterior"):
        nre.ensemble([ratio, ratio])
    task = nre.tasks.GaussianMean()
    plain = task.estimator()
    tilted = plain.replace(network=QuadraticCorrection(plain.network, 1).eval())
    supply = nre.Online(task.prior(), task.simulator, batched=True)
    with pytest.raises(ValueError, match="Fine-tune the ratio that you had before"):
        nre.center(tilted, supply, progressbar=False)


def test_what_is_missing_is_told(biased, data):
    idata = draws(np.zeros(2), np.ones(2), TASK.posterior(data))
    model = model_of(biased, data)
    with pytest.raises(TypeError, match=r"either simulations.*or a posterior.*got neither"):
        nre.center(biased)
    with pytest.raises(TypeError, match="got both"):
        nre.center(biased, TASK.simulate(10), around=idata)
    with pytest.raises(TypeError, match=r"takes steps=, device= only with simulations"):
        nre.center(biased, around=idata, model=model, steps=100, device="cpu")
    with pytest.raises(TypeError, match=r"takes accuracy= only with around="):
        nre.center(biased, TASK.simulate(10), accuracy=0.05)
    with pytest.raises(ValueError, match=r"needs the model.*model=model"):
        nre.center(biased, around=idata)
    with pytest.raises(ValueError, match="no RatioLikelihood of this ratio"):
        nre.center(TASK.estimator(), around=idata, model=model, simulator=TASK.simulator)
    for accuracy in (0, np.nan, np.inf):
        with pytest.raises(ValueError, match="accuracy: expected a number above 0 and finite, got"):
            nre.center(biased, around=idata, model=model, accuracy=accuracy)
    with pytest.raises(TypeError, match="center: n: expected a whole number"):
        nre.center(biased, around=idata, model=model, n=2e4 + 0.5)
    with pytest.raises(ValueError, match="n must be at least 20,000, got 10"):
        nre.center(biased, around=idata, model=model, n=10)
    bare = biased.for_evaluation()
    with pytest.raises(ValueError, match=r"center around a posterior needs the simulator"):
        nre.center(bare, around=idata, model=model)


def test_a_posterior_beyond_the_domain_is_told(biased, data):
    exact = TASK.posterior(data)
    idata = draws(np.array([2e4, 0.0]), np.ones(2), exact)
    with pytest.raises(ValueError, match=r"edge of the region.*wider prior"):
        nre.center(biased, around=idata, model=model_of(biased, data), progressbar=False)
