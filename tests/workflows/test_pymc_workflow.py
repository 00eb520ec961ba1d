"""PyMC's workflow around a ratio: samplers, approximations, predictions, comparisons.

Ratios are exact, and x ~ Normal(mu, 1) with mu ~ Normal(0, 1) has an exact posterior. Chains
are short: tolerances are five standard errors at the effective sample size.
"""

import warnings

import arviz as az
import numpy as np
import pymc as pm
import pytest
import torch
import xarray as xr
from scipy import stats
from searches import searched

import pymc_nre as nre
from pymc_nre.estimators.domain import Domain
from pymc_nre.networks import RatioNetwork

RATIO = nre.tasks.GaussianMean().estimator()
X = np.random.default_rng(1).normal(0.5, 1.0, 20)
T = np.linspace(-1, 1, 20)
MEAN, SD = X.sum() / (1 + len(X)), (1 + len(X)) ** -0.5  # of mu given X


def with_ratio(name, mu, **options):
    return nre.RatioLikelihood(name, RATIO, mu=mu, **options)


def with_density(name, mu, **options):
    return pm.Normal(name, mu, 1, **options)


def conjugate(likelihood=with_ratio, x=X, **options):
    with pm.Model() as model:
        likelihood("x", pm.Normal("mu", 0, 1), observed=pm.Data("data", x), **options)
    return model


def assert_posterior(idata, mean, sd, name="mu"):
    draws, ess = idata["posterior"][name].to_numpy(), az.ess(idata)[name].item()
    assert ess > 50
    assert draws.mean() == pytest.approx(mean, abs=5 * sd / ess**0.5)
    # The standard error of a normal's standard deviation is sd / sqrt(2 n).
    assert draws.std() == pytest.approx(sd, abs=5 * sd / (2 * ess) ** 0.5)


QUIET = {"progressbar": False, "random_seed": 1, "cores": 1}
SHORT = QUIET | {"tune": 400, "draws": 600, "chains": 1, "compute_convergence_checks": False}

# --- samplers ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"nuts_sampler": "pymc"},
        {"step": pm.HamiltonianMC},
        {"step": pm.Slice},
        {"step": pm.Metropolis, "draws": 3_000},
        {"step": pm.DEMetropolisZ, "draws": 3_000},
    ],
    ids=["NUTS", "HamiltonianMC", "Slice", "Metropolis", "DEMetropolisZ"],
)
def test_samplers(options):
    with conjugate():
        step = {"step": options["step"]()} if "step" in options else {}
        idata = pm.sample(**SHORT | options | step)
    assert_posterior(idata, MEAN, SD)
    with pytest.raises(AssertionError):  # the twin: half of the prior's pull is missed
        assert_posterior(idata, MEAN + 2 * SD, SD)


def narrow_model(**options):
    """The jitter of starts, up to one for each of ten means, leads out of a domain of +-0.1."""
    ratio = nre.tasks.GaussianMean(0.1).estimator()
    with pm.Model() as model:
        mu = pm.Normal("mu", 0, 0.02, shape=10)
        nre.RatioLikelihood("x", ratio, mu=mu, observed=np.zeros(10), **options)
    return model


def test_starts_outside_of_the_domain_find_in():
    options = SHORT | {"nuts_sampler": "pymc", "draws": 100}
    rejecting = narrow_model(outside="reject")
    with pytest.raises(pm.exceptions.SamplingError, match="Initial evaluation of model"):
        pm.sample(model=rejecting, **options)
    for found in (
        pm.sample(model=narrow_model(), **options),
        pm.sample(model=rejecting, init="adapt_diag", **options),
    ):
        assert abs(found["posterior"]["mu"].to_numpy()).max() < 0.1


def test_smc():
    with conjugate():
        idata = pm.sample_smc(draws=1_000, chains=2, **QUIET, compute_convergence_checks=False)
    assert_posterior(idata, MEAN, SD)


class Shifted(RatioNetwork):
    """x ~ Normal(k + shift, 1) against x ~ Normal(0, 1)."""

    def embed(self, x):
        return x.reshape(len(x), 1)

    def head(self, theta, features):
        x = features[..., 0]
        return 0.5 * x**2 - 0.5 * (x - theta.sum(-1)) ** 2


