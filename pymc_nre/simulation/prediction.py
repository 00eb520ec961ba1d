"""Observations for predictive sampling, where one that fails must not take the others with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from ..exceptions import SimulationError, SimulationWarning, warn
from .calls import FAILURES, call_error, event_shape_error, name_of, observation, observations, own
from .simulator import Simulator
from .slices import simulate_slice

__all__ = ["failures_raise", "predict"]

_raising: ContextVar[bool] = ContextVar("raising", default=False)


def predict(
    simulator: Simulator,
    rng: np.random.Generator,
    parameters: Mapping[str, np.ndarray],
    n: int,
    event_shape: tuple[int, ...],
) -> np.ndarray:
    """Observations ``(n, *event)`` for parameters ``(n, *own)``; NaN where the simulator fails.

    Raises
    ------
    TypeError
        If the simulator does not take the parameters, or returns no numbers.
    ValueError
        If observations have another shape than those that the ratio was trained on.

    Warns
    -----
    SimulationWarning
        If some are NaN or infinite.
    """
    if simulator.nuisance is not None:
        parameters = {**parameters, **simulator.nuisance.draw(rng, parameters, n)}
    x = np.full((n, *event_shape), np.nan)
    of = _of_a_block if simulator.batched else _one_by_one
    error = of(simulator, rng, parameters, x)
    failed = ~np.isfinite(x).reshape(n, -1).all(1)
    if not failed.any():
        return x
    name, kind = name_of(simulator.function), type(error).__name__
    if _raising.get():
        where = _described({k: v[failed.argmax()] for k, v in parameters.items()})
        what = f"{kind}: {error}" if error else "NaN or infinite values"
        raise SimulationError(f"The simulator {name} failed at {where}: {what}") from error
    x[failed] = np.nan
    # No number in it, so that Python shows it once and not for every draw.
    warn(
        f"The simulator {name} failed in predictive sampling "
        f"({kind if error else 'NaN or infinite values'}); these predictions are NaN. Mend it, or "
        "leave them out, and mind that the others are then those given that the simulation "
        "succeeds.",
        SimulationWarning,
    )
    return x


@contextmanager
def failures_raise() -> Iterator[None]:
    """Within it there are no holes, but a SimulationError that tells of the first."""
    token = _raising.set(True)
    try:
        yield
    finally:
        _raising.reset(token)


def _described(row: Mapping[str, Any]) -> str:
    return ", ".join(f"{k} = {np.array2string(np.asarray(v), precision=4)}" for k, v in row.items())


def _one_by_one(
    simulator: Simulator, rng: np.random.Generator, parameters: Mapping[str, np.ndarray], x: Any
) -> BaseException | None:
    """Fill x; the first error."""
    first = None
    for i in range(len(x)):
        row = own({name: values[i] for name, values in parameters.items()})
        try:
            returned = simulator.function(rng, **row)
        except FAILURES as error:
            _check_arguments(simulator.function, row)
            first = first or error
            continue
        one = observation(returned)
        if one.shape == x.shape[1:]:
            x[i] = one
        elif np.isfinite(one).all():  # NaN alone may stand for a failure
            raise event_shape_error(simulator.function, one.shape, x.shape[1:])
    return first


def _of_a_block(
    simulator: Simulator, rng: np.random.Generator, parameters: Mapping[str, np.ndarray], x: Any
) -> BaseException | None:
    try:
        returned = simulator.function(rng, **own(parameters))
    except FAILURES as error:
        _check_arguments(simulator.function, parameters)
        _in_halves(simulator, rng, parameters, x)
        return error
    block = observations(returned, len(x))
    if block.shape != x.shape:
        raise event_shape_error(simulator.function, block.shape[1:], x.shape[1:])
    x[:] = block
    return None


def _in_halves(
    simulator: Simulator, rng: np.random.Generator, parameters: Mapping[str, np.ndarray], x: Any
) -> None:
    """What of a block can be simulated, by streams that the generator tells."""
    root = (int(rng.integers(2**63)), ())
    made = simulate_slice(simulator, parameters, root, 0, len(x)).result or {}
    for shape, (rows, found) in made.items():
        if shape != x.shape[1:]:
            raise event_shape_error(simulator.function, shape, x.shape[1:])
        x[rows] = found


def _check_arguments(function: Callable[..., Any], parameters: Mapping[str, Any]) -> None:
    """Raise TypeError if a simulator is not one of these parameters at all."""
    remedy = "Pass simulator= the one that the ratio was trained with."
    error = call_error(function, parameters, remedy)
    if error is not None:
        raise error
