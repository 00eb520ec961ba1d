"""Batches of incomplete observations: masks are drawn anew for each of them.

They are drawn independently of parameters and observations.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from ...simulation.conditions.missing import Missing
from .batches import Batch, Batches
from .changed import ChangedBatches

__all__ = ["MaskedBatches"]


class MaskedBatches(ChangedBatches):
    """Other batches, with holes in what is observed.

    Parameters
    ----------
    whole : Batches
    missing : Missing
    random_seed : int
    """

    def __init__(self, whole: Batches, missing: Missing, random_seed: int) -> None:
        super().__init__(whole, random_seed)
        self.missing = missing

    def _changed(self, batches: Iterator[Batch], stream: np.random.Generator) -> Iterator[Batch]:
        yield from (self._with_holes(batch, stream) for batch in batches)

    def _with_holes(self, batch: Batch, stream: np.random.Generator) -> Batch:
        """Of parameters, observations, and others at a reference if the loss has one."""
        theta, *observations = batch
        return (theta, *(self._hidden(x, stream) for x in observations))

    def _hidden(self, x: Tensor, stream: np.random.Generator) -> Tensor:
        masks = torch.from_numpy(self.missing.draw(len(x), stream)).to(x.device)
        rows = x.reshape(len(x), -1)
        beside = masks.new_zeros(len(x), rows.shape[1] - masks.shape[1])  # conditions
        return rows.masked_fill(torch.cat([masks, beside], 1), torch.nan).reshape(x.shape)
