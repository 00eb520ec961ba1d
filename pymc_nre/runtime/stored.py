"""Arrays in a zip archive as `numpy.savez` writes it, read without trust.

Of all that zip archives and .npy files can be, NumPy writes little: members one after another,
not compressed, not encrypted, each one array with a header of one form. Only that is read. Nothing
is inflated, no header is evaluated, and no array is longer than its part of the file, so that a
file can neither run code nor take more memory than its own size. First come the headers; whoever
reads looks at them before any array is made.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Mapping
from typing import BinaryIO, NamedTuple

import numpy as np

__all__ = ["Form", "Stored", "check_forms"]

_MOST_MEMBERS = 20_000  # an ensemble of twenty of the largest ResNet has 8,000
_LONGEST_NAME = 1_000
_LONGEST_HEADER = 4_096  # NumPy's is 118 bytes long, and longer from some ten axes on
_MOST_AXES = 16

# Numbers as this machine has them: a checksum is one of bytes, so others would not fit it.
_DTYPES = {name: np.dtype(name) for name in (np.dtype(code).str for code in "?bBhHiIqQefdFD")}

_MEMBER = struct.Struct("<4s5H3L2H")  # signature, ..., flags, method, ..., sizes, lengths
_END = struct.Struct("<4s4H2LH")
_IN_UTF8 = 0x800  # the one flag that NumPy may set
_WIDE = struct.Struct("<2H2Q")  # sizes of 64 bits, which NumPy always writes
_MAGIC = b"\x93NUMPY\x01\x00"
_HEADER = re.compile(
    rb"\{'descr': '([<>|]\w\d+)', 'fortran_order': (True|False), "
    rb"'shape': \(((?:\d{1,18}(?:, |,?(?=\))))*)\), \} *\n"
)


class Form(NamedTuple):
    """What kind of array there is, before it is read."""

    dtype: np.dtype
    shape: tuple[int, ...]

    @classmethod
    def of(cls, array: np.ndarray) -> Form:
        """That of an array."""
        return cls(array.dtype, array.shape)

    def __str__(self) -> str:
        return f"{self.dtype} {self.shape}"


def check_forms(forms: Mapping[str, Form]) -> None:
    """Raise ValueError if arrays cannot be read again once they are written."""
    bad = {
        name: form
        for name, form in forms.items()
        if form.dtype.str not in _DTYPES or len(form.shape) > _MOST_AXES
    }
    if bad:
        told = ", ".join(f"{name} is {form}" for name, form in bad.items())
        raise ValueError(f"Files hold arrays of plain numbers, of up to {_MOST_AXES} axes: {told}.")
    longest = max(map(len, forms), default=0)
    if len(forms) >= _MOST_MEMBERS or longest > _LONGEST_NAME // 4 - len(".npy"):
        raise ValueError(
            f"Files hold up to {_MOST_MEMBERS - 1:,} arrays with names of up to "
            f"{_LONGEST_NAME // 4 - 4} letters, got {len(forms):,} and {longest}."
        )


class _Member(NamedTuple):
    form: Form
    by_columns: bool
    start: int


class Stored:
    """The arrays of an open file.

    Parameters
    ----------
    file : binary file
        From its beginning.
    size : int
        Bytes in it.

    Attributes
    ----------
    forms : dict of str to Form

    Raises
    ------
    ValueError
        If it is not such an archive, with the reason.
    """

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size = file, size
        self._members: dict[str, _Member] = {}
        self._check_end(self._walk())
        self.forms = {name: member.form for name, member in self._members.items()}

    def read(self, name: str) -> np.ndarray:
        """An array, of one's own."""
        (dtype, shape), by_columns, start = self._members[name]
        flat = np.empty(math.prod(shape), dtype)
        self._file.seek(start)
        if self._file.readinto(flat.view(np.uint8)) != flat.nbytes:
            raise ValueError(f"{name} ends too early")
        if dtype.kind == "b" and (flat.view(np.uint8) > 1).any():
            raise ValueError(f"{name} holds what is neither true nor false")
        return flat.reshape(shape, order="F" if by_columns else "C")

    def _walk(self) -> int:
        """Read all headers, and return where the last member ends."""
        place = 0
        while (head := self._bytes(place, _MEMBER.size))[:4] == b"PK\x03\x04":
            if len(self._members) == _MOST_MEMBERS:
                raise ValueError(f"it has more than {_MOST_MEMBERS:,} members")
            name, start, length = self._member(place, head)
            if name in self._members:
                raise ValueError(f"it has two members {name!r}")
            self._members[name] = self._array(name, start, length)
            place = start + length
        return place

    def _member(self, place: int, head: bytes) -> tuple[str, int, int]:
        """Name of a member, where its content starts, and how long that is."""
        _, _, flags, method, _, _, _, packed, length, of_name, of_extra = _MEMBER.unpack(head)
        if flags & ~_IN_UTF8 or method or of_name > _LONGEST_NAME:
            raise ValueError("it has a member that is compressed, encrypted or of another kind")
        after = self._bytes(place + _MEMBER.size, of_name + of_extra)
        name, extra = after[:of_name].decode("utf-8" if flags else "ascii"), after[of_name:]
        if packed == length == 2**32 - 1 and len(extra) >= _WIDE.size:
            kind, _, length, packed = _WIDE.unpack_from(extra)
            packed = packed if kind == 1 else -1
        start = place + _MEMBER.size + len(after)
        if packed != length or start + length > self._size:
            raise ValueError(f"its member {name!r} does not say how long it is")
        if not name.endswith(".npy"):
            raise ValueError(f"its member {name!r} is not an array")
        return name.removesuffix(".npy"), start, length

    def _array(self, name: str, start: int, length: int) -> _Member:
        """What the .npy header of a member says."""
        begin = self._bytes(start, min(length, len(_MAGIC) + 2))
        of_header = int.from_bytes(begin[len(_MAGIC) :], "little")
        if begin[: len(_MAGIC)] != _MAGIC or of_header > _LONGEST_HEADER:
            raise ValueError(f"{name} is not an array as NumPy writes them")
        found = _HEADER.fullmatch(self._bytes(start + len(begin), of_header))
        dtype = _DTYPES.get(found[1].decode()) if found else None
        if dtype is None:
            raise ValueError(f"{name} is not an array of plain numbers")
        shape = tuple(map(int, re.findall(rb"\d+", found[3])))
        used = len(begin) + of_header
        if len(shape) > _MOST_AXES or math.prod(shape) * dtype.itemsize != length - used:
            raise ValueError(f"{name} has {length - used:,} bytes, which is not {dtype} {shape}")
        return _Member(Form(dtype, shape), found[2] == b"True", start + used)

    def _check_end(self, place: int) -> None:
        """A directory of the members follows; of it only the count at its end is needed."""
        end = self._bytes(max(self._size - _END.size, place), _END.size)
        if end[:4] != b"PK\x05\x06" or _END.unpack(end)[4] != len(self._members):
            raise ValueError("it ends too early")

    def _bytes(self, place: int, length: int) -> bytes:
        self._file.seek(place)
        found = self._file.read(length)
        if len(found) != length:
            raise ValueError("it ends too early")
        return found
