"""Grids against exact posteriors, under priors other than the training one.

Their error is known: sums over midpoints are exact to 1e-6 for posteriors that fall to zero
(the box ends where the density is e^-18 of its maximum), and to the square of a cell where a
prior cuts them off.
"""

import numpy as np
import pymc as pm
import pytest
import xarray as xr
from many_data_sets import (
    GAUSSIAN,
    MEAN,
    NORMAL,
    SIGMAS,
    conjugate,
    data_sets,
    integer_ratio,
    standard_error,
)
from scipy import stats
from scipy.special import logsumexp
from untrained import make_estimator

import pymc_nre as nre
from pymc_nre import PosteriorWarning, posterior_grid, resample, weighted_draws
from pymc_nre.amortized import data_sets as module_of_data_sets
from pymc_nre.amortized import grid as tabulate

POISSON = nre.tasks.PoissonRate().estimator()
SCALE_TASK = nre.tasks.LocationScale()
SCALE = SCALE_TASK.estimator()
RTOL = 1e-5  # of a posterior sd; PyTensor holds some constants in float32, and e^-18 is cut off


def in_sds(got, mean, sd):
    """Largest error of mean and sd in units of the exact sd."""
    error = np.abs(got["mean"].values[..., 0] - mean) / sd
    return max(np.max(error), np.max(np.abs(got["sd"].values[..., 0] / sd - 1)))


@pytest.mark.parametrize("trials", [1, 10, 1_000])
def test_grids_are_exact_under_another_prior(trials):
    x = data_sets(7, trials)
    got = posterior_grid(MEAN, x, {"mu": pm.Normal.dist(1, 2)}, trials=True)
    assert got.sizes["mu_point"] == 200
    assert in_sds(got, *conjugate(x, 1, 2)) < RTOL
    # Twin: the right data under a prior that differs by a tenth
    assert in_sds(got, *conjugate(x, 1.1, 2)) > RTOL


def test_batches_keep_their_shape_and_order():
    x = data_sets(6, 1).reshape(2, 3)
    got = posterior_grid(MEAN, x, {"mu": pm.Normal.dist(1, 2)}, points=100)
    assert got["density"].dims == ("x_dim_0", "x_dim_1", "mu_point")
    assert got["density"].shape == (2, 3, 100)
    assert in_sds(got, *conjugate(x[..., None], 1, 2)) < RTOL
    single = posterior_grid(MEAN, x[1, 2], {"mu": pm.Normal.dist(1, 2)}, points=100)
    assert single["density"].dims == ("mu_point",)
    np.testing.assert_allclose(single["density"], got["density"][1, 2])


def test_names_of_a_data_array_are_kept():
    x = xr.DataArray(data_sets(3, 4), dims=("star", "night"), coords={"star": list("abc")})
    got = posterior_grid(MEAN, x, {"mu": pm.Normal.dist(0, 3)}, trials=True)
    assert got["mean"].dims == ("star", "parameter")
    assert got.sel(star="b")["mean"].item() == pytest.approx(conjugate(x.values, 0, 3)[0][1])
    weighted = weighted_draws(MEAN, x, trials=True, random_seed=1)
    idata = resample(weighted, draws=50, chains=2, random_seed=1)
    assert idata["posterior"]["mu"].dims == ("chain", "draw", "star")
    assert list(idata["posterior"]["star"].values) == list("abc")


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda x: posterior_grid(MEAN, x, {"mu": pm.Normal.dist()}, trials=True), "mu_point"),
        (lambda x: posterior_grid(MEAN, x, {"mu": pm.Normal.dist()}, trials=True), "mean"),
        (lambda x: weighted_draws(MEAN, x, trials=True), "mu"),
        (lambda x: weighted_draws(MEAN, x, trials=True), "chain"),
    ],
)
def test_names_of_the_result_are_refused(call, name):
    x = xr.DataArray(data_sets(3, 4), dims=(name, "night"))
    beside = xr.DataArray(x.values, dims=("star", "night"), coords={"star": [1, 2, 3], name: 0.5})
    for data in (x, beside):
        with pytest.raises(ValueError, match=f"its result has {name} of its own"):
            call(data)


