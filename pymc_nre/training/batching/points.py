"""Pairs of simulations with several points, in batches of which no two share their parameters.

A loss contrasts the observations of a batch with its parameters. Two points of one simulation would
make a pair that belongs together and is called one that does not. So a batch has one point of a
simulation at most: simulations stand in random order, each with its points side by side, and
neighbors go to different batches, as cards are dealt. Parameters are kept once for each simulation.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from ...simulation.simulations import Simulations

__all__ = ["PointPairs"]


class PointPairs:
    """Points of some simulations, with the parameters of each.

    Parameters
    ----------
    simulations : Simulations
    device : str
    kept : torch.dtype
        The precision of parameters.

    Attributes
    ----------
    theta : Tensor, shape (n, D)
    x : Tensor, shape (N, *event)
    """

    def __init__(
        self, simulations: Simulations, device: str, kept: torch.dtype = torch.float32
    ) -> None:
        self.theta = torch.tensor(simulations.theta, dtype=kept, device=device)
        self.x = torch.tensor(simulations.points, dtype=torch.float32, device=device)
        self._counts = torch.tensor(simulations.counts)
        self._starts = self._counts.cumsum(0) - self._counts
        numbers = torch.arange(len(self.theta), dtype=torch.int32)
        self._owners = numbers.repeat_interleave(self._counts).to(device)

    def __len__(self) -> int:
        """N."""
        return len(self.x)

    def take(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Parameters ``(k, D)`` and points ``(k, *event)``."""
        rows = rows.to(self.x.device)
        return self.theta[self._owners[rows]], self.x[rows]

    def shuffled(self, batch_size: int, order: torch.Generator) -> Iterator[Tensor]:
        """Rows ``(batch_size,)`` of batches in random order; what is left over is left out."""
        steps = self._most_batches(batch_size)
        rows = self._dealt(steps, order)
        dealt = rows[: steps * batch_size].reshape(batch_size, steps)
        for batch in torch.randperm(steps, generator=order):
            # Else simulations would meet the same others in each of their points.
            yield dealt[torch.randperm(batch_size, generator=order), batch]

    def in_parts(self, rows: int, least: int) -> Iterator[Tensor]:
        """Rows of all points, the same again and again, in parts of about so many.

        Where points are too many for parts of at least ``least``, of long simulations not all.
        """
        parts = max(len(self) // rows, int(self._counts.max()))
        parts = min(parts, self._most_batches(least))
        dealt = self._dealt(parts, torch.Generator().manual_seed(0))
        yield from (dealt[part::parts] for part in range(parts))

    def _most_batches(self, size: int) -> int:
        """How many batches can be made, if there are so many simulations."""
        counts = self._counts.numpy()
        steps = int(counts.sum()) // size
        while (fewer := int(np.minimum(counts, steps).sum()) // size) < steps:
            steps = fewer
        return steps

    def _dealt(self, steps: int, order: torch.Generator) -> Tensor:
        """Rows of which every so-manieth is in the same batch.

        A simulation that has more points than there are batches gives some at random.
        """
        simulations = torch.randperm(len(self.theta), generator=order)
        counts = self._counts[simulations]
        kept = counts.clamp(max=steps)
        offsets = (torch.rand(len(counts), generator=order) * counts).long()
        ends = kept.cumsum(0)
        within = torch.arange(int(ends[-1])) - (ends - kept).repeat_interleave(kept)
        turned = (within + offsets.repeat_interleave(kept)) % counts.repeat_interleave(kept)
        return self._starts[simulations].repeat_interleave(kept) + turned
