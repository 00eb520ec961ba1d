"""Where posterior draws pile up at the edge of the training domain.

Where parameters outside are rejected, or repelled by a wall, draws stay at the edge or little
beyond it. A posterior that ends there before it has fallen off is cut, unless the prior of the
model ends there as well: then that is the posterior. "There" is within a part of the posterior's
own width, so that what is called right is off by less than that.

Every row of parameters has a posterior of its own. Draws are looked at one at a time, and once
again only where some row comes near an edge.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from ..estimators.domain import Domain
from ..estimators.edges import density_at_end

__all__ = ["HAIR", "Cuts"]

_STRIP = 0.2  # posterior standard deviations, within which draws are at an edge
_SAME = 0.3  # of them, between the edge and where the prior ends, do not matter
_LOOKED_AT = 200  # rows and edges, the nearest: memory for all draws of those
HAIR = 2e-3  # of the distance to the median: beyond the edge by less than that is at the edge
_TOGETHER = 0.04  # the same of how rare parameters are together: a hundredth of the edge, or less
_SIDES = np.array([-1.0, 1.0])

Draws = Callable[[], Iterator[np.ndarray]]  # (rows, D), one after another, from the first again
# The same from places near some draws, from many of them or from few.
Around = Callable[[np.ndarray, bool], Iterator[np.ndarray]]


@dataclass(frozen=True)
class Cuts:
    """Edges at which draws pile up.

    Attributes
    ----------
    density : ndarray, shape (D + 1, 2)
        Where it is highest over all rows: the marginal density at the lower and the upper end of
        the domain, beside its highest value. Last comes the edge that several reach together.
    cut : ndarray of bool, shape (D + 1, 2)
        Whether the prior goes on there, so that the edge cuts the posterior.
    """

    density: np.ndarray
    cut: np.ndarray

    @classmethod
    def find(cls, domain: Domain, draws: Draws, around: Around | None, held_back: bool) -> Cuts:
        """Those of draws; where the prior ends is told by ``around``, if it is known.

        Draws that are ``held_back`` by a wall are at an edge, however far beyond it.
        """
        columns = _Columns(domain, held_back)
        density = np.zeros((len(domain.lower) + 1, 2))
        cut = np.zeros(density.shape, dtype=bool)
        piles = columns.piles(draws)
        own = columns.ends_of_prior(piles, around) if piles and around else set()
        rows_of_own = {row for row, _, _ in own}
        for pile in piles:
            row, axis, side = pile.place
            together = axis == len(domain.lower)
            density[axis, side] = max(density[axis, side], pile.density)
            cut[axis, side] |= pile.place not in own and not (together and row in rows_of_own)
        return cls(density, cut)


@dataclass(frozen=True)
class _Pile:
    place: tuple[int, int, int]  # row, axis, side
    density: float
    sd: float
    nearest: np.ndarray  # numbers of draws, the nearest to the edge first


class _Columns:
    """Parameters ``(rows, D)`` and how rare they are together, and the ends of each."""

    def __init__(self, domain: Domain, held_back: bool) -> None:
        self.domain = domain
        # What a single parameter reaches is its own end.
        together = np.sqrt(domain.largest_rarity) if len(domain.lower) > 1 else np.inf
        ends = domain.ends()
        self.ends = np.concatenate([ends, [[-np.inf, together]]])
        slack = np.abs(domain.toward_center(ends.T, HAIR).T - ends)
        self.slack = np.concatenate([slack, [[0, _TOGETHER]]])
        if held_back:
            self.slack = np.full(self.ends.shape, np.inf)

    def of(self, theta: np.ndarray) -> np.ndarray:
        """``(rows, D + 1)``."""
        return np.column_stack([theta, np.sqrt(self.domain.rarity(theta))])

    def piles(self, draws: Draws) -> list[_Pile]:
        """Rows and edges where draws pile up."""
        rows, sd, nearest = self._spread(draws)
        row, axis, side = self._near(sd, (self.ends.T[:, None] - nearest) * _SIDES[:, None, None])
        if not len(row):
            return []
        values = np.stack([self.of(theta[rows[row]])[range(len(row)), axis] for theta in draws()])
        inward = (self.ends[axis, side] - values) * _SIDES[side]
        found = []
        for i, column in enumerate(inward.T):
            spread = sd[row[i], axis[i]]
            density = density_at_end(column, _STRIP * spread)
            if density:
                place = int(rows[row[i]]), int(axis[i]), int(side[i])
                found.append(_Pile(place, density, spread, np.argsort(column)))
        return found

    def _near(self, sd: np.ndarray, distance: np.ndarray) -> tuple[np.ndarray, ...]:
        """Rows, axes and sides of the nearest edges, of distances ``(2, rows, D + 1)``."""
        distance = distance.transpose(1, 2, 0)
        # What a model holds fixed piles up nowhere, nor does what may leave.
        piles = (sd > 0)[..., None] & (distance >= -self.slack)
        near = np.full(distance.shape, np.inf)
        np.divide(distance, sd[..., None], out=near, where=piles)
        nearest = np.argsort(near, axis=None)[:_LOOKED_AT]
        return np.unravel_index(nearest[near.ravel()[nearest] < _STRIP], near.shape)

    def _spread(self, draws: Draws) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows that differ, and of each standard deviations, least and largest values."""
        rows, n, mean, squares, least, most = np.empty(0), 0, 0.0, 0.0, np.inf, -np.inf
        for theta in draws():
            if not n:
                rows = np.unique(theta, axis=0, return_index=True)[1]
            values, n = self.of(theta[rows]), n + 1
            off = values - mean
            mean = mean + off / n
            squares = squares + off * (values - mean)
            least, most = np.minimum(least, values), np.maximum(most, values)
        return rows, np.sqrt(squares / n), np.stack([least, most])

    def ends_of_prior(self, piles: list[_Pile], around: Around) -> set[tuple[int, int, int]]:
        """Places beyond which the prior lets no row go noticeably.

        Whatever is drawn around one of them tells of all rows. So many places are looked at once
        for each end of a parameter, and for other rows there only few more, near their own draws.
        """
        row, axis, side = np.array([pile.place for pile in piles]).T
        edge, slack = self.ends[axis, side], _SAME * np.array([pile.sd for pile in piles])
        left, looked_at = np.arange(len(piles)), set()
        for i, pile in enumerate(piles):
            if i not in left:
                continue
            for theta in around(pile.nearest, pile.place[1:] not in looked_at):
                values = self.of(theta[row[left]])[range(len(left)), axis[left]]
                beyond = (values - edge[left]) * _SIDES[side[left]]
                left = left[~(beyond > slack[left])]
                if i not in left:
                    break
            else:
                looked_at.add(pile.place[1:])
        return {piles[i].place for i in left}
