"""Which loss suits the simulations: contrasts at every scale, where candidates can be drawn.

Candidates near the true parameters are weighed by the density of the prior, so it must be known,
and be that of the parameters. A prior with another scale, rows that were chosen by what they hold
and simulations that fail here and there would be taken for evidence about the parameters.
"""

from __future__ import annotations

import logging

import numpy as np

from ...exceptions import TrainingWarning, warn
from ...losses.base import Loss
from ...losses.contrastive import NREC
from ...losses.multi_scale import MultiScale
from ...simulation.online import Online
from ...simulation.prior import Prior
from ...simulation.simulations import Simulations

__all__ = ["chosen_loss"]

_log = logging.getLogger("pymc_nre")

_FAILED = 0.01  # share of simulations, from which on where they fail may matter
_COMPARED = 5_000  # draws with others of the prior: a scale that is off by a seventh is seen ...
_NO_DRAWS = 1e-6  # ... as draws of the prior are once in a million sets


def chosen_loss(source: Simulations | Online, loss: Loss | None) -> Loss:
    """The loss that the user gave, by default the one that suits the simulations.

    Raises
    ------
    ValueError
        If it wants candidates, and they cannot be drawn.

    Warns
    -----
    TrainingWarning
        If the prior that is known is not that of the parameters, and no loss was given.
    """
    if loss is not None and not getattr(loss, "near", 0):
        return loss
    why_not = _obstacle(source)
    differing = "" if why_not else _differing(source)
    if not why_not + differing:
        return MultiScale() if loss is None else loss
    if loss is not None:
        raise ValueError(
            f"{type(loss).__name__} draws candidates near the true parameters by the density of "
            f"their prior, and {why_not or differing}. Leave loss= out, or train with NREC()."
        )
    if differing:
        warn(
            f"Training leaves the prior aside, for {differing}. Pass the one that they were drawn "
            "from; if rows were chosen by what they hold, loss=NREC() says that this is meant.",
            TrainingWarning,
        )
    else:
        _log.info("Training contrasts draws of the prior with each other alone, for %s.", why_not)
    return NREC()


def _obstacle(source: Simulations | Online) -> str:
    """Why no candidates can be drawn, in words; empty if they can."""
    if isinstance(source, Online):
        joint = source.joint_simulator
        known = joint.prior.marginal(joint.parameters)
    else:
        known = source.known_prior
    if known is None:
        return (
            "these simulations do not know it; ready arrays are told, Simulations(..., "
            "prior=prior), and no density is known of a prior whose nuisance parameters stand above"
            " the others"
        )
    sample = source.first if isinstance(source, Online) else source
    failed = sample.n_failed / (sample.n_failed + len(sample))
    if failed > _FAILED:
        return (
            f"{failed:.0%} of the simulations failed, and where they fail is a fact about the "
            "parameters that the prior does not know"
        )
    return ""


def _differing(source: Simulations | Online) -> str:
    """By what the parameters are seen to be no draws of their prior, in words; empty if not."""
    if isinstance(source, Online) or source.known_prior is None:
        return ""
    prior: Prior = source.known_prior
    if source.as_drawn and not prior.holds_data:
        return ""
    from scipy.stats import ks_2samp  # imports much, which nobody else needs

    rows = np.linspace(0, len(source) - 1, min(len(source), _COMPARED)).astype(int)
    own = {name: value[rows] for name, value in source.parameters.items()}
    drawn = prior.draw(len(rows), np.random.default_rng(0))
    density = prior.log_density_function()
    labels = [*source.layout.labels, "their joint density"]
    one, other = (
        np.column_stack([source.layout.pack(draws), np.round(density(draws), 6)])
        for draws in (own, drawn)
    )
    p_values = [
        ks_2samp(*columns, method="asymp").pvalue for columns in zip(one.T, other.T, strict=True)
    ]
    if min(p_values) >= _NO_DRAWS / len(labels):
        return ""
    worst = labels[int(np.argmin(p_values))]
    return (
        f"the parameters are no draws of it ({worst} differs, p = {min(p_values):.0e} by a "
        "Kolmogorov-Smirnov test)"
    )
