"""Simulations: parameters, observations, and what is known of the prior they came from.

Inside the library parameters travel *packed*: one matrix ``(n, D)``, the parameters in
order, each flattened in C order. Outside they are always named. `Layout` is the only place
that converts between the two.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import xarray as xr

    from .forward import ForwardDraw

__all__ = ["Layout", "Simulations", "Simulator"]

# Keywords of RatioLikelihood, of pm.Distribution and of simulators: as parameter names they
# could not be told apart from these.
RESERVED = frozenset(
    {"name", "ratio", "observed", "dims", "total_size", "simulator", "outside"}
    | {"engine", "precision", "shape", "size", "rng", "return_next_rng", "dtype", "random_seed"}
    | {"initval", "transform", "default_transform"}
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
    >>> from pymc_nre.data import Layout
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

    def check_names(self, given: Mapping[str, Any], caller: str) -> None:
        """Raise TypeError unless ``given`` names every parameter and nothing else."""
        unknown = sorted(set(given) - set(self.shapes))
        missing = [name for name in self.shapes if name not in given]
        if unknown or missing:
            problems = [f"unknown {', '.join(unknown)}"] * bool(unknown)
            problems += [f"missing {', '.join(missing)}"] * bool(missing)
            raise TypeError(
                f"{caller}: expected the parameters {', '.join(self.shapes)}, got "
                f"{'; '.join(problems)}. Name each of them, and nothing else."
            )

    def pack(self, parameters: Mapping[str, np.ndarray], caller: str = "log_ratio") -> np.ndarray:
        """Packed ``(*batch, D)`` of named arrays ``(*batch, *own)``, batches broadcast."""
        self.check_names(parameters, caller)
        arrays = {name: np.asarray(parameters[name], dtype=float) for name in self.shapes}
        batches = []
        for name, own in self.shapes.items():
            check_own_shape(name, own, arrays[name].shape, caller)
            batches.append(arrays[name].shape[: arrays[name].ndim - len(own)])
        batch = np.broadcast_shapes(*batches)
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


def check_own_shape(
    name: str, own: tuple[int, ...], shape: tuple[int | None, ...], caller: str
) -> None:
    """Raise ValueError unless ``shape`` ends with ``own``; None is a length not known yet."""
    tail = shape[len(shape) - len(own) :] if len(shape) >= len(own) else None
    if tail is None or any(
        got is not None and got != want for got, want in zip(tail, own, strict=True)
    ):
        raise ValueError(
            f"{caller}: parameter {name!r} has own shape {own}, so it must have shape (*batch, "
            f"{', '.join(map(str, own))}), got {shape}. Put the parameter's own axes last."
        )


def check_reserved(names: Mapping[str, Any]) -> None:
    """Raise ValueError if a parameter's name means something else to RatioLikelihood."""
    clashes = sorted(RESERVED.intersection(names))
    if clashes:
        raise ValueError(
            f"Parameters cannot be called {', '.join(clashes)}: RatioLikelihood takes keywords of "
            f"that name. Rename them in the prior and in the simulator, e.g. {clashes[0]}_."
        )
    odd = sorted(name for name in names if not str(name).isidentifier())
    if odd:
        raise ValueError(
            f"Parameter names must be Python identifiers, since they are passed by keyword; got "
            f"{', '.join(map(repr, odd))}. Rename them in the prior and in the simulator."
        )


@dataclass(frozen=True)
class Simulator:
    """A simulator and how it wants to be called.

    Parameters
    ----------
    function : callable
        ``function(rng, **parameters)``.
    batched : bool
        False: parameters of their own shape in, one observation out. True: parameters and
        result carry a leading axis, one entry for each observation.
    nuisance : ForwardDraw, optional
        Draws the parameters that callers do not pass, given those that they do.

    Examples
    --------
    >>> import numpy as np
    >>> from pymc_nre import Simulator
    >>> simulator = Simulator(lambda rng, mu: rng.normal(mu, 1.0))
    >>> simulator.draw(np.random.default_rng(1), {"mu": np.zeros(3)}, 3).shape
    (3,)
    """

    function: Callable[..., Any]
    batched: bool = False
    nuisance: ForwardDraw | None = None

    def draw(self, rng: np.random.Generator, parameters: Mapping[str, np.ndarray], n: int) -> Any:
        """``n`` observations for parameters ``(n, *own)``, from one generator."""
        if self.nuisance is not None:
            parameters = {**parameters, **self.nuisance.draw(rng, parameters, n)}
        if self.batched:
            return np.asarray(self.function(rng, **parameters))
        rows = ({name: value[i] for name, value in parameters.items()} for i in range(n))
        return np.stack([np.asarray(self.function(rng, **row)) for row in rows])


