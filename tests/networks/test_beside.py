"""Embeddings of observations that come with conditions."""

import numpy as np
import pymc as pm
import pytest
import torch

import pymc_nre as nre
from pymc_nre.networks import MLP, Convolutional, DeepSet, Dense, ResidualMLP
from pymc_nre.networks.beside import Beside, beside
from pymc_nre.networks.specifications import specification_from_dict, specification_to_dict

EMBEDDINGS = [Dense((8, 4)), DeepSet((8, 4)), Convolutional((4,))]


class Mean(torch.nn.Module):
    def forward(self, x):
        return x.mean(1, keepdim=True)


def own(event_shape):
    assert event_shape == (6,)  # that of the observation alone
    return Mean()


@pytest.mark.parametrize("embedding", EMBEDDINGS, ids=repr)
def test_conditions_join_the_features(embedding):
    network = beside(MLP((8,), embedding=embedding), (6,))
    net = network.build(1, (8,))
    x = torch.randn(20, 8)
    net.fit_standardization(torch.randn(20, 1), 5 + 3 * x)
    features = net.eval().embedding(net.standardize_x(5 + 3 * x))
    plain = MLP((8,), embedding=embedding).build(1, (6,)).eval()
    plain.standardize_x.fit(5 + 3 * x[:, :6])
    inner = net.embedding.body(plain.standardize_x(5 + 3 * x[:, :6]))
    torch.testing.assert_close(features[:, :-2], inner)
    standard = (x[:, 6:] - x[:, 6:].mean(0)) / x[:, 6:].std(0, correction=0)
    torch.testing.assert_close(features[:, -2:], standard)


def test_without_conditions_or_embedding_nothing_changes():
    with_embedding = MLP(embedding=Dense())
    assert beside(with_embedding, None) is with_embedding
    for network in (MLP(), ResidualMLP(), lambda theta_size, event_shape: None):
        assert beside(network, (3,)) is network
    twice = beside(beside(with_embedding, (3,)), (3,))
    assert twice.embedding == Beside(Dense(), (3,))


def test_a_description_builds_the_same():
    network = beside(MLP(embedding=DeepSet((8,))), (6, 2))
    assert specification_from_dict(specification_to_dict(network)) == network


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="vectors of more than 6 numbers"):
        Beside(Dense(), (6,)).build((6,))
    with pytest.raises(TypeError, match="event_shape"):
        Beside(Dense(), 6)


def simulations():
    return nre.simulate(
        {"mu": pm.Normal.dist(0, 2)},
        lambda rng, mu, scale: mu[:, None] + scale[:, None] * rng.normal(size=(len(mu), 6)),
        600,
        conditions={"scale": pm.Uniform.dist(0.5, 2)},
        batched=True,
        random_seed=1,
        progressbar=False,
    )


@pytest.mark.parametrize("embedding", [DeepSet((8, 4)), own], ids=["known", "own"])
def test_trained_saved_and_compiled(embedding, tmp_path):
    network = MLP((8,), embedding=embedding)
    ratio = nre.train(simulations(), network=network, epochs=20, random_seed=1, progressbar=False)
    path = tmp_path / "ratio.nre"
    ratio.save(path)
    loaded = nre.load(path, network=None if embedding is not own else network)
    assert loaded == ratio
    x, scale = np.random.default_rng(1).normal(size=(4, 6)), np.linspace(0.5, 2, 4)
    expected = ratio.log_ratio(x, mu=0.3, scale=scale)
    assert np.ptp(ratio.log_ratio(x[:1], mu=0.3, scale=scale[:1])) == 0
    for engine in ("compiled", "torch"):
        found = nre.log_ratio(ratio, x, mu=0.3, scale=scale, engine=engine).eval()
        np.testing.assert_allclose(found, expected, atol=1e-9)
