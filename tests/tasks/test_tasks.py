"""The exact answers are exact: checked against other ways of computing them."""

from itertools import product

import numpy as np
import pymc as pm
import pytest
import torch
from scipy import integrate, stats
from scipy.special import expit, logsumexp

from pymc_nre import tasks

TASKS = {
    "Gaussian mean": tasks.GaussianMean(),
    "location-scale": tasks.LocationScale(),
    "linear Gaussian": tasks.LinearGaussian(),
    "Poisson rate": tasks.PoissonRate(),
    "Gaussian mixture": tasks.GaussianMixture(),
    "hierarchical Gaussian": tasks.HierarchicalGaussian(),
}
TRUTHS = {
    "Gaussian mean": {"mu": 2.0},
    "location-scale": {"mu": 1.0, "log_sigma": -0.3},
    "linear Gaussian": {"theta": np.array([0.5, -1.0, 0.2])},
    "Poisson rate": {"rate": 3.0},
    "Gaussian mixture": {"theta": np.array([0.5, -1.0])},
    "hierarchical Gaussian": {"m": 1.0, "log_tau": 0.3},
}
# Points along each axis of an observation on which the evidence is summed: they reach the
# density's far tails (beyond 5 sd), at most 0.8 sd of its narrowest feature apart. Trapezoids
# are then off by 2 exp(-2 pi^2 / 0.8^2) = 1e-13, and cut off less than 1e-6.
AXES = {
    "Gaussian mean": (TASKS["Gaussian mean"], np.arange(-18, 18, 0.5)),
    "location-scale": (TASKS["location-scale"], np.arange(-28, 28, 0.25)),
    "linear Gaussian": (TASKS["linear Gaussian"], np.arange(-13.2, 13.3, 0.8)),
    "Poisson rate": (TASKS["Poisson rate"], np.arange(200.0)),
    "Gaussian mixture": (TASKS["Gaussian mixture"], np.arange(-17, 17, 0.08)),
    # two numbers in a group: five dimensions are too many for a grid
    "hierarchical Gaussian": (tasks.HierarchicalGaussian(size=2), np.arange(-34, 34, 0.5)),
}
FAR = {  # observations beyond anything the training prior gives
    "Gaussian mean": [-1e3, 1e3],
    "location-scale": [-1e3, 1e3],
    "linear Gaussian": np.full((2, 4), 1e3),
    "Poisson rate": [0, 10_000],
    "Gaussian mixture": [[-1e3, 0.0], [1e3, 1e3]],
    "hierarchical Gaussian": np.full((2, 5), 1e3),
}


@pytest.fixture(params=TASKS)
def name(request):
    return request.param


def observations(name, n=10):
    task, rng = TASKS[name], np.random.default_rng(1)
    repeated = {k: np.repeat(np.asarray(v)[None], n, 0) for k, v in TRUTHS[name].items()}
    return task.simulator(rng, **repeated)


def log_likelihood(name, x, theta):
    """By scipy, one observation and one packed parameter vector."""
    if name == "Gaussian mean":
        return stats.norm.logpdf(x, theta[0], 1.0)
    if name == "location-scale":
        return stats.norm.logpdf(x, theta[0], np.exp(theta[1]))
    if name == "Poisson rate":
        return stats.poisson.logpmf(x, theta[0])
    if name == "Gaussian mixture":
        return np.log(sum(stats.norm.pdf(x, theta, s).prod() / 2 for s in (1.0, 0.1)))
    if name == "hierarchical Gaussian":
        covariance = np.eye(5) + np.exp(2 * theta[1])
        return stats.multivariate_normal.logpdf(x, np.full(5, theta[0]), covariance)
    return stats.norm.logpdf(x, TASKS[name].matrix @ theta, 1.0).sum(-1)


