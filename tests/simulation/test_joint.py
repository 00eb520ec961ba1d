"""Nuisance parameters, fixed values, integers, and variables that simulate themselves."""

import multiprocessing
import tracemalloc
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pymc as pm
import pytensor
import pytest
import xarray as xr
from scipy import stats
from untrained import make_estimator

import pymc_nre as nre
from pymc_nre.estimators.domain import Domain
from pymc_nre.losses import CARL
from pymc_nre.networks import MLP
from pymc_nre.simulation.execution import simulate_at
from pymc_nre.simulation.joint import JointSimulator


class DaskClient:
    """Submits, and gives futures of its own."""

    def submit(self, *task):
        return 1


N = 2_000
KS = stats.kstwobign.isf(1e-4) / np.sqrt(N)  # exceeded once in 10,000 times


def distance(draws, cdf):
    """Kolmogorov and Smirnov's, of draws from an exact distribution."""
    return stats.kstest(draws, cdf).statistic


def simulate(prior, simulator, n=N, **options):
    options = {"random_seed": 1, "progressbar": False} | options
    return nre.simulate(prior, simulator, n, **options)


def assert_identical(one, other):
    assert one.layout == other.layout
    np.testing.assert_array_equal(one.theta, other.theta)
    np.testing.assert_array_equal(one.x, other.x)


def normal(rng, mu, sigma):
    return rng.normal(mu, sigma)


def location_and_scale():
    return {"mu": pm.Uniform.dist(-3.0, 3.0), "sigma": pm.HalfNormal.dist(2.0)}


def scale_mixture_cdf(z, sd=2.0):
    """Of N(0, sigma) with sigma half-normal: an average over sigma's quantiles."""
    sigma = stats.halfnorm(scale=sd).ppf((np.arange(2_000) + 0.5) / 2_000)
    return stats.norm.cdf(np.asarray(z)[:, None] / sigma).mean(-1)


def estimator_of(simulations):
    """Untrained: for predictions, only the simulator matters."""
    layout = simulations.layout
    options = {"simulator": simulations.simulator, "integer": layout.integer}
    return make_estimator(layout.shapes, simulations.event_shape, MLP((3,)), **options)


def predict(ratio, **values):
    """A predictive draw ``(n,)`` for each of ``n`` values of the parameters."""
    with pm.Model():
        given = {
            name: pm.Poisson(name, 4.0) if value.dtype.kind == "i" else pm.Normal(name)
            for name, value in values.items()
        }
        nre.RatioLikelihood("x", ratio, observed=0.0, outside="ignore", **given)
        trace = xr.Dataset({k: (("chain", "draw"), v[None]) for k, v in values.items()})
        drawn = pm.sample_posterior_predictive(trace, random_seed=1, progressbar=False)
    return drawn["posterior_predictive"]["x"].to_numpy()[0]


# --- nuisance --------------------------------------------------------------------------------


@pytest.mark.parametrize("batched", [False, True])
def test_nuisance_is_drawn_and_not_shown(batched):
    simulations = simulate(location_and_scale(), normal, parameters=["mu"], batched=batched)
    assert simulations.layout.shapes == {"mu": ()}
    assert distance(simulations.parameters["mu"], stats.uniform(-3, 6).cdf) < KS
    residuals = simulations.x - simulations.parameters["mu"]
    assert distance(residuals, scale_mixture_cdf) < KS
    # The twins: one sigma for all, or residuals of another draw's mu.
    assert distance(residuals, stats.norm(0, residuals.std()).cdf) > KS
    assert (
        distance(simulations.x - np.roll(simulations.parameters["mu"], 1), scale_mixture_cdf) > KS
    )
    np.testing.assert_allclose(simulations.log_prior, -np.log(6), rtol=1e-6)


def test_the_parameters_alone_decide_what_is_nuisance():
    both = simulate(location_and_scale(), normal, 100)
    one = simulate(location_and_scale(), normal, 100, parameters="mu")
    np.testing.assert_array_equal(one.x, both.x)  # the same draws, less of them shown
    np.testing.assert_array_equal(one.parameters["mu"], both.parameters["mu"])
    reversed_order = simulate(location_and_scale(), normal, 100, parameters=["sigma", "mu"])
    assert_identical(reversed_order, both)


