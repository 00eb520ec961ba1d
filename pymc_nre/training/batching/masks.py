"""Batches of incomplete observations: masks are drawn anew for each of them.

They are drawn independently of parameters and observations, from a stream of its own for each
epoch, so that a training that resumes goes on with the same ones. Held-out observations keep
theirs.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from ...simulation.conditions.missing import Missing
from .batches import Batch, Batches

__all__ = ["MaskedBatches"]


class MaskedBatches:
    """Other batches, with holes in what is observed.

    Parameters
    ----------
    whole : Batches
    missing : Missing
    random_seed : int
    """

    def __init__(self, whole: Batches, missing: Missing, random_seed: int) -> None:
        self._whole, self.missing, self._seed = whole, missing, random_seed
        self.simulations, self.size, self.distinct = whole.simulations, whole.size, whole.distinct
        self.training, self.unseen = whole.training, whole.unseen
        self.n_held_out = whole.n_held_out
        self.held_out = self._with_holes(whole.held_out, self._stream(0))

    def epoch(self, index: int, batch_size: int, order: torch.Generator) -> Iterator[Batch]:
        """Batches of epoch ``index``, shuffled by ``order``."""
        stream = self._stream(index + 1)
        for batch in self._whole.epoch(index, batch_size, order):
            yield self._with_holes(batch, stream)

    def validation(self, rows: int, least: int) -> Iterator[Batch]:
        """Held-out pairs in parts, with the same masks whenever it is asked."""
        stream = self._stream(0)
        for batch in self._whole.validation(rows, least):
            yield self._with_holes(batch, stream)

    def _stream(self, index: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence((self._seed, index)))

    def _with_holes(self, batch: Batch, stream: np.random.Generator) -> Batch:
        """Of parameters, observations, and others at a reference if the loss has one."""
        theta, *observations = batch
        return (theta, *(self._hidden(x, stream) for x in observations))

    def _hidden(self, x: Tensor, stream: np.random.Generator) -> Tensor:
        masks = torch.from_numpy(self.missing.draw(len(x), stream)).to(x.device)
        rows = x.reshape(len(x), -1)
        beside = masks.new_zeros(len(x), rows.shape[1] - masks.shape[1])  # conditions
        return rows.masked_fill(torch.cat([masks, beside], 1), torch.nan).reshape(x.shape)