def test_densities_quantiles_and_evidence():
    x = data_sets(4, 10)
    got = posterior_grid(
        MEAN, x, {"mu": pm.Normal.dist(1, 2)}, trials=True, quantiles=(0.1, 0.5, 0.975)
    )
    mean, sd = conjugate(x, 1, 2)
    exact = stats.norm(mean[:, None], sd)
    np.testing.assert_allclose(got["density"], exact.pdf(got["mu_grid"]), atol=1e-5 / sd)
    # A cell is about 0.1 sd, within which mass is taken as even: an error of (cell^2 / 8) |f'|
    error = np.abs(got["quantile"][..., 0] - exact.ppf([0.1, 0.5, 0.975])) / sd
    assert error.max() < 2e-3
    covariance = np.eye(10) + 4.0
    log_p = stats.multivariate_normal(np.full(10, 1.0), covariance).logpdf(x)
    expected = log_p - GAUSSIAN.log_evidence(x).sum(-1)
    np.testing.assert_allclose(got["log_evidence"], expected, rtol=1e-5)


@pytest.mark.parametrize("n", [1, 10])
def test_counts_under_another_prior(n):
    x = np.random.default_rng(n).poisson(3.0, (5, n))
    got = posterior_grid(POISSON, x, {"rate": pm.Gamma.dist(3, 1)}, trials=True)
    exact = stats.gamma(3 + x.sum(-1), scale=1 / (1 + n))
    # The domain begins at the 5e-5 quantile of the training prior, 0.02: 1e-6 of the mass
    assert in_sds(got, exact.mean(), exact.std()) < 1e-4
    wrong = stats.gamma(2 + x.sum(-1), scale=1 / (1 + n))
    assert in_sds(got, wrong.mean(), wrong.std()) > 1e-2


@pytest.mark.parametrize("n", [10, 40])
def test_two_numbers(n):
    x = np.random.default_rng(n).normal(1.0, 0.8, n)
    got = posterior_grid(SCALE, x, SCALE_TASK.prior(), trials=True)
    exact = SCALE_TASK.posterior(x)
    for name in ("mu", "log_sigma"):
        sd = exact.sd[name]
        chosen = got.sel(parameter=name)
        # The task's own grid is cut at ten standard deviations; the domain cuts 1e-4 of the prior
        assert abs(chosen["mean"] - exact.mean[name]) < 1e-3 * sd
        assert abs(chosen["sd"] / sd - 1) < 1e-3
    step = [np.diff(got[f"{name}_grid"])[0] for name in ("mu", "log_sigma")]
    assert got["density"].dims == ("mu_point", "log_sigma_point")
    assert got["density"].shape == (80, 80)
    assert float(got["density"].sum()) * step[0] * step[1] == pytest.approx(1)


def test_a_vector_of_length_two_is_two_numbers():
    vector = nre.RatioEstimator(
        SCALE.network, {"theta": (2,)}, domain=SCALE.domain, probe_x=SCALE.probe_x
    )
    x = np.random.default_rng(1).normal(0.5, 1.0, 10)
    prior = {"theta": pm.Normal.dist(0, [1, 0.2])}
    apart = {"mu": pm.Normal.dist(0, 1), "log_sigma": pm.Normal.dist(0, 0.2)}
    got = posterior_grid(vector, x, prior, trials=True, points=30)
    assert got["density"].dims == ("theta[0]_point", "theta[1]_point")
    expected = posterior_grid(SCALE, x, apart, trials=True, points=30)
    np.testing.assert_allclose(got["mean"], expected["mean"], rtol=1e-6)
    bounds = {"theta": ([-1.5, -0.9], [2.5, 0.9])}
    fixed = posterior_grid(vector, x, prior, trials=True, points=30, bounds=bounds)
    assert fixed["theta[1]_grid"].dims == ("theta[1]_point",)
    np.testing.assert_allclose(fixed["mean"], expected["mean"], atol=1e-3)


def test_a_prior_cuts_the_posterior_where_it_ends():
    x = np.array([1.0, 4.0])
    with pm.Model() as prior:
        pm.Uniform("mu", 1.3, 2.1)
    got = posterior_grid(MEAN, x, prior)

    def exact(upper):
        cut = [stats.truncnorm(1.3 - v, upper - v, loc=v) for v in x]
        return np.array([c.mean() for c in cut]), np.array([c.std() for c in cut])

    assert in_sds(got, *exact(2.1)) < 1e-4  # 200 cells: (1/200)^2, and the cut is found to 1e-6
    assert in_sds(got, *exact(2.11)) > 1e-3
    assert not got["cut"].any()