def integer_ratio():
    rng = np.random.default_rng(1)
    theta = np.column_stack([rng.uniform(-2, 8, 20_000), rng.normal(0, 1, 20_000)])
    return nre.RatioEstimator(
        Shifted(2, ()).double(), {"k": (), "shift": ()},
        domain=Domain.from_draws(theta), probe_x=rng.normal(size=20),
    )  # fmt: skip


def test_compound_steps_with_an_integer_parameter():
    x = np.array([2.2, 3.1, 2.9])
    with pm.Model():
        k, shift = pm.DiscreteUniform("k", 0, 5), pm.Normal("shift", 0, 0.5)
        nre.RatioLikelihood("x", integer_ratio(), k=k, shift=shift, observed=x)
        idata = pm.sample(**SHORT | {"draws": 1_500, "nuts_sampler": "pymc"})
    assert "tree_depth" in idata["sample_stats"]  # NUTS for the shift
    # The mean of x given k is Normal(k, sqrt(0.5^2 + 1 / 3)).
    weights = stats.norm.pdf(x.mean(), np.arange(6), (0.25 + 1 / 3) ** 0.5)
    exact = weights / weights.sum()
    drawn = idata["posterior"]["k"]
    for value in (2, 3):
        hit = (drawn == value).astype(float)
        ess = az.ess(as_idata(hit.to_dataset(name="hit")))["hit"].item()
        error = (exact[value] * (1 - exact[value]) / ess) ** 0.5
        assert float(hit.mean()) == pytest.approx(exact[value], abs=5 * error)


# --- optima and approximations ---------------------------------------------------------------


def test_find_map_and_hessian():
    model = conjugate()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PyMC 6 announces new defaults
        optimum = pm.find_MAP(model=model, progressbar=False)
    assert float(optimum["mu"]) == pytest.approx(MEAN, abs=1e-5)
    hessian = pm.find_hessian({"mu": np.array(0.3)}, model=model, negate_output=False)
    np.testing.assert_allclose(hessian, [[-(1 + len(X))]], rtol=1e-9)


def minibatch(likelihood, x, total_size, batch_size=10):
    with pm.Model() as model:
        batch = pm.Minibatch(x, batch_size=batch_size)
        likelihood("x", pm.Normal("mu", 0, 1), observed=batch, total_size=total_size)
    return model


@pytest.mark.parametrize("total_size", [500, [500]])
def test_minibatches_are_scaled_to_the_whole_data_set(total_size):
    # All data are equal, so that every minibatch says the same as the whole.
    x = np.full(500, 0.7)
    model = minibatch(with_ratio, x, total_size)
    low, high = ({"mu": np.array(mu)} for mu in (0.2, 0.5))
    logp, gradient = model.compile_logp(), model.compile_dlogp()
    exact = [stats.norm.logpdf(mu) + stats.norm.logpdf(x, mu).sum() for mu in (0.2, 0.5)]
    assert logp(high) - logp(low) == pytest.approx(exact[1] - exact[0], rel=1e-9)
    assert gradient(low).item() == pytest.approx(500 * 0.5 - 0.2, rel=1e-9)


def test_advi_with_minibatches_is_that_of_the_density():
    x = np.random.default_rng(2).normal(0.5, 1.0, 500)
    fits = []
    for likelihood in (with_ratio, with_density):
        with minibatch(likelihood, x, len(x), batch_size=100):
            fits.append(
                pm.fit(
                    2_000, method="advi", random_seed=1, progressbar=False,
                    obj_optimizer=pm.adagrad_window(learning_rate=0.01),
                )
            )  # fmt: skip
    got, expected = ((fit.mean.eval().item(), fit.std.eval().item()) for fit in fits)
    # The same noise, so that only rounding can differ.
    assert got == pytest.approx(expected, rel=1e-6)
    sd = (1 + len(x)) ** -0.5
    # ADVI stops within its own noise: a posterior sd, and half of the spread.
    assert got[0] == pytest.approx(x.sum() * sd**2, abs=sd)
    assert got[1] == pytest.approx(sd, rel=0.5)


# --- predictions -----------------------------------------------------------------------------


def as_idata(posterior):
    """A result with this posterior, for PyMC 5 and 6."""
    if az.__version__.startswith("0."):
        return az.InferenceData(posterior=posterior)
    return xr.DataTree.from_dict({"posterior": posterior})


def exact_draws(n=2_000, name="mu", mean=MEAN, sd=SD):
    draws = np.random.default_rng(3).normal(mean, sd, (1, n))
    return as_idata(xr.Dataset({name: (("chain", "draw"), draws)}))


