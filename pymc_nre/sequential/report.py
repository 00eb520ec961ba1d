"""What rounds found: a ratio for one data set, its posterior, and how it came about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from ..amortized.weights import normalized
from ..estimators.domain import Domain
from ..estimators.estimator import RatioEstimator
from ..simulation.simulations import Simulations
from .kept import KeptSet

__all__ = ["Round", "Rounds", "effective_simulations", "table_of"]


@dataclass(frozen=True, eq=False)
class Round:
    """A round that is over.

    Attributes
    ----------
    simulations : int
        That were asked for.
    failed : int
        Of them.
    kept : KeptSet
    ess : float
        Of the simulations of all rounds so far, how many count at the posterior.
    outside : float
        Share of the posterior that the round before had given up.
    """

    simulations: int
    failed: int
    kept: KeptSet
    ess: float
    outside: float

    def in_words(self, k: int) -> str:
        """A line for a person."""
        return (
            f"round {k}: {self.simulations:,} simulations, kept {np.exp(self.kept.log_volume):.2g} "
            f"of the prior; {self.ess:,.0f} simulations count at the posterior"
        )


def effective_simulations(kept: KeptSet, pool: Simulations, beyond: KeptSet | None = None) -> float:
    """How many simulations, whose prior is their mixture, count at the posterior; outside a set."""
    mixture: Any = pool.known_prior
    theta = pool.theta
    log_weight = kept.data.log_ratio(theta) - mixture.log_weight(theta)
    log_weight[np.isneginf(kept.data.known.log_prior(theta))] = -np.inf
    if beyond is not None:
        log_weight[beyond.inside(theta)] = -np.inf
    return float(normalized(log_weight)[1])


def table_of(rounds: Sequence[Round]) -> xr.Dataset:
    """A row for each round; what a cut loses is told by the next ratio, of the last by itself."""
    kept = [each.kept for each in rounds]
    lost = [*(each.outside for each in rounds[1:]), kept[-1].lost(kept[-1].posterior)]
    columns = {
        "simulations": [each.simulations for each in rounds],
        "failed": [each.failed for each in rounds],
        "kept_volume": [float(np.exp(each.log_volume)) for each in kept],
        "lost_mass": lost,
        "ess": [each.ess for each in rounds],
    }
    named = {name: ("round", np.array(column)) for name, column in columns.items()}
    return xr.Dataset(named, coords={"round": np.arange(1, len(rounds) + 1)})


@dataclass(frozen=True, eq=False)
class Rounds:
    """What `pymc_nre.rounds` returns.

    Attributes
    ----------
    ratio : RatioEstimator
        For the data set of these rounds, in the kept set of the last one, which is its domain.
    table : xarray.Dataset
        By ``round``: ``simulations`` and how many ``failed``; ``kept_volume``, the share of the
        prior that is kept; ``lost_mass``, the share of the posterior that is cut off, as the ratio
        of the next round has it (of the last round, its own); and ``ess``, how many of all
        simulations so far count at the posterior.
    posterior : xarray.Dataset
        Draws of the posterior under the prior of the rounds, by parameter ``(draw, *own)``, as
        particles found them. Under any other prior, use the ratio.

    Examples
    --------
    >>> import pymc as pm
    >>> import pymc_nre as nre
    >>> found = nre.rounds(
    ...     {"mu": pm.Uniform.dist(-10, 10)},
    ...     lambda rng, mu: rng.normal(mu, 1.0),
    ...     600,
    ...     observed=1.0,
    ...     rounds=2,
    ...     batched=True,
    ...     random_seed=1,
    ...     progressbar=False,
    ... )
    >>> found.table["simulations"].to_numpy()
    array([300, 300])
    """

    ratio: RatioEstimator
    table: xr.Dataset
    posterior: xr.Dataset

    @classmethod
    def of(cls, rounds: Sequence[Round], observed: np.ndarray) -> Rounds:
        """The ratio of the last round, for the data ``(*event)`` or ``(n, *event)`` alone."""
        kept = rounds[-1].kept
        ratio = kept.data.ratio
        domain = Domain.from_draws(kept.draws.theta, kept.draws.log_prior).covering(kept.seen)
        named = {
            name: (("draw", *(f"{name}_dim_{i}" for i in range(value.ndim - 1))), value)
            for name, value in ratio.layout.unpack(kept.posterior.theta).items()
        }
        trials = observed.reshape(-1, *ratio.observation_shape)
        own = ratio.made_for(trials, domain)
        return cls(own, table_of(rounds), xr.Dataset(named))

    def __repr__(self) -> str:
        shown = self.table.to_dataframe().to_string(float_format=lambda value: f"{value:.3g}")
        names = ", ".join(self.ratio.parameters)
        total = int(self.table["simulations"].sum())
        head = f"Rounds: {total:,} simulations for one data set, posterior of {names}"
        return f"{head}\n{shown}"
