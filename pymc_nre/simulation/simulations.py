"""Simulations: parameters, observations, and what is known of the prior they came from.

They are a value: a selection of rows and several sets joined are simulations as well, and a file
holds arrays and a description, of which nothing is believed before it was compared with the other.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ..exceptions import EstimatorFileError, SimulationWarning, warn
from ..runtime.archive import read_archive, write_archive
from ..runtime.arrays import real_array, true_or_false
from ..runtime.stored import Form
from .conditions.designs import check_apart, dependence
from .conditions.layout import Conditions, side_by_side
from .conditions.packing import Packing, packing
from .independent_points.points import Points
from .parameters import Layout, check_reserved, describe_shape, is_integer
from .prior import Prior
from .simulator import Simulator, as_simulator, batched_of

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Simulations"]

_LOOKED_AT = 1_000  # draws, by which a prior is judged
_FIRST_NOT_EXACT = 2**53  # whole number that a float has in common with the next one
_ROUNDED = 0.01  # share of them that may be impossible by rounding at the edge of its support


class Simulations:
    """Training simulations: parameter draws and the observations they produced.

    What `pymc_nre.simulate` returns; build one from arrays you already have.

    Parameters
    ----------
    parameters : mapping of str to array, shape (n, *own)
        Draws from the training prior, by name: a dict, or a DataFrame.
    x : array, shape (n, *event)
        The observation simulated at each draw; with ``iid=True`` m points of each,
        ``(n, m, *event)``, of which some may be masked.
    conditions : mapping of str to array, shape (n, *own), optional
        Known inputs of each observation, such as its dose or its design, drawn independently of
        the parameters. The ratio is then that of an observation given its conditions. With
        ``iid=True`` those of each point, ``(n, m, *own)``.
    iid : bool
        Whether the second axis of ``x`` counts points that are independent given the parameters.
        Then the ratio of a single point is learned, from all of them.
    prior : pymc.Model or dict, optional
        The prior the draws came from, as for `pymc_nre.simulate`. It gives the log density of
        each draw, which some diagnostics use, and of others near it, which `train` learns from. A
        thousand of the draws are looked at: they must be possible under it.
    simulator : Simulator or callable, optional
        What made ``x``; it lets models that use the ratio predict.

    Attributes
    ----------
    x : array, shape (n, *event)
        The observations; with ``iid=True`` one point of each simulation, which is what
        diagnostics look at: ranks of points that share their parameters are no independent ones.
    points : array, shape (N, *event)
        All points, those of one simulation after another; without ``iid=True`` the same as ``x``.
    counts : array of int, shape (n,)
        How many points each simulation has.
    n_failed : int
        Simulations that were left out because they failed or were not finite. Rows have their
        share, as if failures were spread evenly: parts of a set that are joined have as many again.
        Those count too that lost points.

    Raises
    ------
    TypeError
        If something is not of real numbers.
    ValueError
        If lengths differ, a name is reserved or cannot be a keyword, anything is masked or not
        finite, there is none, or draws are impossible under ``prior``. With ``iid=True`` whole
        points may be masked, and each simulation needs one.

    Warns
    -----
    SimulationWarning
        If a few draws are impossible under ``prior``, as by rounding at its edge.

    Examples
    --------
    >>> import numpy as np
    >>> import pymc_nre as nre
    >>> rng = np.random.default_rng(1)
    >>> mu = rng.uniform(-10, 10, 1_000)
    >>> nre.Simulations({"mu": mu}, rng.normal(mu, 1.0))
    Simulations: 1,000 pairs, parameters mu (scalar), observation scalar

    Rows of them, by a slice, by their numbers or by a mask, and several sets together:

    >>> simulations = nre.tasks.GaussianMean().simulate(1_000, random_seed=1)
    >>> training, held_out = simulations[:900], simulations[900:]
    >>> len(training + held_out)
    1000

    Four points in each simulation, of which the ratio of one point is learned:

    >>> nre.Simulations({"mu": mu}, rng.normal(mu[:, None], 1.0, (1_000, 4)), iid=True)
    Simulations: 1,000 with 4 points each, parameters mu (scalar), observation scalar
    """

    def __init__(
        self,
        parameters: Mapping[str, Any],
        x: Any,
        *,
        conditions: Mapping[str, Any] | None = None,
        iid: bool = False,
        prior: Any = None,
        simulator: Simulator | Callable[..., Any] | None = None,
    ) -> None:
        parameters = _by_name(parameters)
        given = {} if conditions is None else _by_name(conditions, "conditions")
        iid = true_or_false(iid, "Simulations: iid")
        check_reserved(parameters | given)
        check_apart(given, parameters)
        if not parameters:
            raise ValueError("Simulations: parameters: expected at least one, got none.")
        self.parameters = {name: _rows(name, value) for name, value in parameters.items()}
        self._points = Points.of(x) if iid else None
        self.x = _rows("x", x) if self._points is None else self._points.first
        arrays = [*self.parameters.items(), ("x", self.x)]
        _check_lengths(arrays)
        for name, array in arrays:
            _check_finite(name, array)
        self.layout = Layout(
            {name: value.shape[1:] for name, value in self.parameters.items()},
            frozenset(name for name, value in parameters.items() if is_integer(value)),
        )
        for name in self.layout.integer:
            _check_exact(name, self.parameters[name])
        self.event_shape: tuple[int, ...] = self.x.shape[1:]
        there = _there(x) if iid else None
        self.take_conditions({name: _of_points(name, v, there) for name, v in given.items()})
        if self.dependence:
            raise ValueError(
                f"Simulations: {self.dependence}; expected conditions that are drawn independently "
                "of the parameters, or the ratio would count what they tell by themselves. Shuffle "
                "designs among simulations, and simulate again."
            )
        self.simulator = as_simulator(simulator, iid=iid)
        self._batched: bool | None = None  # of a simulator that is not here any more
        self.n_failed, self._some_failed = 0, False
        self.as_drawn = False  # from the prior, as far as the library can say
        self.known_prior = None if prior is None else self._known(prior)

    def take_conditions(self, given: Mapping[str, Any]) -> None:
        """Keep what is known beside all points, ``(N, *own)`` by name."""
        self._given = {name: _rows(name, value) for name, value in given.items()}
        _check_lengths([*self._given.items(), ("x", self.points)])
        for name, array in self._given.items():
            _check_finite(name, array)
        integer = [name for name, value in given.items() if is_integer(value)]
        self.known_conditions = (
            Conditions.of(self._given, self.event_shape, integer) if given else None
        )

    @property
    def conditions(self) -> dict[str, np.ndarray]:
        """What is known beside each observation of ``x``, ``(n, *own)`` by name."""
        if self._points is None:
            return self._given
        return {name: value[self._points.starts] for name, value in self._given.items()}

    @property
    def dependence(self) -> str:
        """Which condition goes with which parameter, in words; empty where none does."""
        known = self.known_conditions
        if known is None:
            return ""
        rows = known.layout.pack(self.conditions)
        return dependence(self.theta, self.layout.labels, rows, known.layout.labels)

    @property
    def observation_shape(self) -> tuple[int, ...]:
        """Of one observation, without the conditions that may be packed beside it."""
        known = self.known_conditions
        return self.event_shape if known is None else known.event_shape

    @property
    def predictor(self) -> Simulator | None:
        """What simulates an observation, given its conditions if it has any."""
        packed = getattr(self.simulator, "function", None)
        return packed.simulator if isinstance(packed, Packing) else self.simulator

    def packed(self) -> Simulations:
        """The same with each observation and its conditions as one vector, which networks take."""
        known = self.known_conditions
        if known is None or not self._given:
            return self
        packed = side_by_side(self.points, self._given)
        points = None if self._points is None else Points(packed, self.counts)
        simulator = self.simulator and packing(self.simulator, known, self._given)
        return self._with(
            self.parameters,
            x=packed if points is None else points.first,
            event_shape=known.packed_shape,
            simulator=simulator,
            _points=points,
            _given={},
        )

    def with_x(self, x: np.ndarray) -> Simulations:
        """The same with other observations ``(n, *event)``, one of each, which may have holes."""
        return self if x is self.x else self._with(self.parameters, x=x, _points=None)

    def packing(self, simulator: Simulator) -> Simulator:
        """A simulator of what these packed simulations hold, of one that is given conditions."""
        known = self.known_conditions
        if known is None:
            return simulator
        return packing(simulator, known, known.split(self.x)[1])

    def _known(self, prior: Any) -> Prior | None:
        known = Prior.of(prior)
        self.layout.check_names(known.shapes, "The prior of these simulations")
        if known.shapes != dict(self.layout.shapes):
            raise ValueError(
                "The prior of these simulations: expected parameters of shape "
                f"{dict(self.layout.shapes)}, got {known.shapes}. Give each the shape of one draw."
            )
        marginal = known.marginal(list(known.variables))
        if marginal is not None and not isinstance(prior, Prior):  # that is what they are drawn of
            self._check_possible(marginal)
        return marginal

    def _check_possible(self, prior: Prior) -> None:
        """Raise, or warn, if some of the parameters cannot be draws of the prior."""
        rows = np.linspace(0, len(self) - 1, min(len(self), _LOOKED_AT)).astype(int)
        density = prior.log_density({name: v[rows] for name, v in self.parameters.items()})
        bad = ~np.isfinite(density)
        if not bad.any():
            return
        told = (
            f"prior: {bad.sum():,} of {len(rows):,} draws of the parameters that were looked at "
            f"are impossible under it (first: row {rows[bad.argmax()]}). Pass the prior that they "
            "were drawn from."
        )
        if bad.mean() > _ROUNDED:
            raise ValueError(told)
        warn(told, SimulationWarning)

    @cached_property
    def log_prior(self) -> np.ndarray | None:
        """Log density of each draw under the training prior, ``(n,)``; None if not known."""
        return None if self.known_prior is None else self.known_prior.log_density(self.parameters)

    @property
    def is_complete(self) -> bool:
        """Whether nothing failed in the runs they are from, so that they are draws of the prior."""
        return not (self.n_failed or self._some_failed)

    @property
    def batched(self) -> bool | None:
        """Whether their simulator takes many draws at once; None if no function is known."""
        return batched_of(self.predictor, self._batched)

    @property
    def points(self) -> np.ndarray:
        """All points ``(N, *event)``, those of one simulation after another."""
        return self.x if self._points is None else self._points.x

    @property
    def counts(self) -> np.ndarray:
        """How many points each simulation has, ``(n,)``."""
        return self._all.counts

    @property
    def iid(self) -> bool:
        """Whether a simulation may have several points."""
        return self._points is not None

    @property
    def _all(self) -> Points:
        return Points(self.x, np.ones(len(self), int)) if self._points is None else self._points

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, rows: Any) -> Simulations:
        """Those of a slice, of an array of numbers ``(m,)``, or of a mask ``(n,)``."""
        rows = _which(rows, len(self))
        arrays = {name: value[rows] for name, value in self.parameters.items()}
        own: dict[str, Any] = {"x": self.x[rows], "n_failed": self._failed_beside(rows)}
        own["_some_failed"] = not self.is_complete
        own["as_drawn"] = self.as_drawn and isinstance(rows, slice)
        own["_given"] = {name: self._rows_of(value, rows) for name, value in self._given.items()}
        own["_points"] = None if self._points is None else self._points[rows]
        if "log_prior" in vars(self):  # computed, or from a file
            own["log_prior"] = None if self.log_prior is None else self.log_prior[rows]
        return self._with(arrays, **own)

    def _rows_of(self, values: np.ndarray, rows: Any) -> np.ndarray:
        """Of values of all points those of some simulations."""
        return values[rows] if self._points is None else Points(values, self.counts)[rows].x

    def _failed_beside(self, rows: Any) -> int:
        """Of the failures, spread evenly over all rows, those of some."""
        if not self.n_failed:
            return 0
        each, more = divmod(self.n_failed, len(self))  # however many failed
        beside = np.diff(np.arange(len(self) + 1) * more // len(self))[rows]
        return each * len(beside) + int(beside.sum())

    def __add__(self, other: Simulations) -> Simulations:
        """All of both; the prior stays known if it is that of both."""
        if not isinstance(other, Simulations):
            return NotImplemented
        self._check_alike(other)
        arrays = {
            name: np.concatenate([value, other.parameters[name]])
            for name, value in self.parameters.items()
        }
        same = _same_prior(self, other)
        given = {n: np.concatenate([value, other._given[n]]) for n, value in self._given.items()}
        known = self.known_conditions and self.known_conditions.joined(other.known_conditions)
        return self._with(
            arrays,
            x=np.concatenate([self.x, other.x]),
            _given=given,
            known_conditions=known,
            _points=self._all + other._all if self.iid or other.iid else None,
            n_failed=self.n_failed + other.n_failed,
            _some_failed=not (self.is_complete and other.is_complete),
            as_drawn=self.as_drawn and other.as_drawn,
            simulator=self.simulator or other.simulator,
            _batched=other.batched if self.batched is None else self.batched,
            **({} if same else {"known_prior": None, "log_prior": None}),
        )

    def _with(self, parameters: dict[str, np.ndarray], **own: Any) -> Simulations:
        """The same with other rows, which have been looked at."""
        _check_lengths([*parameters.items(), ("x", own["x"])])
        made = object.__new__(type(self))
        kept = {name: value for name, value in vars(self).items() if name != "log_prior"}
        vars(made).update(kept | {"parameters": parameters} | own)
        return made

    def _check_alike(self, other: Simulations) -> None:
        mine, others = (
            (
                dict(each.layout.shapes),
                sorted(each.layout.integer),
                each.event_shape,
                {name: value.shape[1:] for name, value in each.conditions.items()},
            )
            for each in (self, other)
        )
        if mine != others:
            raise ValueError(
                "Simulations that are joined need the same parameters and observations, and the "
                f"same conditions if any; got {self!r} and {other!r}."
            )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write them to one file, without pickle; an existing file is replaced.

        The prior and the simulator are not saved, but the log density of each draw and whether
        the simulator takes many draws at once.

        Parameters
        ----------
        path : str or path-like

        Raises
        ------
        OSError
            If the file cannot be written; an old one is left as it was.
        """
        arrays = {f"parameters/{name}": value for name, value in self.parameters.items()}
        arrays |= {f"conditions/{name}": value for name, value in self._given.items()}
        arrays["x"] = self.points
        if self.iid:
            arrays["points"] = self.counts.astype(float)
        if self.log_prior is not None:
            arrays["log_prior"] = self.log_prior.astype(float)
        metadata = {
            "parameters": {name: list(shape) for name, shape in self.layout.shapes.items()},
            "integer": sorted(self.layout.integer),
            "n_failed": self.n_failed,
            "some_failed": not self.is_complete,
            "batched": self.batched,
        }
        if self.known_conditions is not None:
            metadata["conditions"] = self.known_conditions.to_dict()
        write_archive(path, metadata, arrays, _FORMAT, _problems)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        prior: Any = None,
        simulator: Simulator | Callable[..., Any] | None = None,
    ) -> Simulations:
        """Read what `save` wrote.

        Parameters
        ----------
        path : str or path-like
        prior : pymc.Model or dict, optional
            The prior that the draws came from. Without it the log density of each draw is known
            if it was saved, and no other; `train` then does without contrasts at every scale.
        simulator : Simulator or callable, optional
            What made them. A function is called on many draws at once if the one that made them
            was; a `Simulator` as it says.

        Returns
        -------
        Simulations

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        EstimatorFileError
            If it is not one of simulations, is damaged, was changed, or is of a newer format.

        Examples
        --------
        >>> import os, tempfile
        >>> import pymc_nre as nre
        >>> path = os.path.join(tempfile.mkdtemp(), "gaussian.simulations")
        >>> nre.tasks.GaussianMean().simulate(1_000, random_seed=1).save(path)
        >>> nre.Simulations.load(path)
        Simulations: 1,000 pairs, parameters mu (scalar), observation scalar
        """
        metadata, arrays = read_archive(path, _FORMAT, _problems)
        parameters = {name: arrays[f"parameters/{name}"] for name in metadata["parameters"]}
        for name in metadata["integer"]:
            parameters[name] = _whole(parameters[name], name, path)
        x, iid = arrays["x"], "points" in arrays
        if iid:
            x = _with_counts(x, arrays["points"], path)
        described = metadata.get("conditions", {"shapes": {}, "integer": []})
        conditions = {name: arrays[f"conditions/{name}"] for name in described["shapes"]}
        for name in described["integer"]:
            conditions[name] = _whole(conditions[name], name, path)
        simulator = as_simulator(simulator, bool(metadata["batched"]), iid)
        try:
            made = cls(parameters, x, conditions=conditions, iid=iid, simulator=simulator)
        except ValueError as error:
            raise EstimatorFileError(f"{path} cannot be used: {error}") from error
        made.known_prior = None if prior is None else made._known(prior)
        made._batched = metadata["batched"]
        made.n_failed, made._some_failed = metadata["n_failed"], metadata["some_failed"]
        if made.known_prior is None and "log_prior" in arrays:
            made.__dict__["log_prior"] = arrays["log_prior"]
        return made

    @property
    def theta(self) -> np.ndarray:
        """The parameters packed, ``(n, D)``."""
        return self.layout.pack(self.parameters)

    def to_xarray(self) -> xr.Dataset:
        """Parameters, ``x`` and ``log_prior`` as a dataset with the dimension ``simulation``.

        What a parameter is called is called ``x_`` and so on. With several points in a simulation,
        ``x`` has the dimension ``point``, and ``simulation_of`` tells the simulation of each.
        """
        import xarray as xr

        def free(name: str) -> str:
            taken = name in self.parameters or name in self.conditions
            return free(f"{name}_") if taken else name

        def variable(name: str, value: np.ndarray) -> tuple[list[str], np.ndarray]:
            own = [free(f"{name}_dim_{i}") for i in range(value.ndim - 1)]
            return [free("simulation"), *own], value

        arrays = {**self.parameters, **self.conditions, free("x"): self.x}
        if self.log_prior is not None:
            arrays[free("log_prior")] = self.log_prior
        data = {name: variable(name, value) for name, value in arrays.items()}
        if self.iid:
            own = data[free("x")][0][1:]
            data[free("x")] = [free("point"), *own], self.points
            data[free("simulation_of")] = [free("point")], self._all.owners
        return xr.Dataset(data, attrs={"n_failed": self.n_failed})

    def __repr__(self) -> str:
        names = ", ".join(f"{n} ({describe_shape(s)})" for n, s in self.layout.shapes.items())
        failed = f", {self.n_failed:,} failed and left out" if self.n_failed else ""
        given = ", ".join(
            f"{n} ({describe_shape(v.shape[1:])})" for n, v in self.conditions.items()
        )
        what = "pairs" if self._points is None else f"with {self._points}"
        return (
            f"Simulations: {len(self):,} {what}{failed}, parameters {names}, "
            f"{f'conditions {given}, ' if given else ''}"
            f"observation {describe_shape(self.event_shape)}"
        )


