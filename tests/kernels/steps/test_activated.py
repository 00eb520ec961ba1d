"""Passes between matrix products: values, slopes, and gradients bent, beside torch's."""

import pytest
import torch

from pymc_nre.kernels.steps.activated import SLOPES, Passes
from pymc_nre.networks.layers import ACTIVATIONS

N, EACH, SIZE, WIDTH = 7, 3, 2, 48
ROUNDING = 5e-6  # of single precision, some operations on


def values_and_slopes(activation, z):
    """Of torch, in double precision."""
    z = z.double().requires_grad_()
    values = ACTIVATIONS[activation]()(z)
    (slopes,) = torch.autograd.grad(values.sum(), z)
    return values.detach().float(), slopes.float()


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=ROUNDING, atol=ROUNDING)


def test_every_activation_has_a_slope():
    assert set(SLOPES) == set(ACTIVATIONS)


@pytest.mark.parametrize("activation", SLOPES)
def test_values_and_slopes(activation):
    z = torch.linspace(-40, 40, 15 * 16).reshape(15, 16)
    slopes, values = z.clone(), torch.empty_like(z)
    Passes(activation).middle(slopes, values)
    expected = values_and_slopes(activation, z)
    close(values, expected[0])
    close(slopes, expected[1])


@pytest.mark.parametrize("activation", SLOPES)
def test_the_first_layer(activation):
    torch.manual_seed(1)
    theta, matrix = torch.randn(N * EACH, SIZE), torch.randn(SIZE, WIDTH)
    features = torch.randn(N, WIDTH)
    slopes, values = torch.empty(N * EACH, WIDTH), torch.empty(N * EACH, WIDTH)
    Passes(activation).first(theta, matrix, features, slopes, values)
    z = theta @ matrix + features.repeat_interleave(EACH, 0)
    expected = values_and_slopes(activation, z)
    close(values, expected[0])
    close(slopes, expected[1])


@pytest.mark.parametrize("n", [1, N])
def test_gradients_are_bent_and_summed(n):
    torch.manual_seed(1)
    gradients, slopes = torch.randn(N * EACH, WIDTH), torch.randn(N * EACH, WIDTH)
    found, sums = gradients.clone(), torch.empty(n, WIDTH)
    Passes("silu").bend(found, slopes, sums)
    close(found, gradients * slopes)
    close(sums, (gradients * slopes).reshape(n, -1, WIDTH).sum(1))


def test_what_is_no_number_stays_none():
    z = torch.full((1, 16), torch.nan)
    values = torch.empty_like(z)
    Passes("silu").middle(z, values)
    assert values.isnan().all()
    assert z.isnan().all()