def log_evidence(name, x):
    """By numerical integration, or as a multivariate normal."""
    if name == "Gaussian mean":
        density, _ = integrate.quad(lambda m: stats.norm.pdf(x, m) / 20, -10, 10, points=[x])
        return np.log(density)
    if name == "location-scale":

        def joint(m, log_s):
            return stats.norm.pdf(x, m, np.exp(log_s)) / 20

        density, _ = integrate.dblquad(joint, -1, 1, -5, 5, epsabs=1e-12, epsrel=1e-10)
        return np.log(density)
    if name == "Poisson rate":

        def count_joint(rate):
            return stats.poisson.pmf(x, rate) * stats.gamma.pdf(rate, 2, scale=2)

        density, _ = integrate.quad(count_joint, 0, 100, points=[x + 1], epsabs=0, epsrel=1e-11)
        return np.log(density)
    if name == "Gaussian mixture":
        # either component is a product over the two directions, so its integral is one, too
        sides = [
            [_over_uniform(lambda t, x=x_d, s=s: stats.norm.pdf(x, t, s), x_d) for x_d in x]
            for s in (1.0, 0.1)
        ]
        return np.log(np.prod(sides, axis=1).sum() / 2)
    if name == "hierarchical Gaussian":

        def group_joint(log_tau):  # both m and the group's mean add to every covariance
            covariance = np.eye(5) + np.exp(2 * log_tau) + 9
            return stats.multivariate_normal.pdf(x, np.zeros(5), covariance) / 2.5

        density, _ = integrate.quad(group_joint, -1.5, 1, epsabs=0, epsrel=1e-11)
        return np.log(density)
    matrix = TASKS[name].matrix
    return stats.multivariate_normal.logpdf(x, np.zeros(4), matrix @ matrix.T + np.eye(4))


def _over_uniform(density, near):
    """The mean of a density over U(-10, 10), which has its peak at ``near``."""
    value, _ = integrate.quad(density, -10, 10, points=[near], epsabs=0, epsrel=1e-11, limit=200)
    return value / 20


def test_log_ratio_is_likelihood_over_evidence(name):
    task, rng = TASKS[name], np.random.default_rng(2)
    simulations = task.simulate(3, random_seed=2)
    ratio = task.estimator()
    for x, theta in zip(simulations.x, simulations.theta[rng.permutation(3)], strict=True):
        expected = log_likelihood(name, x, theta) - log_evidence(name, x)
        got = ratio.log_ratio(x, **ratio.layout.unpack(theta))
        assert got == pytest.approx(expected, abs=1e-8)


def test_likelihood_and_evidence_are_right_one_by_one(name):
    task = TASKS[name]
    simulations = task.simulate(3, random_seed=8)
    for x, theta in zip(simulations.x, simulations.theta, strict=True):
        parameters = simulations.layout.unpack(theta)
        got = task.log_likelihood(x, **parameters)
        assert got == pytest.approx(log_likelihood(name, x, theta), abs=1e-9)
        assert task.log_evidence(x) == pytest.approx(log_evidence(name, x), abs=1e-8)


def test_evidence_sums_to_one(name):
    task, axis = AXES[name]
    dimensions = task.estimator().event_shape
    points = np.stack(np.meshgrid(*[axis] * max((1, *dimensions))), -1)
    points = points.reshape(-1, *dimensions)
    step = (axis[1] - axis[0]) ** points[0].size
    total = step * np.exp(task.log_evidence(points)).sum()
    assert total == pytest.approx(1, abs=1e-6)
    thinned = np.delete(points, np.s_[::10], axis=0)
    assert step * np.exp(task.log_evidence(thinned)).sum() != pytest.approx(1, abs=1e-6)


