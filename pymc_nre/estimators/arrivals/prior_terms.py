"""What the parameters of a prior are distributed by, where PyMC and torch know the same names."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.linalg import block_diag

from ...networks.prior_density import FAMILIES, PriorDensity
from ...simulation.prior import Prior

__all__ = ["prior_density"]


def prior_density(prior: Prior) -> PriorDensity | str:
    """The density of a prior in torch, up to a constant; in words why there is none."""
    parts, arguments = [], []
    for name, variable in prior.variables.items():
        family = type(getattr(variable.owner, "op", None)).__name__
        if family not in FAMILIES:
            return f"{name} is a {family.removesuffix('RV')}"
        values = _arguments(variable)
        if values is None:
            return f"{name} depends on others"
        parts.append((family, math.prod(prior.shapes[name])))
        arguments.append(_in_rows(family, values, prior.shapes[name]))
    density = PriorDensity(parts)
    density.set_arguments(arguments)
    return density


def _arguments(variable: Any) -> list[np.ndarray] | None:
    """Numbers that a variable is distributed by; None if they are drawn too."""
    from pymc.pytensorf import rvs_in_graph

    node = variable.owner
    given = node.op.dist_params(node)
    if rvs_in_graph(list(given)):
        return None
    return [np.asarray(each.eval(), dtype=float) for each in given]


def _in_rows(family: str, values: list[np.ndarray], own: tuple[int, ...]) -> list[np.ndarray]:
    """One of each for each number of a parameter of shape ``own``."""
    if family == "MvNormalRV":
        mean, covariance = values
        each = np.broadcast_to(covariance, (*own, own[-1])).reshape(-1, own[-1], own[-1])
        return [np.broadcast_to(mean, own).ravel(), block_diag(*np.linalg.inv(each))]
    return [np.broadcast_to(value, own).ravel() for value in values]
