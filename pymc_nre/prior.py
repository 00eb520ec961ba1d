"""The training prior: draws of its parameters, and their log density.

Users write it as a `pymc.Model` whose free variables are the parameters, or as a dict of
``pm.X.dist()``. Both come down to named random variables.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .data import check_reserved

if TYPE_CHECKING:
    from pytensor.tensor import TensorVariable

__all__ = ["Prior"]

_DENSITY_CHUNK = 20_000  # rows evaluated at once: bounds the memory of intermediate arrays


@dataclass(frozen=True, eq=False)
class Prior:
    """Named random variables to draw from jointly.

    Attributes
    ----------
    variables : dict of str to TensorVariable
        The free random variables, by name.
    shapes : dict of str to tuple of int
        Their shapes.
    """

    variables: dict[str, TensorVariable]
    shapes: dict[str, tuple[int, ...]]

    @classmethod
    def of(cls, prior: Any) -> Prior:
        """The prior that a user means by a model or a dict of ``pm.X.dist()``."""
        import pymc as pm

        if isinstance(prior, pm.Model):
            variables = _free_variables(prior)
        elif isinstance(prior, Mapping):
            variables = dict(prior)
        else:
            raise TypeError(
                "prior must be a pymc.Model or a dict of name to pm.X.dist(...), "
                f"got {type(prior).__name__}."
            )
        _check_variables(variables)
        check_reserved(variables)
        drawn = pm.draw(list(variables.values()), random_seed=0, mode="FAST_COMPILE")
        shapes = {name: np.shape(value) for name, value in zip(variables, drawn, strict=True)}
        return cls(variables, shapes)

    def draw(self, n: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """``n`` joint draws; arrays ``(n, *own)``."""
        import pymc as pm

        draws = pm.draw(list(self.variables.values()), draws=n, random_seed=rng)
        # A single draw comes back without the leading axis.
        return {
            name: np.reshape(draw, (n, *self.shapes[name]))
            for name, draw in zip(self.variables, draws, strict=True)
        }

    def log_density(self, parameters: Mapping[str, np.ndarray]) -> np.ndarray:
        """Joint log density ``(n,)`` of parameters ``(n, *own)``, on their own scale.

        The density is with respect to the parameters as the user wrote them: PyMC's
        unconstraining transforms and their Jacobians play no part.
        """
        import pymc as pm
        import pytensor
        from pymc.logprob.basic import conditional_logp
        from pytensor.graph.replace import vectorize_graph

        values = {name: rv.type(name) for name, rv in self.variables.items()}
        terms = conditional_logp({rv: values[name] for name, rv in self.variables.items()})
        single = sum(term.sum() for term in terms.values())
        rows = {name: _with_leading_axis(value) for name, value in values.items()}
        joint = vectorize_graph(single, {values[name]: row for name, row in rows.items()})
        # Compiled by PyTensor's Python linker: a graph that is used once, on long arrays.
        with pm.Model():  # outside of any model of the user's, so that bounds are checked
            density = pytensor.function(list(rows.values()), joint, mode="FAST_COMPILE")
        n = len(next(iter(parameters.values())))
        chunks = (slice(start, start + _DENSITY_CHUNK) for start in range(0, n, _DENSITY_CHUNK))
        arrays = [
            np.asarray(parameters[name]).astype(row.dtype, copy=False) for name, row in rows.items()
        ]
        return np.concatenate([density(*(array[chunk] for array in arrays)) for chunk in chunks])


def _free_variables(model: Any) -> dict[str, Any]:
    if model.observed_RVs or model.potentials:
        extra = ", ".join(v.name for v in [*model.observed_RVs, *model.potentials])
        raise ValueError(
            "The training prior must consist of free variables only: draws come from the prior "
            f"alone and would ignore the observed variables and potentials {extra}. Leave them out."
        )
    return {variable.name: variable for variable in model.free_RVs}


def _check_variables(variables: Mapping[str, Any]) -> None:
    from pytensor.tensor import TensorVariable

    if not variables:
        raise ValueError(
            "The prior has no free variables, so there is nothing to infer. Give each parameter a "
            "distribution, e.g. pm.Uniform('mu', -10, 10)."
        )
    for name, variable in variables.items():
        if not isinstance(variable, TensorVariable) or variable.owner is None:
            raise TypeError(
                f"Parameter {name!r} of the prior must be a PyMC distribution such as "
                f"pm.Normal.dist(0, 1), got {type(variable).__name__}."
            )


def _with_leading_axis(value: Any) -> Any:
    from pytensor.tensor import TensorType

    return TensorType(value.dtype, (None, *value.type.shape))(value.name)
