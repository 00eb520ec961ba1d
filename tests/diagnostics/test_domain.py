"""domain_check: which draws left the training domain, through the model's own expressions."""

import arviz as az
import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest
import scipy.stats
import xarray as xr
from untrained import make_estimator

import pymc_nre as nre
from pymc_nre.estimators.domain import Domain
from pymc_nre.likelihood.prior_limits import PriorLimits

RATIO = nre.tasks.GaussianMean().estimator()
DOMAIN_CHECK = nre.diagnostics.domain_check


def as_idata(**posterior):
    """Works with ArviZ 0.23 and 1.x."""
    group = {"posterior": {name: np.asarray(value) for name, value in posterior.items()}}
    return az.from_dict(**group) if az.__version__.startswith("0.") else az.from_dict(group)


def test_draws_are_named_and_counted_by_parameter_name():
    idata = as_idata(mu=[[0.0, 11.0, 3.0], [-30.0, 9.0, 2.0]])
    check = DOMAIN_CHECK(idata, RATIO)
    np.testing.assert_array_equal(check["outside"], [[0, 1, 0], [1, 0, 0]])
    assert check["outside"].dims == ("chain", "draw")
    assert check.attrs["share"] == pytest.approx(2 / 6)
    assert check["beyond"].sel(parameter="mu") == pytest.approx(2 / 6)
    assert "33.3% of the posterior draws left" in check.attrs["summary"]


def test_all_inside_is_said():
    check = DOMAIN_CHECK(as_idata(mu=[[0.0, 1.0]]), RATIO)
    assert check.attrs["share"] == 0
    assert check.attrs["summary"].startswith("All posterior draws are inside")


@pytest.fixture
def grouped_model():
    with pm.Model(coords={"group": ["a", "b"]}) as model:
        center = pm.Normal("center", 0, 1)
        offset = pm.Normal("offset", 0, 1, dims="group")
        group = np.array([0, 0, 1, 1])
        nre.RatioLikelihood(
            "x", RATIO, mu=(center + 5 * offset)[group], observed=np.zeros(4), outside="ignore"
        )
    return model


def test_expressions_of_the_model_are_evaluated(grouped_model):
    idata = as_idata(center=[[0.0, 1.0]], offset=[[[0.0, 0.0], [1.0, 2.0]]])
    check = DOMAIN_CHECK(idata, RATIO, model=grouped_model)
    # Second draw: mu = 1 + 5 * (1, 2) = (6, 11); only group b, two of four rows, is outside.
    np.testing.assert_array_equal(check["outside"], [[0.0, 0.5]])
    with grouped_model:
        xr_equal = DOMAIN_CHECK(idata, RATIO)
    np.testing.assert_array_equal(check["outside"], xr_equal["outside"])


def test_other_ratios_of_the_model_are_left_out(grouped_model):
    wider = nre.tasks.GaussianMean(half_width=50.0).estimator()
    with grouped_model:
        center = grouped_model["center"]
        nre.RatioLikelihood("y", wider, mu=center, observed=[0.0], outside="ignore")
    idata = as_idata(center=[[40.0]], offset=[[[-8.0, -8.0]]])  # mu of x: 0; of y: 40
    assert DOMAIN_CHECK(idata, RATIO, model=grouped_model).attrs["share"] == 0
    assert DOMAIN_CHECK(idata, wider, model=grouped_model).attrs["share"] == 0


def test_potential_models_use_the_names():
    with pm.Model() as model:
        mu = pm.Normal("mu", 0, 1)
        pm.Potential("x", nre.log_ratio(RATIO, np.zeros(3), mu=mu).sum())
    check = DOMAIN_CHECK(as_idata(mu=[[0.0, 20.0]]), RATIO, model=model)
    np.testing.assert_array_equal(check["outside"], [[0, 1]])


def test_what_is_missing_is_said(grouped_model):
    with pytest.raises(ValueError, match=r"no variables called mu.*Pass model=model"):
        DOMAIN_CHECK(as_idata(nu=[[0.0]]), RATIO)
    with pytest.raises(ValueError, match=r"lacks offset.*Pass the model that was sampled"):
        DOMAIN_CHECK(as_idata(center=[[0.0]]), RATIO, model=grouped_model)


def test_a_variable_may_be_called_sample():
    with pm.Model() as model:
        mu = pm.Normal("sample", 0, 1)
        nre.RatioLikelihood("x", RATIO, mu=mu, observed=np.zeros(3))
    check = DOMAIN_CHECK(as_idata(sample=[[0.0, 20.0]]), RATIO, model=model)
    np.testing.assert_array_equal(check["outside"], [[0, 1]])


