"""Models that share a ratio and data are compared, and others refused."""

import numpy as np
import pymc as pm
import pytest
import xarray as xr
from scipy.stats import multivariate_normal

import pymc_nre as nre
from pymc_nre.diagnostics import compare, log_marginal_ratio

TASK = nre.tasks.GaussianMean()
DATA = np.array([1.2, 0.4, 2.0, 1.1])


class OfTheData(type(TASK.estimator().network)):
    """Exact but for what NRE-B leaves free: a function of the data."""

    def head(self, theta, features):
        return super().head(theta, features) + 3 * features[..., 0]


def free_of_scale():
    exact = TASK.estimator()
    network = OfTheData.__new__(OfTheData)
    network.__dict__.update(exact.network.__dict__)
    return exact.replace(network=network, normalized=False)


def model(sd, ratio=None, data=DATA, name="x"):
    with pm.Model() as made:
        mu = pm.Normal("mu", 0, sd)
        nre.RatioLikelihood(name, ratio or TASK.estimator(), observed=data, engine="torch", mu=mu)
    return made


def exactly(sd):
    return multivariate_normal(np.zeros(4), np.eye(4) + sd**2).logpdf(DATA)


@pytest.mark.one_python
@pytest.mark.parametrize(
    "ratio", [TASK.estimator, pytest.param(free_of_scale, marks=pytest.mark.slow)]
)
def test_it_is_the_ratio_of_marginal_likelihoods(ratio):
    ratio = ratio()
    found = log_marginal_ratio(
        model(2.0, ratio),
        model(0.3, ratio),
        draws=1_000,
        cores=1,
        random_seed=1,
        progressbar=False,
    )
    # The prior of sd 2 loses nothing to the bounds at 10, five sds away.
    difference = float(found["log_ratio"]) - (exactly(2.0) - exactly(0.3))
    assert abs(difference) < 5 * max(float(found["error"]), 0.02)
    assert found["error"] < 0.2
    assert "times as probable under the first model" in found.attrs["summary"]


def test_what_has_other_unknown_factors_is_refused():
    other = nre.tasks.GaussianMean(half_width=20).estimator()
    with pytest.raises(ValueError, match="different ratios for 'x'"):
        log_marginal_ratio(model(1), model(1, other))
    with pytest.raises(ValueError, match="same data for 'x'"):
        log_marginal_ratio(model(1), model(1, data=DATA[:3]))
    with pytest.raises(ValueError, match="do not have the same data"):
        log_marginal_ratio(model(1), model(1, name="y"))
    with pm.Model() as plain:
        pm.Normal("x", pm.Normal("mu"), observed=DATA)
    with pytest.raises(ValueError, match="the second model has no RatioLikelihood"):
        log_marginal_ratio(model(1), plain)
    with model(1) as penalized:
        pm.Potential("soft", -(penalized["mu"] ** 2))
    with pytest.raises(ValueError, match=r"has potentials \(soft\)"):
        log_marginal_ratio(penalized, model(1))
    with pytest.raises(ValueError, match="different ratios"):
        compare({"one": (model(1), None), "two": (model(1, other), None)})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"chains": 1}, "chains: expected at least 2, got 1"),
        ({"chains": 2.5}, "chains: expected a whole number"),
        ({"draws": 0}, "draws: expected at least 1"),
        ({"draws": "100"}, "draws: expected a whole number"),
    ],
)
def test_what_does_not_count_is_refused(options, said):
    with pytest.raises((TypeError, ValueError), match=f"^log_marginal_ratio: {said}"):
        log_marginal_ratio(model(1), model(2), **options)


def test_what_is_no_model_is_refused():
    with pytest.raises(TypeError, match=r"the second model: expected a pymc.Model, got NoneType"):
        log_marginal_ratio(model(1), None)
    for models in (None, {}, [model(1)], {"one": model(1)}, {"one": (model(1),)}):
        with pytest.raises(TypeError, match="compare: models: expected a dict such as"):
            compare(models)


def test_draws_are_in_chains():
    draws = xr.Dataset({"mu": ("draw", np.zeros(10))})
    for idata in (None, {}, {"prior": draws}, np.zeros(3), xr.DataTree()):
        with pytest.raises(ValueError, match="compare: one: expected an InferenceData or DataTree"):
            compare({"one": (model(1), idata), "two": (model(2), idata)})
    others = {"posterior": xr.Dataset({"nu": draws["mu"].expand_dims(chain=2)})}
    with pytest.raises(ValueError, match="compare: one: the posterior lacks mu, free variables"):
        compare({"one": (model(1), others), "two": (model(2), others)})
    with pytest.raises(
        ValueError, match=r"compare: one: .* dimensions chain and draw, got \('draw',\)"
    ):
        compare({"one": (model(1), {"posterior": draws}), "two": (model(2), None)})


@pytest.mark.filterwarnings("ignore")  # of PyMC and ArviZ, on few draws
def test_leave_one_out_prefers_the_prior_that_predicts():
    models = {"wide": model(2.0), "wrong": model(0.05)}
    options = {"tune": 200, "draws": 300, "chains": 2, "cores": 1, "random_seed": 1}
    drawn = {}
    for name, one in models.items():
        with one:
            drawn[name] = (one, pm.sample(**options, progressbar=False, step=pm.Slice()))
    table = compare(drawn)
    assert table.index[0] == "wide"
