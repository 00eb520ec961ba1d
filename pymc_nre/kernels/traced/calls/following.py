"""What torch calls, followed call by call.

Torch computes with the numbers of a few rows. Beside the memory of each tensor there are entries
(`rows`) in the same order, so that views need no care: they are the same view of the entries. An
operation is done twice, by torch with the numbers and by `operations` with the entries; what writes
in place is computed beside its place and copied. What follows calls is below what differentiates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ..rows import Constant, Rows, UnsupportedError
from .compositions import COMPOSITIONS

__all__ = ["Following", "mapped"]

_BLANK = ("empty", "new_empty")  # names begin so; what is there is nobody's business
_FILLED = (*_BLANK, "zeros_like", "ones_like", "full_like", "new_zeros", "new_ones", "new_full")
_META = torch.device("meta")  # where tensors have no numbers


@dataclass
class _Memory:
    """Numbers in their order, which have entries if they depend on rows."""

    numbers: Tensor
    made: bool  # of literals alone
    entries: Tensor | None = None
    trouble: str = ""  # why there are none, for whoever needs them


class Following(TorchDispatchMode):
    """Follows all calls inside a ``with`` statement.

    Parameters
    ----------
    operations
        Has ``knows(name)``, ``call(name, target, args, kwargs, truths)``, ``as_rows(value)`` and
        ``by_value(value)``.
    """

    def __init__(self, operations: Any) -> None:
        super().__init__()
        self._operations = operations
        self._memories: dict[int, _Memory] = {}  # which hold them, so that none is another's heir
        self._taken_apart: list[Any] = []

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # or torch would load its compiler to say so, which takes a second

    def value(self, tensor: Tensor) -> Rows | Constant:
        """What a tensor is; those that nobody has made here are weights."""
        memory = self._memory(tensor)
        if memory.trouble:
            raise UnsupportedError(memory.trouble)
        if tensor._is_zerotensor():  # which has no memory that could be read
            return Constant(torch.zeros(tensor.shape, dtype=tensor.dtype), made=True)
        if memory.entries is None:
            return Constant(tensor.detach(), memory.made)
        if tensor.dtype != memory.numbers.dtype:
            raise UnsupportedError(f"it reads {memory.numbers.dtype} as {tensor.dtype}")
        return Rows(_like(memory.entries, tensor))

    def record(self, tensor: Tensor, value: Rows | Constant) -> None:
        """Say what a new tensor is."""
        memory = self._memories[_key(tensor)] = _Memory(_flat(tensor), True)
        if isinstance(value, Constant):
            memory.made = value.made
        else:
            memory.entries = torch.zeros(len(memory.numbers), dtype=torch.int64)
            _like(memory.entries, tensor).copy_(value.entries)

    def _memory(self, tensor: Tensor) -> _Memory:
        memory = self._memories.get(_key(tensor))
        return _Memory(_flat(tensor), made=False) if memory is None else memory

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        given = _tensors((args, kwargs))
        if kwargs.get("device") == _META or any(tensor.is_meta for tensor in given):
            return func(*args, **kwargs)  # torch finds out what shape there will be
        memories = [self._memory(tensor) for tensor in given]
        if all(memory.entries is None and not memory.trouble for memory in memories):
            return self._constant(func, args, kwargs, given)
        if func is torch.ops.aten._local_scalar_dense.default:
            raise UnsupportedError(
                "what it does depends on values: torch.where compiles, if and item() do not"
            )
        name = func.overloadpacket.__name__
        if name.startswith(_FILLED):  # with what does not depend on the numbers that are given
            result = _blank(name, func(*args, **kwargs))
            self.record(result, Constant(result, made=True))
            return result
        try:
            return self._followed(func, name, args, kwargs, given)
        except UnsupportedError as trouble:  # which is none if this is of no account in the end
            result = func(*args, **kwargs)
            for tensor in _tensors(result):
                self._memories.setdefault(_key(tensor), self._memory(tensor)).trouble = str(trouble)
            return result

    def _followed(self, func: Any, name: str, args: Any, kwargs: Any, given: list[Tensor]) -> Any:
        for tensor in given:
            self.value(tensor)
        if func._schema.is_mutable and torch.Tag.inplace_view not in func.tags:
            return self._written(func, name, args, kwargs)
        if name in COMPOSITIONS:
            with self:
                return COMPOSITIONS[name](*args, **kwargs)
        result = func(*args, **kwargs)
        memories = {_key(tensor) for tensor in given}
        fresh = [tensor for tensor in _tensors(result) if _key(tensor) not in memories]
        if fresh and not self._operations.knows(name):
            return self._apart(func, args, kwargs)
        if fresh:
            self._follow(func, name, args, kwargs, result)
        return result

    def _constant(self, func: Any, args: Any, kwargs: Any, given: list[Tensor]) -> Any:
        """Numbers that do not depend on rows."""
        made = all(self.value(tensor).made for tensor in given)
        memories = {_key(tensor) for tensor in given}
        result = func(*args, **kwargs)
        for tensor in _tensors(result):
            memory = self._memories.get(_key(tensor))
            if memory is not None:
                memory.made &= made
            elif _key(tensor) not in memories:
                self.record(_blank(func.overloadpacket.__name__, tensor), Constant(tensor, made))
        return result

    def _follow(self, func: Any, name: str, args: Any, kwargs: Any, result: Any) -> None:
        tensors = [*_tensors((args, kwargs)), *_tensors(result)]
        for tensor in tensors:
            if tensor.is_complex():
                raise UnsupportedError(f"it makes {tensor.dtype} of numbers")
        truths = all(tensor.dtype == torch.bool for tensor in tensors)
        plain = [mapped(v, self.value, Tensor) for v in (args, kwargs)]
        values = self._operations.call(name, func, *plain, truths)
        values = values if isinstance(values, tuple) else (values,)
        for tensor, value in zip(_tensors(result), values, strict=True):
            self.record(tensor, value)

    def _written(self, func: Any, name: str, args: Any, kwargs: Any) -> Tensor:
        """Write in place."""
        if name == "copy_":
            return self._copied(*args)
        schema = func._schema.arguments
        places = [
            args[k] if k < len(args) else kwargs[one.name]
            for k, one in enumerate(schema)
            if one.alias_info is not None and one.alias_info.is_write
        ]
        beside = getattr(torch.ops.aten, name.removesuffix("_"), None)
        named = name.endswith("_") or "out" in kwargs
        if len(places) != 1 or beside is None or not named:
            raise _no_code(func)
        with self:
            return places[0].copy_(beside(*args, **{k: v for k, v in kwargs.items() if k != "out"}))

    def _copied(self, target: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
        value = self.value(source)
        exact = target.dtype in (source.dtype, torch.float64) or source.dtype == torch.bool
        if isinstance(value, Rows) and not exact:
            raise UnsupportedError(f"it makes {target.dtype} of numbers")
        memory = self._memories.setdefault(_key(target), _Memory(_flat(target), made=False))
        if memory.entries is None:
            constant = Constant(memory.numbers, memory.made)
            memory.entries = self._operations.by_value(constant).entries
        _like(memory.entries, target).copy_(self._operations.as_rows(value).entries)
        return target.copy_(source)

    def _apart(self, func: Any, args: Any, kwargs: Any) -> Any:
        """What is made of other calls."""
        if func in self._taken_apart:  # by way of what writes in place, which leads here again
            raise _no_code(func)
        self._taken_apart.append(func)
        try:
            with self:
                return _parts(func)(*args, **kwargs)
        finally:
            self._taken_apart.pop()


@cache
def _parts(func: Any) -> Callable[..., Any]:
    """An operation as torch puts it together of others."""
    implicit = torch._C.DispatchKey.CompositeImplicitAutograd
    if torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), implicit):
        return func.decompose
    if func not in _decompositions():
        raise _no_code(func)
    return _decompositions()[func]


@cache
def _decompositions() -> dict[Any, Callable[..., Any]]:
    """Torch's own, which take their time to be looked up, and are rarely needed."""
    from torch._decomp import core_aten_decompositions, get_decompositions

    aten = torch.ops.aten
    more = [aten._softmax, aten._log_softmax, aten.linalg_vector_norm, aten.native_group_norm]
    return dict(core_aten_decompositions().items()) | get_decompositions(more)


def _no_code(func: Any) -> UnsupportedError:
    return UnsupportedError(f"there is no machine code for torch's {func}")


def _blank(name: str, tensor: Tensor) -> Tensor:
    """A tensor that is filled later is made of zeros till then: programs must not differ by it."""
    return tensor.zero_() if name.startswith(_BLANK) else tensor


def _key(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _flat(tensor: Tensor) -> Tensor:
    """All numbers of its memory."""
    count = tensor.untyped_storage().nbytes() // tensor.itemsize
    return tensor.detach().as_strided((count,), (1,), 0)


def _like(flat: Tensor, tensor: Tensor) -> Tensor:
    """The same view of another memory."""
    return flat.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())


def mapped(value: Any, function: Callable[[Any], Any], kinds: Any) -> Any:
    """A nested structure with a function of what is of these kinds."""
    if isinstance(value, kinds):
        return function(value)
    if isinstance(value, (list, tuple)):
        return type(value)(mapped(v, function, kinds) for v in value)
    if isinstance(value, dict):
        return {k: mapped(v, function, kinds) for k, v in value.items()}
    return value


def _tensors(value: Any) -> list[Tensor]:
    """What is in a nested structure."""
    found: list[Tensor] = []
    mapped(value, found.append, Tensor)
    return found