def assert_normal(draws, mean, variance):
    """Independent draws: standard errors of their mean and variance."""
    n = len(draws)
    assert draws.mean() == pytest.approx(mean, abs=5 * (variance / n) ** 0.5)
    assert draws.var() == pytest.approx(variance, abs=5 * variance * (2 / n) ** 0.5)


def test_prior_predictive_with_another_length():
    with conjugate():
        pm.set_data({"data": np.zeros(3)})
        idata = pm.sample_prior_predictive(2_000, random_seed=1)
    x = idata["prior_predictive"]["x"].to_numpy()[0]
    assert x.shape == (2_000, 3)
    assert_normal(x[:, 0], 0.0, 2.0)
    assert_normal(x[:, 0] - x[:, 1], 0.0, 2.0)  # both have the mu of their draw
    assert_normal(x[:, 2] - idata["prior"]["mu"].to_numpy()[0], 0.0, 1.0)
    with pytest.raises(AssertionError):
        assert_normal(x[:, 0], 0.0, 1.5)


def test_posterior_predictive_with_another_length():
    idata = exact_draws()
    with conjugate():
        pm.set_data({"data": np.zeros(5)})
        predicted = pm.sample_posterior_predictive(idata, random_seed=1, progressbar=False)
    x = predicted["posterior_predictive"]["x"].to_numpy()[0]
    assert x.shape == (2_000, 5)
    assert_normal(x[:, 0], MEAN, SD**2 + 1)
    assert_normal(x[:, 1] - idata["posterior"]["mu"].to_numpy()[0], 0.0, 1.0)


def test_predictions_for_new_covariates():
    with pm.Model(coords={"trial": np.arange(20)}) as model:
        t = pm.Data("t", T, dims="trial")
        data = pm.Data("data", X, dims="trial")
        with_ratio("x", pm.Normal("b", 0, 1) * t, observed=data, dims="trial")
    with model:
        pm.set_data({"t": [2.0, 0.0], "data": np.zeros(2)}, coords={"trial": [0, 1]})
        predicted = pm.sample_posterior_predictive(
            exact_draws(name="b", mean=1.0, sd=0.5), predictions=True, random_seed=1,
            progressbar=False,
        )  # fmt: skip
    x = predicted["predictions"]["x"].to_numpy()[0]
    assert_normal(x[:, 0], 2.0, (2 * 0.5) ** 2 + 1)
    assert_normal(x[:, 1], 0.0, 1.0)


def test_predictions_without_a_simulator_are_refused():
    with pm.Model():
        mu = pm.Normal("mu", 0, 1)
        nre.RatioLikelihood("x", RATIO.for_evaluation(), mu=mu, observed=X)
        for predict in (
            lambda: pm.sample_prior_predictive(5, random_seed=1),
            lambda: pm.sample_posterior_predictive(exact_draws(5), progressbar=False),
        ):
            with pytest.raises(ValueError, match=r"needs the simulator.*simulator=simulator"):
                predict()


# --- comparison ------------------------------------------------------------------------------


def regression(likelihood):
    with pm.Model() as model:
        likelihood("x", pm.Normal("b", 0, 1) * T, observed=X)
    return model


def scored(model, idata):
    with model:
        pm.compute_log_likelihood(idata, progressbar=False)
    return idata


def elpd(idata):
    result = az.loo(idata)
    return result.elpd_loo if hasattr(result, "elpd_loo") else result.elpd


