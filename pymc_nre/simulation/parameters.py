"""Parameters by name and packed: names, shapes, and what they may be called.

Inside the library parameters travel *packed*: one matrix ``(n, D)``, the parameters in
order, each flattened in C order. Outside they are always named. `Layout` is the only place
that converts between the two.
"""

from __future__ import annotations

import keyword
import math
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr

from ..runtime.arrays import finite_array, holds_integers, real_array

__all__ = ["Layout"]

_UNNAMED = re.compile(r"(^|_)dim_\d+$")  # what xarray and ArviZ call a dimension without a name
# Keywords of RatioLikelihood, of pm.Distribution and of simulators: as parameter names they
# could not be told apart from these.
RESERVED = frozenset(
    {"name", "ratio", "observed", "dims", "total_size", "simulator", "outside"}
    | {"engine", "precision", "shape", "size", "rng", "return_next_rng", "dtype", "random_seed"}
    | {"initval", "transform", "default_transform", "reference", "evidence"}
)


@dataclass(frozen=True)
class Layout:
    """Names and shapes of the parameters, in packing order.

    Parameters
    ----------
    shapes : mapping of str to tuple of int
        Own shape of each parameter; ``()`` for a scalar.
    integer : frozenset of str
        Names of the parameters that are integers; they travel as floats and are unpacked as
        what they are, since simulators index and count with them.

    Examples
    --------
    >>> from pymc_nre.simulation.parameters import Layout
    >>> Layout({"mu": (), "beta": (3,)}).size
    4
    """

    shapes: Mapping[str, tuple[int, ...]]
    integer: frozenset[str] = frozenset()

    @property
    def size(self) -> int:
        """D, the length of the packed vector."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    @cached_property
    def labels(self) -> list[str]:
        """A label for each packed number: ``mu``, ``beta[0]``, ``beta[1]``."""
        return [
            name + (f"[{', '.join(map(str, index))}]" if index else "")
            for name, shape in self.shapes.items()
            for index in np.ndindex(shape)
        ]

    @cached_property
    def whole(self) -> np.ndarray:
        """Which of the packed numbers are integers, booleans ``(D,)``."""
        sizes = [math.prod(shape) for shape in self.shapes.values()]
        return np.repeat(np.array([name in self.integer for name in self.shapes], bool), sizes)

    @cached_property
    def continuous(self) -> np.ndarray:
        """Places of the packed numbers that are not integers: a likelihood has a score in these."""
        return np.flatnonzero(~self.whole)

    def allows(self, theta: np.ndarray) -> np.ndarray:
        """Whether integers of packed ``(*, D)`` are whole numbers, ``(*,)``."""
        counts = theta[..., self.whole]
        return (counts == np.rint(counts)).all(-1)

    def in_ranges(self, low: Iterable[float], high: Iterable[float], digits: int = 3) -> str:
        """Each packed number with its least and its largest value, in words; the first six."""
        ends = zip(self.labels, low, high, strict=True)
        shown = [f"{label} in [{a:.{digits}g}, {b:.{digits}g}]" for label, a, b in ends]
        return ", ".join(shown[:6]) + (", ..." if len(shown) > 6 else "")

    @property
    def continuous_labels(self) -> list[str]:
        """The labels of those numbers."""
        return [self.labels[place] for place in self.continuous]

    def check_names(self, given: Mapping[str, Any], caller: str, kind: str = "parameters") -> None:
        """Raise TypeError unless ``given`` names every parameter and nothing else."""
        if not hasattr(given, "keys"):
            raise TypeError(
                f"{caller}: expected the {kind} by name, a mapping such as "
                f"{{{next(iter(self.shapes), 'mu')!r}: ...}}, got {type(given).__name__}."
            )
        unknown = sorted(map(str, set(given) - set(self.shapes)))
        missing = [name for name in self.shapes if name not in given]
        if unknown or missing:
            problems = [f"unknown {', '.join(unknown)}"] * bool(unknown)
            problems += [f"missing {', '.join(missing)}"] * bool(missing)
            raise TypeError(
                f"{caller}: expected the {kind} {', '.join(self.shapes)}, got "
                f"{'; '.join(problems)}. Name each of them, and nothing else."
            )

    def pack_one(self, parameters: Mapping[str, Any], caller: str) -> np.ndarray:
        """Packed ``(D,)`` of one finite value of each parameter, by name.

        Raises
        ------
        TypeError, ValueError
            If they are not that.
        """
        self.check_names(parameters, caller)
        finite = {n: finite_array(value, f"{caller}: {n}") for n, value in parameters.items()}
        packed = self.pack(finite, caller)
        if packed.ndim != 1:
            names = ", ".join(n for n, own in self.shapes.items() if finite[n].ndim > len(own))
            raise ValueError(
                f"{caller}: {names}: expected one value of each parameter, got a batch of shape "
                f"{packed.shape[:-1]}."
            )
        return packed

    def pack(self, parameters: Mapping[str, np.ndarray], caller: str = "log_ratio") -> np.ndarray:
        """Packed ``(*batch, D)`` of named arrays ``(*batch, *own)``, batches broadcast."""
        self.check_names(parameters, caller)
        arrays, batches = {}, {}
        for name, own in self.shapes.items():
            arrays[name] = array = real_array(parameters[name], f"{caller}: {name}")
            check_own_shape(name, own, array.shape, caller)
            batches[name] = array.shape[: array.ndim - len(own)]
        check_dims(
            {name: (parameters[name], len(own)) for name, own in self.shapes.items()}, caller
        )
        batch = broadcast_batches(batches, caller)
        flat = [
            np.broadcast_to(arrays[name], (*batch, *own)).reshape(*batch, math.prod(own))
            for name, own in self.shapes.items()
        ]
        return np.concatenate(flat, axis=-1)

    def unpack(self, theta: np.ndarray) -> dict[str, np.ndarray]:
        """Named arrays ``(*batch, *own)`` of packed ``(*batch, D)``."""
        parameters, start = {}, 0
        for name, own in self.shapes.items():
            stop = start + math.prod(own)
            value = theta[..., start:stop].reshape((*theta.shape[:-1], *own))
            parameters[name] = np.rint(value).astype(int) if name in self.integer else value
            start = stop
        return parameters


def ends_with(shape: tuple[int | None, ...], own: tuple[int, ...]) -> bool:
    """Whether a shape ends with another; None is a length that is not known yet."""
    tail = shape[max(len(shape) - len(own), 0) :]
    return len(tail) == len(own) and all(
        got is None or got == want for got, want in zip(tail, own, strict=True)
    )


def check_own_shape(
    name: str,
    own: tuple[int, ...],
    shape: tuple[int | None, ...],
    caller: str,
    kind: str = "parameter",
) -> None:
    """Raise ValueError unless the shape of a parameter ends with its own."""
    if not ends_with(shape, own):
        raise ValueError(
            f"{caller}: {kind} {name!r} has own shape {own}, so it must have shape (*batch, "
            f"{', '.join(map(str, own))}), got {shape}. Put the {kind}'s own axes last."
        )


def check_event_shape(
    event_shape: tuple[int, ...], shape: tuple[int | None, ...], caller: str
) -> None:
    """Raise ValueError unless the shape of observations ends with that of one."""
    if not ends_with(shape, event_shape):
        wanted = f"(*batch, {', '.join(map(str, event_shape))})"
        raise ValueError(
            f"{caller}: the ratio was trained on observations of shape {event_shape}, so observed "
            f"data must have shape {wanted}, got {tuple(shape)}. Reshape the data, the axes of one "
            "observation last."
        )


def broadcast_batches(batches: Mapping[str, tuple[int, ...]], caller: str) -> tuple[int, ...]:
    """The shape that batches have together; ValueError if they do not broadcast."""
    try:
        return np.broadcast_shapes(*batches.values())
    except ValueError:
        pass
    shapes = ", ".join(f"{name} {batch}" for name, batch in batches.items())
    raise ValueError(
        f"{caller}: the batches of {', '.join(batches)} must broadcast against each other, got "
        f"{shapes}. Give them the same length, or an axis of length one where they differ."
    )


def check_dims(given: Mapping[str, tuple[Any, int]], caller: str) -> None:
    """Raise ValueError if arrays with named dimensions would be paired against their names.

    They broadcast by place, as NumPy does; two names at one place are a mistake.

    Parameters
    ----------
    given : mapping of str to tuple
        Each array, and how many axes at its end are its own; only those of xarray have names.
    caller : str
    """
    seen: dict[int, tuple[str, str]] = {}
    for name, (value, own) in given.items():
        dims, shape = (value.dims, value.shape) if isinstance(value, xr.DataArray) else ((), ())
        batch = list(zip(dims, shape, strict=True))[: len(dims) - own]
        for place, (dim, length) in enumerate(reversed(batch)):
            if length == 1 or _UNNAMED.search(str(dim)):
                continue
            other, before = seen.setdefault(place, (name, str(dim)))
            if before != str(dim):
                raise ValueError(
                    f"{caller}: arrays broadcast by place, and {name} has the dimension {dim!r} "
                    f"where {other} has {before!r}. Transpose them, give them axes of length one, "
                    "or pass their values, .to_numpy()."
                )


def check_reserved(names: Mapping[str, Any]) -> None:
    """Raise ValueError if a parameter's name means something else to RatioLikelihood."""
    clashes = sorted(RESERVED.intersection(names))
    if clashes:
        raise ValueError(
            f"Parameters cannot be called {', '.join(clashes)}: RatioLikelihood takes keywords of "
            f"that name. Rename them in the prior and in the simulator, e.g. {clashes[0]}_."
        )
    odd = [name for name in names if not _can_be_keyword(name)]
    if odd:
        raise ValueError(
            "Parameter names must be Python identifiers, and none of its keywords, since they are "
            f"passed by keyword; got {', '.join(map(repr, sorted(odd, key=str)))}. Rename them in "
            "the prior and in the simulator."
        )
    for name in names:
        read_as = unicodedata.normalize("NFKC", name)
        if read_as != name:
            raise ValueError(
                f"Parameter {name!r} ({_code_points(name)}) cannot be passed by keyword, for "
                f"Python reads it as {read_as!r} ({_code_points(read_as)}). Call it that in the "
                "prior; in the source of a simulator the two are the same."
            )


def _can_be_keyword(name: Any) -> bool:
    return isinstance(name, str) and name.isidentifier() and not keyword.iskeyword(name)


def _code_points(name: str) -> str:
    return " ".join(f"U+{ord(letter):04X}" for letter in name)


def is_integer(value: Any) -> bool:
    """Whether a parameter counts or indexes."""
    return holds_integers(value)


def describe_shape(shape: tuple[int, ...]) -> str:
    """``scalar`` or the shape."""
    return f"shape {shape}" if shape else "scalar"
