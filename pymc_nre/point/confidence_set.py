r"""Sets that hold the truth as often as they say, at every value of the parameters.

A set at level :math:`1 - \alpha` holds the parameters at which a statistic of the data is no larger
than its critical value there. Nuisance parameters are profiled: they take their likeliest values
given those of interest, in the statistic and where a critical value is asked of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr

from ..amortized.adaptive_grid import Axis
from ..estimators.estimator import RatioEstimator
from ..ops.prior_check import warn_if_too_many
from ..runtime.arrays import finite_array, real_number, true_or_false, whole_number
from ..runtime.random_streams import generator_of
from ..simulation.series.cuts import Transitions
from ..simulation.simulator import Simulator
from .critical_values import (
    CriticalValues,
    Cut,
    Neyman,
    Wilks,
    check_told,
    experiment_of,
    learned,
    statistic_of,
    usual_levels,
)
from .integrals import Moments, moments
from .maximum_likelihood import covariances, maxima
from .observed import Observed, in_chunks
from .profile import held_at
from .regions import Plane, plane, runs
from .searches.search import Found
from .searches.summed import SummedRatio
from .statistics import Prepared, Statistic
from .wilks_check import coverages, warn_if_too_few

__all__ = ["ConfidenceSet", "confidence_set"]

METHODS = ("wilks", "calibrated", "neyman")
_SETS = {"calibrated": 2_000, "neyman": 500, "wilks": 300}  # that are simulated, by default
_CHECKED = 5  # estimates of many data sets at which Wilks is checked
_SHOWN = 5
_OF_EACH = 64  # numbers that a statistic needs for one data set and point


@dataclass(frozen=True, eq=False)
class ConfidenceSet:
    """What `confidence_set` returns: one set for each data set.

    Attributes
    ----------
    level : float
    method : {"wilks", "calibrated", "neyman"}
    checked : xarray.Dataset or None
        Of Wilks, where a simulator is at hand: ``coverage`` (point) at parameters ``at`` (point,
        parameter), by simulation.

    Examples
    --------
    >>> import numpy as np
    >>> import pymc_nre as nre
    >>> ratio = nre.tasks.GaussianMean().estimator()
    >>> x = np.array([[1.0, 2.0, 3.0, 2.0], [0.0, 1.0, 0.0, 1.0]])
    >>> found = nre.point.confidence_set(ratio, x, method="wilks", sets=0, progressbar=False)
    >>> found.contains(mu=[0.0, 1.5])
    array([[False,  True],
           [ True, False]])
    >>> found.size.round(2)
    array([1.64, 1.64])
    """

    level: float
    method: str
    _observed: Observed
    _statistic: Statistic
    _found: Found
    _moments: Moments | None
    _cut: Cut
    checked: xr.Dataset | None = None
    _regions: dict[int, Any] = field(default_factory=dict)

    @property
    def statistic(self) -> str:
        """Its name."""
        return self._statistic.kind

    @property
    def parameters(self) -> list[str]:
        """Of interest, by label."""
        return [self._layout.labels[place] for place in self._statistic.places]

    @property
    def integers(self) -> list[str]:
        """Those of them that are integers, by label."""
        return [axis.label for axis in self._axes if axis.integer]

    @property
    def critical_values(self) -> Cut:
        """What cuts; that of ``calibrated`` serves other data sets of the same design."""
        return self._cut

    @property
    def _layout(self) -> Any:
        return self._statistic.ratio.layout

    def contains(self, /, **parameters: Any) -> np.ndarray:
        r"""Whether parameters are in the sets.

        Parameters
        ----------
        **parameters : array, shape (\*own) or (points, \*own)
            Those of interest, by name or label.

        Returns
        -------
        ndarray of bool, shape (\*sets,) or (\*sets, points)

        Raises
        ------
        TypeError, ValueError
            If these are not the parameters of interest.
        """
        places, points = held_at(self._layout, parameters, "contains")
        self._check(places, "contains")
        inside = np.empty((self._observed.sets, len(points)), bool)
        for rows, known in self._prepared():
            sets = rows.stop - rows.start
            for some in in_chunks(len(points), sets * _OF_EACH):
                owners = np.repeat(np.arange(sets), len(points[some]))
                margin = self._margin_of(known, owners, np.tile(points[some], (sets, 1)))
                inside[rows, some] = margin.reshape(sets, -1) >= 0
        single = all(
            np.ndim(value) == len(self._layout.shapes.get(name, ()))
            for name, value in parameters.items()
        )
        shape = self._observed.data.shape if single else (*self._observed.data.shape, len(points))
        return inside.reshape(shape)

    def holds(self, /, **truths: Any) -> np.ndarray:
        r"""Whether each set holds parameters of its own, ``(*sets,)``: for coverage.

        Parameters
        ----------
        **truths : array, shape (\*sets, \*own)
            The parameters of interest, by name or label; they broadcast.
        """
        layout, data = self._layout, self._observed.data
        flat = {name: self._one_for_each(name, value) for name, value in truths.items()}
        places, points = held_at(layout, flat, "holds")
        self._check(places, "holds")
        margins = [
            self._margin_of(known, np.arange(rows.stop - rows.start), points[rows])
            for rows, known in self._prepared()
        ]
        return (np.concatenate(margins) >= 0).reshape(data.shape)

    def _one_for_each(self, name: str, value: Any) -> np.ndarray:
        """Values ``(S, *own)`` of a parameter, one for each data set."""
        own, shape = self._layout.shapes.get(name, ()), self._observed.data.shape
        array = finite_array(value, f"holds: {name}")
        try:
            return np.broadcast_to(array, (*shape, *own)).reshape(-1, *own)
        except ValueError as error:
            raise ValueError(
                f"holds: {name}: expected values of each data set, shape {(*shape, *own)}, got "
                f"{array.shape}. Whether sets contain the same values: contains(...)."
            ) from error

    @property
    def intervals(self) -> Any:
        """Of one parameter: pieces (low, high) from left to right, a list for each data set.

        Of an integer a piece is a run of whole numbers, from the first to the last.
        """
        self._check_dimensions("intervals", 1)
        return self._for_each(lambda region: region)

    @property
    def size(self) -> np.ndarray:
        """Length of the sets of one parameter, area of those of two, ``(*sets,)``.

        Each value of an integer counts one: the size is how many values a set has, how many pairs
        if both are integers, and the lengths at all values together if one is.
        """
        sizes = [self._size(self.region(k)) for k in range(self._observed.sets)]
        return np.array(sizes).reshape(self._observed.data.shape)

    def region(self, index: int = 0) -> Any:
        """Pieces of one data set's set, or its grid if there are two parameters."""
        index = self._checked(index, "region")
        if index not in self._regions:
            self._regions[index] = self._look(index)
        return self._regions[index]

    def grid(self, index: int = 0) -> xr.Dataset:
        """Of two parameters, of one data set: ``margin`` and ``inside`` at places of cells.

        The margin is the critical value less the statistic, -inf outside of the training domain.
        Places are midpoints; of an integer each value, or some where there are more than sixty.
        """
        self._check_dimensions("grid", 2)
        found, dims = self.region(index), [f"{name}_point" for name in self.parameters]
        coords = {dim: (dim, own.places) for dim, own in zip(dims, found.cells, strict=True)}
        return xr.Dataset(
            {"margin": (dims, found.margin), "inside": (dims, found.margin >= 0)}, coords=coords
        )

    def contours(self, index: int = 0) -> list[np.ndarray]:
        """Edges ``(k, 2)`` of a set of two parameters, of one data set; needs matplotlib.

        Around a value of an integer they are half a unit away.
        """
        self._check_dimensions("contours", 2)
        return self.region(index).contours()

    def plot(self, ax: Any = None, *, index: int = 0, **options: Any) -> Any:
        """Draw one data set's set, as `pymc_nre.plots.confidence_set`."""
        from ..plots import confidence_set as draw

        return draw(self, ax, index=index, **options)

    def estimate(self, index: int = 0) -> np.ndarray:
        """Maximum likelihood of the parameters of interest, ``(d,)``, of one data set."""
        return self._found.theta[self._checked(index, "estimate"), self._statistic.places]

    def __repr__(self) -> str:
        sets, trials = self._observed.sets, self._observed.trials
        lines = [
            f"{100 * self.level:.6g}% confidence set of {', '.join(self.parameters)} "
            f"({self.method}, {self.statistic.replace('_', ' ')}), "
            f"{sets:,} data set{'s' * (sets != 1)} of "
            f"{trials:,} trial{'s' * (trials != 1)}"
        ]
        if len(self.parameters) <= 2:
            lines += [f"  {self._told(k)}" for k in range(min(sets, _SHOWN))]
            lines += [f"  ... and {sets - _SHOWN:,} more"] * (sets > _SHOWN)
        if self.checked is not None:
            least = float(self.checked["coverage"].min())
            lines.append(f"Wilks' cut was checked by simulation: coverage {least:.1%} at worst")
        return "\n".join(lines)

    def _told(self, index: int) -> str:
        region, labels = self.region(index), self.parameters
        if isinstance(region, Plane):
            center = ", ".join(f"{v:.4g}" for v in self.estimate(index))
            size = "size" if self.integers else "area"
            return f"{size} {region.area:.4g} around {', '.join(labels)} = {center}"
        told = _whole_in_words if self.integers else "[{:.4g}, {:.4g}]".format
        pieces = " and ".join(told(*ends) for ends in region)
        return f"{labels[0]} in {pieces}" if pieces else "nothing"

    def _checked(self, index: Any, caller: str) -> int:
        """Which data set, if there is such a one."""
        index = whole_number(index, f"{caller}: index", least=0)
        if index >= self._observed.sets:
            raise ValueError(
                f"{caller}: index: expected that of a data set, below {self._observed.sets}, got "
                f"{index}. Several axes of data sets are counted as one, the last fastest."
            )
        return index

    def _for_each(self, function: Callable[[Any], Any]) -> Any:
        found = np.empty(self._observed.sets, dtype=object)
        for k in range(self._observed.sets):
            found[k] = function(self.region(k))
        return found.reshape(self._observed.data.shape)[()]

    def _size(self, region: Any) -> float:
        if isinstance(region, Plane):
            return region.area
        return float(sum(high - low + len(self.integers) for low, high in region))

    def _check(self, places: np.ndarray, caller: str) -> None:
        if not np.array_equal(places, self._statistic.places):
            raise ValueError(
                f"{caller}: expected values of {', '.join(self.parameters)}, the parameters of "
                "this set, and of no others."
            )

    def _check_dimensions(self, what: str, wanted: int) -> None:
        if len(self.parameters) != wanted:
            raise ValueError(
                f"{what}: of a set of {wanted} parameter{'s' * (wanted > 1)}, and this is one of "
                f"{len(self.parameters)}. Ask what it contains(...), or make one of fewer "
                "parameters, confidence_set(..., parameters=[...])."
            )

    @cached_property
    def _axes(self) -> list[Axis]:
        layout, domain = self._layout, self._statistic.ratio.domain
        ends, whole = domain.ends(), layout.whole
        return [
            Axis(layout.labels[place], *ends[place], bool(whole[place]))
            for place in self._statistic.places
        ]

    def _look(self, index: int) -> Any:
        """Where one data set's set is."""
        places = self._statistic.places
        if len(places) > 2:
            self._check_dimensions("region", 2)

        one = slice(index, index + 1)
        summed = SummedRatio.of(self._observed.ratio, self._observed.data.rows[one])
        known = self._known(one, summed)

        def margin(points: np.ndarray) -> np.ndarray:
            held = np.full((len(points), self._layout.size), np.nan)
            held[:, places] = points
            return self._margin_of(known, np.zeros(len(points), int), held)

        mine = known.found
        modes = mine.others[:, places]
        covariance = np.eye(self._layout.size)  # of integers, in which there is no curvature
        free = self._layout.continuous
        covariance[free[:, None], free] = covariances(mine)[0][0]
        covariance = covariance[places[:, None], places]
        if len(places) == 1:
            error = float(np.sqrt(covariance[0, 0]))
            return runs(margin, self._axes[0], modes[:, 0], error, self.method == "neyman")
        return plane(margin, self._axes, modes, covariance)

    def _prepared(self) -> Iterator[tuple[slice, Prepared]]:
        """Some data sets after others, with what is known of them."""
        for rows, summed in self._observed.chunks():
            yield rows, self._known(rows, summed)

    def _known(self, rows: slice, summed: SummedRatio) -> Prepared:
        return Prepared(summed, self._found.of(rows), self._moments and self._moments.of(rows))

    def _margin_of(self, known: Prepared, which: np.ndarray, held: np.ndarray) -> np.ndarray:
        """Critical values less statistics ``(R,)``, of data sets ``(R,)`` at ``(R, D)``."""
        margin = np.full(len(which), -np.inf)
        value, theta = self._statistic.at(known, which, held)
        inside = np.isfinite(value)
        margin[inside] = self._cut.cut(theta[inside], self.level) - value[inside]
        return margin


