"""What users pass as arrays, counts and numbers, with what it should mean.

Each kind makes of a plain value what is passed, and the plain value that it should be taken for: an
array of float64, an int, a float. `REFUSED` stands for what has no meaning and must be an error.
Kinds that are plain already (NaN, other shapes) may be either, as their plain twin.
"""

import os
import re
import traceback
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytensor.tensor as pt
import torch
import xarray as xr

import pymc_nre
from pymc_nre.compat import for_arviz

REFUSED = object()
HOME = os.path.dirname(pymc_nre.__file__) + os.sep


class Quantity(np.ndarray):
    """As astropy has it: an array that knows its unit."""

    unit = "ms"


def _pandas(array):
    """A series or a frame; a list, where pandas has nothing with so many axes."""
    if array.ndim == 1:
        return pd.Series(array, index=range(7, 7 + len(array)))
    return pd.DataFrame(array) if array.ndim == 2 else array.tolist()


def _nullable(array):
    return pd.Series(array, dtype="Float64") if array.ndim == 1 else _pandas(array)


def _nested(values):
    return tuple(map(_nested, values)) if isinstance(values, list) else values


def _strided(array):
    wide = np.zeros((*array.shape, 2))
    wide[..., 0] = array
    return wide[..., 0]


def _read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def _with(array, value):
    array = array.copy()
    array.flat[0] = value
    return array


def _masked(array):
    mask = np.zeros(array.shape, dtype=bool)
    mask.flat[0] = True
    return np.ma.array(_with(array, -999.0), mask=mask)


def _objects(array, value):
    array = array.astype(object)
    array.flat[0] = value
    return array


def _ragged(array):
    return [array.tolist(), [array.tolist(), array.tolist()]]


def _alike(make):
    return lambda array: (make(array), array)


def _plain(make):
    """An array of float64 that is another one: what it gives is what it gives."""
    return lambda array: (make(array), make(array))


def _refused(make):
    return lambda array: (make(array), REFUSED)


def _rounded(dtype):
    return lambda array: (array.astype(dtype), array.astype(dtype).astype(float))


ARRAYS = {
    "plain": _alike(lambda a: a),
    "float32": _rounded(np.float32),
    "float16": _rounded(np.float16),
    "integers": _rounded(np.int64),
    "booleans": _rounded(bool),
    "big endian": _alike(lambda a: a.astype(">f8")),
    "read-only": _alike(_read_only),
    "strided": _alike(_strided),
    "Fortran": _alike(lambda a: np.array(a, order="F")),
    "list": _alike(lambda a: a.tolist()),
    "tuple": _alike(lambda a: _nested(a.tolist())),
    "objects": _alike(lambda a: a.astype(object)),
    "mask of nothing": _alike(np.ma.array),
    "pandas": _alike(_pandas),
    "nullable pandas": _alike(_nullable),
    "xarray": _alike(xr.DataArray),
    "torch": _alike(torch.tensor),
    "torch with gradient": _alike(lambda a: torch.tensor(a, requires_grad=True)),
    "torch float32": lambda a: (
        torch.tensor(a, dtype=torch.float32),
        a.astype(np.float32).astype(float),
    ),
    "NaN": _plain(lambda a: _with(a, np.nan)),
    "infinite": _plain(lambda a: _with(a, np.inf)),
    "huge": _plain(lambda a: _with(a, 1e300)),
    "negative": _plain(lambda a: -a),
    "longer": _plain(lambda a: np.concatenate([np.atleast_1d(a)] * 2)),
    "shorter": _plain(lambda a: np.atleast_1d(a)[:-1]),
    "empty": _plain(lambda a: np.atleast_1d(a)[:0]),
    "extra axis": _plain(lambda a: np.stack([a, a])),
    "last axis": _plain(lambda a: np.stack([a, a, a], axis=-1)),
    "one number": _plain(lambda a: np.array(a.flat[0])),
    "masked": _refused(_masked),
    "parts masked": _refused(lambda a: [_masked(a), _masked(a)]),
    "complex": _refused(lambda a: a + 1j),
    "complex torch": _refused(lambda a: torch.tensor(a + 1j)),
    "text": _refused(lambda a: a.astype(str)),
    "a word": _refused(lambda a: "data"),
    "dates": _refused(lambda a: np.zeros(a.shape, dtype="datetime64[D]")),
    "durations": _refused(lambda a: np.zeros(a.shape, dtype="timedelta64[s]")),
    "None": _refused(lambda a: None),
    "None within": _refused(lambda a: _objects(a, None)),
    "text within": _refused(lambda a: _objects(a, "1")),
    "ragged": _refused(_ragged),
    "quantity": _refused(lambda a: a.view(Quantity)),
    "mapping": _refused(lambda a: {"a": a}),
    "set": _refused(lambda a: {1.0, 2.0}),
    "generator": _refused(lambda a: (value for value in (1.0, 2.0))),
    "data set": _refused(lambda a: xr.Dataset({"a": 1.0})),
    "fields": _refused(lambda a: np.zeros(a.shape, dtype=[("a", float), ("b", float)])),
    "function": _refused(lambda a: len),
}
GRAPH = {"graph": _refused(pt.as_tensor)}  # no array, but where models take graphs

