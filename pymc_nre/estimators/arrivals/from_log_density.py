r"""Neural likelihoods and posteriors, trained by any library, as estimators.

The module is copied, in double precision, and asked for what every engine will ask of it. What it
was trained with, such as means and spreads that it standardizes by, is inside of it and stays.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from ...networks.densities import KINDS, LogDensity, name_of
from ...runtime.arrays import finite_array, holds_integers, true_or_false
from ...runtime.random_streams import plain_seed, seed_sequence
from ...simulation.conditions.designs import Designs, check_apart
from ...simulation.conditions.layout import Conditions
from ...simulation.joint import simulate
from ...simulation.parameters import Layout
from ...simulation.prior import Prior
from ...simulation.simulator import Simulator, as_simulator
from ..domain import Domain
from ..estimator import RatioEstimator
from ..evaluator import TorchEvaluator
from .prior_terms import prior_density

__all__ = ["from_log_density"]

_DRAWS = 10_000  # of the prior: as many as a domain keeps
_PROBES = 1_000  # simulated observations, which tell where data lie
_ROWS = 20  # that a module is tried on
_ROUNDED = 1e-2  # of log densities in single precision, beside their size
_SAME = 1e-6  # beside their size: of what is computed twice in double precision


def from_log_density(
    module: nn.Module | Callable[..., torch.Tensor],
    *,
    prior: Any,
    kind: str,
    x: Any = None,
    conditions: Mapping[str, Any] | None = None,
    simulator: Simulator | Callable[..., Any] | None = None,
    batched: bool = False,
    random_seed: Any = 0,
) -> RatioEstimator:
    r"""Make an estimator of a neural likelihood or posterior that was trained elsewhere.

    A likelihood :math:`p(x \mid \theta)` is used as it is, divided by nothing; it is normalized in
    x. A posterior :math:`p(\theta \mid x)` divided by its training prior is
    :math:`p(x \mid \theta) / p(x)`. What comes back goes wherever a trained ratio goes: models with
    any prior and any number of observations, diagnostics, calibration, ensembles and files.

    Parameters
    ----------
    module : nn.Module or callable
        Called in one of three ways, by what it has. As ``module.log_prob(inputs, context)``, if it
        has that: density estimators of sbi (what ``inference.train()`` returns) and flows of
        nflows and normflows. As ``module(context).log_prob(inputs)``, if it is called with one
        thing: flows of zuko. Else as ``module(theta, x)``, which gives log densities ``(n,)`` of
        parameters ``(n, D)`` and observations ``(n, *event)``: anything, by three lines of your
        own. ``inputs`` is what the density is of (observations of a likelihood, parameters of a
        posterior) and ``context`` the other, in rows, vectors ``(n, 1)`` where they are single
        numbers. All are in their own units.
    prior : pymc.Model or dict
        What the module was trained on: its parameters in the order of its packed vector, each
        flattened. A dict of ``pm.X.dist()``, as for `pymc_nre.simulate`.
    kind : {"likelihood", "posterior"}
        What the density is. A posterior needs that of its prior in torch: it is known of
        parameters that do not depend on each other and are distributed by Uniform, Normal,
        MvNormal, LogNormal, Gamma, Beta and others that are common. Else the module must have a
        method ``log_prior(theta)``, of parameters ``(n, D)``, right up to a constant.
    x : array, shape (m, *event), optional
        Some observations, simulated ones rather than data; a thousand are plenty.
        They tell the shape of one, identify the function, and say later which data are far from
        all that it knows. They are simulated if they are not given.
    conditions : mapping of str to array, shape (m, *own), optional
        Of a density that is given more than parameters, :math:`p(x \mid \theta, c)` or
        :math:`p(\theta \mid x, c)`: what is known beside each of the observations ``x``. Values in
        models are then told where they lie outside of these. If observations are simulated,
        distributions or designs, as for `pymc_nre.simulate`. The module is given conditions in this
        order, each flattened, behind all else that it is given: ``context`` ends with them, and for
        ``module(theta, x)`` each observation is a vector that ends with them, ``(n, K)``.
    simulator : Simulator or callable, optional
        What made them, ``simulator(rng, **parameters)``, with conditions among the keywords; it
        lets models predict.
    batched : bool
        Whether the simulator takes many draws at once.
    random_seed : int, Generator or SeedSequence
        Of the draws of the prior that say where it lives.

    Returns
    -------
    RatioEstimator

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit, the module does not take such parameters and observations or
        computes something else in double precision, or the density of the prior is not known.

    Notes
    -----
    A posterior that leaks, with mass where its prior has none, gives a ratio that is too small by a
    factor; this depends on the observation alone, and posteriors do not see it. Of what a posterior
    says far from its bulk little was learned, so that a prior which is moved there asks too much.

    Files hold the weights; the function that builds the module goes to
    ``nre.load(path, network=function)``.

    Examples
    --------
    >>> import pymc as pm
    >>> import torch
    >>> import pymc_nre as nre
    >>> def log_likelihood(theta, x):
    ...     return torch.distributions.Normal(theta[:, 0], 1.0).log_prob(x)
    >>> prior = {"mu": pm.Uniform.dist(-3, 3)}
    >>> ratio = nre.from_log_density(log_likelihood, prior=prior, kind="likelihood", x=[0.3, 1.2])
    >>> float(ratio.log_ratio(0.0, mu=0.0).round(3))
    -0.919

    A likelihood of a response, given a dose:

    >>> def of_response(theta, x):  # x is the response beside the dose
    ...     return torch.distributions.Normal(theta[:, 0] * x[:, 1], 1.0).log_prob(x[:, 0])
    >>> ratio = nre.from_log_density(
    ...     of_response,
    ...     prior={"slope": pm.Normal.dist(0, 2)},
    ...     kind="likelihood",
    ...     x=[0.3, 1.2, 0.7],
    ...     conditions={"dose": [0.0, 1.0, 0.5]},
    ... )
    >>> float(ratio.log_ratio(0.5, slope=1.0, dose=0.5).round(3))
    -0.919
    """
    _check_module(module)
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(
            f"from_log_density: kind: expected one of {', '.join(KINDS)}, got {kind!r}."
        )
    known = Prior.of(prior)
    seed = seed_sequence(plain_seed(random_seed))
    drawn = known.draw(_DRAWS, np.random.default_rng(seed))
    layout = known.layout
    batched = true_or_false(batched, "from_log_density: batched")
    simulator = as_simulator(simulator, batched)
    x, given = _observations(known, x, conditions, simulator, seed)
    density = known.log_density(drawn) if known.has_density else None
    theta = layout.pack(drawn)
    network = _network(module, kind, known, x.shape[1:], given, layout)
    network.know_data(torch.tensor(x))
    if kind == "posterior":
        _fit_offset(network, theta, density)
    _try(network, theta, x, differentiate=not layout.integer)
    name = name_of(network.module)
    return RatioEstimator(
        network,
        layout.shapes,
        domain=Domain.from_draws(theta, density),
        probe_x=x,
        reference="nothing" if kind == "likelihood" else "evidence",
        loss=f"its own loss ({name}, {_TOLD[kind]})",
        integer=layout.integer,
        simulator=simulator,
        conditions=given,
    )


_TOLD = {"likelihood": "a likelihood", "posterior": "a posterior divided by its prior"}


def _check_module(module: Any) -> None:
    if isinstance(module, type) or (not callable(module) and not hasattr(module, "log_prob")):
        raise TypeError(
            "from_log_density: module: expected an nn.Module, or a function log_density(theta, x) "
            f"of torch tensors, got {module!r}. Of sbi pass what inference.train() returns."
        )
    if not isinstance(module, nn.Module) and hasattr(module, "log_prob"):
        inner = "posterior.posterior_estimator" * hasattr(module, "posterior_estimator")
        raise TypeError(
            f"from_log_density: module: expected an nn.Module, got {type(module).__name__}. "
            f"Pass the density estimator inside of it, {inner or 'what inference.train() returns'}."
        )


def _observations(
    prior: Prior, x: Any, conditions: Any, simulator: Simulator | None, seed: np.random.SeedSequence
) -> tuple[np.ndarray, Conditions | None]:
    """Some observations ``(m, *event)`` as networks take them, and what is known of conditions."""
    if conditions is not None and not callable(getattr(conditions, "items", None)):
        raise TypeError(
            "from_log_density: conditions: expected values by name, conditions={'dose': ...}, got "
            f"{type(conditions).__name__}."
        )
    given = {} if conditions is None else dict(conditions.items())
    if x is None:
        return _simulated(prior, given, simulator, seed)
    x = finite_array(x, "from_log_density: x")
    if not x.ndim or not x.size:
        raise ValueError(
            f"from_log_density: x: expected some observations, shape (m, *event), got {x.shape}. "
            "Of a single one pass x[None]."
        )
    return _packed(prior, x, given) if given else (x, None)


def _simulated(
    prior: Prior,
    conditions: Mapping[str, Any],
    simulator: Simulator | None,
    seed: np.random.SeedSequence,
) -> tuple[np.ndarray, Conditions | None]:
    if simulator is None:
        raise ValueError(
            "from_log_density: x: expected some observations, shape (m, *event), or a simulator "
            "that makes them, got neither. Pass x=, those of a few simulations."
        )
    options = {"batched": simulator.batched, "random_seed": seed, "progressbar": False}
    made = simulate(prior, simulator.function, _PROBES, conditions=conditions, **options).packed()
    return made.x, made.known_conditions


def _packed(
    prior: Prior, x: np.ndarray, conditions: Mapping[str, Any]
) -> tuple[np.ndarray, Conditions]:
    """Observations with the conditions of each."""
    designs = Designs(conditions)
    check_apart(designs.names, prior.variables)
    lengths = {len(rows) for rows in designs.rows.values()} - {len(x)}
    if designs.prior is not None or lengths:
        raise ValueError(
            "from_log_density: conditions: expected arrays with a value for each of the "
            f"{len(x):,} observations x, got {_in_words(conditions)}. Distributions are for "
            "observations that are simulated: leave x out, and give the simulator."
        )
    integer = [name for name, value in conditions.items() if holds_integers(value)]
    known = Conditions.of(designs.rows, x.shape[1:], integer)
    return known.pack(x, designs.rows, "from_log_density"), known


def _in_words(conditions: Mapping[str, Any]) -> str:
    told = {
        name: "a distribution" if hasattr(value, "owner") else f"shape {np.shape(value)}"
        for name, value in conditions.items()
    }
    return ", ".join(f"{name}: {what}" for name, what in told.items())


def _network(
    module: Any,
    kind: str,
    prior: Prior,
    event_shape: tuple[int, ...],
    given: Conditions | None,
    layout: Layout,
) -> LogDensity:
    own = kind == "posterior" and hasattr(module, "log_prior")
    density = None if own or kind == "likelihood" else prior_density(prior)
    if isinstance(density, str):
        raise ValueError(
            f"from_log_density: a posterior is divided by the density of its prior, which is not "
            f"known in torch: {density}. Give the module a method log_prior(theta), log densities "
            "(n,) of parameters (n, D) up to a constant."
        )
    try:
        module = copy.deepcopy(module)
    except Exception as error:  # whatever a module of the user's own raises
        raise ValueError(
            f"from_log_density: module cannot be copied: {error}. Expected one that holds no graph "
            "of gradients and no open files."
        ) from error
    shape_of_x = None if given is None else given.event_shape
    return LogDensity(module, layout.size, event_shape, kind, density, shape_of_x)


def _fit_offset(network: LogDensity, theta: np.ndarray, density: np.ndarray | None) -> None:
    """Find the constant of the prior's density, which must be right everywhere."""
    if density is None:
        return
    double = copy.deepcopy(network).double()
    with torch.no_grad():
        found = double.log_prior(torch.tensor(theta)).cpu().numpy()
    off = density - found
    constant = float(np.median(off))
    wrong = np.abs(off - constant).max()
    if not wrong <= _SAME * (1 + np.abs(found).max()):
        raise ValueError(
            f"from_log_density: the density of the prior in torch is off by up to {wrong:.3g} from "
            "that of prior=, beside a constant. Expected the prior that the module was trained on; "
            "its log_prior(theta) is given parameters in their order and units."
        )
    network.offset = torch.tensor(constant, dtype=torch.double)


