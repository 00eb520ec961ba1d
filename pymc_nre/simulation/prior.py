"""The training prior: draws of its parameters, and their log density.

Users write it as a `pymc.Model` whose free variables are the parameters, or as a dict of
``pm.X.dist()``. Both come down to named random variables. Parameters that the ratio is not to
see are nuisance: drawn with the others, and marginalized.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from .drawn import Drawn
from .forward import ForwardDraw, as_dtype
from .parameters import Layout, check_reserved
from .sampler import Sampler, compiling

if TYPE_CHECKING:
    from pytensor.tensor import TensorVariable

__all__ = ["Prior"]

_DRAWN_AT_ONCE = 10_000  # bounds what an interrupt can lose, and the memory of what is between
_ROUNDED = 1e-6  # that an integer may be off after it has travelled as a float
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
    # Compiled samplers that nobody draws from just now. To compile one takes longer than to draw
    # the few rows that a gradient step wants.
    _idle: list[Sampler] = field(default_factory=list, init=False, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_idle": []}

    @classmethod
    def of(cls, prior: Any, simulated: str | None = None) -> Prior:
        """The prior that a user means by a model or a dict of ``pm.X.dist()``.

        ``simulated`` names a variable of the model that is not a parameter but simulated.
        """
        import pymc as pm

        if isinstance(prior, Prior):
            return prior
        if isinstance(prior, pm.Model):
            variables = _free_variables(prior, simulated)
        elif isinstance(prior, Mapping):
            variables = dict(prior)
        else:
            raise TypeError(
                "prior must be a pymc.Model or a dict of name to pm.X.dist(...), "
                f"got {type(prior).__name__}."
            )
        _check_variables(variables)
        check_reserved(variables)
        try:
            sampler = Sampler(list(variables.values()))
            drawn = sampler.draw(1)
        except NotImplementedError as error:  # pm.Flat and its like
            raise ValueError(
                f"The prior of {', '.join(variables)} cannot be drawn from "
                f"({str(error).splitlines()[0]}). Give every parameter a proper distribution, such "
                "as pm.Uniform or pm.Normal."
            ) from error
        shapes = {name: row.shape[1:] for name, row in zip(variables, drawn, strict=True)}
        made = cls(variables, shapes)
        made._keep(sampler)
        return made

    @cached_property
    def layout(self) -> Layout:
        """How its parameters are packed; those of integer variables are integers."""
        whole = (n for n, rv in self.variables.items() if np.dtype(rv.dtype).kind in "biu")
        return Layout(dict(self.shapes), frozenset(whole))

    def draw(self, n: int, random_seed: Any) -> dict[str, np.ndarray]:
        """``n`` joint draws; arrays ``(n, *own)``."""
        return Drawn(n, self.blocks(n, random_seed)).rows(0, n)

    def blocks(self, n: int, random_seed: Any) -> Iterator[dict[str, np.ndarray]]:
        """The same draws in blocks, with the numbers that `pymc.draw` gives."""
        from pymc.pytensorf import reseed_rngs

        with self._sampler() as sampler:
            reseed_rngs(sampler.streams_as_drawn, _as_pymc_takes(random_seed))
            for start in range(0, n, _DRAWN_AT_ONCE):
                drawn = sampler.draw(min(_DRAWN_AT_ONCE, n - start))
                yield dict(zip(self.variables, drawn, strict=True))

    @contextmanager
    def _sampler(self) -> Iterator[Sampler]:
        """One for this thread alone; it is kept for the next draws."""
        try:
            sampler = self._idle.pop()
        except IndexError:
            sampler = Sampler(list(self.variables.values()))
        try:
            yield sampler
        finally:  # also where those who draw want no more
            self._keep(sampler)

    def _keep(self, sampler: Sampler) -> None:
        if not self.holds_data:  # what it has tried could be otherwise with other data
            self._idle.append(sampler)

    def given(self, names: Collection[str]) -> ForwardDraw | None:
        """Draws of the other variables given those named; None if there are none."""
        others = {name: rv for name, rv in self.variables.items() if name not in names}
        return (
            ForwardDraw(others, {name: self.variables[name] for name in names}) if others else None
        )

    def levels(self) -> list[Prior]:
        """Of variables that depend on no others, of these and what depends on them, ... of all."""
        from pytensor.graph.traversal import ancestors

        above = {name: set(ancestors([rv])) for name, rv in self.variables.items()}
        depths = {n: len(above[n].intersection(self.variables.values())) for n in self.variables}
        groups = [[n for n in depths if depths[n] <= most] for most in sorted({*depths.values()})]
        return [
            Prior({n: self.variables[n] for n in names}, {n: self.shapes[n] for n in names})
            for names in groups
        ]

    def marginal(self, names: Collection[str]) -> Prior | None:
        """The prior of the variables named; None if its density would take an integral."""
        from pytensor.graph.traversal import ancestors

        others = {rv for name, rv in self.variables.items() if name not in names}
        kept = {name: self.variables[name] for name in names}
        if others.intersection(ancestors(kept.values())):
            return None
        prior = Prior(kept, {name: self.shapes[name] for name in names})
        return prior if prior.has_density else None

    @property
    def has_density(self) -> bool:
        """Whether PyMC knows the joint density, and it needs no integral over nameless parents."""
        from pymc.pytensorf import rvs_in_graph

        try:
            with compiling():
                terms = self._log_densities()[1]
        except (NotImplementedError, RuntimeError):  # PyMC has none, or cannot derive it
            return False
        return not rvs_in_graph(list(terms.values()))

    @cached_property  # asked after each draw
    def holds_data(self) -> bool:
        """Whether it depends on `pymc.Data`, which users set to others between draws."""
        from pytensor.compile.sharedvalue import SharedVariable
        from pytensor.graph.traversal import ancestors
        from pytensor.tensor.random.type import RandomType

        return any(
            isinstance(each, SharedVariable) and not isinstance(each.type, RandomType)
            for each in ancestors(self.variables.values())
        )

    def _log_densities(self) -> tuple[dict[str, Any], dict[Any, Any]]:
        """Symbolic values by name, and a term for each."""
        from pymc.logprob.basic import conditional_logp

        values = {name: rv.type(name) for name, rv in self.variables.items()}
        replaced = {rv: values[name] for name, rv in self.variables.items()}
        return values, conditional_logp(replaced, warn_rvs=False)

    def log_density(self, parameters: Mapping[str, np.ndarray]) -> np.ndarray:
        """Joint log density ``(n,)`` of parameters ``(n, *own)``, on their own scale.

        The density is with respect to the parameters as the user wrote them: PyMC's
        unconstraining transforms and their Jacobians play no part.
        """
        return self.log_density_function()(parameters)

    def log_density_function(self) -> Callable[[Mapping[str, np.ndarray]], np.ndarray]:
        """What `log_density` does, compiled once for many calls."""
        import pymc as pm
        import pytensor
        from pytensor.compile.mode import get_mode
        from pytensor.graph.replace import vectorize_graph

        with compiling():
            values, terms = self._log_densities()
        single = _zero_where_impossible(sum(term.sum() for term in terms.values()))
        rows = {name: _with_leading_axis(value) for name, value in values.items()}
        joint = vectorize_graph(single, {values[name]: row for name, row in rows.items()})
        # Compiled by PyTensor's Python linker: a graph for few calls, on long arrays. Without the
        # rewrite a normal of several numbers takes a call for each row, six times as long.
        mode = get_mode("FAST_COMPILE").including("batched_vector_b_solve_to_matrix_b_solve")
        # No model of the user's, whose bounds may go unchecked.
        with compiling(), pm.Model(model=None):
            density = pytensor.function(list(rows.values()), joint, mode=mode)

        def evaluate(parameters: Mapping[str, np.ndarray]) -> np.ndarray:
            arrays = [as_dtype(parameters[k], np.dtype(row.dtype)) for k, row in rows.items()]
            starts = range(0, len(arrays[0]), _DENSITY_CHUNK)
            chunks = (slice(start, start + _DENSITY_CHUNK) for start in starts)
            found = np.concatenate(
                [density(*(array[chunk] for array in arrays)) for chunk in chunks]
            )
            for name, array in zip(rows, arrays, strict=True):
                if array.dtype.kind in "iu":  # no other value than a whole number is possible
                    off = np.abs(array - parameters[name]).reshape(len(array), -1) > _ROUNDED
                    found[off.any(1)] = -np.inf
            return found

        return evaluate


def _as_pymc_takes(random_seed: Any) -> Any:
    """The seed that `pymc.draw` makes of one."""
    if isinstance(random_seed, np.random.Generator):
        return int(random_seed.integers(2**30, dtype=np.int64, size=1)[0])
    return random_seed


def _free_variables(model: Any, simulated: str | None) -> dict[str, Any]:
    others = [v.name for v in [*model.observed_RVs, *model.potentials] if v.name != simulated]
    if others:
        extra = ", ".join(others)
        raise ValueError(
            "The training prior must consist of free variables only: draws come from the prior "
            f"alone and would ignore the observed variables and potentials {extra}. Leave them out."
        )
    return {variable.name: variable for variable in model.free_RVs if variable.name != simulated}


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


def _zero_where_impossible(log_density: Any) -> Any:
    """The same, and a density of zero where a distribution has impossible parameters.

    As a scale below zero, which PyMC takes for an error. Of a single draw: of many at once one
    would make the densities of all zero.
    """
    from pymc.logprob.utils import local_check_parameter_to_ninf_switch
    from pytensor.graph.fg import FunctionGraph
    from pytensor.graph.rewriting.basic import WalkingGraphRewriter

    graph = FunctionGraph(outputs=[log_density], clone=False)
    WalkingGraphRewriter(local_check_parameter_to_ninf_switch).rewrite(graph)
    return graph.outputs[0]


def _with_leading_axis(value: Any) -> Any:
    from pytensor.tensor import TensorType

    return TensorType(value.dtype, (None, *value.type.shape))(value.name)
