"""Densities that are given more than parameters arrive with conditions."""

import math

import conditioned
import numpy as np
import pymc as pm
import pytest
import torch
from scipy import stats
from torch.distributions import Normal

import pymc_nre as nre

RNG = np.random.default_rng(3)
SIMULATIONS = conditioned.simulate(400, seed=2)
DOSE = SIMULATIONS.conditions["dose"]
GIVEN = {"x": SIMULATIONS.x, "conditions": {"dose": DOSE}}
X, DOSES = np.array([0.4, -0.3, 1.5, 0.2]), np.array([-0.9, 0.1, 0.8, 0.5])


class Likelihood(torch.nn.Module):
    """Exact: x ~ N(slope dose, 1), as ``log_prob(inputs, context)``; a factor makes it wrong."""

    def __init__(self, factor=1.0):
        super().__init__()
        self.register_buffer("factor", torch.tensor(factor))

    def log_prob(self, inputs, context):
        mean = self.factor * context[:, :1] * context[:, 1:]
        return Normal(mean, 1.0, validate_args=False).log_prob(inputs).sum(-1)


class Posterior(torch.nn.Module):
    """Exact: slope given x and dose, for slopes N(0, SD^2), as ``log_prob(inputs, context)``."""

    def log_prob(self, inputs, context):
        x, dose = context[:, :1], context[:, 1:]
        variance = 1 / (1 / conditioned.SD**2 + dose**2)
        law = Normal(variance * dose * x, variance.sqrt(), validate_args=False)
        return law.log_prob(inputs).sum(-1)


def plain(theta, x):
    """The likelihood as a function of parameters, and of observations beside their doses."""
    z = x[:, 0] - theta[:, 0] * x[:, 1]
    return -z * z / 2 - math.log(2 * math.pi) / 2


MODULES = {
    "likelihood": (Likelihood(), "likelihood"),
    "function": (plain, "likelihood"),
    "posterior": (Posterior(), "posterior"),
}


def arrived(name="likelihood", **options):
    module, kind = MODULES[name]
    options = {"prior": conditioned.prior(), **GIVEN, **options}
    return nre.from_log_density(options.pop("module", module), kind=kind, **options)


@pytest.mark.parametrize("name", MODULES)
def test_it_is_the_density_given_the_dose(name):
    ratio, slope = arrived(name), 0.7
    exact = stats.norm(slope * DOSES, 1).logpdf(X)
    if name == "posterior":
        exact -= stats.norm(0, np.sqrt(1 + conditioned.SD**2 * DOSES**2)).logpdf(X)
    assert np.allclose(ratio.log_ratio(X, slope=slope, dose=DOSES), exact, atol=1e-9)
    assert ratio.conditions.shapes == {"dose": ()}
    assert (ratio.conditions.low, ratio.conditions.high) == ((DOSE.min(),), (DOSE.max(),))
    ending = " / p(x | dose)" * (name == "posterior")
    assert repr(ratio).startswith(f"RatioEstimator: log p(x | slope, dose){ending}\n")


def off(ratio, doses, engine):
    """By how much log densities of a model differ from the exact posterior, on a grid."""
    exact = stats.norm(*conditioned.posterior(X, DOSES))
    with pm.Model() as model:
        slope = pm.Normal("slope", 0, conditioned.SD)
        nre.RatioLikelihood(
            "x", ratio, slope=slope, dose=doses, observed=X, outside="ignore", engine=engine
        )
    logp = model.compile_logp()
    grid = np.linspace(*exact.interval(0.99), 9)
    return np.ptp([float(logp({"slope": s})) - exact.logpdf(s) for s in grid])


@pytest.mark.parametrize("engine", ["compiled", "torch"])
@pytest.mark.parametrize("name", MODULES)
def test_models_take_it_with_doses(name, engine):
    assert off(arrived(name), DOSES, engine) < 1e-6


def test_other_doses_and_other_densities_are_others():
    assert off(arrived(), DOSES[::-1].copy(), "torch") > 0.1
    assert off(arrived(module=Likelihood(1.3)), DOSES, "torch") > 0.1