def _which(rows: Any, n: int) -> Any:
    """A slice, numbers of rows, or a mask; TypeError if it is none of these."""
    if isinstance(rows, slice):
        return rows
    real_array(rows, "Rows of simulations")  # refuses what is masked, ragged or no number
    array = np.asarray(rows)
    if array.dtype.kind == "O":  # as pandas has integers
        array = np.array(array.tolist())
    is_mask = array.dtype == bool and array.shape == (n,)
    if not is_mask and (array.ndim != 1 or array.dtype.kind not in "iu"):
        raise TypeError(
            "Rows of simulations: expected a slice, such as simulations[:1000], whole numbers "
            f"(m,), or a mask ({n},), got {type(rows).__name__} of shape {array.shape}."
        )
    if not is_mask and array.size and not (-n <= array.min() and array.max() < n):
        raise IndexError(
            f"Rows of simulations: expected numbers from {-n} to {n - 1}, got some from "
            f"{array.min()} to {array.max()}."
        )
    return array


def _same_prior(one: Simulations, other: Simulations) -> bool:
    """Whether both have the same prior: its variables are the same, or its density at draws."""
    first, second = one.known_prior, other.known_prior
    if first is None or second is None:
        return False
    if first is second or first.variables == second.variables:
        return True
    return all(
        np.array_equal(first.log_density(rows), second.log_density(rows))
        for rows in (one[:_LOOKED_AT].parameters, other[:_LOOKED_AT].parameters)
    )


