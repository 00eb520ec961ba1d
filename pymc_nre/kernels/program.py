"""What the kernels run: the steps of a network, as numbers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

__all__ = [
    "ACTIVATE",
    "ADD",
    "AFFINE",
    "FEATURES",
    "JOIN",
    "KEEP",
    "LAYER_NORM",
    "LINEAR",
    "STEP_FIELDS",
    "Exported",
]

# A row of a program: kind of step, width before, width after, where its weights begin, code.
# The code of the first step is the number of members, negative if their logits are averaged.
STEP_FIELDS = 5
JOIN = 0  # W_theta (D, H), b (H), W_x (E, H)
FEATURES = 1  # W_theta (D, H); x is (n, members H), the rest of the sum
ACTIVATE = 2  # code: of the activation
LINEAR = 3  # W (after, before), b (after)
AFFINE = 4  # mean, factor, shift: batch normalization after training
LAYER_NORM = 5  # factor, shift, epsilon
KEEP = 6  # set h aside for the next ADD: blocks are not nested
ADD = 7


@dataclass(frozen=True)
class Exported:
    """A network as arrays.

    Attributes
    ----------
    program : tuple of tuple of int
        Steps, as `pymc_nre.kernels.ratio` describes them.
    moments : ndarray, shape (K 2 D or K (2 D + 2 E), and T,)
        Of all K members of an ensemble; then the numbers of a correction, if there is one.
    weights : ndarray, shape (K P,)
        In double precision.
    """

    program: tuple[tuple[int, ...], ...]
    moments: np.ndarray
    weights: np.ndarray

    @cached_property
    def steps(self) -> np.ndarray:
        """The program as the kernels take it, ``(S, STEP_FIELDS)``."""
        return np.array(self.program, dtype=np.int64)

    @property
    def columns(self) -> int:
        """Numbers of x in a row: of an observation, or of its features for all members."""
        kind, before, after, _, members = self.program[0]
        return before if kind == JOIN else after * abs(members)

    @cached_property
    def variant(self) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """What of the kernels must be compiled for it, as they take it."""
        (code,) = {step[4] for step in self.program if step[0] == ACTIVATE}
        rare = any(step[0] > LINEAR for step in self.program)
        return ((),) * code, ((),) * rare
