"""A network on NumPy arrays: values, derivatives and tables against slow twins, embeddings kept."""

import numpy as np
import pytest
import torch
from network_family import FAMILY, Counting, make
from torch import nn
from untrained import make_estimator

from pymc_nre.estimators import evaluator as evaluate
from pymc_nre.estimators.evaluator import TorchEvaluator
from pymc_nre.networks import MLP, DeepSet
from pymc_nre.networks.composed.ensemble import Ensemble


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


# --- many parameters for many observations ---------------------------------------------------


class Own(nn.Module):
    """A network of a user's own, which joins parameters and observations itself."""

    def __init__(self, theta_size, event_shape):
        super().__init__()
        self.layer = nn.Linear(theta_size + int(np.prod(event_shape)), 1)

    def forward(self, theta, x):
        return self.layer(torch.cat([theta, x.flatten(1)], 1))


def ensemble():
    members = [make_estimator(event_shape=(4,), seed=seed).network for seed in (1, 2)]
    return make_estimator(event_shape=(4,)).replace(network=Ensemble(members, "ratios"))


ESTIMATORS = {
    "mlp": lambda: make_estimator(event_shape=(4,)),
    "set": lambda: make_estimator(event_shape=(4,), network=MLP((8,), embedding=DeepSet((8, 3)))),
    "own": lambda: make_estimator(event_shape=(4,), network=Own),
    "ensemble": ensemble,
}


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("numbers", [1, 64 * 7, 64 * 40, 2**18])
@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_table_is_made_of_single_log_ratios(name, numbers, shared, monkeypatch):
    ratio = ESTIMATORS[name]()
    rng = np.random.default_rng(1)
    x, theta = rng.normal(size=(9, 4)), rng.normal(size=(1 if shared else 9, 11, 3))
    monkeypatch.setattr(evaluate, "_TABLE_NUMBERS", numbers)
    monkeypatch.setattr(evaluate, "_TABLE_ROWS", 5)
    table = ratio.evaluator.table(theta, x)
    for i, row in enumerate(np.broadcast_to(theta, (9, 11, 3))):
        expected = ratio.evaluator.value(row, np.tile(x[i], (11, 1)))
        np.testing.assert_allclose(table[i], expected, rtol=1e-12, atol=1e-12)


def test_each_observation_is_embedded_once(monkeypatch):
    ratio, seen = make_estimator(event_shape=(4,)), []
    embed = type(ratio.network).embed
    monkeypatch.setattr(
        type(ratio.network), "embed", lambda net, x: seen.append(len(x)) or embed(net, x)
    )
    monkeypatch.setattr(evaluate, "_TABLE_NUMBERS", 64 * 7)
    rng = np.random.default_rng(1)
    ratio.evaluator.table(rng.normal(size=(1, 20, 3)), rng.normal(size=(30, 4)))
    assert seen == [30]


def test_rows_of_a_table_must_fit(estimator):
    with pytest.raises(ValueError, match="theta has 2 rows and x has 3"):
        estimator.evaluator.table(np.zeros((2, 5, 3)), np.zeros((3, 3)))
    assert estimator.evaluator.table(np.zeros((1, 5, 3)), np.zeros((0, 3))).shape == (0, 5)
    assert estimator.evaluator.table(np.zeros((1, 0, 3)), np.zeros((2, 3))).shape == (2, 0)
