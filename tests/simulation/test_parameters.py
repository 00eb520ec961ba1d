"""Parameters by name and packed: reading, broadcasting, and names of dimensions."""

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr

from pymc_nre.simulation.parameters import Layout, is_integer

LAYOUT = Layout({"mu": (), "beta": (2,)})


def test_all_kinds_of_arrays_are_packed_alike():
    expected = [[1.0, 3.0, 4.0], [2.0, 3.0, 4.0]]
    for mu in ([1, 2], np.array([1, 2], np.float32), pd.Series([1, 2]), torch.tensor([1, 2])):
        assert LAYOUT.pack({"mu": mu, "beta": (3, 4)}).tolist() == expected


@pytest.mark.parametrize(
    ("mu", "said"),
    [
        (np.ma.array([1.0, -999.0], mask=[0, 1]), "1 of 2 values are masked"),
        (np.array([1 + 1j]), "complex"),
        (None, "got None"),
        ("1", "expected numbers"),
    ],
)
def test_what_holds_no_numbers_is_refused(mu, said):
    with pytest.raises((TypeError, ValueError), match=f"^simulate: mu: .*{said}"):
        LAYOUT.pack({"mu": mu, "beta": [1.0, 2.0]}, "simulate")


def test_batches_must_broadcast():
    message = r"^log_ratio: the batches of mu, beta must broadcast .* got mu \(3,\), beta \(4,\)"
    with pytest.raises(ValueError, match=message):
        LAYOUT.pack({"mu": np.zeros(3), "beta": np.zeros((4, 2))})


def named(*dims, shape=None):
    return xr.DataArray(np.zeros(shape or (3,) * len(dims)), dims=dims)


@pytest.mark.parametrize(
    ("mu", "beta"),
    [
        (named("subject"), named("trial", "number", shape=(3, 2))),
        (named("subject", "trial"), named("trial", "subject", "number", shape=(3, 3, 2))),
    ],
)
def test_dimensions_that_are_paired_against_their_names_are_refused(mu, beta):
    message = r"log_ratio: arrays broadcast by place, and beta has the dimension '\w+' where mu has"
    with pytest.raises(ValueError, match=message):
        LAYOUT.pack({"mu": mu, "beta": beta})


@pytest.mark.parametrize(
    ("mu", "beta"),
    [
        (named("trial"), named("subject", "trial", "number", shape=(3, 3, 2))),
        (named("chain", "draw", shape=(3, 1)), named("trial", "number", shape=(3, 2))),
        (named("trial"), xr.DataArray(np.zeros((3, 2)))),
        (named("trial"), named("beta_dim_0", "number", shape=(3, 2))),
        (named("trial"), np.zeros((3, 2))),
    ],
)
def test_dimensions_that_agree_or_have_no_name_are_paired(mu, beta):
    expected = LAYOUT.pack({"mu": mu.to_numpy(), "beta": np.asarray(beta)})
    np.testing.assert_array_equal(LAYOUT.pack({"mu": mu, "beta": beta}), expected)


@pytest.mark.parametrize(
    ("value", "integer"),
    [
        ([1, 2], True),
        (np.array([True]), True),
        (torch.tensor([1], dtype=torch.int32), True),
        (pd.Series([1, 2], dtype="Int64"), True),
        (np.array([1, np.int8(2)], dtype=object), True),
        (np.array([1, 2.0], dtype=object), False),
        (torch.tensor([1.0], requires_grad=True), False),
        ([1.0], False),
        ([], False),
    ],
)
def test_what_counts_or_indexes_is_known_whatever_holds_it(value, integer):
    assert is_integer(value) is integer


def test_integers_are_whole_numbers():
    layout = Layout({"mu": (), "k": (2,)}, frozenset({"k"}))
    assert layout.whole.tolist() == [False, True, True]
    assert layout.continuous.tolist() == [0]
    theta = np.array([[0.5, 1, 2], [1, 1, 2.5], [0.5, np.nan, 2]])
    assert layout.allows(theta).tolist() == [True, False, False]
    assert Layout({"mu": ()}).allows(theta[:, :1]).all()
    assert Layout({}).whole.dtype == bool