class Simulations:
    """Training simulations: parameter draws and the observations they produced.

    What `pymc_nre.simulate` returns; build one from arrays you already have.

    Parameters
    ----------
    parameters : mapping of str to array, shape (n, *own)
        Draws from the training prior, by name.
    x : array, shape (n, *event)
        The observation simulated at each draw.
    prior : pymc.Model or dict, optional
        The prior the draws came from, as for `pymc_nre.simulate`. It gives the log density of
        each draw, which some diagnostics use.
    simulator : Simulator or callable, optional
        What made ``x``; it lets models that use the ratio predict.

    Attributes
    ----------
    n_failed : int
        Simulations that were left out because they failed or were not finite.

    Raises
    ------
    ValueError
        If lengths differ, a name is reserved, or anything is not finite.

    Examples
    --------
    >>> import numpy as np
    >>> import pymc_nre as nre
    >>> rng = np.random.default_rng(1)
    >>> mu = rng.uniform(-10, 10, 1_000)
    >>> nre.Simulations({"mu": mu}, rng.normal(mu, 1.0))
    Simulations: 1,000 pairs, parameters mu (scalar), observation scalar
    """

    def __init__(
        self,
        parameters: Mapping[str, Any],
        x: Any,
        *,
        prior: Any = None,
        simulator: Simulator | Callable[..., Any] | None = None,
    ) -> None:
        check_reserved(parameters)
        if not parameters:
            raise ValueError("Simulations needs at least one parameter, got none.")
        self.parameters = {name: _finite(name, value) for name, value in parameters.items()}
        self.x = _finite("x", x)
        self._check_lengths()
        self.layout = Layout(
            {name: value.shape[1:] for name, value in self.parameters.items()},
            frozenset(name for name, value in parameters.items() if is_integer(value)),
        )
        self.event_shape: tuple[int, ...] = self.x.shape[1:]
        self.simulator = as_simulator(simulator)
        self.n_failed = 0
        self.known_prior = None if prior is None else self._known(prior)

    def _check_lengths(self) -> None:
        lengths = {name: len(value) for name, value in self.parameters.items()}
        lengths["x"] = len(self.x)
        if len(set(lengths.values())) > 1:
            raise ValueError(
                "Parameters and x need the same length along their first axis, got "
                + ", ".join(f"{name}: {length}" for name, length in lengths.items())
                + "."
            )

    def _known(self, prior: Any) -> Any:
        from .prior import Prior

        known = Prior.of(prior)
        self.layout.check_names(known.shapes, "The prior of these simulations")
        return known.marginal(list(known.variables))

    @cached_property
    def log_prior(self) -> np.ndarray | None:
        """Log density of each draw under the training prior, ``(n,)``; None if not known."""
        return None if self.known_prior is None else self.known_prior.log_density(self.parameters)

    def __len__(self) -> int:
        return len(self.x)

    @property
    def theta(self) -> np.ndarray:
        """The parameters packed, ``(n, D)``."""
        return self.layout.pack(self.parameters)

    def to_xarray(self) -> xr.Dataset:
        """Parameters, ``x`` and ``log_prior`` as a dataset with the dimension ``simulation``."""
        import xarray as xr

        def variable(name: str, value: np.ndarray) -> tuple[list[str], np.ndarray]:
            return ["simulation", *(f"{name}_dim_{i}" for i in range(value.ndim - 1))], value

        arrays = {**self.parameters, "x": self.x}
        if self.log_prior is not None:
            arrays["log_prior"] = self.log_prior
        data = {name: variable(name, value) for name, value in arrays.items()}
        return xr.Dataset(data, attrs={"n_failed": self.n_failed})

    def __repr__(self) -> str:
        names = ", ".join(f"{n} ({describe_shape(s)})" for n, s in self.layout.shapes.items())
        failed = f", {self.n_failed:,} failed and left out" if self.n_failed else ""
        return (
            f"Simulations: {len(self):,} pairs{failed}, parameters {names}, "
            f"observation {describe_shape(self.event_shape)}"
        )


def as_simulator(simulator: Simulator | Callable[..., Any] | None) -> Simulator | None:
    """A bare function is a simulator of single observations."""
    if simulator is None or isinstance(simulator, Simulator):
        return simulator
    if not callable(simulator):
        raise TypeError(
            "simulator must be a function simulator(rng, **parameters), got "
            f"{type(simulator).__name__}."
        )
    return Simulator(simulator)


def is_integer(value: Any) -> bool:
    """Whether a parameter counts or indexes."""
    return np.asarray(value).dtype.kind in "biu"


def describe_shape(shape: tuple[int, ...]) -> str:
    """``scalar`` or the shape."""
    return f"shape {shape}" if shape else "scalar"


def _finite(name: str, value: Any) -> np.ndarray:
    array = np.asarray(value, dtype=float)
    if array.ndim == 0:
        raise ValueError(f"{name} must have a leading axis of simulations, got a single number.")
    bad = ~np.isfinite(array).reshape(len(array), -1).all(-1)
    if bad.any():
        raise ValueError(
            f"{name} is not finite in {bad.sum():,} of {len(array):,} simulations (first: row "
            f"{bad.argmax()}). Leave those rows out of every array, and mind that the ratio is "
            "then that of an observation given that the simulation succeeded."
        )
    return array
