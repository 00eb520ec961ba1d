"""Direct ratios in models: compared with fixed parameters, the best ones, or prior draws."""

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from direct_ratios import direct
from jax_process import process_with_jax
from scipy import stats

import pymc_nre as nre
from pymc_nre import losses, tasks
from pymc_nre.estimators.direct import best_reference
from pymc_nre.ops.evidence import TrialEvidence, TrialWeights

RNG = np.random.default_rng(2)
X = RNG.normal(1.0, 1.0, 6)
ENGINES = ("compiled", "torch")


@pytest.fixture(scope="module")
def trained():
    simulations = tasks.LocationScale().simulate(3_000, random_seed=1)
    return nre.train(simulations, loss=losses.DNRE(), epochs=5, random_seed=1, progressbar=False)


def model_of(ratio, data=X, **options):
    with pm.Model() as model:
        mu, log_sigma = pm.Normal("mu", 0, 1), pm.Normal("log_sigma", 0, 0.3)
        nre.RatioLikelihood("x", ratio, mu=mu, log_sigma=log_sigma, observed=data, **options)
    return model


def data_term(model, sum=False):
    function = model.compile_logp(vars=model.observed_RVs, sum=sum)
    return lambda **point: function(point)[0] if not sum else function(point)


def by_references(ratio, draws, x, **theta):
    """The formula: all trials together, and the part of each."""
    others = ratio.references(draws, "test")
    named = {"mu": others[:, :1], "log_sigma": others[:, 1:]}
    table = ratio.log_ratio(x, reference=named, **theta)  # (S, n)
    terms = np.exp(-table.sum(1))
    together, weights = -np.log(terms.mean()), terms / terms.sum()
    own = weights @ table
    return own + (together - own.sum()) / len(x)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("reference", [None, {"mu": 0.3, "log_sigma": -0.2}], ids=["best", "given"])
def test_model_has_the_ratio_to_its_reference(trained, engine, reference):
    model = model_of(trained, engine=engine, reference=reference)
    point = {"mu": 0.4, "log_sigma": 0.1}
    if reference is None:
        reference = dict(zip(("mu", "log_sigma"), best_reference(trained, X), strict=True))
    expected = trained.log_ratio(X, reference=reference, **point)
    np.testing.assert_allclose(data_term(model)(**point), expected, atol=1e-9)


@pytest.mark.parametrize("engine", ENGINES)
def test_trials_are_added_up_before_the_average(trained, engine):
    model, point = model_of(trained, engine=engine, evidence=100), {"mu": 0.4, "log_sigma": 0.1}
    found = data_term(model)(**point)
    np.testing.assert_allclose(found, by_references(trained, 100, X, **point), atol=1e-9)
    alone = data_term(model_of(trained, X[:1], engine=engine, evidence=100))(**point)
    np.testing.assert_allclose(alone, trained.marginal(100).log_ratio(X[:1], **point), atol=1e-9)
    one_by_one = trained.marginal(100).log_ratio(X, **point)
    assert abs(found.sum() - one_by_one.sum()) > 0.1


@pytest.mark.one_python
def test_groups_are_averaged_apart(trained):
    data = RNG.normal(0.5, 1.0, (3, 4))
    with pm.Model() as model:
        mu = pm.Normal("mu", 0, 1, shape=3)
        nre.RatioLikelihood(
            "x", trained, mu=mu[:, None], log_sigma=0.1, observed=data, evidence=100
        )
    mus = np.array([-0.3, 0.2, 0.9])
    found = data_term(model)(mu=mus)
    expected = [
        by_references(trained, 100, x, mu=m, log_sigma=0.1) for x, m in zip(data, mus, strict=True)
    ]
    np.testing.assert_allclose(found, expected, atol=1e-9)
    # Also where trials stand before groups.
    with pm.Model() as turned:
        mu = pm.Normal("mu", 0, 1, shape=3)
        nre.RatioLikelihood("x", trained, mu=mu, log_sigma=0.1, observed=data.T, evidence=100)
    np.testing.assert_allclose(data_term(turned)(mu=mus), np.transpose(expected), atol=1e-9)


@pytest.mark.parametrize("options", [{}, {"evidence": 100}])
def test_derivatives_are_those_of_the_value(trained, options):
    model, step = model_of(trained, **options), 1e-5
    logp, dlogp, point = model.compile_logp(), model.compile_dlogp(), np.array([0.4, 0.1])

    def at(values):
        return dict(zip(("mu", "log_sigma"), values, strict=True))

    moves = step * np.eye(2)
    slopes = [(logp(at(point + m)) - logp(at(point - m))) / (2 * step) for m in moves]
    np.testing.assert_allclose(dlogp(at(point)), slopes, rtol=1e-5)
    bends = [(dlogp(at(point + m)) - dlogp(at(point - m))) / (2 * step) for m in moves]
    found = model.compile_d2logp(negate_output=False)(at(point))
    np.testing.assert_allclose(found, bends, rtol=1e-4, atol=1e-6)


