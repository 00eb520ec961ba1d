r"""A ratio where a likelihood would stand: `RatioLikelihood` and `log_ratio`.

Both give one log ratio for each observation. The log-likelihood of the data is their sum up
to a constant in the parameters, which no sampler notices.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
from pytensor.graph.basic import Variable
from pytensor.tensor import TensorVariable

from ..estimators.checks import check_ratio
from ..estimators.estimator import RatioEstimator
from ..ops.data_check import warn_if_data_are_far
from ..ops.engines import check_engine
from ..ops.guards import check_observed, check_outside, refuse_named_axes
from ..ops.held import HeldRatio
from ..ops.prior_check import warn_if_many_trials, warn_if_prior_leaves
from ..runtime.arrays import real_array
from ..simulation.parameters import check_own_shape
from ..simulation.simulator import Simulator, as_simulator
from . import derived  # noqa: F401  # what PyMC may not derive from the variable
from .batches import check_batch, table_of
from .random_variable import RatioLikelihoodRV

__all__ = ["RatioLikelihood", "log_ratio"]


def log_ratio(
    ratio: RatioEstimator,
    x: Any,
    /,
    *,
    outside: str = "repel",
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
    outside : {"repel", "reject", "warn", "ignore"}
        What to do about parameters outside the training domain, as in `RatioLikelihood`.
    engine : {"auto", "compiled", "torch"}
        What evaluates the network: compiled code, which takes `MLP` and `ResidualMLP`, or
        torch, which takes any. ``"auto"`` takes the first where it can.
    precision : {"double", "single"}
        Of compiled code. Single is faster for many observations; their log ratios are then
        good to about 1e-6 each.
    **parameters : array or tensor, shape (*batch, *own)
        Every parameter of the ratio, by name. Both sides are broadcast, by design: observations
        ``(n, 1)`` and parameters ``(m,)`` make a table ``(n, m)``.

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
    check_ratio(ratio, "log_ratio")
    check_outside(outside)
    check_engine(engine, precision, ratio)
    tensors = _as_parameters(ratio, parameters, "log_ratio")
    warn_if_prior_leaves("log_ratio", ratio, tensors, outside)
    options = {"outside": outside, "engine": engine, "precision": precision}
    x = _tensor(x, "log_ratio: x")
    values = table_of(ratio, x, tensors, **options)
    warn_if_data_are_far("log_ratio", ratio, x)
    return values


class RatioLikelihood(pm.Distribution):
    r"""Observations of a simulator, with a ratio in place of their likelihood.

    .. math:: \log p(x \mid \theta) = \textstyle\sum_i \log r(\theta_i, x_i) + \text{const}

    It is written as any other observed distribution, and broadcasts as one: each parameter
    is shared by all observations or given one by one (hierarchies, regressions, plates), and
    data are never repeated for the sake of parameters.
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
    shape : int or tuple, optional
        Shape of predictions, ``(*batch, *event)``, by default that of ``observed``. With
        ``shape=mu.shape`` they follow parameters whose data are replaced, `pymc.set_data`.
    total_size : int or list, optional
        Size of the whole data set when ``observed`` is a minibatch; of several axes a list, as in
        ``[1_000, None]``.
    simulator : Simulator or callable, optional
        For predictive sampling; by default the one attached to the ratio. Where it fails,
        predictions are NaN, with a `SimulationWarning`.
    outside : {"repel", "reject", "warn", "ignore"}
        What to do about parameters outside the training domain: ``"repel"`` them by a wall, which
        samplers hardly enter and optimizers find back from (the log ratio of the nearest parameters
        within their ranges, less a steep quadratic); ``"reject"`` them by a log ratio of minus
        infinity, where line searches stop as if they had converged; or extrapolate, which can make
        modes that are not there. The first two warn here if more of the prior is outside than
        tails, which are logged; ``"warn"`` does if anything is; ``"ignore"`` does not look.
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
        If the prior of the parameters, by more than its tails, is outside the training domain, or
        data are far from all that was simulated: in other units, or with codes for missing values.
    TrialsWarning
        If more observations share a parameter than ``ratio.budget`` allows, or than 30 where
        nothing is known of how many a trained ratio bears.

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
        shape: Any = None,
        total_size: Any = None,
        simulator: Simulator | Callable[..., Any] | None = None,
        outside: str = "repel",
        engine: str = "auto",
        precision: str = "double",
        **parameters: Any,
    ) -> TensorVariable:
        _check_order(name)
        check_ratio(ratio, name)
        observed = check_observed(name, ratio, observed)
        _check_dims(name, dims, len(getattr(observed, "type", observed).shape))
        tensors = _as_parameters(ratio, parameters, name)
        check_batch(name, ratio, getattr(observed, "type", observed).shape, tensors)
        variable = super().__new__(
            cls,
            name,
            ratio,
            observed=observed,
            dims=dims,
            shape=shape,
            total_size=total_size,
            simulator=simulator,
            outside=outside,
            engine=engine,
            precision=precision,
            **tensors,
        )
        warn_if_prior_leaves(name, ratio, tensors, outside)
        warn_if_many_trials(name, ratio, tensors, observed, total_size)
        warn_if_data_are_far(name, ratio, observed)
        return variable

    @classmethod
    def dist(
        cls,
        ratio: RatioEstimator,
        /,
        *,
        simulator: Simulator | Callable[..., Any] | None = None,
        outside: str = "repel",
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
        check_ratio(ratio, "RatioLikelihood.dist")
        check_outside(outside)
        check_engine(engine, precision, ratio)
        tensors = _as_parameters(ratio, parameters, "RatioLikelihood.dist")
        return super().dist(
            list(tensors.values()),
            shape=shape,
            size=size,
            ratio=ratio.for_evaluation(),
            simulator=as_simulator(simulator) or ratio.simulator,
            outside=outside,
            engine=engine,
            precision=precision,
        )

    @classmethod
    def rv_op(
        cls,
        *parameters: Any,
        ratio: RatioEstimator,
        simulator: Simulator | None,
        outside: str,
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
        kept = ratio.replace(simulator=simulator)  # by this name, until there is a node
        op = RatioLikelihoodRV(
            held=HeldRatio(kept),
            outside=outside,
            engine=engine,
            precision=precision,
            signature=signature,
        )
        if rng is None:
            rng = pytensor.shared(np.random.default_rng())
        return op.make_node(rng, size, *parameters).outputs[1]


def _check_order(name: Any) -> None:
    if isinstance(name, RatioEstimator):
        raise TypeError(
            "RatioLikelihood: expected a name and then a ratio, got a ratio in the place of the "
            'name. Write RatioLikelihood("x", ratio, ...).'
        )


def _check_dims(name: str, dims: Any, axes: int) -> None:
    names = (dims,) if isinstance(dims, str) else dims
    if names is not None and len(names) != axes:
        raise ValueError(
            f"{name}: expected dims for each of the {axes} axes of observed, those within one "
            f"observation too, got {dims!r}. Name them all, such as "
            'dims=("trial", "feature") for vectors.'
        )


def _as_parameters(
    ratio: RatioEstimator, parameters: Mapping[str, Any], caller: str
) -> dict[str, TensorVariable]:
    """Tensors in the estimator's order, names and own shapes checked."""
    ratio.layout.check_names(parameters, caller)
    for name, value in parameters.items():
        refuse_named_axes(caller, name, value)
    tensors = {name: _tensor(parameters[name], f"{caller}: {name}") for name in ratio.parameters}
    for name, own in ratio.parameters.items():
        check_own_shape(name, own, tensors[name].type.shape, caller)
    return tensors


def _tensor(value: Any, name: str) -> TensorVariable:
    """A graph, or what holds graphs, as it is; of anything else the numbers."""
    return pt.as_tensor_variable(value if _holds_graph(value) else real_array(value, name))


def _holds_graph(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return any(map(_holds_graph, value))
    return isinstance(value, Variable) or hasattr(value, "_as_TensorVariable")