# --- what a file of them holds ---------------------------------------------------------------


def _problems(metadata: dict[str, Any], forms: Mapping[str, Form]) -> list[str]:
    """What is wrong with a description and with the forms of arrays, in words."""
    wrong = [
        f"{k} must be {what}"
        for k, (fits, what) in _FIELDS.items()
        if k not in metadata or not fits(metadata[k])
    ]
    conditions, problem = _described(metadata.get("conditions"))
    wrong += [problem] * bool(problem)
    unknown = sorted(set(metadata) - {*_FIELDS, "conditions", "format", "version", "sha256"})
    wrong += [f"fields that this version does not know: {', '.join(unknown)}"] * bool(unknown)
    strange = set(metadata["integer"]) - set(metadata["parameters"]) if not wrong else set()
    wrong += [f"integer must name parameters, names {name!a}" for name in sorted(strange)]
    if wrong:
        return wrong
    x = forms.get("x")
    if x is None or not x.shape:
        return ["x is missing, or no array of rows"]
    rows = forms["points"].shape[:1] if "points" in forms else x.shape[:1]
    shapes = {"x": x.shape, "log_prior": rows}
    shapes |= {"points": rows} if "points" in forms else {}
    shapes |= {f"parameters/{k}": (*rows, *own) for k, own in metadata["parameters"].items()}
    shapes |= {f"conditions/{k}": (x.shape[0], *own) for k, own in conditions.items()}
    expected = {name: Form(np.dtype(float), shape) for name, shape in shapes.items()}
    wrong = [
        f"{name!a} must be {form}, is {forms.get(name, 'missing')}"
        for name, form in expected.items()
        if forms.get(name) != form and (name in forms or name != "log_prior")
    ]
    return wrong + [f"{name!a} is not known" for name in forms.keys() - expected.keys()]


