"""Networks, and their evaluation on NumPy arrays: each fast path against its slow twin."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from untrained import make_estimator

from pymc_nre.estimators import evaluator as evaluate
from pymc_nre.estimators.evaluator import TorchEvaluator
from pymc_nre.losses import NREA, NREB, NREC
from pymc_nre.networks import (
    MLP,
    DeepSet,
    RatioNetwork,
    ResidualMLP,
    build,
    specification_from_dict,
)
from pymc_nre.networks.layers import ACTIVATIONS, Standardize
from pymc_nre.networks.specifications import specification_to_dict

DTYPES = {torch.float32: 1e-5, torch.float64: 1e-12}  # tolerance: a few hundred roundings


class Plain(nn.Module):
    """A user's module without embed and head."""

    def __init__(self, theta_size, event_shape):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(theta_size + int(np.prod(event_shape)), 8), nn.Tanh(), nn.Linear(8, 1)
        )

    def forward(self, theta, x):
        return self.layers(torch.cat([theta, x.reshape(len(x), -1)], -1))


class Embedding(nn.Module):
    """A user's module with embed and head."""

    def __init__(self, theta_size, event_shape):
        super().__init__()
        self.summary = nn.Linear(int(np.prod(event_shape)), 5)
        self.top = nn.Linear(theta_size + 5, 1)

    def embed(self, x):
        return torch.tanh(self.summary(x.reshape(len(x), -1)))

    def head(self, theta, features):
        return self.top(torch.tanh(torch.cat([theta, features], -1)))


FAMILY = {
    "MLP": MLP((8, 6, 4)),
    "one layer": MLP((8,), activation="gelu"),
    "ResidualMLP": ResidualMLP(width=8, blocks=2, activation="elu"),
    "plain module": Plain,
    "module with embedding": Embedding,
}


def make(name, theta_size=3, event_shape=(2, 2), dtype=torch.float64):
    torch.manual_seed(1)
    net = build(FAMILY[name], theta_size, event_shape)
    net.fit_standardization(torch.randn(50, theta_size) * 3 + 1, torch.randn(50, *event_shape) - 2)
    return net.to(dtype).eval()


def data(n=7, theta_size=3, event_shape=(2, 2), dtype=torch.float64):
    generator = torch.Generator().manual_seed(2)
    theta = torch.randn(n, theta_size, generator=generator, dtype=dtype)
    return theta, torch.randn(n, *event_shape, generator=generator, dtype=dtype)


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


# --- standardization -------------------------------------------------------------------------


@given(st.floats(-1e3, 1e3), st.floats(1e-3, 1e3), st.integers(2, 50))
def test_standardized_moments(mean, spread, n):
    values = torch.linspace(-1, 1, n, dtype=torch.float64)[:, None] * spread + mean
    standardize = Standardize((1,)).double()
    standardize.fit(values)
    z = standardize(values)
    # Rounding: the mean is known to eps |mean|, in units of the spread.
    tolerance = 1e-14 * (1 + abs(mean) / spread) * n
    assert abs(z.mean().item()) < tolerance
    assert abs(z.std(correction=0).item() - 1) < tolerance


@pytest.mark.parametrize("constant", [0.0, 0.1, 3.0, -1e12])
def test_what_does_not_vary_keeps_its_scale(constant):
    values = torch.full((1_001, 2), constant, dtype=torch.float64)
    values[:, 1] = torch.linspace(0, 1, 1_001)
    standardize = Standardize((2,)).double()
    standardize.fit(values)
    assert standardize.scale[0] == 1
    assert standardize.scale[1] < 1
    # The mean of a thousand equal numbers is that number up to rounding.
    assert abs(standardize(values)[:, 0]).max() <= 1e-13 * abs(constant)


def test_moments_of_events_are_taken_entry_by_entry():
    _, x = data(50)
    net = make("MLP")
    net.fit_standardization(torch.zeros(50, 3), x)
    torch.testing.assert_close(net.standardize_x.mean, x.mean(0))
    torch.testing.assert_close(net.standardize_x.scale, x.std(0, correction=0))
    assert net.standardize_x.mean.shape == (2, 2)
    assert {"standardize_x.mean", "standardize_theta.scale"} <= set(net.state_dict())


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


class Counting(RatioNetwork):
    """How many rows were embedded, in how many calls; linear in x, quadratic in theta."""

    def __init__(self, theta_size=2, event_shape=(3,)):
        super().__init__(theta_size, event_shape)
        self.embedded = []

    def embed(self, x):
        self.embedded.append(len(x))
        return x.sum(-1, keepdim=True)

    def head(self, theta, features):
        return (theta**2).sum(-1) * features[..., 0]


@pytest.mark.parametrize("loss", [NREA(), NREB(candidates=5), NREC(candidates=5)])
def test_losses_embed_every_observation_once(loss):
    net = Counting()
    theta, x = data(12, 2, (3,))
    assert torch.isfinite(loss(net, theta, x))
    assert net.embedded == [12]