@pytest.mark.parametrize(("center", "spread"), [(3.0, 1e-4), (0.0, 1.0)])
def test_narrow_and_conflicting_priors_are_found(center, spread):
    """A prior between the points of any coarse grid; data eight prior sds away."""
    x = np.full((1, 10), 8.0)
    got = posterior_grid(MEAN, x, {"mu": pm.Normal.dist(center, spread)}, trials=True)
    assert in_sds(got, *conjugate(x, center, spread)) < 1e-3  # float32 constants: 1e-7 of 3.0


def test_a_prior_that_depends_within_itself():
    with pm.Model() as prior:
        log_sigma = pm.Normal("log_sigma", 0, 0.3)
        pm.Normal("mu", 0, pm.math.exp(log_sigma))
        pm.Normal("not_a_parameter", 0, 1)
    x = np.random.default_rng(1).normal(0.5, 1.0, 5)
    grid = posterior_grid(SCALE, x, prior, trials=True)
    weighted = weighted_draws(SCALE, x, prior, trials=True, draws=20_000, random_seed=1)
    assert np.all(np.abs(grid["mean"] - weighted["mean"]) < SIGMAS * standard_error(weighted))


def test_integers_have_a_point_each():
    x = np.array([0.3, 5.0])
    got = posterior_grid(integer_ratio(), x, {"mu": pm.DiscreteUniform.dist(-3, 8)})
    integers = np.arange(-3, 9)
    log_p = stats.norm.logpdf(x[:, None], integers)
    exact = np.exp(log_p - logsumexp(log_p, axis=1, keepdims=True))
    np.testing.assert_array_equal(got["mu_grid"][0], integers)
    np.testing.assert_allclose(got["density"], exact, rtol=1e-6)
    np.testing.assert_array_equal(got["quantile"].sel(probability=0.5, parameter="mu"), [0, 5])
    assert not got["cut"].any()


@pytest.fixture
def tables(monkeypatch):
    """The shapes (observations, parameters) of the log ratios that are asked for at once."""
    shapes = []
    evaluate = type(MEAN.evaluator).table

    def table(self, theta, x):
        found = evaluate(self, theta, x)
        shapes.append(found.shape)
        return found

    monkeypatch.setattr(type(MEAN.evaluator), "table", table)
    return shapes


@pytest.mark.parametrize(
    ("pairs", "chunk", "observations"),
    [(2**18, 2**19, 12), (2**18, 50, 3), (5, 2**19, 1), (120, 2**19, 3)],
)
def test_chunks_change_nothing(pairs, chunk, observations, monkeypatch, tables):
    x, prior = data_sets(4, 3), {"mu": pm.Normal.dist(0, 3)}
    whole = posterior_grid(MEAN, x, prior, trials=True, points=50)
    weights = weighted_draws(MEAN, x, trials=True)
    tables.clear()
    monkeypatch.setattr(module_of_data_sets, "_PAIRS", pairs)
    monkeypatch.setattr(tabulate, "_CHUNK", chunk)
    parts = posterior_grid(MEAN, x, prior, trials=True, points=50)
    xr.testing.assert_allclose(whole, parts, rtol=1e-9)
    assert max(rows for rows, _ in tables) == observations
    xr.testing.assert_allclose(weights, weighted_draws(MEAN, x, trials=True), rtol=1e-9)


def test_no_batch_is_larger_than_asked_for(monkeypatch, tables):
    monkeypatch.setattr(module_of_data_sets, "_PAIRS", 10_000)
    posterior_grid(MEAN, np.zeros((300, 30)), {"mu": pm.Normal.dist(0, 3)}, trials=True, points=50)
    assert 5_000 < max(rows * points for rows, points in tables) <= 10_000


def test_priors_beyond_the_domain_are_told_and_cut():
    prior = {"mu": pm.Normal.dist(0, 10)}
    with pytest.warns(nre.DomainWarning, match=r"[23]\d\.\d% of this model's prior lies outside"):
        got = posterior_grid(MEAN, 0.0, prior)
    assert abs(got["mu_grid"]).max() < 10
    with pytest.warns(nre.DomainWarning, match="weighted_draws"):
        got = weighted_draws(MEAN, 0.0, prior, random_seed=1)
    assert got["weight"].values[np.abs(got["mu"]) > 10].max() == 0
    assert got["weight"].values[np.abs(got["mu"]) < 1].min() > 0


