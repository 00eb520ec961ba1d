r"""Above which value of a statistic do parameters leave the set? Three answers.

- `Wilks`: the quantile of :math:`\chi^2` with as many degrees of freedom as there are parameters of
  interest. For many trials of an exact ratio, away from the edge.
- `CriticalValues`, which `critical_values` learns: parameters are drawn over the whole domain, a
  data set is simulated at each, and the quantile of the statistic is a regression on the
  parameters. One simulated set for each draw suffices, and what is learned serves all data sets of
  that design.
- `Neyman`: many data sets are simulated at every point that is asked of, and nothing is learned.

The last two are right whatever is wrong with the ratio, which costs size alone.

References
----------
N. Dalmasso, L. Masserano, D. Zhao, R. Izbicki, A. Lee (2021), arXiv:2107.03920.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from scipy.special import chdtri

from ..estimators.checks import simulator_of
from ..estimators.domain import Domain
from ..estimators.estimator import RatioEstimator
from ..exceptions import CoverageWarning, DomainWarning, warn
from ..runtime.arrays import finite_array, real_number, shares, true_or_false, whole_number
from ..runtime.progress import progress
from ..runtime.random_streams import generator_of
from ..simulation.parameters import Layout
from ..simulation.series.cuts import Transitions
from ..simulation.simulator import Simulator
from .observed import Observed, in_chunks, places_of
from .quantiles import Quantiles
from .searches.summed import SummedRatio
from .simulated import Experiment, designs_of
from .statistics import STATISTICS, Statistic

__all__ = [
    "CriticalValues",
    "Cut",
    "Neyman",
    "Wilks",
    "check_told",
    "critical_values",
    "experiment_of",
    "learned",
    "simulated_statistics",
    "statistic_of",
    "usual_levels",
]

_BEYOND = 5  # simulated sets above a critical value, at least: fewer do not tell it
_LEVELS = (0.5, 0.68, 0.8, 0.9, 0.95, 0.99)


class Cut(Protocol):
    """What tells how large a statistic may be."""

    def cut(self, theta: np.ndarray, level: float) -> np.ndarray:
        """The largest values ``(R,)`` in sets of that level, at all parameters ``(R, D)``."""


@dataclass(frozen=True)
class Wilks:
    """The same everywhere, for so many parameters of interest."""

    parameters: int

    def cut(self, theta: np.ndarray, level: float) -> np.ndarray:
        """As `Cut`."""
        return np.full(len(theta), chdtri(self.parameters, 1 - level))


@dataclass(frozen=True)
class Neyman:
    """By so many data sets, simulated at each point that is asked of."""

    statistic: Statistic
    experiment: Experiment
    sets: int
    rng: np.random.Generator
    progressbar: bool
    _known: dict[bytes, np.ndarray] = field(default_factory=dict)

    def cut(self, theta: np.ndarray, level: float) -> np.ndarray:
        """As `Cut`; a point that was asked of before has the same answer."""
        keys = [row.tobytes() for row in theta]
        new = {key: row for key, row in zip(keys, theta, strict=True) if key not in self._known}
        if new:
            each = np.repeat(np.array(list(new.values())), self.sets, axis=0)
            values = simulated_statistics(
                self.statistic, self.experiment, each, self.rng, self.progressbar
            )
            self._known.update(zip(new, values.reshape(len(new), self.sets), strict=True))
        found = np.array([self._known[key] for key in keys])
        return np.quantile(found, level, axis=1, method="higher")


@dataclass(frozen=True, eq=False)
class CriticalValues:
    """What `critical_values` returns: how large a statistic may be, anywhere in the domain.

    Attributes
    ----------
    levels : tuple of float
        At which it was learned.
    statistic : str
    parameters : tuple of str
        Of interest, by label.
    trials : int
        Of each data set.
    sets : int
        Simulated data sets that it was learned from.

    Examples
    --------
    >>> import numpy as np
    >>> import pymc_nre as nre
    >>> ratio = nre.tasks.GaussianMean().estimator()
    >>> known = {"levels": [0.5, 0.9], "random_seed": 1, "progressbar": False}
    >>> learned = nre.point.critical_values(ratio, np.zeros(5), **known)
    >>> learned.at(0.9, mu=[-5.0, 0.0, 5.0]).shape, learned.parameters
    ((3,), ('mu',))
    """

    levels: tuple[float, ...]
    statistic: str
    parameters: tuple[str, ...]
    trials: int
    sets: int
    _ratio: str
    _layout: Layout
    _domain: Domain
    _quantiles: Quantiles
    _designs: frozenset[bytes]

    def __repr__(self) -> str:
        levels = ", ".join(f"{level:.3g}" for level in self.levels)
        return (
            f"Critical values of the {self.statistic.replace('_', ' ')} of "
            f"{', '.join(self.parameters)}, {self.trials:,} trial{'s' * (self.trials != 1)}: "
            f"levels {levels}, from {self.sets:,} simulated sets"
        )

    def at(self, level: float, /, **parameters: Any) -> np.ndarray:
        r"""Critical values ``(*batch,)`` at all parameters ``(*batch, *own)`` by name.

        Raises
        ------
        TypeError, ValueError
            If a level was not learned, or parameters are missing or unknown.

        Warns
        -----
        DomainWarning
            If some are outside of the training domain, or no whole numbers where they should be.
        """
        level = real_number(level, "CriticalValues.at: level", above=0, below=1)
        for name, value in parameters.items():
            finite_array(value, f"CriticalValues.at: {name}")
        theta = self._layout.pack(parameters, "CriticalValues.at")
        rows = theta.reshape(-1, theta.shape[-1])
        self._warn_if_outside(rows)
        return self.cut(rows, level).reshape(theta.shape[:-1])

    def _warn_if_outside(self, theta: np.ndarray) -> None:
        """Warn of packed parameters ``(R, D)`` at which no data sets were simulated."""
        known = self._domain.inside(theta) & self._layout.allows(theta)
        if known.all():
            return
        ends = self._layout.in_ranges(self._domain.lower, self._domain.upper)
        whole = ", ".join(sorted(self._layout.integer))
        warn(
            f"CriticalValues.at: {(~known).sum():,} of {len(theta):,} points are outside of the "
            f"domain in which critical values were learned, {ends}"
            f"{whole and f', whole numbers of {whole}'}: what is said there is arbitrary. No set "
            "reaches there. Ask of points inside, or train on a wider prior, and learn again.",
            DomainWarning,
        )

    def cut(self, theta: np.ndarray, level: float) -> np.ndarray:
        """The same, ``(R,)``, at packed parameters ``(R, D)``."""
        return self._quantiles.at(self._domain.scores(theta))[:, self._column(level)]

    def _column(self, level: float) -> int:
        near = np.isclose(self.levels, level, rtol=0, atol=1e-9)
        if not near.any():
            raise ValueError(
                f"level: {level:g} was not learned, but {', '.join(map(str, self.levels))}. Take "
                "one of them, or learn others: critical_values(..., levels=[...])."
            )
        return int(near.argmax())

    def check(self, statistic: Statistic, observed: Observed, level: float, caller: str) -> None:
        """Raise ValueError unless they were learned for this, and warn of other designs."""
        layout = statistic.ratio.layout
        labels = tuple(layout.labels[place] for place in statistic.places)
        wanted = statistic.kind, labels, observed.trials, statistic.ratio.digest
        got = self.statistic, self.parameters, self.trials, self._ratio
        names = "statistic", "parameters of interest", "trials", "ratio"
        for name, one, other in zip(names, wanted, got, strict=True):
            if one != other:
                shown = "" if name == "ratio" else f": expected {one}, got {other}"
                raise ValueError(
                    f"{caller}: critical_values were learned for another {name}{shown}. Learn "
                    "those of this one, nre.point.critical_values(ratio, x, ...)."
                )
        self._column(level)
        if designs_of(statistic.ratio, observed.data.rows) - self._designs:
            warn(
                f"{caller}: critical_values were learned for data sets of other conditions, or "
                "that miss other numbers; how often these sets hold the truth is not known. Learn "
                "those of these, nre.point.critical_values(ratio, x, conditions=...).",
                CoverageWarning,
            )


def critical_values(
    ratio: RatioEstimator,
    x: Any,
    parameters: Any = None,
    *,
    levels: Any = None,
    statistic: str = "likelihood_ratio",
    sets: int = 2_000,
    conditions: Mapping[str, Any] | None = None,
    simulator: Simulator | Callable[..., Any] | None = None,
    starts: int = 20,
    random_seed: Any = None,
    progressbar: bool = True,
) -> CriticalValues:
    r"""Learn over the whole domain how large a statistic is by chance.

    Parameters
    ----------
    ratio : RatioEstimator
    x : array, shape (\*sets, n, \*event)
        Data sets as they will be: their number of trials, conditions, and what is missing are read,
        their values are not.
    parameters : sequence of str, optional
        Of interest; by default all.
    levels : sequence of float, optional
        Of confidence; sets of any of them can be made. By default .5, .68, .8, .9, .95 and .99, of
        which those are left out that fewer than five of the simulated sets are beyond.
    statistic : {"likelihood_ratio", "bayes_factor", "waldo"}
    sets : int
        To simulate. With 500 they are too few; 2,000 serve for an average over parameters, and
        10,000 where a network of many trials is off within small ranges of them.
    conditions : mapping of str to array, shape (\*sets, n, \*own), optional
        Known inputs of the observations, by name, which simulated data have too.
    simulator : Simulator or callable, optional
        By default that of the ratio.
    starts : int
        Of each search.
    random_seed : int, Generator or SeedSequence, optional
    progressbar : bool

    Returns
    -------
    CriticalValues

    Raises
    ------
    TypeError, ValueError
        If something does not fit, there is no simulator, or fewer than five of so many simulated
        sets are expected beyond the critical value of a level.

    Examples
    --------
    >>> import numpy as np
    >>> import pymc_nre as nre
    >>> ratio = nre.tasks.GaussianMean().estimator()
    >>> learned = nre.point.critical_values(
    ...     ratio, np.zeros(5), levels=[0.9], random_seed=1, progressbar=False
    ... )
    >>> learned
    Critical values of the likelihood ratio of mu, 5 trials: levels 0.9, from 2,000 simulated sets
    >>> bool(2.4 < learned.at(0.9, mu=0.0) < 3.0)  # chi-square: 2.71
    True
    """
    caller = "critical_values"
    observed = Observed.of(ratio, x, conditions, caller)
    asked = statistic_of(observed, statistic, parameters, starts, caller)
    experiment = experiment_of(observed, x, simulator, caller)
    sets = whole_number(sets, f"{caller}: sets", least=100)
    progressbar = true_or_false(progressbar, f"{caller}: progressbar")
    levels = _checked_levels(levels, sets, caller)
    return learned(asked, experiment, levels, sets, generator_of(random_seed), progressbar)


def usual_levels(sets: int) -> list[float]:
    """Those that so many simulated sets tell."""
    return [level for level in _LEVELS if _needed(level) <= sets]


def check_told(level: float, sets: int, what: str, remedy: str) -> None:
    """Raise ValueError if too few simulated sets are beyond the critical value of a level."""
    needed = _needed(level)
    if sets < needed:
        raise ValueError(
            f"{what}: {sets:,} simulated sets do not tell a critical value of {level:g}: "
            f"{sets * (1 - level):.2g} of them are expected beyond it, and {_BEYOND} are needed. "
            f"Take sets={needed:,}, or {remedy}."
        )


def _needed(level: float) -> int:
    """Of how many simulated sets enough are expected beyond a critical value."""
    return math.ceil(_BEYOND / (1 - level) * (1 - 1e-9))


def _checked_levels(levels: Any, sets: int, caller: str) -> np.ndarray:
    if levels is None:
        return np.array(usual_levels(sets))
    levels = np.unique(shares(levels, f"{caller}: levels"))
    check_told(levels[-1], sets, f"{caller}: levels", "lower levels")
    return levels


def statistic_of(
    observed: Observed, kind: Any, parameters: Any, starts: Any, caller: str
) -> Statistic:
    """What a user asks of data sets.

    Raises
    ------
    TypeError, ValueError
        If there is no such statistic or parameter.
    """
    ratio = observed.ratio
    if not isinstance(kind, str) or kind not in STATISTICS:
        raise ValueError(
            f"{caller}: statistic: expected one of {', '.join(STATISTICS)}, got {kind!r}."
        )
    if kind != STATISTICS[0] and ratio.layout.integer:
        raise ValueError(
            f"{caller}: statistic: {kind} needs continuous parameters, and "
            f"{', '.join(sorted(ratio.layout.integer))} is an integer. Take likelihood_ratio."
        )
    places = places_of(ratio.layout, parameters, caller)
    return Statistic(ratio, kind, places, whole_number(starts, f"{caller}: starts"))


def experiment_of(observed: Observed, x: Any, simulator: Any, caller: str) -> Experiment:
    """How data like these are simulated.

    Raises
    ------
    TypeError, ValueError
        If there is no simulator, or trials depend on each other.
    """
    if isinstance(x, Transitions):
        raise ValueError(
            f"{caller}: the transitions of a series are not independent trials: the past of each "
            "was random too. Take method='wilks', or train a ratio of whole series."
        )
    known = simulator_of(observed.ratio, simulator, caller)
    return Experiment(observed.ratio, known, observed.data.rows)


def learned(
    statistic: Statistic,
    experiment: Experiment,
    levels: np.ndarray,
    sets: int,
    rng: np.random.Generator,
    progressbar: bool,
) -> CriticalValues:
    """By regression on simulated statistics."""
    ratio, labels = statistic.ratio, statistic.ratio.layout.labels
    draws = ratio.domain.draws[ratio.domain.inside(ratio.domain.draws)]
    chosen = rng.choice(len(draws), sets, replace=sets > len(draws))
    values = simulated_statistics(statistic, experiment, draws[chosen], rng, progressbar)
    scores = ratio.domain.scores(draws[chosen])
    quantiles = Quantiles.fitted(scores, values, levels, int(rng.integers(2**31)))
    return CriticalValues(
        levels=tuple(map(float, levels)),
        statistic=statistic.kind,
        parameters=tuple(labels[place] for place in statistic.places),
        trials=experiment.design.shape[1],
        sets=sets,
        _ratio=ratio.digest,
        _layout=ratio.layout,
        _domain=ratio.domain,
        _quantiles=quantiles,
        _designs=designs_of(ratio, experiment.design),
    )


def simulated_statistics(
    statistic: Statistic,
    experiment: Experiment,
    theta: np.ndarray,
    rng: np.random.Generator,
    progressbar: bool,
) -> np.ndarray:
    """Statistics ``(R,)`` of data sets that are simulated at parameters ``(R, D)``, at these."""
    values = np.empty(len(theta))
    with progress(enabled=progressbar) as display:
        bar = display.add_task("simulated sets", total=len(theta), status="")
        for rows in in_chunks(len(theta), experiment.design[0].size):
            data = experiment.data(theta[rows], rng)
            known = statistic.prepared(SummedRatio.of(statistic.ratio, data))
            values[rows] = statistic.at(known, np.arange(len(data)), theta[rows])[0]
            display.advance(bar, len(data))
    return values
