"""How Ops name a ratio without keeping it.

PyTensor remembers every Op that it has ever rewritten, for as long as the process lives. If an Op
held its ratio, a loop over ratios would keep them all. So Ops hold what a ratio is known by, its
digest, and a weak reference; the nodes of the graphs that use it keep it, and so does what is
compiled of them.
"""

from __future__ import annotations

import weakref
from typing import Any

from pytensor.graph.basic import Apply

from ..estimators.estimator import RatioEstimator

__all__ = ["HeldRatio", "keep"]


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

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, HeldRatio):
            return NotImplemented
        return (self.digest, self.simulator) == (other.digest, other.simulator)

    def __hash__(self) -> int:
        return hash(self.digest)

    def __reduce__(self) -> tuple[Any, ...]:
        return HeldRatio, (self(),)

    def __repr__(self) -> str:
        return f"HeldRatio({self.digest[:8]})"


def keep(node: Apply, ratio: RatioEstimator | None) -> Apply:
    """The same node, which from now on keeps the ratio; so do its clones and pickles."""
    node.tag.kept_ratio = ratio
    return node
