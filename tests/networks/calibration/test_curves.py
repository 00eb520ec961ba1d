"""Curves through points: smooth, without extremes of their own, and straight outside."""

import numpy as np
import pytest
import torch
from scipy.interpolate import PchipInterpolator

from pymc_nre.networks.calibration.curves import Curves

S = torch.linspace(-12, 12, 2_401, dtype=torch.float64)


def points(seed, n):
    """Places and heights that rise, neither nearer to each other than a tenth."""
    steps = np.random.default_rng(seed).exponential(1, (2, n)) + 0.1
    return tuple(np.cumsum(steps, axis=1) - n / 2)


def slopes(curves, s=S):
    """Of each curve, ``(R, n)``."""
    return torch.func.jacrev(lambda z: curves(z).sum(0))(s)


def test_new_ones_and_those_through_a_single_point_are_lines():
    torch.testing.assert_close(Curves(2, 3).double()(S), S[:, None].expand(-1, 2))
    shifted = Curves.through([(np.array([0.3]), np.array([1.0]))])
    torch.testing.assert_close(shifted(S)[:, 0], S + 0.7)


@pytest.mark.parametrize("seed", range(3))
def test_between_the_points_they_are_those_of_scipy(seed):
    sets = [points(seed, 5), points(seed + 10, 9)]
    found = Curves.through(sets)(S).numpy()
    for k, (t, c) in enumerate(sets):
        ends = [t[0] - 1, *t, t[-1] + 1], [c[0] - 1, *c, c[-1] + 1]
        within = (t[0] <= S.numpy()) & (t[-1] >= S.numpy())
        expected = PchipInterpolator(*ends)(S.numpy()[within])
        np.testing.assert_allclose(found[within, k], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_they_rise_and_their_slopes_go_on_where_pieces_meet(seed):
    sets = [points(seed, 5), points(seed + 10, 9)]
    curves = Curves.through(sets)
    found = slopes(curves)
    assert (found >= -1e-12).all()
    assert ((found[:, 0] - 1).abs() < 1e-12).all()
    assert ((found[:, -1] - 1).abs() < 1e-12).all()
    for k, (t, _) in enumerate(sets):
        before, after = (slopes(curves, torch.tensor(t + step))[k] for step in (-1e-9, 1e-9))
        torch.testing.assert_close(before, after, rtol=1e-6, atol=1e-6)


def test_beyond_the_points_logits_are_moved_and_not_stretched():
    t, c = points(1, 6)
    far = torch.tensor([-1e3, -1e2, 1e2, 1e3], dtype=torch.float64)
    found = Curves.through([(t, c)])(far)[:, 0]
    shift = torch.tensor([c[0] - t[0]] * 2 + [c[-1] - t[-1]] * 2)
    torch.testing.assert_close(found, far + shift)


def test_points_that_fall_give_a_curve_that_falls_there_only():
    t, c = np.array([0.0, 1.0, 2.0, 3.0]), np.array([0.0, 1.0, 0.5, 2.0])
    found = slopes(Curves.through([(t, c)]))[0]
    between = (S > 1) & (S < 2)
    assert (found[between] <= 1e-12).all()
    assert (found[~between] >= -1e-12).all()
