"""Regions of margins that are formulas; of an integer, whole numbers alone are asked of."""

import numpy as np
import pytest

from pymc_nre.amortized.adaptive_grid import Axis
from pymc_nre.point.regions import plane, runs

UNKNOWN = np.full((2, 2), np.nan)


def ellipse(center, spread, whole):
    """Margins of a tilted ellipse: the second number follows the first by three tenths."""

    def margin(points):
        assert (points[:, whole] == np.rint(points[:, whole])).all()
        first, second = ((points - center) / spread).T
        return 1 - first**2 - (second - 0.3 * first) ** 2

    return margin


def slices(center, spread, values):
    """Lengths of that ellipse at values of the first number."""
    first = (values - center[0]) / spread[0]
    return 2 * spread[1] * np.sqrt(np.clip(1 - first**2, 0, None))


def test_an_integer_and_another_number():
    center, spread = np.array([9.1, 0.4]), np.array([1.05, 0.01])
    axes = [Axis("a", -0.2, 18.0, True), Axis("b", -5.0, 5.0)]
    modes = np.array([[9.0, 0.4]])
    found = plane(ellipse(center, spread, [True, False]), axes, modes, np.diag([1.0, 0.004**2]))
    exact = slices(center, spread, np.arange(19)).sum()
    within = 2 * found.cells[1].widths[0]  # each of two lengths, by a cell at most
    np.testing.assert_allclose(found.area, exact, atol=within)
    inside = found.cells[0].places[(found.margin >= 0).any(1)]
    np.testing.assert_array_equal(inside, [9, 10])
    # Taken for any number, it has the area of an ellipse: that differs by more than is allowed.
    other = plane(ellipse(center, spread, []), [Axis("a", 0, 18), axes[1]], modes, UNKNOWN)
    assert abs(other.area - exact) > 2 * within


def test_an_outline_runs_around_cells_of_integers():
    center, spread = np.array([9.3, 0.4]), np.array([3.1, 1.0])
    axes = [Axis("a", 0.0, 18.0, True), Axis("b", -5.0, 5.0)]
    for turned in (False, True):
        order = [1, 0] if turned else [0, 1]
        margin = ellipse(center, spread, [True, False])
        found = plane(
            lambda points, order=order, margin=margin: margin(points[:, order]),
            [axes[k] for k in order],
            np.array([[9.0, 0.4]])[:, order],
            UNKNOWN,
        )
        (line,) = found.contours()
        along = line[:, order[0]]
        np.testing.assert_array_equal(np.unique(along.round(9)), np.arange(6.5, 13.0))
        first, second = line.T
        area = abs(first @ np.roll(second, 1) - second @ np.roll(first, 1)) / 2
        np.testing.assert_allclose(area, slices(center, spread, np.arange(19)).sum(), rtol=0.01)


@pytest.mark.parametrize("covariance", [UNKNOWN, np.eye(2)])
def test_two_integers_are_pairs(covariance):
    center, spread = np.array([9.3, 4.4]), np.array([3.1, 4.0])
    axes = [Axis("a", 0.0, 18.0, True), Axis("b", -40.0, 40.0, True)]
    margin = ellipse(center, spread, [True, True])
    found = plane(margin, axes, np.array([[9.0, 4.0]]), covariance)
    pairs = np.stack(np.meshgrid(np.arange(19.0), np.arange(-40.0, 41.0)), -1).reshape(-1, 2)
    assert found.area == (margin(pairs) >= 0).sum()


def test_of_many_integers_some_stand_for_others():
    center, spread = np.array([40_321.3, 0.4]), np.array([900.0, 0.1])
    axes = [Axis("a", 0.0, 100_000.0, True), Axis("b", -5.0, 5.0)]
    margin = ellipse(center, spread, [True, False])
    found = plane(margin, axes, np.array([[40_300.0, 0.4]]), np.diag([1.0, 0.04**2]))
    exact = slices(center, spread, np.arange(39_000, 42_000)).sum()
    np.testing.assert_allclose(found.area, exact, rtol=0.02)
    widths = found.cells[0].widths
    assert widths.max() - widths.min() <= 1
    np.testing.assert_array_equal(np.diff(found.cells[0].places) > 0, True)


@pytest.mark.parametrize("dear", [False, True])
@pytest.mark.parametrize("highest", [20.0, 1_000_000.0])
def test_runs_of_an_integer_end_at_its_values(dear, highest):
    asked = []

    def margin(points):
        asked.extend(points[:, 0])
        two = np.minimum(abs(points[:, 0] - 4.4) - 1.5, abs(points[:, 0] - 0.7 * highest) - 5.2)
        return -two

    found = runs(margin, Axis("a", -3.0, highest, True), np.array([4.0, 0.7 * highest]), 1.0, dear)
    middle = 0.7 * highest
    assert found == [(3.0, 5.0), (middle - 5, middle + 5)]
    assert (np.array(asked) == np.rint(asked)).all()
    assert len(set(asked)) == len(asked) < 260