# --- evaluation ------------------------------------------------------------------------------


def numpy_data(n=7, theta_size=3, event_shape=(2, 2)):
    rng = np.random.default_rng(3)
    return rng.normal(size=(n, theta_size)), rng.normal(size=(n, *event_shape))


def evaluator_of(name="MLP"):
    return TorchEvaluator(make(name).requires_grad_(False))


@pytest.mark.parametrize("rows", [1, 7])
@pytest.mark.parametrize("name", FAMILY)
def test_values_gradients_and_hessian_products(name, rows):
    evaluator = evaluator_of(name)
    theta, x = numpy_data()
    theta = theta[:rows]
    each = np.broadcast_to(theta, (7, 3))
    value, gradient = evaluator.value_and_gradient(theta, x)
    expected = evaluator.network(torch.tensor(each), torch.tensor(x)).numpy()
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    np.testing.assert_array_equal(evaluator.value(theta, x), value)
    assert value.dtype == gradient.dtype == np.float64

    def differences(f, step):
        shifts = np.eye(3) * step
        return np.stack([(f(each + s) - f(each - s)) / (2 * step) for s in shifts], -1)

    # Central differences: truncation step^2, rounding eps / step.
    by_hand = differences(lambda t: evaluator.value(t, x), 1e-5)
    np.testing.assert_allclose(gradient, by_hand, rtol=1e-6, atol=1e-8)
    hessian = differences(lambda t: evaluator.value_and_gradient(t, x)[1], 1e-5)  # (n, D, D)
    v = np.random.default_rng(4).normal(size=(7, 3))
    product = evaluator.hessian_product(theta, x, v)
    assert product.shape == (7, 3)
    np.testing.assert_allclose(product, np.einsum("nij,nj->ni", hessian, v), rtol=1e-5, atol=1e-8)
    assert np.abs(product).max() > 1e-4  # there is curvature to get wrong


class LinearInTheta(Counting):
    def head(self, theta, features):
        return theta.sum(-1) * features[..., 0]


class BlindToTheta(Counting):
    def head(self, theta, features):
        return features[..., 0] + 0.0 * theta.sum(-1)


@pytest.mark.parametrize("network", [LinearInTheta, BlindToTheta])
def test_a_network_that_is_linear_in_theta_has_no_curvature(network):
    evaluator = TorchEvaluator(network().double())
    theta, x = numpy_data(5, 2, (3,))
    product = evaluator.hessian_product(theta, x, np.ones((5, 2)))
    np.testing.assert_array_equal(product, np.zeros((5, 2)))


@pytest.mark.parametrize("rows", [1, 7])
def test_blocks_change_nothing(monkeypatch, rows):
    theta, x = numpy_data()
    theta, v = theta[:rows], np.random.default_rng(4).normal(size=(7, 3))

    def everything():
        evaluator = evaluator_of()
        value, gradient = evaluator.value_and_gradient(theta, x)
        return value, gradient, evaluator.value(theta, x), evaluator.hessian_product(theta, x, v)

    whole = everything()
    for block in (1, 3, 7):
        monkeypatch.setattr(evaluate, "_BLOCK", block)
        for got, expected in zip(everything(), whole, strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-14)


def test_no_observations():
    evaluator = evaluator_of()
    x = np.zeros((0, 2, 2))
    for theta in (np.zeros((1, 3)), np.zeros((0, 3))):
        value, gradient = evaluator.value_and_gradient(theta, x)
        assert value.shape == evaluator.value(theta, x).shape == (0,)
        assert gradient.shape == (0, 3)
        assert evaluator.hessian_product(theta, x, np.zeros((0, 3))).shape == (0, 3)


@pytest.mark.parametrize("method", ["value", "value_and_gradient", "hessian_product"])
def test_rows_must_fit(method):
    message = (
        r"^theta has 3 rows and x has 7; expected one row of theta for all observations, or one "
        r"for each\.$"
    )
    more = [np.zeros((7, 3))] if method == "hessian_product" else []
    with pytest.raises(ValueError, match=message):
        getattr(evaluator_of(), method)(np.zeros((3, 3)), np.zeros((7, 2, 2)), *more)


def test_autograd_may_be_off_globally():
    theta, x = numpy_data()
    expected = evaluator_of().value_and_gradient(theta, x)[1]
    curved = evaluator_of().hessian_product(theta, x, theta)
    assert torch.is_grad_enabled()
    try:
        torch.set_grad_enabled(False)
        gradient = evaluator_of().value_and_gradient(theta, x)[1]
        product = evaluator_of().hessian_product(theta, x, theta)
        assert not torch.is_grad_enabled()  # left as it was found
    finally:
        torch.set_grad_enabled(True)
    np.testing.assert_array_equal(gradient, expected)
    np.testing.assert_array_equal(product, curved)


