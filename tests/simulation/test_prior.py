"""The training prior: its draws and densities against scipy's, for models and for dicts."""

import cloudpickle
import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from scipy import stats

import pymc_nre as nre
from pymc_nre.simulation.prior import Prior

# name: (how PyMC writes it, scipy's own). Densities are on the parameter's own scale.
FAMILIES = {
    "normal": (lambda d: d(pm.Normal, "normal", 1.0, 2.0), stats.norm(1, 2)),
    "half_normal": (lambda d: d(pm.HalfNormal, "half_normal", 2.0), stats.halfnorm(scale=2)),
    "log_normal": (
        lambda d: d(pm.LogNormal, "log_normal", 0.3, 0.5),
        stats.lognorm(s=0.5, scale=np.exp(0.3)),
    ),
    "uniform": (lambda d: d(pm.Uniform, "uniform", -10.0, 5.0), stats.uniform(-10, 15)),
    "exponential": (lambda d: d(pm.Exponential, "exponential", 0.25), stats.expon(scale=4)),
    "gamma": (lambda d: d(pm.Gamma, "gamma", 2.0, 3.0), stats.gamma(2, scale=1 / 3)),
    "beta": (lambda d: d(pm.Beta, "beta", 2.0, 5.0), stats.beta(2, 5)),
    "student_t": (lambda d: d(pm.StudentT, "student_t", nu=4, sigma=1.5), stats.t(4, scale=1.5)),
}
RTOL = 1e-5  # PyTensor holds constants such as 2.0 in float32, and PyMC their logarithms


def model_of(families):
    with pm.Model() as model:
        for write in families:
            write(lambda kind, name, *args, **kwargs: kind(name, *args, **kwargs))
    return model


def dict_of(families):
    prior = {}
    for write in families:
        write(lambda kind, name, *args, **kwargs: prior.update({name: kind.dist(*args, **kwargs)}))
    return prior


FORMS = {"model": model_of, "dict": dict_of}


@pytest.fixture(scope="module", params=FORMS)
def everything(request):
    """A prior with one parameter of each family and 4,000 draws of it."""
    prior = Prior.of(FORMS[request.param]([write for write, _ in FAMILIES.values()]))
    return prior, prior.draw(4_000, np.random.default_rng(1))


def kolmogorov_smirnov(draws, cdf):
    """Distance of draws from a distribution in units of its scale, 1 / sqrt(n)."""
    return stats.kstest(draws, cdf).statistic * np.sqrt(len(draws))


# Kolmogorov's distribution: 2.23 is exceeded once in 10,000 times.
KS_CRITICAL = stats.kstwobign.isf(1e-4)


@pytest.mark.parametrize("name", FAMILIES)
def test_draws_have_the_distribution(everything, name):
    draws = everything[1][name]
    exact = FAMILIES[name][1]
    assert draws.shape == (4_000,)
    assert kolmogorov_smirnov(draws, exact.cdf) < KS_CRITICAL
    # The twin: a shift by a fifth of the spread is seen.
    assert kolmogorov_smirnov(draws + 0.2 * draws.std(), exact.cdf) > KS_CRITICAL


def test_joint_log_density(everything):
    prior, draws = everything
    expected = sum(exact.logpdf(draws[name]) for name, (_, exact) in FAMILIES.items())
    np.testing.assert_allclose(prior.log_density(draws), expected, rtol=RTOL)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", FAMILIES)
def test_log_density_on_the_own_scale(form, name):
    write, exact = FAMILIES[name]
    prior = Prior.of(FORMS[form]([write]))
    values = exact.ppf([0.01, 0.3, 0.9])
    got = prior.log_density({name: values})
    np.testing.assert_allclose(got, exact.logpdf(values), rtol=RTOL, atol=1e-6)


@pytest.mark.parametrize(("name", "value"), [("half_normal", -1.0), ("uniform", 6.0), ("beta", 2)])
def test_log_density_outside_the_support(name, value):
    prior = Prior.of(dict_of([FAMILIES[name][0]]))
    inside = FAMILIES[name][1].median()
    density = prior.log_density({name: np.array([value, inside])})
    assert density[0] == -np.inf
    assert np.isfinite(density[1])


def test_an_impossible_draw_has_density_zero_and_the_others_their_own():
    with pm.Model() as model:
        sigma = pm.HalfNormal("sigma", 1.0, shape=2)
        pm.Normal("x", 0.0, sigma)
    sigma, x = np.array([[0.5, 1.0], [0.5, -1.0], [2.0, 0.3]]), np.full((3, 2), 0.2)
    expected = (stats.halfnorm.logpdf(sigma) + stats.norm.logpdf(x, 0, np.abs(sigma))).sum(-1)
    density = Prior.of(model).log_density({"sigma": sigma, "x": x})
    np.testing.assert_allclose(density, np.where((sigma > 0).all(-1), expected, -np.inf), RTOL)


