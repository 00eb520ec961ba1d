"""What is compiled of a ratio: the graph of its network, which is traced once."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache

import numpy as np
from torch import nn

from ...estimators.estimator import RatioEstimator
from ...estimators.evaluator import Evaluator
from ...estimators.parts import paired
from ...estimators.wall import Wall
from ...kernels.traced.evaluator import CompiledEvaluator, Traced
from ...kernels.traced.network import trace
from ...kernels.traced.rows import UnsupportedError
from ...networks.base import RatioNetwork, SplitNetwork
from ...networks.calibration.calibrated import Calibrated
from ...networks.composed.correction import QuadraticCorrection
from ...networks.composed.ensemble import Ensemble
from ...networks.embeddings import Rows
from ...networks.layers import Standardize
from .walled import Walled

__all__ = ["compilable", "evaluator_of_pairs", "is_small", "lost_in_single", "whole"]

_SMALL = 8  # with more numbers in an observation, their part of the first layer is kept
_ROUNDED = 1e-3  # of the largest log ratio: a thousand times what single precision should cost
_BEYOND = 3  # each third of them is so many deviations farther out where there is a wall
_ROWS = 100  # of parameters and observations that a traced network is compared with torch at


@lru_cache(maxsize=32)
def whole(ratio: RatioEstimator, walled: bool) -> Traced | None:
    """What takes observations as they are; None if they are embedded first."""
    if not _takes_numbers(ratio.network):
        return None
    try:
        return trace(_network(ratio, walled), *_samples(ratio, walled), embedded=False)
    except UnsupportedError:
        return None


def is_small(ratio: RatioEstimator) -> bool:
    """Whether it costs less to read an observation than what the network makes of it."""
    return math.prod(ratio.event_shape) <= _SMALL


@lru_cache(maxsize=32)
def compilable(ratio: RatioEstimator, walled: bool) -> Traced | str:
    """What takes features of observations; or why there is nothing."""
    try:
        return trace(_network(ratio, walled), *_samples(ratio, walled))
    except UnsupportedError as error:
        return str(error)


@lru_cache(maxsize=32)
def lost_in_single(ratio: RatioEstimator, walled: bool) -> str:
    """What single precision would lose; nothing if it would not.

    What a network is given is rounded first, unless it takes off a mean before all else. So little
    is left of parameters that are far from zero in units of their spread.
    """
    found = (whole(ratio, walled) if is_small(ratio) else None) or compilable(ratio, walled)
    if isinstance(found, str):
        return ""
    theta, x = _samples(ratio, walled=False)
    rows = ratio.evaluator.features(x) if found.program.embedded else x
    exact = CompiledEvaluator.of(found)
    rounded = replace(exact, weights=found.weights.astype(np.float32))
    double, single = exact.value(theta, rows), rounded.value(theta, rows)
    finite = np.isfinite(double)
    error = np.abs(single - double)[finite].max(initial=0.0)
    largest = max(1.0, np.abs(double[finite]).max(initial=0.0))
    if error <= _ROUNDED * largest:  # not so NaN
        return ""
    return f"its log ratios would be off by {error:.2g}, as its numbers are rounded first"


@lru_cache(maxsize=32)
def evaluator_of_pairs(ratio: RatioEstimator) -> Evaluator:
    """Of a direct ratio, for pairs ``(1 or n, 2 D)`` and features: compiled code where it can be.

    Without a wall, which is around each of the two.
    """
    if ratio.device.type == "cpu":
        draws = paired(ratio.domain.draws[:_ROWS])
        probes = np.resize(ratio.probe_x, (len(draws), *ratio.probe_x.shape[1:]))
        try:
            return CompiledEvaluator.of(trace(ratio.network, draws, probes))
        except UnsupportedError:
            pass
    return ratio.evaluator


def _takes_numbers(network: RatioNetwork) -> bool:
    """Whether the numbers of an observation reach the first layer one by one."""
    # Types are asked for exactly: a subclass may compute something else.
    if type(network) in (QuadraticCorrection, Calibrated):
        return _takes_numbers(network.inner)
    if type(network) is Ensemble:
        return all(map(_takes_numbers, network.members))
    return (
        type(network) is SplitNetwork
        and type(network.embedding) is Rows
        and type(network.standardize_x) is Standardize
    )


def _network(ratio: RatioEstimator, walled: bool) -> nn.Module:
    return Walled(ratio.network, Wall.around(ratio.domain)) if walled else ratio.network


def _samples(ratio: RatioEstimator, walled: bool) -> tuple[np.ndarray, np.ndarray]:
    """Some parameters and observations of the training, as many of each; some behind the wall."""
    theta, probes = ratio.domain.draws[:_ROWS], ratio.probe_x
    if walled:
        theta = theta.copy()
        theta[::_BEYOND] += _BEYOND * (theta[::_BEYOND] - theta.mean(0))
    return theta, np.resize(probes, (len(theta), *probes.shape[1:]))
