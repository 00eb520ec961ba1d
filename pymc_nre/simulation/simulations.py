"""Simulations: parameters, observations, and what is known of the prior they came from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from .parameters import Layout, check_reserved, describe_shape, is_integer
from .prior import Prior
from .simulator import Simulator, as_simulator

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Simulations"]


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