def test_ratio_has_mean_one_over_the_prior(name):
    # E[r(theta, x)] = 1 over theta ~ prior, for every x.
    # Few draws of the mixture's theta hit its narrow peak: a smaller box, more hits.
    task = tasks.GaussianMixture(half_width=4) if name == "Gaussian mixture" else TASKS[name]
    theta = task.simulate(100_000, random_seed=3).parameters
    ratio = task.estimator()
    for x in observations(name, n=2):
        weights = np.exp(ratio.log_ratio(x, **theta))
        error = weights.std() / len(weights) ** 0.5
        assert abs(weights.mean() - 1) < 5 * error
        assert error < 0.06  # a ratio shifted by 0.3 would be seen
    with pytest.raises(AssertionError):
        assert abs(1.35 * weights.mean() - 1) < 5 * error


def test_ratio_has_mean_one_over_marginal_pairs(name):
    # Over independent pairs r has mean 1, but with Gaussian tails no third moment, so its own
    # average has no honest standard error. Weighted by 1 / (1 + r) it is bounded:
    # E_marginal[r / (1 + r)] = E_joint[1 / (1 + r)].
    task, n = TASKS[name], 50_000
    simulations, ratio = task.simulate(n, random_seed=6), TASKS[name].estimator()
    other = {k: np.roll(v, 1, axis=0) for k, v in simulations.parameters.items()}
    joint = ratio.log_ratio(simulations.x, **simulations.parameters)
    marginal = ratio.log_ratio(simulations.x, **other)

    def check(shift):
        terms = expit(marginal + shift), expit(-joint - shift)
        # pairs that share a draw are at most positively correlated in full: hence the sum of sds
        error = sum(t.std() for t in terms) / n**0.5
        assert abs(terms[0].mean() - terms[1].mean()) < 5 * error

    check(0.0)
    for shift in (-0.3, 0.3):
        with pytest.raises(AssertionError):
            check(shift)


# Hardly any draw from its prior comes near the posterior of ten observations of a mixture.
@pytest.mark.one_python
@pytest.mark.parametrize("name", sorted(set(TASKS) - {"Gaussian mixture"}))
def test_posterior_agrees_with_weighted_prior_draws(name):
    task = TASKS[name]
    x = observations(name)
    exact = task.posterior(x)
    draws = task.simulate(100_000, random_seed=4).parameters
    log_weights = task.estimator().log_ratio(x[:, None], **{k: v[None] for k, v in draws.items()})
    weights = np.exp(log_weights.sum(0) - log_weights.sum(0).max())
    weights /= weights.sum()
    effective = 1 / (weights**2).sum()
    assert effective > 100
    for key, value in draws.items():
        shaped = weights.reshape(-1, *[1] * (value.ndim - 1))
        mean = (shaped * value).sum(0)
        sd = np.sqrt((shaped * (value - mean) ** 2).sum(0))
        # Monte Carlo errors: sd / sqrt(ESS) of a mean, sd / sqrt(2 ESS) of a sd; 5 of them.
        np.testing.assert_array_less(np.abs(mean - exact.mean[key]), 5 * sd / effective**0.5)
        np.testing.assert_array_less(np.abs(sd - exact.sd[key]), 5 * sd / (2 * effective) ** 0.5)


def test_maximum_likelihood_beats_its_neighbors(name):
    task = TASKS[name]
    x = observations(name)
    fit = task.maximum_likelihood(x)
    ratio = task.estimator()

    def total(parameters):
        return ratio.log_ratio(x, **parameters).sum()

    rng = np.random.default_rng(5)
    for _ in range(20):
        near = {k: v + 1e-3 * rng.normal(size=np.shape(v)) for k, v in fit.items()}
        assert total(near) < total(fit)


def test_far_tails_keep_their_digits():
    # Both evidences are differences of normal cdfs; at x = 40 naive ones are 1 - 1 = 0.
    ratio = tasks.GaussianMean().estimator()
    x, mu = np.array([40.0, -40.0]), np.array([10.0, -10.0])
    # p(x) is a Gaussian tail integral: phi(30) / 30 * (1 - 1/900 + ...) / 20
    expected = np.log(20 * 30) + 1 / 900
    np.testing.assert_allclose(ratio.log_ratio(x, mu=mu), expected, atol=1e-5)
    assert np.isfinite(tasks.GaussianMean().log_evidence(np.array([-60.0, 60.0]))).all()


