"""What an estimator is made of: each part checked, and a copy of its own where it could change."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from ..networks.base import RatioNetwork
from ..networks.calibration.calibrated import Calibrated
from ..networks.composed.correction import QuadraticCorrection
from ..networks.composed.ensemble import members_of
from ..networks.composed.pairs import Pairs
from ..networks.layers import Standardize
from ..networks.specifications import describes
from ..runtime.arrays import real_array, true_or_false
from ..simulation.parameters import Layout
from ..simulation.simulator import as_simulator
from .contents import facts_problem
from .evaluator import TorchEvaluator
from .trial_budgets.trial_budget import TrialBudget

__all__ = ["as_trained", "checked_network", "described", "frozen", "own_data"]
__all__ += ["own_probes", "paired", "taken", "trainable", "trained_networks"]


def frozen(network: RatioNetwork) -> RatioNetwork:
    """A copy in double precision, for evaluation only."""
    return copy.deepcopy(network).double().eval().requires_grad_(False)


def trainable(network: RatioNetwork) -> RatioNetwork:
    """A copy in single precision, to be trained on: but for weights that never were."""
    copied = copy.deepcopy(network).float().requires_grad_(True)
    for member in members_of(as_trained(copied)):
        for name, weight in member.named_parameters():
            weight.requires_grad_(name not in member.kept_weights)
    return copied


def as_trained(network: RatioNetwork) -> RatioNetwork:
    """What is inside of the parts that are fitted to a network afterwards."""
    while isinstance(network, QuadraticCorrection | Calibrated):
        network = network.inner
    return network


def own_probes(x: Any, most: int) -> np.ndarray:
    """The first observations, read-only; a view would keep all simulations in memory."""
    probes = real_array(x[:most], "probe_x").copy()
    probes.setflags(write=False)
    return probes


def own_data(values: Any, name: str = "observed") -> np.ndarray | None:
    """A data set, or what else has a name, as an array of its own, read-only; None stays None."""
    if values is None:
        return None
    copied = real_array(values, name).copy()
    copied.setflags(write=False)
    return copied


def taken(given: Mapping[str, Any], layout: Layout) -> dict[str, Any]:
    """What is replaceable, but the network, as an estimator of these parameters holds it."""
    found = dict(given)
    if "simulator" in given:
        found["simulator"] = as_simulator(given["simulator"])
    if "history" in given:
        found["history"] = _own_history(given["history"])
    if given.get("budget") is not None:
        _check_budget(given["budget"], layout)
    if "normalized" in given:
        found["normalized"] = true_or_false(given["normalized"], "normalized")
    if "loss" in given:
        if not isinstance(given["loss"], str):
            raise TypeError(f"loss must be a str, got {given['loss']!r}.")
        found["loss"] = str(given["loss"])
    return found


def checked_network(network: Any, theta: np.ndarray, x: np.ndarray) -> RatioNetwork:
    """The frozen copy of a network that takes parameters ``(n, D)`` and observations."""
    if not isinstance(network, RatioNetwork):
        raise TypeError(
            "network must be a RatioNetwork, as nre.networks.build(MLP(), theta_size, event_shape) "
            f"makes them, got {type(network).__name__}."
        )
    network = frozen(network)
    found = tuple(network.event_shape), _theta_size(network)
    wanted = x.shape[1:], theta.shape[1]
    if found[0] != wanted[0] or found[1] not in (None, wanted[1]):
        raise ValueError(
            "network must take the observations and parameters of this ratio: expected "
            f"observations of shape {wanted[0]} and {wanted[1]} packed parameters, got {found[0]} "
            f"and {found[1]}. Build it for these."
        )
    try:
        TorchEvaluator(network).value(theta[:1], x[:1])
    except Exception as error:  # whatever a network of the user's own raises
        raise ValueError(
            "network must take the observations and parameters of this ratio, of shapes "
            f"{wanted[0]} and ({wanted[1]},), and failed: {error}"
        ) from error
    return network


def trained_networks(network: RatioNetwork, theta_size: int) -> tuple[list[RatioNetwork], int]:
    """What was built by a specification, and for how many parameters."""
    members = list(members_of(as_trained(network)))
    if isinstance(members[0], Pairs):
        return [member.inner for member in members], 2 * theta_size
    return members, theta_size


def described(specification: Any, network: RatioNetwork, theta_size: int) -> Any:
    """The specification, if it builds such networks; otherwise None."""
    members, size = trained_networks(network, theta_size)
    fits = all(describes(specification, member, size) for member in members)
    return specification if fits else None


def paired(theta: np.ndarray) -> np.ndarray:
    """Pairs ``(n, 2 D)`` of parameters ``(n, D)``, each beside the one before it."""
    return np.concatenate([theta, np.roll(theta, 1, axis=0)], axis=1)


def _theta_size(network: RatioNetwork) -> int | None:
    """How many numbers it standardizes; None if it does that in a way of its own."""
    trained = as_trained(network)
    one = members_of(trained)[0]
    standardize = getattr(one, "standardize_theta", None)
    return standardize.mean.numel() if isinstance(standardize, Standardize) else None


def _own_history(history: Any) -> xr.Dataset:
    if history is None:
        return xr.Dataset()
    if not isinstance(history, xr.Dataset):
        raise TypeError(f"history must be an xarray.Dataset, got {type(history).__name__}.")
    problem = facts_problem(history.attrs)
    dims = {array.dims for array in history.values()} - {("epoch",), ("member", "epoch")}
    if problem or dims:
        raise ValueError(
            "history must have variables (epoch,) or (member, epoch) and tell of a training in "
            f"attrs, as that of a trained ratio: {problem or f'it has dimensions {dims}'}."
        )
    return history.copy(deep=True)


def _check_budget(budget: Any, layout: Layout) -> None:
    if not isinstance(budget, TrialBudget):
        raise TypeError(
            f"budget must be what nre.trial_budget(ratio, simulations) gives, got {budget!r}."
        )
    budget.check_parameters(layout.continuous_labels)
