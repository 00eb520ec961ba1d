"""Compiled Hessian products against torch's double backward."""

import itertools

import numpy as np
import pytest
import torch
from traced import evaluator_of, rows_of, traced

from pymc_nre import networks
from pymc_nre.estimators.evaluator import TorchEvaluator
from pymc_nre.networks.layers import ACTIVATIONS, NORMS

SPECIFICATIONS = {
    "mlp": lambda **options: networks.MLP((13, 7), **options),
    "residual": lambda **options: networks.ResidualMLP(9, 2, **options),
}
SIZES = [(1, ()), (2, (3,)), (3, (2, 2)), (4, ())]  # D, shape of an observation


def random_network(specification, theta_size, event_shape):
    """In double precision, with moments as if it had been trained."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(theta_size)
        net = networks.build(specification, theta_size, event_shape).double()
        for module in net.modules():
            if isinstance(module, torch.nn.BatchNorm1d | torch.nn.LayerNorm):
                torch.nn.init.normal_(module.weight)
                torch.nn.init.normal_(module.bias)
            if isinstance(module, torch.nn.BatchNorm1d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
    theta, x = draws(500, theta_size, event_shape)
    net.fit_standardization(torch.tensor(theta), torch.tensor(x))
    return net.eval().requires_grad_(False)


def draws(n, theta_size, event_shape, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(2, 3, (n, theta_size)), rng.normal(-1, 2, (n, *event_shape))


def compiled(net, theta, x, v, *, embedded=False, precision=np.float64):
    found = traced(net, theta.shape[1], x.shape[1:], embedded=embedded)
    return product(found, net, theta, x, v, precision)


def product(found, net, theta, x, v, precision=np.float64):
    return evaluator_of(found, precision).hessian_product(theta, rows_of(found, net, x), v)


def assert_close(actual, expected, relative=1e-10):
    largest = np.abs(expected).max(initial=0)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=relative * largest)


def covering():
    """Each network in one of the sizes, each of its three parts in all of them.

    What sizes change is ahead of activations and norms, so that all of all would see no more, and
    take four times as long.
    """
    parts = itertools.product(*map(enumerate, (SPECIFICATIONS, ACTIVATIONS, NORMS)))
    for (i, family), (j, activation), (k, norm) in parts:
        yield family, activation, norm, SIZES[(2 * i + j + k) % len(SIZES)]


@pytest.mark.one_python
@pytest.mark.parametrize(("family", "activation", "norm", "size"), list(covering()))
def test_equals_torch(family, activation, norm, size):
    specification = SPECIFICATIONS[family](activation=activation, norm=norm)
    theta_size, event_shape = size
    net = random_network(specification, theta_size, event_shape)
    found = traced(net, theta_size, event_shape, embedded=theta_size % 2 == 0)
    for n, shared in itertools.product((1, 5), (True, False)):
        theta, x = draws(n, theta_size, event_shape, seed=1)
        theta = theta[:1] if shared else theta
        v = np.random.default_rng(2).normal(size=(n, theta_size))
        expected = TorchEvaluator(net).hessian_product(theta, x, v)
        if activation != "relu":
            assert np.abs(expected).max() > 0
        assert_close(product(found, net, theta, x, v), expected)


@pytest.mark.parametrize("part", range(3))
def test_every_part_has_every_size(part):
    pairs = {(case[part], case[3]) for case in covering()}
    assert len(pairs) == len({case[part] for case in covering()}) * len(SIZES)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("n", [128, 389])
def test_many_rows(n, shared):
    net = random_network(networks.MLP((16, 8), norm="layer"), 2, (3,))
    theta, x = draws(n, 2, (3,))
    theta = theta[:1] if shared else theta
    v = np.random.default_rng(2).normal(size=(n, 2))
    assert_close(compiled(net, theta, x, v), TorchEvaluator(net).hessian_product(theta, x, v))


def test_rows_of_a_hessian_are_symmetric():
    net = random_network(networks.MLP((16, 8), norm="layer", activation="gelu"), 4, ())
    theta, x = draws(20, 4, ())
    found = traced(net, 4)
    columns = [product(found, net, theta, x, np.tile(unit, (20, 1))) for unit in np.eye(4)]
    hessians = np.stack(columns, axis=-1)
    assert_close(hessians, hessians.swapaxes(1, 2), relative=1e-13)


def test_single_precision_weights_are_only_rounded():
    net = random_network(networks.MLP((16, 8), norm="batch"), 2, ())
    rounded = random_network(networks.MLP((16, 8), norm="batch"), 2, ())
    for parameter in rounded.parameters():
        parameter.data = parameter.data.float().double()
    theta, x = draws(5, 2, ())
    v = np.ones((5, 2))
    single = compiled(net, theta, x, v, precision=np.float32)
    assert single.dtype == np.float64
    # Factors of batch normalization are rounded after they are computed, not before.
    assert_close(single, TorchEvaluator(rounded).hessian_product(theta, x, v), relative=1e-5)


def test_a_network_linear_in_theta_has_no_curvature():
    net = random_network(networks.MLP((16, 8), activation="relu", norm="batch"), 2, ())
    theta, x = draws(5, 2, ())
    np.testing.assert_array_equal(compiled(net, theta, x, np.ones((5, 2))), np.zeros((5, 2)))


def test_keeps_nan_in_its_row():
    net = random_network(networks.MLP((16, 8)), 2, ())
    theta, x = draws(5, 2, ())
    theta[2] = np.nan
    finite = np.isfinite(compiled(net, theta, x, np.ones((5, 2)))).all(axis=1)
    assert finite.tolist() == [True, True, False, True, True]


@pytest.mark.parametrize("wrong", ["activation", "v", "weight"])
def test_the_comparison_sees_a_wrong_product(wrong):
    """The twin that must fail."""
    specification = networks.MLP((16, 8), norm="layer")
    net = random_network(specification, 2, ())
    theta, x = draws(5, 2, ())
    v = np.random.default_rng(2).normal(size=(5, 2))
    expected = TorchEvaluator(net).hessian_product(theta, x, v)
    assert_close(compiled(net, theta, x, v), expected)
    if wrong == "activation":
        net = random_network(networks.MLP((16, 8), norm="layer", activation="gelu"), 2, ())
    elif wrong == "v":
        v[0, 0] *= 1 + 1e-7
    else:
        net.theta_in.weight[0, 0] *= 1 + 1e-7
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        assert_close(compiled(net, theta, x, v), expected)