def test_log_likelihood_minus_log_ratio_is_the_evidence(name):
    task = TASKS[name]
    simulations = task.simulate(50, random_seed=9)
    other = {k: np.roll(v, 1, axis=0) for k, v in simulations.parameters.items()}
    x = simulations.x
    for parameters in (simulations.parameters, other):
        difference = task.log_likelihood(x, **parameters) - task.log_ratio(x, **parameters)
        np.testing.assert_allclose(difference, task.log_evidence(x), atol=1e-9)


def test_maximum_likelihood_is_stationary(name):
    x, ratio = observations(name), TASKS[name].estimator()
    fit = ratio.layout.pack(TASKS[name].maximum_likelihood(x)).reshape(1, -1)

    def slope(theta):
        return np.abs(ratio.evaluator.value_and_gradient(theta, x)[1].sum(0)).max()

    # Curvatures are below 1e4 here: a slope of 1e-6 is an error of the fit above 1e-10.
    assert slope(fit) < 1e-6
    assert slope(fit + 1e-4) > 1e-5


def test_far_out_values_and_gradients_are_finite(name):
    ratio = TASKS[name].estimator()
    x = np.asarray(FAR[name], dtype=float)
    for theta in (ratio.domain.lower, ratio.domain.upper):
        value, gradient = ratio.evaluator.value_and_gradient(theta[None], x)
        assert np.isfinite(value).all()
        assert np.isfinite(gradient).all()


def test_head_broadcasts(name):
    network, simulations = TASKS[name].estimator().network, TASKS[name].simulate(7, random_seed=3)
    theta, x = torch.tensor(simulations.theta), torch.tensor(simulations.x)
    features = network.embed(x)
    table = network.head(theta[:, None], features[:5])
    assert table.shape == (7, 5)
    for i in range(7):
        assert torch.allclose(table[i], network.head(theta[i : i + 1], features[:5]), atol=1e-12)
        assert torch.allclose(table[i], network(theta[i : i + 1], x[:5]), atol=1e-12)


def constants(name):
    buffers = TASKS[name]._network().named_buffers()
    return {key: buffer for key, buffer in buffers if not key.startswith("standardize")}


@pytest.mark.parametrize("name", sorted(name for name in TASKS if constants(name)))
def test_constants_are_double_precision(name):
    # a buffer rounded to float32 would stay rounded when the estimator turns it to float64
    assert all(buffer.dtype == torch.float64 for buffer in constants(name).values())


def test_poisson_rate_with_zeros_only():
    task, x = tasks.PoissonRate(), np.zeros(4)
    fit = task.maximum_likelihood(x)
    assert fit["rate"] == 0
    # r = 1 / p(0), and p(0) = (b / (1 + b))^a with a = 2, b = 1/2
    np.testing.assert_allclose(task.log_ratio(x, **fit), 2 * np.log(3), atol=1e-12)
    assert task.log_likelihood(x, 0.0).tolist() == [0.0] * 4
    # Gamma(2, rate 4.5)
    assert task.posterior(x).mean["rate"] == pytest.approx(2 / 4.5)
    assert task.posterior(x).sd["rate"] == pytest.approx(2**0.5 / 4.5)