def test_what_the_prior_computes_is_no_parameter():
    with pm.Model() as prior:
        a, b = pm.Normal("a"), pm.Normal("b")
        pm.Deterministic("c", a * b)
    told = r"got .*'c'\. c is a pm\.Deterministic, .* simulator compute c\..*\{'c': draws\}, x\)\.$"
    for names in (["c"], ["a", "c"]):
        with pytest.raises(ValueError, match=told):
            simulate(prior, lambda rng, **given: 0.0, parameters=names)


@pytest.mark.parametrize("parameters", [["nu"], ["mu", "nu"], [], "nu"])
def test_parameters_must_be_of_the_prior(parameters):
    with pytest.raises(ValueError, match=r"^parameters must name free variables .*, mu, sigma; go"):
        simulate(location_and_scale(), normal, parameters=parameters)


@pytest.mark.parametrize("batched", [False, True])
def test_predictions_draw_nuisance_afresh(batched):
    simulations = simulate(location_and_scale(), normal, 50, parameters=["mu"], batched=batched)
    mu = np.linspace(-3, 3, N)
    x = predict(estimator_of(simulations), mu=mu)
    assert distance(x - mu, scale_mixture_cdf) < KS
    # Var(x | mu) = E sigma^2 = 4, and E x^4 = 3 E sigma^4 = 144: the variance of (x - mu)^2.
    assert abs(np.mean((x - mu) ** 2) - 4) < 4 * np.sqrt((144 - 16) / N)
    # The twin: a normal distribution of the same variance.
    assert distance(2 * np.random.default_rng(1).normal(size=N), scale_mixture_cdf) > KS


def test_nuisance_may_depend_on_a_parameter():
    mu = pm.Uniform.dist(1.0, 3.0)
    prior = {"mu": mu, "nu": pm.Normal.dist(mu**2, 0.1)}
    simulations = simulate(prior, lambda rng, mu, nu: nu, parameters=["mu"])
    standardized = (simulations.x - simulations.parameters["mu"] ** 2) / 0.1
    assert distance(standardized, stats.norm.cdf) < KS
    np.testing.assert_allclose(simulations.log_prior, -np.log(2), rtol=1e-6)
    values = np.linspace(1, 3, N)
    x = predict(estimator_of(simulations), mu=values)
    assert distance((x - values**2) / 0.1, stats.norm.cdf) < KS
    assert distance((x - np.roll(values, 200) ** 2) / 0.1, stats.norm.cdf) > KS  # the twin


def spread_of_groups():
    with pm.Model() as model:
        tau = pm.HalfNormal("tau", 1.0)
        mu = pm.Normal("mu", 0.0, tau)
        pm.Normal("x", mu, 1.0)
    return model


def test_a_parameter_may_depend_on_nuisance():
    simulations = simulate(spread_of_groups(), "x", parameters=["mu"])
    assert distance(simulations.parameters["mu"], lambda z: scale_mixture_cdf(z, 1.0)) < KS
    assert simulations.log_prior is None  # it would take an integral over tau
    ratio = nre.train(simulations, epochs=2, random_seed=1, progressbar=False)
    mu = np.linspace(-2, 2, N)
    x = predict(ratio, mu=mu)  # x does not need tau
    assert distance(x - mu, stats.norm.cdf) < KS


def test_a_function_would_need_that_nuisance_to_predict():
    tau = pm.HalfNormal.dist(1.0)
    prior = {"tau": tau, "mu": pm.Normal.dist(0.0, tau)}
    simulations = simulate(prior, lambda rng, tau, mu: rng.normal(mu), 200, parameters=["mu"])
    assert simulations.log_prior is None
    with pytest.raises(ValueError, match=r"Cannot draw tau given mu: mu itself depends on variabl"):
        predict(estimator_of(simulations), mu=np.zeros(3))


# --- integers --------------------------------------------------------------------------------


def count(rng, k, mu):
    assert np.issubdtype(np.asarray(k).dtype, np.integer), k
    return rng.normal(mu, 0.1, size=10)[:k].sum()  # a float cannot slice


