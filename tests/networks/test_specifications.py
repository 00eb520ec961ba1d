"""Networks, their specifications and users' own: each fast path against its slow twin."""

import json

import numpy as np
import pytest
import torch
from network_family import FAMILY, Counting, Embedding, Plain, data, make
from torch import nn
from untrained import make_estimator

import pymc_nre as nre
from pymc_nre.losses import NREA, NREB, NREC
from pymc_nre.networks import (
    MLP,
    Convolutional,
    DeepSet,
    Dense,
    RatioNetwork,
    ResidualMLP,
    ResNet,
    build,
    specification_from_dict,
)
from pymc_nre.networks.layers import ACTIVATIONS
from pymc_nre.networks.specifications import specification_to_dict

DTYPES = {torch.float32: 1e-5, torch.float64: 1e-12}  # tolerance: a few hundred roundings


@pytest.mark.parametrize("event_shape", [(), (4,), (2, 3)])
@pytest.mark.parametrize("name", FAMILY)
def test_forward_is_head_of_embed(name, event_shape):
    net = make(name, event_shape=event_shape)
    theta, x = data(event_shape=event_shape)
    logits = net(theta, x)
    assert logits.shape == (7,)
    assert logits.std() > 0
    torch.testing.assert_close(net.head(theta, net.embed(x)), logits, rtol=0, atol=0)
    assert net.event_shape == event_shape


@pytest.mark.parametrize("name", FAMILY)
def test_rows_do_not_see_each_other(name):
    net = make(name)
    theta, x = data()
    alone = torch.cat([net(theta[i : i + 1], x[i : i + 1]) for i in range(7)])
    torch.testing.assert_close(net(theta, x), alone, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FAMILY)
def test_head_broadcasts(name, dtype):
    net = make(name, dtype=dtype)
    theta, x = data(dtype=dtype)
    candidates = torch.stack([theta.roll(k, 0) for k in range(4)], 1)  # (n, K, D)
    logits = net.head(candidates, net.embed(x)[:, None])
    assert logits.shape == (7, 4)
    slow = torch.stack([net(candidates[:, k], x) for k in range(4)], 1)
    torch.testing.assert_close(logits, slow, rtol=DTYPES[dtype], atol=DTYPES[dtype])


