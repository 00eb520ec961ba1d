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
from pytensor.tensor import TensorVariable

from ..estimators.checks import as_observations, check_ratio
from ..estimators.direct import beside_reference
from ..estimators.estimator import RatioEstimator
from ..ops.data_check import warn_if_data_are_far
from ..ops.engines.choice import check_engine
from ..ops.guards import check_observed, check_outside, refuse_named_axes
from ..ops.held import HeldRatio
from ..ops.prior_check import warn_if_many_trials, warn_if_prior_leaves
from ..simulation.conditions.labels import check_labels
from ..simulation.conditions.layout import split_keywords
from ..simulation.parameters import check_event_shape, check_own_shape
from ..simulation.series.cuts import next_and_past
from ..simulation.simulator import Simulator, as_simulator
from . import derived  # noqa: F401  # what PyMC may not derive from the variable
from .batches import check_batch, table_of
from .conditions import as_conditions, warn_if_conditions_leave, with_conditions
from .direct import Denominator, check_denominator, denominator_of, direct_likelihood
from .minibatches import some_of_the_whole
from .random_variable import RatioLikelihoodRV
from .tensors import as_tensor, holds_graph

__all__ = ["RatioLikelihood", "log_ratio"]

_MOST_AXES = 16  # of a batch


def log_ratio(
    ratio: RatioEstimator,
    x: Any,
    /,
    *,
    outside: str = "repel",
    engine: str = "auto",
    precision: str = "double",
    reference: Mapping[str, Any] | None = None,
    **parameters: Any,
) -> TensorVariable:
    r"""Log ratios of observations as a symbolic tensor, one entry for each.

    For use in a potential: ``pm.Potential("x", nre.log_ratio(ratio, x, mu=mu).sum())``.
    `RatioLikelihood` does more (pointwise log-likelihoods, predictive sampling, data checks).

    Parameters
    ----------
    ratio : RatioEstimator
    x : array or tensor, shape (*batch, *event)
        Observations; or `transitions` of series, which hold their condition ``past``.
    outside : {"repel", "reject", "warn", "ignore"}
        What to do about parameters outside the training domain, as in `RatioLikelihood`.
    engine : {"auto", "compiled", "torch"}
        What evaluates the network: compiled code, which takes `MLP` and `ResidualMLP`, or
        torch, which takes any. ``"auto"`` takes the first where it can.
    precision : {"double", "single"}
        Of compiled code. Single is about twice as fast from 1,000 observations on; log ratios
        are then good to about 1e-6 each, which NUTS does not notice.
    reference : mapping of str to array, shape (*own), optional
        What a direct ratio, by the loss `DNRE`, compares with, as in `RatioLikelihood`.
    **parameters : array or tensor, shape (*batch, *own)
        Every parameter of the ratio, by name. Both sides are broadcast, by design: observations
        ``(n, 1)`` and parameters ``(m,)`` make a table ``(n, m)``. And every condition, which goes
        with the observations.

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
    check_ratio(ratio, "log_ratio", direct=True)
    denominator = denominator_of(ratio, reference, None, "log_ratio")
    check_outside(outside)
    check_engine(engine, precision, _ordinary(ratio), outside)
    parameters, given = split_keywords(ratio.conditions, parameters)
    check_labels(x, given, "log_ratio")
    x, given = next_and_past(x, given, ratio.conditions, "log_ratio")
    tensors = _as_parameters(ratio, parameters, "log_ratio")
    warn_if_prior_leaves("log_ratio", ratio, tensors, outside)
    options = {"outside": outside, "engine": engine, "precision": precision}
    x = as_tensor(x if holds_graph(x) else _numbers(ratio, x), "log_ratio: x")
    check_event_shape(ratio.observation_shape, x.type.shape, "log_ratio")
    conditions = as_conditions(ratio, given, _batch_of(ratio, x.type.shape), "log_ratio")
    packed = with_conditions("log_ratio", ratio, x, conditions)
    if denominator is None:
        values = table_of(ratio, packed, tensors, **options)
    else:
        whole = with_conditions("log_ratio", ratio, *some_of_the_whole(x, conditions))
        options |= {"whole": whole, "table": True}
        values = direct_likelihood(ratio, packed, tensors, denominator, **options)
    warn_if_conditions_leave("log_ratio", ratio, conditions)
    warn_if_data_are_far("log_ratio", ratio, x)
    return values


class RatioLikelihood(pm.Distribution):
    r"""Observations of a simulator, with a ratio in place of their likelihood.

    .. math:: \log p(x \mid \theta) = \textstyle\sum_i \log r(\theta_i, x_i) + \text{const}

    It is written as any other observed distribution, and broadcasts as one: each parameter
    is shared by all observations or given one by one (hierarchies, regressions, plates), and
    data are never repeated for the sake of parameters.
    It is a likelihood in :math:`\theta` only, not a density in x: it must be observed, it imputes
    nothing, and its value compares with other values of the same ratio only.

    Parameters
    ----------
    name : str
        Name of the variable.
    ratio : RatioEstimator
        From `pymc_nre.train` or `pymc_nre.load`.
    observed : array or tensor, shape (*batch, *event)
        The data; a `pymc.Data` variable may later be replaced. With a ratio that was trained with
        ``missing=`` numbers may be NaN or masked: the likelihood is that of those that are there,
        which is right where they are missing at random, and an observation without any counts
        for nothing. Predictions are of all numbers. Of series give `transitions`, which are the
        observations and their condition ``past``.
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
        Of compiled code. Single is about twice as fast from 1,000 observations on; log ratios
        are then good to about 1e-6 each, which NUTS does not notice.
    reference : mapping of str to array, shape (*own), optional
        What a direct ratio, by the loss `DNRE`, compares with: every parameter by name. By default
        it is the best for the data of 256 draws of the training prior, and another one when data
        are replaced; of `pymc.Minibatch` the best for the whole data, the same for all batches.
    evidence : int, optional
        Of a direct ratio: compare with so many draws of the training prior instead, the trials that
        share their parameters together, which gives the log ratio to the evidence. It takes as many
        evaluations of the network.
    **parameters : array or tensor, shape (*batch, *own)
        Every parameter of the ratio, by name; and every condition, as an array, a column of a
        table or `pymc.Data`, with a value for each observation or one for all.

    Raises
    ------
    TypeError
        If a parameter or a condition is missing or unknown.
    ValueError
        If a condition depends on random variables, data are missing, NaN or masked, or a shape
        does not fit.

    Warns
    -----
    DomainWarning
        If the prior of the parameters, by more than its tails, is outside the training domain,
        conditions are outside of those that were trained with, or data are far from all that was
        simulated: in other units, or with codes for missing values.
    TrialsWarning
        If more observations share a parameter than ``ratio.budget`` allows, or than 30 where
        nothing is known of how many a trained ratio bears; or if all draws of ``evidence=`` make
        these far less likely than others do, or hardly more than one counts.

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
        reference: Mapping[str, Any] | None = None,
        evidence: int | None = None,
        **parameters: Any,
    ) -> TensorVariable:
        _check_order(name)
        check_ratio(ratio, name, direct=True)
        parameters, given = split_keywords(ratio.conditions, parameters)
        check_labels(observed, given, name)
        observed, given = next_and_past(observed, given, ratio.conditions, name)
        observed = check_observed(name, ratio, observed)
        shape_of_data = getattr(observed, "type", observed).shape
        _check_dims(name, dims, len(shape_of_data))
        tensors = _as_parameters(ratio, parameters, name)
        batch = _batch_of(ratio, shape_of_data)
        check_batch(name, ratio, batch, tensors)
        conditions = as_conditions(ratio, given, batch, name)
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
            reference=reference,
            evidence=evidence,
            **tensors,
            **conditions,
        )
        warn_if_prior_leaves(name, ratio, tensors, outside)
        warn_if_many_trials(name, ratio, tensors, observed, total_size)
        warn_if_conditions_leave(name, ratio, conditions)
        warn_if_data_are_far(name, ratio, observed)
        if ratio.is_direct:
            packed = with_conditions(name, ratio, pt.as_tensor_variable(observed), conditions)
            check_denominator(name, ratio, packed, tensors, reference, evidence)
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
        reference: Mapping[str, Any] | None = None,
        evidence: int | None = None,
        shape: Any = None,
        size: Any = None,
        **parameters: Any,
    ) -> TensorVariable:
        """The same, outside of a model: for `pymc.draw` and `pymc.logp`.

        Parameters
        ----------
        ratio, simulator, outside, engine, precision, reference, evidence, **parameters
            As for `RatioLikelihood`.
        shape : int or tuple, optional
            Shape of the draws, ``(*batch, *event)``.
        size : int or tuple, optional
            Their batch shape instead.

        Returns
        -------
        TensorVariable
        """
        check_ratio(ratio, "RatioLikelihood.dist", direct=True)
        denominator = denominator_of(ratio, reference, evidence, "RatioLikelihood")
        check_outside(outside)
        check_engine(engine, precision, _ordinary(ratio), outside)
        parameters, given = split_keywords(ratio.conditions, parameters)
        tensors = _as_parameters(ratio, parameters, "RatioLikelihood.dist")
        anything = (None,) * _MOST_AXES  # no data are known here
        conditions = as_conditions(ratio, given, anything, "RatioLikelihood.dist")
        return super().dist(
            [*tensors.values(), *conditions.values()],
            shape=shape,
            size=size,
            ratio=ratio.for_evaluation(),
            simulator=as_simulator(simulator) or ratio.simulator,
            outside=outside,
            engine=engine,
            precision=precision,
            denominator=denominator,
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
        denominator: Denominator | None = None,
        size: Any = None,
        rng: Any = None,
    ) -> TensorVariable:
        """One class of random variable for all ratios, an instance for each."""
        given = () if ratio.conditions is None else ratio.conditions.shapes.values()
        *ins, out = (
            f"({','.join(map(str, core))})"
            for core in (*ratio.parameters.values(), *given, ratio.observation_shape)
        )
        signature = f"{','.join(ins)}->{out}"
        kept = ratio.replace(simulator=simulator)  # by this name, until there is a node
        op = RatioLikelihoodRV(
            held=HeldRatio(kept),
            outside=outside,
            engine=engine,
            precision=precision,
            denominator=denominator,
            signature=signature,
        )
        if rng is None:
            rng = pytensor.shared(np.random.default_rng())
        return op.make_node(rng, size, *parameters).outputs[1]


def _ordinary(ratio: RatioEstimator) -> RatioEstimator:
    """What is evaluated of it."""
    return beside_reference(ratio) if ratio.is_direct else ratio


def _numbers(ratio: RatioEstimator, x: Any) -> Any:
    """Observations as they are, or with NaN for what the ratio lets be missing."""
    return x if ratio.missing is None else as_observations(ratio, x, "log_ratio: x")


def _batch_of(ratio: RatioEstimator, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
    """The batch of observations of that shape, ``(*batch, *event)``."""
    return tuple(shape[: len(shape) - len(ratio.observation_shape)])


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
    tensors = {name: as_tensor(parameters[name], f"{caller}: {name}") for name in ratio.parameters}
    for name, own in ratio.parameters.items():
        check_own_shape(name, own, tensors[name].type.shape, caller)
    return tensors
