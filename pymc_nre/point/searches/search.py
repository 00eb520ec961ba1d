"""Where are log ratios of many data sets largest? From many starts, on few trials and then on all.

A ratio may have several modes, and a single start then often ends in a lower one: on SLCP with its
four in 55 % of data sets, 20 starts in 5 %. But starts cost as much as there are trials. So draws
of the domain are screened by a few trials, the best of them climb on some more, and those that come
together count as one from there on. Only what is left climbs on all trials. A last step by Newton's
method, with exact second derivatives, ends it, and says how certain the answer is. Integers have no
slope: where they have more values than there are starts, the highest steps to others.

A *problem* is a data set, and the values at which some of the parameters are held. Shapes: ``P``
problems, ``R`` starts of all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from ...estimators.estimator import RatioEstimator
from .bfgs import Function, maximize
from .coordinates import Coordinates
from .summed import SummedRatio

__all__ = ["Found", "highest", "search"]

_SCREENED = 1_000  # draws of the domain
_FIRST, _THEN = 4, 16  # trials by which draws are screened, and on which starts climb
_AROUND = 8  # neighbors of a candidate
_PROBLEMS = 100  # whose candidates are compared with each other at once
_SHARE = 0.1  # of the draws that are screened by more trials
_STEPS = 100  # evaluations of a climb, at most; most end after 10 to 30
_SAME = 1e-2  # prior standard deviations in which climbs have come together
_BEHIND = 10.0  # log units on few trials, beyond which a maximum is no rival on all
_POLISHES = 4
_EXACT = 1e-6  # what a step by Newton's method promises at a maximum: 1e-3 standard errors
_BACK = 0.75  # length of coordinates 0.6 of the radius from the center
_OUTSIDE = 0.8  # of the radius of the domain; a search that ends beyond it ended at the edge


@dataclass(frozen=True)
class Found:
    """Maxima of problems.

    Attributes
    ----------
    theta : ndarray, shape (P, D)
    value : ndarray, shape (P,)
    information : ndarray, shape (P, k, k)
        Minus the second derivatives in what was free.
    at_edge : ndarray, shape (P,)
        Whether the log ratio rises on beyond the domain.
    converged : ndarray, shape (P,)
        Whether it is a maximum, or the highest point at the edge.
    others : ndarray, shape (M, D)
        All local maxima that were found on all trials, and
    owner : ndarray, shape (M,)
        whose they are.
    """

    theta: np.ndarray
    value: np.ndarray
    information: np.ndarray
    at_edge: np.ndarray
    converged: np.ndarray
    others: np.ndarray
    owner: np.ndarray

    def of(self, problems: slice) -> Found:
        """Of some problems that follow each other."""
        start, stop = np.searchsorted(self.owner, [problems.start, problems.stop])
        own = {"others": self.others[start:stop], "owner": self.owner[start:stop] - problems.start}
        names = [field.name for field in fields(self) if field.name not in own]
        return Found(**{name: getattr(self, name)[problems] for name in names}, **own)

    @classmethod
    def joined(cls, parts: Sequence[Found]) -> Found:
        """Of all problems, one after another."""
        before = np.cumsum([0, *(len(part.value) for part in parts[:-1])])
        owners = [part.owner + start for part, start in zip(parts, before, strict=True)]
        names = [field.name for field in fields(cls) if field.name != "owner"]
        whole = {name: np.concatenate([getattr(p, name) for p in parts]) for name in names}
        return cls(**whole, owner=np.concatenate(owners))


def highest(ratio: RatioEstimator, summed: SummedRatio, starts: int) -> Found:
    """The highest points of all data sets, with nothing held."""
    candidates = ratio.domain.draws[None, :_SCREENED]
    which = np.arange(len(summed.x))
    return search(ratio, summed, which, np.arange(ratio.layout.size), candidates, starts)


def search(
    ratio: RatioEstimator,
    summed: SummedRatio,
    which: np.ndarray,
    free: np.ndarray,
    candidates: np.ndarray,
    starts: int,
) -> Found:
    """The highest points.

    Parameters
    ----------
    ratio : RatioEstimator
    summed : SummedRatio
    which : ndarray, shape (P,)
        The data set of each problem.
    free : ndarray
        Places of the parameters to search in; others stay as in the candidates. Integers among
        them step, the others climb.
    candidates : ndarray, shape (1 or P, C, D)
        To begin with, inside of the domain; those of each problem are taken there.
    starts : int
        How many of them climb.
    """
    whole = ratio.layout.whole[free]
    climb, integers = _Climb(Coordinates(ratio.domain, free[~whole]), summed, which), free[whole]
    theta, owner = climb.screened(candidates, starts, integers)
    few = climb.on(_THEN)
    theta, value = few.up(theta, owner)
    theta, value, owner = few.distinct(theta, value, owner, _BEHIND)
    if few.summed.trials < summed.trials:
        theta, value = climb.up(theta, owner)
        theta, value, owner = climb.distinct(theta, value, owner, np.inf)
    if _combinations(ratio.domain.draws[:_SCREENED, integers]) > starts:
        theta, value, owner = climb.stepped(theta, value, owner, integers)
    return climb.finished(theta, value, owner)


def _combinations(integers: np.ndarray) -> int:
    """How many there are in draws ``(n, k)``: if they are few, each of them has its start."""
    return len(np.unique(integers, axis=0)) if integers.shape[1] else 0


@dataclass(frozen=True)
class _Climb:
    """What searches of all problems share."""

    coordinates: Coordinates
    summed: SummedRatio
    which: np.ndarray

    def on(self, trials: int) -> _Climb:
        """The same on some trials."""
        return _Climb(self.coordinates, self.summed.some(trials), self.which)

    def screened(
        self, candidates: np.ndarray, starts: int, integers: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The likeliest candidates ``(R, D)`` and their problems ``(R,)``.

        No climb changes integers, at these places: each of their values needs a start.
        """
        problems = np.arange(len(self.which))
        if len(candidates) > 1:
            candidates = self._inside(candidates)
        chosen = np.broadcast_to(candidates, (len(problems), *candidates.shape[1:]))
        peaks = np.zeros(chosen.shape[:2], bool)
        for trials in (_FIRST, _THEN):
            few = self.on(trials).summed
            wanted = starts if trials == _THEN else max(starts, int(_SHARE * chosen.shape[1]))
            if chosen.shape[1] > wanted:
                values = few.table(chosen, self.which)
                # All problems begin with the same candidates: their neighbors are found once.
                peaks = peaks | self._peaks(candidates if trials == _FIRST else chosen, values)
                best = _best(chosen, values, peaks, integers)[:, :wanted]
                chosen = np.take_along_axis(chosen, best[..., None], axis=1)
                peaks = np.take_along_axis(peaks, best, axis=1)
        return chosen.reshape(-1, chosen.shape[2]), np.repeat(problems, chosen.shape[1])

    def _peaks(self, candidates: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Which of candidates ``(1 or P, C, D)`` are likelier than those around them, ``(P, C)``.

        What a mode lacks on few trials it may have on all, and the likeliest candidates may all be
        of one mode.
        """
        peaks = np.empty(values.shape, bool)
        domain, around = self.coordinates.domain, min(_AROUND, values.shape[1] - 1)
        near = None
        for start in range(0, len(values), _PROBLEMS):
            rows = slice(start, start + _PROBLEMS)
            if near is None or len(candidates) > 1:
                own = candidates if len(candidates) == 1 else candidates[rows]
                near = _neighbors(domain.scores(np.array(own)) @ domain.whiten, around)
            heights = np.take_along_axis(values[rows, None], near, axis=2)
            peaks[rows] = values[rows] >= heights.max(2)
        return peaks

    def _inside(self, candidates: np.ndarray) -> np.ndarray:
        """Candidates ``(P, C, D)`` taken to where what is held leaves room."""
        flat = candidates.reshape(-1, candidates.shape[2])
        return self.coordinates.theta(self.coordinates.of(flat), flat)[0].reshape(candidates.shape)

    def up(self, theta: np.ndarray, owner: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Local maxima and their values, from points ``(R, D)``."""
        which = self.which[owner]
        if len(self.coordinates.free):

            def function(v: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
                points, slope = self.coordinates.theta(v, theta[rows])
                value, gradient = self.summed.value_and_gradient(points, which[rows])
                return value, self.coordinates.gradient(v, slope, gradient)

            v = self._again(function, maximize(function, self.coordinates.of(theta), _STEPS))
            theta = self.coordinates.theta(v, theta)[0]
        return theta, self.summed.value(theta, which)

    def _again(self, function: Function, v: np.ndarray) -> np.ndarray:
        """The same points ``(R, k)``, but of those at the edge, where slopes vanish, others.

        They climb from farther inside once more, and stay where that ends lower.
        """
        rows = np.flatnonzero(self.coordinates.outwardness(v) > _OUTSIDE)
        if rows.size:
            inner = _BACK * v[rows] / np.linalg.norm(v[rows], axis=1, keepdims=True)
            inner = maximize(lambda u, some: function(u, rows[some]), inner, _STEPS)
            higher = function(inner, rows)[0] > function(v[rows], rows)[0]
            v[rows[higher]] = inner[higher]
        return v

    def distinct(
        self, theta: np.ndarray, value: np.ndarray, owner: np.ndarray, behind: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """One of those that came together, the highest first, none far behind that."""
        order = np.lexsort((-value, owner))
        theta, value, owner = theta[order], value[order], owner[order]
        domain = self.coordinates.domain
        place = np.rint(domain.scores(theta) @ domain.whiten / _SAME)
        keys = np.column_stack([owner, place])
        first = np.sort(np.unique(keys, axis=0, return_index=True)[1])
        theta, value, owner = theta[first], value[first], owner[first]
        best = np.maximum.reduceat(value, np.flatnonzero(np.diff(owner, prepend=-1)))
        rivals = value >= best[owner] - behind
        return theta[rivals], value[rivals], owner[rivals]

    def stepped(
        self, theta: np.ndarray, value: np.ndarray, owner: np.ndarray, integers: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The same, where the highest of each problem went up by steps of integers as well.

        They are of 1, 2, 4, ... to both sides, for maxima may be far from all draws; after each
        the other numbers climb.
        """
        first = np.flatnonzero(np.diff(owner, prepend=-1))
        best, height, active = theta[first], value[first], np.arange(len(first))
        moves = self._moves(integers)
        for _ in range(_STEPS):
            trial = (best[active, None] + moves).reshape(-1, best.shape[1])
            heights, problem = np.full(len(trial), -np.inf), np.repeat(active, len(moves))
            inside = self.coordinates.domain.inside(trial)
            trial[inside], heights[inside] = self.up(trial[inside], problem[inside])
            heights, trial = heights.reshape(-1, len(moves)), trial.reshape(-1, *moves.shape)
            chosen = np.arange(len(active)), heights.argmax(1)
            higher = heights[chosen] > height[active] + _EXACT
            active = active[higher]
            if not active.size:
                break
            best[active], height[active] = trial[chosen][higher], heights[chosen][higher]
        both = np.concatenate([best, theta]), np.concatenate([height, value])
        return self.distinct(*both, np.concatenate([owner[first], owner]), np.inf)

    def _moves(self, integers: np.ndarray) -> np.ndarray:
        """Steps ``(C, D)`` of one integer each, up to the width of its range."""
        domain = self.coordinates.domain
        moves = [np.zeros((0, len(domain.lower)))]
        for place in integers:
            doublings = np.log2(max(domain.upper[place] - domain.lower[place], 1.0))
            sizes = 2.0 ** np.arange(int(doublings) + 1)
            own = np.zeros((2 * len(sizes), len(domain.lower)))
            own[:, place] = np.concatenate([sizes, -sizes])
            moves.append(own)
        return np.concatenate(moves)

    def finished(self, theta: np.ndarray, value: np.ndarray, owner: np.ndarray) -> Found:
        """The highest of each problem, exactly."""
        first = np.flatnonzero(np.diff(owner, prepend=-1))
        best, height = theta[first], value[first]
        information, promised = self._polish(best, height)
        exact = promised < _EXACT
        away = self.coordinates.outwardness(self.coordinates.of(best)) > _OUTSIDE
        at_edge = away & ~exact
        if not len(self.coordinates.free):
            exact[:], at_edge[:] = True, False
        return Found(best, height, information, at_edge, exact | at_edge, theta, owner)

    def _polish(self, theta: np.ndarray, value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Steps by Newton's method, written into theta and value; information, what is promised."""
        free, domain = self.coordinates.free, self.coordinates.domain
        information = np.zeros((len(theta), len(free), len(free)))
        promised = np.full(len(theta), np.inf)
        rows = np.arange(len(theta))
        for _ in range(_POLISHES):
            which = self.which[rows]
            gradient = self.summed.value_and_gradient(theta[rows], which)[1][:, free]
            hessian = self.summed.hessian(theta[rows], which)[:, free][:, :, free]
            information[rows] = -hessian
            step, promised[rows] = _newton(-hessian, gradient)
            going = (promised[rows] > _EXACT / 100) & np.isfinite(promised[rows])
            rows, step = rows[going], step[going]
            trial = theta[rows]
            trial[:, free] += step
            height = self.summed.value(trial, self.which[rows])
            better = domain.inside(trial) & (height > value[rows])
            rows, trial, height = rows[better], trial[better], height[better]
            if not rows.size:
                break
            theta[rows], value[rows] = trial, height
        return information, promised


def _newton(information: np.ndarray, gradient: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Steps ``(R, k)`` and what they promise ``(R,)``; infinite where this is no maximum."""
    values, vectors = np.linalg.eigh(information)
    peaked = (values > 0).all(1)
    safe = np.where(values > 0, values, 1.0)
    along = np.einsum("rij,ri->rj", vectors, gradient) / safe
    step = np.einsum("rij,rj->ri", vectors, along)
    return step, np.where(peaked, (along**2 * safe).sum(1), np.inf)


def _neighbors(place: np.ndarray, around: int) -> np.ndarray:
    """Indices ``(P, C, around + 1)`` of the nearest of places ``(P, C, D)``, itself among them."""
    squares = (place**2).sum(-1)
    distance = squares[:, :, None] + squares[:, None] - 2 * place @ place.swapaxes(1, 2)
    return np.argpartition(distance, around, axis=2)[:, :, : around + 1]


def _best(
    chosen: np.ndarray, values: np.ndarray, first: np.ndarray, integers: np.ndarray
) -> np.ndarray:
    """Order ``(P, C)`` of candidates ``(P, C, D)``: some and each integer first, by value."""
    order = np.lexsort((-values, ~first))
    if integers.size:
        pairs = zip(chosen, order, strict=True)
        order = np.array([_each_first(c[o][:, integers], o) for c, o in pairs])
    return order


def _each_first(integers: np.ndarray, order: np.ndarray) -> np.ndarray:
    """An order in which the best of each combination of integers ``(C, k)`` comes first."""
    first = np.sort(np.unique(integers, axis=0, return_index=True)[1])
    return np.concatenate([order[first], np.delete(order, first)])
