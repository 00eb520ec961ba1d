"""Compiled activations against torch in double precision."""

import numba
import numpy as np
import pytest
import torch

from pymc_nre.kernels.activations import activate
from pymc_nre.kernels.program import ACTIVATIONS
from pymc_nre.networks.layers import ACTIVATIONS as MODULES

# Roundings of a few operations, ours and torch's, in units of eps. The worst is the slope of
# silu, which both take as s (1 + x (1 - s)): the rounding of s, up to eps / 4, is multiplied by
# an x of up to 37 (17 in single precision), where s becomes 1. Measured: 6 and 8.
UNITS = 16


@numba.njit
def run(activation, h, derivatives):
    activate(activation, h, derivatives)


def activated(name, x, derivatives=2):
    """Value and derivatives of an activation, one row each."""
    rows = np.full((1 + derivatives, len(x)), -7.0, x.dtype)  # all of it must be written
    rows[0] = x
    run(ACTIVATIONS[name](), rows[0], tuple(rows[1:]))
    return rows


def by_torch(name, x):
    """The same by torch, in double precision."""
    leaf = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    value = MODULES[name]()(leaf)
    (slope,) = torch.autograd.grad(value.sum(), leaf, create_graph=True)
    curve = torch.zeros_like(leaf)
    if slope.requires_grad:
        (curve,) = torch.autograd.grad(slope.sum(), leaf, materialize_grads=True)
    return torch.stack([value, slope, curve]).detach().numpy()


def arguments(dtype):
    """From denormal to huge, dense where the functions bend, on both sides of each switch."""
    rng = np.random.default_rng(0)
    info = np.finfo(dtype)
    sizes = np.geomspace(float(info.tiny), 1e5, 3_000)
    small = [float(info.smallest_subnormal), float(info.tiny) / 3, float(info.tiny), 1e-9]
    # Sigmoids become 1 near 17 and 37; squares beyond 1e15 would soon overflow in single.
    positive = np.concatenate([small, sizes, [0.0, 17.0, 37.0, 800.0, 1e15]])
    twenty = np.array([20], dtype)
    switch = np.concatenate([np.nextafter(twenty, dtype(0)), np.nextafter(twenty, dtype(30))])
    dense = [np.linspace(-45, 45, 90_001), rng.normal(0, 3, 20_000), rng.normal(0, 60, 2_000)]
    return np.concatenate([positive, -positive, [-20.0], *dense, switch]).astype(dtype)


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_value_and_both_derivatives_are_those_of_torch(name, dtype):
    # Torch takes the second derivative of softplus as 0 at 20 itself: see below.
    x = arguments(dtype)
    x = x[x != 20]
    expected = by_torch(name, x)
    error = np.abs(activated(name, x) - expected) / np.maximum(np.abs(expected), 1)
    assert np.isfinite(expected).all()
    assert error.max() <= UNITS * np.finfo(dtype).eps


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_digits_are_kept_near_zero(name, dtype):
    x = arguments(dtype)
    x = x[np.abs(x) < 1e-3]
    expected = by_torch(name, x)
    # A denormal number has no more digits than this.
    floor = 2 * float(np.finfo(dtype).smallest_subnormal)
    allowed = UNITS * np.finfo(dtype).eps * np.abs(expected) + floor
    assert (np.abs(activated(name, x) - expected) <= allowed).all()


def test_softplus_is_the_identity_above_20_only():
    above = np.nextafter(20.0, 30.0)
    (at, identity), slopes, curves = activated("softplus", np.array([20.0, above]))
    assert at > 20
    assert identity == above
    assert slopes[0] < 1
    assert slopes[1] == 1
    # Continuous from the left, as the slope is.
    np.testing.assert_allclose(curves, [np.exp(-20) / (1 + np.exp(-20)) ** 2, 0], rtol=1e-6)


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_nan_stays_nan_alone(name, dtype):
    x = np.linspace(-2, 2, 41).astype(dtype)
    x[[0, 7, 40]] = np.nan
    np.testing.assert_array_equal(np.isnan(activated(name, x)[0]), np.isnan(x))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_value_does_not_depend_on_which_derivatives_are_asked_for(name):
    x = np.linspace(-30, 30, 1_001)
    everything = activated(name, x)
    for derivatives in (0, 1):
        some = activated(name, x, derivatives)
        np.testing.assert_allclose(some, everything[: 1 + derivatives], rtol=1e-15, atol=1e-300)


@pytest.mark.parametrize("size", [0, 1, 3, 4, 5, 8, 17])
def test_every_length_is_filled_to_its_end(size):
    x = np.linspace(-1, 2, size)
    np.testing.assert_allclose(activated("silu", x), by_torch("silu", x), rtol=1e-14)


def test_the_comparison_notices_another_activation_and_a_short_series():
    x = arguments(np.float64)
    error = np.abs(activated("silu", x) - by_torch("gelu", x)).max(axis=1)
    assert (error > 1e-3).all()
    # Single precision stands for a polynomial that is cut too early.
    coarse = activated("silu", x.astype(np.float32)).astype(np.float64)
    assert np.abs(coarse - by_torch("silu", x))[0, np.abs(x) < 1].max() > 1e-9
