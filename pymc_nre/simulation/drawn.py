"""Parameters of many draws, made in blocks when they are asked for.

So an interrupted run keeps what was simulated before all of them were drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

__all__ = ["Drawn"]

Block = Mapping[str, np.ndarray]


class Drawn:
    """Arrays ``(n, *own)`` by name, which are filled by blocks ``(b, *own)``.

    Parameters
    ----------
    n : int
        How many draws.
    blocks : iterator of dict of str to array
        The draws in their order.

    Attributes
    ----------
    made : int
        How many of them are there.
    """

    def __init__(self, n: int, blocks: Iterator[Block]) -> None:
        self.n, self.made, self._blocks = n, 0, blocks
        self._arrays: dict[str, np.ndarray] = {}

    @classmethod
    def whole(cls, parameters: Mapping[str, np.ndarray]) -> Drawn:
        """All of them are there."""
        drawn = cls(len(next(iter(parameters.values()))), iter(()))
        drawn._arrays, drawn.made = dict(parameters), drawn.n
        return drawn

    def beside(self, more: Callable[[Iterator[Block]], Iterator[Block]]) -> Drawn:
        """The same draws, none of which was asked for yet, with more in each block."""
        blocks = iter([self._arrays]) if self.made else self._blocks
        return Drawn(self.n, more(blocks))

    def rows(self, start: int, stop: int) -> dict[str, np.ndarray]:
        """Views ``(stop - start, *own)`` by name."""
        while self.made < stop:
            self._enter(next(self._blocks))
        return {name: value[start:stop] for name, value in self._arrays.items()}

    def _enter(self, block: Block) -> None:
        length = len(next(iter(block.values())))
        for name, values in block.items():
            if name not in self._arrays:
                self._arrays[name] = np.empty((self.n, *values.shape[1:]), values.dtype)
            self._arrays[name][self.made : self.made + length] = values
        self.made += length