def test_a_model_without_the_ratio_is_told_so():
    with pm.Model() as model:
        pm.Normal("nu", 0, 1)
    with pytest.raises(
        ValueError, match=r"the model that was given has no RatioLikelihood.*before"
    ):
        DOMAIN_CHECK(as_idata(nu=[[0.0]]), RATIO, model=model)


def test_results_without_draws_are_told_so():
    with pytest.raises(ValueError, match=r"a group called posterior, got dict without"):
        DOMAIN_CHECK({"prior": xr.Dataset()}, RATIO)
    with pytest.raises(
        ValueError, match=r"dimensions chain and draw, got \('draw',\).*chain=\[0\]"
    ):
        DOMAIN_CHECK({"posterior": xr.Dataset({"mu": ("draw", [0.0])})}, RATIO)


def quantiles(distribution, n=1_000):
    """Draws of two chains, as even as they can be."""
    return distribution.ppf((np.arange(n) + 0.5) / n).reshape(2, -1)


def model_of(prior, observed=(0.0,)):
    with pm.Model() as model:
        nre.RatioLikelihood("x", RATIO, mu=prior("mu"), observed=observed)
    return model


LOW, HIGH = RATIO.domain.ends()[0]


def normal_prior(name):
    return pm.Normal(name, 0, 2)


def the_same_prior(name):
    return pm.Uniform(name, -10, 10)


def truncated(mean, sd):
    """What a guard that rejects leaves of a normal posterior."""
    return scipy.stats.truncnorm((LOW - mean) / sd, (HIGH - mean) / sd, mean, sd)


@pytest.mark.parametrize(("mean", "sd"), [(13.0, 0.14), (10.0, 0.3), (9.0, 1.0), (-9.7, 0.2)])
def test_a_posterior_that_the_edge_cuts_is_told(mean, sd):
    draws = quantiles(truncated(mean, sd))
    check = DOMAIN_CHECK(as_idata(mu=draws), RATIO, model=model_of(normal_prior))
    side = "upper" if mean > 0 else "lower"
    assert check.attrs["share"] == 0
    assert check["cut"].sel(parameter="mu", side=side)
    assert check["cut"].sum() == 1
    end = HIGH if mean > 0 else LOW
    assert "cut off at the edge of the region where the ratio was trained" in check.attrs["summary"]
    assert f"mu at {end:.4g}" in check.attrs["summary"]
    density = np.exp(-0.5 * ((min(abs(mean), abs(end)) - abs(end)) / sd) ** 2)
    # Noise of a dozen draws, the fewest here, and what the density falls within a strip.
    assert check["edge_density"].sel(parameter="mu", side=side) == pytest.approx(density, abs=0.2)


@pytest.mark.parametrize("wide", [0, 1, 29])
def test_many_groups_at_an_edge_are_looked_at_together(wide, monkeypatch):
    """Of so many of thirty the prior goes on; where it ends for all, it is asked the most."""
    asked, at = [], PriorLimits._at
    monkeypatch.setattr(PriorLimits, "_at", lambda *one: asked.append(1) or at(*one))
    with pm.Model() as model:
        mu = pm.Uniform("a", -10, 10, shape=30 - wide)
        if wide:
            mu = pt.concatenate([mu, pm.Normal("b", 0, 5, shape=wide)])
        nre.RatioLikelihood("x", RATIO, mu=mu, observed=np.zeros(30), engine="torch")
    values = HIGH - np.random.default_rng(1).exponential(0.3, (2, 200, 30))
    idata = as_idata(a=values[..., wide:], **({"b": values[..., :wide]} if wide else {}))
    check = DOMAIN_CHECK(idata, RATIO, model=model)
    assert check["cut"].sel(parameter="mu", side="upper") == (wide > 0)
    assert check["cut"].sum() == (wide > 0)
    # Once 4 * 12 * 26, and 3 * 26 for each of the others; before, the first of them for each.
    assert len(asked) <= 48 * 26 + 29 * 3 * 26
    assert wide or len(asked) == 48 * 26 + 29 * 3 * 26


