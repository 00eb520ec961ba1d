"""The one reading of arrays and counts."""

import numpy as np
import pandas as pd
import pytensor.tensor as pt
import pytest
import torch
import xarray as xr

from pymc_nre.runtime.arrays import (
    finite_array,
    real_array,
    real_number,
    shares,
    true_or_false,
    whole_number,
)


class Quantity(np.ndarray):
    """As astropy and unyt have it: an array that knows its unit."""

    unit = "ms"


class Pint:
    """As pint has it: a magnitude beside its unit."""

    units, magnitude = "ms", np.ones(2)


class Held(np.lib.mixins.NDArrayOperatorsMixin):
    """As pint has it, and as xarray may hold it."""

    units, dtype, shape, ndim = "ms", np.dtype(float), (2,), 1

    def __init__(self, magnitude):
        self.magnitude = magnitude

    def __array_function__(self, *_):
        return NotImplemented

    def __array_ufunc__(self, *_, **__):
        return NotImplemented


READ = {
    "list": [1, 2.0],
    "tuple of booleans": (True, 2),
    "range": range(1, 3),
    "float32": np.array([1, 2], dtype=np.float32),
    "float16": np.array([1, 2], dtype=np.float16),
    "unsigned": np.array([1, 2], dtype=np.uint8),
    "big endian": np.array([1, 2], dtype=">f4"),
    "objects": np.array([1, 2.0], dtype=object),
    "series": pd.Series([1, 2], index=[7, 8]),
    "nullable series": pd.Series([1, 2], dtype="Int64"),
    "data array": xr.DataArray([1, 2], dims="trial"),
    "tensor": torch.tensor([1.0, 2.0], requires_grad=True),
    "bfloat16": torch.tensor([1.0, 2.0], dtype=torch.bfloat16),
    "mask of nothing": np.ma.array([1, 2]),
    "scalars": [np.float32(1), np.int8(2)],
    "tensors": [torch.tensor(1.0), torch.tensor(2.0, requires_grad=True)],
    "parts without a mask": [np.ma.array(1.0), 2.0],
    "negated view": torch.tensor([1 - 1j, 2 - 2j]).conj().imag,
}

REFUSED = {
    "masked": (np.ma.array([1.0, -999.0], mask=[False, True]), "1 of 2 values are masked"),
    "masked objects": (np.ma.array([1, 2], mask=[0, 1], dtype=object), "1 of 2 values are masked"),
    "masked constant": (np.ma.masked, "masked"),
    "masked among objects": (np.array([1, np.ma.masked], dtype=object), "1 of 2 .* masked"),
    "masked parts": ([[1.0, 2.0], np.ma.array([1.0, -9.0], mask=[0, 1])], "1 of 4 .* masked"),
    "masked parts of parts": (([np.ma.array([1.0, -9.0], mask=[0, 1])],), "1 of 2 .* masked"),
    "masked constant in a list": ([1.0, np.ma.masked], "1 of 2 .* masked"),
    "no data": (torch.ones(2, device="meta"), "no data"),
    "complex tensor": (torch.tensor([1 + 1j]).conj(), "complex"),
    "complex": (np.array([1 + 1j]), "complex"),
    "complex objects": (np.array([1 + 1j], dtype=object), "complex"),
    "None": (None, "got None"),
    "None within": ([1.0, None], "holds None"),
    "text": (["1", "2"], "numbers"),
    "text within": (np.array([1, "2"], dtype=object), "type str"),
    "text in an array within": ([1.0, np.array("1", dtype=object)], "type str|object"),
    "dates": (np.array(["2020-01-01"], dtype="datetime64[D]"), "datetime64"),
    "ragged": ([[1.0], [1.0, 2.0]], "same shape"),
    "graph": (pt.vector(), "TensorVariable"),
    "mapping": ({"a": 1}, "dict"),
    "generator": ((i for i in range(2)), "generator"),
    "data set": (xr.Dataset({"a": ("i", [1.0])}), "Dataset"),
    "fields": (np.array([(1, 2)], dtype=[("a", int), ("b", int)]), "dtype"),
    "unit of an array": (np.ones(2).view(Quantity), "quantity in ms"),
    "unit beside a magnitude": (Pint(), "quantity in ms"),
    "units in a list": ([Pint(), Pint()], "quantity in ms"),
    "unit within xarray": (xr.DataArray(Held(np.ones(2)), dims="i"), "quantity in ms"),
}


