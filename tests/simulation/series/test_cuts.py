"""Series cut into next values and their pasts."""

import numpy as np
import pytest

import pymc_nre as nre


def test_every_value_follows_its_past():
    x = np.arange(24.0).reshape(8, 3)
    cut = nre.transitions(x, order=2)
    assert cut.next.shape == (6, 3)
    assert cut.past.shape == (6, 2, 3)
    assert cut.order == 2
    for after, past, time in zip(cut.next, cut.past, cut.time, strict=True):
        np.testing.assert_array_equal(after, x[time])
        np.testing.assert_array_equal(past, x[time - 2 : time])
    np.testing.assert_array_equal(cut.first, x[None, :2])


def test_several_series_are_not_joined():
    cut = nre.transitions([[1.0, 2.0, 3.0], [10.0, 20.0], np.array([5.0, 6.0, 7.0, 8.0])])
    np.testing.assert_array_equal(cut.series, [0, 0, 1, 2, 2, 2])
    np.testing.assert_array_equal(cut.time, [1, 2, 1, 1, 2, 3])
    np.testing.assert_array_equal(cut.next, [2, 3, 20, 6, 7, 8])
    np.testing.assert_array_equal(cut.past[:, 0], [1, 2, 10, 5, 6, 7])
    np.testing.assert_array_equal(cut.first, [[1], [10], [5]])
    assert len(cut) == 6


@pytest.mark.parametrize("event", [(), (2,)])
def test_nan_fills_up_the_end(event):
    rng = np.random.default_rng(1)
    parts = [rng.normal(size=(n, *event)) for n in (5, 3, 4)]
    padded = np.full((3, 5, *event), np.nan)
    for row, part in zip(padded, parts, strict=True):
        row[: len(part)] = part
    one, other = nre.transitions(parts), nre.transitions(list(padded))
    for name in ("next", "past", "series", "time", "first"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_simulations_of_whole_series():
    x = np.random.default_rng(1).normal(size=(7, 5))
    one = nre.transitions(nre.Simulations({"mu": np.arange(7.0)}, x), 2)
    other = nre.transitions(list(x), 2)
    np.testing.assert_array_equal(one.past, other.past)
    np.testing.assert_array_equal(one.series, other.series)


@pytest.mark.parametrize(
    ("series", "order", "match"),
    [
        ([1.0, 2.0], 2, "series has 2 values; expected at least 3"),
        ([[1.0, 2.0, 3.0], [1.0]], 1, "series 1 has 1 values; expected at least 2"),
        ([[1.0, 2.0], [np.nan, np.nan]], 1, "series 1 has 0 values"),
        ([1.0, np.nan, 3.0], 1, r"1 of 3 values are NaN or infinite \(first: time 1\).*pass both"),
        ([1.0, np.inf], 1, r"1 of 2 values are NaN or infinite"),
        ([[1.0, 2.0], [[1.0, 2.0], [3.0, 4.0]]], 1, r"one shape in all series, got \(\), \(2,\)"),
        (3.0, 1, "got a single number"),
        ([], 1, "has 0 values"),
        ([1.0, 2.0], 0, "order: expected at least 1"),
    ],
)
def test_what_is_no_series_is_told(series, order, match):
    with pytest.raises(ValueError, match=match):
        nre.transitions(series, order)


def test_repr():
    assert repr(nre.transitions(np.zeros((4, 2)))) == (
        "Transitions: 3 of 1 series, past of 1, values of shape (2,)"
    )