_NO_NUMBERS = {
    "None": None,
    "text": "3",
    "complex": 3j,
    "list": [3, 3],
    "array": np.array([3.0, 3.0]),
    "masked": np.ma.masked,
    "date": np.datetime64("2020-01-01"),
    "mapping": {},
    "function": len,
}
_NO_COUNTS = _NO_NUMBERS | {
    "fraction": 10.5,
    "NaN": np.nan,
    "infinite": np.inf,
    "minus infinite": -np.inf,
    "negative": -3,
    "True": True,
}


def _always(values):
    return {kind: (lambda n, value=value: (value, REFUSED)) for kind, value in values.items()}


COUNTS = {
    "plain": lambda n: (n, n),
    "float": lambda n: (float(n), n),
    "numpy": lambda n: (np.int64(n), n),
    "small": lambda n: (np.int16(n), n),
    "float32": lambda n: (np.float32(n), n),
    "zero": lambda n: (0, 0),
    "one": lambda n: (1, 1),
} | _always(_NO_COUNTS)
NUMBERS = {
    "plain": lambda v: (v, v),
    "numpy": lambda v: (np.float64(v), v),
    "float32": lambda v: (np.float32(v), float(np.float32(v))),
    "zero": lambda v: (0, 0.0),
    "one": lambda v: (1, 1.0),
    "negative": lambda v: (-v, -v),
    "large": lambda v: (1e6, 1e6),
} | _always(_NO_NUMBERS | {"NaN": np.nan, "infinite": np.inf})


ROWS = {  # of 20, the first three
    "plain": lambda r: (r, r),
    "list": lambda r: (r.tolist(), r),
    "tuple": lambda r: (tuple(r.tolist()), r),
    "small": lambda r: (r.astype(np.int8), r),
    "unsigned": lambda r: (r.astype(np.uint64), r),
    "negative": lambda r: (r - 20, r),
    "read-only": lambda r: (_read_only(r), r),
    "mask of nothing": lambda r: (np.ma.array(r), r),
    "pandas": lambda r: (pd.Series(r, index=[7, 8, 9]), r),
    "nullable pandas": lambda r: (pd.Series(r, dtype="Int64"), r),
    "xarray": lambda r: (xr.DataArray(r), r),
    "torch": lambda r: (torch.tensor(r), r),
    "slice": lambda r: (slice(3), r),
    "mask": lambda r: (np.arange(20) < 3, r),
    "mask of pandas": lambda r: (pd.Series(np.arange(20) < 3, dtype="boolean"), r),
    "mask of torch": lambda r: (torch.arange(20) < 3, r),
} | _always(
    {kind: value for kind, value in _NO_NUMBERS.items() if kind != "list"}
    | {
        "floats": np.arange(3.0),
        "masked": np.ma.array([0, 1, 2], mask=[1, 0, 0]),
        "nested": [[0, 1, 2]],
        "ragged": [0, [1, 2]],
        "number": 1,
        "short mask": np.arange(19) < 3,
        "None within": [0, None],
        "missing": pd.Series([0, None], dtype="Int64"),
        "complex": np.arange(3) + 1j,
        "text within": ["0", "1"],
        "quantity": np.arange(3).view(Quantity),
        "set": {0, 1, 2},
        "empty": [],
        "empty slice": slice(0),
    }
)


def _without(result):
    return result.drop_vars(list(result.data_vars))


