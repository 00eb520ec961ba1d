"""Which number of which row each element of a tensor is.

A tensor of a few rows is followed through a network by a tensor of the same shape, its *entries*:
integers that tell the column and the row of each element. Whatever only moves numbers (views,
transposes, slices, concatenations) torch does with the entries as it did with the numbers. Where
numbers are computed, those of one result must be of one row, and the same in all rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

__all__ = ["N_ROWS", "Constant", "Rows", "Split", "UnsupportedError", "columns_of", "same_in_all"]

N_ROWS = 3  # two would do; what is made for three sees more
_ANY = N_ROWS  # the row of what is the same in all


class UnsupportedError(Exception):
    """What a network does that no machine code is made for; in words that end a sentence."""


@dataclass(frozen=True, eq=False)
class Rows:
    """A tensor that depends on rows.

    Parameters
    ----------
    entries : Tensor of int64
        For each element ``column * (N_ROWS + 1) + row``.
    """

    entries: Tensor


@dataclass(frozen=True, eq=False)
class Constant:
    """A tensor that does not depend on rows.

    Parameters
    ----------
    values : Tensor
    made : bool
        Whether it was made of nothing but literals, and not of weights.
    """

    values: Tensor
    made: bool


def columns_of(start: int, shape: tuple[int, ...]) -> Rows:
    """Rows ``(N_ROWS, *shape)`` of columns from ``start`` on."""
    columns = start + torch.arange(int(np.prod(shape))).reshape(1, *shape)
    rows = torch.arange(N_ROWS).reshape(-1, *[1] * len(shape))
    return Rows(columns * (N_ROWS + 1) + rows)


def same_in_all(columns: Tensor) -> Tensor:
    """Entries of columns that are constant."""
    return columns * (N_ROWS + 1) + _ANY


class Split:
    """Results and what they are made of, the columns of all rows alike.

    Parameters
    ----------
    made_of : Tensor of int64, shape (*S, Q)
        The entries that each result is made of ...
    constants : sequence of Tensor, each (*S)
        ... and the numbers beside them, which tell results apart that are the same in all rows.

    Attributes
    ----------
    columns : ndarray of int, shape (C, Q)
        Of one row; after those come results that are constant.
    """

    def __init__(self, made_of: Tensor, constants: Sequence[Tensor] = ()) -> None:
        self.shape = made_of.shape[:-1]
        flat = made_of.reshape(-1, made_of.shape[-1])
        rows, columns = flat % (N_ROWS + 1), flat // (N_ROWS + 1)
        self._row = rows.min(1).values
        if not ((rows == self._row[:, None]) | (rows == _ANY)).all():
            raise UnsupportedError("it brings together numbers of different observations")
        lists = [columns[self._row == r] for r in range(N_ROWS)]
        if any(len(one) != len(lists[0]) or (one != lists[0]).any() for one in lists):
            raise UnsupportedError("it does not treat all observations alike")
        alike = self._row == _ANY
        beside = [constant.reshape(-1, 1).double().view(torch.int64) for constant in constants]
        told_by = torch.cat([columns, *beside], 1)[alike]
        same, place = told_by.unique(dim=0, return_inverse=True)
        self.columns = torch.cat([lists[0], same[:, : columns.shape[1]]]).numpy()
        index = torch.empty(len(flat), dtype=torch.int64)
        for r in range(N_ROWS):
            index[self._row == r] = torch.arange(len(lists[0]))
        index[alike] = len(lists[0]) + place
        self._index = index

    def values(self, tensor: Tensor) -> np.ndarray:
        """A constant tensor ``(*S)`` by result, ``(C,)``."""
        flat = tensor.reshape(-1).double()
        values = torch.empty(len(self.columns), dtype=torch.float64)
        values[self._index] = flat
        if not torch.equal(values[self._index].nan_to_num(), flat.nan_to_num()):
            raise UnsupportedError("a constant is not the same for all observations")
        return values.numpy()

    def results(self, start: int) -> Rows:
        """Results ``(*S)`` that are columns from ``start`` on."""
        entries = (start + self._index) * (N_ROWS + 1) + self._row
        return Rows(entries.reshape(self.shape))

    def results_of(self, start: int, each: int) -> Rows:
        """Results ``(*S, each)``: several columns for each."""
        columns = start + self._index[:, None] * each + torch.arange(each)
        entries = columns * (N_ROWS + 1) + self._row[:, None]
        return Rows(entries.reshape(*self.shape, each))
