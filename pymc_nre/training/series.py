r"""The ratio of a transition, from whole simulated series alone.

In a simulated series the past tells of the parameters by itself. A ratio of next value and past
together counts that, and so does a ratio of the past alone; what the next value adds is their
difference,

.. math:: \log \frac{p(x \mid past, \theta)}{p(x \mid past)}
    = \log \frac{p(x, past \mid \theta)}{p(x, past)} - \log \frac{p(past \mid \theta)}{p(past)},

for whatever pasts the series have. The ratio of the past is trained first. A second network is then
trained to be, with the first one added, the ratio of both: by itself it is the difference.
"""

from __future__ import annotations

import copy
import warnings
from typing import Any

import numpy as np

from ..estimators.ensemble import ensemble
from ..estimators.estimator import RatioEstimator
from ..exceptions import TrainingWarning
from ..losses.base import checked_loss
from ..networks.base import RatioNetwork
from ..networks.beside import beside
from ..networks.composed.offset import Offset
from ..networks.specifications import MLP, build
from ..runtime.arrays import whole_number
from ..runtime.kinds import check_kind
from ..runtime.random_streams import seed_sequence
from ..simulation.conditions.layout import Conditions
from ..simulation.parameters import describe_shape
from ..simulation.series.cuts import transitions
from ..simulation.simulations import Simulations
from .members import train
from .settings import default_network

__all__ = ["train_series"]

_NOTHING_FOUND = ".*cannot be told from chance"
_LEFT_OUT = ("checkpoint", "measure_budget", "start")


def train_series(
    simulations: Simulations,
    order: int = 1,
    *,
    network: Any = None,
    members: int = 1,
    random_seed: Any = None,
    progressbar: bool = True,
    **options: Any,
) -> RatioEstimator:
    """Train the ratio of a next value given its past, where only whole series can be simulated.

    Where you have the step of a series, simulate single steps instead, from pasts that are drawn
    independently of the parameters: ``simulate(prior, step, n, conditions={"past": past})`` and
    `train` learn the same ratio at once, and better.

    Two networks are trained on all transitions, of which no two of one series are compared; whole
    series are held out. Some hundred series, of different parameters, are needed at least.

    Parameters
    ----------
    simulations : Simulations
        Of whole series, observations ``(T, *event)``.
    order : int
        Values in a past.
    network : MLP, ResidualMLP or callable, optional
        Of the ratio that comes back, as for `train`.
    members : int
        Networks whose ratios are averaged, each trained by itself.
    random_seed : int, Generator or SeedSequence, optional
    progressbar : bool
    **options
        Others of `train`, but for ``checkpoint``, ``measure_budget`` and ``start``.

    Returns
    -------
    RatioEstimator
        Of one next value ``(*event)``, with the condition ``past``, shape ``(order, *event)``; see
        `transitions`.

    Raises
    ------
    TypeError, ValueError
        As `train`; and if series are too short, come with conditions, or the loss has a fixed
        reference.

    Examples
    --------
    >>> import pymc as pm
    >>> import pymc_nre as nre
    >>> def step(rng, past, phi):
    ...     return rng.normal(phi * past[-1], 1.0)
    >>> prior = {"phi": pm.Uniform.dist(-0.9, 0.9)}
    >>> series = nre.simulate_series(
    ...     prior, step, 300, start=[0.0], length=10, random_seed=1, progressbar=False
    ... )
    >>> ratio = nre.train_series(series, epochs=5, random_seed=1, progressbar=False)
    >>> cut = nre.transitions([0.1, 1.0, 0.4])
    >>> ratio.log_ratio(cut.next, past=cut.past, phi=0.5).shape
    (2,)
    """
    remedy = "Wrap arrays: nre.Simulations({'phi': phi}, x)."
    check_kind(simulations, Simulations, "train_series: simulations", "Simulations", remedy)
    order = whole_number(order, "train_series: order")
    members = whole_number(members, "train_series: members")
    _check_series(simulations, order)
    wrong = [name for name in _LEFT_OUT if name in options]
    if wrong:
        raise TypeError(f"train_series takes no {wrong[0]}=: two trainings make one ratio.")
    loss = options.get("loss")
    if loss is not None and checked_loss(loss).reference != "evidence":
        raise ValueError(
            "train_series: expected a loss whose ratio is to the evidence, got "
            f"{type(loss).__name__}. Leave loss= out."
        )
    rng = np.random.default_rng(seed_sequence(random_seed))
    options |= {"measure_budget": False, "progressbar": progressbar}
    ratios = [_trained(simulations, order, network, rng, options) for _ in range(members)]
    return ensemble(ratios)


def _trained(
    simulations: Simulations,
    order: int,
    network: Any,
    rng: np.random.Generator,
    options: dict[str, Any],
) -> RatioEstimator:
    """One network, by all transitions."""
    event_shape, n = simulations.event_shape[1:], len(simulations)
    cut, seeds = transitions(simulations, order), rng.integers(2**32, size=2)
    conditions = Conditions.of({"past": cut.past}, event_shape)
    pairs = conditions.pack(cut.next, {"past": cut.past}, "train_series")
    of_pasts, of_pairs = (
        _points_of(simulations, each.reshape(n, len(cut) // n, -1)) for each in (cut.past, pairs)
    )
    with warnings.catch_warnings():  # pasts may well tell nothing
        warnings.filterwarnings("ignore", _NOTHING_FOUND, TrainingWarning)
        known = train(of_pasts, network=MLP(), random_seed=int(seeds[0]), **options)
    network = beside(network or default_network(of_pairs), event_shape)

    def both(theta_size: int, shape: tuple[int, ...]) -> RatioNetwork:
        other = copy.deepcopy(known.network).float()
        return Offset(build(network, theta_size, shape), other)

    ratio = train(of_pairs, network=both, random_seed=int(seeds[1]), **options)
    return RatioEstimator(
        ratio.network.inner,
        ratio.parameters,
        domain=ratio.domain,
        probe_x=ratio.probe_x,
        normalized=ratio.normalized,
        loss=ratio.loss,
        specification=network if hasattr(network, "build") else None,
        integer=simulations.layout.integer,
        history=ratio.history,
        conditions=conditions,
    )


def _points_of(simulations: Simulations, x: np.ndarray) -> Simulations:
    """The same with points ``(n, m, *event)``, and with what is known of their parameters."""
    made = Simulations(simulations.parameters, x, iid=True)
    made.known_prior, made.as_drawn = simulations.known_prior, simulations.as_drawn
    made.n_failed = simulations.n_failed
    return made


def _check_series(simulations: Simulations, order: int) -> None:
    if simulations.conditions:
        raise ValueError(
            "train_series: expected series without conditions, got "
            f"{', '.join(simulations.conditions)}. Simulate single steps with them, and the past "
            "among them: nre.simulate(prior, step, n, conditions=...)."
        )
    shape = simulations.event_shape
    if not shape or shape[0] <= order:
        raise ValueError(
            f"train_series: expected series (T, *event) of at least order + 1 = {order + 1} "
            f"values, got observations of shape {describe_shape(shape)}."
        )