@pytest.mark.parametrize("sd", [0.01, 0.1, 1.0])
def test_an_edge_that_is_the_priors_own_cuts_nothing(sd):
    """Exponential posteriors at the end of a uniform prior, as an exact ratio gives them."""
    draws = HIGH - quantiles(scipy.stats.expon(scale=sd))
    check = DOMAIN_CHECK(as_idata(mu=draws), RATIO, model=model_of(the_same_prior))
    assert not check["cut"].any()
    assert check["edge_density"].sel(parameter="mu", side="upper") > 0.5
    assert "where the prior of the model ends as well" in check.attrs["summary"]
    wider = DOMAIN_CHECK(as_idata(mu=draws), RATIO, model=model_of(normal_prior))
    assert wider["cut"].sel(parameter="mu", side="upper")


def test_without_a_model_the_prior_is_not_known():
    summary = DOMAIN_CHECK(as_idata(mu=quantiles(truncated(13.0, 0.14))), RATIO).attrs["summary"]
    assert "Unless its prior ends there too" in summary
    assert "pass model=model" in summary


@pytest.mark.parametrize(("mean", "sd"), [(0.0, 1.0), (5.0, 1.0), (9.0, 0.2), (0.0, 2.0)])
def test_a_posterior_that_has_fallen_off_is_not_told(mean, sd):
    draws = np.random.default_rng(1).normal(mean, sd, (2, 500)).clip(LOW, HIGH)
    check = DOMAIN_CHECK(as_idata(mu=draws), RATIO, model=model_of(normal_prior))
    assert not check["cut"].any()
    assert check.attrs["summary"].startswith("All posterior draws are inside the region")


def test_beyond_the_edge_by_a_hair_is_at_the_edge():
    draws = quantiles(truncated(13.0, 0.14))
    draws[:, -20:] = HIGH + np.linspace(0, 0.019, 20)  # less than a thousandth of 20
    check = DOMAIN_CHECK(as_idata(mu=draws), RATIO, model=model_of(normal_prior))
    assert check.attrs["share"] == 0
    assert check["cut"].sel(parameter="mu", side="upper")
    draws[0, 0] = HIGH + 0.1
    check = DOMAIN_CHECK(as_idata(mu=draws), RATIO, model=model_of(normal_prior))
    assert check.attrs["share"] == pytest.approx(1 / draws.size)


@pytest.mark.parametrize("outside", ["repel", "warn"])
def test_beyond_the_edge_is_held_back_or_an_extrapolation(outside):
    """On the wall draws may be beyond the edge, which cuts them none the less."""
    draws = quantiles(scipy.stats.norm(HIGH + 0.1, 0.05))
    with pm.Model() as model:
        nre.RatioLikelihood("x", RATIO, mu=pm.Normal("mu", 0, 2), observed=[0.0], outside=outside)
    check = DOMAIN_CHECK(as_idata(mu=draws), RATIO, model=model)
    assert check.attrs["share"] > 0.9
    assert check["cut"].sel(parameter="mu", side="upper") == (outside == "repel")
    assert ("is cut off at the edge" in check.attrs["summary"]) == (outside == "repel")
    assert ("is an extrapolation" in check.attrs["summary"]) == (outside == "warn")
    # A few far out in a tail cut nothing.
    draws = np.append(quantiles(scipy.stats.norm(0, 1)), [[HIGH + 0.1], [0.0]], axis=1)
    summary = DOMAIN_CHECK(as_idata(mu=draws), RATIO, model=model).attrs["summary"]
    assert summary.startswith("0.1% of the posterior draws left")
    assert ("too few to cut it off" in summary) == (outside == "repel")


def test_divergences_are_named():
    draws = quantiles(truncated(13.0, 0.14))
    idata = {
        "posterior": xr.Dataset({"mu": (("chain", "draw"), draws)}),
        "sample_stats": xr.Dataset({"diverging": (("chain", "draw"), draws > 9.99)}),
    }
    summary = DOMAIN_CHECK(idata, RATIO, model=model_of(normal_prior)).attrs["summary"]
    assert f"{(draws > 9.99).sum():,} draws diverged" in summary


def test_a_group_that_is_cut_is_found_through_the_models_expressions(grouped_model):
    """Of four rows two are at the edge, whose prior goes on; the others have fallen off."""
    offset = np.stack([np.zeros((2, 500)), quantiles(truncated(13.0, 0.3)) / 5], -1)
    idata = as_idata(center=np.random.default_rng(1).normal(0, 1e-3, (2, 500)), offset=offset)
    check = DOMAIN_CHECK(idata, RATIO, model=grouped_model)
    assert check["cut"].sel(parameter="mu", side="upper")
    assert check["cut"].sum() == 1


