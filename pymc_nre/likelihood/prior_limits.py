"""How far the prior of a model lets the parameters of its ratio go, whatever expressions they are.

Every free variable has coordinates without bounds, in which PyMC samples it. Draws are moved in
those along differences of other draws, ever farther: where the prior ends the parameters stop,
where it goes on they follow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import numpy as np
import pymc as pm
import pytensor
import xarray as xr
from pymc.logprob.utils import ParameterValueError

from ..estimators.estimator import RatioEstimator
from ..ops.prior_check import packed_rows
from .model_parameters import columns_of, expressions_of, of_free_variables

__all__ = ["PriorLimits"]

_MANY, _FEW = (4, 12), (1, 3)  # draws to start from, and directions from each
_OPTIONS = {"mode": "FAST_COMPILE", "on_unused_input": "ignore"}
_IMPOSSIBLE = (ParameterValueError, np.linalg.LinAlgError)  # as where a scale has come to zero
_LENGTHS = 2.0 ** np.arange(13)  # of differences of draws: up to four thousand times


class PriorLimits:
    """Parameters that are possible under the prior of a model, near and far from its draws.

    Parameters
    ----------
    posterior : xarray.Dataset
        With the free variables of the model.
    ratio : RatioEstimator
    model : pymc.Model
    """

    def __init__(self, posterior: xr.Dataset, ratio: RatioEstimator, model: pm.Model) -> None:
        self._posterior, self._ratio, self._model = posterior, ratio, model
        self._values = [model.rvs_to_values[rv] for rv in model.free_RVs]

    @cached_property
    def _functions(self) -> tuple[Callable[..., Any], Callable[..., Any]]:
        """Of values without bounds: the log prior, and the parameters of all likelihoods."""
        model = self._model
        graphs = [
            graph
            for parameters in expressions_of(model, self._ratio)
            for graph in model.replace_rvs_by_values(parameters)
        ]
        density = model.logp(vars=model.free_RVs, jacobian=False)
        return tuple(pytensor.function(self._values, of, **_OPTIONS) for of in (density, graphs))

    def around(self, draws: np.ndarray, many: bool = True) -> Iterator[np.ndarray]:
        """Rows of packed parameters ``(rows, D)``, from places around draws of those numbers."""
        starts, directions = _MANY if many else _FEW
        rng = np.random.default_rng(int(draws[0]))  # others for each
        for start in map(self._draw, draws[:starts]):
            for pair in rng.integers(len(draws), size=(directions, 2)):
                one, other = map(self._draw, pair)
                for length in np.outer(_LENGTHS, (1, -1)).ravel():
                    ends = zip(start, one, other, strict=True)
                    rows = self._at([u + length * (v - w) for u, v, w in ends])
                    if rows is not None:
                        yield rows

    def _draw(self, number: int) -> list[np.ndarray]:
        """A draw of each free variable, in the coordinates in which PyMC samples it."""
        return self._without_bounds(*(column[number] for column in self._columns))

    @cached_property
    def _columns(self) -> list[np.ndarray]:
        return columns_of(self._posterior, [rv.name for rv in self._model.free_RVs])

    @cached_property
    def _without_bounds(self) -> Callable[..., list[np.ndarray]]:
        model = self._model
        moved = [_moved(rv, model.rvs_to_transforms[rv]) for rv in model.free_RVs]
        return of_free_variables(model, moved)

    def _at(self, point: list[np.ndarray]) -> np.ndarray | None:
        """Packed parameters ``(rows, D)``; None where the prior has no mass."""
        given = [
            np.rint(u).astype(value.dtype) if value.dtype.startswith(("int", "uint")) else u
            for u, value in zip(point, self._values, strict=True)
        ]
        with np.errstate(all="ignore"):
            log_prior, parameters = self._functions
            try:
                if not np.isfinite(log_prior(*given)):
                    return None
                found = parameters(*given)
            except _IMPOSSIBLE:
                return None
        size = len(self._ratio.parameters)
        parts = [found[i : i + size] for i in range(0, len(found), size)]
        rows = [
            packed_rows(self._ratio, part).reshape(-1, self._ratio.layout.size) for part in parts
        ]
        return np.concatenate(rows)


def _moved(rv: Any, transform: Any) -> Any:
    return rv * 1 if transform is None else transform.forward(rv, *rv.owner.inputs)
