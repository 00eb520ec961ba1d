"""Do labeled conditions have the labels of the observations that they belong to?"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import xarray as xr

__all__ = ["check_labels"]


def check_labels(x: Any, conditions: Any, caller: str) -> None:
    """Raise ValueError if dimensions that conditions share with x do not match; both have labels.

    Axes go by their place, so that others would be conditions of other observations.
    """
    if not isinstance(x, xr.DataArray) or not isinstance(conditions, Mapping):
        return
    for name, given in conditions.items():
        if not isinstance(given, xr.DataArray):
            continue
        shared = [dim for dim in x.dims if dim in given.dims]
        own = [dim for dim in given.dims if dim in x.dims]
        unlike = [dim for dim in shared if not _same_labels(x, given, dim)]
        if shared != own or unlike:
            why = f"other labels along {unlike[0]}" if unlike else f"dimensions {', '.join(own)}"
            raise ValueError(
                f"{caller}: conditions: {name}: expected dimensions and labels in the order of "
                f"those of x ({', '.join(map(str, x.dims))}), got {why}. Axes go by their place: "
                f"bring them in order, such as by {name}.reindex_like(x).transpose(...)."
            )


def _same_labels(x: xr.DataArray, given: xr.DataArray, dim: Hashable) -> bool:
    """Along one dimension; where one has no labels, nothing is asked."""
    if dim not in x.indexes or dim not in given.indexes:
        return True
    return x.indexes[dim].equals(given.indexes[dim])
