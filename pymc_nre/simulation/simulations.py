"""Simulations: parameters, observations, and what is known of the prior they came from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ..exceptions import SimulationWarning, warn
from ..runtime.arrays import real_array
from .parameters import Layout, check_reserved, describe_shape, is_integer
from .prior import Prior
from .simulator import Simulator, as_simulator

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Simulations"]

_LOOKED_AT = 1_000  # draws, by which a prior is judged
_ROUNDED = 0.01  # share of them that may be impossible by rounding at the edge of its support


class Simulations:
    """Training simulations: parameter draws and the observations they produced.

    What `pymc_nre.simulate` returns; build one from arrays you already have.

    Parameters
    ----------
    parameters : mapping of str to array, shape (n, *own)
        Draws from the training prior, by name: a dict, or a DataFrame.
    x : array, shape (n, *event)
        The observation simulated at each draw.
    prior : pymc.Model or dict, optional
        The prior the draws came from, as for `pymc_nre.simulate`. It gives the log density of
        each draw, which some diagnostics use. A thousand of the draws are looked at: they must be
        possible under it.
    simulator : Simulator or callable, optional
        What made ``x``; it lets models that use the ratio predict.

    Attributes
    ----------
    n_failed : int
        Simulations that were left out because they failed or were not finite.

    Raises
    ------
    TypeError
        If something is not of real numbers.
    ValueError
        If lengths differ, a name is reserved or cannot be a keyword, anything is masked or not
        finite, there is none, or draws are impossible under ``prior``.

    Warns
    -----
    SimulationWarning
        If a few draws are impossible under ``prior``, as by rounding at its edge.

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
        parameters = _by_name(parameters)
        check_reserved(parameters)
        if not parameters:
            raise ValueError("Simulations: parameters: expected at least one, got none.")
        self.parameters = {name: _rows(name, value) for name, value in parameters.items()}
        self.x = _rows("x", x)
        arrays = [*self.parameters.items(), ("x", self.x)]
        _check_lengths(arrays)
        for name, array in arrays:
            _check_finite(name, array)
        self.layout = Layout(
            {name: value.shape[1:] for name, value in self.parameters.items()},
            frozenset(name for name, value in parameters.items() if is_integer(value)),
        )
        self.event_shape: tuple[int, ...] = self.x.shape[1:]
        self.simulator = as_simulator(simulator)
        self.n_failed = 0
        self.known_prior = None if prior is None else self._known(prior)

    def _known(self, prior: Any) -> Prior | None:
        known = Prior.of(prior)
        self.layout.check_names(known.shapes, "The prior of these simulations")
        if known.shapes != dict(self.layout.shapes):
            raise ValueError(
                "The prior of these simulations: expected parameters of shape "
                f"{dict(self.layout.shapes)}, got {known.shapes}. Give each the shape of one draw."
            )
        marginal = known.marginal(list(known.variables))
        if marginal is not None and not isinstance(prior, Prior):  # that is what they are drawn of
            self._check_possible(marginal)
        return marginal

    def _check_possible(self, prior: Prior) -> None:
        """Raise, or warn, if some of the parameters cannot be draws of the prior."""
        rows = np.linspace(0, len(self) - 1, min(len(self), _LOOKED_AT)).astype(int)
        density = prior.log_density({name: v[rows] for name, v in self.parameters.items()})
        bad = ~np.isfinite(density)
        if not bad.any():
            return
        told = (
            f"prior: {bad.sum():,} of {len(rows):,} draws of the parameters that were looked at "
            f"are impossible under it (first: row {rows[bad.argmax()]}). Pass the prior that they "
            "were drawn from."
        )
        if bad.mean() > _ROUNDED:
            raise ValueError(told)
        warn(told, SimulationWarning)

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
        """Parameters, ``x`` and ``log_prior`` as a dataset with the dimension ``simulation``.

        What a parameter is called is called ``x_`` and so on.
        """
        import xarray as xr

        def free(name: str) -> str:
            return free(f"{name}_") if name in self.parameters else name

        def variable(name: str, value: np.ndarray) -> tuple[list[str], np.ndarray]:
            own = [free(f"{name}_dim_{i}") for i in range(value.ndim - 1)]
            return [free("simulation"), *own], value

        arrays = {**self.parameters, free("x"): self.x}
        if self.log_prior is not None:
            arrays[free("log_prior")] = self.log_prior
        data = {name: variable(name, value) for name, value in arrays.items()}
        return xr.Dataset(data, attrs={"n_failed": self.n_failed})

    def __repr__(self) -> str:
        names = ", ".join(f"{n} ({describe_shape(s)})" for n, s in self.layout.shapes.items())
        failed = f", {self.n_failed:,} failed and left out" if self.n_failed else ""
        return (
            f"Simulations: {len(self):,} pairs{failed}, parameters {names}, "
            f"observation {describe_shape(self.event_shape)}"
        )


def _by_name(parameters: Any) -> dict[str, Any]:
    """A dict of a mapping, or of a table with named columns."""
    if isinstance(parameters, type) or not callable(getattr(parameters, "items", None)):
        raise TypeError(
            "parameters must be a dict of name to array, or a DataFrame, got an object of type "
            f"{type(parameters).__name__}. Name them: {{'mu': theta[:, 0], 'beta': theta[:, 1:]}}."
        )
    return dict(parameters.items())


def _rows(name: str, value: Any) -> np.ndarray:
    array = real_array(value, name)
    if array.ndim == 0:
        raise ValueError(f"{name} must have a leading axis of simulations, got a single number.")
    return array


def _check_lengths(arrays: Sequence[tuple[str, np.ndarray]]) -> None:
    if len({len(array) for _, array in arrays}) > 1:
        raise ValueError(
            "Parameters and x need the same length along their first axis, got "
            + ", ".join(f"{name}: {len(array)}" for name, array in arrays)
            + "."
        )
    for name, array in arrays:
        if not array.size:
            what = f"number, got shape {array.shape}" if len(array) else "simulation, got none"
            raise ValueError(f"{name} must hold at least one {what}.")


def _check_finite(name: str, array: np.ndarray) -> None:
    bad = ~np.isfinite(array).reshape(len(array), -1).all(-1)
    if bad.any():
        raise ValueError(
            f"{name} is not finite in {bad.sum():,} of {len(array):,} simulations (first: "
            f"row {bad.argmax()}). Leave those rows out of every array, and mind that the ratio is "
            "then that of an observation given that the simulation succeeded."
        )
