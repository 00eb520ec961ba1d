"""What pymc-extras does with models: where it is not installed, nothing is shown."""

import numpy as np
import pymc as pm
import pytest

import pymc_nre as nre

pytest.importorskip("pymc_extras", reason="pymc-extras is no dependency; install it to see this")

RATIO = nre.tasks.GaussianMean().estimator()
X = np.array([0.3, -0.2, 1.1])


def marginalized(likelihood):
    import pymc_extras

    with pm.Model() as model:
        z = pm.Bernoulli("z", 0.3)
        likelihood("x", pm.Normal("mu", 0, 1) + z)
    return pymc_extras.marginalize(model, ["z"])


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