def _whole_in_words(low: float, high: float) -> str:
    """Of a run of whole numbers."""
    return f"{low:.0f}" if low == high else f"{low:.0f} to {high:.0f}"


def confidence_set(
    ratio: RatioEstimator,
    x: Any,
    parameters: Any = None,
    *,
    level: float = 0.9,
    method: str = "calibrated",
    statistic: str = "likelihood_ratio",
    critical_values: CriticalValues | None = None,
    sets: int | None = None,
    conditions: Mapping[str, Any] | None = None,
    simulator: Simulator | Callable[..., Any] | None = None,
    starts: int = 20,
    random_seed: Any = None,
    progressbar: bool = True,
) -> ConfidenceSet:
    r"""Sets of parameters that hold the true ones as often as they say.

    Parameters
    ----------
    ratio : RatioEstimator
    x : array or xarray.DataArray, shape (\*sets, n, \*event)
        As in `maximum_likelihood`.
    parameters : sequence of str, optional
        Of interest, by name, or numbers of them by labels as ``beta[0]``; by default all. The
        others are profiled.
    level : float
        Of confidence.
    method : {"calibrated", "wilks", "neyman"}
        Where critical values come from: learned over the domain from simulated data sets; from
        Wilks' theorem; or by many simulated data sets at each point that is asked of.
    statistic : {"likelihood_ratio", "bayes_factor", "waldo"}
        Of Wilks the first.
    critical_values : CriticalValues, optional
        Of ``calibrated``, if they are learned already.
    sets : int, optional
        To simulate: 2,000 of ``calibrated``, 500 at each point of ``neyman``, and 300 at each point
        at which ``wilks`` is checked, where 0 leaves the check out.
    conditions : mapping of str to array, shape (\*sets, n, \*own), optional
        Known inputs of the observations, by name.
    simulator : Simulator or callable, optional
        By default that of the ratio. Wilks needs none, and is not checked then, nor for
        transitions of series.
    starts : int
        Of each search.
    random_seed : int, Generator or SeedSequence, optional
    progressbar : bool

    Returns
    -------
    ConfidenceSet

    Raises
    ------
    TypeError, ValueError
        If something does not fit, or there is no simulator.

    Warns
    -----
    CoverageWarning
        If simulated data sets tell that Wilks' cut holds the truth too rarely: at the estimate and
        the ends of a single data set's interval, at some estimates of many. If critical values
        were learned for other conditions, or where other numbers are missing.
    TrialsWarning
        Of Wilks, if the ratio is not known to bear that many trials.

    Examples
    --------
    >>> import numpy as np
    >>> import pymc_nre as nre
    >>> ratio = nre.tasks.GaussianMean().estimator()
    >>> x = np.array([1.0, 2.0, 3.0, 2.0])
    >>> nre.point.confidence_set(ratio, x, method="wilks", sets=0, progressbar=False)
    90% confidence set of mu (wilks, likelihood ratio), 1 data set of 4 trials
      mu in [1.178, 2.822]
    """
    caller = "confidence_set"
    observed = Observed.of(ratio, x, conditions, caller)
    asked = statistic_of(observed, statistic, parameters, starts, caller)
    level = real_number(level, f"{caller}: level", above=0, below=1)
    sets = _checked_options(method, asked, critical_values, sets, caller)
    progressbar = true_or_false(progressbar, f"{caller}: progressbar")
    rng = generator_of(random_seed)
    if method == "wilks":
        warn_if_too_many(caller, ratio, observed.trials)
    if critical_values is not None:
        critical_values.check(asked, observed, level, caller)
        cut: Cut = critical_values
    else:
        cut = _cut(method, asked, observed, x, simulator, level, sets, rng, progressbar)
    found = maxima(observed, asked.starts, progressbar, caller)
    averaged = None
    if asked.kind != "likelihood_ratio":
        parts = [moments(ratio, some, found.of(rows)) for rows, some in observed.chunks()]
        averaged = Moments.joined(parts)
    made = ConfidenceSet(level, method, observed, asked, found, averaged, cut)
    unlike = isinstance(x, Transitions)  # trials of a series are not simulated one by one
    if method == "wilks" and sets and not unlike and (simulator or ratio.simulator) is not None:
        return _with_check(made, experiment_of(observed, x, simulator, caller), sets, rng)
    return made