def test_log_density_in_a_model_context_still_checks_bounds():
    prior = Prior.of(dict_of([FAMILIES["half_normal"][0]]))
    with pm.Model(check_bounds=False):
        assert prior.log_density({"half_normal": np.array([-1.0])}) == -np.inf


def test_integers():
    prior = Prior.of({"k": pm.Poisson.dist(4.5)})
    draws = prior.draw(3_000, np.random.default_rng(2))
    assert draws["k"].dtype.kind == "i"
    standard_error = np.sqrt(4.5 / 3_000)
    assert abs(draws["k"].mean() - 4.5) < 4 * standard_error
    values = {"k": np.array([0.0, 3.0, 9.0])}  # simulations hold them as floats
    expected = stats.poisson(4.5).logpmf(values["k"])
    np.testing.assert_allclose(prior.log_density(values), expected, rtol=RTOL)


def vectors_in_a_model():
    with pm.Model(coords={"i": range(3)}) as model:
        pm.Normal("beta", [0.0, 1.0, 2.0], [1.0, 2.0, 3.0], dims="i")
        pm.MvNormal("z", np.zeros(2), np.array([[2.0, 0.6], [0.6, 1.0]]))
        pm.Dirichlet("p", np.array([1.0, 2.0, 3.0, 4.0]))
        pm.Exponential("A", 2.0, shape=(2, 2))
    return model


def vectors_in_a_dict():
    return {
        "beta": pm.Normal.dist([0.0, 1.0, 2.0], [1.0, 2.0, 3.0]),
        "z": pm.MvNormal.dist(np.zeros(2), np.array([[2.0, 0.6], [0.6, 1.0]])),
        "p": pm.Dirichlet.dist(np.array([1.0, 2.0, 3.0, 4.0])),
        "A": pm.Exponential.dist(2.0, shape=(2, 2)),
    }


# PyTensor's own numba code for MvNormal is told so on PyMC 6.
@pytest.mark.filterwarnings(r"ignore:.*np\.dot\(\) is faster on contiguous arrays")
@pytest.mark.parametrize("write", [vectors_in_a_model, vectors_in_a_dict])
def test_vectors(write):
    prior = Prior.of(write())
    assert prior.shapes == {"beta": (3,), "z": (2,), "p": (4,), "A": (2, 2)}
    draws = prior.draw(5, np.random.default_rng(3))
    assert {name: draw.shape for name, draw in draws.items()} == {
        name: (5, *shape) for name, shape in prior.shapes.items()
    }
    expected = stats.norm([0, 1, 2], [1, 2, 3]).logpdf(draws["beta"]).sum(-1)
    expected += stats.multivariate_normal(cov=[[2, 0.6], [0.6, 1]]).logpdf(draws["z"])
    expected += [stats.dirichlet([1, 2, 3, 4]).logpdf(p) for p in draws["p"]]
    expected += stats.expon(scale=0.5).logpdf(draws["A"]).sum((-2, -1))
    np.testing.assert_allclose(prior.log_density(draws), expected, rtol=RTOL)


def hierarchy_in_a_model():
    with pm.Model() as model:
        tau = pm.HalfNormal("tau", 2.0)
        scale = pm.Deterministic("scale", tau * 3.0)
        pm.Normal("mu", tau, scale)
    return model


def hierarchy_in_a_dict():
    tau = pm.HalfNormal.dist(2.0)
    return {"tau": tau, "mu": pm.Normal.dist(tau, tau * 3.0)}


@pytest.mark.parametrize("write", [hierarchy_in_a_model, hierarchy_in_a_dict])
def test_a_variable_may_depend_on_another(write):
    prior = Prior.of(write())
    assert prior.shapes == {"tau": (), "mu": ()}
    draws = prior.draw(4_000, np.random.default_rng(4))
    tau, mu = draws["tau"], draws["mu"]
    expected = stats.halfnorm(scale=2).logpdf(tau) + stats.norm(tau, 3 * tau).logpdf(mu)
    np.testing.assert_allclose(prior.log_density(draws), expected, rtol=RTOL)
    # Drawn jointly: mu's residuals are standard normal by *its own* tau ...
    assert kolmogorov_smirnov((mu - tau) / (3 * tau), stats.norm.cdf) < KS_CRITICAL
    # ... and the twin: not by another draw's.
    other = np.roll(tau, 1)
    assert kolmogorov_smirnov((mu - other) / (3 * other), stats.norm.cdf) > KS_CRITICAL


