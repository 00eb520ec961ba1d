"""How often credible regions hold parameters that are fixed: the frequentist's coverage.

Coverage over draws of the prior is right for an exact posterior. At one value of the parameters
it need not be: where the prior is informative it is more here and less there. So there is no
test, but numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import xarray as xr

from ..estimators.estimator import RatioEstimator
from ..exceptions import PosteriorWarning, warn
from ..runtime.arrays import whole_number
from ..runtime.devices import resolve_device
from ..runtime.random_streams import generator_of
from ..simulation.simulations import Simulations
from ..simulation.simulator import Simulator
from .calibration import FEW, checked_levels
from .points import Trials, needed_simulator, points_of
from .prior_draws import PriorDraws, pairs_for, single_precision
from .ranks import ranks_of

__all__ = ["coverage_at"]


def coverage_at(
    ratio: RatioEstimator,
    simulations: Simulations,
    at: Mapping[str, Any],
    *,
    n: int = 1_000,
    levels: np.ndarray | None = None,
    draws: int = 1_000,
    simulator: Simulator | Callable[..., Any] | None = None,
    device: str = "auto",
    random_seed: Any = None,
) -> xr.Dataset:
    """How often highest-density regions hold these parameters, over repeated data.

    Parameters
    ----------
    ratio : RatioEstimator
    simulations : Simulations
        From the training prior, which posteriors are made with.
    at : mapping
        Parameters by name, ``(*own)``; or several points, ``(points, *own)`` each.
    n : int
        Data sets at each point.
    levels : array, shape (L,), optional
        Credible levels; by default .05 to .95.
    draws : int
        Of the prior, for each posterior.
    simulator : Simulator or callable, optional
        By default that of the ratio.
    device : {"auto", "cpu", "cuda"}
    random_seed : int, Generator or SeedSequence, optional

    Returns
    -------
    xarray.Dataset
        ``coverage`` (point, level) and its binomial ``error``; ``pit`` (point, pair, parameter),
        the rank of each parameter; ``ess`` (point, pair), the effective number of draws of each
        posterior; the parameters themselves, ``true`` (point, parameter).

    Raises
    ------
    ValueError
        If something does not fit, there is no simulator, or hardly any simulation succeeds.

    Warns
    -----
    SimulationWarning
        If simulations failed.
    PosteriorWarning
        If half of the posteriors at a point rest on fewer than 10 effective draws.

    References
    ----------
    J. Hermans et al., Towards constraining warm dark matter with stellar streams through neural
    simulation-based inference (2021), arXiv:2011.14923.

    Examples
    --------
    >>> import pymc_nre as nre
    >>> task = nre.tasks.GaussianMean()
    >>> found = nre.diagnostics.coverage_at(
    ...     task.estimator(),
    ...     task.simulate(1_000, random_seed=1),
    ...     {"mu": [0.0, 9.9]},
    ...     levels=[0.9],
    ...     random_seed=2,
    ... )
    >>> found["coverage"].sizes["point"]
    2
    """
    n = whole_number(n, "coverage_at: n")
    draws = whole_number(draws, "coverage_at: draws", least=FEW)
    levels = checked_levels(levels, "coverage_at")
    simulations = pairs_for(ratio, simulations, draws, "coverage_at")
    points = points_of(ratio, at, "coverage_at")
    simulator = needed_simulator("coverage_at", simulator, ratio, simulations)
    rng = generator_of(random_seed)
    prior = PriorDraws(ratio, simulations, draws, rng)
    evaluator = single_precision(ratio, resolve_device(device))
    found, trials = [], Trials("coverage_at", simulator, ratio, rng)
    for point in points:
        x = trials.at(point, n)
        found.append(ranks_of(evaluator, prior.at(point, n), x, rng, truth_weighs=False))
    trials.tell()
    fewest = min(np.median(one["ess"]) for one in found)
    if fewest < FEW:
        warn(
            f"Half of the posteriors at one point rest on fewer than {fewest:.1f} effective draws "
            f"of {prior.draws:,}, too few to know their regions. Give more draws=.",
            PosteriorWarning,
        )
    density = np.array([one["density"] for one in found])
    shares = (density[..., None] <= levels).mean(1)
    return xr.Dataset(
        {
            "coverage": (("point", "level"), shares),
            "error": (("point", "level"), np.sqrt(shares * (1 - shares) / n)),
            "pit": (("point", "pair", "parameter"), np.array([one["pit"] for one in found])),
            "ess": (("point", "pair"), np.array([one["ess"] for one in found])),
            "true": (("point", "parameter"), points),
        },
        coords={"level": levels, "parameter": ratio.layout.labels},
    )
