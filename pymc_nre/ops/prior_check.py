"""Do the parameters of a model leave the region where its ratio was trained?

A ratio extrapolates silently. When a model is built its parameters are drawn from their prior and
the share that lies outside the training domain is told. That alone is not enough: an extrapolated
ratio of many observations can outweigh any prior (a model of 100 normal observations, prior well
inside, had a second mode at 40 times the true scale), so parameters outside are held back unless
the user says otherwise.

Of a prior with tails beyond the domain as large a share of data sets have posteriors that the edge
cuts, and they tell: with up to a fifth in the tails, all of 1,500 posteriors that were off by .3
standard deviations were found cut afterwards. Such tails are logged. A warning is for what the
data cannot tell of in time: a row of parameters that is mostly outside, or combinations.

A model may give a theta to each of ten thousand observations. So draws are looked at one at a time,
and of the rows of a draw only those that differ.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pymc as pm
from pymc.pytensorf import compile as compile_draws
from pytensor.compile.mode import Mode
from pytensor.graph.basic import Constant, Variable
from pytensor.graph.replace import clone_replace
from pytensor.graph.utils import MissingInputError
from pytensor.tensor import TensorVariable

from ..estimators.domain import Domain
from ..estimators.estimator import RatioEstimator
from ..estimators.trial_budgets.trial_budget import FEW, counted, measurement
from ..exceptions import DomainWarning, TrialsWarning, warn
from .guards import HELD_BACK, held_data

__all__ = [
    "Reach",
    "packed_rows",
    "warn_if_many_trials",
    "warn_if_prior_leaves",
    "warn_if_too_many",
]

_DRAWS = 1_000
_BLOCK_NUMBERS = 2**14  # of draws that are looked at together
# The training prior itself has 1e-4 outside: 0.1 of 1,000 draws, so five are no accident.
_TOLD_FROM = 0.005
_TAILS = 0.15  # of the prior of a row, up to which what is outside are its tails
_log = logging.getLogger("pymc_nre")
# Trials below which a bias is not linear across a posterior, and above which fine-tuning leaves too
# much of it: docs/many_trials.md.
_TOO_WIDE, _MANY = 300, 10_000
_CONSEQUENCE = {
    "repel": "The likelihood falls off steeply there (outside='repel'), which cuts the prior.",
    "reject": "Their likelihood is set to zero (outside='reject'), which cuts the prior there.",
    "warn": "There the ratio is an extrapolation that may prefer absurd parameters: after "
    "sampling, look at nre.diagnostics.domain_check(idata, ratio).",
}


_AFTER_SAMPLING = "nre.diagnostics.domain_check(idata, ratio, model=model)"


def packed_rows(ratio: RatioEstimator, parameters: Sequence[np.ndarray]) -> np.ndarray:
    """Packed parameters ``(*batch, D)`` of arrays in the estimator's order."""
    return ratio.layout.pack(dict(zip(ratio.layout.shapes, parameters, strict=True)))


