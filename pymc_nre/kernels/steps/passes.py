"""Functions of machine code over arrays in single precision, written with vectors.

Arrays are contiguous and rows lie one after another; a vector holds neighbors in a row.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

from llvmlite import ir

from ..traced.emitter import at, folded, loop
from ..traced.functions import Vectors
from ..traced.machine import code_of

__all__ = ["LANES", "Pass", "Value", "compiled"]

LANES = 16  # numbers in a vector
_INDEX, _POINTER, _NUMBER = ir.IntType(64), ir.PointerType(), ir.FloatType()
_EACH = 4  # bytes of a number

Value = Any


class Pass:
    """A function that is being written: loops over rows, and over the vectors of a row."""

    def __init__(self, name: str, counts: int, pointers: int) -> None:
        kind = ir.FunctionType(ir.VoidType(), [_INDEX] * counts + [_POINTER] * pointers)
        self.function = ir.Function(ir.Module(name=name), kind, name)
        for argument in self.function.args[counts:]:
            argument.add_attribute("noalias")
        self.builder = ir.IRBuilder(self.function.append_basic_block("entry"))
        start = self.builder.append_basic_block("start")
        self.builder.branch(start)
        self.builder.position_at_end(start)
        self.vectors = Vectors(self.builder, _NUMBER, LANES)

    def compute(self, name: str, *values: Value) -> Value:
        """A primitive, of vectors and plain numbers."""
        plain = (self.vectors.constant(v) if isinstance(v, int | float) else v for v in values)
        if name == "sigmoid":
            return self._sigmoid(*plain)
        return getattr(self.vectors, name)(*plain)

    def _sigmoid(self, x: Value) -> Value:
        """Without the last digits of what is smaller than 1e-36."""
        v, one = self.vectors, self.vectors.constant(1.0)
        return v.div(one, v.add(one, v.quick_exp(v.neg(x))))

    def each(self, count: Value, write: Callable[[Value], None]) -> None:
        """What ``write`` writes for a vector from an index on; those left over go one by one."""
        wide, whole = self.vectors, self.builder.and_(count, ir.Constant(_INDEX, -LANES))
        with loop(self.builder, whole, LANES) as j:
            write(j)
        self.one_by_one()
        with loop(self.builder, count, 1, whole) as j:
            write(j)
        self.vectors = wide

    def one_by_one(self) -> Vectors:
        """From here on vectors hold one number."""
        self.vectors = Vectors(self.builder, _NUMBER, 1)
        return self.vectors

    def loop(self, count: Value) -> Any:
        """Code for each index below ``count``."""
        return loop(self.builder, count)

    def row(self, width: Value) -> Any:
        """Code for each vector of a row: where it begins, in numbers."""
        return loop(self.builder, width, LANES)

    def place(self, width: Value, row: Value, column: Value) -> Value:
        """The index of a number of a matrix."""
        return self.builder.add(self.builder.mul(row, width), column)

    def load(self, pointer: Value, index: Value) -> Value:
        """A vector from this number on."""
        place = at(self.builder, pointer, index, _EACH)
        return self.builder.load(place, typ=self.vectors.type, align=_EACH)

    def number(self, pointer: Value, index: Value) -> Value:
        """One number in all of a vector."""
        place = at(self.builder, pointer, index, _EACH)
        return self.vectors.broadcast(self.builder.load(place, typ=_NUMBER))

    def rows(self, start: Value, n: Value) -> list[Value]:
        """Indices of a vector's rows from one on; those that are not there are the last one."""
        b, last = self.builder, self.builder.sub(n, ir.Constant(_INDEX, 1))
        rows = [b.add(start, ir.Constant(_INDEX, k)) for k in range(LANES)]
        return [b.select(b.icmp_signed("<", row, last), row, last) for row in rows]

    def are_below(self, start: Value, n: Value) -> Value:
        """Which of these rows are there."""
        kind = ir.VectorType(ir.IntType(1), LANES)
        known = ir.Constant(kind, ir.Undefined)
        for k in range(LANES):
            row = self.builder.add(start, ir.Constant(_INDEX, k))
            is_there = self.builder.icmp_signed("<", row, n)
            known = self.builder.insert_element(known, is_there, ir.Constant(ir.IntType(32), k))
        return known

    def gather(self, pointer: Value, rows: list[Value], width: Value, column: Value) -> Value:
        """The numbers of a column in these rows."""
        found = ir.Constant(self.vectors.type, ir.Undefined)
        for k, row in enumerate(rows):
            place = at(self.builder, pointer, self.place(width, row, column), _EACH)
            number = self.builder.load(place, typ=_NUMBER)
            found = self.builder.insert_element(found, number, ir.Constant(ir.IntType(32), k))
        return found

    def scatter(
        self, value: Value, pointer: Value, rows: list[Value], width: Value, column: Value
    ) -> None:
        """The inverse of `gather`."""
        for k, row in enumerate(rows):
            number = self.builder.extract_element(value, ir.Constant(ir.IntType(32), k))
            place = at(self.builder, pointer, self.place(width, row, column), _EACH)
            self.builder.store(number, place)

    def as_number(self, count: Value) -> Value:
        """A count in all of a vector."""
        return self.vectors.broadcast(self.builder.sitofp(count, _NUMBER))

    def entry(self, pointer: Value, i: Value) -> Value:
        """An integer of an array of such."""
        return self.builder.load(at(self.builder, pointer, i, 8), typ=_INDEX)

    def array(self, pointer: Value, i: Value) -> Value:
        """The array whose address stands in another."""
        return self.builder.inttoptr(self.entry(pointer, i), _POINTER)

    def constant_index(self, value: int) -> Value:
        """The index of a number."""
        return ir.Constant(_INDEX, value)

    def store(self, value: Value, pointer: Value, index: Value) -> None:
        """The inverse of `load`."""
        self.builder.store(value, at(self.builder, pointer, index, _EACH), align=_EACH)

    def fold(
        self, count: Value, start: list[Value], step: Callable[..., list[Value]]
    ) -> list[Value]:
        """What ``step`` makes of some vectors, for each index below ``count``."""
        return folded(self.builder, count, start, step)


def compiled(
    name: str, write: Callable[[Pass], None], counts: int, pointers: int
) -> Callable[..., None]:
    """A function of so many counts, and of addresses, that ``write`` writes."""

    def text() -> str:
        being_written = Pass(name, counts, pointers)
        write(being_written)
        being_written.builder.ret_void()
        return str(being_written.builder.module)

    kind = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * counts, *[ctypes.c_void_p] * pointers)
    return kind(code_of(name, text).address)