def test_reference_follows_the_data(trained):
    with pm.Model() as model:
        data = pm.Data("data", X)
        mu = pm.Normal("mu", 0, 1)
        nre.RatioLikelihood("x", trained, mu=mu, log_sigma=0.0, observed=data)
    term = data_term(model)
    for values in (X, X - 4.0, X[:3], X):
        with model:
            pm.set_data({"data": values})
        mu, log_sigma = best_reference(trained, values)
        reference = {"mu": mu, "log_sigma": log_sigma}
        expected = trained.log_ratio(values, mu=0.2, log_sigma=0.0, reference=reference)
        np.testing.assert_allclose(term(mu=0.2), expected, atol=1e-9)


@pytest.mark.one_python
def test_data_that_are_a_graph_are_averaged_too(trained):
    with pm.Model() as model:
        data, mu = pm.Data("data", X), pm.Normal("mu", 0, 1)
        nre.RatioLikelihood("x", trained, mu=mu, log_sigma=0.0, observed=data, evidence=100)
    expected = by_references(trained, 100, X, mu=0.2, log_sigma=0.0)
    np.testing.assert_allclose(data_term(model)(mu=0.2), expected, atol=1e-9)


POINT = {"mu": 0.4, "log_sigma": 0.1}


def values_of(model):
    return model.compile_logp()(POINT), model.compile_dlogp()(POINT)


@pytest.mark.one_python
@pytest.mark.parametrize("options", [{}, {"evidence": 100}])
def test_numba_gives_the_same(trained, options):
    with pm.Model() as model:
        data = pm.Data("data", X)
        mu, log_sigma = pm.Normal("mu", 0, 1), pm.Normal("log_sigma", 0, 0.3)
        nre.RatioLikelihood("x", trained, mu=mu, log_sigma=log_sigma, observed=data, **options)
    found = model.compile_logp(mode="NUMBA")(POINT)  # its gradient is compiled on the other Python
    assert found == pytest.approx(float(model.compile_logp()(POINT)), rel=1e-9)


def by_jax(path, options):
    import jax
    from pymc.sampling.jax import get_jaxified_logp

    function = get_jaxified_logp(model_of(nre.load(path), **options))
    point = [np.array(value) for value in POINT.values()]
    value, gradient = jax.value_and_grad(function)(point)
    return float(value), np.array(gradient)


@pytest.mark.one_python
def test_jax_gives_the_same(trained, tmp_path):
    trained.save(tmp_path / "ratio.nre")
    with process_with_jax(optimized=False) as there:
        for options in ({}, {"evidence": 100}):
            found = there(by_jax, tmp_path / "ratio.nre", options)
            for one, other in zip(found, values_of(model_of(trained, **options)), strict=True):
                np.testing.assert_allclose(one, other, rtol=1e-9)


def test_parameters_outside_are_held_back(trained):
    value = {}
    for outside in ("repel", "reject", "ignore"):
        model = model_of(trained, outside=outside)
        value[outside] = data_term(model)(mu=9.0, log_sigma=0.0).sum()
    assert value["reject"] == -np.inf
    assert value["repel"] < value["ignore"] - 10


@pytest.mark.parametrize("mode", [None, "NUMBA"])
def test_average_over_draws_outside_is_rejected(trained, mode):
    """Minus infinity for every draw has no average, and was NaN."""
    model = model_of(trained, outside="reject", evidence=50)
    outside, inside = {"mu": 9.0, "log_sigma": 0.0}, {"mu": 0.4, "log_sigma": 0.1}
    logp = model.compile_logp(mode=mode)
    assert logp(outside) == -np.inf
    found = data_term(model)(**inside)
    np.testing.assert_allclose(found, by_references(trained, 50, X, **inside), atol=1e-9)
    if mode is None:
        np.testing.assert_allclose(model.compile_dlogp()(outside), [-9.0, 0.0])  # of the prior


@pytest.mark.parametrize("mode", [None, "NUMBA"])
def test_infinite_log_ratios_have_an_average(mode):
    """Where exponentials overflow, as they do far from all simulations, it was NaN."""
    table = pt.dmatrix("table")
    outputs = [TrialEvidence(1)(table), TrialWeights(1)(table)]
    function = pytensor.function([table], outputs, mode=mode)
    finite = np.array([[0.5, -1.0], [0.1, 0.2], [-0.3, 0.4]])
    for impossible in (np.full((3, 2), -np.inf), np.where(finite == 0.1, -np.inf, finite)):
        values, weights = function(impossible)
        assert (values == -np.inf).all()
        np.testing.assert_allclose(weights.sum(), 1.0)
    values, weights = function(np.where(finite == 0.1, np.inf, finite))
    rest = np.exp(-finite[[0, 2]].sum(1))
    np.testing.assert_allclose(values.sum(), -np.log(rest.sum() / 3))
    np.testing.assert_allclose(weights[:, 0], [rest[0] / rest.sum(), 0.0, rest[1] / rest.sum()])