@pytest.mark.parametrize("what", READ)
def test_numbers_are_read_whatever_holds_them(what):
    array = real_array(READ[what], "x")
    assert type(array) is np.ndarray
    assert array.dtype == np.float64
    assert array.tolist() == [1.0, 2.0]


@pytest.mark.parametrize("what", REFUSED)
def test_what_holds_no_numbers_is_refused_by_name(what):
    value, said = REFUSED[what]
    with pytest.raises((TypeError, ValueError), match=said) as raised:
        real_array(value, "log_ratio: x")
    assert str(raised.value).startswith("log_ratio: x: ")


def test_missing_numbers_are_holes():
    assert np.isnan(real_array(pd.Series([1, None], dtype="Int64"), "x")).tolist() == [False, True]
    with pytest.raises(ValueError, match="x: 1 of 2 values are NaN or infinite"):
        finite_array(pd.Series([1, None], dtype="Int64"), "x")
    with pytest.raises(ValueError, match="x: 2 of 3 values"):
        finite_array([np.inf, 0.0, np.nan], "x")


def test_nothing_is_copied_that_need_not_be():
    array = np.ones(3)
    array.flags.writeable = False
    assert real_array(array, "x") is array


@pytest.mark.parametrize("value", [3, 3.0, np.int8(3), np.float32(3)])
def test_counts_are_read(value):
    read = whole_number(value, "n")
    assert read == 3
    assert type(read) is int


@pytest.mark.parametrize("value", [2.5, True, "3", None, np.nan, np.inf, [3], np.array([3])])
def test_what_does_not_count_is_refused(value):
    with pytest.raises(TypeError, match="n: expected a whole number"):
        whole_number(value, "n")


def test_counts_have_a_least():
    assert whole_number(0, "n", least=0) == 0
    with pytest.raises(ValueError, match="n: expected at least 1, got 0"):
        whole_number(0, "n")


@pytest.mark.parametrize("value", [0.5, 1, np.float32(0.5), np.int8(1)])
def test_numbers_are_read_one_by_one(value):
    read = real_number(value, "sd", above=0)
    assert read == value
    assert type(read) is float


@pytest.mark.parametrize("value", [True, "1", None, [0.5], 1j, np.array(0.5)])
def test_what_is_no_number_is_refused(value):
    with pytest.raises(TypeError, match=r"^sd: expected a number, got"):
        real_number(value, "sd")


@pytest.mark.parametrize(
    ("value", "limits", "said"),
    [
        (np.nan, {}, "that is finite, got nan"),
        (np.inf, {}, "that is finite, got inf"),
        (0, {"above": 0}, "above 0 and finite, got 0"),
        (np.inf, {"above": 0}, "above 0 and finite, got inf"),
        (np.nan, {"above": 0, "below": 1}, "between 0 and 1, got nan"),
        (1.0, {"above": 0, "below": 1}, "between 0 and 1, got 1.0"),
    ],
)
def test_numbers_have_limits(value, limits, said):
    with pytest.raises(ValueError, match=f"^sd: expected a number {said}"):
        real_number(value, "sd", **limits)


def test_shares_are_read():
    assert shares((0.05, 0.5), "levels").tolist() == [0.05, 0.5]
    assert shares(np.array([0, 1], dtype=np.int8), "quantiles", ends=True).tolist() == [0.0, 1.0]


@pytest.mark.parametrize("values", [[5, 50, 95], [0.5, np.nan], [0.0], [1.0], [], 0.5, [[0.5]]])
def test_what_is_no_share_is_refused(values):
    with pytest.raises(ValueError, match=r"^levels: expected numbers between 0 and 1, both excl"):
        shares(values, "levels")


def test_shares_end_at_none_and_all():
    with pytest.raises(
        ValueError, match=r"^q: expected numbers between 0 and 1, as in.*got \[-0.1"
    ):
        shares([-0.1], "q", ends=True)


def test_flags_are_read():
    assert true_or_false(True, "batched") is True
    assert true_or_false(np.bool_(False), "batched") is False


@pytest.mark.parametrize("value", ["no", "False", 0, 1.0, None, [True], np.array(True), np.nan])
def test_what_is_no_flag_is_refused(value):
    with pytest.raises(TypeError, match=r"^batched: expected True or False, got"):
        true_or_false(value, "batched")