def counts():
    return {"k": pm.Binomial.dist(3, 0.5), "mu": pm.Normal.dist(2.0, 0.1)}


def test_integers_reach_the_simulator_as_integers(tmp_path):
    simulations = simulate(counts(), count, 200)
    assert simulations.n_failed == 0
    assert simulations.layout.integer == {"k"}
    assert simulations.parameters["k"].dtype == float  # networks know floats
    estimator_of(simulations).save(tmp_path / "r.nre")
    ratio = nre.load(tmp_path / "r.nre", simulator=count)
    assert ratio.layout.integer == {"k"}
    assert "k (integer scalar), mu (scalar)" in repr(ratio)
    k = np.arange(300) % 9 + 1
    x = predict(ratio, k=k, mu=np.full(300, 2.0))
    np.testing.assert_allclose(x, 2.0 * k, atol=6 * 0.1 * 3)


def test_twin_floats_cannot_count():
    with pytest.raises(nre.SimulationError, match="AssertionError"):
        simulate({"k": pm.Uniform.dist(1, 9), "mu": pm.Normal.dist()}, count, 50)


@pytest.mark.parametrize("nuisance", ["k", "mu"])
def test_integers_beside_nuisance(nuisance):
    """An integer may be nuisance, or that on which nuisance depends."""
    k = pm.Binomial.dist(3, 0.5)
    prior = {"k": k, "mu": pm.Normal.dist(k, 0.1)} if nuisance == "mu" else counts()
    kept = ({"k", "mu"} - {nuisance}).pop()
    simulations = simulate(prior, count, 100, parameters=[kept])
    assert simulations.layout.integer == {kept} - {"mu"}
    values = np.full(300, 3) if kept == "k" else np.full(300, 2.0)
    x = predict(estimator_of(simulations), **{kept: values})
    if kept == "k":  # the sum of k normal numbers with mean near k
        np.testing.assert_allclose(x, 9.0, atol=6 * np.hypot(0.1 * 3, 0.1 * 3**0.5))
    else:
        assert np.unique(np.rint(x / 2)).tolist() == [0, 1, 2, 3]


# --- correlated priors -----------------------------------------------------------------------


def in_a_vector():
    return {"v": pm.MvNormal.dist(np.zeros(2), np.array([[9.0, 8.7], [8.7, 9.0]]))}


def one_on_another():
    a = pm.Normal.dist(0.0, 3.0)
    return {"a": a, "b": pm.Normal.dist(a, 1.0)}


# PyTensor's own numba code for MvNormal is told so on PyMC 6.
@pytest.mark.filterwarnings(r"ignore:.*np\.dot\(\) is faster on contiguous arrays")
@pytest.mark.parametrize(("prior", "rho"), [(in_a_vector, 8.7 / 9), (one_on_another, 3 / 10**0.5)])
def test_correlated_priors(prior, rho):
    simulations = simulate(prior(), lambda rng, **parameters: rng.normal(), 4_000)
    got = np.corrcoef(simulations.theta.T)[0, 1]
    # Fisher's transform has standard error n^-1/2.
    assert abs(np.arctanh(got) - np.arctanh(rho)) < 4 / np.sqrt(4_000)
    domain = Domain.from_draws(simulations.theta, simulations.log_prior)
    assert domain.inside(np.array([[6.0, 6.0], [-6.0, -6.0], [0.0, 0.5]])).all()
    assert not domain.inside(np.array([[6.0, -6.0], [-5.0, 5.0]])).any()


# --- variables that simulate themselves ------------------------------------------------------


def shared_offset(observed=None):
    """Three numbers that share a latent offset; given mu they are correlated normal numbers."""
    with pm.Model() as model:
        mu = pm.Uniform("mu", -5.0, 5.0)
        offset = pm.Normal("offset", 0.0, 1.0)
        pm.Normal("x", mu + offset, 1.0, shape=3, observed=observed)
    return model


