"""Likelihoods and posteriors that were trained elsewhere are ratios as others are."""

import numpy as np
import pymc as pm
import pytest
import torch
from flows import Coupling, InBatches, MixtureDensity, NormalMean, NormalPosterior
from scipy import stats

import pymc_nre as nre
from pymc_nre.exceptions import DomainWarning, EstimatorFileError

NORMAL = {"mu": pm.Normal.dist(0, 2)}
X, MU = np.linspace(-3, 3, 7), np.linspace(-2, 4, 7)


def simulator(rng, mu):
    return rng.normal(mu, 1.0)


def arrived(module, kind, prior=NORMAL, **options):
    options = {"simulator": simulator, "batched": True} | options
    return nre.from_log_density(module, prior=prior, kind=kind, **options)


@pytest.fixture(scope="module")
def likelihood():
    return arrived(NormalMean(), "likelihood")


@pytest.fixture(scope="module")
def posterior():
    return arrived(NormalPosterior(), "posterior")


def test_a_likelihood_is_divided_by_nothing(likelihood):
    exact = stats.norm(MU, 1).logpdf(X)
    assert np.allclose(likelihood.log_ratio(X, mu=MU), exact, atol=1e-12)
    assert likelihood.reference == "nothing"
    assert likelihood.normalized
    shown = repr(likelihood)
    assert shown.startswith("RatioEstimator: log p(x | mu)\n")
    assert "its own loss (NormalMean, a likelihood); normalized in x" in shown


def test_a_posterior_is_divided_by_its_prior(posterior):
    exact = stats.norm(MU, 1).logpdf(X) - stats.norm(0, 5**0.5).logpdf(X)
    assert np.allclose(
        posterior.log_ratio(X, mu=MU), exact, atol=1e-6
    )  # its own buffers are single
    assert posterior.reference == "evidence"
    assert "log p(x | mu) / p(x)\n" in repr(posterior)


def test_it_knows_the_domain_and_the_simulator(likelihood):
    assert likelihood.parameters == {"mu": ()}
    assert likelihood.event_shape == ()
    assert likelihood.batched
    assert likelihood.domain.log_prior == pytest.approx(
        stats.norm(0, 2).logpdf(likelihood.domain.draws[:, 0])
    )
    again = arrived(NormalMean(), "likelihood")
    assert again == likelihood
    assert arrived(NormalMean(1.1), "likelihood") != likelihood


def test_the_module_is_left_alone():
    module = MixtureDensity(1, 1).train()
    arrived(module, "likelihood")
    assert module.training
    assert all(w.requires_grad and w.dtype == torch.float32 for w in module.parameters())


@pytest.mark.parametrize(
    ("kind", "engine"),
    [("likelihood", "compiled"), ("posterior", "compiled"), ("posterior", "torch")],
)
def test_models_take_it_with_another_prior(kind, engine, request):
    """Three trials of N(mu, 1), mu ~ N(1, 0.5): by log densities of a model on a grid."""
    ratio, data = request.getfixturevalue(kind), np.array([0.2, 1.1, 0.7])
    with pm.Model() as model:
        mu = pm.Normal("mu", 1, 0.5)
        nre.RatioLikelihood("x", ratio, mu=mu, observed=data, engine=engine)
    log_density, slope = model.compile_logp(), model.compile_dlogp()
    exact = stats.norm((4 * 1 + data.sum()) / 7, 7**-0.5)
    grid = np.linspace(0, 1.6, 9)
    off = [float(log_density({"mu": m})) - exact.logpdf(m) for m in grid]
    assert np.ptp(off) < 1e-5
    slopes = [float(slope({"mu": m})[0]) for m in grid]
    assert np.allclose(slopes, 7 * (exact.mean() - grid), atol=1e-5)


FLOWS = {
    "coupling": (lambda size, given: Coupling(given), (2,), {"a": pm.Uniform.dist(-1, 1, shape=2)}),
    "mixture": (MixtureDensity, (2,), {"a": pm.Normal.dist(0, 1, shape=2)}),
    "in batches": (
        lambda size, given: InBatches(MixtureDensity(size, given), (size,), (given,), 0.2, 3.0),
        (2,),
        {"a": pm.Gamma.dist(2, 1), "b": pm.Beta.dist(2, 3)},
    ),
}


@pytest.mark.one_python
@pytest.mark.parametrize(
    ("name", "kind"),
    [("coupling", "likelihood"), ("mixture", "posterior"), ("in batches", "posterior")],
)
def test_flows_are_compiled_saved_and_loaded(name, kind, tmp_path):
    make, event, prior = FLOWS[name]
    torch.manual_seed(1)
    x = np.random.default_rng(1).normal(size=(100, *event))
    ratio = nre.from_log_density(make(2, 2), prior=prior, kind=kind, x=x)
    names = {key: rows[:20] for key, rows in zip(prior, _columns(ratio), strict=True)}
    compiled, plain = (
        nre.log_ratio(ratio, x[:20], engine=engine, outside="ignore", **names).eval()
        for engine in ("compiled", "torch")
    )
    assert np.allclose(compiled, plain, atol=1e-10)
    assert np.allclose(plain, ratio.log_ratio(x[:20], **names), atol=1e-10)
    ratio.save(tmp_path / "a.nre")
    assert nre.load(tmp_path / "a.nre", network=lambda *_: make(2, 2)) == ratio