def _described(conditions: Any) -> tuple[Mapping[str, tuple[int, ...]], str]:
    """Own shapes of the conditions that a file describes, and what is wrong with it."""
    if conditions is None:
        return {}, ""
    try:
        return Conditions.from_dict(conditions).shapes, ""
    except ValueError as error:
        return {}, f"conditions: {error}"


def _whole(values: np.ndarray, name: str, path: Any) -> np.ndarray:
    """Whole numbers that travelled as floats."""
    if not (np.abs(values) < _FIRST_NOT_EXACT).all() or (values != np.rint(values)).any():
        raise EstimatorFileError(f"{path} cannot be used: {name} holds others than whole numbers.")
    return values.astype(int)


def _with_counts(x: np.ndarray, counts: np.ndarray, path: Any) -> Points:
    """Points, if the counts of a file are those of so many."""
    whole = counts.ndim == 1 and (counts >= 1).all() and (counts == np.rint(counts)).all()
    if not whole or not len(counts) or counts.sum() != len(x):
        raise EstimatorFileError(f"{path} cannot be used: points do not add up to those of x.")
    return Points(x, counts.astype(int))


def _are_parameters(value: Any) -> bool:
    if not isinstance(value, dict) or not value:
        return False
    lengths = [
        length for own in value.values() for length in (own if isinstance(own, list) else [0])
    ]
    return all(type(length) is int and length >= 1 for length in lengths)


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


