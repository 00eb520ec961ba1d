"""Compiled activations against torch in double precision."""

from functools import cache

import numpy as np
import pytest
import torch
from traced import Alone, evaluator_of, everything, traced

from pymc_nre.networks.layers import ACTIVATIONS

# Roundings of a few operations, ours and torch's, in units of eps. The worst is the slope of
# silu, which both take as s (1 + x (1 - s)): the rounding of s, up to eps / 4, is multiplied by
# an x of up to 37 (17 in single precision), where s becomes 1. Measured: 6 and 8.
UNITS = 16


@cache
def compiled(name):
    return traced(Alone(ACTIVATIONS[name]()), 1, (1,), embedded=True)


def activated(name, x):
    """Value, value again and derivatives of an activation, one row each; in the precision of x."""
    theta, ones = x[:, None].astype(float), np.ones((len(x), 1))
    evaluator = evaluator_of(compiled(name), x.dtype)
    return np.stack([part.ravel() for part in everything(evaluator, theta, ones, ones)])


def by_torch(name, x):
    """The same by torch, in double precision."""
    leaf = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    value = ACTIVATIONS[name]()(leaf)
    (slope,) = torch.autograd.grad(value.sum(), leaf, create_graph=True)
    curve = torch.zeros_like(leaf)
    if slope.requires_grad:
        (curve,) = torch.autograd.grad(slope.sum(), leaf, materialize_grads=True)
    return torch.stack([value, value, slope, curve]).detach().numpy()


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
    x = arguments(dtype)
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
    (at, identity), _, slopes, curves = activated("softplus", np.array([20.0, above]))
    assert at > 20
    assert identity == above
    assert slopes[0] < 1
    assert slopes[1] == 1
    np.testing.assert_array_equal(curves, 0)  # as torch has it, on the switch too


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_nan_stays_nan_alone(name, dtype):
    x = np.linspace(-2, 2, 41).astype(dtype)
    x[[0, 7, 40]] = np.nan
    np.testing.assert_array_equal(np.isnan(activated(name, x)[0]), np.isnan(x))


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
