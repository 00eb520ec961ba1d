"""RatioLikelihood and log_ratio in PyMC models, against exact likelihoods."""

import cloudpickle
import numpy as np
import pandas as pd
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
import xarray as xr
from controls import changed
from scipy import stats
from untrained import make_estimator

import pymc_nre as nre
from pymc_nre.estimators.wall import Wall
from pymc_nre.likelihood.random_variable import RatioLikelihoodRV

MEAN, SCALE, LINEAR = (
    nre.tasks.GaussianMean(),
    nre.tasks.LocationScale(),
    nre.tasks.LinearGaussian(),
)
RATIO = MEAN.estimator()
SCALE_RATIO, LINEAR_RATIO = SCALE.estimator(), LINEAR.estimator()
X = np.random.default_rng(1).normal(2.0, 1.0, 10)


def logp_differences(model, points):
    """Log density at each point less that at the first: constants in theta drop out."""
    logp = model.compile_logp()
    values = np.array([logp(point) for point in points])
    return values - values[0]


def exact(prior_logp, likelihood, points):
    values = np.array([prior_logp(p) + likelihood(p) for p in points])
    return values - values[0]


MU_POINTS = [{"mu": np.array(v)} for v in (0.0, 1.0, 2.5)]


def gaussian_exact(points=MU_POINTS, x=X):
    return exact(
        lambda p: stats.norm.logpdf(p["mu"], 1, 3),
        lambda p: stats.norm.logpdf(x, p["mu"], 1).sum(),
        points,
    )


def model_with(build):
    with pm.Model() as model:
        build(pm.Normal("mu", 1, 3))
    return model


@pytest.mark.parametrize("outside", ["repel", "reject", "warn", "ignore"])
def test_likelihood_and_potential_have_the_exact_density(outside):
    likelihood = model_with(
        lambda mu: nre.RatioLikelihood("x", RATIO, mu=mu, observed=X, outside=outside)
    )
    potential = model_with(
        lambda mu: pm.Potential("x", nre.log_ratio(RATIO, X, mu=mu, outside=outside).sum())
    )
    for model in (likelihood, potential):
        np.testing.assert_allclose(logp_differences(model, MU_POINTS), gaussian_exact(), rtol=1e-9)


def test_gradient_is_exact():
    model = model_with(lambda mu: nre.RatioLikelihood("x", RATIO, mu=mu, observed=X))
    gradient = model.compile_dlogp()({"mu": np.array(0.5)})
    np.testing.assert_allclose(gradient, (X - 0.5).sum() - (0.5 - 1) / 9, rtol=1e-9)


def test_one_observation_without_a_batch():
    model = model_with(lambda mu: nre.RatioLikelihood("x", RATIO, mu=mu, observed=X[0]))
    assert model["x"].ndim == 0
    expected = gaussian_exact(x=X[:1])
    np.testing.assert_allclose(logp_differences(model, MU_POINTS), expected, rtol=1e-9)


def test_shape_one_parameters_are_shared():
    with pm.Model() as model:
        mu = pm.Normal("mu", 1, 3, shape=1)
        nre.RatioLikelihood("x", RATIO, mu=mu, observed=X)
    points = [{"mu": p["mu"][None]} for p in MU_POINTS]
    np.testing.assert_allclose(logp_differences(model, points), gaussian_exact(), rtol=1e-9)


def test_parameters_for_each_observation():
    covariate = np.linspace(-1, 1, len(X))
    with pm.Model() as model:
        slope = pm.Normal("slope", 0, 1)
        log_sigma = pm.Normal("log_sigma", 0, 0.2)
        nre.RatioLikelihood(
            "x", SCALE_RATIO, mu=1 + slope * covariate, log_sigma=log_sigma, observed=X
        )
    points = [{"slope": np.array(a), "log_sigma": np.array(b)} for a, b in ((0, 0), (1, 0.3))]
    expected = exact(
        lambda p: stats.norm.logpdf(p["slope"]) + stats.norm.logpdf(p["log_sigma"], 0, 0.2),
        lambda p: stats.norm.logpdf(X, 1 + p["slope"] * covariate, np.exp(p["log_sigma"])).sum(),
        points,
    )
    np.testing.assert_allclose(logp_differences(model, points), expected, rtol=1e-9)


