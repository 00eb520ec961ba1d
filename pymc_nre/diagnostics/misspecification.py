r"""Are the observed data like those that the ratio was trained on?

A ratio is a guess away from its training simulations, and nothing in its value tells. Here an
observation is compared by its distance from its nearest neighbors among simulations. Other
simulations tell how large such distances are: of m of them, k have a larger one,

.. math:: p = \frac{1 + k}{1 + m},

which is uniform or larger for an observation that is a simulation like them, whatever its
distribution. Of n observations k or more are further than all m simulations with a probability of
at most

.. math:: \binom nk \Big/ \binom{m + k}k.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from scipy.special import gammaln

from ..estimators.checks import (
    as_numbers,
    check_observations,
    check_ratio,
    check_simulations,
    finite_observations,
)
from ..estimators.estimator import RatioEstimator
from ..exceptions import CheckNotApplicable
from ..runtime.random_streams import generator_of
from ..simulation.simulations import Simulations
from .verdicts import ALARM, Verdict, told

__all__ = ["observation_check"]

_NEIGHBORS = 5
_DIRECTIONS = 32  # of largest variance; what is left out of them counts as one more
_FOR_DIRECTIONS = 1_000  # simulations that these are found from
_REFERENCE = 20_000  # simulations among which neighbors are looked for
_FEWEST = 200
_TOGETHER = 10.0  # by which the second p value is larger: both together are below it by 1.1 %
_DIGITS = 6  # of coordinates: what is alike must be at one place, whatever the round-off


def observation_check(
    ratio: RatioEstimator,
    simulations: Simulations,
    observed: Any,
    *,
    conditions: Mapping[str, Any] | None = None,
    random_seed: Any = None,
) -> xr.Dataset:
    """Is there anything in the observed data that the simulator never made?

    Parameters
    ----------
    ratio : RatioEstimator
    simulations : Simulations
        From the training prior; those of the training will do. A half stands for what the ratio
        knows, the other tells which distances are usual. With n observations it takes some
        200 n simulations to tell that one is foreign.
    observed : array
        One observation ``(*event)``, or several ``(*batch, *event)``.
    conditions : mapping of str to array, shape (*batch, *own), optional
        Known inputs of the observed data, by name, where the ratio was trained with conditions;
        a value for each observation, or one for all.
    random_seed : int, Generator or SeedSequence, optional

    Returns
    -------
    xarray.Dataset
        ``p_value`` (observation) and ``distance`` (observation), from the nearest simulations
        in standard deviations, root mean square over directions; ``usual`` (simulation), the
        distances of simulations. Attributes as for `coverage`.

    Raises
    ------
    ValueError
        If shapes do not fit, or there are fewer than 200 simulations.

    References
    ----------
    The p values are those of conformal prediction: V. Vovk, A. Gammerman and G. Shafer,
    Algorithmic learning in a random world (2005).

    Examples
    --------
    >>> import pymc_nre as nre
    >>> task = nre.tasks.GaussianMean()
    >>> simulations = task.simulate(2_000, random_seed=1)
    >>> check = nre.diagnostics.observation_check
    >>> check(task.estimator(), simulations, [1.0, 2.0], random_seed=2).attrs["verdict"]
    'usual'
    >>> check(task.estimator(), simulations, [1.0, 50.0], random_seed=2).attrs["verdict"]
    'foreign'
    """
    check_ratio(ratio, "observation_check")
    check_simulations(simulations, "observation_check")
    observed = finite_observations(ratio, observed, "observation_check", conditions)
    check_observations(ratio, simulations)
    simulations = simulations.packed()
    if len(simulations) < _FEWEST:
        raise CheckNotApplicable(
            f"observation_check needs at least {_FEWEST} simulations, got {len(simulations)}."
        )
    rng = generator_of(random_seed)
    x = simulations.x[rng.permutation(len(simulations))]
    if ratio.missing is not None:
        x = ratio.missing.as_in(observed, x, rng)
    x, observed = (as_numbers(ratio, each, like=x) for each in (x, observed))
    half = min(len(x) // 2, _REFERENCE)
    others = max(_REFERENCE, round(2 * len(observed) / ALARM))  # twice what it takes
    known, others = x[:half], x[half : half + others]
    space = _Space(known)
    from scipy.spatial import cKDTree  # slow to import

    tree = cKDTree(space.of(known))
    usual = np.sort(_distances(tree, space.of(others)))
    distance = _distances(tree, space.of(observed))
    larger = len(usual) - np.searchsorted(usual, distance)
    p_values = (1 + larger) / (1 + len(usual))
    return _result(p_values, distance, usual)


def _result(p_values: np.ndarray, distance: np.ndarray, usual: np.ndarray) -> xr.Dataset:
    n = len(p_values)
    together = _TOGETHER * _together(int((distance > usual[-1]).sum()), n, len(usual))
    p_value, verdict, more = min(1.0, p_values.min() * n, together), Verdict.USUAL, ""
    if p_value < ALARM:
        verdict = Verdict.FOREIGN
        more = f", simulations at most {usual[-1]:.2g}: the ratio extrapolates"
    elif n / (1 + len(usual)) >= ALARM and distance.max() > usual[-1]:
        verdict = Verdict.NOT_KNOWN
        more = (
            f", further than all simulations, which among {n:,} observations is known "
            f"to be more than chance with {_enough(n):,} simulations or more"
        )
    summary = (
        f"Beside the simulations the observed data are {verdict}: the furthest observation is "
        f"{distance.max():.2g} standard deviations away from them{more} (p = {p_value:.2g})."
    )
    return xr.Dataset(
        {
            "p_value": ("observation", p_values),
            "distance": ("observation", distance),
            "usual": ("simulation", usual),
        },
        attrs=told(p_value, verdict, summary),
    )


def _together(k: int, n: int, m: int) -> float:
    """Largest probability that k of n observations are further than all of m simulations."""
    if k < 2:
        return 1.0
    which = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
    orders = gammaln(m + k + 1) - gammaln(k + 1) - gammaln(m + 1)
    return float(np.exp(min(which - orders, 0.0)))


def _enough(n: int) -> int:
    """Simulations of which those that are compared with can tell one of n observations."""
    wanted = round(n / ALARM)
    return wanted + min(wanted, _REFERENCE)


class _Space:
    """Where distances are measured: directions of simulations ``(n, E)``, each in its own units.

    Logarithms of large numbers, so that heavy tails do not make all else look alike.
    """

    def __init__(self, x: np.ndarray) -> None:
        self.middle = np.median(x, axis=0)
        low, high = np.quantile(x, [0.16, 0.84], axis=0)
        spread = np.where(high > low, (high - low) / 2, x.std(0))
        self.scale = np.where(spread > 0, spread, 1.0)
        flat = self._flat(x)
        self.mean = flat.mean(0)
        some = flat[:_FOR_DIRECTIONS] - self.mean
        roots, vectors = np.linalg.svd(some / np.sqrt(len(some)), full_matrices=False)[1:]
        chosen = (roots > 1e-4 * roots[0])[:_DIRECTIONS].nonzero()[0]
        self.vectors, self.roots = vectors[chosen].T, roots[chosen]
        rest = self._rest(flat - self.mean)
        self.rest_mean, self.rest_sd = rest.mean(), max(rest.std(), 10.0**-_DIGITS)

    def of(self, x: np.ndarray) -> np.ndarray:
        """Coordinates ``(n, directions + 1)``."""
        flat = self._flat(x) - self.mean
        rest = (self._rest(flat) - self.rest_mean) / self.rest_sd
        inside = flat @ self.vectors / self.roots
        coordinates = np.column_stack([inside, rest]) / np.sqrt(inside.shape[1] + 1)
        return coordinates.round(_DIGITS)

    def _flat(self, x: np.ndarray) -> np.ndarray:
        return np.arcsinh((x - self.middle) / self.scale)

    def _rest(self, flat: np.ndarray) -> np.ndarray:
        """How far from all the directions."""
        return np.linalg.norm(flat - flat @ self.vectors @ self.vectors.T, axis=1)


def _distances(tree: Any, points: np.ndarray) -> np.ndarray:
    """From the k-th nearest of the simulations in the tree."""
    return tree.query(points, k=[_NEIGHBORS])[0][:, 0]