def test_draws_again_compile_nothing_and_give_the_same_numbers(monkeypatch):
    def prior():
        return Prior.of({"mu": pm.Normal.dist(0, 1), "tau": pm.Gamma.dist(2.0, 1.0)})

    kept, sizes = prior(), (5, 100, 20)
    expected = [prior().draw(n, n) for n in sizes]
    monkeypatch.setattr("pymc_nre.simulation.prior.Sampler", None)
    for n, each in zip(sizes, expected, strict=True):
        for name, values in kept.draw(n, n).items():
            np.testing.assert_array_equal(values, each[name])


def test_two_that_draw_at_once_do_not_disturb_each_other():
    prior = Prior.of({"mu": pm.Normal.dist(0, 1)})
    alone = list(prior.blocks(25_000, 1))
    one, other = prior.blocks(25_000, 1), prior.blocks(25_000, 2)
    both = list(zip(one, other, strict=True))
    for (mine, yours), expected in zip(both, alone, strict=True):
        np.testing.assert_array_equal(mine["mu"], expected["mu"])
        assert (mine["mu"] != yours["mu"]).all()
    assert cloudpickle.loads(cloudpickle.dumps(prior))._idle == []


def test_draws_of_priors_with_data_are_compiled_anew():
    with pm.Model():
        x = pm.Data("x", np.zeros(3))
        prior = Prior.of({"mu": pm.Normal.dist(x, 1e-6)})
        prior.draw(100, 1)
        x.set_value(np.full(3, 7.0))
    assert prior._idle == []
    np.testing.assert_allclose(prior.draw(100, 1)["mu"], 7.0, atol=1e-4)


def test_one_draw_has_a_leading_axis():
    prior = Prior.of({"mu": pm.Normal.dist(), "beta": pm.Normal.dist(shape=2)})
    draws = prior.draw(1, np.random.default_rng(1))
    assert {name: draw.shape for name, draw in draws.items()} == {"mu": (1,), "beta": (1, 2)}


def test_long_arrays_are_evaluated_in_chunks(monkeypatch):
    compiled, rows = pytensor.function, []

    def counting(inputs, outputs, **options):
        function = compiled(inputs, outputs, **options)
        return lambda *values: rows.extend(map(len, values)) or function(*values)

    monkeypatch.setattr(pytensor, "function", counting)
    prior = Prior.of({"mu": pm.Normal.dist(0.0, 3.0)})
    values = {"mu": np.linspace(-5, 5, 11)}
    whole = prior.log_density(values)
    monkeypatch.setattr("pymc_nre.simulation.prior._DENSITY_CHUNK", 4)
    np.testing.assert_array_equal(prior.log_density(values), whole)
    assert rows == [11, 4, 4, 3]


def test_a_prior_must_be_a_model_or_a_dict():
    message = r"^prior must be a pymc\.Model or a dict of name to pm\.X\.dist\(.*\), got list\.$"
    with pytest.raises(TypeError, match=message):
        Prior.of([pm.Normal.dist()])


@pytest.mark.parametrize(
    ("value", "kind"), [(1.0, "float"), (np.zeros(3), "ndarray"), (pt.scalar(), r"TensorVariable")]
)
def test_values_of_a_dict_must_be_distributions(value, kind):
    message = rf"^Parameter 'nu' of the prior must be a PyMC distribution .*, got {kind}\.$"
    with pytest.raises(TypeError, match=message):
        Prior.of({"mu": pm.Normal.dist(), "nu": value})


@pytest.mark.parametrize("prior", [{}, pm.Model()], ids=["dict", "model"])
def test_a_prior_needs_free_variables(prior):
    message = r"^The prior has no free variables, .* Give each parameter a distribution, e\.g\."
    with pytest.raises(ValueError, match=message):
        Prior.of(prior)


def test_observed_variables_and_potentials_are_refused():
    with pm.Model() as model:
        mu = pm.Normal("mu")
        pm.Normal("y", mu, observed=[1.0])
        pm.Potential("penalty", -(mu**2))
    message = r"must consist of free variables only: .* potentials y, penalty\. Leave them out\.$"
    with pytest.raises(ValueError, match=message):
        Prior.of(model)


@pytest.mark.parametrize("observed", [None, 1.0])
def test_a_variable_that_is_simulated_is_no_parameter(observed):
    with pm.Model() as model:
        mu = pm.Normal("mu")
        pm.Normal("x", mu, observed=observed)
    assert list(Prior.of(model, simulated="x").variables) == ["mu"]
    prior = Prior.of(model, simulated="x")
    assert Prior.of(prior) is prior


