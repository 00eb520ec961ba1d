"""Joint draws of random variables, many at once where that gives the same numbers.

Row after row is what PyMC does. One call for all rows, of the same graph with a leading axis, is
a hundred times faster, and most random variables draw the same numbers either way, since each
has a stream of its own that it uses up in the order of the rows. Whether they all do is tried on
the first rows; where not, it is row after row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..runtime.threads import OneAtATime

if TYPE_CHECKING:
    from pytensor.tensor import TensorVariable

__all__ = ["Sampler", "compiling"]

# PyTensor changes its configuration while it compiles, and then puts back what it found. Of two
# threads at once the later one finds what the other changed, and puts that back for good: all that
# the user compiles after would be compiled by FAST_COMPILE.
compiling = OneAtATime()

_TRIED = 16  # rows by which the two ways are compared
_WORTH_IT = 64  # rows from which on compiling twice pays

Rows = list[np.ndarray]


class Sampler:
    """Draws of outputs, given values of some variables they depend on.

    Its random streams are its own, so that many can draw from one prior in many threads; one
    sampler serves one thread at a time.

    Parameters
    ----------
    outputs : sequence of TensorVariable
    inputs : sequence of TensorVariable
        Without owners.
    """

    def __init__(
        self, outputs: Sequence[TensorVariable], inputs: Sequence[TensorVariable] = ()
    ) -> None:
        self._inputs = list(inputs)
        with compiling():
            self._outputs = _with_own_streams(outputs)
            self._one = _compiled(self._inputs, self._outputs)
        self._many: Callable[..., Rows] | None = None
        self._tried = False

    @property
    def streams(self) -> list[Any]:
        """The shared generators, in the order in which the graph has them."""
        from pymc.pytensorf import find_rng_nodes

        return find_rng_nodes(self._outputs)

    @property
    def streams_as_drawn(self) -> list[Any]:
        """The same, in the order in which `pymc.draw` seeds them."""
        from pymc.pytensorf import collect_default_updates

        return list(collect_default_updates(inputs=self._inputs, outputs=self._outputs))

    def draw(self, n: int, columns: Sequence[np.ndarray] = ()) -> Rows:
        """The next ``n`` rows of each output, ``(n, *own)``, given columns ``(n, *own)``."""
        if n >= _WORTH_IT and not self._tried:
            self._tried, self._many = True, self._same_in_one(columns)
        return self._in_one(n, columns) if self._many else self._one_by_one(n, columns)

    def _one_by_one(self, n: int, columns: Sequence[np.ndarray]) -> Rows:
        rows: Rows = []
        for i in range(n):
            row = self._one(*(column[i] for column in columns))
            rows = rows or [np.empty((n, *np.shape(v)), np.asarray(v).dtype) for v in row]
            for column, value in zip(rows, row, strict=True):
                column[i] = value
        return rows or [np.zeros((0,)) for _ in self._outputs]

    def _in_one(self, n: int, columns: Sequence[np.ndarray]) -> Rows:
        assert self._many is not None
        return [np.asarray(values) for values in self._many(np.int64(n), *columns)]

    def _same_in_one(self, columns: Sequence[np.ndarray]) -> Callable[..., Rows] | None:
        """A function for all rows at once, if it gives the numbers of one by one."""
        first = [column[:_TRIED] for column in columns]
        before = [stream.get_value() for stream in self.streams]
        try:
            with compiling():
                self._many = self._for_many()
            self._restore(before)  # compiling has seeded them
            got = self._in_one(_TRIED, first)
        except Exception:  # whatever a graph that has no such form raises
            got = []
        self._restore(before)
        expected = self._one_by_one(_TRIED, first)
        self._restore(before)
        same = list(map(_bits, got)) == list(map(_bits, expected))
        return self._many if same else None

    def _restore(self, values: Sequence[Any]) -> None:
        for stream, value in zip(self.streams, values, strict=True):
            stream.set_value(value)

    def _for_many(self) -> Callable[..., Rows]:
        import pytensor.tensor as pt
        from pytensor.graph.replace import vectorize_graph

        n = pt.lscalar("n")
        columns = [pt.TensorType(v.type.dtype, (None, *v.type.shape))(v.name) for v in self._inputs]
        replaced = dict(zip(self._inputs, columns, strict=True))
        for rv in _roots(self._outputs, self._inputs):
            replaced[rv] = _resized(rv, n)
        return _compiled([n, *columns], vectorize_graph(self._outputs, replaced))


def _with_own_streams(outputs: Sequence[TensorVariable]) -> list[TensorVariable]:
    import pytensor
    from pymc.pytensorf import find_rng_nodes
    from pytensor.graph.replace import clone_replace

    own = {shared: pytensor.shared(np.random.default_rng()) for shared in find_rng_nodes(outputs)}
    return clone_replace(list(outputs), own)


def _compiled(inputs: list[Any], outputs: list[Any]) -> Callable[..., Rows]:
    """By PyTensor's Python linker: nothing to compile, and faster for graphs this small."""
    import pymc as pm
    from pymc.pytensorf import compile as compile_graph

    with pm.Model(model=None):  # none of the user's, whose bounds may go unchecked
        return compile_graph(inputs, outputs, on_unused_input="ignore", mode="FAST_COMPILE")


def _roots(outputs: list[Any], inputs: list[Any]) -> list[Any]:
    """Random variables that depend on nothing that varies from row to row."""
    from pytensor.graph.traversal import ancestors
    from pytensor.tensor import TensorVariable
    from pytensor.tensor.random.op import RNGConsumerOp

    every = [
        v
        for v in ancestors(outputs)
        if v.owner and isinstance(v.owner.op, RNGConsumerOp) and isinstance(v, TensorVariable)
    ]
    varying = {*every, *inputs}
    return [rv for rv in every if not varying.intersection(set(ancestors([rv])) - {rv})]


def _resized(rv: Any, n: Any) -> Any:
    """With a leading axis, and the streams that it has."""
    from pymc.distributions.shape_utils import change_dist_size
    from pymc.pytensorf import find_rng_nodes
    from pytensor.graph.replace import clone_replace

    resized = change_dist_size(rv, (n,), expand=True)
    new, own = find_rng_nodes([resized]), find_rng_nodes([rv])
    return clone_replace(resized, dict(zip(new, own, strict=True)))


def _bits(values: np.ndarray) -> tuple[Any, ...]:
    return values.dtype, values.shape, values.tobytes()