_FORMAT = "pymc_nre.Simulations"
_FIELDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "parameters": (_are_parameters, "names with shapes"),
    "integer": (_are_names, "a list of names"),
    "n_failed": (lambda v: type(v) is int and v >= 0, "a count"),
    "some_failed": (lambda v: isinstance(v, bool), "true or false"),
    "batched": (lambda v: v is None or isinstance(v, bool), "true, false or nothing"),
}


def _there(x: Any) -> np.ndarray | None:
    """Which points ``(n, m)`` of each simulation there are; None if they come one after another."""
    if isinstance(x, Points):
        return None
    whole = np.ma.getmaskarray(x) if np.ma.isMA(x) else np.zeros(np.shape(x), dtype=bool)
    return ~whole.reshape(*whole.shape[:2], -1).all(-1)


def _of_points(name: str, value: Any, there: np.ndarray | None) -> Any:
    """Conditions ``(N, *own)`` of the points that are there; as they are, if that is not asked."""
    if there is None:
        return value
    array = real_array(value, name)
    if array.shape[:2] != there.shape:
        n, m = there.shape
        raise ValueError(
            f"{name}: with iid=True expected the condition of each point, shape ({n}, {m}, *own), "
            f"got {array.shape}. Where all points of a simulation share it: "
            f"np.repeat({name}[:, None], {m}, axis=1)."
        )
    return array[there].astype(int) if is_integer(value) else array[there]


