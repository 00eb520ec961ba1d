"""May Wilks' theorem be trusted for these data? Simulate a few hundred data sets, and count.

The theorem wants an exact ratio, many trials, and parameters away from the edge of the domain. None
of that shows in the data; coverage does.
"""

from __future__ import annotations

import numpy as np

from ..exceptions import CoverageWarning, warn
from .critical_values import Cut, simulated_statistics
from .simulated import Experiment
from .statistics import Statistic

__all__ = ["coverages", "warn_if_too_few"]

_SIGMAS = 3.0  # binomial standard errors below the level: by chance in one of 700


def coverages(
    statistic: Statistic,
    experiment: Experiment,
    cut: Cut,
    points: np.ndarray,
    level: float,
    sets: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Shares ``(P,)`` of data sets, simulated at points ``(P, D)``, whose sets hold these."""
    each = np.repeat(points, sets, axis=0)
    values = simulated_statistics(statistic, experiment, each, rng, False)
    return (values <= cut.cut(each, level)).reshape(len(points), sets).mean(1)


def warn_if_too_few(
    shares: np.ndarray, points: np.ndarray, level: float, sets: int, labels: list[str], caller: str
) -> None:
    """Warn if at one of points ``(P, D)`` a set holds its parameters less often than it says."""
    worst = int(shares.argmin())
    if shares[worst] < level - _SIGMAS * (level * (1 - level) / sets) ** 0.5:
        where = ", ".join(f"{k} = {v:.4g}" for k, v in zip(labels, points[worst], strict=True))
        warn(
            f"{caller}: Wilks' cut is not to be trusted here: of {sets:,} data sets that were "
            f"simulated at {where} it holds these parameters in {shares[worst]:.1%}, not in "
            f"{level:.3g}. Take method='calibrated', or 'neyman'.",
            CoverageWarning,
        )
