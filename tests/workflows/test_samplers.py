"""NUTS of other libraries, JAX, and single precision, against exact answers.

Each case runs in a process of its own: JAX starts threads on import, which forks of the
process of the tests (other tests fork) would not survive, and floatX belongs to a process.
"""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

import pymc_nre as nre

TIME_LIMIT = 300  # seconds; a case takes 10 to 20, most of it imports and compilation
STANDARD_ERRORS = 5  # of a posterior mean: two-sided error probability 6e-7
WARNINGS = """
    import warnings
    warnings.simplefilter("error")
    # As in pyproject.toml.
    warnings.filterwarnings("ignore", r"\\s*ArviZ is undergoing a major refactor", FutureWarning)
    warnings.filterwarnings("ignore", "PyTensor could not link to a BLAS", UserWarning)
"""

SAMPLE = (
    WARNINGS
    + """
    import json, sys
    import arviz as az, numpy as np, pymc as pm
    import pymc_nre as nre

    RATIO = nre.tasks.GaussianMean().estimator()
    X = np.array(json.loads(sys.argv[1]))
    MAJOR = int(pm.__version__.split(".")[0])
    SHORT = dict(draws=500, tune=500, chains=2, progressbar=False, random_seed=1,
                 compute_convergence_checks=False)

    def model():
        with pm.Model() as model:
            mu = pm.Uniform("mu", -10, 10)
            nre.RatioLikelihood("x", RATIO, mu=mu, observed=X)
        return model

    def sample(options=None, step=None, **arguments):
        if options:
            arguments["nuts_sampler_kwargs" if MAJOR == 5 else "nuts"] = options
        with model():
            if step is not None:
                arguments["step"] = step()
            return pm.sample(**SHORT, **arguments)

    def nutpie_sample(**arguments):
        import nutpie
        compiled = nutpie.compile_pymc_model(model(), **arguments)
        return nutpie.sample(compiled, draws=500, tune=500, chains=2, seed=1, progress_bar=False)

    def report(**runs):
        found = {}
        for name, run in runs.items():
            draws = run["posterior"]["mu"].values
            found[name] = [float(draws.mean()), float(draws.std()), float(az.ess(draws))]
        print(json.dumps(found))

    def main():
        {run}

    if __name__ == "__main__":
        main()
"""
)

TASK = nre.tasks.GaussianMean()
X = np.random.default_rng(1).normal(1.0, 1.0, 10)


def run(script, *arguments, **environment):
    """What a script prints in its last line, from JSON."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *arguments],
        capture_output=True,
        text=True,
        timeout=TIME_LIMIT,
        env=os.environ | environment,
    )
    assert done.returncode == 0, done.stderr[-3_000:]
    return json.loads(done.stdout.splitlines()[-1])


def distances(body, x=X, **environment):
    """By run, how many standard errors its posterior mean is off the exact one of ``x``."""
    body = textwrap.indent(textwrap.dedent(body), " " * 8).strip()
    exact = TASK.posterior(x)
    found = run(SAMPLE.replace("{run}", body), json.dumps(X.tolist()), **environment)
    assert min(ess for _, _, ess in found.values()) > 100
    return {
        name: abs(mean - exact.mean["mu"]) / (exact.sd["mu"] / ess**0.5)
        for name, (mean, _, ess) in found.items()
    }


def test_nutpie_numba():
    (distance,) = distances("report(numba=nutpie_sample(backend='numba'))").values()
    assert distance < STANDARD_ERRORS


def test_nutpie_jax():
    found = distances(
        """
        report(
            pytensor=nutpie_sample(backend="jax", gradient_backend="pytensor"),
            jax=nutpie_sample(backend="jax", gradient_backend="jax"),
        )
        """
    )
    assert max(found.values()) < STANDARD_ERRORS


def test_numpyro():
    found = distances(
        """
        report(
            one_by_one=sample(nuts_sampler="numpyro"),
            together=sample({"chain_method": "vectorized"}, nuts_sampler="numpyro"),
        )
        """
    )
    assert max(found.values()) < STANDARD_ERRORS


def test_float32():
    found = distances(
        """
        report(
            nuts=sample(nuts_sampler="pymc", cores=1),
            slice=sample(step=pm.Slice, cores=1),
        )
        """,
        PYTENSOR_FLAGS="floatX=float32",
    )
    assert max(found.values()) < STANDARD_ERRORS


def test_twin_another_posterior_is_seen():
    # One posterior standard deviation off: sqrt(ess) standard errors.
    shifted = X + TASK.posterior(X).sd["mu"]
    body = "report(nuts=sample(nuts_sampler='pymc', cores=1))"
    assert distances(body, x=shifted)["nuts"] > STANDARD_ERRORS


GRADIENT = (
    WARNINGS
    + """
    import json, sys
    sys.path.insert(0, sys.argv[1])
    import numpy as np, pytensor, pytensor.tensor as pt
    from pytensor.compile.mode import get_mode
    import pymc_nre
    from pymc_nre.ops import torch_ops as ops
    from pymc_nre.estimators.evaluator import TorchEvaluator
    from untrained import make_estimator

    assert "jax" not in sys.modules
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
        both = ops.LogRatioAndGradient(ratio)(t.astype("float64"), x.astype("float64"))
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

    RTOL = 1e-9 if pytensor.config.floatX == "float64" else 1e-4
    if pytensor.config.floatX == "float32":  # JAX says that float64 is not to be had
        warnings.filterwarnings("ignore", "Explicitly requested dtype float64", UserWarning)
    for name in ("value", "value_and_gradient", "hessian_product"):
        counted(name)
    for ratio in (make_estimator({"a": ()}), make_estimator({"a": (), "b": (2,)}, (2,))):
        for rows in (1, 5):
            check(ratio, rows)
    from pymc_nre.ops import jax_callbacks
    import jax
    try:
        function = jax_callbacks.value(ratio)
        jax.grad(lambda x: function(np.zeros((1, 3)), x)[0].sum())(np.ones((5, 2)))
    except NotImplementedError as error:
        print(json.dumps(str(error)))
"""
)


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_jax_gradient(precision):
    message = run(GRADIENT, str(Path(__file__).parents[1]), PYTENSOR_FLAGS=f"floatX={precision}")
    assert "x depends on what JAX differentiates in" in message