def test_groups_by_indexing_and_dims():
    group = np.repeat([0, 1], 5)
    coords = {"group": ["a", "b"], "trial": range(10)}
    with pm.Model(coords=coords) as model:
        mu = pm.Normal("mu", 0, 1, dims="group")
        nre.RatioLikelihood("x", RATIO, mu=mu[group], observed=X, dims="trial")
    points = [{"mu": np.array(v)} for v in ([0.0, 0.0], [1.0, 2.0], [3.0, -1.0])]
    expected = exact(
        lambda p: stats.norm.logpdf(p["mu"]).sum(),
        lambda p: stats.norm.logpdf(X, p["mu"][group]).sum(),
        points,
    )
    np.testing.assert_allclose(logp_differences(model, points), expected, rtol=1e-9)
    assert model.named_vars_to_dims["x"] == ("trial",)


def test_vector_parameters_and_observations():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(6, 4))
    with pm.Model(coords={"trial": range(6), "channel": range(4)}) as model:
        theta = pm.Normal("theta", 0, 1, shape=3)
        nre.RatioLikelihood("x", LINEAR_RATIO, theta=theta, observed=x, dims=("trial", "channel"))
    points = [{"theta": rng.normal(size=3)} for _ in range(3)]
    expected = exact(
        lambda p: stats.norm.logpdf(p["theta"]).sum(),
        lambda p: stats.norm.logpdf(x, LINEAR.matrix @ p["theta"]).sum(),
        points,
    )
    np.testing.assert_allclose(logp_differences(model, points), expected, rtol=1e-9)


def test_vector_parameters_by_group():
    rng = np.random.default_rng(3)
    x, group = rng.normal(size=(6, 4)), np.array([0, 0, 1, 1, 1, 0])
    with pm.Model() as model:
        theta = pm.Normal("theta", 0, 1, shape=(2, 3))
        nre.RatioLikelihood("x", LINEAR_RATIO, theta=theta[group], observed=x)
    points = [{"theta": rng.normal(size=(2, 3))} for _ in range(3)]
    expected = exact(
        lambda p: stats.norm.logpdf(p["theta"]).sum(),
        lambda p: stats.norm.logpdf(x, p["theta"][group] @ LINEAR.matrix.T).sum(),
        points,
    )
    np.testing.assert_allclose(logp_differences(model, points), expected, rtol=1e-9)


def test_two_batch_axes():
    x = X.reshape(2, 5)
    with pm.Model() as model:
        mu = pm.Normal("mu", 1, 3, shape=(2, 1))
        nre.RatioLikelihood("x", RATIO, mu=mu, observed=x)
    points = [{"mu": np.array(v)[:, None]} for v in ([0.0, 0.0], [1.0, 2.0])]
    expected = exact(
        lambda p: stats.norm.logpdf(p["mu"], 1, 3).sum(),
        lambda p: stats.norm.logpdf(x, p["mu"]).sum(),
        points,
    )
    np.testing.assert_allclose(logp_differences(model, points), expected, rtol=1e-9)


def test_symbolic_grid_of_parameters_broadcasts_against_x():
    values = nre.log_ratio(RATIO, X[:, None], mu=np.linspace(-1, 1, 7)).eval()
    np.testing.assert_allclose(
        values, RATIO.log_ratio(X[:, None], mu=np.linspace(-1, 1, 7)), rtol=1e-12
    )


def test_data_can_be_replaced_by_another_length():
    with pm.Model() as model:
        data = pm.Data("data", X)
        mu = pm.Normal("mu", 1, 3)
        nre.RatioLikelihood("x", RATIO, mu=mu, observed=data)
        logp = model.compile_logp()
        before = [logp(p) for p in MU_POINTS]
        pm.set_data({"data": X[:4] + 1})
        after = [logp(p) for p in MU_POINTS]
    np.testing.assert_allclose(np.array(before) - before[0], gaussian_exact(), rtol=1e-9)
    expected = gaussian_exact(x=X[:4] + 1)
    np.testing.assert_allclose(np.array(after) - after[0], expected, rtol=1e-9)


