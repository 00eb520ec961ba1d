"""What is done with the columns of a block of rows.

A *column* is one number of each row. Nodes make columns of columns, each row by itself, so the same
graph serves any number of rows. Constants are the same in all rows: weights are a vector beside the
graph, so that networks of one architecture share it, and literals belong to it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

__all__ = ["COMMUTE", "CONSTANT", "Graph", "Node", "Run"]

CONSTANT = frozenset({"weight", "literal"})
COMMUTE = frozenset({"add", "mul", "max", "min", "eq", "ne", "both", "either"})


class Run(NamedTuple):
    """Columns one after another, or one again and again: ``start + step * k``, step 0 or 1."""

    start: int
    step: int


class Node(NamedTuple):
    """Makes ``count`` columns, from column ``start`` on.

    Attributes
    ----------
    kind : str
        ``"theta"``, ``"x"`` and ``"along"`` are given; ``"centered"`` is theta or x less moments,
        in double precision, before it is rounded to that of the computation. ``"weight"`` and
        ``"literal"`` are constant. ``"layer"`` is inputs times a matrix and ``"product"`` a product
        of two matrices of each row. ``"sum"``, ``"largest"`` and ``"smallest"`` reduce,
        ``"gather"`` brings columns together, and all others go element by element.
    start, count : int
    inputs : tuple of Run
    options : tuple
        Of a layer: where its matrix ``(K, count)`` begins, where its bias does or -1, K. Of a
        product: m, k, n. Of a reduction: how many columns make one. Of a gather: the columns. Of
        weights: where they begin. Of what is centered: the kind, and where moments begin. Of a
        literal: its value.
    """

    kind: str
    start: int
    count: int
    inputs: tuple[Run, ...] = ()
    options: tuple[Any, ...] = ()


@dataclass
class Graph:
    """Nodes in the order in which they were made, each of which is there once.

    Attributes
    ----------
    nodes : list of Node
    weights : list of ndarray
        Constants, flat; together the vector beside the graph.
    moments : list of ndarray
        The same for what is taken off what is given, always in double precision.
    kept_by : Graph, optional
        The one that keeps the constants of this one.
    """

    nodes: list[Node] = field(default_factory=list)
    kept_by: Graph | None = None
    weights: list[np.ndarray] = field(default_factory=list)
    moments: list[np.ndarray] = field(default_factory=list)
    _known: dict[Any, Node] = field(default_factory=dict)
    _starts: list[int] = field(default_factory=list)
    _kept: dict[Any, int] = field(default_factory=dict)

    @classmethod
    def of(cls, nodes: Sequence[Node]) -> Graph:
        """A graph that is complete."""
        return cls(list(nodes), _starts=[node.start for node in nodes])

    def add(
        self, kind: str, count: int, inputs: tuple[Run, ...] = (), options: tuple[Any, ...] = ()
    ) -> Node:
        """A new node, or the one that does the same."""
        if kind in COMMUTE:
            inputs = tuple(sorted(inputs))
        key = kind, count, inputs, options
        node = self._known.get(key)
        if node is None:
            last = self.nodes[-1] if self.nodes else Node("", 0, 0)
            node = Node(kind, last.start + last.count, count, inputs, options)
            self.nodes.append(node)
            self._starts.append(node.start)
            self._known[key] = node
        return node

    def maker(self, column: int) -> Node:
        """The node that makes a column."""
        return self.nodes[bisect_right(self._starts, column) - 1]

    def sources(self, node: Node) -> list[Node]:
        """The nodes whose columns a node takes."""
        if node.kind == "gather":
            makers = map(self.maker, node.options[0])
            return list({maker.start: maker for maker in makers}.values())
        return [self.maker(run.start) for run in node.inputs]

    def needed(self) -> list[Node]:
        """The results, and the nodes that they are made of."""
        found: set[Node] = set()
        waiting = [node for node in self.nodes if node.kind == "result"]
        while waiting:
            node = waiting.pop()
            if node not in found:
                found.add(node)
                waiting += self.sources(node)
        return [node for node in self.nodes if node in found]

    def literal(self, value: float) -> Node:
        """A number that belongs to the graph."""
        return self.add("literal", 1, (), (float(value),))

    def weight(self, values: np.ndarray) -> Node:
        """Constants as columns, each the same in all rows."""
        return self.add("weight", values.size, (), (self.keep(values),))

    def centered(self, kind: str, moments: np.ndarray) -> Node:
        """What is given, less a number for each column."""
        return self.add("centered", moments.size, (), (kind, self.keep(moments, "moments")))

    def keep(self, values: np.ndarray, among: str = "weights") -> int:
        """Where constants begin in the vector beside the graph."""
        if self.kept_by is not None:
            return self.kept_by.keep(values, among)
        values = np.ascontiguousarray(values, dtype=np.float64).ravel()
        content = among, values.tobytes()
        if content not in self._kept:
            vectors = getattr(self, among)
            self._kept[content] = sum(vector.size for vector in vectors)
            vectors.append(values)
        return self._kept[content]

    def run(self, columns: Sequence[int] | np.ndarray) -> Run:
        """The same columns as a run, for which they are brought together if need be."""
        columns = np.asarray(columns)
        first = int(columns[0])
        if (columns == first).all():
            return Run(first, 0)
        consecutive = (np.diff(columns) == 1).all()
        if consecutive and self.maker(first) is self.maker(int(columns[-1])):
            return Run(first, 1)
        gathered = self.add("gather", len(columns), (), (tuple(columns.tolist()),))
        return Run(gathered.start, 1)

    def block(self, columns: Sequence[int] | np.ndarray) -> Run:
        """The same, each in its own place, one after another, and none a constant."""
        columns = np.asarray(columns)
        run = self.run(columns)
        if self.maker(run.start).kind in CONSTANT or (run.step == 0 and len(columns) > 1):
            gathered = self.add("gather", len(columns), (), (tuple(columns.tolist()),))
            return Run(gathered.start, 1)
        return Run(run.start, 1)

    def vector(self, among: str = "weights") -> np.ndarray:
        """All constants."""
        return np.concatenate([*getattr(self, among), np.zeros(0)])