@pytest.mark.parametrize("observed", [None, np.zeros(3)])
def test_a_variable_of_the_model_simulates_itself(observed):
    simulations = simulate(shared_offset(observed), "x", parameters=["mu"])
    assert simulations.event_shape == (3,)
    residuals = simulations.x - simulations.parameters["mu"][:, None]
    for column in residuals.T:
        assert distance(column, stats.norm(0, 2**0.5).cdf) < KS
        assert distance(column, stats.norm(0, 1).cdf) > KS  # the twin: no offset
    covariance = np.cov(residuals.T)[np.triu_indices(3, 1)]
    # Var(xy) of standard pairs with variances 2 and covariance 1 is 4 + 1.
    np.testing.assert_allclose(covariance, 1.0, atol=4 * np.sqrt(5 / N))
    mu = np.linspace(-3, 3, 50)
    x = simulations.simulator.draw(np.random.default_rng(1), {"mu": mu}, 50)
    assert x.shape == (50, 3)
    assert abs((x.mean(-1) - mu).mean()) < 4 * np.sqrt(4 / 3 / 50)


def test_a_free_and_an_observed_variable_give_the_same_draws():
    free, observed = (
        simulate(shared_offset(o), "x", 50, parameters=["mu"]) for o in (None, np.ones(3))
    )
    assert_identical(free, observed)


def test_without_parameters_all_other_free_variables_are_seen():
    simulations = simulate(shared_offset(), "x", 500)
    assert simulations.layout.shapes == {"mu": (), "offset": ()}
    residuals = simulations.x - simulations.theta.sum(-1, keepdims=True)
    assert distance(residuals[:, 0], stats.norm.cdf) < KS * 2


def test_other_observed_variables_are_refused():
    with shared_offset(np.zeros(3)) as model:
        pm.Normal("y", model["mu"], observed=0.0)
    with pytest.raises(ValueError, match=r"observed variables and potentials y\. Leave them out"):
        simulate(model, "x", parameters=["mu"])
    with pytest.raises(ValueError, match=r"observed variables and potentials x, y\. Leave"):
        simulate(model, "offset", parameters=["mu"])


def test_what_is_not_in_the_model():
    with pytest.raises(ValueError, match=r"no variable 'y' to simulate; it has mu, offset, x\.$"):
        simulate(shared_offset(), "y")
    message = r"^simulator='x' names a variable .* prior must be a pymc\.Model, got dict\.$"
    with pytest.raises(TypeError, match=message):
        simulate(location_and_scale(), "x")
    with pytest.raises(ValueError, match=r"^parameters must name free variables .* got 'x'\.$"):
        simulate(shared_offset(), "x", parameters=["x"])


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_any_executor_gives_the_same_bits(kind):
    model, n = shared_offset(), 1_100  # more than a block
    serial = simulate(model, "x", n, parameters=["mu"])
    if kind == "thread":
        pool = ThreadPoolExecutor(2)
    else:
        pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("forkserver"))
    with pool as executor:
        assert_identical(simulate(model, "x", n, parameters=["mu"], executor=executor), serial)
    assert not np.array_equal(simulate(model, "x", n, parameters=["mu"], random_seed=2).x, serial.x)


