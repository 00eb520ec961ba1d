"""A step that is repeated: whole series, and what may follow on an observed one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from ...runtime.arrays import finite_array, whole_number
from ...runtime.kinds import check_kind
from ...runtime.random_streams import seed_sequence
from ..calls import call_error, name_of, observation, own
from ..joint import simulate
from ..parameters import check_reserved
from ..prediction import predict
from ..prior import Prior
from ..simulations import Simulations
from ..simulator import Simulator

__all__ = ["forecast", "simulate_series"]


@dataclass(frozen=True, eq=False)
class Repeated:
    """A simulator of series, which begin with given values and go on by a step.

    Attributes
    ----------
    step : callable
        ``step(rng, past, **parameters)``, of pasts ``(order, *event)``, latest last; if batched
        ``(n, order, *event)``.
    start : array, shape (order, *event), or callable
        The first values, or ``start(rng, **parameters)`` that draws them.
    length : int
        Values of a series, with the first.
    batched : bool
        Whether both take many draws at once.
    """

    step: Callable[..., Any]
    start: Any
    length: int
    batched: bool

    def __call__(self, rng: np.random.Generator, **parameters: Any) -> np.ndarray:
        """A series ``(length, *event)``; if batched, one for each draw."""
        lead = (len(next(iter(parameters.values()))),) if self.batched else ()
        time = len(lead)  # the axis of it
        first = self._first(rng, parameters, lead)
        order, event = first.shape[time], first.shape[time + 1 :]
        _check_length(self.length, order)
        x = np.empty((*lead, self.length, *event))
        each = (slice(None),) * time
        x[(*each, slice(order))] = first
        for t in range(order, self.length):
            past = x[(*each, slice(t - order, t))].copy()
            value = observation(self.step(rng, past=past, **own(parameters)))
            if value.shape != (*lead, *event):
                raise ValueError(
                    f"The step {name_of(self.step)} must return one value of shape "
                    f"{(*lead, *event)}, as the values of start, got shape {value.shape}."
                )
            x[(*each, t)] = value
        return x

    def _first(
        self, rng: np.random.Generator, parameters: dict[str, Any], lead: tuple[int, ...]
    ) -> np.ndarray:
        """First values ``(*lead, order, *event)``."""
        if not callable(self.start):
            return np.broadcast_to(self.start, (*lead, *self.start.shape))
        first = observation(self.start(rng, **own(parameters)))
        if first.shape[: len(lead)] != lead or first.ndim == len(lead):
            raise ValueError(
                f"start: expected {name_of(self.start)} to return the first values of a series, "
                f"shape {(*lead, 'order', '*event')}, got shape {first.shape}."
            )
        return first

    @property
    def __name__(self) -> str:
        return name_of(self.step)


def simulate_series(
    prior: Any,
    step: Callable[..., Any],
    n: int,
    *,
    start: Any,
    length: int,
    parameters: Collection[str] | None = None,
    batched: bool = False,
    executor: Executor | None = None,
    random_seed: Any = None,
    progressbar: bool = True,
) -> Simulations:
    """Draw parameters from a prior and simulate a whole series at each draw, step by step.

    Such series show which pasts there are: ``nre.transitions(series).past`` are conditions to
    simulate single steps from, by `simulate`. They are also what an embedding of whole series is
    trained on.

    Parameters
    ----------
    prior : pymc.Model or dict
        As for `simulate`.
    step : callable
        ``step(rng, past, **parameters)`` gives the next value. The past holds the last values,
        shape ``(order, *event)``: ``past[-1]`` is the latest.
    n : int
        Number of series.
    start : array, shape (order, *event), or callable
        The values that each series starts with, or ``start(rng, **parameters)`` that draws them;
        their number is the order of the series.
    length : int
        Number of values in a series, the first ones with it.
    parameters, executor, random_seed, progressbar
        As for `simulate`.
    batched : bool
        If True, step and start take up to 1,000 draws at once: parameters, pasts
        ``(n, order, *event)`` and results have a leading axis of draws.

    Returns
    -------
    Simulations
        Of observations ``(length, *event)``.

    Raises
    ------
    SimulationError, TypeError, ValueError
        As `simulate`; and ValueError if values have not the shape of those that a series starts
        with.

    Examples
    --------
    >>> import pymc as pm
    >>> import pymc_nre as nre
    >>> def step(rng, past, phi):
    ...     return rng.normal(phi * past[-1], 1.0)
    >>> prior = {"phi": pm.Uniform.dist(-0.9, 0.9)}
    >>> series = nre.simulate_series(
    ...     prior, step, 20, start=[0.0], length=50, random_seed=1, progressbar=False
    ... )
    >>> series
    Simulations: 20 pairs, parameters phi (scalar), observation shape (50,)

    Single steps, from pasts that other parameters made:

    >>> past = nre.transitions(series).past
    >>> single = nre.simulate(
    ...     prior, step, 1_000, conditions={"past": past}, random_seed=2, progressbar=False
    ... )
    >>> len(single)
    1000
    """
    known = Prior.of(prior)
    _check_step(step, known.variables)
    length, start = whole_number(length, "length", least=2), _start(start, "start")
    if callable(start):
        _check_call(start, known.variables)
    else:
        _check_length(length, len(start))
    repeated = Repeated(step, start, length, batched)
    return simulate(
        prior,
        repeated,
        n,
        parameters=parameters,
        batched=batched,
        executor=executor,
        random_seed=random_seed,
        progressbar=progressbar,
    )


def forecast(
    step: Callable[..., Any],
    past: Any,
    steps: int,
    parameters: Mapping[str, Any],
    *,
    batched: bool = False,
    random_seed: Any = None,
) -> np.ndarray:
    """Simulate a series on from its last values, at draws of the parameters.

    `pymc.sample_posterior_predictive` of a `RatioLikelihood` predicts one step ahead, from each
    observed past. This goes on from the last one, each step from what the steps before it gave.

    Parameters
    ----------
    step : callable
        ``step(rng, past, **parameters)``, as for `simulate_series`.
    past : array, shape (order, *event)
        The last values, the latest last: ``x[-order:]``.
    steps : int
        How many values to simulate.
    parameters : mapping of str to array, shape (draws, *own)
        Draws of every parameter of the step; of a posterior with its dimensions chain and draw,
        ``{"phi": idata["posterior"]["phi"]}``.
    batched : bool
        If True, the step takes all draws at once.
    random_seed : int, Generator or SeedSequence, optional

    Returns
    -------
    ndarray, shape (draws, steps, *event)
        Of a posterior ``(chain, draw, steps, *event)``.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit.

    Warns
    -----
    SimulationWarning
        If a step fails: that series is NaN.

    Examples
    --------
    >>> import pymc_nre as nre
    >>> def step(rng, past, phi):
    ...     return rng.normal(phi * past[-1], 0.1)
    >>> nre.forecast(step, [5.0], 3, {"phi": [0.5, 0.9]}, random_seed=1).round(1)
    array([[2.5, 1.3, 0.7],
           [4.4, 4. , 3.7]])
    """
    drawn, lead = _draws(parameters)
    _check_step(step, drawn)
    steps = whole_number(steps, "steps")
    past = _start(past, "past", drawn=False)
    n, event = int(np.prod(lead)), past.shape[1:]
    repeated = Simulator(Repeated(step, past, len(past) + steps, batched), batched)
    rng = np.random.default_rng(seed_sequence(random_seed))
    x = predict(repeated, rng, drawn, n, (len(past) + steps, *event))
    return x[:, len(past) :].reshape((*lead, steps, *event))


_NAMED = "Name each: {'phi': idata['posterior']['phi']}."


def _check_step(step: Any, parameters: Collection[str]) -> None:
    if not callable(step):
        raise TypeError(
            "step must be a function step(rng, past, **parameters) that gives the next value, got "
            f"{type(step).__name__}."
        )
    _check_call(step, ["past", *parameters])


def _check_call(function: Callable[..., Any], names: Collection[str]) -> None:
    error = call_error(function, names, "A step is given its past and every parameter, by name.")
    if error is not None:
        raise error


def _check_length(length: int, order: int) -> None:
    if length <= order:
        raise ValueError(
            f"length: expected more than the {order} values that a series starts with, got "
            f"{length}."
        )


def _start(start: Any, name: str, drawn: bool = True) -> Any:
    """First values ``(order, *event)``, or where they may be drawn what draws them."""
    if drawn and callable(start):
        return start
    values = finite_array(start, name)
    if values.ndim == 0 or not values.size:
        raise ValueError(
            f"{name}: expected the values that the next ones depend on, (order, *event), got "
            f"shape {values.shape}. A single value is [value]."
        )
    return values


def _draws(parameters: Mapping[str, Any]) -> tuple[dict[str, np.ndarray], tuple[int, ...]]:
    """Values ``(draws, *own)`` by name, and the shape of the draws."""
    check_kind(parameters, Mapping, "parameters", "draws by name", _NAMED)
    if not parameters:
        raise ValueError(f"parameters: expected the draws of one at least, got none. {_NAMED}")
    check_reserved(parameters)
    posterior = {name: {"chain", "draw"} <= {*_dims(v)} for name, v in parameters.items()}
    axes = 2 if any(posterior.values()) else 1
    arrays = {
        name: finite_array(
            value.transpose("chain", "draw", ...) if posterior[name] else value,
            f"parameters: {name}",
        )
        for name, value in parameters.items()
    }
    leads = {value.shape[:axes] for value in arrays.values()}
    lead = next(iter(leads))
    if len(leads) > 1 or len(lead) < axes or 0 in lead:
        raise ValueError(
            f"parameters: expected the same draws of each, one at least, in the first "
            f"{'two axes' if axes == 2 else 'axis'}, got shapes "
            f"{', '.join(f'{name}: {value.shape}' for name, value in arrays.items())}."
        )
    return {name: value.reshape(-1, *value.shape[axes:]) for name, value in arrays.items()}, lead


def _dims(value: Any) -> tuple[Any, ...]:
    return value.dims if isinstance(value, xr.DataArray) else ()
