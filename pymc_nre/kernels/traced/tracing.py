"""From a torch module to a graph: its log ratios, their gradients, products with its Hessian.

`make_fx` writes down what torch calls for a few rows, in the network and in what differentiates it.
What has no row in it is computed on the spot; all else goes into the graph.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch._decomp import core_aten_decompositions, get_decompositions
from torch.fx.experimental.proxy_tensor import make_fx

from .graph import Graph, Run
from .rows import N_ROWS, Constant, Rows, Split, UnsupportedError, columns_of, same_in_all
from .vocabulary import ELEMENTWISE, LOGICAL, OF_TRUTH, Arithmetic

__all__ = ["QUANTITIES", "traced"]

_MOVES = {
    *("view", "_unsafe_view", "view_copy", "reshape", "permute", "transpose", "t", "expand"),
    *("expand_copy", "squeeze", "unsqueeze", "slice", "select", "narrow", "diagonal", "unfold"),
    *("cat", "stack", "split", "split_with_sizes", "unbind", "repeat", "flip", "roll"),
    *("index", "index_select", "gather", "slice_scatter", "select_scatter"),
    *("clone", "detach", "alias", "contiguous", "lift_fresh", "lift_fresh_copy"),
    *("as_strided", "as_strided_scatter"),
}
_VIEWS = frozenset(["view", "_unsafe_view", "view_copy", "reshape"])
_SAME = frozenset(["_to_copy", "to"])
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
    calls = _calls(QUANTITIES[quantity](network), inputs)
    return _Interpreter(inputs, weights).run(calls)


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
        return torch.autograd.grad(gradient, leaf, along, materialize_grads=True)

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
        ones = torch.ones_like(value)  # rows are differentiated side by side, and never summed
        (gradient,) = torch.autograd.grad(
            value, leaf, ones, create_graph=again, materialize_grads=True
        )
    return value, gradient, leaf


def _calls(function: Callable[..., Any], inputs: dict[str, tuple[int, ...]]) -> Any:
    """What torch calls for a few rows."""
    stream = torch.Generator().manual_seed(0)
    few = [
        torch.rand(N_ROWS, *shape, dtype=torch.float64, generator=stream)
        for shape in inputs.values()
    ]
    # First what the user wrote and its derivatives; then without writes in place, in few words.
    recorded = make_fx(function)(*few)
    recorded = make_fx(torch.func.functionalize(recorded), decomposition_table=_decompositions())(
        *few
    )
    recorded.graph.eliminate_dead_code()
    return recorded


@cache
def _decompositions() -> dict[Any, Any]:
    """Torch's own, but of what the vocabulary has."""
    known = {*ELEMENTWISE, *_MOVES, "sum", "amax", "amin", "addmm", "mm", "bmm", "baddbmm"}
    aten = torch.ops.aten
    more = [aten.native_layer_norm, aten.native_group_norm, aten._softmax, aten._log_softmax]
    more += [aten._native_batch_norm_legit_no_training, aten.native_batch_norm]
    more += [aten.native_batch_norm_backward, aten.linalg_vector_norm]
    table = dict(core_aten_decompositions().items()) | get_decompositions(more)
    return {op: rule for op, rule in table.items() if _name(op) not in known}


def _name(target: Any) -> str:
    """The name of an operation, without its overload."""
    return str(getattr(target, "overloadpacket", target)).removeprefix("aten.")