def test_a_ratio_marginalizes_latent_variables():
    """Given mu, the mean of x is N(mu, 1 + 1/3), so this is the posterior's spread."""
    simulations = simulate(shared_offset(), "x", 10_000, parameters=["mu"])
    ratio = nre.train(simulations, epochs=10, random_seed=1, progressbar=False)
    rng = np.random.default_rng(2)
    mu = rng.uniform(-2, 2, 50)
    x = mu[:, None] + rng.normal(size=(50, 1)) + rng.normal(size=(50, 3))
    grid = np.linspace(-5, 5, 401)
    log_ratio = ratio.log_ratio(x[:, None], mu=grid)
    weights = np.exp(log_ratio - log_ratio.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    mean = weights @ grid
    sd = np.sqrt((weights * (grid - mean[:, None]) ** 2).sum(-1))
    ends = [(end - x.mean(-1)) / (4 / 3) ** 0.5 for end in (-5, 5)]
    exact = stats.truncnorm(*ends, loc=x.mean(-1), scale=(4 / 3) ** 0.5)
    error, width = abs(mean - exact.mean()).mean() / exact.std().mean(), (sd / exact.std()).mean()
    # Measured: 0.02 and 0.99.
    assert error < 0.1
    assert abs(width - 1) < 0.05  # without the offset it would be (1/3)^1/2 wide, half of this


# --- at --------------------------------------------------------------------------------------


def vectors():
    return {"mu": pm.Normal.dist(), "beta": pm.Normal.dist(shape=2), "sigma": pm.HalfNormal.dist(2)}


def test_simulations_at_fixed_values():
    simulations = simulate(
        vectors(),
        lambda rng, mu, beta, sigma: rng.normal(mu + beta.sum(), sigma),
        parameters=["mu", "beta"],
        at={"mu": 1, "beta": [2.0, -5.0]},
    )
    np.testing.assert_array_equal(simulations.theta, np.tile([1.0, 2.0, -5.0], (N, 1)))
    assert simulations.layout.integer == frozenset()  # mu is not, though 1 is
    assert distance(simulations.x + 2, scale_mixture_cdf) < KS  # sigma is drawn
    assert distance(simulations.x + 2, stats.norm(0, simulations.x.std()).cdf) > KS


def test_integers_at_fixed_values():
    simulations = simulate(counts(), count, 20, at={"k": 3.0, "mu": 2})
    assert simulations.layout == simulate(counts(), count, 20).layout
    np.testing.assert_allclose(simulations.x, 6.0, atol=6 * 0.1 * 3**0.5)


def test_a_variable_of_the_model_at_fixed_values():
    simulations = simulate(shared_offset(), "x", parameters=["mu"], at={"mu": 2.0})
    assert distance(simulations.x[:, 0] - 2, stats.norm(0, 2**0.5).cdf) < KS


def test_fixed_values_must_fit():
    message = r"^at: expected the parameters mu, sigma, got unknown nu; missing mu, sigma\. Name"
    with pytest.raises(TypeError, match=message):
        simulate(location_and_scale(), normal, at={"nu": 1.0})
    with pytest.raises(TypeError, match=r"^at: expected the parameters mu, got unknown sigma\."):
        simulate(location_and_scale(), normal, parameters=["mu"], at={"mu": 1.0, "sigma": 1.0})
    message = r"^at: parameter 'beta' has shape \(2,\) in the prior, got \(\)\.$"
    with pytest.raises(ValueError, match=message):
        simulate(vectors(), normal, at={"mu": 0.0, "beta": 1.0, "sigma": 1.0})


def test_a_reference_for_carl():
    reference = simulate(location_and_scale(), normal, 500, parameters=["mu"], at={"mu": 0})
    loss = CARL(reference)
    assert repr(loss) == "CARL(500 reference simulations at mu = 0)"
    simulations = simulate(location_and_scale(), normal, 500, parameters=["mu"])
    ratio = nre.train(simulations, loss=loss, epochs=3, random_seed=1, progressbar=False)
    assert ratio.reference == "fixed"
    with pytest.raises(ValueError, match="CARL needs reference simulations that all have the same"):
        CARL(simulations)


def test_a_study_keeps_what_was_meant():
    joint_simulator = JointSimulator.of(shared_offset(), "x", ["mu"], batched=False)
    assert joint_simulator.parameters == ("mu",)
    assert set(joint_simulator.prior.variables) == {"mu", "offset"}
    assert joint_simulator.simulator.batched
    assert joint_simulator.predictor.nuisance is None  # x is drawn with all that it depends on


def test_simulations_at_given_parameters_draw_nuisance():
    def simulator(rng, mu, sigma):
        return rng.normal(mu, sigma)

    prior = {"mu": pm.Uniform.dist(-5, 5), "sigma": pm.Uniform.dist(0.5, 2)}
    pairs = nre.simulate(
        prior, simulator, 300, parameters=["mu"], batched=True, random_seed=1, progressbar=False
    )
    mu = np.repeat([0.0, 1.0], 20_000)
    seed = np.random.SeedSequence(2)
    succeeded, x = simulate_at(pairs.simulator, {"mu": mu}, seed)
    assert succeeded.all()
    # E sigma^2 = 1.75 and E sigma^4 = 4.2625, so x^2 has a variance of 3 * 4.2625 - 1.75^2 = 9.73.
    errors = (9.73 / 20_000) ** 0.5
    assert abs(np.var(x[:20_000]) - 1.75) < 5 * errors
    assert abs(np.mean(x[20_000:]) - 1) < 5 * (1.75 / 20_000) ** 0.5
    twice = simulate_at(pairs.simulator, {"mu": mu}, np.random.SeedSequence(2))
    np.testing.assert_array_equal(twice[1], x)


def arguments(**changed):
    made = {"prior": location_and_scale(), "simulator": normal, "n": 20} | changed
    return [made.pop(name) for name in ("prior", "simulator", "n")], made


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"n": 10.5}, TypeError, r"^n: expected a whole number, got 10\.5"),
        ({"n": "10"}, TypeError, "^n: expected a whole number"),
        ({"n": True}, TypeError, "^n: expected a whole number"),
        (
            {"executor": 4},
            TypeError,
            r"executor must be .*, such as ProcessPoolExecutor\(4\).* got 4",
        ),
        ({"executor": ThreadPoolExecutor}, TypeError, r"executor must be .*, got <class"),
        (
            {"executor": DaskClient()},
            TypeError,
            r"one of type DaskClient, whose submit gives a .*int",
        ),
        ({"random_seed": "one"}, TypeError, "^random_seed: expected a whole number that is not"),
        ({"random_seed": -1}, ValueError, "^random_seed: expected at least 0, got -1"),
        ({"parameters": 3}, TypeError, r"such as \['mu'\], got an object of type int"),
        ({"parameters": set()}, ValueError, "^parameters must name free variables .* got none"),
        ({"at": 1.0}, TypeError, r"^at must name each parameter, at=\{'mu': 0\.0\}, got .* float"),
        ({"at": {"mu": 1j, "sigma": 1.0}}, TypeError, "^at: mu: .* complex"),
        ({"at": {"mu": np.nan, "sigma": 1.0}}, ValueError, "^at: mu: 1 of 1 .* NaN"),
        ({"at": {"mu": np.ma.masked, "sigma": 1.0}}, ValueError, "^at: mu: .* masked"),
    ],
)
def test_arguments_that_are_none(changed, error, message):
    positional, options = arguments(**changed)
    with pytest.raises(error, match=message):
        nre.simulate(*positional, progressbar=False, **options)


