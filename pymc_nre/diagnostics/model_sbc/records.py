"""What is known of each replicate of a calibration, in memory and on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr

from ...runtime.checkpoint import Checkpoint

__all__ = ["DONE", "FAILED", "PER_PARAMETER", "TO_DO", "Diary", "Outcome", "Table"]

PER_PARAMETER = ("pit", "ess", "truth", "mean", "sd")
TO_DO, DONE, FAILED = 0, 1, 2


@dataclass(frozen=True)
class Outcome:
    """What is known of one replicate: `PER_PARAMETER` ``(5, P)``, or why it failed."""

    index: int
    values: np.ndarray | None = None
    diverging: int = 0
    error: str = ""


class Table:
    """What is known of all replicates, and how each stands."""

    def __init__(self, replicates: int, parameters: int) -> None:
        self.values = np.full((replicates, len(PER_PARAMETER), parameters), np.nan)
        self.diverging = np.zeros(replicates, dtype=np.int64)
        self.state = np.full(replicates, TO_DO, dtype=np.int64)
        self.error = ""

    def enter(self, outcome: Outcome) -> None:
        """One more replicate."""
        i = outcome.index
        self.state[i] = FAILED if outcome.values is None else DONE
        self.error = self.error or outcome.error
        if outcome.values is not None:
            self.values[i], self.diverging[i] = outcome.values, outcome.diverging

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


class Diary:
    """Carries a table to and from its checkpoint."""

    def __init__(self, follow: Checkpoint, seed: int, identity: Mapping[str, str]) -> None:
        self.follow, self.seed, self.identity = follow, seed, identity
        self.written = 0

    def resume(self, table: Table) -> None:
        """Take over what is in the checkpoint; it may be of fewer or more replicates."""
        found = self.follow.load(self.identity)
        if found is None:
            return
        facts, arrays = found
        n = min(len(arrays["state"]), len(table.state))
        table.values[:n] = arrays["values"][:n].numpy()
        table.diverging[:n] = arrays["diverging"][:n].numpy()
        table.state[:n] = arrays["state"][:n].numpy()
        table.error = facts["error"]
        self.written = int((arrays["state"] != TO_DO).sum())

    def write(self, table: Table, last: bool = False) -> None:
        """Write if it is time to, and never less than is there."""
        known = int((table.state != TO_DO).sum())
        if known <= self.written or not self.follow.due(last):
            return
        arrays = {"values": table.values, "diverging": table.diverging, "state": table.state}
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        self.follow.save(self.identity, self.seed, {"error": table.error}, tensors)
        self.written = known
