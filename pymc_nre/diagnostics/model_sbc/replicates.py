"""Data sets of a model's own making, and the model with any of them in the place of its data.

Parameters are drawn from the model's prior and data from its likelihoods, each data set with the
shape of the model's own: a `RatioLikelihood` calls its simulator, other observed variables draw
from their distribution. The data enter a copy of the model as shared variables, so that what is
compiled for one data set serves all of them. The model itself stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pymc as pm
import pytensor
from pymc.distributions.distribution import PartialObservedRV
from pymc.variational.minibatch_rv import MinibatchRandomVariable
from pytensor.compile.mode import Mode

from ...estimators.checks import warn_if_of_any_data
from ...exceptions import CannotDrawError
from ...likelihood.model_parameters import parameters_of, ratios_of
from ...likelihood.random_variable import RatioLikelihoodRV
from ...ops.prior_check import packed_rows
from ...simulation.forward import ForwardDraw
from ...simulation.parameters import Layout
from ...simulation.prediction import failures_raise

__all__ = ["Replicate", "Replicates", "data_name"]

_LOOKED_AT = 500  # draws of the prior, of a model whose ratio was made for one data set
_BACK = "back::"  # a free variable, transformed and back


def data_name(observed: str) -> str:
    """Name of the shared variable that holds the data of an observed variable."""
    return f"replicate::{observed}"


@dataclass(frozen=True)
class Replicate:
    """True values, packed ``(P,)``, and the data drawn at them, by observed variable."""

    truth: np.ndarray
    data: Mapping[str, np.ndarray]


class Replicates:
    """Draws from a model's prior and likelihoods, and the model that takes them as data.

    Parameters
    ----------
    model : pymc.Model
    var_names : sequence of str, optional
        Free variables and deterministics whose values count; by default all free variables.

    Attributes
    ----------
    model : pymc.Model
        A copy, whose data are shared variables with names by `data_name`.
    layout : Layout
        Names and shapes of the variables that count.
    ratios : tuple of str
        Digests of the ratios in the model.

    Raises
    ------
    CannotDrawError
        If data sets of the model cannot be drawn, or would not be of its prior.
    """

    def __init__(self, model: pm.Model, var_names: Sequence[str] | None) -> None:
        names = _checked_names(model, var_names)
        _check(model)
        _warn_if_of_any_data(model)
        self.ratios = tuple(op.ratio.digest for _, op in _ratios(model))
        self.model = _with_shared_data(model)
        self.layout = Layout(self._shapes(names))
        outputs = {name: self.model[name] for name in names}
        outputs |= {rv.name: rv for rv in self.model.observed_RVs}
        outputs |= {_BACK + rv.name: back for rv, back in _round_trips(self.model).items()}
        outputs |= {rv.name: rv for rv in _round_trips(self.model)}
        self._forward = ForwardDraw(outputs, {})

    def draw(self, rng: np.random.Generator) -> Replicate:
        """One data set, with the values that it was drawn at.

        Raises
        ------
        CannotDrawError
            If data have another shape than the model's own, or the prior reaches where the
            model cannot.
        ValueError
            If these data have holes.
        """
        # A value that does not survive its transform is found below.
        with np.errstate(all="ignore"), failures_raise():
            drawn = {name: value[0] for name, value in self._forward.draw(rng, {}, 1).items()}
        for name in drawn:
            if name.startswith(_BACK) and np.isnan(drawn[name]).any():
                raise _truncated(name.removeprefix(_BACK))
        data = {}
        for rv in self.model.observed_RVs:
            data[rv.name] = self._checked(rv, drawn[rv.name])
        return Replicate(self.layout.pack({n: drawn[n] for n in self.layout.shapes}), data)

    def _checked(self, rv: Any, values: np.ndarray) -> np.ndarray:
        own = self.model.rvs_to_values[rv].get_value(borrow=True).shape
        if values.shape != own:
            raise CannotDrawError(
                f"{rv.name}: data drawn from the model have shape {values.shape}, and its own "
                f"{own}. Give parameters that broadcast to the data."
            )
        if not np.isfinite(values).all():
            raise ValueError(f"{rv.name}: data drawn from the model have NaN or infinite values.")
        return values.astype(rv.type.dtype)

    def _shapes(self, names: Sequence[str]) -> dict[str, tuple[int, ...]]:
        """Without a simulation: only what is drawn before the data."""
        try:
            drawn = ForwardDraw({name: self.model[name] for name in names}, {}).draw(
                np.random.default_rng(0), {}, 1
            )
        except NotImplementedError as error:
            raise CannotDrawError(
                "sbc_model draws from the model's prior, which is not possible for all of its "
                f"variables ({str(error).splitlines()[0]}). Give them proper priors (for "
                "pm.CustomDist: random=)."
            ) from error
        return {name: drawn[name].shape[1:] for name in names}


def _checked_names(model: pm.Model, var_names: Sequence[str] | None) -> list[str]:
    free = [rv.name for rv in model.free_RVs]
    known = free + [variable.name for variable in model.deterministics]
    names = free if var_names is None else [var_names] if isinstance(var_names, str) else var_names
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise ValueError(
            f"var_names must be free variables or deterministics of the model, {', '.join(known)}; "
            f"got {', '.join(map(str, unknown)) or 'none'}."
        )
    return list(names)


def _check(model: pm.Model) -> None:
    """Raise CannotDrawError unless forward draws of the model are draws of its joint density."""
    if not model.observed_RVs:
        raise CannotDrawError(
            "sbc_model needs a model with data. Pass observed= to its likelihoods."
        )
    if model.potentials:
        raise CannotDrawError(
            "sbc_model cannot draw from a model with potentials: they are part of its density and "
            f"not of its draws ({', '.join(p.name for p in model.potentials)}). Write likelihoods "
            "as RatioLikelihood or pm.CustomDist, and priors as distributions."
        )
    for rv in model.basic_RVs:
        if isinstance(rv.owner.op, MinibatchRandomVariable):
            raise CannotDrawError(
                f"{rv.name}: sbc_model cannot use total_size=, for a minibatch stands for data "
                "that were not drawn. Give the model all data, or fewer without total_size=."
            )
        if isinstance(rv.owner.op, PartialObservedRV):
            raise CannotDrawError(
                f"{rv.name}: sbc_model cannot use data with missing values. Leave them out."
            )
    for name, op in _ratios(model):
        if op.simulator is None:
            raise CannotDrawError(
                f"{name}: sbc_model needs the simulator, which is not saved with a ratio. Pass "
                "RatioLikelihood(..., simulator=simulator) or nre.load(path, simulator=simulator)."
            )


def _warn_if_of_any_data(model: pm.Model) -> None:
    """Warn if a ratio was made for one data set, and the prior makes others likely."""
    for name, ratio in ratios_of(model).items():
        if ratio.observed is not None:
            given = parameters_of(model[name])
            drawn = pm.draw(given, _LOOKED_AT, random_seed=0, mode="FAST_COMPILE")
            theta = packed_rows(ratio, drawn).reshape(-1, ratio.layout.size)
            warn_if_of_any_data(ratio, theta, f"sbc_model: {name}")


def _ratios(model: pm.Model) -> Iterator[tuple[str, RatioLikelihoodRV]]:
    """The ratios among the likelihoods of a model, within a `pymc.CustomDist` too."""
    for rv in model.observed_RVs:
        inner = getattr(rv.owner.op, "fgraph", None)
        nodes = [rv.owner] if inner is None else [rv.owner, *inner.toposort()]
        for node in nodes:
            if isinstance(node.op, RatioLikelihoodRV):
                yield rv.name, node.op


def _with_shared_data(model: pm.Model) -> pm.Model:
    """A copy of the model whose data are shared variables, with its own data in them."""
    initial = {rv.name: value for rv, value in model.rvs_to_initial_values.items()}
    if any(isinstance(value, pytensor.graph.Variable) for value in initial.values()):
        raise CannotDrawError(
            "sbc_model cannot use symbolic initval=. Give numbers, or leave it out."
        )
    copy = pm.observe(
        _without_initial_values(model), {rv.name: _shared(model, rv) for rv in model.observed_RVs}
    )
    for rv in copy.free_RVs:
        copy.rvs_to_initial_values[rv] = initial[rv.name]
    return copy


def _without_initial_values(model: pm.Model) -> pm.Model:
    """A view of the same model: PyMC copies no model that has initial values."""
    view = object.__new__(type(model))
    view.__dict__.update(model.__dict__)
    view.rvs_to_initial_values = dict.fromkeys(model.rvs_to_initial_values)
    return view


def _shared(model: pm.Model, rv: Any) -> Any:
    """The data of an observed variable, where they can be replaced."""
    # The linker without any compiler: this is evaluated once.
    own = model.rvs_to_values[rv].eval(mode=Mode(linker="py", optimizer="fast_compile"))
    own = np.array(own, dtype=rv.type.dtype)
    return pytensor.shared(own, name=data_name(rv.name), shape=rv.type.shape)


def _round_trips(model: pm.Model) -> dict[Any, Any]:
    """Free variables, transformed and back: NaN where a transform cannot reach a draw."""
    transformed = {rv: model.rvs_to_transforms[rv] for rv in model.free_RVs}
    return {
        rv: transform.backward(transform.forward(rv, *rv.owner.inputs), *rv.owner.inputs)
        for rv, transform in transformed.items()
        if transform is not None
    }


def _truncated(name: str) -> CannotDrawError:
    return CannotDrawError(
        f"{name}: the model's prior draws values that its sampler cannot reach, for its transform "
        "cuts them off (as transforms.ordered does). Ranks among draws would not be uniform. "
        "Write the prior as a distribution that has the bounds or the order itself."
    )