@pytest.mark.parametrize("name", ["likelihood", "posterior"])
def test_files_keep_the_conditions(name, tmp_path):
    ratio, (module, _) = arrived(name), MODULES[name]
    ratio.save(tmp_path / "a.nre")
    loaded = nre.load(tmp_path / "a.nre", network=lambda size, shape: type(module)())
    assert loaded == ratio
    assert loaded.conditions == ratio.conditions
    points = {"slope": 0.3, "dose": DOSES}
    assert np.array_equal(loaded.log_ratio(X, **points), ratio.log_ratio(X, **points))


def ranks_of(module):
    ratio = arrived(module=module)
    held_out = conditioned.simulate(400, seed=7, conditions={"dose": np.array([0.8, 1.0])})
    ranks = nre.diagnostics.posterior_ranks(
        ratio, held_out, draws=300, random_seed=1, progressbar=False
    )
    return nre.diagnostics.sbc(ranks).attrs["p_value"]


def test_ranks_of_it_are_uniform_and_of_another_they_are_not():
    assert ranks_of(Likelihood()) > 1e-4
    assert ranks_of(Likelihood(0.5)) < 1e-4


def test_observations_are_simulated_with_their_conditions():
    options = {"simulator": conditioned.response, "batched": True, "x": None}
    ratio = arrived(conditions={"dose": pm.Uniform.dist(-1, 1)}, **options)
    [low], [high] = ratio.conditions.low, ratio.conditions.high
    assert -1 <= low < -0.9 < 0.9 < high <= 1
    x = np.full(25, 0.1)
    with pm.Model():
        slope = pm.Normal("slope", 2.0, 1e-6)
        nre.RatioLikelihood("x", ratio, slope=slope, dose=np.full(25, -0.5), observed=x)
        drawn = pm.sample_prior_predictive(draws=400, random_seed=1)
    # 10,000 draws of N(-1, 1), within five standard errors.
    assert abs(float(drawn.prior_predictive["x"].mean()) + 1) < 0.05


def test_doses_that_are_far_are_told():
    ratio, options = arrived(), {"dose": 4.0, "observed": X}
    with pm.Model():
        slope = pm.Normal("slope", 0, 1)
        with pytest.warns(nre.DomainWarning, match="dose reaches 4 to 4"):
            nre.RatioLikelihood("x", ratio, slope=slope, **options)


def test_conditions_may_be_vectors_and_counts():
    class OfTwo(torch.nn.Module):
        def forward(self, theta, x):  # two numbers of x, two of the design, and a count
            mean = theta[:, :1] * x[:, 2:4]
            return Normal(mean, x[:, 4:] ** 0.5, validate_args=False).log_prob(x[:, :2]).sum(-1)

    x, design, count = RNG.normal(size=(60, 2)), RNG.normal(size=(60, 2)), RNG.integers(1, 9, 60)
    ratio = nre.from_log_density(
        OfTwo(),
        prior={"slope": pm.Normal.dist(0, 1)},
        kind="likelihood",
        x=x,
        conditions={"design": design, "count": count},
    )
    assert ratio.conditions.integer == ("count",)
    found = ratio.log_ratio(x, slope=0.3, design=design, count=count)
    exact = stats.norm(0.3 * design, count[:, None] ** 0.5).logpdf(x).sum(1)
    assert np.allclose(found, exact, atol=1e-9)


WRONG = {
    "no names": ({"conditions": DOSE}, TypeError, "conditions: expected values by name"),
    "other lengths": (
        {"conditions": {"dose": DOSE[:5]}},
        ValueError,
        r"a value for each of the 400 observations x, got dose: shape \(5,\)",
    ),
    "a distribution": (
        {"conditions": {"dose": pm.Uniform.dist(0, 1)}},
        ValueError,
        "got dose: a distribution. Distributions are for observations that are simulated",
    ),
    "a parameter": (
        {"conditions": {"slope": DOSE}},
        ValueError,
        "slope is a variable of the prior",
    ),
    "a keyword": ({"conditions": {"observed": DOSE}}, ValueError, "cannot be called observed"),
    "holes": ({"conditions": {"dose": DOSE * np.nan}}, ValueError, "conditions: dose"),
    "none": ({"conditions": None, "module": plain}, ValueError, "cannot be evaluated"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit_is_refused(name):
    changed, error, message = WRONG[name]
    with pytest.raises(error, match=message):
        arrived(**changed)