def test_integer_observations_are_numbers():
    model = model_with(lambda mu: nre.RatioLikelihood("x", RATIO, mu=mu, observed=[1, 2, 3]))
    expected = gaussian_exact(x=np.array([1.0, 2.0, 3.0]))
    np.testing.assert_allclose(logp_differences(model, MU_POINTS), expected, rtol=1e-9)


def sample(model, **options):
    with model:
        return pm.sample(
            **{
                "tune": 100, "draws": 100, "chains": 1, "cores": 1, "random_seed": 1,
                "progressbar": False, "compute_convergence_checks": False, **options,
            }
        )  # fmt: skip


def test_pointwise_log_likelihood():
    model = model_with(lambda mu: nre.RatioLikelihood("x", RATIO, mu=mu, observed=X))
    with model:
        idata = sample(model, step=pm.Slice())
        pm.compute_log_likelihood(idata, progressbar=False)
    pointwise = idata["log_likelihood"]["x"].to_numpy()[0]
    mu = idata["posterior"]["mu"].to_numpy()[0]
    assert pointwise.shape == (100, len(X))
    np.testing.assert_allclose(pointwise, RATIO.log_ratio(X, mu=mu[:, None]), rtol=1e-9)


def test_predictive_sampling_is_the_simulator():
    with pm.Model() as model:
        mu = pm.Normal("mu", 1, 0.1)
        nre.RatioLikelihood("x", RATIO, mu=mu, observed=X)
        idata = sample(model, step=pm.Slice())
        prior = pm.sample_prior_predictive(400, random_seed=1)
        posterior = pm.sample_posterior_predictive(idata, random_seed=1, progressbar=False)
    drawn = prior["prior_predictive"]["x"].to_numpy()
    assert drawn.shape == (1, 400, 10)
    # 400 x 10 draws, mean 1, sd 1, and 400 means of sd 0.1: standard error 0.017.
    assert drawn.mean() == pytest.approx(1.0, abs=5 * 0.017)
    assert posterior["posterior_predictive"]["x"].shape == (1, 100, 10)


def test_draws_of_dist():
    draws = pm.draw(nre.RatioLikelihood.dist(RATIO, mu=[0.0, 5.0]), draws=2_000, random_seed=1)
    np.testing.assert_allclose(draws.mean(0), [0.0, 5.0], atol=5 / 2_000**0.5)
    shaped = nre.RatioLikelihood.dist(LINEAR_RATIO, theta=np.zeros(3), shape=(7, 4))
    assert pm.draw(shaped, random_seed=1).shape == (7, 4)
    sized = nre.RatioLikelihood.dist(LINEAR_RATIO, theta=np.zeros(3), size=7)
    assert pm.draw(sized, random_seed=1).shape == (7, 4)


def test_logp_of_dist():
    value = pm.logp(nre.RatioLikelihood.dist(RATIO, mu=0.5), X).eval()
    np.testing.assert_allclose(value, RATIO.log_ratio(X, mu=0.5), rtol=1e-12)


def test_without_a_simulator_all_but_prediction_works():
    bare = RATIO.for_evaluation()
    model = model_with(lambda mu: nre.RatioLikelihood("x", bare, mu=mu, observed=X))
    np.testing.assert_allclose(logp_differences(model, MU_POINTS), gaussian_exact(), rtol=1e-9)
    with model, pytest.raises(ValueError, match=r"needs the simulator.*simulator=simulator"):
        pm.sample_prior_predictive(5, random_seed=1)
    given = model_with(
        lambda mu: nre.RatioLikelihood(
            "x", bare, mu=mu, observed=X, simulator=lambda rng, mu: rng.normal(mu, 1)
        )
    )
    with given:
        assert pm.sample_prior_predictive(5, random_seed=1)["prior_predictive"]["x"].shape == (
            1, 5, 10,
        )  # fmt: skip


def test_random_variable_is_one_class_and_value_equal():
    first, second = (nre.RatioLikelihood.dist(RATIO, mu=0.0).owner.op for _ in range(2))
    other = nre.RatioLikelihood.dist(LINEAR_RATIO, theta=np.zeros(3)).owner.op
    assert type(first) is type(other) is RatioLikelihoodRV
    assert first == second
    assert hash(first) == hash(second)
    assert first != other


