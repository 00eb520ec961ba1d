"""Estimators on disk: read, rebuilt and checked against stored log ratios."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import xarray as xr

from ..exceptions import EstimatorFileError
from ..networks.base import Factory, RatioNetwork
from ..networks.correction import QuadraticCorrection
from ..networks.ensemble import Ensemble
from ..networks.specifications import build, specification_from_dict
from ..runtime.archive import read_archive
from ..runtime.devices import resolve_device
from ..simulation.parameters import Layout
from ..simulation.simulator import Simulator
from .domain import Domain
from .estimator import RatioEstimator
from .trial_budget import TrialBudget

__all__ = ["load"]

_PARITY = 1e-9  # relative; float64 across machines and torch versions differs by about 1e-14


def load(
    path: str | os.PathLike[str],
    *,
    network: Factory | None = None,
    simulator: Simulator | Callable[..., Any] | None = None,
    device: str = "cpu",
) -> RatioEstimator:
    """Read an estimator that `RatioEstimator.save` wrote.

    Parameters
    ----------
    path : str or path-like
    network : callable, optional
        The factory ``(theta_size, event_shape) -> nn.Module`` of a user's own network; its
        weights come from the file.
    simulator : Simulator or callable, optional
        Attached to the estimator, for predictive sampling.
    device : {"cpu", "cuda", "auto"}
        Where the network is evaluated, wherever it was trained.

    Returns
    -------
    RatioEstimator

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    EstimatorFileError
        If it is not an estimator, is damaged, or is of a newer format.
    TypeError
        If it holds a user's own network and none was given.

    Examples
    --------
    >>> import os, tempfile
    >>> import pymc_nre as nre
    >>> simulations = nre.tasks.GaussianMean().simulate(1_000, random_seed=1)
    >>> ratio = nre.train(simulations, epochs=2, random_seed=1, progressbar=False)
    >>> path = os.path.join(tempfile.mkdtemp(), "gaussian.nre")
    >>> ratio.save(path)
    >>> nre.load(path) == ratio
    True
    """
    metadata, arrays = read_archive(path)
    layout = Layout({name: tuple(shape) for name, shape in metadata["parameters"].items()})
    event_shape = tuple(metadata["event_shape"])
    edge = "weights/edge" in arrays
    specification, module = _rebuild(metadata, layout.size, event_shape, network, edge)
    _set_weights(module, _section(arrays, "weights/"), path)
    axes = ("member", "epoch")
    history = {
        name: (axes[-array.ndim :], array) for name, array in _section(arrays, "history/").items()
    }
    ratio = RatioEstimator(
        module,
        layout.shapes,
        domain=Domain.from_arrays(_section(arrays, "domain/")),
        probe_x=arrays["probe/x"],
        reference=metadata["reference"],
        normalized=metadata["normalized"],
        loss=metadata["loss"],
        specification=specification,
        integer=metadata.get("integer", ()),
        history=xr.Dataset(history, attrs=metadata["history"]),
        simulator=simulator,
        budget=TrialBudget.from_dict(metadata["budget"]) if metadata.get("budget") else None,
    )
    if torch.device(resolve_device(device)) != ratio.device:
        ratio = ratio.to(device)
    _check_parity(ratio, arrays["probe/log_ratio"], path)
    return ratio


def _rebuild(
    metadata: dict[str, Any],
    theta_size: int,
    event_shape: tuple[int, ...],
    factory: Factory | None,
    edge: bool,
) -> tuple[Any, RatioNetwork]:
    """The specification and a network of its shape; a correction has an edge, or bounds alone."""
    specification = None
    if metadata["network"]["type"] != "custom":
        specification = factory = specification_from_dict(metadata["network"])
    if factory is None:
        raise TypeError(
            "This estimator holds a network of your own, of which only the weights are saved. Pass "
            "the function (theta_size, event_shape) -> nn.Module that built it: load(path, "
            "network=function)."
        )
    members = [build(factory, theta_size, event_shape) for _ in range(metadata.get("members", 1))]
    net = members[0] if len(members) == 1 else Ensemble(members, metadata["mean_of"])
    if metadata.get("tilted"):
        net = QuadraticCorrection(net, theta_size, edge=edge)
    return specification, net


def _set_weights(module: Any, weights: dict[str, np.ndarray], path: Any) -> None:
    state = {name: torch.from_numpy(array) for name, array in weights.items()}
    module.double()
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise EstimatorFileError(
            f"The network given to load does not fit the weights of {path}: {error}"
        ) from error


def _check_parity(ratio: RatioEstimator, expected: np.ndarray, path: Any) -> None:
    got = ratio._probe()
    if not np.allclose(got, expected, rtol=_PARITY, atol=_PARITY):
        raise EstimatorFileError(
            f"The network loaded from {path} gives other log ratios than the one that was saved "
            f"(largest difference {np.abs(got - expected).max():.3g}). If the network is your own, "
            "pass the factory that built it, unchanged."
        )


def _section(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {
        name.removeprefix(prefix): array
        for name, array in arrays.items()
        if name.startswith(prefix)
    }
