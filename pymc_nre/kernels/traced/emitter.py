"""LLVM's code for a plan.

A block of rows goes through all steps. Its columns lie one after another, a vector for each, so
that all rows of a block are computed side by side. Weights are an argument: networks of one
architecture share their code.

The function that comes out is

    void f(int64 n, int64 shared, double *theta, double *x, double *along,
           double *moments, T *weights, T *memory, double *first, double *second)

for n rows. ``theta`` is ``(1, D)`` if ``shared`` is not zero. ``memory`` has room for the columns;
how many bytes, an ``int64 f_memory`` tells. ``T`` is the precision of the computation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from .functions import Vectors
from .graph import CONSTANT, Node, Run
from .plan import Plan, Step

__all__ = ["Shape", "at", "emit", "folded", "loop"]

_INDEX, _BYTE = ir.IntType(64), ir.IntType(8)
_POINTER = ir.PointerType()
_ALIGNED = 64  # bytes, of which memory for columns begins at a multiple
_MANY_RUNS = 8  # of a gather: more are a loop over a table


@dataclass(frozen=True)
class Shape:
    """How a computation lies in registers.

    Attributes
    ----------
    double : bool
        Its precision.
    rows : int
        In a block, a multiple of what a register holds.
    together : int
        Columns of a layer that are summed up side by side.
    """

    double: bool
    rows: int
    together: int

    @property
    def number(self) -> ir.Type:
        """The type of a number."""
        return ir.DoubleType() if self.double else ir.FloatType()

    @property
    def size(self) -> int:
        """Bytes of a column."""
        return self.rows * (8 if self.double else 4)

    @property
    def aligned(self) -> int:
        """Where columns begin, a multiple of these bytes."""
        return min(self.size, _ALIGNED)


def emit(plan: Plan, wide: Shape, narrow: Shape, name: str) -> str:
    """The text of a module with one function of that name.

    Rows go through in wide blocks. What is left is done in narrow ones, if two of them hold it: a
    wide one takes as long for a single row as for all.
    """
    module = ir.Module(name=name)
    blocks = [
        _block(module, plan, shape, f"{name}_{word}")
        for word, shape in (("wide", wide), ("narrow", narrow))
    ]
    _driver(module, name, (wide.rows, narrow.rows), blocks)
    memory = ir.GlobalVariable(module, _INDEX, f"{name}_memory")
    room = plan.columns * wide.size + _ALIGNED
    memory.initializer, memory.global_constant = ir.Constant(_INDEX, room), True
    return str(module)


def _block(module: ir.Module, plan: Plan, shape: Shape, name: str) -> ir.Function:
    """``void f(start, stop, shared, pointers...)``: all blocks of these rows."""
    layer = _layer(module, shape, f"{name}_layer")
    of_theta, of_rows = (
        _Block(module, plan, shape, layer).function(f"{name}_{part}", steps)
        for part, steps in (("theta", plan.of_theta), ("rows", plan.others))
    )
    kind = ir.FunctionType(ir.VoidType(), (_INDEX, _INDEX, _INDEX, *_ARGUMENTS))
    function = ir.Function(module, kind, name)
    function.linkage = "internal"
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    first, stop, shared, *pointers = function.args
    zero = ir.Constant(_INDEX, 0)
    sharing = builder.icmp_signed("!=", shared, zero)
    some = builder.icmp_signed("<", first, stop)
    with builder.if_then(builder.and_(sharing, some)):
        builder.call(of_theta, (zero, ir.Constant(_INDEX, 1), shared, *pointers))
    with loop(builder, stop, shape.rows, first) as start:
        left = builder.sub(stop, start)
        full = ir.Constant(_INDEX, shape.rows)
        rows = builder.select(builder.icmp_signed("<", left, full), left, full)
        with builder.if_then(builder.not_(sharing)):
            builder.call(of_theta, (start, rows, shared, *pointers))
        builder.call(of_rows, (start, rows, shared, *pointers))
    builder.ret_void()
    return function


_NAMES = ("theta", "x", "along", "moments", "weights", "memory", "first", "second")
_ARGUMENTS = (_POINTER,) * len(_NAMES)


def _driver(module: ir.Module, name: str, rows: tuple[int, int], blocks: list[ir.Function]) -> None:
    """Which rows go through in wide blocks, and which in narrow ones."""
    kind = ir.FunctionType(ir.VoidType(), (_INDEX, _INDEX, *_ARGUMENTS))
    function = ir.Function(module, kind, name)
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    n, shared, *pointers = function.args
    memory = _NAMES.index("memory")
    pointers[memory] = _aligned(builder, pointers[memory])
    (wide, narrow), zero = rows, ir.Constant(_INDEX, 0)
    left = builder.srem(n, ir.Constant(_INDEX, wide))
    few = builder.icmp_signed("<=", left, ir.Constant(_INDEX, 2 * narrow))
    end = builder.select(few, builder.sub(n, left), n)
    for block, first, stop in zip(blocks, (zero, end), (end, n), strict=True):
        builder.call(block, (first, stop, shared, *pointers))
    builder.ret_void()


def _aligned(builder: ir.IRBuilder, pointer: Any) -> Any:
    """The next address that is a multiple."""
    up = builder.add(builder.ptrtoint(pointer, _INDEX), ir.Constant(_INDEX, _ALIGNED - 1))
    return builder.inttoptr(builder.and_(up, ir.Constant(_INDEX, -_ALIGNED)), _POINTER)


@contextmanager
def loop(builder: ir.IRBuilder, stop: Any, step: int = 1, start: Any = None) -> Iterator[Any]:
    """Code for each index below ``stop``; for none if there is none."""
    before = builder.block
    head, body, after = (builder.append_basic_block(name) for name in ("head", "body", "after"))
    builder.branch(head)
    builder.position_at_end(head)
    index = builder.phi(_INDEX)
    index.add_incoming(ir.Constant(_INDEX, 0) if start is None else start, before)
    builder.cbranch(builder.icmp_signed("<", index, stop), body, after)
    builder.position_at_end(body)
    yield index
    index.add_incoming(builder.add(index, ir.Constant(_INDEX, step)), builder.block)
    builder.branch(head)
    builder.position_at_end(after)


def _layer(module: ir.Module, shape: Shape, name: str) -> ir.Function:
    """``out[j] = bias[j] + sum_k in[k] W[k, j]`` of columns, for all layers.

    Some columns are summed up side by side, so that what is loaded serves all of them.
    """
    kind = ir.FunctionType(ir.VoidType(), (_POINTER, _POINTER, _POINTER, _POINTER, _INDEX, _INDEX))
    function = ir.Function(module, kind, name)
    function.linkage = "internal"
    function.attributes.add("noinline")
    for argument in function.args[:4]:
        argument.add_attribute("noalias")
    _, out, _, bias, width, _ = function.args
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    vectors = Vectors(builder, shape.number, shape.rows)
    biased = builder.icmp_unsigned("!=", builder.ptrtoint(bias, _INDEX), ir.Constant(_INDEX, 0))
    whole = builder.and_(width, ir.Constant(_INDEX, -shape.together))
    for together, first, stop in ((shape.together, None, whole), (1, whole, width)):
        with loop(builder, stop, together, first) as j:
            sums = _sums_of_layer(builder, vectors, shape, together, j, function.args, biased)
            for b, total in enumerate(sums):
                column = builder.add(j, ir.Constant(_INDEX, b))
                builder.store(total, at(builder, out, column, shape.size), align=shape.aligned)
    builder.ret_void()
    return function


def _sums_of_layer(
    builder: ir.IRBuilder,
    vectors: Vectors,
    shape: Shape,
    together: int,
    j: Any,
    arguments: Any,
    biased: Any,
) -> list[Any]:
    """The sums of some columns of a layer from column ``j`` on."""
    inputs, _, matrix, bias, width, inner = arguments
    each = shape.size // shape.rows
    begins = []
    for b in range(together):
        column = builder.add(j, ir.Constant(_INDEX, b))
        # Without a bias something is read that is there; what it is does not count.
        source = builder.select(biased, at(builder, bias, column, each), matrix)
        number = builder.load(source, typ=shape.number)
        zero = ir.Constant(shape.number, 0.0)
        begins.append(vectors.broadcast(builder.select(biased, number, zero)))

    def added(k: Any, sums: list[Any]) -> list[Any]:
        h = builder.load(at(builder, inputs, k, shape.size), typ=vectors.type, align=shape.aligned)
        row = builder.add(builder.mul(k, width), j)
        totals = []
        for b, total in enumerate(sums):
            place = at(builder, matrix, builder.add(row, ir.Constant(_INDEX, b)), each)
            weight = vectors.broadcast(builder.load(place, typ=shape.number))
            totals.append(vectors.muladd(weight, h, total))
        return totals

    return folded(builder, inner, begins, added)


def folded(
    builder: ir.IRBuilder,
    count: Any,
    begins: list[Any],
    step: Callable[[Any, list[Any]], list[Any]],
) -> list[Any]:
    """What ``step`` makes of some vectors, for each index below ``count``."""
    before = builder.block
    head, body, after = (builder.append_basic_block(name) for name in ("fold", "term", "done"))
    builder.branch(head)
    builder.position_at_end(head)
    index, folds = builder.phi(_INDEX), [builder.phi(begin.type) for begin in begins]
    index.add_incoming(ir.Constant(_INDEX, 0), before)
    for fold, begin in zip(folds, begins, strict=True):
        fold.add_incoming(begin, before)
    builder.cbranch(builder.icmp_signed("<", index, count), body, after)
    builder.position_at_end(body)
    for fold, value in zip(folds, step(index, folds), strict=True):
        fold.add_incoming(value, builder.block)
    index.add_incoming(builder.add(index, ir.Constant(_INDEX, 1)), builder.block)
    builder.branch(head)
    builder.position_at_end(after)
    return folds


def at(builder: ir.IRBuilder, pointer: Any, index: Any, size: int) -> Any:
    """The address of the element with this index, of elements of so many bytes."""
    offset = builder.mul(index, ir.Constant(_INDEX, size))
    return builder.gep(pointer, [offset], source_etype=_BYTE)


class _Block:
    """Code of steps for one block of rows."""

    def __init__(self, module: ir.Module, plan: Plan, shape: Shape, layer: ir.Function) -> None:
        self.module, self.plan, self.shape, self.layer = module, plan, shape, layer
        self.graph = plan.graph

    def function(self, name: str, steps: list[Step]) -> ir.Function:
        """``void f(start, rows, shared, pointers...)``."""
        kind = ir.FunctionType(ir.VoidType(), (_INDEX, _INDEX, _INDEX, *_ARGUMENTS))
        function = ir.Function(self.module, kind, name)
        function.linkage = "internal"
        function.attributes.add("noinline")
        self.builder = ir.IRBuilder(function.append_basic_block("entry"))
        start = self.builder.append_basic_block("start")
        self.builder.branch(start)
        self.builder.position_at_end(start)
        self.start, self.rows, self.shared, *pointers = function.args
        self.pointers = dict(zip(_NAMES, pointers, strict=True))
        self.vectors = Vectors(self.builder, self.shape.number, self.shape.rows)
        self.results = iter(("first", "second"))
        for step in steps:
            if step.kind == "group":
                self._group(step)
            else:
                getattr(self, f"_{step.kind}")(*step.nodes)
        self.builder.ret_void()
        return function

    # Where columns are.

    def _index(self, value: int) -> ir.Constant:
        return ir.Constant(_INDEX, value)

    def _place(self, run: Run) -> Any:
        """The address of the first column of a run that is in memory."""
        node = self.graph.maker(run.start)
        column = self.plan.places[node.start] + run.start - node.start
        return at(self.builder, self.pointers["memory"], self._index(column), self.shape.size)

    def _weight(self, offset: int) -> Any:
        each = self.shape.size // self.shape.rows
        return at(self.builder, self.pointers["weights"], self._index(offset), each)

    def _load(self, run: Run, c: Any) -> Any:
        """Column ``c`` of a run."""
        node = self.graph.maker(run.start)
        if node.kind == "literal":
            return self.vectors.constant(node.options[0])
        c = c if run.step else self._index(0)
        if node.kind == "weight":
            begin = self._weight(node.options[0] + run.start - node.start)
            place = at(self.builder, begin, c, self.shape.size // self.shape.rows)
            return self.vectors.broadcast(self.builder.load(place, typ=self.shape.number))
        place = at(self.builder, self._place(run), c, self.shape.size)
        return self.builder.load(place, typ=self.vectors.type, align=self.shape.aligned)

    def _store(self, value: Any, begin: Any, c: Any) -> None:
        self.builder.store(
            value, at(self.builder, begin, c, self.shape.size), align=self.shape.aligned
        )

    @contextmanager
    def _columns(self, count: int) -> Iterator[Any]:
        """Code for each of so many columns."""
        if count == 1:
            yield self._index(0)
            return
        with loop(self.builder, self._index(count)) as c:
            yield c

    # Steps.

    def _group(self, step: Step) -> None:
        with self._columns(step.count) as c:
            known: dict[Any, Any] = {}
            for node in step.nodes:
                values = []
                for run in node.inputs:
                    start = self.graph.maker(run.start).start
                    key = start if step.has(start) else run
                    if key not in known:
                        known[key] = self._load(run, c)
                    values.append(known[key])
                known[node.start] = getattr(self.vectors, node.kind)(*values)
                if node.start in step.kept:
                    self._store(known[node.start], self._place(Run(node.start, 1)), c)

    def _layer(self, node: Node) -> None:
        matrix, bias, inner = node.options
        nothing = ir.Constant(_POINTER, None)
        places = self._place(node.inputs[0]), self._place(Run(node.start, 1))
        weights = self._weight(matrix), nothing if bias < 0 else self._weight(bias)
        sizes = self._index(node.count), self._index(inner)
        self.builder.call(self.layer, (*places, *weights, *sizes))

    def _product(self, node: Node) -> None:
        m, k, n = node.options
        left, right = (self._place(run) for run in node.inputs)
        out, builder = self._place(Run(node.start, 1)), self.builder
        with self._columns(m) as i, self._columns(n) as j:
            first = builder.mul(i, self._index(k))

            def term(e: Any) -> Any:
                a = self._column(left, builder.add(first, e))
                b = self._column(right, builder.add(builder.mul(e, self._index(n)), j))
                return a, b

            total = self._fold(k, lambda e, t: self.vectors.muladd(*term(e), t), 0.0)
            self._store(total, out, builder.add(builder.mul(i, self._index(n)), j))

    def _column(self, begin: Any, c: Any) -> Any:
        place = at(self.builder, begin, c, self.shape.size)
        return self.builder.load(place, typ=self.vectors.type, align=self.shape.aligned)

    def _fold(self, count: int, add: Callable[[Any, Any], Any], start: float) -> Any:
        """A sum, or the like, over so many columns."""
        begin = self.vectors.constant(start)
        (total,) = folded(
            self.builder, self._index(count), [begin], lambda e, totals: [add(e, *totals)]
        )
        return total

    def _reduce(self, node: Node, add: Callable[[Any, Any], Any], start: float) -> None:
        (length,) = node.options
        begin, out = self._place(node.inputs[0]), self._place(Run(node.start, 1))
        with self._columns(node.count) as c:
            first = self.builder.mul(c, self._index(length))
            total = self._fold(
                length,
                lambda e, t: add(t, self._column(begin, self.builder.add(first, e))),
                start,
            )
            self._store(total, out, c)

    def _sum(self, node: Node) -> None:
        self._reduce(node, self.vectors.add, 0.0)

    def _largest(self, node: Node) -> None:
        self._reduce(node, self.vectors.max, -math.inf)

    def _smallest(self, node: Node) -> None:
        self._reduce(node, self.vectors.min, math.inf)

    def _gather(self, node: Node) -> None:
        runs = list(_runs(self.graph, node.options[0]))
        constant = any(self.graph.maker(first).kind in CONSTANT for first, *_ in runs)
        out = self._place(Run(node.start, 1))
        if len(runs) > _MANY_RUNS and not constant:
            self._gather_by_table(node, out)
            return
        done = 0
        for first, step, count in runs:
            with self._columns(count) as c:
                value = self._load(Run(first, step), c)
                self._store(value, out, self.builder.add(c, self._index(done)))
            done += count

    def _gather_by_table(self, node: Node, out: Any) -> None:
        makers = [self.graph.maker(column) for column in node.options[0]]
        places = [
            self.plan.places[maker.start] + column - maker.start
            for maker, column in zip(makers, node.options[0], strict=True)
        ]
        kind = ir.ArrayType(ir.IntType(32), len(places))
        name = self.module.get_unique_name(f"{self.module.name}_table")
        table = ir.GlobalVariable(self.module, kind, name)
        table.initializer = ir.Constant(kind, places)
        table.global_constant, table.linkage = True, "internal"
        with self._columns(node.count) as c:
            place = self.builder.load(at(self.builder, table, c, 4), typ=ir.IntType(32))
            column = self._column(self.pointers["memory"], self.builder.zext(place, _INDEX))
            self._store(column, out, c)

    # What comes in and goes out.

    def _theta(self, node: Node) -> None:
        self._take(node, node.kind)

    _x = _along = _theta

    def _centered(self, node: Node) -> None:
        self._take(node, *node.options)

    def _take(self, node: Node, kind: str, moments: int | None = None) -> None:
        """Rows to columns, less moments; rows that are not there are the last one."""
        builder, source = self.builder, self.pointers[kind]
        out = self._place(Run(node.start, 1))
        each = self.shape.size // self.shape.rows
        last = builder.sub(self.rows, self._index(1))
        with loop(builder, self._index(self.shape.rows)) as r:
            row = builder.select(builder.icmp_signed("<", r, last), r, last)
            row = builder.add(self.start, row)
            if kind == "theta":
                shared = builder.icmp_signed("!=", self.shared, self._index(0))
                row = builder.select(shared, self._index(0), row)
            first = builder.mul(row, self._index(node.count))
            with self._columns(node.count) as c:
                place = at(builder, source, builder.add(first, c), 8)
                value = builder.load(place, typ=ir.DoubleType())
                if moments is not None:
                    column = builder.add(c, self._index(moments))
                    place = at(builder, self.pointers["moments"], column, 8)
                    value = builder.fsub(value, builder.load(place, typ=ir.DoubleType()))
                if not self.shape.double:
                    value = builder.fptrunc(value, self.shape.number)
                index = builder.add(builder.mul(c, self._index(self.shape.rows)), r)
                builder.store(value, at(builder, out, index, each))

    def _result(self, node: Node) -> None:
        """Columns to rows."""
        builder, target = self.builder, self.pointers[next(self.results)]
        begin, each = self._place(node.inputs[0]), self.shape.size // self.shape.rows
        with loop(builder, self.rows) as r:
            first = builder.mul(builder.add(self.start, r), self._index(node.count))
            with self._columns(node.count) as c:
                index = builder.add(builder.mul(c, self._index(self.shape.rows)), r)
                value = builder.load(at(builder, begin, index, each), typ=self.shape.number)
                if not self.shape.double:
                    value = builder.fpext(value, ir.DoubleType())
                builder.store(value, at(builder, target, builder.add(first, c), 8))


def _runs(graph: Any, columns: tuple[int, ...]) -> Iterator[tuple[int, int, int]]:
    """First column, step and length of the runs that columns consist of."""
    k = 0
    while k < len(columns):
        first, step, end = columns[k], 0, k + 1
        maker = graph.maker(first)
        if end < len(columns) and graph.maker(columns[end]) is maker:
            step = columns[end] - first
        if step in (0, 1):
            while (
                end < len(columns)
                and columns[end] == first + step * (end - k)
                and graph.maker(columns[end]) is maker
            ):
                end += 1
        else:
            step = 0
        yield first, step if end - k > 1 else 0, end - k
        k = end