def test_models_pickle():
    model = model_with(lambda mu: nre.RatioLikelihood("x", RATIO, mu=mu, observed=X))
    copy = cloudpickle.loads(cloudpickle.dumps(model))
    np.testing.assert_allclose(logp_differences(copy, MU_POINTS), gaussian_exact(), rtol=1e-9)


# --- the guard -----------------------------------------------------------------------------


def test_prior_that_reaches_outside_is_told_with_its_share():
    with pm.Model():
        mu = pm.Normal("mu", 0, 10)
        with pytest.warns(nre.DomainWarning) as caught:
            nre.RatioLikelihood("x", RATIO, mu=mu, observed=X)
    message = str(caught[0].message)
    share = float(message.split("x: ")[1].split("%")[0]) / 100
    expected = 2 * stats.norm.sf(1.0)
    # 1,000 prior draws: binomial standard error 0.015.
    assert share == pytest.approx(expected, abs=4 * 0.015)
    assert "mu reaches" in message
    assert "mu in [-10, 10]" in message
    assert "likelihood falls off steeply there (outside='repel')" in message


@pytest.mark.parametrize(
    ("ratio", "remedy"),
    [(changed(RATIO, of_x=0.1), r"nre\.center"), (RATIO, "No bias was seen, by .* measure it on")],
    ids=["biased", "exact"],
)
def test_too_many_trials_are_told(ratio, remedy):
    budget = nre.trial_budget(ratio, MEAN.simulate(20_000, random_seed=1))
    many = 10 * budget.trials
    x = np.random.default_rng(1).normal(size=many)

    measured = budget.attach(ratio)

    def model(n, groups=None, ratio=measured):
        with pm.Model():
            mu = pm.Uniform("mu", -9, 9, shape=groups)
            mu = mu if groups is None else mu[np.arange(n) % groups]
            nre.RatioLikelihood("x", ratio, mu=mu, observed=x[:n])

    with pytest.warns(nre.TrialsWarning, match=remedy):
        model(many)
    with pytest.warns(nre.TrialsWarning, match=rf"{many // 2:,} trials"):
        model(many, groups=2)
    model(budget.trials)
    model(many, groups=20)
    model(many, ratio=ratio)  # nothing is known of it


TRAINED = RATIO.replace(loss="NREC()")  # nothing else tells it from one that was trained


def test_many_trials_are_told_where_nothing_is_known():
    def build(n, ratio=TRAINED, groups=None):
        with pm.Model():
            mu = pm.Uniform("mu", -9, 9, shape=groups)
            mu = mu if groups is None else mu[np.arange(n) % groups]
            nre.RatioLikelihood("x", ratio, mu=mu, observed=np.zeros(n))

    measure = r"nre\.simulate\(prior, simulator, 300_000\)\)"
    with pytest.warns(nre.TrialsWarning, match=f"300 trials share their parameters.*{measure}"):
        build(300)
    with pytest.warns(nre.TrialsWarning, match="150 trials share"):
        build(300, groups=2)
    build(30)
    build(300, groups=10)
    build(300, RATIO)  # exact
    with pm.Model():
        few = pm.Minibatch(np.zeros(5_000), batch_size=5)
        mu = pm.Uniform("mu", -9, 9)
        with pytest.warns(nre.TrialsWarning, match="5,000 trials share"):
            nre.RatioLikelihood("x", TRAINED, mu=mu, observed=few, total_size=5_000)


@pytest.mark.parametrize(
    ("shape", "total_size", "trials"),
    [
        ((5,), 400, 400),
        ((5,), [400], 400),
        ((5,), (400,), 400),
        ((5, 3), 400, 1_200),
        ((5, 3), [400, None], 1_200),
        ((5, 3), [400, 30], 12_000),
        ((5, 3), [..., 300], 1_500),
        ((5, 3), [400, ...], 1_200),
    ],
    ids=str,
)
@pytest.mark.parametrize("is_shared", [False, True])
def test_trials_of_a_minibatch_are_those_that_it_stands_for(shape, total_size, trials, is_shared):
    """As PyMC scales its log likelihood: the number of trials, beside those that are there."""
    few = np.zeros(shape)
    with pm.Model() as model:
        given = pytensor.shared(few) if is_shared else few
        mu = pm.Uniform("mu", -9, 9)
        with pytest.warns(nre.TrialsWarning, match=f"^x: {trials:,} trials share"):
            nre.RatioLikelihood("x", TRAINED, mu=mu, observed=given, total_size=total_size)
        pm.Normal("y", 0, 1, observed=few, total_size=total_size)
    found = model.compile_logp(vars=model["y"], sum=False)({"mu_interval__": 0.0})[0].sum()
    one = pm.logp(pm.Normal.dist(0, 1), 0.0).eval()
    assert found / one == pytest.approx(trials)


