"""What the kernels run: the steps of a network, as data.

A `Program` says it in words, for people and for whatever compiles it. Kernels take it as
`Instructions`: the steps are numbers, an argument like any other, and what must be compiled for is
a type, so that Numba compiles once for each activation and not for each network.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import NamedTuple

import numpy as np

__all__ = ["ACTIVATIONS", "AllSteps", "Exported", "FewSteps", "Instructions", "Kind"]
__all__ += ["Program", "Step"]


class Kind(IntEnum):
    """What a step does; beside it its weights."""

    JOIN = 0  # W_theta (D, H), b (H), W_x (E, H)
    FEATURES = 1  # W_theta (D, H); x is (n, members H), the rest of the sum
    ACTIVATE = 2
    LINEAR = 3  # W (after, before), b (after)
    AFFINE = 4  # mean, factor, shift: batch normalization after training
    LAYER_NORM = 5  # factor, shift, epsilon
    KEEP = 6  # set h aside for the next ADD: blocks are not nested
    ADD = 7


class Step(NamedTuple):
    """One step of a network.

    Attributes
    ----------
    kind : Kind
    before, after : int
        The width of what it is given, and of what it gives.
    start : int
        Where its weights begin.
    """

    kind: Kind
    before: int
    after: int
    start: int


class Silu(NamedTuple):
    """Compile for `torch.nn.SiLU`."""


class Gelu(NamedTuple):
    """Compile for `torch.nn.GELU`."""


class Tanh(NamedTuple):
    """Compile for `torch.nn.Tanh`."""


class Elu(NamedTuple):
    """Compile for `torch.nn.ELU`."""


class Softplus(NamedTuple):
    """Compile for `torch.nn.Softplus`."""


class Relu(NamedTuple):
    """Compile for `torch.nn.ReLU`."""


ACTIVATIONS = {
    "silu": Silu,
    "gelu": Gelu,
    "tanh": Tanh,
    "elu": Elu,
    "softplus": Softplus,
    "relu": Relu,
}


class FewSteps(NamedTuple):
    """Compile for the steps that every network has: up to `Kind.LINEAR`."""


class AllSteps(NamedTuple):
    """Compile for normalization and residual blocks as well."""


class Instructions(NamedTuple):
    """A program as the kernels take it.

    Attributes
    ----------
    steps : ndarray of int64, shape (S, 4)
        A row for each `Step`.
    members : int
    mean_of_logits : bool
        Whether the members' logits are averaged, and not their ratios.
    activation : Silu, Gelu, Tanh, Elu, Softplus or Relu
        Nothing is in it, its type counts.
    known : FewSteps or AllSteps
        Its type counts.
    """

    steps: np.ndarray
    members: int
    mean_of_logits: bool
    activation: tuple[()]
    known: tuple[()]


@dataclass(frozen=True)
class Program:
    """What is done with parameters and observations, whatever the weights.

    Attributes
    ----------
    steps : tuple of Step
        The first is `Kind.JOIN` or `Kind.FEATURES`.
    activation : str
        Of `ACTIVATIONS`; a network has one.
    members : int
        Of an ensemble: the same steps for each, with its own weights.
    mean_of : {"ratios", "logits"}
        What of the members is averaged.
    """

    steps: tuple[Step, ...]
    activation: str
    members: int = 1
    mean_of: str = "ratios"

    @cached_property
    def columns(self) -> int:
        """Numbers of x in a row: of an observation, or of its features for all members."""
        first = self.steps[0]
        return first.before if first.kind == Kind.JOIN else first.after * self.members

    @cached_property
    def instructions(self) -> Instructions:
        """The same as the kernels take it."""
        known = AllSteps if max(step.kind for step in self.steps) > Kind.LINEAR else FewSteps
        return Instructions(
            np.array(self.steps, dtype=np.int64),
            self.members,
            self.mean_of == "logits",
            ACTIVATIONS[self.activation](),
            known(),
        )


@dataclass(frozen=True)
class Exported:
    """A network as a program and arrays.

    Attributes
    ----------
    program : Program
    moments : ndarray, shape (K 2 D or K (2 D + 2 E), and T,)
        Of all K members of an ensemble; then the numbers of a correction, if there is one.
    weights : ndarray, shape (K P,)
        In double precision.
    """

    program: Program
    moments: np.ndarray
    weights: np.ndarray
