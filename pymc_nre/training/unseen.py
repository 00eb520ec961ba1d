"""What the simulations that training has not seen tell of a ratio: how many trials it bears.

They are held out to choose the best weights and need no simulator. A gradient for each of them
costs next to nothing beside the training.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import numpy as np

from ..estimators.checks import as_taken
from ..estimators.estimator import RatioEstimator
from ..estimators.trial_budgets.measured_budget import FEWEST, measure
from ..runtime.random_streams import RandomStream
from ..simulation.simulations import Simulations

__all__ = ["with_budget"]


def with_budget(
    ratio: RatioEstimator, sample: Simulations, unseen: Sequence[np.ndarray]
) -> RatioEstimator:
    """The ratio with its budget, of all points; as it is, if that cannot be measured.

    ``unseen`` are the rows of the sample that each member has not seen.
    """
    rows = reduce(np.intersect1d, unseen)
    few = sample.counts[rows].sum() < FEWEST
    if few or ratio.is_direct or not len(ratio.layout.continuous):
        return ratio
    try:
        # Of a copy, whose evaluator goes with the features that it remembers.
        with RandomStream(0).in_place():
            budget = measure(ratio.replace(), as_taken(ratio, sample[rows]), width=False)
        return budget.attach(ratio) if np.isfinite(budget.bias_squared_limit).all() else ratio
    except (KeyboardInterrupt, RuntimeError, np.linalg.LinAlgError):
        # What took long is done. A user's own network may have no gradients, or holes in them.
        return ratio