def test_few_trials_are_no_matter_of_few_simulations():
    few = nre.trial_budget(TRAINED, MEAN.simulate(1_000, random_seed=1)).attach(TRAINED)
    assert few.budget.trials < 30
    assert not few.budget.is_seen
    with pm.Model():
        mu = pm.Uniform("mu", -9, 9)
        nre.RatioLikelihood("x", few, mu=mu, observed=np.zeros(30))
        with pytest.warns(nre.TrialsWarning, match="No bias was seen, by .* measure it on more"):
            nre.RatioLikelihood("y", few, mu=mu, observed=np.zeros(31))


def test_trials_are_counted_for_each_parameter():
    """A scale that all share, locations of two groups, and a design that is given."""
    ratio = make_estimator({"mu": (), "log_sigma": (), "dose": ()}).replace(loss="NREC()")
    x, dose = np.zeros(300), np.linspace(-1, 1, 3)[np.arange(300) % 3]
    with pm.Model():
        mu = pm.Normal("mu", shape=2)[np.arange(300) % 2]
        log_sigma = pm.Normal("log_sigma")
        parameters = {"mu": mu, "log_sigma": log_sigma, "dose": dose}
        with pytest.warns(nre.TrialsWarning, match="300 trials share log_sigma, and how many"):
            nre.RatioLikelihood("x", ratio, observed=x, outside="ignore", **parameters)
    with pm.Model():
        mu, log_sigma = (pm.Normal(name, shape=300) for name in ("mu", "log_sigma"))
        parameters = {"mu": mu, "log_sigma": log_sigma, "dose": dose}
        nre.RatioLikelihood("x", ratio, observed=x, outside="ignore", **parameters)
    with pm.Model():
        parameters = {"mu": pm.Normal("mu"), "log_sigma": 0.0, "dose": 1.0}
        with pytest.warns(nre.TrialsWarning, match="300 trials share mu, and how many"):
            nre.RatioLikelihood("x", ratio, observed=x, outside="ignore", **parameters)


@pytest.mark.parametrize(
    ("trials", "order"),
    [
        (100, r"First fine-tune it.*too wide to mend"),
        (1_000, r"First mend it around.*if that is refused.*fine-tune it"),
        (20_000, r"First fine-tune it.*then mend it around"),
    ],
)
def test_remedies_are_told_in_the_order_in_which_they_help(trials, order):
    wrong = changed(RATIO, of_x=1.0)
    measured = nre.trial_budget(wrong, MEAN.simulate(2_000, random_seed=1)).attach(wrong)
    with pm.Model():
        mu = pm.Uniform("mu", -9, 9)
        with pytest.warns(nre.TrialsWarning, match=order):
            nre.RatioLikelihood("x", measured, mu=mu, observed=np.zeros(trials))


@pytest.mark.parametrize("function", ["RatioLikelihood", "log_ratio"])
def test_policies(function):
    def build(outside):
        with pm.Model() as model:
            mu = pm.Normal("mu", 0, 10)
            if function == "log_ratio":
                values = nre.log_ratio(RATIO, X, mu=mu, outside=outside)
                pm.Potential("x", values.sum())
            else:
                nre.RatioLikelihood("x", RATIO, mu=mu, observed=X, outside=outside)
        return model.compile_logp()({"mu": np.array(10.5)})

    with pytest.warns(nre.DomainWarning, match="set to zero"):
        assert build("reject") == -np.inf
    with pytest.warns(nre.DomainWarning, match="falls off steeply"):
        held = build("repel")
    with pytest.warns(nre.DomainWarning, match="extrapolation"):
        extrapolated = build("warn")
    # The log ratio of the end of the range, less the height of the wall, for each observation.
    wall = Wall.around(RATIO.domain)
    at_the_end = RATIO.log_ratio(X, mu=wall.high[0]) - wall.height(np.array([10.5]))
    assert held == pytest.approx(stats.norm.logpdf(10.5, 0, 10) + at_the_end.sum(), rel=1e-9)
    exact = RATIO.log_ratio(X, mu=10.5).sum()
    assert extrapolated == pytest.approx(stats.norm.logpdf(10.5, 0, 10) + exact, rel=1e-9)
    assert np.isfinite(build("ignore"))  # and no warning, or the test fails
    with pytest.raises(ValueError, match=r"repel, reject, warn, ignore, got 'stop'"):
        build("stop")