def test_a_pool_of_multiprocessing_is_no_executor():
    context = multiprocessing.get_context("forkserver")
    with context.Pool(1) as pool, pytest.raises(TypeError, match=r"A multiprocessing\.Pool or a"):
        simulate(location_and_scale(), normal, 20, executor=pool)
    with pytest.raises(TypeError, match="executor must be"):
        nre.Online(location_and_scale(), normal, executor=4)


def test_a_float_that_is_whole_counts():
    assert_identical(
        simulate(location_and_scale(), normal, 1e2), simulate(location_and_scale(), normal, 100)
    )


def test_many_cheap_draws_take_little_more_than_their_arrays():
    n, options = 200_000, {"batched": True}
    simulate(location_and_scale(), normal, 2_000, **options)
    tracemalloc.start()
    simulations = simulate(location_and_scale(), normal, n, **options)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    arrays = simulations.x.nbytes + sum(v.nbytes for v in simulations.parameters.values())
    # Beside them x in blocks, bytes that say what succeeded, and a block of the prior.
    assert peak < arrays + simulations.x.nbytes + 8 * n + 3e6


def test_threads_that_share_a_prior_simulate_as_one_after_another():
    prior = location_and_scale()

    def work(seed):
        return simulate(prior, normal, 200, random_seed=seed).theta

    expected = [work(seed) for seed in range(6)]
    mode = pytensor.config.mode
    for _ in range(4):  # two of them at least once in each other's way
        with ThreadPoolExecutor(6) as pool:
            np.testing.assert_array_equal(list(pool.map(work, range(6))), expected)
    assert pytensor.config.mode is mode  # compiling changes it and puts it back