RESULTS = {
    "plain": lambda r: (r, r),
    "transposed": lambda r: (r.transpose(*reversed(list(r.dims))), r),
    "read-only": lambda r: (r.map(lambda v: v.copy(data=_read_only(v.to_numpy()))), r),
    "NaN": lambda r: (r.where(False), r.where(False)),
    "empty": lambda r: (r.isel({d: [] for d in r.dims}),) * 2,
    "nothing in it": lambda r: (_without(r), REFUSED),
    "None": lambda r: (None, REFUSED),
    "array": lambda r: (np.ones(3), REFUSED),
    "mapping": lambda r: ({}, REFUSED),
    "another": lambda r: (xr.Dataset({"other": 1.0}), REFUSED),
}
_NO_FLAGS = _NO_NUMBERS | {"text": "no", "zero": 0, "one": 1, "float": 1.0, "NaN": np.nan}
FLAGS = {
    "plain": lambda v: (v, v),
    "numpy": lambda v: (np.bool_(v), v),
} | _always(_NO_FLAGS | {"array": np.array(True), "class": bool})
DRAWS = {
    "plain": lambda p: (for_arviz(p), p),
    "mapping": lambda p: ({"posterior": p}, p),
    "transposed": lambda p: ({"posterior": p.transpose("draw", "chain", ...)}, p),
    "read-only": lambda p: (
        {"posterior": p.map(lambda v: v.copy(data=_read_only(v.to_numpy())))},
        p,
    ),
    "tree": lambda p: (xr.DataTree.from_dict({"posterior": p}), p),
    "None": lambda p: (None, REFUSED),
    "array": lambda p: (np.ones(3), REFUSED),
    "no posterior": lambda p: ({"prior": p}, REFUSED),
    "empty tree": lambda p: (xr.DataTree(), REFUSED),
    "no chains": lambda p: ({"posterior": p.isel(chain=0)}, REFUSED),
    "no draws": lambda p: ({"posterior": p.isel(draw=[])}, REFUSED),
    "empty chains": lambda p: ({"posterior": p.isel(chain=[])}, REFUSED),
    "no variables": lambda p: ({"posterior": p[[]]}, REFUSED),
}


OBJECTS = {
    "plain": lambda v: (v, v),
    "class": lambda v: (type(v), REFUSED),
    "list of it": lambda v: ([v], REFUSED),
} | _always(
    {
        "None": None,
        "text": "ratio.nre",
        "number": 1.0,
        "array": np.ones(3),
        "mapping": {},
        "data set": xr.Dataset({"mu": ("draw", np.ones(3))}),
        "function": len,
        "another class": dict,
    }
)
SEEDS = {
    "plain": lambda s: (s, s),
    "numpy": lambda s: (np.uint32(s), s),
    "float": lambda s: (float(s), s),
    "generator": lambda s: (np.random.default_rng(s), np.random.default_rng(s)),
    "sequence": lambda s: (np.random.SeedSequence(s), np.random.SeedSequence(s)),
} | _always(
    {
        "text": "1",
        "fraction": 1.5,
        "NaN": np.nan,
        "infinite": np.inf,
        "negative": -1,
        "True": True,
        "list": [1, 2],
        "array": np.array([1, 2]),
        "random state": np.random.RandomState(1),
        "module": np.random,
        "date": np.datetime64("2020-01-01"),
        "complex": 1j,
        "mapping": {},
        "function": len,
        "class": np.random.Generator,
    }
)


@dataclass(frozen=True)
class Array:
    """Any numbers of a shape, in a range."""

    shape: tuple[int, ...]
    low: float = -1.0
    high: float = 1.0
    optional: bool = False
    graph: bool = False  # whether a graph of PyTensor is an array here

    @property
    def kinds(self):
        kinds = ARRAYS if self.graph else ARRAYS | GRAPH
        return {
            kind: make for kind, make in kinds.items() if not (self.optional and kind == "None")
        }

    def make(self, seed):
        """In steps, so that lists and round-off do not change them."""
        steps = np.random.default_rng(seed).integers(1, 64, self.shape)
        return np.asarray(self.low + (self.high - self.low) * steps / 64.0)


@dataclass(frozen=True)
class Given:
    """A value that is always the same, made when it is needed."""

    of: object
    among: dict
    optional: bool = False

    @property
    def kinds(self):
        return {k: make for k, make in self.among.items() if not (self.optional and k == "None")}

    def make(self, seed):
        return self.of() if callable(self.of) else self.of


def count(value, optional=False):
    return Given(value, COUNTS, optional)


def number(value, optional=False):
    return Given(value, NUMBERS, optional)


def flag(value):
    return Given(value, FLAGS)


def result(make):
    return Given(make, RESULTS)


def a(make, *taken, optional=False):
    """An object of the library or of PyMC, where some other kinds have a meaning, too."""
    kinds = {kind: twin for kind, twin in OBJECTS.items() if kind not in taken}
    return Given(make, kinds, optional)


def seed():
    return Given(1, SEEDS)


def draws(make):
    return Given(make, DRAWS)


def is_ours(error, names):
    """Whether an error was raised by the library, and names one of the arguments."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    raised_here = last.filename.startswith(HOME) and last.line.startswith("raise")
    named = re.search(rf"\b({'|'.join(map(re.escape, names))})\b", str(error))
    return isinstance(error, TypeError | ValueError) and raised_here and bool(named)
