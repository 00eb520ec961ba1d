"""In which order the nodes of a graph are computed, which of them in one pass, and where they are.

What goes element by element over as many columns is done together, as soon as it can be: what lies
between stays in registers, and a slope is computed beside its value. Steps that need nothing but
theta come first, and are done once where all observations share it. A column has its place for as
long as it is needed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from .graph import CONSTANT, Graph, Node, Run

__all__ = ["Plan", "Step"]

_ALONE = frozenset({"layer", "product", "sum", "largest", "smallest", "gather", "result"})
_GIVEN = frozenset({"theta", "x", "along", "centered"})


@dataclass
class Step:
    """Nodes that are computed together.

    Attributes
    ----------
    nodes : list of Node
        One, of kinds that go alone or are given; else some that go element by element.
    kept : set of int
        Where those nodes begin whose columns others need.
    """

    nodes: list[Node]
    kept: set[int] = field(default_factory=set)

    @property
    def kind(self) -> str:
        """``"group"`` where the nodes go element by element."""
        kind = self.nodes[0].kind
        return kind if kind in _ALONE or kind in _GIVEN else "group"

    @property
    def count(self) -> int:
        """Columns of each node."""
        return self.nodes[0].count

    def has(self, start: int) -> bool:
        """Whether it has the node that begins there."""
        return any(node.start == start for node in self.nodes)


@dataclass(frozen=True)
class Plan:
    """Steps in order, and places.

    Attributes
    ----------
    of_theta : list of Step
        Those that need nothing but theta and constants.
    others : list of Step
    places : dict of int to int
        From where the columns of a node begin to where they are in memory.
    columns : int
        How many there are in memory.
    """

    graph: Graph
    of_theta: list[Step]
    others: list[Step]
    places: dict[int, int]
    columns: int

    @classmethod
    def of(cls, graph: Graph) -> Plan:
        """The plan of a graph."""
        scheduler = _Scheduler(graph)
        places, columns = _places(graph, scheduler.of_theta, scheduler.others)
        return cls(graph, scheduler.of_theta, scheduler.others, places, columns)


class _Scheduler:
    """Puts nodes into steps."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.of_theta: list[Step] = []
        self.others: list[Step] = []
        self._step_of: dict[int, Step] = {}
        self._theta_only: dict[int, bool] = {}
        for node in graph.needed():
            if node.kind not in CONSTANT:
                self._place(node)
        self._mark_kept()

    def _place(self, node: Node) -> None:
        given = [n for n in self.graph.sources(node) if n.kind not in CONSTANT]
        only = _is_of_theta(node) or (
            node.kind not in _GIVEN
            and node.kind != "result"
            and all(self._theta_only[n.start] for n in given)
        )
        self._theta_only[node.start] = only
        steps = self.of_theta if only else self.others
        step = self._group_for(node, given, steps)
        if step is None:
            step = Step([])
            steps.append(step)
        step.nodes.append(node)
        if node.kind != "result":
            self._step_of[node.start] = step

    def _group_for(self, node: Node, given: list[Node], steps: list[Step]) -> Step | None:
        """The first group that a node can join."""
        if node.kind in _ALONE or node.kind in _GIVEN:
            return None
        index = {id(step): k for k, step in enumerate(steps)}
        first = max((index.get(id(self._step_of[n.start]), -1) for n in given), default=-1)
        for k in range(max(first, 0), len(steps)):
            step = steps[k]
            if step.kind != "group" or step.count != node.count:
                continue
            if k > first or self._fits(node, step):
                return step
        return None

    def _fits(self, node: Node, step: Step) -> bool:
        """Whether all that a node takes of a group is, element by element, beside it."""
        return all(
            not step.has(maker.start) or _covers(run, maker)
            for run, maker in ((run, self.graph.maker(run.start)) for run in node.inputs)
        )

    def _mark_kept(self) -> None:
        for step in (*self.of_theta, *self.others):
            for node in step.nodes:
                for maker in self.graph.sources(node):
                    if maker.kind not in CONSTANT and self._step_of[maker.start] is not step:
                        self._step_of[maker.start].kept.add(maker.start)


def _is_of_theta(node: Node) -> bool:
    return node.kind == "theta" or (node.kind == "centered" and node.options[0] == "theta")


def _covers(run: Run, maker: Node) -> bool:
    """Whether a run is all columns of a node, in order."""
    return run.start == maker.start and (run.step == 1 or maker.count == 1)


def _places(graph: Graph, of_theta: list[Step], others: list[Step]) -> tuple[dict[int, int], int]:
    """Places of columns, and how many there are: the first gap that is large enough."""
    steps = [*of_theta, *others]
    last: dict[int, float] = {}
    for k, step in enumerate(steps):
        for node in step.nodes:
            for maker in graph.sources(node):
                last[maker.start] = k
    for start in (node.start for step in of_theta for node in step.nodes):
        if last.get(start, -1) >= len(of_theta):
            last[start] = math.inf  # it holds for all blocks of rows
    places: dict[int, int] = {}
    taken: list[tuple[int, int, float]] = []  # begin, end, the last step that needs it
    columns = 0
    for k, step in enumerate(steps):
        for node in step.nodes:
            if node.start not in step.kept:
                continue
            taken = sorted(span for span in taken if span[2] >= k)
            begin = 0
            for start, end, _ in taken:
                if begin + node.count <= start:
                    break
                begin = max(begin, end)
            places[node.start] = begin
            taken.append((begin, begin + node.count, last[node.start]))
            columns = max(columns, begin + node.count)
    return places, columns