class Reach:
    """How far draws reach: which share is outside, by which parameter, and between which values.

    Parameters
    ----------
    domain : Domain
    draws : iterable of array, shape (rows, D)
        All with the same number of rows.

    Attributes
    ----------
    outside : ndarray, shape (draws,)
        Share of the rows of each draw that are outside.
    beyond : ndarray, shape (D,)
        Share of all rows at which a parameter, taken alone, is beyond its training range.
    low, high : ndarray, shape (D,)
    by_row : ndarray, shape (rows,)
        Share of the draws of each row that are outside.
    together : float
        Share of all rows that are outside though each parameter alone is not.
    """

    def __init__(self, domain: Domain, draws: Iterable[np.ndarray]) -> None:
        size = len(domain.lower)
        self.beyond, self._groups = np.zeros(size), None
        self.low, self.high = np.full(size, np.inf), np.full(size, -np.inf)
        self.by_row, self.together = np.zeros(1), 0.0
        self.outside = np.concatenate(
            [np.zeros(0), *(self._add(domain, block) for block in _blocks(draws))]
        )
        for total in (self.beyond, self.by_row):
            total /= max(len(self.outside), 1)
        self.together /= max(len(self.outside), 1)

    @property
    def share(self) -> float:
        """Of all rows of all draws."""
        return float(self.outside.mean())

    def _add(self, domain: Domain, draws: np.ndarray) -> np.ndarray:
        """Which shares ``(k,)`` of these draws ``(k, rows, D)`` are outside."""
        rows, weights, group = self._distinct(draws)
        self.low = np.minimum(self.low, rows.min((0, 1)))
        self.high = np.maximum(self.high, rows.max((0, 1)))
        beyond, outside = domain.beyond(rows), ~domain.inside(rows)
        self.beyond += (weights @ beyond).sum(0)
        self.together += float(((outside & ~beyond.any(-1)) @ weights).sum())
        self.by_row = self.by_row + outside[:, group].sum(0)
        return outside @ weights

    def _distinct(self, draws: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows, their shares and which is whose; what the first draw has in common is one row."""
        count = draws.shape[1]
        if self._groups is None:
            _, first, group, counts = np.unique(
                draws[0], axis=0, return_index=True, return_inverse=True, return_counts=True
            )
            self._groups = first, group.ravel(), counts / count
        first, group, shares = self._groups
        rows = draws[:, first]
        if np.array_equal(rows[:, group], draws, equal_nan=True):
            return rows, shares, group
        return draws, np.full(count, 1 / count), np.arange(count)


def _blocks(draws: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Draws ``(rows, D)`` as blocks ``(k, rows, D)`` that are not too small, nor too large."""
    block: list[np.ndarray] = []
    for draw in draws:
        block.append(draw)
        if len(block) * draw.size >= _BLOCK_NUMBERS:
            yield np.stack(block)
            block = []
    if block:
        yield np.stack(block)


def warn_if_prior_leaves(
    name: str,
    ratio: RatioEstimator,
    parameters: Mapping[str, TensorVariable],
    outside: str,
    tails: bool = False,
    later: str = _AFTER_SAMPLING,
) -> None:
    """Draw the parameters from their prior in the model; warn if a share is outside.

    Of its tails only if they count, ``tails``, or if what is outside is not held back. What will
    tell whether they cut the posterior is said by ``later``.

    A ratio that was made for one data set is held to where that is likely, which any prior leaves.
    """
    if outside == "ignore":
        return
    try:
        reach = Reach(ratio.domain, _prior_draws(ratio, parameters, _DRAWS))
    except MissingInputError:  # arguments of a pm.CustomDist's logp and the like: no prior here
        return
    except NotImplementedError:  # pm.Flat and others that have no random function
        warn(
            f"{name}: the prior of {', '.join(parameters)} cannot be drawn from, so it could not "
            f"be compared with the training domain of the ratio ({ratio.describe_domain()}). After "
            "sampling, run nre.diagnostics.domain_check(idata, ratio).",
            DomainWarning,
        )
        return
    if reach.share <= _TOLD_FROM:
        return
    if ratio.observed is not None and outside in HELD_BACK and not _is_apart(reach, ratio.domain):
        _log.info(
            "%s: the ratio was made for one data set and knows where those data are likely, %s. "
            "What else this model's prior allows is cut off (outside=%r).",
            name,
            ratio.describe_domain(),
            outside,
        )
        return
    if outside in HELD_BACK and not tails and _are_tails(reach):
        _log.info(
            "%s: %.1f%% of this model's prior lies outside the region where the ratio was trained, "
            "in its tails. Whether that cuts the posterior is told by %s.",
            name,
            100 * reach.share,
            later,
        )
        return
    warn(_message(name, ratio, reach, outside), DomainWarning)


def _are_tails(reach: Reach) -> bool:
    """Whether every row is mostly inside, and what is not is beyond the range of a parameter."""
    return reach.by_row.max() <= _TAILS and reach.together <= _TOLD_FROM


def _is_apart(reach: Reach, domain: Domain) -> bool:
    """Whether no draw has some parameter in its range."""
    return bool(((reach.high < domain.lower) | (reach.low > domain.upper)).any())


def _prior_draws(
    ratio: RatioEstimator, parameters: Mapping[str, TensorVariable], n: int
) -> Iterator[np.ndarray]:
    """Packed draws ``(rows, D)``, one after another, of the parameters' prior in the model."""
    # The linker without any compiler: this graph is used a thousand times, once.
    mode = Mode(linker="py", optimizer="fast_compile")
    variables = _given_data(list(parameters.values()))
    function = compile_draws(inputs=[], outputs=variables, random_seed=0, mode=mode)
    for _ in range(n):
        yield packed_rows(ratio, function()).reshape(-1, ratio.layout.size)


def _given_data(variables: list[TensorVariable]) -> list[TensorVariable]:
    """The same in terms of what was observed of parents that were: no prior speaks for those."""
    model = pm.Model.get_context(error_if_none=False)
    if model is None or not model.observed_RVs:
        return variables
    data = {rv: model.rvs_to_values[rv].astype(rv.dtype) for rv in model.observed_RVs}
    return clone_replace(variables, replace=data, rebuild_strict=False)


def _message(name: str, ratio: RatioEstimator, reach: Reach, outside: str) -> str:
    digits = _digits_apart(ratio.domain, reach)
    ends = zip(ratio.layout.labels, reach.low, reach.high, reach.beyond, strict=True)
    told = [
        f"{label} reaches [{low:.{digits}g}, {high:.{digits}g}] ({part:.1%} outside)"
        for label, low, high, part in ends
        if part > 0
    ] or ["each parameter alone is inside, but not their combinations"]
    return (
        f"{name}: {reach.share:.1%} of this model's prior lies outside the region where the ratio "
        f"was trained ({ratio.describe_domain(digits)}): {'; '.join(told)}. "
        f"{_CONSEQUENCE[outside]} {_other_prior(ratio)}"
    )


def _other_prior(ratio: RatioEstimator) -> str:
    """What to do about a prior that leaves the domain."""
    if ratio.observed is None:
        return "Train on a wider prior, or use a narrower one here."
    return (
        "It was made for one data set, and is known where those data are likely under the prior of "
        "its rounds: run nre.rounds with the prior of this model."
    )


def _digits_apart(domain: Domain, reach: Reach) -> int:
    """How many digits tell the ends of the reach from those of the domain."""
    pairs = [
        *zip(domain.lower, reach.low, strict=True),
        *zip(domain.upper, reach.high, strict=True),
    ]
    for digits in range(3, 17):
        if all(a == b or f"{a:.{digits}g}" != f"{b:.{digits}g}" for a, b in pairs):
            return digits
    return 17


def warn_if_many_trials(
    name: str,
    ratio: RatioEstimator,
    parameters: Mapping[str, TensorVariable],
    observed: Any,
    total_size: Any = None,
) -> None:
    """Warn if more observations share a parameter than the ratio is known to bear."""
    trials = _trials(ratio, observed, total_size)
    if not trials or not (ratio.budget or ratio.loss) or ratio.is_locally_centered:
        return  # an exact ratio has no loss; one that was centered here was measured for that
    columns = ratio.layout.continuous
    if not len(columns) or _bears(ratio, np.full(len(columns), trials)):
        return
    try:
        together = _sharing(ratio, parameters, trials)[columns]
    except (MissingInputError, NotImplementedError):  # no prior here to draw from
        return
    if not _bears(ratio, together):
        warn(f"{name}: {_told_of_trials(ratio, together)}", TrialsWarning)


def warn_if_too_many(name: str, ratio: RatioEstimator, trials: int) -> None:
    """Warn if a ratio is not known to bear that many trials that share all parameters."""
    columns = ratio.layout.continuous
    known = bool(ratio.budget or ratio.loss) and not ratio.is_locally_centered
    together = np.full(len(columns), trials)
    if known and len(columns) and not _bears(ratio, together):
        warn(f"{name}: {_told_of_trials(ratio, together)}", TrialsWarning)


def _trials(ratio: RatioEstimator, observed: Any, total_size: Any) -> int:
    """How many there are, with those that a minibatch stands for; zero where it is not known."""
    axes = observed.ndim - len(ratio.observation_shape)
    totals = _total_sizes(total_size, observed.ndim)
    data = held_data(observed) if isinstance(observed, Variable) else observed
    own = observed.type.shape if data is None else data.shape
    # Lengths that are not known count for one, if anything is known.
    own = [length or int(any(totals)) for length in own[:axes]]
    return math.prod(total or length for total, length in zip(totals, own, strict=False))


def _total_sizes(total_size: Any, ndim: int) -> list[int]:
    """Those of each axis, zero where it is whole, of what PyMC takes, such as [100, ..., 3]."""
    given = list(total_size) if isinstance(total_size, list | tuple) else [total_size]
    missing = ndim - len(given)
    if Ellipsis in given:
        at = given.index(Ellipsis)
        given[at : at + 1] = [None] * (missing + 1)
    else:
        given += [None] * missing
    return [int(total) if isinstance(total, int | np.integer) else 0 for total in given]


def _bears(ratio: RatioEstimator, trials: np.ndarray) -> bool:
    """Whether that many trials ``(D,)`` of each continuous parameter are nothing to warn of."""
    if ratio.budget is None:
        return trials.max() * _steps(ratio) <= FEW
    return ratio.budget.bears(trials)


def _steps(ratio: RatioEstimator) -> int:
    """How many trials are added up in one observation: a whole series has its steps."""
    return getattr(ratio.trained, "steps", 1)


def _sharing(
    ratio: RatioEstimator, parameters: Mapping[str, TensorVariable], trials: int
) -> np.ndarray:
    """How many of the trials share a value, of each packed number; none of one that is given."""
    shapes = ratio.layout.shapes
    if all(parameters[name].ndim == len(own) for name, own in shapes.items()):
        free = [not isinstance(parameters[name], Constant) for name in shapes]
        return trials * np.repeat(free, [math.prod(own) for own in shapes.values()])
    one, other = _prior_draws(ratio, parameters, 2)
    counts = [np.unique(column, return_counts=True)[1].max() for column in one.T]
    return np.where((one == other).all(0), 0, trials * np.array(counts) // len(one))


def _told_of_trials(ratio: RatioEstimator, together: np.ndarray) -> str:
    """How many there are, what is known of how many the ratio bears, and what to do."""
    budget, labels = ratio.budget, ratio.layout.continuous_labels
    if budget is None:
        most, steps = int(together.max()), _steps(ratio)
        what = "trials" if steps == 1 else "steps of series"
        return (
            f"{most * steps:,} {what} share {_named(labels, together, most)}, and how many this "
            "ratio bears is not known: small errors add up over trials. Measure it, "
            f"{measurement(most)}; ratio = budget.attach(ratio)."
        )
    if not budget.informed:
        return (
            f"on {budget.simulations:,} simulations this ratio was found to know nothing of its "
            "parameters: posteriors are the prior. Check the simulator, and train again."
        )
    squares = together * budget.bias_squared_limit
    trials, limit = together[squares.argmax()], budget.bias_squared_limit[squares.argmax()]
    where = "" if budget.region is None else f" {budget.region.in_words()}."
    return (
        f"{trials:,} trials share {_named(labels, together, trials)}, and this ratio was found to "
        f"bear {counted(budget.share**2 / limit)} (on average over its training prior, by "
        f"{budget.simulations:,} simulations): the posterior mean may be off by up to "
        f"{math.sqrt(squares.max()):.2g} posterior standard deviations.{where} "
        f"{_remedy(ratio, int(trials))}; see ratio.budget."
    )


def _named(labels: Sequence[str], together: np.ndarray, trials: int) -> str:
    """The parameters that so many trials share."""
    names = [label for label, each in zip(labels, together, strict=True) if each == trials]
    return "their parameters" if len(names) == len(labels) else ", ".join(names)


def _remedy(ratio: RatioEstimator, trials: int) -> str:
    """What helps most at that number of trials, first."""
    if not ratio.budget.is_seen:
        return (
            "No bias was seen, by too few simulations to vouch for so many trials: measure it on "
            f"more, {measurement(trials)}"
        )
    everywhere = "fine-tune it, nre.center(ratio, nre.Online(prior, simulator, batched=True))"
    around = "mend it around the posterior that you get, nre.center(ratio, around=idata)"
    if trials < _TOO_WIDE:
        return f"First {everywhere}: posteriors of so few trials are too wide to mend it around one"
    if trials < _MANY:
        return f"First {around}; if that is refused, or for other data, {everywhere}"
    return f"First {everywhere}; then {around}, which so many trials need as well"