def test_only_the_rows_outside_are_rejected():
    with pytest.warns(nre.DomainWarning):
        values = nre.log_ratio(RATIO, X[:3], mu=np.array([0.0, 10.5, 1.0]), outside="reject")
    assert np.isneginf(values.eval()).tolist() == [False, True, False]


def test_training_prior_itself_is_not_told():
    # 1e-4 of it is outside by definition; warnings are errors here.
    with MEAN.prior() as model:
        nre.RatioLikelihood("x", RATIO, mu=model["mu"], observed=X)
    with LINEAR.prior() as model:
        nre.RatioLikelihood("x", LINEAR_RATIO, theta=model["theta"], observed=np.zeros((3, 4)))


def test_priors_without_draws_are_told_as_such():
    with pm.Model():
        mu = pm.Flat("mu")
        with pytest.warns(nre.DomainWarning, match="cannot be drawn from"):
            nre.RatioLikelihood("x", RATIO, mu=mu, observed=X)


def test_combinations_outside_are_told():
    rng = np.random.default_rng(1)
    shared = rng.normal(size=20_000)
    correlated = nre.Simulations(
        {"a": shared + 0.1 * rng.normal(size=20_000), "b": shared + 0.1 * rng.normal(size=20_000)},
        rng.normal(size=20_000),
    )
    options = {"measure_budget": False, "random_seed": 1, "progressbar": False}
    with pytest.warns(nre.TrainingWarning):
        ratio = nre.train(correlated, epochs=1, **options)
    with pm.Model():
        a, b = pm.Normal("a", 0, 0.5), pm.Normal("b", 0, 0.5)
        with pytest.warns(nre.DomainWarning, match="but not their combinations"):
            nre.RatioLikelihood("x", ratio, a=a, b=b, observed=np.zeros(3))


# --- bad input -----------------------------------------------------------------------------


def likelihood(**options):
    arguments = {"mu": 0.0, "observed": X, **options}
    with pm.Model():
        nre.RatioLikelihood("x", RATIO, **arguments)


def test_wrong_parameters():
    with pytest.raises(TypeError, match=r"x: expected the parameters mu, got unknown sigma"):
        likelihood(sigma=1.0)
    with pm.Model(), pytest.raises(TypeError, match=r"got missing mu"):
        nre.RatioLikelihood("x", RATIO, observed=X)
    with pytest.raises(
        TypeError, match=r"expected the parameters theta.*unknown mu; missing theta"
    ):
        nre.log_ratio(LINEAR_RATIO, np.zeros((2, 4)), mu=0.0)
    with pytest.raises(ValueError, match=r"'theta' has own shape \(3,\).*got \(2,\)"):
        nre.log_ratio(LINEAR_RATIO, np.zeros((2, 4)), theta=np.zeros(2))
    with pytest.raises(ValueError, match=r"'theta' has own shape \(3,\).*got \(\)"):
        nre.log_ratio(LINEAR_RATIO, np.zeros((2, 4)), theta=0.0)


def test_wrong_ratio():
    with pm.Model(), pytest.raises(TypeError, match=r"expected a RatioEstimator.*got float"):
        nre.RatioLikelihood("x", 1.0, mu=0.0, observed=X)


@pytest.mark.parametrize(
    "wrap", [np.asarray, pytensor.shared, pt.as_tensor], ids=["array", "shared", "tensor"]
)
def test_observations_of_the_wrong_event_shape(wrap):
    with (
        pm.Model(),
        pytest.raises(
            ValueError,
            match=r"observations of shape \(4,\).*\(\*batch, 4\), got \(10, 3\).*Reshape",
        ),
    ):
        nre.RatioLikelihood("x", LINEAR_RATIO, theta=np.zeros(3), observed=wrap(np.zeros((10, 3))))


