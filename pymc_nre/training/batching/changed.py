"""Other batches, changed by what is drawn anew for each of them.

Draws come from a stream of its own for each epoch, so that a training that resumes goes on with the
same ones. Held-out pairs keep theirs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import torch

from .batches import Batch, Batches

__all__ = ["ChangedBatches"]


class ChangedBatches:
    """Base of batches that wrap others.

    Parameters
    ----------
    whole : Batches
    random_seed : int
    """

    # Several may wrap each other with one seed, and must not draw the same numbers.
    stream_key: ClassVar[tuple[int, ...]] = ()

    def __init__(self, whole: Batches, random_seed: int) -> None:
        self._whole, self._seed = whole, random_seed
        self.simulations, self.size, self.distinct = whole.simulations, whole.size, whole.distinct
        self.training, self.unseen = whole.training, whole.unseen
        self.n_held_out = whole.n_held_out

    @property
    def held_out(self) -> Batch:
        """Held-out pairs, changed."""
        return next(self._changed(iter([self._whole.held_out]), self._stream(0)))

    def epoch(self, index: int, batch_size: int, order: torch.Generator) -> Iterator[Batch]:
        """Batches of epoch ``index``, shuffled by ``order``."""
        whole = self._whole.epoch(index, batch_size, order)
        yield from self._changed(whole, self._stream(index + 1))

    def validation(self, rows: int, least: int) -> Iterator[Batch]:
        """Held-out pairs in parts, changed in the same way whenever it is asked."""
        yield from self._changed(self._whole.validation(rows, least), self._stream(0))

    def _stream(self, index: int) -> np.random.Generator:
        entropy = self._seed, index
        return np.random.default_rng(np.random.SeedSequence(entropy, spawn_key=self.stream_key))

    def _changed(self, batches: Iterator[Batch], stream: np.random.Generator) -> Iterator[Batch]:
        raise NotImplementedError
