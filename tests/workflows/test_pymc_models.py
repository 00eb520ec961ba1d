"""Models of every kind: with a ratio and with the density it stands for, they are the same.

The ratios are exact, so log densities may differ by a constant, and gradients not at all.
What a ratio cannot do is refused, with a reason. Samplers, predictions and comparisons are in
workflows/test_pymc_workflow.py; docs/pymc_features.md lists all of it.
"""

import cloudpickle
import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest
import xarray as xr
from pymc.model.transform import optimization
from untrained import make_estimator

import pymc_nre as nre

RATIO = nre.tasks.GaussianMean().estimator()
WIDE = nre.tasks.LocationScale().estimator()
LINEAR = nre.tasks.LinearGaussian()
LINEAR_RATIO = LINEAR.estimator()
X = np.random.default_rng(1).normal(0.5, 1.0, 12)
GROUP = np.repeat([0, 1, 2], 4)
TIME = np.linspace(-1, 1, 12)


def with_ratio(name, mu, **options):
    return nre.RatioLikelihood(name, RATIO, mu=mu, **options)


def with_density(name, mu, **options):
    return pm.Normal(name, mu, 1, **options)


def build(fill, likelihood, coords=None):
    with pm.Model(coords=coords) as model:
        fill(likelihood)
    return model


def points_of(model, number=4):
    """Points around the initial one, in the unconstrained space."""
    rng, start = np.random.default_rng(2), model.initial_point()
    return [
        {name: value + rng.normal(0, 0.3, value.shape) for name, value in start.items()}
        for _ in range(number)
    ]


def evaluate(model, points, mode=None):
    """Log densities less that at the first point, as constants drop out, and gradients."""
    function = model.compile_fn([model.logp(), model.dlogp()], mode=mode)
    values, gradients = zip(*(function(point) for point in points), strict=True)
    return np.array(values) - values[0], np.array(gradients)