def test_missing_observations():
    holes = X.copy()
    holes[[1, 3]] = np.nan
    for observed in (holes, np.ma.masked_invalid(holes), pytensor.shared(holes)):
        with pytest.raises(ValueError, match=r"2 masked, NaN or infinite values.*Leave out"):
            likelihood(observed=observed)


def test_missing_observations_in_pandas_and_xarray():
    for observed in (pd.Series([1.0, np.nan]), xr.DataArray([1.0, np.nan])):
        with pytest.raises(ValueError, match=r"1 masked, NaN or infinite values"):
            likelihood(observed=observed)
    likelihood(observed=pd.Series([1.0, 2.0]))


def test_unobserved():
    with pytest.raises(ValueError, match=r"must be observed.*Pass observed=data"):
        likelihood(observed=None)


def test_observations_that_are_not_numbers():
    with pytest.raises(TypeError, match=r"x: observed: expected numbers, got .* of dtype <U1"):
        likelihood(observed=["a", "b"])


def test_more_parameters_than_observations():
    with pytest.raises(ValueError, match=r"[Ss]hape|broadcast|[Ss]ize"):
        likelihood(mu=np.zeros((2, 10)))


def test_unknown_engine():
    with pytest.raises(ValueError, match="engine must be one of auto, compiled, torch, got 'jax'"):
        likelihood(engine="jax")
    with pytest.raises(ValueError, match="precision must be 'double' or 'single', got 'half'"):
        likelihood(precision="half")


def test_engine_that_cannot_evaluate_a_ratio_is_refused():
    with pytest.raises(ValueError, match="cannot evaluate this ratio: its network"):
        likelihood(engine="compiled")
    with pytest.raises(ValueError, match="precision='single' is for the compiled engine"):
        likelihood(precision="single")


def test_matrix_parameters():
    shapes = {"m": (2, 2), "s": ()}
    rng = np.random.default_rng(4)
    parameters = {name: rng.normal(size=(500, *own)) for name, own in shapes.items()}
    with pytest.warns(nre.TrainingWarning):
        ratio = nre.train(
            nre.Simulations(parameters, rng.normal(size=(500, 3))),
            epochs=1, random_seed=1, progressbar=False,
        )  # fmt: skip
    x, m, s = rng.normal(size=(4, 3)), 0.1 * rng.normal(size=(4, 2, 2)), 0.2
    expected = ratio.log_ratio(x, m=m, s=s)
    np.testing.assert_allclose(nre.log_ratio(ratio, x, m=m, s=s).eval(), expected, rtol=1e-12)
    shared = nre.log_ratio(ratio, x, m=m[0], s=s).eval()
    np.testing.assert_allclose(shared, ratio.log_ratio(x, m=m[0], s=s), rtol=1e-12)


@pytest.mark.parametrize("linker", ["cvm", "numba"])
@pytest.mark.parametrize("ratio", [RATIO, LINEAR_RATIO], ids=["scalar", "vector"])
def test_draws_on_every_linker(ratio, linker):
    mode = pytensor.compile.mode.Mode(linker=linker, optimizer=None)
    mode = pytensor.compile.mode.get_mode("NUMBA") if linker == "numba" else mode
    parameters = {name: np.zeros((3, *own)) for name, own in ratio.parameters.items()}
    draws = pm.draw(
        nre.RatioLikelihood.dist(ratio, **parameters), draws=200, random_seed=1, mode=mode
    )
    assert draws.shape == (200, 3, *ratio.event_shape)
    assert len(np.unique(draws)) == draws.size  # the generator moves on between draws


@pytest.mark.parametrize(("per_row", "rows"), [(False, 1), (True, 10)])
def test_shared_parameters_reach_the_network_as_one_row(per_row, rows, monkeypatch):
    with pm.Model() as model:
        mu = pm.Normal("mu", 0, 1)
        log_sigma = pm.Normal("log_sigma", 0, 0.1)
        row_mu = mu + np.linspace(0, 1, 10) if per_row else mu
        own = {"mu": row_mu, "log_sigma": log_sigma}
        nre.RatioLikelihood("x", SCALE_RATIO, **own, observed=X, engine="torch")
    seen, evaluator = [], nre.estimators.evaluator.TorchEvaluator
    original = evaluator.value
    monkeypatch.setattr(
        evaluator,
        "value",
        lambda self, theta, x: seen.append(len(theta)) or original(self, theta, x),
    )
    logp = model.compile_logp()
    seen.clear()
    logp({"mu": np.array(0.0), "log_sigma": np.array(0.0)})
    assert seen == [rows]