def mixture_posterior(x, half_width=10.0, narrow=0.1):
    """Moments by the sum over all 2^n labels, each a product of two truncated normals."""
    labels = np.array(list(product([1.0, narrow**-2], repeat=len(x))))  # precisions
    total = labels.sum(1, keepdims=True)
    center, sd = labels @ x / total, total**-0.5
    log_weight = np.log(labels).sum(1) - np.log(total[:, 0])
    log_weight += 0.5 * (total * center**2).sum(1) - 0.5 * labels @ (x**2).sum(1)
    ends = (-half_width - center) / sd, (half_width - center) / sd
    with np.errstate(divide="ignore"):  # labels that would put theta out of the box
        log_weight += np.log(stats.norm.cdf(ends[1]) - stats.norm.cdf(ends[0])).sum(1)
    weight = np.exp(log_weight - logsumexp(log_weight))[:, None]
    mean, variance = stats.truncnorm.stats(*ends, loc=center, scale=sd, moments="mv")
    overall = (weight * mean).sum(0)
    return overall, np.sqrt((weight * (variance + (mean - overall) ** 2)).sum(0))


@pytest.mark.one_python
@pytest.mark.parametrize("n", [1, 2, 10])
@pytest.mark.parametrize("theta", [(0.5, -1.0), (9.9, -3.0)], ids=["inside", "at the edge"])
@pytest.mark.parametrize("narrow", [0.1, 0.3])
def test_mixture_posterior_is_the_sum_over_labels(n, theta, narrow):
    task = tasks.GaussianMixture(narrow=narrow)
    for seed in range(2):
        x = task.simulator(np.random.default_rng(seed), np.tile(theta, (n, 1)))
        posterior = task.posterior(x)
        mean, sd = mixture_posterior(x, narrow=narrow)
        np.testing.assert_allclose(posterior.mean["theta"], mean, rtol=0, atol=1e-9)
        np.testing.assert_allclose(posterior.sd["theta"], sd, rtol=1e-9)
    wrong = mixture_posterior(x, narrow=1.01 * narrow)[1]
    assert np.abs(wrong / posterior.sd["theta"] - 1).max() > 1e-5


def test_mixture_maximum_is_the_highest_of_many():
    # Three observations agree, two others do, and a pair is so close that it wins.
    x = np.array([[0, 0], [0.3, 0], [0, 0.3], [4, 4], [4.2, 4], [-3, 3], [-3, 3.01]], dtype=float)
    task = tasks.GaussianMixture()
    fit = task.maximum_likelihood(x)["theta"]

    def total(theta):
        return task.log_likelihood(x, theta[..., None, :]).sum(-1)

    axis = np.linspace(-10, 10, 1001)
    on_grid = total(np.stack(np.meshgrid(axis, axis), -1)).ravel()
    # grid steps of 0.02 around a peak of sd 0.1 / sqrt(7) at the least: at most 0.07 below it
    assert on_grid.max() <= total(fit) < on_grid.max() + 0.07
    np.testing.assert_allclose(task._em_step(x, fit[None])[0], fit, atol=1e-10)


def test_mixture_maximum_stays_in_the_box():
    fit = tasks.GaussianMixture().maximum_likelihood(np.array([[12.0, 0.0]]))
    np.testing.assert_allclose(fit["theta"], [10.0, 0.0], atol=1e-9)


def test_groups_that_hardly_vary_have_the_least_scale():
    task = tasks.HierarchicalGaussian()
    x = np.random.default_rng(1).normal(size=(6, 5))
    x += 0.5 - x.mean(-1, keepdims=True)
    fit = task.maximum_likelihood(x)
    assert fit["m"] == pytest.approx(0.5)
    assert fit["log_tau"] == -1.5
    for log_tau in (-1.4, 0.0, 1.0):
        inside = task.log_likelihood(x, fit["m"], log_tau).sum()
        assert inside < task.log_likelihood(x, **fit).sum()


def test_group_posterior_does_not_depend_on_the_quadrature():
    task = tasks.HierarchicalGaussian()
    x = task.simulator(np.random.default_rng(2), np.full(3_000, 1.0), np.full(3_000, 0.3))
    default, finer, coarse = (task.posterior(x, nodes) for nodes in (400, 1_000, 20))
    for key in ("m", "log_tau"):
        assert default.mean[key] == pytest.approx(finer.mean[key], rel=1e-9)
        assert default.sd[key] == pytest.approx(finer.sd[key], rel=1e-9)
    assert coarse.sd["log_tau"] != pytest.approx(finer.sd["log_tau"], rel=1e-2)