def test_symbolic_log_ratio_is_a_table(trained):
    reference = {"mu": 0.3, "log_sigma": -0.2}
    mu = np.array([0.0, 0.5, 1.0])
    options = {"log_sigma": 0.1, "reference": reference}
    found = nre.log_ratio(trained, X[:, None], mu=mu, **options).eval()
    expected = trained.log_ratio(X[:, None], mu=mu, **options)
    np.testing.assert_allclose(found, expected, atol=1e-9)


@pytest.mark.one_python
def test_model_of_a_direct_ratio_samples_and_predicts():
    ratio = direct()
    with pm.Model():
        mu = pm.Normal("mu", 0, 2)
        nre.RatioLikelihood("x", ratio, mu=mu, observed=X)
        options = {"chains": 2, "cores": 1, "random_seed": 1, "progressbar": False}
        idata = pm.sample(500, tune=300, compute_convergence_checks=False, **options)
        predicted = pm.sample_posterior_predictive(idata, random_seed=1, progressbar=False)
    precision = 1 / 4 + len(X)
    # 1,000 draws of an effective size of 200 at least: five standard errors.
    error = 5 / np.sqrt(200 * precision)
    assert float(idata["posterior"]["mu"].mean()) == pytest.approx(X.sum() / precision, abs=error)
    assert predicted["posterior_predictive"]["x"].shape == (2, 500, len(X))


@pytest.mark.parametrize(
    ("far", "told"), [(2.0, "makes 400 observations less likely"), (0.0, "count for 400 obs")]
)
def test_draws_that_are_far_from_the_data_or_few_are_told(far, told):
    """All of two are far behind the best of 256, or one is near the data and the other is not."""
    ratio = direct()
    near, other = ratio.domain.draws[:2, 0]
    # As normal as can be, so that no draw suits them by chance better than that which should.
    data = near - far * np.sign(other - near) + stats.norm.ppf((np.arange(400) + 0.5) / 400)
    with pytest.warns(nre.TrialsWarning, match=told), pm.Model():
        nre.RatioLikelihood("x", ratio, mu=pm.Normal("mu", 0, 1), observed=data, evidence=2)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"reference": {"mu": 0.0}, "evidence": 10},
            ValueError,
            "reference= or evidence=, got both",
        ),
        ({"reference": 0.0}, TypeError, "a value for each of mu by name, got float"),
        ({"reference": {"sigma": 0.0}}, TypeError, "reference: expected the parameters mu"),
        ({"reference": {"mu": np.nan}}, ValueError, "NaN or infinite"),
        ({"reference": {"mu": [0.0, 1.0]}}, ValueError, "one value of each parameter"),
        ({"evidence": 0}, ValueError, "evidence"),
        ({"evidence": 10**7}, ValueError, "evidence: expected at most"),
    ],
)
def test_wrong_comparisons_are_refused(options, error, message):
    with pm.Model(), pytest.raises(error, match=message):
        nre.RatioLikelihood("x", direct(), mu=pm.Normal("mu"), observed=X, **options)


def test_a_reference_outside_is_told():
    ratio = direct()
    with pytest.warns(nre.DomainWarning, match="RatioLikelihood: reference: these parameters"):
        nre.RatioLikelihood.dist(ratio, mu=0.0, reference={"mu": 100.0})
    with pytest.warns(nre.DomainWarning, match="relative_to: these parameters are outside"):
        ratio.relative_to(mu=100.0)


@pytest.mark.parametrize("options", [{}, {"reference": {"mu": 0.0}}, {"evidence": 10}])
def test_no_data_say_nothing(options):
    with pm.Model() as model:
        nre.RatioLikelihood("x", direct(), mu=pm.Normal("mu"), observed=np.zeros(0), **options)
    assert data_term(model, sum=True)(mu=0.3) == 0.0


def test_too_many_comparisons_are_refused():
    options = {"observed": np.zeros(1_000), "evidence": 5_000}
    with pm.Model(), pytest.raises(ValueError, match="evidence=5,000 compares 1,000 observations"):
        nre.RatioLikelihood("x", direct(), mu=pm.Normal("mu"), **options)


def test_ordinary_ratios_take_no_reference():
    ordinary = tasks.GaussianMean().estimator()
    for options in ({"reference": {"mu": 0.0}}, {"evidence": 10}):
        with pm.Model(), pytest.raises(TypeError, match="denominator of its own"):
            nre.RatioLikelihood("x", ordinary, mu=pm.Normal("mu"), observed=X, **options)


def test_groups_that_no_reference_suits_are_told():
    data, group = np.repeat([-8.0, 0.0, 8.0], 4), np.repeat([0, 1, 2], 4)
    for options in ({}, {"reference": {"mu": 0.0}}):
        with pm.Model():
            mu = pm.Uniform("mu", -9.5, 9.5, shape=3)[group]
            with pytest.warns(nre.DomainWarning, match="the one reference that all"):
                nre.RatioLikelihood("x", direct(), mu=mu, observed=data, **options)
    with pm.Model():  # near each other, or sharing their parameters
        mu = pm.Uniform("mu", -9.5, 9.5, shape=3)
        nre.RatioLikelihood("x", direct(), mu=mu[group], observed=data / 8)
        nre.RatioLikelihood("y", direct(), mu=mu[0], observed=data / 4)
