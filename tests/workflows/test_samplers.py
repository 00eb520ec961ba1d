"""NUTS of other libraries, JAX, and single precision, against exact answers.

They run in processes of their own, one for each precision: JAX starts threads on import, which
forks of the process of the tests (other tests fork) would not survive, and floatX belongs to a
process. Whatever needs the same imports and compilations shares a process.
"""

import importlib.util
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from once import once

import pymc_nre as nre

TIME_LIMIT = 400  # seconds; each takes 20 to 40, most of it imports and compilation
STANDARD_ERRORS = 5  # of a posterior mean: two-sided error probability 6e-7

SCRIPT = """
    import warnings
    warnings.simplefilter("error")
    # As in pyproject.toml.
    warnings.filterwarnings("ignore", r"\\s*ArviZ is undergoing a major refactor", FutureWarning)
    warnings.filterwarnings("ignore", "PyTensor could not link to a BLAS", UserWarning)
    import json, sys, traceback
    sys.path.insert(0, sys.argv[1])
    import numpy as np, pymc as pm, pytensor, pytensor.tensor as pt
    from pytensor.compile.mode import get_mode
    import pymc_nre as nre
    from pymc_nre.ops.ratio_ops import LogRatioAndGradient
    from pymc_nre.ops.engines.torch_engine import TorchEngine
    from pymc_nre.estimators.evaluator import TorchEvaluator
    from untrained import make_estimator

    # --- JAX differentiates what PyTensor gives it

    RTOL = 1e-9 if pytensor.config.floatX == "float64" else 1e-4
    RNG = np.random.default_rng(1)
    WEIGHTS = np.array([1.0, -2.0, 0.5, 3.0, 0.0])  # cotangents that are not ones
    calls = []

    def counted(name):
        original = getattr(TorchEvaluator, name)
        def wrapper(*arguments):
            calls.append(name)
            return original(*arguments)
        setattr(TorchEvaluator, name, wrapper)

    def close(got, expected):
        np.testing.assert_allclose(got, expected, rtol=RTOL, atol=RTOL)

    def check(ratio, rows):
        import jax
        D = ratio.layout.size
        x = RNG.normal(size=(5, *ratio.event_shape)).astype(pytensor.config.floatX)
        points = RNG.normal(size=(3, rows, D)).astype(pytensor.config.floatX)
        t = pt.tensor("t", shape=(rows, D))
        both = LogRatioAndGradient(TorchEngine(ratio))(t.astype("float64"), x.astype("float64"))
        target = (both * WEIGHTS).sum()
        gradient = pt.grad(target, t)
        second = pt.grad((gradient * np.arange(1.0, D + 1)).sum(), t)
        outputs = [target, gradient, second]
        c = pytensor.function([t], outputs, mode=get_mode("CVM"))
        expected = [c(point) for point in points]
        for got, value in zip(pytensor.function([t], outputs, mode="JAX")(points[0]), expected[0]):
            close(got, value)

        fn = pytensor.function([t], target, mode="JAX").vm.jit_fn
        def jax_target(point):
            return fn(point)[0]
        calls.clear()
        value, slope = jax.jit(jax.value_and_grad(jax_target))(points[0])
        close(value, expected[0][0])
        close(slope, expected[0][1])
        assert calls == ["value_and_gradient"], calls  # one evaluation for both
        calls.clear()
        values, slopes = jax.vmap(jax.value_and_grad(jax_target))(points)
        close(values, [e[0] for e in expected])
        close(slopes, [e[1] for e in expected])
        assert calls == ["value_and_gradient"], calls  # and for three small chains
        for hessian in (jax.hessian, lambda f: jax.jacrev(jax.jacrev(f))):
            H = np.asarray(hessian(jax_target)(points[0])).reshape(rows * D, rows * D)
            close(H @ np.tile(np.arange(1.0, D + 1), rows), expected[0][2].ravel())

        # The twin: without its cotangents the gradient is another one.
        plain = pytensor.function([t], pt.grad(both.sum(), t), mode="JAX")(points[0])
        assert not np.allclose(plain, expected[0][1], rtol=1e-2)

    def gradient():
        assert "jax" not in sys.modules
        originals = {name: getattr(TorchEvaluator, name)
                     for name in ("value", "value_and_gradient", "hessian_product")}
        with warnings.catch_warnings():
            if pytensor.config.floatX == "float32":  # JAX says that float64 is not to be had
                warnings.filterwarnings("ignore", "Explicitly requested dtype float64", UserWarning)
            for name in originals:
                counted(name)
            for rows in (1, 5) if pytensor.config.floatX == "float64" else (5,):
                check(make_estimator({"a": (), "b": (2,)}, (2,)), rows)
            check(make_estimator({"a": ()}), 1)
            for name, original in originals.items():
                setattr(TorchEvaluator, name, original)
        import jax
        from pymc_nre.ops.engines.jax_callbacks import JaxCallbacks
        function = JaxCallbacks(make_estimator({"a": (), "b": (2,)}, (2,))).value
        try:
            jax.grad(lambda x: function(np.zeros((1, 3)), x).sum())(np.ones((5, 2)))
        except NotImplementedError as error:
            return str(error)
        return "differentiated in x"

    # --- samplers

    RATIO = nre.tasks.GaussianMean().estimator()
    X = np.array(json.loads(sys.argv[2]))
    MAJOR = int(pm.__version__.split(".")[0])
    SHORT = dict(draws=500, tune=500, chains=2, progressbar=False, random_seed=1,
                 compute_convergence_checks=False)

    def model():
        with pm.Model() as model:
            mu = pm.Uniform("mu", -10, 10)
            nre.RatioLikelihood("x", RATIO, mu=mu, observed=X)
        return model

    def summary(idata):
        import arviz as az  # ArviZ 1 imports JAX
        draws = idata["posterior"]["mu"].values
        return [float(draws.mean()), float(draws.std()), float(az.ess(draws))]

    def sample(options=None, step=None, **arguments):
        if options:
            arguments["nuts_sampler_kwargs" if MAJOR == 5 else "nuts"] = options
        with model():
            if step is not None:
                arguments["step"] = step()
            return summary(pm.sample(**SHORT, **arguments))

    def marginalized():
        with warnings.catch_warnings():  # it imports what its own dependencies deprecate
            warnings.simplefilter("ignore")
            import pymc_extras
        with pm.Model() as model:
            z = pm.Bernoulli("z", 0.5)
            mu = pm.Uniform("mu", -8, 8)
            nre.RatioLikelihood("x", RATIO, mu=mu + z, observed=X)
        return pymc_extras.marginalize(model, ["z"])

    def numpyro_marginalized():
        with marginalized():
            return summary(pm.sample(nuts_sampler="numpyro", **SHORT))

    def nutpie_sample(model=model, **arguments):
        import nutpie
        compiled = nutpie.compile_pymc_model(model(), **arguments)
        return summary(
            nutpie.sample(compiled, draws=500, tune=500, chains=2, seed=1, progress_bar=False)
        )

    CASES = {
        "gradient": gradient,
        "nutpie numba": lambda: nutpie_sample(backend="numba"),
        "nutpie jax, gradient of pytensor":
            lambda: nutpie_sample(backend="jax", gradient_backend="pytensor"),
        "nutpie jax, gradient of jax":
            lambda: nutpie_sample(backend="jax", gradient_backend="jax"),
        "numpyro": lambda: sample(nuts_sampler="numpyro"),
        "numpyro, vectorized":
            lambda: sample({"chain_method": "vectorized"}, nuts_sampler="numpyro"),
        "marginalized, nutpie numba": lambda: nutpie_sample(marginalized, backend="numba"),
        "marginalized, numpyro": numpyro_marginalized,
        "nuts": lambda: sample(nuts_sampler="pymc", cores=1),
        "slice": lambda: sample(step=pm.Slice, cores=1),
    }
    found = {}
    for name in json.loads(sys.argv[3]):
        try:
            found[name] = CASES[name]()
        except BaseException:
            found[name] = {"failed": traceback.format_exc()}
    print(json.dumps(found))
"""

