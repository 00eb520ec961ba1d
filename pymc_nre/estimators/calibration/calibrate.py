r"""Calibrate a ratio: let its logits mean what they say.

A classifier that tells observations of :math:`\theta` from those of the reference may rank them
well and still be too sure, or not sure enough. The ratio of the densities of its score s,

.. math:: \frac{p(s \mid \theta)}{p(s \mid \theta_{ref})},

is known from simulations, and it is the likelihood ratio wherever the score is a function of that,
however wrong its values are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ...losses.carl import CARL, theta_ref_of
from ...networks.calibration.calibrated import Calibrated, region_weights
from ...networks.calibration.curves import Curves
from ...runtime.arrays import whole_number
from ...simulation.simulations import Simulations
from ..checks import check_ratio, fitting
from ..estimator import RatioEstimator
from .regions import centers_among
from .windows import METHODS, curve_points

__all__ = ["calibrate"]

_FEWEST = 500  # they make ten points at most, with an error of .2 each
_REGIONS = 8  # far better than one where errors are large, little worse where not: docs/training.md
_OF_A_REGION = 1_000
_NOT_THERE = 1e-3  # a pair that counts for less in a region is left out of its sums


def calibrate(
    ratio: RatioEstimator,
    simulations: Simulations,
    reference_simulations: Simulations | None = None,
    *,
    method: str = "isotonic",
    regions: int | None = None,
) -> RatioEstimator:
    r"""Calibrate a ratio on simulations that it was not trained on.

    Where a network is too sure, or not sure enough, by what it says and in which region of the
    parameters, that is mended. It cannot mend errors that differ between observations of the same
    logit, nor find a ratio where one of the two, parameters or reference, makes no observations
    that the other makes: there logits stay as they are.

    The simulations must be fresh: on those that it was trained on a network seems to be right.
    Where there is the choice, training on them too is better than this, and a ratio that is right
    but for a few hundredths is made worse for many trials, by the noise of the curves.

    Parameters
    ----------
    ratio : RatioEstimator
        A normalized one, of a classifier: `CARL`, `NREA`, `NREC`, and so on. It stays as it is.
    simulations : Simulations
        Of its parameters: 500 at least, better 10,000. With a fixed reference parameters may come
        from anywhere, such as from a part of the prior; else they are draws of the training prior.
    reference_simulations : Simulations, optional
        For the ratio to a fixed reference (`CARL`), and only for it: simulations there, as many or
        more.
    method : {"isotonic", "histogram", "kernel"}
        What logits are counted together: those of bins so chosen that the curve rises everywhere,
        of bins that hold as many each, or under Gaussian bells. The points of all three are joined
        by a curve with a continuous slope, so that NUTS can follow it; beyond the outermost it has
        slope one.
    regions : int, optional
        How many regions of the parameters have a curve of their own. By default 8, but one for
        every 1,000 simulations at most; with one, all parameters share a curve.

    Returns
    -------
    RatioEstimator
        Its trial budget is to be measured anew.

    Raises
    ------
    TypeError
        If something is not a ratio, simulations, or a count.
    ValueError
        If the ratio is not normalized, is calibrated already, or was centered around one posterior;
        if simulations do not fit it or are too few, or the reference is missing or not wanted.

    References
    ----------
    K. Cranmer, J. Pavez and G. Louppe, Approximating likelihood ratios with calibrated
    discriminative classifiers (2015), arXiv:1506.02169.

    Examples
    --------
    >>> import pymc as pm
    >>> import pymc_nre as nre
    >>> prior = {"mu": pm.Uniform.dist(-2, 2)}
    >>> def simulations(n, seed, **options):
    ...     return nre.simulate(
    ...         prior, lambda rng, mu: rng.normal(mu, 1.0), n, batched=True,
    ...         random_seed=seed, progressbar=False, **options,
    ...     )
    >>> loss = nre.losses.CARL(simulations(2_000, 1, at={"mu": 0.0}))
    >>> ratio = nre.train(
    ...     simulations(2_000, 2), loss=loss, epochs=2, random_seed=1, progressbar=False
    ... )
    >>> calibrated = nre.calibrate(
    ...     ratio, simulations(4_000, 3), simulations(4_000, 4, at={"mu": 0.0})
    ... )
    >>> calibrated.loss
    'CARL(2,000 reference simulations at mu = 0), calibrated (isotonic, 4 regions)'
    """
    _check_ratio(ratio)
    if not isinstance(method, str) or method not in METHODS:
        raise ValueError(
            f"calibrate: method: expected one of {', '.join(METHODS)}, got {method!r}."
        )
    simulations = fitting(ratio, simulations, "calibrate")
    if len(simulations) < _FEWEST:
        raise ValueError(
            f"calibrate: simulations: expected {_FEWEST} or more, got {len(simulations):,}."
        )
    if regions is None:
        regions = max(1, min(_REGIONS, len(simulations) // _OF_A_REGION))
    regions = whole_number(regions, "calibrate: regions")
    other_x = _of_denominator(ratio, simulations, reference_simulations)
    network = _calibrated(ratio, simulations, other_x, method, regions)
    found, _ = network.sizes
    told = f"calibrated ({method}, {found} {'regions' if found > 1 else 'region'})"
    return ratio.replace(network=network, loss=", ".join(filter(None, [ratio.loss, told])))


def _check_ratio(ratio: Any) -> None:
    check_ratio(ratio, "calibrate")
    if ratio.reference == "nothing":
        raise ValueError(
            "calibrate: ratio: expected a log ratio, got a likelihood: how often its values come "
            "is no other density. Calibrate a posterior, or train a ratio."
        )
    if not ratio.normalized:
        raise ValueError(
            "calibrate: ratio: expected one whose logits are log ratios themselves, got one by "
            f"{ratio.loss or 'a loss'} that is not. Train by CARL, NREA, NREC, or the default loss."
        )
    if ratio.is_calibrated or ratio.is_locally_centered:
        done = "calibrated" if ratio.is_calibrated else "centered around one posterior"
        raise ValueError(
            f"calibrate: ratio: expected one as it was trained, got one that was {done}. Calibrate "
            "the ratio from before."
        )


def _of_denominator(
    ratio: RatioEstimator, simulations: Simulations, reference_simulations: Any
) -> np.ndarray:
    """For each of simulations ``(n,)`` an observation ``(n, *event)`` of what is divided by."""
    # Simulations may be in some order, and then neighbors are alike.
    mixed = np.random.default_rng(0).permutation(len(simulations))
    if ratio.reference == "evidence":
        if reference_simulations is not None:
            raise ValueError(
                "calibrate: reference_simulations: expected none, as the ratio is one to the "
                "evidence and not to a fixed reference. Leave them out."
            )
        return simulations.x[mixed[np.argsort(mixed) - 1]]  # of the one before in a random circle
    if reference_simulations is None:
        raise ValueError(
            "calibrate: reference_simulations: expected simulations at the reference of the ratio, "
            f"{ratio.loss}, got none. Make them by simulate(prior, simulator, n, at={{...}})."
        )
    told = CARL(reference_simulations)  # refuses those that are not all at the same parameters
    found = fitting(ratio, reference_simulations, "calibrate")
    known = ratio.theta_ref  # not of older files
    if known is not None and not np.allclose(known, theta_ref_of(told, ratio.layout)):
        raise ValueError(
            "calibrate: reference_simulations: expected simulations at the parameters that the "
            f"ratio is relative to, {known.tolist()}, got {told}."
        )
    return found.x[np.resize(np.random.default_rng(0).permutation(len(found)), len(simulations))]


def _calibrated(
    ratio: RatioEstimator,
    simulations: Simulations,
    other_x: np.ndarray,
    method: str,
    regions: int,
) -> Calibrated:
    theta = simulations.theta
    logits = [ratio.evaluator.value(theta, x) for x in (simulations.x, other_x)]
    s, is_joint = np.concatenate(logits), np.repeat([True, False], len(theta))
    centers, widths = map(torch.as_tensor, centers_among(theta, regions))
    weights = region_weights(torch.as_tensor(theta), centers, widths).numpy()
    points = []
    for weight in np.concatenate([weights, weights]).T:
        there = weight > _NOT_THERE
        points.append(curve_points(method, s[there], is_joint[there], weight[there]))
    return Calibrated.by(ratio.network, centers, widths, Curves.through(points))