def assert_same(model, expected):
    points = points_of(expected)
    got, wanted = evaluate(model, points), evaluate(expected, points, mode="FAST_COMPILE")
    np.testing.assert_allclose(got[0], wanted[0], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(got[1], wanted[1], rtol=1e-9, atol=1e-9)


def assert_same_model(fill, ratio=with_ratio, density=with_density, coords=None):
    model = build(fill, ratio, coords)
    assert_same(model, build(fill, density, coords))
    return model


# --- structures ----------------------------------------------------------------------------


def shared_mean(likelihood):
    likelihood("x", pm.Normal("mu", 0, 1), observed=X)


def hierarchy(likelihood):
    center, spread = pm.Normal("center", 0, 1), pm.HalfNormal("spread", 0.5)
    mu = pm.Normal("mu", center, spread, dims="group")
    likelihood("x", mu[GROUP], observed=X, dims="trial")


def test_hierarchy():
    coords = {"group": ["a", "b", "c"], "trial": np.arange(12)}
    model = assert_same_model(hierarchy, coords=coords)
    assert model.named_vars_to_dims["x"] == ("trial",)


def test_twin_another_grouping_is_another_model():
    def shuffled(likelihood):
        mu = pm.Normal("mu", 0, 1, shape=3)
        likelihood("x", mu[GROUP if likelihood is with_ratio else GROUP[::-1]], observed=X)

    with pytest.raises(AssertionError):
        assert_same_model(shuffled)


def test_noncentered_hierarchy_with_deterministics():
    def fill(likelihood):
        center, spread = pm.Normal("center", 0, 1), pm.HalfNormal("spread", 0.5)
        z = pm.Normal("z", 0, 1, shape=3)
        mu = pm.Deterministic("mu", center + spread * z)
        likelihood("x", mu[GROUP], observed=X)

    assert_same_model(fill)


def test_plates_over_groups():
    def fill(likelihood):
        mu = pm.Normal("mu", 0, 1, dims="group")
        likelihood("x", mu[:, None], observed=X.reshape(3, 4), dims=("group", "trial"))

    model = assert_same_model(fill, coords={"group": ["a", "b", "c"], "trial": np.arange(4)})
    assert model["x"].eval().shape == (3, 4)


def test_covariates():
    def fill(likelihood):
        a, b = pm.Normal("a", 0, 1), pm.Normal("b", 0, 1)
        t = pm.Data("t", TIME)
        likelihood("x", a + b * t, observed=X)

    assert_same_model(fill)


def test_varying_slopes_by_matrix_product():
    def fill(likelihood):
        beta = pm.Normal("beta", 0, 0.5, shape=2)
        design = np.column_stack([np.ones(12), TIME])
        likelihood("x", pm.math.dot(design, beta), observed=X)

    assert_same_model(fill)


def test_two_parameters_with_different_batches():
    def fill(likelihood):
        mu = pm.Normal("mu", 0, 0.5, shape=3)
        likelihood("x", mu[GROUP], pm.Normal("log_sigma", 0, 0.1), observed=X)

    assert_same_model(
        fill,
        lambda name, mu, log_sigma, **options: nre.RatioLikelihood(
            name, WIDE, mu=mu, log_sigma=log_sigma, **options
        ),
        lambda name, mu, log_sigma, **options: pm.Normal(
            name, mu, pm.math.exp(log_sigma), **options
        ),
    )


def test_vector_parameter():
    x = np.random.default_rng(3).normal(size=(6, 4))

    def fill(likelihood):
        likelihood("x", pm.Normal("theta", 0, 1, shape=3), observed=x, dims=("trial", "channel"))

    assert_same_model(
        fill,
        lambda name, theta, **options: nre.RatioLikelihood(
            name, LINEAR_RATIO, theta=theta, **options
        ),
        lambda name, theta, **options: pm.Normal(name, LINEAR.matrix @ theta, 1, **options),
        coords={"trial": np.arange(6), "channel": np.arange(4)},
    )


def test_two_ratios_in_one_model():
    def fill(likelihood):
        mu = pm.Normal("mu", 0, 0.5)
        likelihood("x", mu, observed=X)
        if likelihood is with_ratio:
            nre.RatioLikelihood("y", WIDE, mu=2 * mu, log_sigma=0.3, observed=X[:5])
        else:
            pm.Normal("y", 2 * mu, np.exp(0.3), observed=X[:5])

    assert_same_model(fill)


def test_beside_ordinary_likelihoods_and_potentials():
    def fill(likelihood):
        mu = pm.Normal("mu", 0, 1)
        likelihood("x", mu, observed=X)
        pm.Poisson("counts", pm.math.exp(mu), observed=[0, 2, 1])
        pm.Potential("soft", -(mu**4))

    assert_same_model(fill)


def test_transformed_and_discrete_parents():
    def fill(likelihood):
        rate, switch = pm.Beta("rate", 2, 2), pm.Bernoulli("switch", 0.5)
        likelihood("x", pm.math.switch(switch, rate, -rate), observed=X)

    models = [build(fill, likelihood) for likelihood in (with_ratio, with_density)]
    points = [
        {"rate_logodds__": np.array(value), "switch": np.array(index)}
        for value, index in ((0.0, 0), (0.4, 1), (-0.3, 0))
    ]
    got, wanted = (evaluate(model, points)[0] for model in models)
    np.testing.assert_allclose(got, wanted, rtol=1e-9)


# --- data ----------------------------------------------------------------------------------


def with_data(values, likelihood=with_ratio, **options):
    with pm.Model(**options) as model:
        data = pm.Data("data", values)
        likelihood("x", pm.Normal("mu", 0, 1), observed=data)
    return model


def test_set_data_with_a_new_length():
    model, expected = with_data(X), with_data(X[:5] + 1, with_density)
    with model:
        pm.set_data({"data": X[:5] + 1})
    assert_same(model, expected)


def test_set_data_and_covariates_together():
    def fill(likelihood):
        data, t = pm.Data("data", X, dims="trial"), pm.Data("t", TIME, dims="trial")
        likelihood("x", pm.Normal("b", 0, 1) * t, observed=data, dims="trial")

    models = [
        build(fill, likelihood, {"trial": np.arange(12)})
        for likelihood in (with_ratio, with_density)
    ]
    for model in models:
        with model:
            pm.set_data({"data": X[:3], "t": TIME[:3]}, coords={"trial": np.arange(3)})
    assert_same(*models)


def test_set_data_with_holes_is_refused_when_the_model_is_compiled():
    model = with_data(X)
    with model:
        pm.set_data({"data": [1.0, np.nan, np.inf]})
        with pytest.raises(ValueError, match=r"data: observed has 2 masked, NaN or inf.*Leave out"):
            pm.sample(10, tune=10, chains=1, progressbar=False)


@pytest.mark.parametrize("hole", [np.nan, np.inf, -np.inf])
def test_compiled_models_refuse_holes_that_come_later(hole):
    model = with_data(X)
    logp, gradient = model.compile_logp(), model.compile_dlogp()
    point = {"mu": np.array(0.3)}
    assert np.isfinite(logp(point))
    model["data"].set_value(np.array([1.0, hole]))
    for function in (logp, gradient):
        with pytest.raises(ValueError, match=r"must have no NaN or infinite.*Leave out"):
            function(point)


def test_holes_in_a_minibatch_are_refused():
    with pm.Model() as model:
        batch = pm.Minibatch(np.full(50, np.nan), batch_size=5)
        with_ratio("x", pm.Normal("mu", 0, 1), observed=batch, total_size=50)
    with pytest.raises(ValueError, match="must have no NaN or infinite"):
        model.compile_logp()({"mu": np.array(0.3)})


def test_holes_in_a_symbolic_constant_are_refused():
    with pm.Model(), pytest.raises(ValueError, match=r"x: observed has 1 masked, NaN"):
        with_ratio("x", pm.Normal("mu", 0, 1), observed=pt.as_tensor([1.0, np.nan]))


def test_constant_data_are_not_looked_at_twice():
    def checks(model):
        nodes = model.compile_logp().f.maker.fgraph.apply_nodes
        return sum(type(node.op).__name__ == "CheckParameterValue" for node in nodes)

    assert checks(build(shared_mean, with_ratio)) == 0
    assert checks(with_data(X)) == 1
    assert checks(with_data(X, check_bounds=False)) == 0


# --- what models can be asked --------------------------------------------------------------


def test_observe_and_do():
    model, expected = (build(hierarchy_free, x) for x in (with_ratio, with_density))
    assert_same(pm.observe(model, {"b": 0.4}), pm.observe(expected, {"b": 0.4}))
    done = pm.do(model, {"a": 3.0, "b": 0.0})
    assert not done.free_RVs
    draws = pm.draw(done["x"], draws=500, random_seed=1)
    # 500 x 12 independent draws of N(3, 1)
    assert draws.mean() == pytest.approx(3.0, abs=5 / 6_000**0.5)


def hierarchy_free(likelihood):
    a, b = pm.Normal("a", 0, 1), pm.Normal("b", 0, 1)
    likelihood("x", a + b * TIME, observed=X)


def test_debug_finds_no_problem(capsys):
    build(shared_mean, with_ratio).debug()
    assert "No problems found" in capsys.readouterr().out


@pytest.mark.parametrize("simulator", [False, True])
@pytest.mark.parametrize("mutable", [False, True])
def test_graph_needs_no_draw(simulator, mutable):
    def never(rng, mu):
        raise AssertionError("the simulator was run")

    with pm.Model(coords={"trial": np.arange(12)}) as model:
        mu = pm.Normal("mu", 0, 1)
        data = pm.Data("data", X, dims="trial") if mutable else X
        nre.RatioLikelihood(
            "x", RATIO.for_evaluation(), mu=mu, observed=data, dims="trial",
            simulator=never if simulator else None,
        )  # fmt: skip
    for candidate in (model, model.copy()):
        graph = pm.model_graph.ModelGraph(candidate)
        assert "mu" in graph.make_compute_graph()["x"]
        shapes = {
            node.var.name: plate.dim_info.lengths
            for plate in graph.get_plates()
            for node in plate.variables
        }
        assert shapes["x"] == (12,)
    assert "x ~ RatioLikelihood" in pm.model_to_mermaid(model)


def test_text_and_latex():
    model = build(shared_mean, with_ratio)
    assert "x ~ RatioLikelihood(mu)" in model.str_repr()
    assert r"\operatorname{RatioLikelihood}(\text{mu})" in model.str_repr("latex")


def test_copies_and_pickles():
    model, expected = (with_data(X, likelihood) for likelihood in (with_ratio, with_density))
    assert_same(model.copy(), expected)
    assert_same(cloudpickle.loads(cloudpickle.dumps(model)), expected)


def test_data_and_dims_can_be_frozen():
    frozen = optimization.freeze_dims_and_data(with_data(X))
    assert_same(frozen, with_data(X, with_density))
    assert "x ~ RatioLikelihood" in pm.model_to_mermaid(frozen)


@pytest.mark.skipif(not hasattr(optimization, "freeze_model"), reason="PyMC 5 has none")
@pytest.mark.parametrize("ratio", [RATIO, make_estimator({"mu": ()})], ids=["torch", "compiled"])
def test_frozen_models_follow_their_data(ratio):
    """They compile once; what was compiled sees new data, and draws predictions of their length."""

    def with_covariate(t, x):
        with pm.Model() as model:
            t, data = pm.Data("t", t), pm.Data("data", x)
            mu = pm.Deterministic("mu", pm.Normal("b", 0, 1) * t)
            nre.RatioLikelihood("x", ratio, mu=mu, observed=data, simulator=lambda rng, mu: 10 * mu)
        return model

    point = {"b": np.array(0.3)}
    frozen = optimization.freeze_model(with_covariate(TIME, X))
    logp, gradient = frozen.compile_logp(), frozen.compile_dlogp()
    posterior = xr.Dataset({"b": (("chain", "draw"), np.array([[0.3, 0.4]]))})
    for t, x in ((TIME, X), (TIME[:5] / 2, X[:5] + 1)):
        with frozen:
            pm.set_data({"t": t, "data": x})
            predicted = pm.sample_posterior_predictive(
                xr.DataTree.from_dict({"posterior": posterior}), predictions=True, progressbar=False
            )
        expected = with_covariate(t, x)
        assert frozen.compile_logp().f is logp.f
        assert logp(point) == pytest.approx(expected.compile_logp()(point), rel=1e-12)
        assert gradient(point) == pytest.approx(expected.compile_dlogp()(point), rel=1e-12)
        np.testing.assert_allclose(predicted["predictions"]["x"][0, 1], 10 * 0.4 * t)


# --- what a ratio cannot do ----------------------------------------------------------------


def test_unobserved_by_the_back_door():
    with pm.Model() as model, pytest.raises(ValueError, match=r"x: .*must be observed.*observed="):
        model.register_rv(nre.RatioLikelihood.dist(RATIO, mu=0.0), "x")


@pytest.mark.parametrize(
    "nest",
    [
        lambda ratio: pm.Mixture("x", [0.5, 0.5], [ratio, pm.Normal.dist(0, 5)], observed=X),
        lambda ratio: pm.Mixture("x", [0.5, 0.5], [pm.Normal.dist(0, 5), ratio], observed=X),
        lambda ratio: pm.Censored("x", ratio, lower=-1, upper=1, observed=X),
        lambda ratio: pm.Truncated("x", ratio, lower=-1, upper=1, observed=X),
    ],
    ids=["lapses", "lapses second", "censored", "truncated"],
)
def test_nesting_in_other_distributions_is_refused(nest):
    with pm.Model(), pytest.raises(ValueError, match=r"cannot be part of a mixture.*simulator"):
        nest(nre.RatioLikelihood.dist(RATIO, mu=pm.Normal("mu", 0, 1)))


def test_mixture_within_one_ratio():
    def of_ratios(value, weights, mu):
        log_ratios = nre.log_ratio(RATIO, value[:, None], mu=mu)
        return pt.logsumexp(pt.log(weights) + log_ratios, axis=-1)

    def fill(likelihood):
        weights, mu = pm.Dirichlet("weights", [1, 1]), pm.Normal("mu", 0, 1, shape=2)
        likelihood("x", weights, mu)

    assert_same_model(
        fill,
        lambda name, weights, mu: pm.CustomDist(
            name, weights, mu, logp=of_ratios, signature="(k),(k)->()", observed=X
        ),
        lambda name, weights, mu: pm.NormalMixture(name, weights, mu, sigma=1, observed=X),
    )


def test_custom_distribution_around_a_ratio():
    def fill(likelihood):
        likelihood("x", pm.Normal("mu", 0, 1))

    def dist(mu, size):
        return nre.RatioLikelihood.dist(RATIO, mu=2 * mu, size=size)

    assert_same_model(
        fill,
        lambda name, mu: pm.CustomDist(name, mu, dist=dist, observed=X),
        lambda name, mu: pm.Normal(name, 2 * mu, 1, observed=X),
    )