def test_combinations_of_parameters_are_told():
    """A tilted training prior; the posterior lies across it, inside of each range alone."""
    rng = np.random.default_rng(1)
    prior = rng.multivariate_normal([0, 0], [[1, 0.95], [0.95, 1]], 20_000)
    domain = Domain.from_draws(prior)
    ratio = make_estimator({"a": (), "b": ()}, (), domain=domain)
    theta = rng.normal([1.5, -1.5], 0.7, (200_000, 2))
    theta = theta[domain.inside(theta)][:1_000].reshape(2, 500, 2)
    with pm.Model() as model:
        a, b = pm.Normal("a", 0, 0.1), pm.Normal("b", 0, 0.1)
        nre.RatioLikelihood("x", ratio, a=a, b=b, observed=[0.0])
    check = DOMAIN_CHECK(as_idata(a=theta[..., 0], b=theta[..., 1]), ratio, model=model)
    assert check.attrs["share"] == 0
    assert not check["cut"].any()
    assert check["cut_together"]
    assert "in a combination of parameters" in check.attrs["summary"]


@pytest.mark.parametrize(
    ("prior", "draws_of", "is_cut"),
    [
        (lambda: 20 * pm.Beta("p", 2, 1) - 10, lambda mu: (mu + 10) / 20, False),
        (lambda: 30 * pm.Beta("p", 2, 1) - 10, lambda mu: (mu + 10) / 30, True),
        (lambda: pm.Uniform("p", -10, 10, default_transform=None), lambda mu: mu, False),
        (lambda: pm.math.clip(pm.Normal("p", 0, 5), -10, 10), lambda mu: mu, False),
        (lambda: pm.Flat("p"), lambda mu: mu, True),
    ],
    ids=["same range", "wider", "without transform", "clipped", "flat"],
)
@pytest.mark.filterwarnings("ignore::pymc_nre.DomainWarning")  # of what lies outside, and of Flat
def test_where_the_prior_ends_is_found_in_any_expression(prior, draws_of, is_cut):
    draws = HIGH - quantiles(scipy.stats.expon(scale=0.05), 400)
    model = model_of(lambda name: prior())
    check = DOMAIN_CHECK(as_idata(p=draws_of(draws)), RATIO, model=model)
    assert check["cut"].to_numpy().tolist() == [[False, is_cut]]


def test_a_scale_that_comes_to_zero_is_no_place_to_look_at():
    draws = np.random.default_rng(1).uniform(HIGH - 2, HIGH, (2, 1_000))
    with pm.Model() as model:
        sd = pm.HalfNormal("sd", 1)
        mu = pm.TruncatedNormal("mu", 0, sd, lower=LOW, upper=HIGH)
        nre.RatioLikelihood("x", RATIO, mu=mu, observed=[0.0])
    found = DOMAIN_CHECK(as_idata(mu=draws, sd=np.exp(draws)), RATIO, model=model)
    assert not found["cut"].any()


def test_a_scale_is_cut_below_where_its_prior_goes_on_to_zero():
    """As far as from .019 to 0 is little beside the range, and much beside the posterior."""
    rng = np.random.default_rng(1)
    domain = Domain.from_draws(rng.lognormal(0, 1, (20_000, 1)))
    ratio = make_estimator({"s": ()}, (), domain=domain)
    draws = domain.ends()[0, 0] * np.exp(quantiles(scipy.stats.expon(scale=0.1), 400))
    with pm.Model() as model:
        nre.RatioLikelihood("x", ratio, s=pm.LogNormal("s", 0, 1), observed=[0.0])
    check = DOMAIN_CHECK(as_idata(s=draws), ratio, model=model)
    assert check["cut"].to_numpy().tolist() == [[True, False]]


@pytest.mark.parametrize(("prior", "is_cut"), [(pm.DiscreteUniform, False), (pm.Poisson, True)])
def test_integers_end_where_their_prior_does(prior, is_cut):
    counts = np.random.default_rng(1).integers(0, 11, (20_000, 1)) * 1.0
    ratio = make_estimator({"k": ()}, (), domain=Domain.from_draws(counts))
    draws = np.random.default_rng(2).choice([8, 9, 10], (2, 200), p=[0.1, 0.3, 0.6])
    with pm.Model() as model:
        k = prior("k", *((0, 10) if prior is pm.DiscreteUniform else (5,)))
        nre.RatioLikelihood("x", ratio, k=k, observed=[0.0])
    check = DOMAIN_CHECK(as_idata(k=draws), ratio, model=model)
    assert check["cut"].to_numpy().tolist() == [[False, is_cut]]
    assert check["edge_density"].sel(parameter="k", side="upper") == 1