def _checked_options(method: Any, asked: Statistic, given: Any, sets: Any, caller: str) -> int:
    """How many data sets to simulate; TypeError or ValueError if options do not fit."""
    if not isinstance(method, str) or method not in METHODS:
        raise ValueError(f"{caller}: method: expected one of {', '.join(METHODS)}, got {method!r}.")
    if method == "wilks" and asked.kind != "likelihood_ratio":
        raise ValueError(
            f"{caller}: Wilks' theorem is about the likelihood ratio, got statistic="
            f"{asked.kind!r}. Take method='calibrated' or 'neyman'."
        )
    layout = asked.ratio.layout
    integers = asked.places[layout.whole[asked.places]]
    if method == "wilks" and integers.size:
        raise ValueError(
            f"{caller}: Wilks' theorem is about continuous parameters, and "
            f"{layout.labels[integers[0]]} is an integer. Take method='neyman'."
        )
    if given is not None and (method != "calibrated" or not isinstance(given, CriticalValues)):
        raise TypeError(
            f"{caller}: critical_values: expected what nre.point.critical_values gives, for "
            f"method='calibrated', got {type(given).__name__} for {method!r}."
        )
    least = 0 if method == "wilks" else 100
    return _SETS[method] if sets is None else whole_number(sets, f"{caller}: sets", least=least)


