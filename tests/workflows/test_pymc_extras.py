"""What pymc-extras does with models, against the same models with the density written out.

Where it is not installed nothing is shown. Samplers of marginalized models are in
workflows/test_samplers.py.
"""

import numpy as np
import pymc as pm
import pytest

import pymc_nre as nre
from pymc_nre.compat import posterior_of

extras = pytest.importorskip(
    "pymc_extras", reason="pymc-extras is no dependency; install it to see this"
)

RATIO = nre.tasks.GaussianMean().estimator()
WIDE = nre.tasks.LocationScale().estimator()
X = np.array([0.3, -0.2, 1.1])
MANY = np.random.default_rng(3).normal(1.3, 0.7, 20)
PLAIN = {"progressbar": False, "random_seed": 1, "compile_kwargs": {"mode": "FAST_COMPILE"}}
ALONE = {"concurrent": None, "display_summary": False}  # Pathfinder of pymc-extras for PyMC 5
if not pm.__version__.startswith("5."):
    ALONE = {"parallel": False}


def marginalized(likelihood):
    with pm.Model() as model:
        z = pm.Bernoulli("z", 0.3)
        likelihood("x", pm.Normal("mu", 0, 1) + z)
    return extras.marginalize(model, ["z"])


def with_ratio(name, mu):
    nre.RatioLikelihood(name, RATIO, mu=mu, observed=X, engine="torch")


def with_density(name, mu):
    pm.Normal(name, mu, 1, observed=X)


def test_marginalization_of_a_scalar_parent():
    models = [marginalized(likelihood) for likelihood in (with_ratio, with_density)]
    ours, exact = (model.compile_logp() for model in models)
    differences = [ours(p) - exact(p) for p in ({"mu": np.array(v)} for v in (-1.0, 0.2, 1.4))]
    np.testing.assert_allclose(differences, differences[0], rtol=1e-10)
    ours, exact = (model.compile_dlogp() for model in models)
    np.testing.assert_allclose(ours({"mu": np.array(0.2)}), exact({"mu": np.array(0.2)}), rtol=1e-8)


# --- optima and approximations: the same seed, so that only rounding can differ ---------------


def wide_ratio(mu, log_sigma):
    nre.RatioLikelihood("x", WIDE, mu=mu, log_sigma=log_sigma, observed=MANY, engine="torch")


def wide_density(mu, log_sigma):
    pm.Normal("x", mu, pm.math.exp(log_sigma), observed=MANY)


def both(fit):
    """Draws ``(2, draws, 2)`` of what is fitted to the ratio and to the density."""
    found = []
    for likelihood in (wide_ratio, wide_density):
        with pm.Model() as model:
            likelihood(pm.Normal("mu", 0, 1), pm.Normal("log_sigma", 0, 0.2))
        posterior = posterior_of(fit(model=model, **PLAIN))
        found.append([posterior[name].to_numpy().ravel() for name in ("mu", "log_sigma")])
    return np.array(found).swapaxes(1, 2)


def laplace(**options):
    return extras.fit_laplace(draws=500, **options)


def laplace_by_hessian(**options):  # BFGS, the default, takes what it has gathered on its way
    return laplace(optimize_method="trust-ncg", **options)


def pathfinder(**options):
    return extras.fit_pathfinder(num_paths=2, num_draws=500, **ALONE, **options)


def assert_same(draws):
    ours, exact = draws
    np.testing.assert_allclose(ours, exact, atol=1e-4)  # of spreads of 0.1 and 0.2


def test_find_map():
    assert_same(both(extras.find_MAP))


@pytest.mark.parametrize("fit", [laplace, laplace_by_hessian])
def test_laplace(fit):
    assert_same(both(fit))


def test_pathfinder():
    assert_same(both(pathfinder))
