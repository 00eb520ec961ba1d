"""The ratio to a fixed reference instead of the evidence (CARL)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import softplus

from ..runtime.kinds import check_kind
from .base import Network

__all__ = ["CARL", "theta_ref_of"]


@runtime_checkable
class ReferenceSimulations(Protocol):
    """What `CARL` needs of simulations: `pymc_nre.Simulations` are that."""

    theta: np.ndarray  # (n, D)
    x: np.ndarray  # (n, *event)
    layout: Any  # with a label for each of the D numbers

    def __len__(self) -> int:
        """How many."""


@dataclass(frozen=True, repr=False)
class CARL:
    r"""Which parameters made this observation, these or the fixed reference? (CARL)

    .. math:: \tfrac12 E_{x \sim p(x \mid \theta)}\,\log(1 + e^{-s})
              + \tfrac12 E_{x \sim p(x \mid \theta_{ref})}\,\log(1 + e^{s})

    The optimal logit is :math:`\log p(x \mid \theta) / p(x \mid \theta_{ref})`. It is learned
    only where the two overlap: observations that the reference never makes teach nothing, so
    choose a reference whose observations cover those of the whole prior.

    Parameters
    ----------
    reference_simulations : Simulations
        Made at the reference: ``simulate(prior, simulator, n, at={"mu": 0.0})``. As many as
        the training simulations, or more.

    Raises
    ------
    ValueError
        If the simulations are not all at the same parameters.

    References
    ----------
    Cranmer, Pavez and Louppe (2015), arXiv:1506.02169.

    Examples
    --------
    >>> import pymc as pm
    >>> import pymc_nre as nre
    >>> prior = {"mu": pm.Uniform.dist(-2, 2)}
    >>> simulator = lambda rng, mu: rng.normal(mu, 1.0)
    >>> nre.losses.CARL(
    ...     nre.simulate(prior, simulator, 100, at={"mu": 0.5}, random_seed=1, progressbar=False)
    ... )
    CARL(100 reference simulations at mu = 0.5)
    """

    reference_simulations: ReferenceSimulations

    reference: ClassVar[str] = "fixed"
    normalized: ClassVar[bool] = True
    minimum_batch: ClassVar[int] = 1
    chance: ClassVar[float] = math.log(2)

    def __post_init__(self) -> None:
        given, remedy = self.reference_simulations, "simulate(prior, simulator, n, at={...})."
        name = "CARL: reference_simulations"
        check_kind(given, ReferenceSimulations, name, "Simulations", f"Make them by {remedy}")
        theta = given.theta
        if not (theta == theta[0]).all():
            raise ValueError(
                "CARL needs reference simulations that all have the same parameters; these vary "
                f"in {int((theta != theta[0]).any(0).sum())} of {theta.shape[1]} numbers. Make "
                f"them by {remedy}"
            )

    def __repr__(self) -> str:
        simulations = self.reference_simulations
        values = zip(simulations.layout.labels, simulations.theta[0], strict=True)
        at = ", ".join(f"{label} = {value:.6g}" for label, value in values)
        return f"CARL({len(simulations):,} reference simulations at {at})"

    def __call__(self, net: Network, theta: Tensor, x: Tensor, reference_x: Tensor) -> Tensor:
        """Scalar loss of theta ``(n, D)``, x ``(n, *event)`` and reference_x ``(n, *event)``."""
        # In one pass: batch normalization would tell the two apart by their own moments.
        logits = net.head(torch.cat([theta, theta]), net.embed(torch.cat([x, reference_x])))
        joint, reference = logits.chunk(2)
        return 0.5 * (softplus(-joint).mean() + softplus(reference).mean())


def theta_ref_of(loss: Any, layout: Any) -> np.ndarray | None:
    """Packed parameters ``(D,)`` of a loss's reference simulations, in the order of a layout.

    None where it has none, or where a loss of a user's own has some that differ.
    """
    simulations = getattr(loss, "reference_simulations", None)
    if simulations is None or not (simulations.theta == simulations.theta[0]).all():
        return None
    at = simulations.layout.unpack(simulations.theta[0])
    return layout.pack(at, f"reference simulations of {type(loss).__name__}")
