"""What is known of each replicate of a calibration, in memory and on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import xarray as xr

from ...exceptions import EstimatorFileError
from ...runtime.executors import Outcome

__all__ = ["DONE", "FAILED", "PER_PARAMETER", "TO_DO", "Replicated", "Table"]

PER_PARAMETER = ("pit", "ess", "truth", "mean", "sd")
TO_DO, DONE, FAILED = 0, 1, 2


class Replicated(NamedTuple):
    """What is known of one replicate: `PER_PARAMETER` ``(5, P)``, and diverging transitions."""

    values: np.ndarray
    diverging: int


class Table:
    """What is known of all replicates, and how each stands."""

    def __init__(self, replicates: int, parameters: int) -> None:
        self.values = np.full((replicates, len(PER_PARAMETER), parameters), np.nan)
        self.diverging = np.zeros(replicates, dtype=np.int64)
        self.state = np.full(replicates, TO_DO, dtype=np.int64)
        self.error = ""

    def enter(self, outcome: Outcome) -> None:
        """One more replicate."""
        i = outcome.start
        self.state[i] = FAILED if outcome.result is None else DONE
        self.error = self.error or outcome.error
        if outcome.result is not None:
            self.values[i], self.diverging[i] = outcome.result

    @property
    def known(self) -> int:
        """How many replicates were tried."""
        return int((self.state != TO_DO).sum())

    def to_file(self) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """Facts and tensors for a checkpoint."""
        arrays = {"values": self.values, "diverging": self.diverging, "state": self.state}
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        return {"error": self.error}, tensors

    def take(
        self, found: tuple[Mapping[str, Any], Mapping[str, torch.Tensor]] | None, path: Any
    ) -> int:
        """What is in a checkpoint, if there is one, which may be of fewer or more replicates.

        Returns how many replicates are in it.
        """
        if found is None:
            return 0
        facts, tensors = found
        arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
        self._check(facts, arrays, path)
        n = min(len(arrays["state"]), len(self.state))
        for name, array in arrays.items():
            getattr(self, name)[:n] = array[:n]
        self.error = facts["error"]
        return int((arrays["state"] != TO_DO).sum())

    def _check(self, facts: Mapping[str, Any], arrays: Mapping[str, np.ndarray], path: Any) -> None:
        own = {"values": self.values, "diverging": self.diverging, "state": self.state}
        right = arrays.keys() == own.keys() and isinstance(facts.get("error"), str)
        rows = len({array.shape[:1] for array in arrays.values()})
        forms = {name: (array.dtype, array.shape[1:]) for name, array in arrays.items()}
        wanted = {name: (array.dtype, array.shape[1:]) for name, array in own.items()}
        right = right and rows == 1 and forms == wanted and arrays["state"].ndim == 1
        if not right or not np.isin(arrays["state"], (TO_DO, DONE, FAILED)).all():
            raise EstimatorFileError(
                f"{path} holds what no calibration run has written. Get the original again, or "
                "delete it and begin anew."
            )

    def before_first_gap(self) -> Table:
        """What ended early may be what is quick to sample; a prefix is fair."""
        stop = int(np.append(self.state, TO_DO).argmin())
        part = Table(0, self.values.shape[-1])
        part.values, part.diverging = self.values[:stop], self.diverging[:stop]
        part.state, part.error = self.state[:stop], self.error
        return part

    def to_xarray(self, labels: Sequence[str], **settings: Any) -> xr.Dataset:
        """Replicates that were sampled, in order; settings become attributes."""
        done = np.flatnonzero(self.state == DONE)
        by_name = dict(zip(PER_PARAMETER, self.values[done].swapaxes(0, 1), strict=True))
        return xr.Dataset(
            {name: (("pair", "parameter"), values) for name, values in by_name.items()}
            | {"diverging": ("pair", self.diverging[done])},
            coords={"pair": done, "parameter": list(labels)},
            attrs={
                "effective_pairs": float(len(done)),
                "failed": int((self.state == FAILED).sum()),
                **settings,
            },
        )