TASK = nre.tasks.GaussianMean()
X = np.random.default_rng(1).normal(1.0, 1.0, 10)
MARGINALIZED = ["marginalized, nutpie numba", "marginalized, numpyro"]
HAS_EXTRAS = importlib.util.find_spec("pymc_extras") is not None


def run(*cases, **environment):
    """What each case gives, or how it failed."""
    folder = str(Path(__file__).parents[1])
    arguments = [folder, json.dumps(X.tolist()), json.dumps(cases)]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SCRIPT), *arguments],
        capture_output=True,
        text=True,
        timeout=TIME_LIMIT,
        env=os.environ | environment,
    )
    assert done.returncode == 0, done.stderr[-3_000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def double(tmp_path_factory):
    cases = [
        "gradient",  # first: nothing may have imported JAX before
        "nutpie numba",
        "nutpie jax, gradient of pytensor",
        "nutpie jax, gradient of jax",
        "numpyro",
        "numpyro, vectorized",
        *(MARGINALIZED if HAS_EXTRAS else []),
    ]
    # Two devices, so that chains run side by side; JAX counts them when it starts.
    devices = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    return once(tmp_path_factory, "samplers_double", lambda: run(*cases, **devices))


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    cases, flags = ("gradient", "nuts", "slice"), {"PYTENSOR_FLAGS": "floatX=float32"}
    return once(tmp_path_factory, "samplers_single", lambda: run(*cases, **flags))


def distance(found, x=X):
    """How many standard errors a posterior mean is off the exact one of ``x``."""
    assert "failed" not in found, found["failed"]
    (mean, _, ess), exact = found, TASK.posterior(x)
    assert ess > 100
    return abs(mean - exact.mean["mu"]) / (exact.sd["mu"] / ess**0.5)


def test_nutpie_numba(double):
    assert distance(double["nutpie numba"]) < STANDARD_ERRORS


@pytest.mark.parametrize("gradient", ["pytensor", "jax"])
def test_nutpie_jax(double, gradient):
    assert distance(double[f"nutpie jax, gradient of {gradient}"]) < STANDARD_ERRORS


@pytest.mark.parametrize("name", ["numpyro", "numpyro, vectorized"])
def test_numpyro(double, name):
    assert distance(double[name]) < STANDARD_ERRORS


@pytest.mark.skipif(not HAS_EXTRAS, reason="pymc-extras is no dependency")
@pytest.mark.parametrize("name", MARGINALIZED)
def test_marginalized_models(double, name):
    """mu + z has the posterior of mu alone, and z is a coin that the data say nothing about."""
    assert "failed" not in double[name], double[name]["failed"]
    (mean, sd, ess), exact = double[name], TASK.posterior(X)
    assert ess > 100
    spread = (exact.sd["mu"] ** 2 + 0.25) ** 0.5
    assert abs(mean - (exact.mean["mu"] - 0.5)) < STANDARD_ERRORS * spread / ess**0.5
    assert sd == pytest.approx(spread, rel=STANDARD_ERRORS / (2 * ess) ** 0.5)


@pytest.mark.parametrize("name", ["nuts", "slice"])
def test_float32(single, name):
    assert distance(single[name]) < STANDARD_ERRORS


def test_twin_another_posterior_is_seen(single):
    # One posterior standard deviation off: sqrt(ess) standard errors.
    shifted = X + TASK.posterior(X).sd["mu"]
    assert distance(single["nuts"], shifted) > STANDARD_ERRORS


@pytest.mark.parametrize("precision", ["double", "single"])
def test_jax_gradient(precision, request):
    message = request.getfixturevalue(precision)["gradient"]
    assert "failed" not in message, message["failed"]
    assert "x depends on what JAX differentiates in" in message
