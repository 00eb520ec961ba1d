r"""A ratio where a likelihood would stand: `RatioLikelihood` and `log_ratio`.

Both give one log ratio for each observation. The log-likelihood of the data is their sum up
to a constant in the parameters, which no sampler notices.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numba
import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
from pymc.distributions.shape_utils import _change_dist_size, change_rv_size
from pymc.distributions.transforms import _default_transform
from pymc.logprob.abstract import _logprob
from pytensor.graph.basic import Apply
from pytensor.link.numba.dispatch.basic import get_numba_type, numba_njit
from pytensor.link.numba.dispatch.random import numba_core_rv_funcify
from pytensor.tensor import TensorVariable
from pytensor.tensor.random.op import RandomVariable

from ..estimators.estimator import RatioEstimator
from ..ops.engines import as_data, as_rows, check_engine, log_ratios
from ..ops.guards import (
    check_observed,
    check_outside,
    refusal,
    warn_if_many_trials,
    warn_if_prior_leaves,
)
from ..simulation.parameters import check_event_shape, check_own_shape
from ..simulation.prediction import predict
from ..simulation.simulator import Simulator, as_simulator

__all__ = ["RatioLikelihood", "log_ratio"]


def log_ratio(
    ratio: RatioEstimator,
    x: Any,
    /,
    *,
    outside: str = "reject",
    engine: str = "auto",
    precision: str = "double",
    **parameters: Any,
) -> TensorVariable:
    r"""Log ratios of observations as a symbolic tensor, one entry for each.

    For use in a potential: ``pm.Potential("x", nre.log_ratio(ratio, x, mu=mu).sum())``.
    `RatioLikelihood` does more (pointwise log-likelihoods, predictive sampling, data checks).

    Parameters
    ----------
    ratio : RatioEstimator
    x : array or tensor, shape (*batch, *event)
        Observations.
    outside : {"reject", "warn", "ignore"}
        What to do about parameters outside the training domain: ``"reject"`` them with a log
        ratio of minus infinity, or extrapolate. Both ``"reject"`` and ``"warn"`` warn here if
        the prior of the parameters reaches outside.
    engine : {"auto", "compiled", "torch"}
        What evaluates the network: compiled code, which takes `MLP` and `ResidualMLP`, or
        torch, which takes any. ``"auto"`` takes the first where it can.
    precision : {"double", "single"}
        Of compiled code. Single is faster for many observations; their log ratios are then
        good to about 1e-6 each.
    **parameters : array or tensor, shape (*batch, *own)
        Every parameter of the ratio, by name, broadcast against the observations.

    Returns
    -------
    TensorVariable, shape (*batch,)

    Raises
    ------
    TypeError
        If a parameter is missing or unknown.
    ValueError
        If a shape does not fit.

    Examples
    --------
    >>> import pymc as pm
    >>> import pymc_nre as nre
    >>> ratio = nre.tasks.GaussianMean().estimator()
    >>> with pm.Model():
    ...     mu = pm.Normal("mu", 0, 3)
    ...     x = pm.Potential("x", nre.log_ratio(ratio, [0.1, 0.9, 0.4], mu=mu).sum())
    """
    _check_ratio(ratio, "log_ratio")
    check_outside(outside)
    check_engine(engine, precision, ratio)
    tensors = _as_parameters(ratio, parameters, "log_ratio")
    warn_if_prior_leaves("log_ratio", ratio, tensors, outside)
    options = {"reject": outside == "reject", "engine": engine, "precision": precision}
    return _log_ratio(ratio, pt.as_tensor_variable(x), tensors, **options)


class _Observations(TensorVariable):
    """Draws whose shape is known without drawing them, which would run the simulator.

    `pymc.model_to_graphviz` evaluates shapes without the rewrites that see to this elsewhere.
    """

    @property
    def shape(self) -> TensorVariable:
        if self.owner is None or None not in self.type.shape:
            return super().shape
        _, size, *parameters = self.owner.inputs
        return pt.stack(self.owner.op._infer_shape(size, parameters))


class RatioLikelihoodRV(RandomVariable):
    """A random variable whose density in the parameters is a ratio, drawn by a simulator."""

    name = "RatioLikelihood"
    dtype = "floatX"
    __props__ = (
        *("name", "signature", "dtype", "inplace"),
        *("ratio", "simulator", "reject", "engine", "precision"),
    )
    _print_name = ("RatioLikelihood", "\\operatorname{RatioLikelihood}")

    def __init__(
        self,
        *,
        ratio: RatioEstimator,
        simulator: Simulator | None,
        reject: bool,
        engine: str,
        precision: str,
        **props: Any,
    ) -> None:
        self.ratio, self.simulator, self.reject = ratio, simulator, reject
        self.engine, self.precision = engine, precision
        super().__init__(**props)

    def __str__(self) -> str:
        return f"{self.name}_rv{{{', '.join(self.ratio.parameters)}}}"

    def make_node(self, *arguments: Any, **options: Any) -> Apply:
        node = super().make_node(*arguments, **options)
        rng, draws = (output.type for output in node.outputs)
        return Apply(node.op, node.inputs, [rng(), _Observations(draws, None)])

    def rng_fn(self, rng: np.random.Generator, *arguments: Any) -> np.ndarray:
        """Simulate; arguments are the parameters in order, then the size."""
        *parameters, size = arguments
        if self.simulator is None:
            raise ValueError(
                "Predictive sampling needs the simulator, which is not saved with a ratio. Pass "
                "RatioLikelihood(..., simulator=simulator) or nre.load(path, simulator=simulator)."
            )
        theta = self.ratio.layout.pack(
            dict(zip(self.ratio.layout.shapes, parameters, strict=True)), "RatioLikelihood"
        )
        batch = theta.shape[:-1] if size is None else tuple(size)
        rows = np.broadcast_to(theta, (*batch, theta.shape[-1])).reshape(-1, theta.shape[-1])
        named, event = self.ratio.layout.unpack(rows), self.ratio.event_shape
        return predict(self.simulator, rng, named, len(rows), event).reshape((*batch, *event))


@numba_core_rv_funcify.register(RatioLikelihoodRV)
def _numba_draw(op: RatioLikelihoodRV, node: Any) -> tuple[Any, None]:
    """One observation at a time, from Python, where the simulator is; not cached (key None)."""
    core_type = numba.float64
    if op.ndim_supp:
        core_type = get_numba_type(pt.TensorType("float64", shape=(None,) * op.ndim_supp))

    def simulate(rng: Any, parameters: tuple[Any, ...]) -> Any:
        observation = op.rng_fn(rng, *parameters, None)
        return observation if op.ndim_supp else float(observation)

    @numba_njit
    def draw(rng: Any, *parameters: Any) -> Any:
        with numba.objmode(observation=core_type):
            observation = simulate(rng, parameters)
        return observation  # noqa: RET504  # objmode blocks cannot return

    return draw, None


@_logprob.register(RatioLikelihoodRV)
def _ratio_logprob(
    op: RatioLikelihoodRV, values: Any, rng: Any, size: Any, *parameters: Any, **kwargs: Any
) -> TensorVariable:
    """Unsummed: `pm.compute_log_likelihood` and LOO need one value for each observation."""
    [value] = values
    named = dict(zip(op.ratio.layout.shapes, parameters, strict=True))
    options = {"reject": op.reject, "engine": op.engine, "precision": op.precision}
    return _log_ratio(op.ratio, value, named, **options)


@_default_transform.register(RatioLikelihoodRV)
def _refuse_to_be_free(op: RatioLikelihoodRV, rv: TensorVariable) -> None:
    """Models ask for the transform of their free variables only."""
    raise refusal(rv.name or "RatioLikelihood", "must be observed", "Pass observed=data")


@_change_dist_size.register(RatioLikelihoodRV)
def _refuse_to_be_nested(
    op: RatioLikelihoodRV, rv: TensorVariable, new_size: Any, expand: bool = False
) -> TensorVariable:
    """Mixtures, censoring and truncation resize what they hold; predictions expand it."""
    if expand:
        return change_rv_size(op, rv, new_size, expand)
    raise refusal(
        "RatioLikelihood",
        "cannot be part of a mixture, a truncated or censored distribution or a time series",
        "Let the simulator do it, and train on that. Mixtures within one ratio are the log of "
        "the sum of w * exp(log_ratio(...)), in a pm.Potential or as logp of a pm.CustomDist",
    )


class RatioLikelihood(pm.Distribution):
    r"""Observations of a simulator, with a ratio in place of their likelihood.

    .. math:: \log p(x \mid \theta) = \textstyle\sum_i \log r(\theta_i, x_i) + \text{const}

    It is written as any other observed distribution, and broadcasts as one: each parameter
    is shared by all observations or given one by one (hierarchies, regressions, plates).
    It is a likelihood in :math:`\theta` only, not a density in x: it must be observed,
    takes no missing values, and its value compares with other values of the same ratio only.

    Parameters
    ----------
    name : str
        Name of the variable.
    ratio : RatioEstimator
        From `pymc_nre.train` or `pymc_nre.load`.
    observed : array or tensor, shape (*batch, *event)
        The data; a `pymc.Data` variable may later be replaced.
    dims : str or tuple of str, optional
        Names of the axes of ``observed``.
    total_size : int, optional
        Size of the whole data set when ``observed`` is a minibatch.
    simulator : Simulator or callable, optional
        For predictive sampling; by default the one attached to the ratio.
    outside : {"reject", "warn", "ignore"}
        What to do about parameters outside the training domain: ``"reject"`` them with a
        log-likelihood of minus infinity, or extrapolate, which can make modes that are not
        there. Both ``"reject"`` and ``"warn"`` warn here if the prior reaches outside.
    engine : {"auto", "compiled", "torch"}
        What evaluates the network: compiled code, which takes `MLP` and `ResidualMLP`, or
        torch, which takes any. ``"auto"`` takes the first where it can.
    precision : {"double", "single"}
        Of compiled code. Single is faster for many observations; their log ratios are then
        good to about 1e-6 each.
    **parameters : array or tensor, shape (*batch, *own)
        Every parameter of the ratio, by name.

    Raises
    ------
    TypeError
        If a parameter is missing or unknown.
    ValueError
        If data are missing, NaN or masked, or a shape does not fit.

    Warns
    -----
    DomainWarning
        If the prior of the parameters reaches outside the training domain.
    TrialsWarning
        If more observations share their parameters than ``ratio.budget`` allows.

    Examples
    --------
    >>> import pymc as pm
    >>> import pymc_nre as nre
    >>> ratio = nre.tasks.GaussianMean().estimator()
    >>> with pm.Model() as model:
    ...     mu = pm.Normal("mu", 0, 2)
    ...     x = nre.RatioLikelihood("x", ratio, mu=mu, observed=[0.3, -0.2, 1.1])
    >>> round(float(model.compile_logp()({"mu": 0.5})), 3)
    4.142
    """

    rv_type = RatioLikelihoodRV

    def __new__(  # type: ignore[misc]  # noqa: D102  # PyMC's return the variable they make
        cls,
        name: str,
        ratio: RatioEstimator,
        /,
        *,
        observed: Any = None,
        dims: Any = None,
        total_size: Any = None,
        simulator: Simulator | Callable[..., Any] | None = None,
        outside: str = "reject",
        engine: str = "auto",
        precision: str = "double",
        **parameters: Any,
    ) -> TensorVariable:
        _check_ratio(ratio, name)
        observed = check_observed(name, ratio, observed)
        tensors = _as_parameters(ratio, parameters, name)
        variable = super().__new__(
            cls,
            name,
            ratio,
            observed=observed,
            dims=dims,
            total_size=total_size,
            simulator=simulator,
            outside=outside,
            engine=engine,
            precision=precision,
            **tensors,
        )
        warn_if_prior_leaves(name, ratio, tensors, outside)
        warn_if_many_trials(name, ratio, tensors, observed)
        return variable

    @classmethod
    def dist(
        cls,
        ratio: RatioEstimator,
        /,
        *,
        simulator: Simulator | Callable[..., Any] | None = None,
        outside: str = "reject",
        engine: str = "auto",
        precision: str = "double",
        shape: Any = None,
        size: Any = None,
        **parameters: Any,
    ) -> TensorVariable:
        """The same, outside of a model: for `pymc.draw` and `pymc.logp`.

        Parameters
        ----------
        ratio, simulator, outside, engine, **parameters
            As for `RatioLikelihood`.
        shape : int or tuple, optional
            Shape of the draws, ``(*batch, *event)``.
        size : int or tuple, optional
            Their batch shape instead.

        Returns
        -------
        TensorVariable
        """
        _check_ratio(ratio, "RatioLikelihood.dist")
        check_outside(outside)
        check_engine(engine, precision, ratio)
        tensors = _as_parameters(ratio, parameters, "RatioLikelihood.dist")
        return super().dist(
            list(tensors.values()),
            shape=shape,
            size=size,
            ratio=ratio.for_evaluation(),
            simulator=as_simulator(simulator) or ratio.simulator,
            reject=outside == "reject",
            engine=engine,
            precision=precision,
        )

    @classmethod
    def rv_op(
        cls,
        *parameters: Any,
        ratio: RatioEstimator,
        simulator: Simulator | None,
        reject: bool,
        engine: str,
        precision: str,
        size: Any = None,
        rng: Any = None,
    ) -> TensorVariable:
        """One class of random variable for all ratios, an instance for each."""
        *ins, out = (
            f"({','.join(map(str, core))})"
            for core in (*ratio.parameters.values(), ratio.event_shape)
        )
        signature = f"{','.join(ins)}->{out}"
        op = RatioLikelihoodRV(
            ratio=ratio,
            simulator=simulator,
            reject=reject,
            engine=engine,
            precision=precision,
            signature=signature,
        )
        if rng is None:
            rng = pytensor.shared(np.random.default_rng())
        return op.make_node(rng, size, *parameters).outputs[1]


def _log_ratio(
    ratio: RatioEstimator,
    x: TensorVariable,
    parameters: Mapping[str, TensorVariable],
    **options: Any,
) -> TensorVariable:
    """Log ratios with the broadcast batch shape of observations and parameters."""
    event = ratio.event_shape
    check_event_shape(event, x.type.shape, "RatioLikelihood")
    x = as_data(x)
    parts = _flat_parameters(ratio, parameters)
    observation = x[(..., *[0] * len(event))]
    shared = all(all(part.type.broadcastable[:-1]) for part in parts)  # one theta for all
    if shared and x.ndim == 1 + len(event) and all(part.ndim <= 2 for part in parts):
        return log_ratios(ratio, _one_row(parts), x, **options)  # nothing to broadcast
    batch = tuple(pt.broadcast_shape(observation, *(part[..., 0] for part in parts)))
    if shared:
        theta = _one_row(parts)
    else:
        rows = [pt.broadcast_to(part, (*batch, part.shape[-1])) for part in parts]
        theta = pt.concatenate(rows, axis=-1).reshape((-1, ratio.layout.size))
        if len(batch) > observation.ndim or any(observation.type.broadcastable):
            x = pt.broadcast_to(x, (*batch, *event))
    values = log_ratios(ratio, theta, as_rows(x, event), **options)
    return values.reshape(batch, ndim=len(batch))


def _one_row(parts: list[TensorVariable]) -> TensorVariable:
    return pt.concatenate([part.reshape((1, part.shape[-1])) for part in parts], axis=-1)


def _flat_parameters(
    ratio: RatioEstimator, parameters: Mapping[str, TensorVariable]
) -> list[TensorVariable]:
    """Each parameter ``(*batch, size)``, its own axes flattened into the last."""
    parts = []
    for name, own in ratio.parameters.items():
        value = parameters[name].astype("float64")
        # Neither of these forgets which batch axes are known to have length one.
        parts.append(value.flatten(value.ndim - len(own) + 1) if own else value[..., None])
    return parts


def _as_parameters(
    ratio: RatioEstimator, parameters: Mapping[str, Any], caller: str
) -> dict[str, TensorVariable]:
    """Tensors in the estimator's order, names and own shapes checked."""
    ratio.layout.check_names(parameters, caller)
    tensors = {name: pt.as_tensor_variable(parameters[name]) for name in ratio.parameters}
    for name, own in ratio.parameters.items():
        check_own_shape(name, own, tensors[name].type.shape, caller)
    return tensors


def _check_ratio(ratio: Any, caller: str) -> None:
    if not isinstance(ratio, RatioEstimator):
        raise TypeError(
            f"{caller}: expected a RatioEstimator from nre.train or nre.load, got "
            f"{type(ratio).__name__}."
        )