def _columns(ratio):
    draws = ratio.domain.draws
    return [draws] if len(ratio.parameters) == 1 else list(draws.T)


def test_files_ask_for_the_module_and_nothing_else(posterior, tmp_path):
    path = tmp_path / "a.nre"
    posterior.save(path)
    with pytest.raises(TypeError, match="network of your own"):
        nre.load(path)
    with pytest.raises(EstimatorFileError, match="does not fit the weights"):
        nre.load(path, network=lambda *_: NormalMean())
    loaded = nre.load(path, network=lambda *_: NormalPosterior(3.0))  # weights are in the file
    assert loaded == posterior


def test_ensembles_average_densities(likelihood, posterior):
    other = arrived(NormalMean(1.5), "likelihood")
    both = nre.ensemble([likelihood, other])
    exact = np.logaddexp(stats.norm(MU, 1).logpdf(X), stats.norm(MU, 1.5).logpdf(X)) - np.log(2)
    assert np.allclose(both.log_ratio(X, mu=MU), exact, atol=1e-9)
    with pytest.raises(ValueError, match="same denominator"):
        nre.ensemble([likelihood, posterior])


def test_what_applies_applies(likelihood, posterior):
    simulations = nre.simulate(
        NORMAL, simulator, 4_000, batched=True, random_seed=1, progressbar=False
    )
    for ratio in (likelihood, posterior):
        budget = nre.trial_budget(ratio, simulations)
        assert np.all(np.abs(budget.bias(100)) < 5)
        ranks = nre.diagnostics.posterior_ranks(
            ratio, simulations[:300], draws=500, random_seed=1, progressbar=False
        )
        assert nre.diagnostics.sbc(ranks).attrs["p_value"] > 1e-4
    calibrated = nre.calibrate(posterior, simulations)
    assert calibrated.is_calibrated
    with pytest.raises(ValueError, match="expected a log ratio, got a likelihood"):
        nre.calibrate(likelihood, simulations)


def test_data_that_are_far_are_told(likelihood):
    with pm.Model(), pytest.warns(DomainWarning, match="far"):
        nre.RatioLikelihood("x", likelihood, mu=0.5, observed=[-9999.0])


def test_integers_and_priors_of_ones_own():
    class Counted(NormalPosterior):
        def log_prior(self, theta):
            return theta[:, 0] * np.log(3.0) - torch.lgamma(theta[:, 0] + 1)

    prior = {"k": pm.Poisson.dist(3)}
    ratio = nre.from_log_density(Counted(), prior=prior, kind="posterior", x=[0.1, 2.0])
    assert ratio.layout.integer == {"k"}
    wanted = stats.norm(0.8, 0.8**0.5).logpdf(2) - stats.poisson(3).logpmf(2)
    assert ratio.log_ratio(1.0, k=2) == pytest.approx(wanted, abs=1e-6)


class Sharp(torch.nn.Module):
    """Numbers of its own, in single precision, beside its weights."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, theta, x):
        return self.weight * theta @ torch.ones(1) - x


WRONG = {
    "a class": ({"module": NormalMean}, TypeError, "module: expected an nn.Module"),
    "no module": ({"module": "flow"}, TypeError, "module: expected an nn.Module"),
    "a kind": ({"kind": "evidence"}, ValueError, "kind: expected one of likelihood, posterior"),
    "no data": ({"x": None}, ValueError, "x: expected some observations"),
    "one number": ({"x": 1.0}, ValueError, r"x: expected some observations, .* got \(\)"),
    "a prior": ({"prior": "mu"}, TypeError, "prior must be a pymc.Model"),
    "other shapes": ({"x": np.zeros((3, 2))}, ValueError, "cannot be evaluated"),
    "mixed rows": (
        {"module": lambda theta, x: theta[:, 0] * x.mean()},
        ValueError,
        "gives a row another log density if it is alone",
    ),
    "holes": ({"module": lambda theta, x: theta[:, 0].log()}, ValueError, "computes something"),
    "single": ({"module": Sharp()}, ValueError, "cannot be evaluated in double precision"),
    "an unknown prior": (
        {"prior": {"mu": pm.Triangular.dist(-1, 1, 0)}, "kind": "posterior"},
        ValueError,
        r"mu is a Triangular\. Give the module a method log_prior\(theta\)",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit_is_refused(name):
    changed, error, message = WRONG[name]
    options = {"module": NormalMean(), "prior": NORMAL, "kind": "likelihood", "x": [0.5, 1.0]}
    with pytest.raises(error, match=message):
        nre.from_log_density(**options | changed)


def test_a_prior_that_is_not_the_right_one_is_refused():
    class Other(NormalPosterior):
        def log_prior(self, theta):
            return stats_normal(theta[:, 0])

    def stats_normal(mu):
        return -(mu**2) / 2

    with pytest.raises(ValueError, match="density of the prior in torch is off by up to"):
        arrived(Other(), "posterior")


def test_a_posterior_of_sbi_is_asked_for_its_estimator():
    class Posterior:
        posterior_estimator = None

        def log_prob(self, theta):
            return theta

    with pytest.raises(TypeError, match="Pass the density estimator"):
        arrived(Posterior(), "posterior")