def uniforms(name, x, theta):
    """Probability integral transforms of ``x`` ``(n, *event)``: uniform if it fits theta."""
    if name == "Gaussian mean":
        return [stats.norm.cdf(x, theta[:, 0])]
    if name == "location-scale":
        return [stats.norm.cdf(x, theta[:, 0], np.exp(theta[:, 1]))]
    if name == "linear Gaussian":
        return list(stats.norm.cdf(x, theta @ TASKS[name].matrix.T).T)
    if name == "Poisson rate":
        u, rate = np.random.default_rng(1).uniform(size=len(x)), theta[:, 0]
        return [stats.poisson.cdf(x - 1, rate) + u * stats.poisson.pmf(x, rate)]
    if name == "Gaussian mixture":
        squares = ((x - theta) ** 2).sum(-1)
        radius = (stats.chi2.cdf(squares, 2) + stats.chi2.cdf(squares / 0.01, 2)) / 2
        angle = np.arctan2(*(x - theta).T)
        return [radius, angle / (2 * np.pi) + 0.5]
    mean, (m, log_tau), k = x.mean(-1), theta.T, x.shape[-1]
    within = ((x - mean[:, None]) ** 2).sum(-1)
    between = stats.norm.cdf(mean, m, np.sqrt(np.exp(2 * log_tau) + 1 / k))
    return [between, stats.chi2.cdf(within, k - 1)]


def smallest_p_value(transforms):
    return min(stats.kstest(u, "uniform").pvalue for u in transforms)


def test_simulator_draws_from_the_likelihood(name):
    simulations = TASKS[name].simulate(20_000, random_seed=7)
    x, theta = simulations.x, simulations.theta
    # at most four tests at 1e-4: a right simulator fails once in 2,500 seeds
    assert smallest_p_value(uniforms(name, x, theta)) > 1e-4
    assert smallest_p_value(uniforms(name, x, theta + 0.1)) < 1e-4


def test_model_with_the_latent_is_the_same_problem():
    model = tasks.HierarchicalGaussian().model()
    assert [v.name for v in model.free_RVs] == ["m", "log_tau", "mu_g", "x"]
    assert not model.observed_RVs
    m, log_tau, mu_g, x = pm.draw(model.free_RVs, draws=20_000, random_seed=1)
    assert x.shape == (20_000, 5)

    def around_the_latent(mu_g):
        tau = np.exp(log_tau)
        latent = stats.norm.cdf(mu_g, m, tau)
        # small and large tau apart: errors of opposite sign would cancel
        halves = latent[log_tau < -0.25], latent[log_tau > -0.25]
        return [*halves, stats.norm.cdf(x.mean(-1), mu_g, 5**-0.5)]

    prior = [stats.norm.cdf(m / 3), (log_tau + 1.5) / 2.5]
    marginal = uniforms("hierarchical Gaussian", x, np.stack([m, log_tau], -1))
    assert smallest_p_value([*prior, *marginal, *around_the_latent(mu_g)]) > 1e-4
    # a latent that is drawn anew is not the one of the group
    assert smallest_p_value(around_the_latent(np.roll(mu_g, 1))) < 1e-4


def test_a_task_is_not_drawn_into_an_open_model():
    with pm.Model() as model:
        pm.Normal("mu")
        ratio = tasks.GaussianMean().estimator()
    assert list(ratio.parameters) == ["mu"]
    assert [variable.name for variable in model.free_RVs] == ["mu"]


SHAPES = {name: task.estimator().parameters for name, task in TASKS.items()}


