"""From a torch module to a graph: its log ratios, their gradients, products with its Hessian.

Torch computes them for a few rows, and each of its calls, in the network and in what
differentiates it, is followed (`following`). What has no row in it is a constant; all else goes
into the graph.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .calls.following import Following, mapped
from .graph import Graph, Run
from .rows import N_ROWS, Constant, Rows, Split, UnsupportedError, columns_of, same_in_all
from .vocabulary import ELEMENTWISE, OF_TRUTH, Arithmetic

__all__ = ["QUANTITIES", "traced"]

_MOVES = {
    *("cat", "stack", "repeat", "flip", "roll", "clone"),
    *("index", "index_select", "gather", "slice_scatter", "select_scatter"),
}
_LIMIT = frozenset(["max", "min", "where"])
_CHOOSE = frozenset(["index", "index_select", "gather"])
_MOST_COLUMNS = 100_000  # a network that needs more is nothing for blocks of rows


def traced(
    network: nn.Module,
    size: int,
    features: tuple[int, ...],
    quantity: str,
    *,
    weights: Graph | None = None,
) -> Graph:
    """The graph of a network.

    Parameters
    ----------
    network : RatioNetwork
        Frozen, in evaluation mode and in double precision.
    size : int
        D, the length of theta.
    features : tuple of int
        The shape of what `embed` gives for one observation.
    quantity : {"value", "value_and_gradient", "hessian_product"}
    weights : Graph, optional
        Another, whose vector of constants this one takes its own from.

    Returns
    -------
    Graph
        Its last nodes are of kind ``"result"``, one for each result.

    Raises
    ------
    UnsupportedError
        If there is something in it that has no machine code, or rows do not go their own ways.
    Exception
        Whatever the network and torch raise.
    """
    inputs = {"theta": (size,), "x": features}
    if quantity == "hessian_product":
        inputs["along"] = (size,)
    return _Interpreter(weights).run(QUANTITIES[quantity](network), inputs)


def _value(network: nn.Module) -> Callable[..., Any]:
    return lambda theta, x: (network.head(theta, x),)


def _value_and_gradient(network: nn.Module) -> Callable[..., Any]:
    def function(theta: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        value, gradient, _ = _differentiated(network, theta, x, again=False)
        return value.detach(), gradient

    return function


def _hessian_product(network: nn.Module) -> Callable[..., Any]:
    def function(theta: Tensor, x: Tensor, along: Tensor) -> tuple[Tensor]:
        _, gradient, leaf = _differentiated(network, theta, x, again=True)
        if not gradient.requires_grad:  # a network that is linear in theta
            return (torch.zeros_like(along),)
        return torch.autograd.grad((gradient * along).sum(), leaf, materialize_grads=True)

    return function


QUANTITIES = {
    "value": _value,
    "value_and_gradient": _value_and_gradient,
    "hessian_product": _hessian_product,
}


def _differentiated(
    network: nn.Module, theta: Tensor, x: Tensor, *, again: bool
) -> tuple[Tensor, Tensor, Tensor]:
    with torch.enable_grad():
        leaf = theta.detach().requires_grad_()
        value = network.head(leaf, x)
        if not value.requires_grad:
            return value, torch.zeros_like(leaf), leaf
        # Nobody needs the sum itself, which is no row's; but to be told what to begin with would
        # make torch load its algebra of shapes, which takes a quarter of a second.
        (gradient,) = torch.autograd.grad(
            value.sum(), leaf, create_graph=again, materialize_grads=True
        )
    return value, gradient, leaf


class _Interpreter:
    """What torch's operations are in a graph, of Rows, Constants, and what is no tensor."""

    def __init__(self, weights: Graph | None = None) -> None:
        self.graph = Graph(kept_by=weights)
        self._arithmetic = Arithmetic(self._elementwise)
        self._given: dict[str, Tensor] = {}
        self._limited: dict[Any, tuple[str, tuple[Any, ...]]] = {}  # by columns: how it was made

    def run(self, function: Callable[..., Any], inputs: dict[str, tuple[int, ...]]) -> Graph:
        """The graph of a function, with its results."""
        stream = torch.Generator().manual_seed(0)
        following = Following(self)
        few = []
        for kind, shape in inputs.items():
            few.append(torch.rand(N_ROWS, *shape, dtype=torch.float64, generator=stream))
            start = self.graph.add(kind, math.prod(shape)).start
            self._given[kind] = columns_of(start, shape).entries
            following.record(few[-1], columns_of(start, shape))
        with following:
            results = function(*few)
        for result in results:
            self._result(following.value(result))
        return self.graph

    def _result(self, value: Rows | Constant) -> None:
        """Columns that are given back, one after another."""
        entries = self.as_rows(value).entries
        if entries.shape[:1] != (N_ROWS,):
            raise UnsupportedError("it does not give one log ratio for each observation")
        split = Split(entries.reshape(N_ROWS, -1))
        if len(split.columns) != 1:
            raise UnsupportedError("it does not treat all observations alike")
        run = self.graph.block(split.columns[0])
        self.graph.add("result", split.columns.shape[1], (run,), (len(self.graph.nodes),))

    def knows(self, name: str) -> bool:
        """Whether there is an operation of ATen's name."""
        return name in ELEMENTWISE or name in _MOVES or hasattr(self, f"_{name}")

    def call(
        self, name: str, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any], truths: bool
    ) -> Any:
        """What an operation gives, where what it takes and gives may be nothing but truths."""
        if self.graph.nodes[-1].start > _MOST_COLUMNS:
            raise UnsupportedError(f"it needs more than {_MOST_COLUMNS:,} numbers a row")
        if name == "where":
            return self._where(*args)
        if name in _MOVES:
            return self._move(name, target, args, kwargs)
        if name in ELEMENTWISE:
            name = _of_truth(name) if truths else name
            return ELEMENTWISE[name](self._arithmetic, *args, **kwargs)
        return getattr(self, f"_{name}")(*args, **kwargs)

    # What only moves numbers.

    def _move(self, name: str, target: Any, args: Any, kwargs: Any) -> Rows:
        """Let torch do with entries as it would with numbers."""

        def entries(value: Rows | Constant) -> Tensor:
            constant = isinstance(value, Constant)
            if name in _CHOOSE and constant and not value.values.is_floating_point():
                return value.values  # an index
            return self.as_rows(value).entries

        if name in _CHOOSE:
            _check_places(args[1:])
        plain = [mapped(v, entries, (Rows, Constant)) for v in (args, kwargs)]
        return Rows(target(*plain[0], **plain[1]))

    def _entries(self, values: Tensor, made: bool) -> Tensor:
        """Entries of a constant tensor: what shares memory is one column, and so are literals."""
        if made:
            distinct, place = values.double().unique(return_inverse=True)
            starts = torch.tensor([self.graph.literal(v).start for v in distinct.tolist()])
            return same_in_all(starts[place])
        if values.shape[:1] == (N_ROWS,) and torch.equal(values, values[:1].expand_as(values)):
            values = values[:1].clone().expand_as(values)  # repeated for each observation
        offsets = torch.arange(values.untyped_storage().nbytes() // values.itemsize)
        shared = offsets.as_strided(values.shape, values.stride(), values.storage_offset())
        distinct, place = shared.unique(return_inverse=True)
        flat = torch.empty(len(distinct), dtype=torch.float64)
        flat[place.reshape(-1)] = values.double().reshape(-1)
        return same_in_all(self.graph.weight(flat.numpy()).start + place)

    # Element by element.

    def _elementwise(self, kind: str, *values: Any) -> Any:
        tensors = [self._tensor(value) for value in values]
        if all(isinstance(value, Constant) for value in tensors):
            raise UnsupportedError(f"{kind} of constants alone")
        simple = _simplified(kind, *values)
        if simple is None and kind == "sub":
            simple = self._centered(*tensors)
        if simple is not None:
            return simple
        shape = np.broadcast_shapes(*(_shape(value) for value in tensors))
        if 0 in shape:
            return Rows(torch.zeros(shape, dtype=torch.int64))
        rows = [v.entries.expand(shape) for v in tensors if isinstance(v, Rows)]
        beside = [v.values.expand(shape) for v in tensors if isinstance(v, Constant)]
        split = Split(torch.stack(rows, -1), beside)
        columns = iter(split.columns.T)
        runs = tuple(
            self.graph.run(next(columns))
            if isinstance(value, Rows)
            else self._constants(value, split, shape)
            for value in tensors
        )
        node = self.graph.add(kind, len(split.columns), runs)
        result = Rows(split.results(node.start).entries)
        if kind in _LIMIT:
            self._limited[_columns(result)] = kind, tuple(tensors)
        return result

    def _centered(self, x: Any, moments: Any) -> Rows | None:
        """What is given, or limits of it, less moments; None if it is something else."""
        if not isinstance(x, Rows) or not isinstance(moments, Constant) or moments.made:
            return None
        if _columns(x) in self._limited:
            return self._centered_limits(*self._limited[_columns(x)], moments)
        for kind in ("theta", "x"):
            given = self._given[kind]
            if x.entries.shape == given.shape and torch.equal(x.entries, given):
                each = moments.values.double().expand(given.shape)
                if (each == each[:1]).all():
                    node = self.graph.centered(kind, each[0].numpy())
                    return columns_of(node.start, given.shape[1:])
        return None

    def _centered_limits(self, kind: str, values: tuple[Any, ...], moments: Any) -> Rows | None:
        """The same limits of what is given less moments, less moments."""
        condition, values = values[:-2], values[-2:]
        parts = [
            self._centered(value, moments)
            if isinstance(value, Rows)
            else Constant(value.values - moments.values, made=False)
            for value in values
        ]
        if any(part is None for part in parts):
            return None
        return self._elementwise(kind, *condition, *parts)

    def _tensor(self, value: Any) -> Rows | Constant:
        if isinstance(value, (Rows, Constant)):
            return value
        return Constant(torch.tensor(float(value), dtype=torch.float64), made=True)

    def _constants(self, value: Constant, split: Split, shape: torch.Size) -> Run:
        """Constants beside columns."""
        numbers = value.values.double()
        if numbers.numel() == 1:
            number = numbers.reshape(1).numpy()
            node = self.graph.literal(number[0]) if value.made else self.graph.weight(number)
            return Run(node.start, 0)
        array = split.values(numbers.expand(shape))
        if value.made and (array == array[0]).all():
            return Run(self.graph.literal(array[0]).start, 0)
        return Run(self.graph.weight(array).start, 1 if len(array) > 1 else 0)

    # Reductions.

    def _reduce(self, kind: str, x: Rows, dim: Any, keepdim: bool) -> Rows:
        ndim = x.entries.ndim
        axes = [dim] if isinstance(dim, int) else list(dim or range(ndim))
        axes = sorted({axis % ndim for axis in axes})
        kept = [axis for axis in range(ndim) if axis not in axes]
        moved = x.entries.permute(*kept, *axes)
        if not moved.numel() and kind == "sum":
            zeros = torch.zeros(x.entries.shape, dtype=torch.float64).sum(axes, keepdim=keepdim)
            return Constant(zeros, made=True)
        split = Split(moved.reshape(*moved.shape[: len(kept)], -1))
        run, length = self.graph.block(split.columns.ravel()), split.columns.shape[1]
        node = self.graph.add(kind, len(split.columns), (run,), (length,))
        result = split.results(node.start).entries
        for axis in axes if keepdim else ():
            result = result.unsqueeze(axis)
        return Rows(result)

    def _sum(self, x: Rows, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Rows:
        return self._reduce("sum", x, dim, keepdim)

    def _mean(self, x: Rows, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Rows:
        total = self._reduce("sum", x, dim, keepdim)
        return self._elementwise("mul", total, total.entries.numel() / x.entries.numel())

    def _amax(self, x: Rows, dim: Any = (), keepdim: bool = False) -> Rows:
        return self._reduce("largest", x, dim, keepdim)

    def _amin(self, x: Rows, dim: Any = (), keepdim: bool = False) -> Rows:
        return self._reduce("smallest", x, dim, keepdim)

    def _any(self, x: Rows, dim: Any = None, keepdim: bool = False) -> Rows:
        return self._reduce("largest", self._elementwise("ne", x, 0.0), dim, keepdim)

    def _var_mean(
        self, x: Rows, dim: Any = None, correction: float | None = None, keepdim: bool = False
    ) -> tuple[Rows, Rows]:
        mean = self._mean(x, dim, True)
        centered = self._elementwise("sub", x, mean)
        total = self._reduce("sum", self._elementwise("mul", centered, centered), dim, keepdim)
        each = x.entries.numel() // total.entries.numel()
        # One is what torch takes where nothing is said.
        degrees = each - (1 if correction is None else correction)
        mean = mean if keepdim else self._mean(x, dim, False)
        return self._elementwise("div", total, degrees), mean

    def _var(self, x: Rows, dim: Any = None, **options: Any) -> Rows:
        return self._var_mean(x, dim, **options)[0]

    # Matrix products.

    def _mm(self, left: Any, right: Any) -> Rows:
        return self._layer(left, right, None)

    def _addmm(self, bias: Any, left: Any, right: Any, beta: float = 1, alpha: float = 1) -> Rows:
        plain = beta == alpha == 1 and isinstance(bias, Constant) and bias.values.ndim == 1
        if plain and isinstance(right, Constant) and isinstance(left, Rows):
            return self._layer(left, right, bias)
        product = self._arithmetic.mul(self._mm(left, right), float(alpha))
        return self._arithmetic.add(
            product, bias if beta == 1 else self._arithmetic.mul(bias, beta)
        )

    def _mv(self, left: Any, right: Any) -> Rows:
        return Rows(self._mm(left, _like(right, _data(right)[:, None])).entries[:, 0])

    def _layer(self, left: Any, right: Any, bias: Constant | None) -> Rows:
        """Rows times a matrix, and a bias."""
        if isinstance(left, Constant):
            right = Rows(right.entries.T)
            return Rows(self._layer(right, Constant(left.values.T, left.made), None).entries.T)
        if isinstance(right, Rows):
            product = self._bmm(Rows(left.entries[None]), Rows(right.entries[None]))
            return Rows(product.entries[0])
        split, (inner, width) = Split(left.entries), right.values.shape
        matrix = self.graph.keep(right.values.double().numpy())
        shift = -1 if bias is None else self.graph.keep(bias.values.double().numpy())
        starts = [
            self.graph.add(
                "layer", width, (self.graph.block(columns),), (matrix, shift, inner)
            ).start
            for columns in split.columns
        ]
        if len(starts) == 1:
            return split.results_of(starts[0], width)
        columns = [start + j for start in starts for j in range(width)]
        return split.results_of(self.graph.block(columns).start, width)

    def _bmm(self, left: Any, right: Any) -> Rows:
        """Products of matrices of each row, ``(B, m, k)`` and ``(B, k, n)``."""
        if isinstance(left, Constant) or isinstance(right, Constant):
            try:
                return self._bmm_of_constants(left, right)
            except UnsupportedError:  # where observations are part of the batch
                left, right = map(self.by_value, (left, right))
        a, b = left.entries, right.entries
        (_, m, k), n = a.shape, b.shape[2]
        split = Split(torch.cat([a.flatten(1), b.flatten(1)], 1))
        starts = []
        for columns in split.columns:
            runs = (self.graph.block(columns[: m * k]), self.graph.block(columns[m * k :]))
            starts.append(self.graph.add("product", m * n, runs, (m, k, n)).start)
        columns = [start + j for start in starts for j in range(m * n)]
        run = self.graph.block(columns)
        return Rows(split.results_of(run.start, m * n).entries.reshape(-1, m, n))

    def as_rows(self, value: Rows | Constant) -> Rows:
        """The same, constants too."""
        if isinstance(value, Rows):
            return value
        return Rows(self._entries(value.values, value.made))

    def by_value(self, value: Rows | Constant) -> Rows:
        """Constants that may be repeated for each observation: equal numbers are one column."""
        if isinstance(value, Rows) or value.made:
            return self.as_rows(value)
        distinct, place = value.values.double().unique(return_inverse=True)
        return Rows(same_in_all(self.graph.weight(distinct.numpy()).start + place))

    def _bmm_of_constants(self, left: Any, right: Any) -> Rows:
        """One after another: such matrices are layers."""
        parts = [
            self._mm(_like(left, one), _like(right, other))
            for one, other in zip(_data(left), _data(right), strict=True)
        ]
        return Rows(torch.stack([part.entries for part in parts]))

    def _baddbmm(self, bias: Any, left: Any, right: Any, beta: float = 1, alpha: float = 1) -> Rows:
        product = self._arithmetic.mul(self._bmm(left, right), float(alpha))
        return self._arithmetic.add(product, self._arithmetic.mul(bias, float(beta)))

    # What takes the place of numbers.

    def _constant_pad_nd(self, x: Rows, pad: list[int], value: float = 0.0) -> Rows:
        blank = int(same_in_all(torch.tensor(self.graph.literal(value).start)))
        return Rows(torch.ops.aten.constant_pad_nd.default(x.entries, pad, blank))

    def _index_put(
        self, x: Any, indices: list[Constant], values: Any, accumulate: bool = False
    ) -> Rows:
        first = indices[0]
        if isinstance(first, Rows) and _shape(first) == _shape(x) and not accumulate:
            return self._masked_fill(x, first, values)
        _check_places(indices)
        places = tuple(slice(None) if one is None else one.values for one in indices)
        if accumulate:
            taken = torch.arange(_shape(x).numel()).reshape(_shape(x))[places]
            if len(taken.unique()) < taken.numel():
                raise UnsupportedError("it adds several numbers to one, by an index")
            values = self._elementwise("add", _like(x, _data(x)[places]), values)
        entries = self.as_rows(x).entries.clone()
        entries[places] = self.as_rows(values).entries
        return Rows(entries)

    def _masked_fill(self, x: Any, mask: Any, value: Any) -> Rows:
        return self._where(mask, value, x)

    def _where(self, condition: Any, x: Any, y: Any) -> Rows:
        if isinstance(condition, Rows):
            return self._elementwise("where", condition, x, y)
        entries = [self.as_rows(self._tensor(value)).entries for value in (x, y)]
        return Rows(torch.where(condition.values, *entries))

    def _fill(self, x: Any, value: Any) -> Any:
        value = self._tensor(value)
        return _like(value, _data(value).expand(_shape(x)))

    def _zero(self, x: Any) -> Any:
        return self._fill(x, 0.0)


def _check_places(places: Any) -> None:
    """Raise UnsupportedError unless it is constant which numbers are meant."""

    def refuse(_: Rows) -> None:
        raise UnsupportedError("which numbers it takes depends on values")

    mapped(places, refuse, Rows)


def _of_truth(name: str) -> str:
    """The operation that is meant where all that it takes and gives is true or false."""
    meant = {"add": "logical_or", "mul": "logical_and"}.get(name, name)
    if meant not in OF_TRUTH:
        raise UnsupportedError(f"it calculates {name} of true and false")
    return meant


def _simplified(kind: str, *values: Any) -> Any:
    """What is the same without an operation; of literals only."""
    if len(values) != 2:
        return None
    x, y = values
    for one, other in ((x, y), (y, x)) if kind in ("mul", "add") else ((x, y),):
        neutral = {"mul": 1.0, "div": 1.0, "add": 0.0, "sub": 0.0}.get(kind)
        if neutral is None or not isinstance(one, Rows):
            continue
        if isinstance(other, Constant) and other.made and (other.values == neutral).all():
            if np.broadcast_shapes(_shape(one), other.values.shape) == _shape(one):
                return one
        elif isinstance(other, (int, float)) and other == neutral:
            return one
    return None


def _columns(value: Rows) -> tuple[Any, ...]:
    """What tells rows apart."""
    return tuple(value.entries.shape), value.entries.numpy().tobytes()


def _shape(value: Rows | Constant) -> torch.Size:
    return _data(value).shape


def _data(value: Rows | Constant) -> Tensor:
    return value.entries if isinstance(value, Rows) else value.values


def _like(value: Rows | Constant, data: Tensor) -> Rows | Constant:
    return Rows(data) if isinstance(value, Rows) else Constant(data, value.made)