def _by_name(parameters: Any, what: str = "parameters") -> dict[str, Any]:
    """A dict of a mapping, or of a table with named columns."""
    if isinstance(parameters, type) or not callable(getattr(parameters, "items", None)):
        raise TypeError(
            f"{what} must be a dict of name to array, or a DataFrame, got an object of type "
            f"{type(parameters).__name__}. Name them: {{'mu': theta[:, 0], 'beta': theta[:, 1:]}}."
        )
    return dict(parameters.items())


def _rows(name: str, value: Any) -> np.ndarray:
    array = real_array(value, name)
    if array.ndim == 0:
        raise ValueError(f"{name} must have a leading axis of simulations, got a single number.")
    return array


def _check_lengths(arrays: Sequence[tuple[str, np.ndarray]]) -> None:
    if len({len(array) for _, array in arrays}) > 1:
        raise ValueError(
            "Parameters and x need the same length along their first axis, got "
            + ", ".join(f"{name}: {len(array)}" for name, array in arrays)
            + "."
        )
    for name, array in arrays:
        if not array.size:
            what = f"number, got shape {array.shape}" if len(array) else "simulation, got none"
            raise ValueError(f"{name} must hold at least one {what}.")


def _check_exact(name: str, array: np.ndarray) -> None:
    """All is computed in double precision, where larger integers are rounded."""
    largest = np.abs(array).max()
    if largest >= _FIRST_NOT_EXACT:
        raise ValueError(
            f"{name} is an integer and reaches {largest:.0f}; expected less than 2**53, from which "
            "on double precision rounds whole numbers. Count in larger units, or pass floats, "
            f"{name}.astype(float), if it need not be exact."
        )


def _check_finite(name: str, array: np.ndarray) -> None:
    bad = ~np.isfinite(array).reshape(len(array), -1).all(-1)
    if bad.any():
        raise ValueError(
            f"{name} is not finite in {bad.sum():,} of {len(array):,} simulations (first: "
            f"row {bad.argmax()}). Leave those rows out of every array, and mind that the ratio is "
            "then that of an observation given that the simulation succeeded."
        )