class _Interpreter:
    """Goes through the calls, with a value for each: Rows, Constant, or what is no tensor."""

    def __init__(self, inputs: dict[str, tuple[int, ...]], weights: Graph | None = None) -> None:
        self.graph = Graph(kept_by=weights)
        self._arithmetic = Arithmetic(self._elementwise)
        self._given = {
            kind: columns_of(self.graph.add(kind, math.prod(shape)).start, shape)
            for kind, shape in inputs.items()
        }

    def run(self, calls: Any) -> Graph:
        """The graph, with its results."""
        values: dict[Any, Any] = {}
        given = iter(self._given.values())
        for node in calls.graph.nodes:
            if node.op == "placeholder":
                values[node] = next(given)
            elif node.op == "get_attr":
                tensor = operator.attrgetter(node.target)(calls)
                values[node] = Constant(tensor.detach(), made=False)
            elif node.op == "call_function":
                parts = (torch.fx.map_arg(v, values.__getitem__) for v in (node.args, node.kwargs))
                values[node] = self._call(node.target, *parts)
        (results,) = next(node.args for node in calls.graph.nodes if node.op == "output")
        for result in results:
            self._result(values[result])
        return self.graph

    def _result(self, value: Rows | Constant) -> None:
        """Columns that are given back, one after another."""
        entries = self._as_rows(value).entries
        if entries.shape[:1] != (N_ROWS,):
            raise UnsupportedError("it does not give one log ratio for each observation")
        split = Split(entries.reshape(N_ROWS, -1))
        if len(split.columns) != 1:
            raise UnsupportedError("it does not treat all observations alike")
        run = self.graph.block(split.columns[0])
        self.graph.add("result", split.columns.shape[1], (run,), (len(self.graph.nodes),))

    def _call(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if target is operator.getitem:
            return args[0][args[1]]
        tensors = [v for v in _flat((args, kwargs)) if isinstance(v, (Rows, Constant))]
        if not any(isinstance(v, Rows) for v in tensors):
            return self._constant(target, args, kwargs, all(v.made for v in tensors))
        name = _name(target)
        if name in _SAME:
            if kwargs.get("dtype", torch.float64) != torch.float64:
                raise UnsupportedError(f"it makes {kwargs['dtype']} of numbers")
            return Rows(args[0].entries)
        if name == "where" and isinstance(args[0], Constant):
            return self._move(target, args, kwargs)
        if name in ELEMENTWISE:
            name = _of_truth(name, tensors)
            return ELEMENTWISE[name](self._arithmetic, *args, **kwargs)
        if name in _MOVES:
            return self._move(target, args, kwargs)
        method = getattr(self, f"_{name}", None)
        if self.graph.nodes[-1].start > _MOST_COLUMNS:
            raise UnsupportedError(f"it needs more than {_MOST_COLUMNS:,} numbers a row")
        if method is None:
            raise UnsupportedError(f"there is no machine code for torch's {target}")
        return method(*args, **kwargs)

    # What is constant, and what only moves numbers.

    def _constant(self, target: Any, args: Any, kwargs: Any, made: bool) -> Any:
        plain = [_mapped(v, lambda c: c.values, Constant) for v in (args, kwargs)]
        with torch.no_grad():
            result = target(*plain[0], **plain[1])
        return _mapped(result, lambda t: Constant(t, made), Tensor)

    def _move(self, target: Any, args: Any, kwargs: Any) -> Any:
        """Let torch do with entries as it would with numbers."""

        def entries(value: Rows | Constant) -> Tensor:
            if isinstance(value, Rows):
                return value.entries
            if not value.values.is_floating_point():  # an index, or a condition
                return value.values
            return self._entries(value.values, value.made)

        kinds = (Rows, Constant)
        rows = [v for v in _flat((args, kwargs)) if isinstance(v, Rows)]
        boolean = all(v.boolean for v in rows)
        plain = [_mapped(v, entries, kinds) for v in (args, kwargs)]
        if _name(target) in _VIEWS:  # entries may lie otherwise in memory than numbers did
            return Rows(plain[0][0].reshape(plain[0][1]), boolean)
        return _mapped(target(*plain[0], **plain[1]), lambda e: Rows(e, boolean), Tensor)

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
            simple = self._centered(*values)
        if simple is not None:
            return simple
        shape = torch.broadcast_shapes(*(_shape(value) for value in tensors))
        if not shape.numel():
            return Rows(torch.zeros(shape, dtype=torch.int64), kind in LOGICAL)
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
        return Rows(split.results(node.start).entries, kind in LOGICAL)

    def _centered(self, x: Any, moments: Any) -> Rows | None:
        """What is given, less moments; None if it is something else."""
        if not isinstance(x, Rows) or not isinstance(moments, Constant) or moments.made:
            return None
        for kind in ("theta", "x"):
            given = self._given[kind].entries
            if x.entries.shape == given.shape and torch.equal(x.entries, given):
                each = moments.values.double().expand(given.shape)
                if (each == each[:1]).all():
                    node = self.graph.centered(kind, each[0].numpy())
                    return columns_of(node.start, given.shape[1:])
        return None

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
                left, right = map(self._by_value, (left, right))
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

    def _as_rows(self, value: Rows | Constant) -> Rows:
        if isinstance(value, Rows):
            return value
        return Rows(self._entries(value.values, value.made))

    def _by_value(self, value: Rows | Constant) -> Rows:
        """Constants that may be repeated for each observation: equal numbers are one column."""
        if isinstance(value, Rows):
            return value
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

    def _copy(self, x: Any, source: Any, non_blocking: bool = False) -> Any:
        return _like(source, _data(source).expand(_shape(x)))

    def _new_zeros(self, x: Any, size: Any, **kwargs: Any) -> Constant:
        return Constant(torch.zeros(size, dtype=torch.float64), made=True)

    def _full_like(self, x: Any, value: float, **kwargs: Any) -> Constant:
        return Constant(torch.full(tuple(_shape(x)), float(value), dtype=torch.float64), made=True)

    def _zeros_like(self, x: Any, **kwargs: Any) -> Constant:
        return self._full_like(x, 0.0)

    def _ones_like(self, x: Any, **kwargs: Any) -> Constant:
        return self._full_like(x, 1.0)

    def _empty_like(self, x: Any, **kwargs: Any) -> Constant:
        return self._full_like(x, 0.0)

    def _new_full(self, x: Any, size: Any, value: float, **kwargs: Any) -> Constant:
        return Constant(torch.full(tuple(size), float(value), dtype=torch.float64), made=True)

    def _new_empty_strided(self, x: Any, size: Any, stride: Any, **kwargs: Any) -> Constant:
        empty = torch.empty_strided(size, stride, dtype=torch.float64).zero_()
        return Constant(empty, made=True)


def _of_truth(name: str, tensors: list[Any]) -> str:
    """The operation that is meant where all that it is given is true or false."""
    if name in OF_TRUTH or not all(map(_is_boolean, tensors)):
        return name
    meant = {"add": "logical_or", "mul": "logical_and"}.get(name)
    if meant is None or len(tensors) < 2:
        raise UnsupportedError(f"it calculates {name} of true and false")
    return meant


def _is_boolean(value: Rows | Constant) -> bool:
    return value.boolean if isinstance(value, Rows) else value.values.dtype == torch.bool


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
            if torch.broadcast_shapes(_shape(one), other.values.shape) == _shape(one):
                return one
        elif isinstance(other, (int, float)) and other == neutral:
            return one
    return None


def _shape(value: Rows | Constant) -> torch.Size:
    return _data(value).shape


def _data(value: Rows | Constant) -> Tensor:
    return value.entries if isinstance(value, Rows) else value.values


def _like(value: Rows | Constant, data: Tensor) -> Rows | Constant:
    return Rows(data) if isinstance(value, Rows) else Constant(data, value.made)


def _mapped(value: Any, function: Callable[[Any], Any], kinds: Any) -> Any:
    """A nested structure with a function of what is of these kinds."""
    if isinstance(value, kinds):
        return function(value)
    if isinstance(value, (list, tuple)):
        return type(value)(_mapped(v, function, kinds) for v in value)
    if isinstance(value, dict):
        return {k: _mapped(v, function, kinds) for k, v in value.items()}
    return value


def _flat(value: Any) -> list[Any]:
    """What is in a nested structure."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return [leaf for part in value for leaf in _flat(part)]
    return [value]