@pytest.mark.parametrize("method", ["posterior", "maximum_likelihood"])
@pytest.mark.parametrize("name", TASKS)
def test_answers_are_about_one_data_set_without_holes(name, method):
    task, event = TASKS[name], TASKS[name].estimator().event_shape
    x = np.arange(1.0, 1 + 3 * int(np.prod(event))).reshape(3, *event)
    expected, single = (getattr(task, method)(one) for one in (x, x.astype(np.float32)))
    assert str(single) == str(expected)
    masked = np.ma.array(x, mask=x == 1)
    for bad, said in (
        (x[0], "x: expected one data set"),
        (x[None], "x: expected one data set"),
        (x[:0], "x: expected one data set"),
        (masked, "x: 1 of .* masked"),
        (masked.filled(np.nan), "x: 1 of .* NaN"),
        (x + 1j, "x: expected real numbers"),
        (None, "x: expected real numbers, got None"),
    ):
        with pytest.raises((TypeError, ValueError), match=f"^{method}: {said}"):
            getattr(task, method)(bad)


@pytest.mark.parametrize("name", TASKS)
def test_likelihoods_are_of_arrays_that_fit(name):
    task, own = TASKS[name], SHAPES[name]
    event = task.estimator().event_shape
    theta = {k: np.ones(shape) for k, shape in own.items()}
    expected = task.log_likelihood(np.ones((2, *event)), **theta)
    lists = {k: value.tolist() for k, value in theta.items()}
    np.testing.assert_array_equal(
        task.log_likelihood(np.ones((2, *event)).tolist(), **lists), expected
    )
    with pytest.raises(ValueError, match=r"^log_likelihood: x: 1 of 1 values are masked"):
        task.log_likelihood(np.ma.array([1.0], mask=True), **theta)
    first = next(iter(own))
    with pytest.raises(ValueError, match=r"^log_likelihood: the batches of x, "):
        task.log_likelihood(np.ones((2, *event)), **theta | {first: np.ones((3, *own[first]))})
    with pytest.raises(TypeError, match=f"^log_likelihood: {first}: expected real numbers"):
        task.log_likelihood(np.ones(event), **theta | {first: None})
    with pytest.raises(TypeError, match=r"^log_evidence: x: expected numbers"):
        task.log_evidence("1")


POSITIVE = "expected a number above 0 and finite"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: tasks.GaussianMean(0), f"half_width: {POSITIVE}, got 0"),
        (lambda: tasks.GaussianMean(np.nan), f"half_width: {POSITIVE}, got nan"),
        (lambda: tasks.LocationScale(5, "1"), "log_range: expected a number, got '1'"),
        (lambda: tasks.LinearGaussian(-1), "noise: expected a number above 0"),
        (lambda: tasks.PoissonRate(mean=np.inf), f"mean: {POSITIVE}, got inf"),
        (lambda: tasks.GaussianMixture(narrow=None), "narrow: expected a number, got None"),
        (lambda: tasks.HierarchicalGaussian(2.5), "size: expected a whole number, got 2.5"),
        (lambda: tasks.HierarchicalGaussian(log_tau_range=(1, -1)), "log_tau_range: .*a pair"),
        (lambda: tasks.HierarchicalGaussian(log_tau_range=(1, np.nan)), "log_tau_range: 1 of 2"),
        (lambda: tasks.LocationScale().posterior([1.0, 2.0], grid=2.5), "grid: expected a whole"),
        (lambda: tasks.HierarchicalGaussian().posterior(np.ones((1, 5)), 0), "nodes: expected at"),
        (lambda: tasks.LocationScale().maximum_likelihood([1.0, 1.0]), "observations that differ"),
    ],
)
def test_settings_of_tasks_are_numbers(make, said):
    with pytest.raises((TypeError, ValueError), match=said):
        make()


def test_whole_numbers_of_any_kind_make_the_same_task():
    same = tasks.HierarchicalGaussian(np.int64(5), 3, [-1.5, 1])
    assert same == tasks.HierarchicalGaussian()
    assert hash(same) == hash(tasks.HierarchicalGaussian())