def test_posteriors_at_the_edge_are_flagged():
    with (
        pytest.warns(nre.DomainWarning),
        pytest.warns(PosteriorWarning, match=r"1 of 2 posteriors .* training domain.*wider prior"),
    ):
        got = posterior_grid(MEAN, [0.0, 10.5], {"mu": pm.Normal.dist(0, 10)})
    np.testing.assert_array_equal(got["cut"][:, 0], [[False, False], [False, True]])
    with pytest.warns(PosteriorWarning, match=r"by the bounds .*mu at 1 \(1\).*Widen"):
        posterior_grid(MEAN, 0.0, {"mu": pm.Normal.dist(0, 3)}, bounds={"mu": (-9, 1)})


def test_cells_too_wide_are_told():
    x = np.full(1_000, 0.123)
    with pytest.warns(PosteriorWarning, match=r"1 of 1 posteriors are narrower.*Raise points="):
        posterior_grid(MEAN, x, GAUSSIAN.prior(), trials=True, bounds={"mu": (-9, 9)})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: posterior_grid(
                make_estimator(), 0.0, {"mu": pm.Normal.dist(), "beta": pm.Normal.dist(shape=2)}
            ),
            r"has 3: mu, beta\[0\].*weighted_draws",
        ),
        (lambda: posterior_grid(MEAN, 0.0, NORMAL, trials=True), "Leave trials=True out"),
        (lambda: posterior_grid(MEAN, [np.nan], NORMAL), "x: 1 of 1 values are NaN or infinite"),
        (lambda: posterior_grid(MEAN, [], NORMAL), "at least one observation"),
        (lambda: posterior_grid(MEAN, 0.0, {"mu": pm.Normal.dist(shape=3)}), r"has shape \(3,\)"),
        (lambda: posterior_grid(MEAN, 0.0, NORMAL, points=1), "at least 2, got 1"),
        (lambda: posterior_grid(MEAN, 0.0, NORMAL, bounds={"mu": (1, 1)}), "lower < upper"),
        (lambda: posterior_grid(integer_ratio(), 0.0, NORMAL), "must be discrete"),
        (lambda: weighted_draws(MEAN, 0.0, NORMAL, draws=0), "at least 1, got 0"),
        (lambda: weighted_draws(make_estimator({"sd": ()}), 0.0), "cannot be called sd"),
        (lambda: resample(xr.Dataset(), draws=0), "resample: draws: expected at least 1, got 0"),
        (lambda: resample(xr.Dataset(), chains=0), "resample: chains: expected at least 1"),
        (lambda: resample(weights(np.nan)), "weighted: 1 of 2 values are NaN"),
        (lambda: resample(weights(-0.5)), "none is negative"),
        (lambda: resample(weights(1.0).isel(draw=[])), "weighted: expected draws of data sets"),
        (lambda: posterior_grid(MEAN, 0.0, NORMAL, quantiles=(5, 50, 95)), "quantiles: expected"),
        (lambda: posterior_grid(MEAN, 0.0, NORMAL, quantiles=[np.nan]), "quantiles: expected"),
        (
            lambda: posterior_grid(MEAN, 0.0, NORMAL, bounds={"mu": (1, 2, 3)}),
            "a pair .*got",
        ),
        (
            lambda: posterior_grid(MEAN, 0.0, NORMAL, bounds={"mu": ([1, 2], 3)}),
            "a pair .*got",
        ),
        (lambda: posterior_grid(MEAN, 0.0, NORMAL, bounds={"mu": (np.nan, 3)}), "finite pairs"),
    ],
)
def test_what_cannot_be_done_is_said(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def weights(value):
    return xr.Dataset({"weight": ("draw", [value, 1.0]), "mu": ("draw", [0.0, 1.0])})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: posterior_grid(MEAN, 0.0, NORMAL, points=10.5), "points: expected a whole number"),
        (lambda: posterior_grid(MEAN, [0.0], NORMAL, trials=1), "trials: expected True or False"),
        (lambda: posterior_grid(MEAN, None, NORMAL), "x: expected real numbers, got None"),
        (lambda: posterior_grid(MEAN, 0.0, NORMAL, quantiles="5"), "quantiles: expected numbers"),
        (lambda: posterior_grid(MEAN, 0.0, NORMAL, bounds=[("mu", 1)]), "bounds: .*by name"),
        (lambda: posterior_grid(MEAN, 0.0, NORMAL, bounds={"mu": 1}), "bounds: mu: .* a pair"),
        (lambda: posterior_grid(MEAN, 0.0, None), "prior must be"),
        (lambda: weighted_draws(MEAN, np.array([1j]), NORMAL), "weighted_draws: x: .* complex"),
        (lambda: weighted_draws(MEAN, 0.0, NORMAL, draws=10.5), "draws: expected a whole number"),
        (lambda: weighted_draws(MEAN, 0.0, NORMAL, draws="10"), "draws: expected a whole number"),
        (lambda: resample(weights(1.0), draws=2.5), "draws: expected a whole number"),
        (lambda: resample(weights(1.0), chains=True), "chains: expected a whole number"),
        (lambda: resample(xr.Dataset()), "weighted: expected the dataset that weighted_draws"),
        (lambda: resample(np.ones(3)), "weighted: expected the dataset .* got ndarray"),
    ],
)
def test_what_is_of_another_kind_is_said(call, message):
    with pytest.raises(TypeError, match=message):
        call()


