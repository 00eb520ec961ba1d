"""What networks share: inputs in units of their spread."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from network_family import data, make

from pymc_nre.networks.layers import Standardize


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