def test_read_only_and_strided_arrays():
    theta, x = numpy_data()
    expected = evaluator_of().value(theta, x)
    wide = np.repeat(x, 2, axis=-1)[..., ::2]
    theta.setflags(write=False)
    x.setflags(write=False)
    np.testing.assert_array_equal(evaluator_of().value(theta, x), expected)
    np.testing.assert_array_equal(evaluator_of().value(theta, wide), expected)


# --- remembered embeddings -------------------------------------------------------------------


@pytest.fixture
def counting():
    return TorchEvaluator(Counting().double())


def rows(evaluator):
    """Rows embedded since the last look."""
    seen = sum(evaluator.network.embedded)
    evaluator.network.embedded.clear()
    return seen


def test_a_data_set_is_embedded_once(counting):
    theta, x = numpy_data(6, 2, (3,))
    counting.value(theta, x)
    assert rows(counting) == 6
    for _ in range(3):
        counting.value(theta[:1], x)
        counting.value_and_gradient(theta + 1, x)
        counting.hessian_product(theta, x, theta)
    counting.value(theta, x.copy())  # equal data, other memory
    assert rows(counting) == 0


def test_data_changed_in_place_are_seen(counting):
    theta, x = numpy_data(6, 2, (3,))
    before = counting.value(theta, x)
    x[0] += 1.0
    after = counting.value(theta, x)
    np.testing.assert_array_equal(before != after, [True] + [False] * 5)
    np.testing.assert_array_equal(after, (theta**2).sum(-1) * x.sum(-1))


def test_several_data_sets_are_remembered(counting):
    theta, _ = numpy_data(6, 2, (3,))
    data_sets = [np.full((6, 3), float(k)) for k in range(evaluate._REMEMBERED_DATA)]
    for _ in range(3):
        for x in data_sets:
            np.testing.assert_array_equal(counting.value(theta, x), (theta**2).sum(-1) * x.sum(-1))
    assert rows(counting) == 6 * len(data_sets)
    counting.value(theta, np.full((6, 3), -1.0))  # one more: the oldest is forgotten
    assert rows(counting) == 6
    for x in data_sets[1:]:
        counting.value(theta, x)
    assert rows(counting) == 0
    counting.value(theta, data_sets[0])
    assert rows(counting) == 6


def test_the_same_numbers_in_another_shape_are_other_data():
    class Sized(Counting):
        def embed(self, x):
            return super().embed(x.reshape(len(x), -1))

    evaluator = TorchEvaluator(Sized(2, (1,)).double())
    evaluator.value(np.ones((1, 2)), np.ones((6, 1)))
    assert evaluator.value(np.ones((1, 2)), np.ones((3, 1))).shape == (3,)
    assert rows(evaluator) == 9


def test_large_embeddings_are_not_kept(counting, monkeypatch):
    theta, x = numpy_data(6, 2, (3,))
    monkeypatch.setattr(evaluate, "_REMEMBERED_BYTES", 6 * 8 - 1)  # one byte short
    monkeypatch.setattr(evaluate, "_BLOCK", 4)
    for _ in range(2):
        np.testing.assert_array_equal(counting.value(theta, x), (theta**2).sum(-1) * x.sum(-1))
        assert counting.network.embedded == [4, 2]  # each row once, in blocks
        counting.network.embedded.clear()
    assert not counting._remembered
    monkeypatch.setattr(evaluate, "_REMEMBERED_BYTES", 6 * 8)
    counting.value(theta, x)
    rows(counting)
    counting.value(theta, x)
    assert rows(counting) == 0


def test_memory_is_bounded_for_all_data_sets_together(counting, monkeypatch):
    monkeypatch.setattr(evaluate, "_REMEMBERED_BYTES", 2 * 6 * 8)
    theta, _ = numpy_data(6, 2, (3,))
    for k in range(3):
        counting.value(theta, np.full((6, 3), float(k)))
    assert sum(known.features.nbytes for known in counting._remembered) <= 2 * 6 * 8
    rows(counting)
    counting.value(theta, np.full((6, 3), 2.0))
    counting.value(theta, np.full((6, 3), 1.0))
    assert rows(counting) == 0
    counting.value(theta, np.full((6, 3), 0.0))
    assert rows(counting) == 6


@pytest.mark.parametrize(("rows", "threads"), [(10, 1), (20_000, 2)])
def test_few_rows_take_one_thread_and_the_setting_comes_back(rows, threads, monkeypatch):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        evaluator, seen = evaluator_of(), []
        head = evaluator.network.head
        monkeypatch.setattr(
            evaluator.network,
            "head",
            lambda *arguments: seen.append(torch.get_num_threads()) or head(*arguments),
        )
        x = np.zeros((rows, 2, 2))
        evaluator.value(np.zeros((1, 3)), x)
        evaluator.value_and_gradient(np.zeros((1, 3)), x)
        assert set(seen) == {threads}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


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