def test_quantiles_and_counts_may_be_of_any_numbers():
    got = posterior_grid(MEAN, 0.0, NORMAL, points=50.0, quantiles=(0, np.float32(0.5), 1))
    np.testing.assert_array_equal(got["probability"], [0, 0.5, 1])
    assert got.sizes["mu_point"] == 50
    assert resample(weights(1.0), draws=1e1)["posterior"].sizes["draw"] == 10


def test_wrong_names_are_said():
    with pytest.raises(TypeError, match="prior: expected the parameters mu, got missing mu"):
        posterior_grid(MEAN, 0.0, {"nu": pm.Normal.dist()})
    with pytest.raises(TypeError, match="bounds: expected the parameters mu, got unknown nu"):
        posterior_grid(MEAN, 0.0, NORMAL, bounds={"mu": (0, 1), "nu": (0, 1)})


def test_priors_that_take_an_integral_are_refused_by_grids_only():
    with pm.Model() as prior:
        tau = pm.HalfNormal("tau", 1)
        pm.Normal("mu", 0, tau)
    with pytest.raises(ValueError, match=r"depends on tau.*Use weighted_draws"):
        posterior_grid(MEAN, 0.0, prior)
    assert weighted_draws(MEAN, 0.0, prior, random_seed=1)["ess"] > 100


def test_priors_apart_from_the_domain_are_refused():
    with (
        pytest.warns(nre.DomainWarning),
        pytest.raises(ValueError, match="The prior has no mass in the range"),
    ):
        posterior_grid(MEAN, 0.0, {"mu": pm.Uniform.dist(20, 30)})


def test_masked_data_are_refused():
    x = np.ma.array([1.0, 5.0], mask=[False, True])
    with pytest.raises(ValueError, match="posterior_grid: x: 1 of 2 values are masked"):
        posterior_grid(MEAN, x, {"mu": pm.Normal.dist(0, 3)})


def test_a_prior_with_a_parent_without_a_name_is_refused_by_grids():
    prior = {"mu": pm.Normal.dist(0, pm.HalfNormal.dist(3))}
    with pytest.raises(ValueError, match="depends on random variables without a name"):
        posterior_grid(MEAN, np.zeros(2), prior)


def test_what_tells_of_tails_is_there_of_a_grid(caplog):
    told = pytest.warns(nre.PosteriorWarning, match="The variable cut says which")
    with told, caplog.at_level("INFO", logger="pymc_nre"):
        found = posterior_grid(MEAN, [0.0, 9.9], {"mu": pm.Normal.dist(0, 6)}, points=100)
    (said,) = (r.message for r in caplog.records if "in its tails" in r.message)
    assert said.endswith("is told by a warning and by the variable cut of what comes back.")
    assert "domain_check" not in said
    assert found["cut"].any()
