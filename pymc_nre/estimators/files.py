"""Estimators on disk: read, rebuilt and checked against stored log ratios."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
import xarray as xr

from ..exceptions import EstimatorFileError
from ..networks.base import Factory, RatioNetwork
from ..networks.beside import beside
from ..networks.incomplete import incomplete
from ..networks.specifications import build, specification_from_dict, without_weights
from ..runtime.archive import read_archive
from ..runtime.devices import resolve_device
from ..simulation.simulator import Simulator, as_simulator
from .contents import conditions_of, layout_of, missing_of, network_of, problems, section
from .domain import Domain
from .estimator import RatioEstimator
from .trial_budgets.trial_budget import TrialBudget

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
    network : callable or specification, optional
        The factory ``(theta_size, event_shape) -> nn.Module`` of a user's own network; its
        weights come from the file. Others are described in the file.
    simulator : Simulator or callable, optional
        Attached to the estimator, for predictive sampling. A function is called as the one that
        the ratio was trained with, on many draws at once if that was so; a `Simulator` as it says.
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
        If it is not an estimator, is damaged, was changed, or is of a newer format, or if the
        network that was given does not fit it.
    TypeError
        If it holds a user's own network and none was given.
    ValueError
        If a network was given that is not the one that the file describes.

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
    metadata, arrays = read_archive(path, problems=problems)
    specification, module = _rebuilt(metadata, section(arrays, "weights/"), network, path)
    layout = layout_of(metadata)
    ratio = RatioEstimator(
        module,
        layout.shapes,
        domain=_domain(section(arrays, "domain/"), path),
        probe_x=arrays["probe/x"],
        reference=metadata["reference"],
        normalized=metadata["normalized"],
        loss=metadata["loss"],
        specification=specification,
        integer=layout.integer,
        history=_history(metadata["history"], section(arrays, "history/")),
        simulator=as_simulator(simulator, bool(metadata.get("batched"))),
        batched=metadata.get("batched"),
        budget=TrialBudget.from_dict(metadata["budget"]) if metadata.get("budget") else None,
        conditions=conditions_of(metadata),
        missing=missing_of(metadata),
        observed=arrays.get("observed"),
        theta_ref=metadata.get("theta_ref"),
    )
    if torch.device(resolve_device(device)) != ratio.device:
        ratio = ratio.to(device)
    _check_parity(ratio, arrays["probe/log_ratio"], path)
    return ratio


def _domain(arrays: dict[str, np.ndarray], path: Any) -> Domain:
    try:
        return Domain.from_arrays(arrays)
    except ValueError as error:
        raise EstimatorFileError(f"{path} cannot be used: {error}.") from error


def _history(facts: dict[str, Any], arrays: dict[str, np.ndarray]) -> xr.Dataset:
    axes = ("member", "epoch")
    return xr.Dataset({n: (axes[-array.ndim :], array) for n, array in arrays.items()}, attrs=facts)


def _rebuilt(
    metadata: dict[str, Any], weights: dict[str, np.ndarray], network: Any, path: Any
) -> tuple[Any, RatioNetwork]:
    """The specification, if there is one, and the network with its weights."""
    state = {name: torch.from_numpy(array) for name, array in weights.items()}
    conditions = conditions_of(metadata)
    if network is not None and "missing" in metadata:
        network = incomplete(network)
    network = beside(network, conditions and conditions.event_shape)
    if metadata["network"]["type"] == "custom":
        if network is None:
            raise TypeError(
                "This estimator holds a network of your own, of which only the weights are saved. "
                "Pass the function (theta_size, event_shape) -> nn.Module that built it: "
                "load(path, network=function)."
            )
        specification = network if hasattr(network, "build") else None
        return specification, _filled(_own(metadata, network, path), state, path)
    specification = specification_from_dict(metadata["network"])
    if network not in (None, specification):
        raise ValueError(
            f"{path} describes its network, {specification}, and load was given another, "
            f"network={network!r}. Leave it out; it is for networks of your own."
        )
    module = network_of(metadata, without_weights(specification))
    module.load_state_dict(state, assign=True)
    return specification, module


def _own(metadata: dict[str, Any], network: Factory, path: Any) -> RatioNetwork:
    """A network of the user's own, by code that was made for parameters and data it now meets."""
    # What gives log densities is no network: it is called in its own way.
    made = network if metadata.get("density") else partial(build, network)
    try:
        return network_of(metadata, made).double()
    except Exception as error:
        raise EstimatorFileError(
            f"The network given to load cannot be built for {path}: {error}"
        ) from error


def _filled(module: RatioNetwork, state: dict[str, torch.Tensor], path: Any) -> RatioNetwork:
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise EstimatorFileError(
            f"The network given to load does not fit the weights of {path}: {error}"
        ) from error
    return module


def _check_parity(ratio: RatioEstimator, expected: np.ndarray, path: Any) -> None:
    try:
        got = ratio._probe()
    except Exception as error:  # whatever a network raises on what it cannot have seen
        raise EstimatorFileError(
            f"The network loaded from {path} does not take the observations that are stored with "
            f"it: {error}"
        ) from error
    if not np.allclose(got, expected, rtol=_PARITY, atol=_PARITY):
        raise EstimatorFileError(
            f"The network loaded from {path} gives other log ratios than the one that was saved "
            f"(largest difference {np.abs(got - expected).max():.3g}). If the network is your own, "
            "pass the factory that built it, unchanged."
        )