@pytest.mark.parametrize("name", FAMILY)
def test_one_theta_for_all(name):
    net = make(name)
    theta, x = data()
    torch.testing.assert_close(
        net(theta[:1], x), net(theta[:1].expand(7, -1), x), rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("hidden", [(8,), (8, 6, 4)])
def test_an_mlp_is_a_plain_one_over_the_concatenation(hidden, activation):
    torch.manual_seed(1)
    net = build(MLP(hidden, activation), 3, (2, 2)).double()
    theta, x = data()
    net.fit_standardization(theta, x)
    flat_x = ((x - x.mean(0)) / x.std(0, correction=0)).reshape(7, -1)
    h = torch.cat([(theta - theta.mean(0)) / theta.std(0, correction=0), flat_x], -1)
    first = nn.Linear(7, hidden[0]).double()
    with torch.no_grad():
        first.weight.copy_(torch.cat([net.theta_in.weight, net.x_in.weight], 1))
        first.bias.copy_(net.x_in.bias)
    linear = [first, *(layer for layer in net.body if isinstance(layer, nn.Linear))]
    for layer in linear[:-1]:
        h = ACTIVATIONS[activation]()(layer(h))
    assert [layer.out_features for layer in linear] == [*hidden, 1]
    torch.testing.assert_close(net(theta, x), linear[-1](h)[:, 0], rtol=1e-12, atol=1e-12)


def test_a_residual_network_is_a_sum_of_blocks():
    torch.manual_seed(1)
    net = build(ResidualMLP(width=5, blocks=3, activation="tanh"), 3, (2, 2)).double()
    theta, x = data()
    h = net.theta_in(theta) + net.x_in(x.reshape(7, -1))
    for block in net.body[:3]:
        first, second = (layer for layer in block.inner if isinstance(layer, nn.Linear))
        h = h + second(torch.tanh(first(torch.tanh(h))))
    expected = net.body[-1](torch.tanh(h))[:, 0]
    torch.testing.assert_close(net(theta, x), expected, rtol=1e-12, atol=1e-12)
    assert len(net.body) == 5


# --- specifications and factories ------------------------------------------------------------


def test_lists_of_widths_become_tuples():
    assert MLP([16, 16]) == MLP((16, 16))
    assert hash(MLP([16, 16])) == hash(MLP((16, 16)))


@pytest.mark.parametrize("specification", [MLP((5, 4), "relu"), ResidualMLP(7, 3, "gelu")])
def test_specifications_round_trip(specification):
    description = specification_to_dict(specification)
    assert specification_from_dict(description) == specification
    assert description["type"] == type(specification).__name__


def test_a_users_network_is_custom():
    assert specification_to_dict(Plain) == {"type": "custom"}
    assert specification_to_dict(None) == {"type": "custom"}


@pytest.mark.parametrize("hidden", [(), (8, 0), (-1,)])
def test_bad_widths_of_an_mlp(hidden):
    with pytest.raises(ValueError, match=r"^MLP needs at least one hidden width .* got hidden=\("):
        MLP(hidden)


@pytest.mark.parametrize("arguments", [{"width": 0}, {"blocks": 0}])
def test_bad_sizes_of_a_residual_network(arguments):
    message = r"^ResidualMLP needs width >= 1 and blocks >= 1, got width=\d+, blocks=\d+\.$"
    with pytest.raises(ValueError, match=message):
        ResidualMLP(**arguments)


@pytest.mark.parametrize("kind", [MLP, ResidualMLP])
def test_unknown_activations(kind):
    with pytest.raises(ValueError, match=r"^Unknown activation 'swish'; expected one of silu, gel"):
        kind(activation="swish")


@pytest.mark.parametrize("network", [nn.Linear(2, 1), "MLP", (64, 64)])
def test_what_is_no_network(network):
    message = (
        rf"^network must be a specification such as MLP\(\(64, 64\)\) or a function .*, got "
        rf"{type(network).__name__}\. Wrap a module that you have already built: network=lambda "
    )
    with pytest.raises(TypeError, match=message):
        build(network, 1, ())


def test_a_factory_must_return_a_module():
    with pytest.raises(TypeError, match=r"^The network factory must return an nn\.Module, got No"):
        build(lambda theta_size, event_shape: None, 1, ())


def test_a_factory_gets_the_sizes():
    seen = []

    def factory(theta_size, event_shape):
        seen.append((theta_size, event_shape))
        return Plain(theta_size, event_shape)

    build(factory, 3, (2, 2))
    assert seen == [(3, (2, 2))]


class Wide(Plain):
    def forward(self, theta, x):
        return super().forward(theta, x).expand(-1, 2)


class Summed(Embedding):
    def head(self, theta, features):
        return super().head(theta, features).sum()


@pytest.mark.parametrize(("factory", "got"), [(Wide, r"\(3, 2\)"), (Summed, r"\(\)")])
def test_a_module_must_return_one_logit_for_each_row(factory, got):
    message = (
        r"^The network must return one logit for each row: given theta \(3, 3\) and x "
        rf"\(3, 2, 2\) it returned shape {got}, expected \(3,\) or \(3, 1\)\.$"
    )
    with pytest.raises(ValueError, match=message):
        build(factory, 3, (2, 2))


def test_the_check_leaves_the_module_as_it_was():
    class Dropped(Plain):
        def forward(self, theta, x):
            assert not self.training
            return super().forward(theta, x)

    assert build(Dropped, 3, (2, 2)).module.training
    assert not build(lambda d, event: Dropped(d, event).eval(), 3, (2, 2)).module.training


def test_a_ratio_network_is_taken_as_it_is():
    net = make("MLP")
    assert build(lambda theta_size, event_shape: net, 3, (2, 2)) is net


def test_users_modules_get_standardized_input():
    net = make("plain module")
    theta, x = data(40)
    net.fit_standardization(theta, x)
    expected = net.module(
        (theta - theta.mean(0)) / theta.std(0, correction=0),
        (x - x.mean(0)) / x.std(0, correction=0),
    )
    torch.testing.assert_close(net(theta, x), expected[:, 0])


class WithCounts(RatioNetwork):
    """Its own buffer, of integers, comes before those that standardize."""

    def __init__(self, theta_size, event_shape):
        super().__init__(theta_size, event_shape)
        self.register_buffer("powers", torch.arange(3))

    def embed(self, x):
        return x

    def head(self, theta, features):
        return (theta * features**self.powers).sum(-1)


def test_a_buffer_of_integers_does_not_round_observations():
    ratio = make_estimator({"mu": ()}, (3,), WithCounts)
    value = ratio.log_ratio([0.5, 1.5, 2.5], mu=0.5)
    assert value == pytest.approx(0.5 * (1 + 1.5 + 2.5**2))


@pytest.mark.parametrize("loss", [NREA(), NREB(candidates=5), NREC(candidates=5)])
def test_losses_embed_every_observation_once(loss):
    net = Counting()
    theta, x = data(12, 2, (3,))
    assert torch.isfinite(loss(net, theta, x))
    assert net.embedded == [12]


def test_layers_may_be_called_embed_and_head():
    class Named(torch.nn.Module):
        def __init__(self, theta_size, event_shape):
            super().__init__()
            self.embed, self.head = torch.nn.Linear(3, 4), torch.nn.Linear(4 + theta_size, 1)

        def forward(self, theta, x):
            return self.head(torch.cat([theta, self.embed(x)], -1))

    network = build(Named, 2, (3,))
    assert network(torch.zeros(5, 2), torch.zeros(5, 3)).shape == (5,)


def test_networks_and_embeddings_are_told_apart():
    with pytest.raises(TypeError, match=r"DeepSet is an embedding.*MLP\(embedding=DeepSet\("):
        build(DeepSet(), 1, (3,))
    with pytest.raises(TypeError, match="MLP is a network, not an embedding"):
        build(MLP(embedding=MLP()), 1, (3,))


NUMPY = {
    "MLP": lambda: MLP(tuple(2 ** np.arange(3, 5)), activation=np.str_("tanh")),
    "ResidualMLP": lambda: ResidualMLP(np.int64(3), np.float64(2)),
    "Dense": lambda: MLP((4,), embedding=Dense(np.array([3, 2]))),
    "DeepSet": lambda: MLP((4,), embedding=DeepSet((np.int32(3),), masked=np.False_)),
    "Convolutional": lambda: MLP(
        (4,), embedding=Convolutional((np.int8(2),), np.int64(3), np.int64(1), np.int64(3))
    ),
    "ResNet": lambda: MLP((4,), embedding=ResNet(np.int64(10), width=np.int16(1))),
}


@pytest.mark.parametrize("name", NUMPY)
def test_settings_that_are_numpy_numbers_are_saved(name, tmp_path):
    specification = NUMPY[name]()
    assert json.loads(json.dumps(specification_to_dict(specification)))
    assert "np." not in repr(specification)
    ratio = make_estimator({"mu": ()}, (8,), specification)
    ratio.save(tmp_path / "a.nre")
    assert nre.load(tmp_path / "a.nre").specification == specification


@pytest.mark.parametrize(
    "make",
    [
        lambda: MLP(64),
        lambda: MLP("64"),
        lambda: MLP((2.5,)),
        lambda: MLP((True,)),
        lambda: ResidualMLP(blocks="2"),
        lambda: DeepSet(masked=1),
        lambda: Convolutional(kernel=2.5),
        lambda: ResNet(None),
    ],
)
def test_settings_that_are_no_counts(make):
    with pytest.raises(
        TypeError, match=r"(must be|expected a whole number|expected True or False)"
    ):
        make()