def test_predictions_follow_the_shape_that_is_given():
    with pm.Model() as model:
        t = pm.Data("t", np.linspace(-1, 1, len(X)))
        mu = pm.Normal("b", 0, 1) * t
        nre.RatioLikelihood("x", RATIO, mu=mu, observed=X, shape=mu.shape)
    points = [{"b": np.array(v)} for v in (0.0, 1.0)]
    got = logp_differences(model, points)
    t_now = model["t"].get_value()
    expected = exact(
        lambda p: stats.norm.logpdf(p["b"]),
        lambda p: stats.norm.logpdf(X, p["b"] * t_now, 1).sum(),
        points,
    )
    np.testing.assert_allclose(got, expected, rtol=1e-9)
    with model:
        pm.set_data({"t": [2.0, 0.0, 1.0]})
        drawn = pm.sample_prior_predictive(5, random_seed=1)["prior_predictive"]["x"]
    assert drawn.shape == (1, 5, 3)


@pytest.mark.filterwarnings("ignore:The `pymc.dims` module is experimental:UserWarning")
def test_variables_with_named_axes_are_refused_in_words():
    import pymc.dims as pmd

    with pm.Model(coords={"trial": range(len(X))}):
        mu = pmd.Normal("mu", 0, 1, dims="trial")
        data = pmd.Data("data", X, dims="trial")
        with pytest.raises(TypeError, match=r"x: expected mu as a plain tensor.*\('trial',\)"):
            nre.RatioLikelihood("x", RATIO, mu=mu, observed=X)
        with pytest.raises(TypeError, match=r"x: expected observed as a plain tensor"):
            nre.RatioLikelihood("x", RATIO, mu=0.0, observed=data)
        nre.RatioLikelihood("x", RATIO, mu=mu.values, observed=data.values)


def test_a_ratio_in_the_place_of_the_name_is_told():
    with pm.Model(), pytest.raises(TypeError, match=r"a name and then a ratio.*\(\"x\", ratio"):
        nre.RatioLikelihood(make_estimator({"mu": ()}), "x", mu=0.0, observed=[0.0])


@pytest.mark.parametrize("dims", ["trial", ("trial",), ("trial", "feature", "trial")])
@pytest.mark.parametrize("data", [lambda x: x, lambda x: pm.Data("data", x)])
def test_dims_name_the_axes_of_an_observation_too(dims, data):
    ratio = make_estimator({"mu": ()}, (3,))
    with pm.Model(coords={"trial": range(5), "feature": range(3)}) as model:
        x = data(np.zeros((5, 3)))
        with pytest.raises(ValueError, match=r"x: expected dims for each of the 2 axes.*Name them"):
            nre.RatioLikelihood("x", ratio, mu=0.0, observed=x, dims=dims)
        nre.RatioLikelihood("y", ratio, mu=0.0, observed=x, dims=("trial", "feature"))
    assert model.named_vars_to_dims["y"] == ("trial", "feature")


@pytest.mark.parametrize("engine", ["compiled", "torch"])
@pytest.mark.parametrize("outside", ["repel", "ignore"])
def test_own_lengths_that_change_later_are_told(engine, outside):
    with pm.Model() as model:
        beta = pm.Normal("beta", pm.Data("center", np.zeros(2)), 1)
        nre.RatioLikelihood(
            "x", make_estimator({"beta": (2,)}), beta=beta, observed=np.zeros(4),
            engine=engine, outside=outside,
        )  # fmt: skip
    logp = model.compile_logp()
    assert np.isfinite(logp({"beta": np.zeros(2)}))
    model["center"].set_value(np.zeros(3))
    with pytest.raises(ValueError, match=r"'beta' has own shape \(2,\).*own axes last"):
        logp({"beta": np.zeros(3)})
