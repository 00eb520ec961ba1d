"""The one place that knows which PyMC, PyTensor and ArviZ are installed.

Two majors of each are supported. Where they differ, the difference is here and has one name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

__all__ = [
    "OpOfBothMajors",
    "divergences_of",
    "for_arviz",
    "has_log_likelihood",
    "posterior_of",
    "start_chain",
]


class OpOfBothMajors:
    """What PyTensor 2 needs of an Op that is written for PyTensor 3; stands before `Op`.

    Such an Op has ``pullback`` and, for ``infer_shape``, ``output_shapes``.
    """

    def L_op(  # noqa: N802  # PyTensor's name
        self, inputs: Sequence[Any], outputs: Sequence[Any], cotangents: Sequence[Any]
    ) -> list[Any]:
        """What PyTensor 2 calls ``pullback``."""
        return self.pullback(inputs, outputs, cotangents)

    def infer_shape(self, *arguments: Any) -> list[tuple[Any, ...]]:
        """PyTensor 2 passes (fgraph, node, shapes), PyTensor 3 (node, shapes)."""
        node, shapes = arguments[-2:]
        return self.output_shapes(node, shapes)


def posterior_of(idata: Any, name: str = "idata") -> xr.Dataset:
    """The posterior draws of an InferenceData or DataTree, with chains and draws.

    Raises
    ------
    ValueError
        If there are none.
    """
    try:
        group = idata["posterior"]
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise ValueError(
            f"{name}: expected an InferenceData or DataTree with a group called posterior, got "
            f"{type(idata).__name__} without. Pass what pm.sample returned."
        ) from error
    group = group.to_dataset() if isinstance(group, xr.DataTree) else group
    if not isinstance(group, xr.Dataset):
        raise ValueError(
            f"{name}: expected an InferenceData or DataTree whose posterior is an xarray.Dataset, "
            f"got {type(idata).__name__} with a {type(group).__name__}. Pass what pm.sample "
            "returned."
        )
    missing = [axis for axis in ("chain", "draw") if axis not in group.dims]
    if missing:
        raise ValueError(
            f"{name}: expected a posterior with the dimensions chain and draw, got "
            f"{tuple(group.dims)}. Add what is missing: posterior.expand_dims({missing[0]}=[0])."
        )
    empty = [axis for axis in ("chain", "draw") if not group.sizes[axis]]
    if empty:
        raise ValueError(
            f"{name}: expected a posterior with draws, got one of {group.sizes['chain']} chains "
            f"with {group.sizes['draw']} draws each. Pass what pm.sample returned, of draws=1 or "
            "more."
        )
    return group


def divergences_of(idata: Any) -> int | None:
    """How many draws the sampler calls divergent; None if it does not say."""
    try:
        return int(idata["sample_stats"]["diverging"].sum())
    except (KeyError, TypeError, AttributeError):
        return None


def for_arviz(posterior: xr.Dataset) -> Any:
    """Posterior draws as ArviZ takes them: an InferenceData before its version 1, or a DataTree."""
    import arviz as az

    if az.__version__.startswith("0."):
        return az.InferenceData(posterior=posterior)
    return xr.DataTree.from_dict({"posterior": posterior})


def has_log_likelihood(idata: Any) -> bool:
    """Whether an InferenceData or DataTree has pointwise log likelihoods."""
    return any(str(group).strip("/") == "log_likelihood" for group in _groups(idata))


def _groups(idata: Any) -> Any:
    groups = idata.groups
    return groups() if callable(groups) else groups


def start_chain(step: Any, rng: np.random.Generator, tune: int, draws: int) -> None:
    """Tell a step method of PyMC that a chain begins."""
    if hasattr(step, "setup_chain"):  # PyMC 6
        step.setup_chain(rng, tune, draws)
    else:
        step.set_rng(rng)
