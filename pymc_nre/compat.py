"""The one place that knows which PyMC, PyTensor and ArviZ are installed.

Two majors of each are supported. Where they differ, the difference is here and has one name.
"""

from __future__ import annotations

from typing import Any

import xarray as xr

__all__ = ["for_arviz", "has_log_likelihood", "posterior_of"]


def posterior_of(idata: Any) -> xr.Dataset:
    """The posterior draws of an InferenceData or DataTree."""
    group = idata["posterior"]
    return group.to_dataset() if isinstance(group, xr.DataTree) else group


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