def test_marginal_densities():
    """Nuisance that depends on parameters leaves their density; the reverse takes an integral."""
    prior = Prior.of(hierarchy_in_a_dict())  # mu depends on tau
    tau = np.array([0.5, 2.0])
    marginal = prior.marginal(["tau"])
    assert marginal.shapes == {"tau": ()}
    expected = stats.halfnorm(scale=2).logpdf(tau)
    np.testing.assert_allclose(marginal.log_density({"tau": tau}), expected, rtol=RTOL)
    assert prior.marginal(["mu"]) is None
    both = prior.marginal(["tau", "mu"])
    values = {"tau": tau, "mu": tau}
    np.testing.assert_array_equal(both.log_density(values), prior.log_density(values))


def test_draws_of_the_rest_given_some():
    prior = Prior.of(hierarchy_in_a_model())
    assert prior.given(["tau", "mu"]) is None
    tau = np.linspace(0.1, 3, 2_000)
    mu = prior.given(["tau"]).draw(np.random.default_rng(1), {"tau": tau}, 2_000)["mu"]
    assert kolmogorov_smirnov((mu - tau) / (3 * tau), stats.norm.cdf) < KS_CRITICAL
    other = tau[::-1]
    assert kolmogorov_smirnov((mu - other) / (3 * other), stats.norm.cdf) > KS_CRITICAL


@pytest.mark.parametrize("form", FORMS)
def test_reserved_names_are_refused(form):
    write = FORMS[form]([lambda d: d(pm.Normal, "observed")])
    with pytest.raises(ValueError, match=r"^Parameters cannot be called observed: .* observed_\.$"):
        Prior.of(write)


def test_names_from_a_nested_model_are_refused():
    with pm.Model() as model, pm.Model(name="group"):
        pm.Normal("mu")
    with pytest.raises(ValueError, match=r"must be Python identifiers, .*; got 'group::mu'"):
        Prior.of(model)


def test_priors_that_cannot_be_drawn_from_are_refused():
    with pytest.raises(ValueError, match=r"prior of mu, sigma cannot be drawn from.*proper"):
        Prior.of({"mu": pm.Flat.dist(), "sigma": pm.HalfNormal.dist()})


def test_parents_without_a_name_take_an_integral():
    tau = pm.HalfNormal.dist(3.0)
    hidden = Prior.of({"mu": pm.Normal.dist(0.0, tau)})
    assert not hidden.has_density
    assert hidden.marginal(["mu"]) is None
    assert Prior.of({"mu": pm.Normal.dist(0.0, tau), "tau": tau}).has_density
    mixture = pm.Mixture.dist([0.5, 0.5], pm.Normal.dist([0.0, 1.0], 1.0))
    assert Prior.of({"mu": mixture}).has_density
    simulations = nre.simulate(
        {"mu": pm.Normal.dist(0.0, tau)}, lambda rng, mu: mu, 10, progressbar=False
    )
    assert simulations.log_prior is None


# pm.Simulator itself is told so on PyMC 6.
@pytest.mark.filterwarnings("ignore:.*RandomVariable:DeprecationWarning")
@pytest.mark.parametrize(
    "without",
    [
        lambda: pm.CustomDist.dist(random=lambda rng=None, size=None: rng.normal(size=size)),
        lambda: pm.math.sin(pm.Normal.dist()),
        lambda: pm.Normal.dist() + pm.Normal.dist(),
        lambda: pm.Simulator.dist(lambda rng, mu, size=None: rng.normal(mu, size=size), 0.0),
    ],
    ids=["draws only", "not invertible", "a sum", "a simulator"],
)
def test_priors_without_a_density(without):
    variable = without()
    assert not Prior.of({"mu": variable}).has_density
    simulations = nre.simulate({"mu": variable}, lambda rng, mu: mu, 10, progressbar=False)
    assert simulations.log_prior is None
    ready = nre.Simulations(simulations.parameters, simulations.x, prior={"mu": variable})
    assert ready.log_prior is None


def test_an_integer_is_whole():
    prior = Prior.of({"k": pm.Poisson.dist(4.5)})
    got = prior.log_density({"k": np.array([3.0, 2.9999999, 3.4, 3.6])})
    np.testing.assert_allclose(got[:2], stats.poisson(4.5).logpmf(3), rtol=RTOL)
    assert np.isneginf(got[2:]).all()


@pytest.mark.one_python
def test_a_layout_knows_integers():
    counts = pm.Poisson.dist(3.0, shape=2)
    layout = Prior.of({"k": counts, "mu": pm.Normal.dist(), "on": pm.Bernoulli.dist(0.5)}).layout
    assert layout.labels == ["k[0]", "k[1]", "mu", "on"]
    assert layout.integer == {"k", "on"}
