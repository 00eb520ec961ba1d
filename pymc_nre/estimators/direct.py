r"""Direct ratios as ordinary ones, and what to compare with.

A direct ratio is :math:`p(x \mid \theta) / p(x \mid \theta')`. For given data any fixed
:math:`\theta'` makes a likelihood of it. One that the data speak against is a trap: there the
network has seen nothing alike, and its errors do not cancel. So the best of many is taken, a draw
of the training prior that makes these data likely.
"""

from __future__ import annotations

import copy
import math
from functools import lru_cache

import numpy as np

from ..networks.composed.beside_reference import BesideReference
from ..runtime.checkpoint import fingerprint
from ..simulation.conditions.layout import Conditions
from .estimator import RatioEstimator

__all__ = ["against", "beside_reference", "best_reference", "candidates", "each_against"]

_REFERENCE = "reference"  # what stands beside an observation
_CANDIDATES = 256  # of which a reference is the best
_MOST_DATA = 1_000  # to choose by; one that suits so many suits all
_MOST_ROUNDS = 8
_MOST_FOUND = 1_000
_found: dict[tuple[str, str], np.ndarray] = {}  # the last references, by ratio and data


@lru_cache(maxsize=32)
def beside_reference(ratio: RatioEstimator) -> RatioEstimator:
    """The same ratio, with what to compare with as a condition, so that it is an ordinary one.

    Its observations are vectors: an observation, its conditions, and packed parameters.
    """
    known, draws = ratio.conditions, ratio.domain.draws
    shapes = {} if known is None else dict(known.shapes)
    low, high = ([], []) if known is None else (known.low, known.high)
    own = np.resize(draws, (len(ratio.probe_x), ratio.layout.size))
    return RatioEstimator(
        BesideReference(copy.deepcopy(ratio.network), ratio.layout.size),
        ratio.parameters,
        domain=ratio.domain,
        probe_x=np.concatenate([ratio.probe_x.reshape(len(own), -1), own[::-1]], axis=1),
        reference="fixed",
        normalized=ratio.normalized,
        loss=ratio.loss,
        integer=ratio.layout.integer,
        conditions=Conditions(
            shapes | {_REFERENCE: (ratio.layout.size,)},
            ratio.observation_shape,
            (*low, *ratio.domain.lower.tolist()),
            (*high, *ratio.domain.upper.tolist()),
        ),
        missing=ratio.missing,
    )


def each_against(
    ratio: RatioEstimator, theta: np.ndarray, others: np.ndarray, x: np.ndarray
) -> np.ndarray:
    """Log ratios ``(n, S)`` of observations ``(n, *event)``, each alone.

    Of parameters ``(D,)`` to each of others ``(S, D)``.
    """
    pairs = np.concatenate([np.broadcast_to(theta, others.shape), others], axis=1)
    table = ratio.evaluator.table(pairs[None], x)
    if ratio.missing is not None:
        table[ratio.missing.without_any(x)] = 0.0
    return table


def against(
    ratio: RatioEstimator, theta: np.ndarray, others: np.ndarray, x: np.ndarray
) -> np.ndarray:
    """The same of all observations together, ``(S,)``."""
    return each_against(ratio, theta, others, x).sum(0)


def candidates(ratio: RatioEstimator) -> np.ndarray:
    """Draws of the training prior ``(256, D)``, the best of which is a reference."""
    return ratio.domain.draws[:_CANDIDATES]


def best_reference(ratio: RatioEstimator, x: np.ndarray) -> np.ndarray:
    """Parameters ``(D,)`` that make observations ``(n, *event)`` likely, a draw of the prior.

    The best of 256 draws beside one of them, again beside the best, until it stays the best. That
    takes some hundreds of evaluations for each observation, where all pairs would take 65,536. It
    is remembered: a model is compiled several times.
    """
    some = x[:: max(1, math.ceil(len(x) / _MOST_DATA))]
    asked = ratio.digest, fingerprint(some)
    found = _found.get(asked)
    if found is None:
        found = _found[asked] = _best_of_candidates(ratio, some)
        for old in list(_found)[:-_MOST_FOUND]:
            _found.pop(old, None)
    return found.copy()


def _best_of_candidates(ratio: RatioEstimator, some: np.ndarray) -> np.ndarray:
    draws = candidates(ratio)
    # From the middle of the prior, where the network has seen most.
    best, seen = int(ratio.domain.rarity(draws).argmin()), set()
    while best not in seen and len(seen) < _MOST_ROUNDS:
        seen.add(best)
        best = int(against(ratio, draws[best], draws, some).argmin())
    return draws[best].copy()