def _cut(
    method: str,
    asked: Statistic,
    observed: Observed,
    x: Any,
    simulator: Any,
    level: float,
    sets: int,
    rng: np.random.Generator,
    progressbar: bool,
) -> Cut:
    """Where critical values come from."""
    if method == "wilks":
        return Wilks(len(asked.places))
    check_told(level, sets, "confidence_set: level", "method='wilks'")
    experiment = experiment_of(observed, x, simulator, "confidence_set")
    if method == "neyman":
        return Neyman(asked, experiment, sets, rng, progressbar)
    levels = np.unique([*usual_levels(sets), level])
    return learned(asked, experiment, levels, sets, rng, progressbar)


def _with_check(
    made: ConfidenceSet, experiment: Any, sets: int, rng: np.random.Generator
) -> ConfidenceSet:
    """The same, and how often Wilks' cut holds the truth in simulated data."""
    points = made._found.theta[:: -(-made._observed.sets // _CHECKED)]
    places = made._statistic.places
    if made._observed.sets == 1 and len(places) == 1:
        ends = np.ravel(made.region())
        held = np.full((len(ends), made._layout.size), np.nan)
        held[:, places[0]] = ends
        ((_, summed),) = made._observed.chunks()
        known = Prepared(summed, made._found, None)
        points = np.concatenate(
            [points, made._statistic.at(known, np.zeros(len(ends), int), held)[1]]
        )
    points = points[made._statistic.ratio.domain.inside(points)]
    shares = coverages(made._statistic, experiment, made._cut, points, made.level, sets, rng)
    labels = made._layout.labels
    warn_if_too_few(shares, points, made.level, sets, labels, "confidence_set")
    checked = xr.Dataset(
        {"coverage": ("point", shares), "at": (("point", "parameter"), points)},
        coords={"parameter": labels},
        attrs={"sets": sets, "level": made.level},
    )
    parts = {name: value for name, value in vars(made).items() if name != "_axes"}
    return ConfidenceSet(**parts | {"checked": checked})