def _try(network: LogDensity, theta: np.ndarray, x: np.ndarray, differentiate: bool) -> None:
    """Raise ValueError unless the module does what every engine asks of it."""
    theta, x = theta[:_ROWS], np.resize(x, (_ROWS, *x.shape[1:]))
    double = TorchEvaluator(copy.deepcopy(network).double().eval().requires_grad_(False))
    step = "as it is"
    try:
        plain = _as_it_is(network, theta, x)
        step = "in double precision"
        values = double.value(theta, x)
        step = "of one row"
        alone = np.concatenate([double.value(theta[i : i + 1], x[i : i + 1]) for i in range(3)])
        step = "differentiated in the parameters"
        if differentiate:
            double.value_and_gradient(theta, x)
    except Exception as error:  # whatever a module of the user's own raises
        raise ValueError(
            f"from_log_density: module cannot be evaluated {step}, given {len(theta[0])} "
            f"parameters and observations of shape {x.shape[1:]}: {type(error).__name__}: {error}. "
            "Expected one log density for each row; x has a leading axis of observations."
        ) from error
    for what, one, other, room in (
        ("computes something else in double precision", values, plain, _ROUNDED),
        ("gives a row another log density if it is alone", values[:3], alone, _SAME),
    ):
        if np.isnan(one).any() or not np.allclose(one, other, rtol=room, atol=room):
            raise ValueError(
                f"from_log_density: module {what}: {one[:3]} and {other[:3]}. Let what it makes "
                "follow its inputs; tensors of its own belong in register_buffer."
            )


def _as_it_is(network: LogDensity, theta: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Log ratios ``(n,)`` in the precision that the module came in."""
    like = next((w for w in network.module.parameters() if w.is_floating_point()), None)
    dtype, device = (torch.double, "cpu") if like is None else (like.dtype, like.device)
    net = copy.deepcopy(network).eval().to(device)
    with torch.no_grad():
        rows = (torch.tensor(part, dtype=dtype, device=device) for part in (theta, x))
        return net(*rows).double().cpu().numpy()