def test_loo_differences_are_those_of_the_density():
    precision = 1 + T @ T
    slope = {"name": "b", "mean": X @ T / precision, "sd": precision**-0.5}
    results = {
        likelihood: {
            "mean": scored(conjugate(likelihood), exact_draws()),
            "slope": scored(regression(likelihood), exact_draws(**slope)),
        }
        for likelihood in (with_ratio, with_density)
    }
    pointwise = results[with_ratio]["mean"]["log_likelihood"]["x"]
    assert pointwise.shape == (1, 2_000, 20)
    got, expected = (elpd(r["mean"]) - elpd(r["slope"]) for r in results.values())
    assert got == pytest.approx(expected, rel=1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # ArviZ 0.23 under pandas 3.1
        compared, wanted = (az.compare(r) for r in results.values())
    assert list(compared.index) == list(wanted.index)
    np.testing.assert_allclose(
        compared["elpd_diff"].astype(float), wanted["elpd_diff"].astype(float), rtol=1e-6
    )


@pytest.mark.skipif(not hasattr(az, "loo_moment_match"), reason="ArviZ before 1 has none")
@pytest.mark.filterwarnings("ignore:Estimated shape parameter of Pareto:UserWarning")
def test_loo_by_moment_matching_is_that_of_the_density():
    x = np.array([0.3, -0.2, 1.1, 0.2, 4.4])  # an outlier that importance sampling cannot leave out
    draws = {"n": 2_000, "mean": x.sum() / (1 + len(x)), "sd": (1 + len(x)) ** -0.5}
    found = []
    for likelihood in (with_ratio, with_density):
        model = conjugate(likelihood, x)
        idata = scored(model, exact_draws(**draws))
        before = az.loo(idata, pointwise=True)
        found.append((before, az.loo_moment_match(idata, before, model=model, pointwise=True)))
    (rough, ours), (_, exact) = found
    np.testing.assert_allclose(ours.pareto_k, exact.pareto_k, rtol=1e-6)
    # Log densities less log evidences, observation by observation.
    evidence = nre.tasks.GaussianMean().log_evidence(x)
    np.testing.assert_allclose(ours.elpd_i, exact.elpd_i - evidence, rtol=1e-6)
    assert rough.pareto_k.max() > 0.7 > ours.pareto_k.max()  # there was something to match


def test_loo_of_two_estimators_does_not_compare():
    # One model, two training priors: the elpds differ by the evidences, which say nothing.
    narrow_task, wide_task = nre.tasks.GaussianMean(5.0), nre.tasks.GaussianMean(10.0)

    def elpd_with(ratio):
        model = conjugate(
            lambda name, mu, **options: nre.RatioLikelihood(name, ratio, mu=mu, **options)
        )
        return elpd(scored(model, exact_draws()))

    narrow, wide = elpd_with(narrow_task.estimator()), elpd_with(wide_task.estimator())
    expected = (wide_task.log_evidence(X) - narrow_task.log_evidence(X)).sum()
    assert abs(expected) > 10
    assert narrow - wide == pytest.approx(expected, rel=1e-6)


def test_torch_is_left_as_it_was():
    threads, grad = torch.get_num_threads(), torch.is_grad_enabled()
    conjugate().compile_logp()({"mu": np.array(0.1)})
    assert (torch.get_num_threads(), torch.is_grad_enabled()) == (threads, grad)


def location_scale(likelihood):
    with pm.Model() as model:
        mu, log_sigma = pm.Normal("mu", 0, 1), pm.Normal("log_sigma", 0, 0.2)
        likelihood(mu, log_sigma)
    return model


def around_the_maximum(outside):
    """Twenty observations whose maximum is inside: by a ratio, and by the density."""
    task = nre.tasks.LocationScale()
    ratio, x = task.estimator(), np.random.default_rng(3).normal(1.3, 0.7, 20)
    by_ratio = location_scale(
        lambda mu, s: nre.RatioLikelihood(
            "x", ratio, mu=mu, log_sigma=s, observed=x, outside=outside
        )
    )
    exact = location_scale(lambda mu, s: pm.Normal("x", mu, pm.math.exp(s), observed=x))
    maximum = searched(exact)([x.mean(), np.log(x.std())])
    assert ratio.domain.inside(maximum[None]).all()
    return by_ratio, maximum


def found_from_everywhere(outside):
    """How many of 40 searches all over the domain find the maximum."""
    model, maximum = around_the_maximum(outside)
    starts = np.random.default_rng(5).uniform([-4.9, -0.98], [4.9, 0.98], (40, 2))
    search = searched(model)
    return sum(np.abs(search(start) - maximum).max() < 1e-3 for start in starts)


def test_searches_find_back_from_the_wall():
    assert found_from_everywhere("repel") == 40


def test_searches_stop_where_the_ratio_is_rejected():
    """The twin, and why there is a wall."""
    assert found_from_everywhere("reject") < 35


def test_find_map_leaves_a_bad_start():
    model, maximum = around_the_maximum("repel")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PyMC 6 announces new defaults
        found = pm.find_MAP(start={"mu": -4.0, "log_sigma": 0.9}, model=model, progressbar=False)
    np.testing.assert_allclose([found["mu"], found["log_sigma"]], maximum, atol=1e-3)
