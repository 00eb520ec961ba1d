"""How Ops name a ratio without keeping it.

PyTensor remembers every Op that it has ever rewritten, for as long as the process lives. If an Op
held its ratio, a loop over ratios would keep them all. So Ops hold what a ratio is known by, its
digest, and a weak reference; the graphs that use it keep it, and so does what is compiled of them.
They keep it by the types of what Ops give, which were made for one node alone: inside of other Ops,
such as loops, PyTensor 3 makes nodes of another class, without tags, but with the same types.

PyTensor also writes types into the cache of what it has compiled in C, beside code that no ratio
has to do with. So what a type has is a `Keeper`, which leaves the ratio out of files; where an Op
is written too, as in a model's pickle, the Op writes the ratio and gives it back to the keeper.
"""

from __future__ import annotations

import weakref
from typing import Any

from pytensor.graph.basic import Apply
from pytensor.tensor import TensorType

from ..estimators.estimator import RatioEstimator

__all__ = ["HeldRatio", "Keeper", "keep"]


class Keeper:
    """Keeps a ratio in memory; copies are itself, and pickles of it alone are empty."""

    def __init__(self, ratio: RatioEstimator | None = None) -> None:
        self.ratio = ratio

    def __copy__(self) -> Keeper:
        return self

    def __deepcopy__(self, memo: object) -> Keeper:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return Keeper, ()


# The keeper of each ratio, by its identity: what is pickled together finds the same one.
_keepers: weakref.WeakValueDictionary[int, Keeper] = weakref.WeakValueDictionary()


def _keeper_of(ratio: RatioEstimator) -> Keeper:
    return _keepers.setdefault(id(ratio), Keeper(ratio))


def _unpickled(ratio: RatioEstimator, keeper: Keeper) -> HeldRatio:
    """What an Op holds, whose ratio is kept again by all that had this keeper."""
    keeper.ratio = ratio
    _keepers.setdefault(id(ratio), keeper)
    return HeldRatio(ratio)


class HeldRatio:
    """A ratio that others keep; equal where the ratios and their simulators are equal.

    PyTensor puts equal Ops in each other's place, and then the wrong simulator would draw.

    Parameters
    ----------
    ratio : RatioEstimator
    """

    def __init__(self, ratio: RatioEstimator) -> None:
        self.digest, self.simulator = ratio.digest, ratio.simulator
        self._reference = weakref.ref(ratio)

    def __call__(self) -> RatioEstimator:
        """The ratio; RuntimeError if nobody has kept it."""
        ratio = self._reference()
        if ratio is None:
            raise RuntimeError(
                "The ratio of an Op is gone: nothing that was made of it is there any more. Keep "
                "the model, the graph or the ratio for as long as the Op is used."
            )
        return ratio

    def is_there(self) -> bool:
        """Whether somebody has kept it."""
        return self._reference() is not None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, HeldRatio):
            return NotImplemented
        return (self.digest, self.simulator) == (other.digest, other.simulator)

    def __hash__(self) -> int:
        return hash(self.digest)

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (self(), _keeper_of(self()))

    def __deepcopy__(self, memo: object) -> HeldRatio:
        return self  # a copy of the ratio would be kept in the place of this one

    def __repr__(self) -> str:
        return f"HeldRatio({self.digest[:8]})"


def keep(node: Apply, ratio: RatioEstimator | None) -> Apply:
    """The same node, whose tensors from now on keep the ratio; so do its clones and pickles."""
    keeper = None if ratio is None else _keeper_of(ratio)
    for output in node.outputs:
        if isinstance(output.type, TensorType):
            output.type.kept_ratio = keeper
    return node
