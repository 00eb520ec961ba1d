"""domain_check: which draws left the training domain, through the model's own expressions."""

import arviz as az
import numpy as np
import pymc as pm
import pytest
import xarray as xr

import pymc_nre as nre

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
