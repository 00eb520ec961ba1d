"""Features of parameters and observations that a user knows."""

import numpy as np
import pymc as pm
import pytest
import torch

import pymc_nre as nre
from pymc_nre.networks import MLP, DeepSet, ResidualMLP, build

TASK = nre.tasks.LocationScale()
QUIET = {"random_seed": 1, "progressbar": False}


def residual(theta, x):
    """By which a normal likelihood is a parabola."""
    z = (x - theta[:, 0]) * torch.exp(-theta[:, 1])
    return torch.stack([z, z**2], -1).clamp(-50, 50)


NETWORK = MLP((16,), features=residual)


@pytest.fixture(scope="module")
def ratios():
    made = TASK.simulate(3_000, random_seed=1)
    options = {"epochs": 15, "random_seed": 1, "progressbar": False}
    return [nre.train(made, network=network, **options) for network in (NETWORK, MLP((16,)))]


def error(ratio):
    held_out = TASK.simulate(5_000, random_seed=2)
    exact = TASK.estimator().log_ratio(held_out.x, **held_out.parameters)
    return np.abs(ratio.log_ratio(held_out.x, **held_out.parameters) - exact).mean()


def test_what_is_known_need_not_be_learned(ratios):
    with_features, without = map(error, ratios)
    assert with_features < 0.7 * without


def test_features_join_the_first_layer_in_their_own_units():
    net = build(NETWORK, 2, ()).double()
    generator = torch.Generator().manual_seed(1)
    theta, x = torch.randn(40, 2, generator=generator), torch.randn(40, generator=generator)
    theta, x = theta.double(), x.double()
    net.fit_standardization(theta, x)
    table = net.head(theta[:, None], net.embed(x)[None])
    own = net.head(theta, net.embed(x))
    torch.testing.assert_close(table.diagonal(), own)
    standard = net.standardize_features(residual(theta, x))
    hidden = net.theta_in(net.standardize_theta(theta)) + net.x_in(net.standardize_x(x)[:, None])
    expected = net.body(hidden + net.features_in(standard)).squeeze(-1)
    torch.testing.assert_close(own, expected)


def test_in_a_model_and_in_a_file(ratios, tmp_path):
    ratio, _ = ratios
    path = tmp_path / "ratio.nre"
    ratio.save(path)
    assert nre.load(path, network=NETWORK) == ratio
    with pytest.raises(TypeError, match="network of your own"):
        nre.load(path)
    x = np.array([0.3, -1.0, 2.0])
    with pm.Model() as model:
        mu, log_sigma = pm.Uniform("mu", -5, 5), pm.Uniform("log_sigma", -1, 1)
        nre.RatioLikelihood("x", ratio, mu=mu, log_sigma=log_sigma, observed=x, engine="torch")
    point = {"mu": 0.2, "log_sigma": -0.1}
    expected = ratio.log_ratio(x, **point).sum()
    start = {"mu_interval__": np.log(5.2 / 4.8), "log_sigma_interval__": np.log(0.9 / 1.1)}
    found = model.compile_logp(vars=model.observed_RVs)(start)
    assert float(found) == pytest.approx(expected)
    compiled = nre.log_ratio(ratio, x, engine="compiled", **point)
    assert float(compiled.sum().eval()) == pytest.approx(expected)


def test_beside_an_embedding_and_conditions():
    def features(theta, x):  # six numbers, then the dose
        return theta[:, 0] - x[:, :6].mean(-1) / x[:, 6]

    made = nre.simulate(
        {"mu": pm.Normal.dist(0, 2)},
        lambda rng, mu, dose: (mu * dose)[:, None] + rng.normal(size=(len(mu), 6)),
        600,
        conditions={"dose": pm.Uniform.dist(1, 2)},
        batched=True,
        **QUIET,
    )
    network = ResidualMLP(8, 1, embedding=DeepSet((8,)), features=features)
    ratio = nre.train(made, network=network, epochs=20, **QUIET)
    near, far = (ratio.log_ratio(np.full(6, 1.5), mu=mu, dose=1.5) for mu in (1.0, 4.0))
    assert near > far + 1


@pytest.mark.parametrize(
    ("features", "kind", "message"),
    [
        (3, TypeError, "MLP: features must be a function"),
        (lambda theta, x: 1.0, ValueError, "must map parameters .* got float"),
        (lambda theta, x: theta.mean(), ValueError, r"got \(\)"),
        (lambda theta, x: theta[:1], ValueError, r"to a tensor of shape \(3,\) or \(3, F\)"),
        (
            lambda theta, x: torch.log(theta[:, 0]),
            ValueError,
            "NaN or infinite values for",
        ),
    ],
)
def test_features_that_are_none_are_refused(features, kind, message):
    with pytest.raises(kind, match=message):
        nre.train(TASK.simulate(300, random_seed=1), network=MLP((4,), features=features), **QUIET)


def test_with_missing_numbers_they_are_refused():
    made = nre.Simulations({"mu": np.arange(100.0)}, np.random.default_rng(1).normal(size=(100, 2)))
    network = MLP((4,), features=lambda theta, x: theta - x)
    with pytest.raises(ValueError, match="features= would be given NaN"):
        nre.train(made, network=network, missing=0.3, **QUIET)
