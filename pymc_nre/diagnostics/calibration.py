r"""What ranks of true parameters say about posteriors: too narrow, too wide, shifted, or right.

Ranks (see `pymc_nre.diagnostics.ranks`) are uniform if posteriors are right. Each function here
looks at one kind of them, as numbers and as a test, whose p value holds for any number of pairs.
How far the mean of n uniform numbers is from 1/2, and that of their squared distances from 1/2 is
from 1/12, tells the direction,

.. math:: z_1 = \frac{\bar u - 1/2}{\sqrt{1 / 12 n}}, \qquad
    z_2 = \frac{\overline{(u - 1/2)^2} - 1/12}{\sqrt{1 / 180 n}}.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import xarray as xr
from scipy.special import expit, kolmogorov, ndtr

from ..runtime.arrays import real_array, shares, whole_number
from .verdicts import Judgment, Verdict, told, worst

__all__ = [
    "FEW",
    "checked_levels",
    "coverage",
    "judge",
    "normalization",
    "reliability",
    "sbc",
    "tarp",
]

_LEVELS = np.round(np.arange(0.05, 0.96, 0.05), 2)
FEW = 10  # effective draws
# What is smaller than this nobody would notice: a share of the truths that a region holds; ranks
# whose mean is off by .01 (posteriors by 4 % of their width) or whose spread by .002 (a width by
# 2 %); a factor of the evidence, the balance, and the surplus of probability.
_COVERED = 0.01
_SHAPE, _MEAN, _SPREAD = 0.015, 0.01, 0.002
_EVIDENCE, _BALANCE, _SURPLUS = 0.01, 0.005, 0.002
_LEARNED = 3.0  # standard errors by which observations tell more than nothing


def coverage(ranks: xr.Dataset, levels: np.ndarray | None = None) -> xr.Dataset:
    """Expected coverage: how often highest-density regions of a level hold the truth.

    Parameters
    ----------
    ranks : xarray.Dataset
        From `posterior_ranks`.
    levels : array, shape (L,), optional
        Credible levels; by default .05 to .95.

    Returns
    -------
    xarray.Dataset
        ``coverage`` (level), and ``error``, the standard error that it has if posteriors are
        right. The attributes ``p_value``, ``verdict`` and ``summary`` say what it means.

    References
    ----------
    J. Hermans et al., A crisis in simulation-based inference? (2022), arXiv:2110.06581.

    Examples
    --------
    >>> import pymc_nre as nre
    >>> task = nre.tasks.GaussianMean()
    >>> ranks = nre.diagnostics.posterior_ranks(
    ...     task.estimator(), task.simulate(1_000, random_seed=1), random_seed=2, progressbar=False
    ... )
    >>> nre.diagnostics.coverage(ranks).attrs["verdict"]
    'right'
    """
    levels = checked_levels(levels, "coverage")
    u, n = _uniform(ranks, "density", "coverage"), _number_of(ranks)
    judged = judge(u, n)
    # The direction is that of the usual level where most is amiss for its standard error: tails
    # may be too thin where the middle is too wide.
    usual = _by_level(u, n, _LEVELS[_LEVELS >= 0.5])
    amiss = ((usual["coverage"] - usual["level"]) / usual["error"]).to_numpy()
    most = np.abs(amiss).argmax()
    deviation = Verdict.TOO_NARROW if amiss[most] < 0 else Verdict.TOO_WIDE
    level, covered = (float(usual[name][most]) for name in ("level", "coverage"))
    matters = judged.matters and abs(covered - level) > _COVERED
    found = _known(Judgment(judged.p_value, deviation, matters=matters), ranks)
    summary = (
        f"{level:.0%} regions hold {covered:.1%} of the true parameters: posteriors are "
        f"{found.verdict} ({found.odds}, {len(u):,} pairs)."
    )
    return _by_level(u, n, levels).assign_attrs(
        told(found.p_value, found.verdict, summary + _few(found, ranks))
    )


def sbc(ranks: xr.Dataset) -> xr.Dataset:
    """Simulation-based calibration: is the rank of each parameter uniform?

    Parameters
    ----------
    ranks : xarray.Dataset
        From `posterior_ranks` or `sbc_model`, or any with ``pit`` (pair, parameter).

    Returns
    -------
    xarray.Dataset
        ``pit`` (pair, parameter), ``p_value`` and ``verdict`` (parameter). Attributes as for
        `coverage`, of the worst parameter, whose label is the attribute ``parameter``: empty if
        all are right.

    References
    ----------
    S. Talts et al., Validating Bayesian inference algorithms with simulation-based calibration
    (2018), arXiv:1804.06788.

    Examples
    --------
    >>> import pymc_nre as nre
    >>> task = nre.tasks.GaussianMean()
    >>> ranks = nre.diagnostics.posterior_ranks(
    ...     task.estimator(), task.simulate(1_000, random_seed=1), random_seed=2, progressbar=False
    ... )
    >>> nre.diagnostics.sbc(ranks)["verdict"].item()
    'right'
    """
    columns, n = _uniform(ranks, "pit", "sbc", "parameter").T, _number_of(ranks)
    pit = ranks["pit"].transpose("pair", "parameter")
    labels = list(pit["parameter"].to_numpy())
    found = [_known(judge(column, n).among(len(labels)), ranks) for column in columns]
    verdicts = [one.verdict.value for one in found]
    each = "; ".join(f"{label} {v}" for label, v in zip(labels, verdicts, strict=True))
    least = worst(found, labels)
    summary = f"Posteriors by parameter: {each} (smallest {least.odds}).{_few(least, ranks)}"
    return xr.Dataset(
        {
            "pit": pit,
            "p_value": ("parameter", [one.p_value for one in found]),
            "verdict": ("parameter", verdicts),
        },
        attrs=told(least.p_value, least.verdict, summary)
        | {"parameter": least.parameter, "effective_pairs": n},
    )


def tarp(ranks: xr.Dataset, levels: np.ndarray | None = None) -> xr.Dataset:
    """Tests of accuracy with random points: all parameters at once, by distance.

    Parameters
    ----------
    ranks : xarray.Dataset
        From `posterior_ranks`.
    levels : array, shape (L,), optional
        Credible levels; by default .05 to .95.

    Returns
    -------
    xarray.Dataset
        ``coverage`` (level) of regions around random points, and its ``error``; attributes as
        for `coverage`.

    References
    ----------
    P. Lemos et al., Sampling-based accuracy testing of posterior estimators for general
    inference (2023), arXiv:2302.03026.

    Examples
    --------
    >>> import pymc_nre as nre
    >>> task = nre.tasks.GaussianMean()
    >>> ranks = nre.diagnostics.posterior_ranks(
    ...     task.estimator(), task.simulate(1_000, random_seed=1), random_seed=2, progressbar=False
    ... )
    >>> nre.diagnostics.tarp(ranks).attrs["verdict"]
    'right'
    """
    levels = checked_levels(levels, "tarp")
    u, n = _uniform(ranks, "distance", "tarp"), _number_of(ranks)
    found = _known(judge(u, n), ranks)
    summary = (
        f"By distance from random points posteriors are {found.verdict} "
        f"({found.odds}, {len(u):,} pairs).{_few(found, ranks)}"
    )
    return _by_level(u, n, levels).assign_attrs(told(found.p_value, found.verdict, summary))


def _by_level(u: np.ndarray, n: float, levels: np.ndarray) -> xr.Dataset:
    """Shares of ranks up to each level, and standard errors of uniform ones that count as n."""
    return xr.Dataset(
        {
            "coverage": ("level", (u[:, None] <= levels).mean(0)),
            "error": ("level", np.sqrt(levels * (1 - levels) / n)),
        },
        coords={"level": levels},
    )


def checked_levels(levels: Any, who: str) -> np.ndarray:
    """Credible levels, by default the usual ones."""
    return _LEVELS if levels is None else shares(levels, f"{who}: levels")


def _column(ranks: Any, name: str, who: str, *more: str) -> np.ndarray:
    """A variable ``(pair, *more)`` of what `posterior_ranks` returns."""
    dims = ("pair", *more)
    known = isinstance(ranks, xr.Dataset) and name in ranks and set(ranks[name].dims) == set(dims)
    if not known or not ranks.sizes["pair"]:
        raise TypeError(
            f"{who}: ranks: expected the dataset that posterior_ranks returns, with {name} "
            f"({', '.join(dims)}), got {type(ranks).__name__}"
            + (f" with {', '.join(map(str, ranks))}." if isinstance(ranks, xr.Dataset) else ".")
        )
    values = real_array(ranks[name].transpose(*dims), f"{who}: ranks: {name}")
    if np.isnan(values).any():
        raise ValueError(f"{who}: ranks: {name} holds NaN. Leave out pairs without a posterior.")
    return values


def _uniform(ranks: Any, name: str, who: str, *more: str) -> np.ndarray:
    """The same, of numbers between 0 and 1."""
    values = _column(ranks, name, who, *more)
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError(
            f"{who}: ranks: {name} must be ranks in [0, 1], got values in [{values.min():.4g}, "
            f"{values.max():.4g}]. Divide ranks that count draws by the number of draws."
        )
    return values


def _effective_draws(ranks: xr.Dataset) -> float:
    """On which half of the posteriors rest at most; many, if nothing is said."""
    return float(np.median(ranks["ess"])) if "ess" in ranks else math.inf


def _known(found: Judgment, ranks: xr.Dataset) -> Judgment:
    """What is said where posteriors rest on enough draws; on few, nearly all pass or look wide."""
    doubtful = (Verdict.RIGHT, Verdict.TOO_WIDE, Verdict.TOO_UNSURE)
    if _effective_draws(ranks) < FEW and found.verdict in doubtful:
        return Judgment(math.nan, Verdict.NOT_KNOWN)
    return found


def _few(found: Judgment, ranks: xr.Dataset) -> str:
    """Why nothing is known, in words."""
    if found.verdict is not Verdict.NOT_KNOWN:
        return ""
    return (
        f" Half of the posteriors rest on {_effective_draws(ranks):.1f} effective draws of the "
        "prior or fewer."
    )


def _number_of(ranks: xr.Dataset) -> float:
    """As how many independent pairs these count; all of them, if nothing else is said."""
    return ranks.attrs.get("effective_pairs", ranks.sizes["pair"])


def _is_normalized(ranks: xr.Dataset, who: str) -> bool:
    if "normalized" not in ranks.attrs:
        raise ValueError(
            f"{who}: ranks: expected the dataset that posterior_ranks returns, with the attribute "
            "normalized, which this one lacks. Other ranks do for coverage, sbc and tarp."
        )
    return bool(ranks.attrs["normalized"])


def _distance(u: np.ndarray) -> float:
    """Between the distribution function of numbers and that of uniform ones, at most."""
    ordered, steps = np.sort(u), np.arange(len(u) + 1) / len(u)
    return float(max((steps[1:] - ordered).max(), (ordered - steps[:-1]).max()))


def _shape(u: np.ndarray, n: float) -> float:
    """p value of Kolmogorov's and Smirnov's test, for numbers that count as n.

    By the limit for large n with the correction of Stephens (1970), which from n = 100 on is
    right to a percent of itself.
    """
    return float(kolmogorov((math.sqrt(n) + 0.12 + 0.11 / math.sqrt(n)) * _distance(u)))


def _moments(u: np.ndarray, n: float) -> tuple[float, float]:
    """z values of the mean and of the spread, for numbers that count as n."""
    spread = ((u - 0.5) ** 2).mean() - 1 / 12
    return float((u.mean() - 0.5) * math.sqrt(12 * n)), float(spread * math.sqrt(180 * n))


def _two_sided(z: float) -> float:
    return float(2 * ndtr(-abs(z)))


def judge(u: np.ndarray, n: float) -> Judgment:
    """Three tests together of numbers that count as n, and what the strongest deviation means."""
    mean, spread = _moments(u, n)
    p_value = min(1.0, 3 * min(_shape(u, n), _two_sided(mean), _two_sided(spread)))
    matters = (
        _distance(u) > _SHAPE
        or abs(mean) > _MEAN * math.sqrt(12 * n)
        or abs(spread) > _SPREAD * math.sqrt(180 * n)
    )
    deviation = Verdict.TOO_NARROW if spread > 0 else Verdict.TOO_WIDE
    if abs(mean) > abs(spread):
        deviation = Verdict.TOO_LOW if mean > 0 else Verdict.TOO_HIGH
    return Judgment(p_value, deviation, matters=bool(matters))


def normalization(ranks: xr.Dataset) -> xr.Dataset:
    r"""Is the mean of the ratio over the prior one? And how much do data tell?

    Parameters
    ----------
    ranks : xarray.Dataset
        From `posterior_ranks`.

    Returns
    -------
    xarray.Dataset
        ``evidence``, the mean over pairs of :math:`\hat Z(x)`, the ratio's mean over draws of
        the prior, one for a normalized ratio, and ``evidence_error``; ``information`` (bound),
        two bounds on the mutual information of parameters and observation in nats: ``I0`` takes
        the evidence off (biased upwards for few draws), ``I1`` is a lower bound. Attributes as
        for `coverage`; the verdict of a ratio that is not normalized is ``"not normalized"``, and
        ``"not known"`` where half of the posteriors rest on fewer than 10 effective draws, on
        which no mean of ratios can rest. It is ``"knows nothing"`` where ``I0`` cannot be told from
        zero: posteriors are then the prior, which other checks find right.

    References
    ----------
    B. K. Miller, C. Weniger and P. Forré, Contrastive neural ratio estimation (2022),
    arXiv:2210.06170.

    Examples
    --------
    >>> import pymc_nre as nre
    >>> task = nre.tasks.GaussianMean()
    >>> ranks = nre.diagnostics.posterior_ranks(
    ...     task.estimator(), task.simulate(1_000, random_seed=1), random_seed=2, progressbar=False
    ... )
    >>> nre.diagnostics.normalization(ranks).attrs["verdict"]
    'right'
    """
    log_evidence, log_ratio, ess = (
        _column(ranks, name, "normalization") for name in ("log_evidence", "log_ratio", "ess")
    )
    is_normalized = _is_normalized(ranks, "normalization")
    evidence = np.exp(log_evidence)
    error = evidence.std(ddof=1) / math.sqrt(_number_of(ranks))
    found = Judgment(math.nan, Verdict.NOT_NORMALIZED)
    if is_normalized:
        found = _judge_evidence(evidence.mean(), error, float(np.median(ess)))
    told_by, _, z_told = _mean_and_z(log_ratio - log_evidence, _number_of(ranks))
    if told_by == 0 or z_told < _LEARNED:
        found = Judgment(math.nan, Verdict.KNOWS_NOTHING)
    bounds = [(log_ratio - log_evidence).mean(), log_ratio.mean() - evidence.mean() + 1]
    nats = bounds[1] if is_normalized else bounds[0]
    summary = (
        f"The ratio's mean over the prior is {evidence.mean():.3g} ± {error:.2g}, and should be "
        f"one: {found.verdict} ({found.odds}). Observations tell {nats:.3g} nats."
    )
    if found.verdict is Verdict.KNOWS_NOTHING:
        summary = (
            f"Observations tell {nats:.2g} nats, which is nothing that {len(ess):,} pairs could "
            "tell from zero: the ratio knows nothing."
        )
    return xr.Dataset(
        {
            "evidence": evidence.mean(),
            "evidence_error": error,
            "information": ("bound", bounds),
        },
        coords={"bound": ["I0", "I1"]},
        attrs=told(found.p_value, found.verdict, summary),
    )


def _judge_evidence(mean: float, error: float, ess: float) -> Judgment:
    """Of a mean that should be one; a ratio that is the same everywhere has no error."""
    if ess < FEW:
        return Judgment(math.nan, Verdict.NOT_KNOWN)
    p_value = _two_sided((mean - 1) / error) if error else float(mean == 1)
    deviation = Verdict.TOO_LARGE if mean > 1 else Verdict.TOO_SMALL
    return Judgment(p_value, deviation, matters=abs(mean - 1) > _EVIDENCE)


def reliability(ranks: xr.Dataset, bins: int = 10) -> xr.Dataset:
    r"""Is the classifier inside the ratio as often right as it says?

    The probability that parameters and observation belong together, d = 1 / (1 + 1 / r), is
    compared with how often they do, over as many pairs that do as pairs that do not. For the
    exact ratio :math:`E_\mathrm{joint}[f(d) (1 - d)] = E_\mathrm{marginal}[f(d) d]` with any f;
    with f = 1 that is the balance, which balanced losses train for.

    Parameters
    ----------
    ranks : xarray.Dataset
        From `posterior_ranks`.
    bins : int
        As many pairs in each.

    Returns
    -------
    xarray.Dataset
        ``predicted`` and ``observed`` (bin), shares of pairs that belong together, with the
        ``error`` (bin) of the second; ``calibration_error``, the mean distance of the two, and
        ``calibration_error_of_chance``, what it is for an exact ratio; ``balance``, one for an
        exact ratio, and ``balance_error``. Attributes as for `coverage`; the verdict of a ratio
        that is not normalized is ``"not normalized"``, for its logit is free to shift.

    Raises
    ------
    TypeError, ValueError
        If ``bins`` is no number of bins, or there are fewer pairs.

    References
    ----------
    A. Delaunoy et al., Towards reliable simulation-based inference with balanced neural ratio
    estimation (2022), arXiv:2208.13624. C. Guo et al., On calibration of modern neural networks
    (2017), arXiv:1706.04599.

    Examples
    --------
    >>> import pymc_nre as nre
    >>> task = nre.tasks.GaussianMean()
    >>> ranks = nre.diagnostics.posterior_ranks(
    ...     task.estimator(), task.simulate(1_000, random_seed=1), random_seed=2, progressbar=False
    ... )
    >>> nre.diagnostics.reliability(ranks).attrs["verdict"]
    'right'
    """
    who, names = "reliability", ("log_ratio", "log_ratio_marginal")
    joint, marginal = (expit(_column(ranks, name, who)) for name in names)
    n, bins = _number_of(ranks), whole_number(bins, f"{who}: bins")
    if bins > len(joint):
        raise ValueError(f"{who}: bins: expected at most {len(joint)} (the pairs), got {bins}.")
    curve = _by_predicted(np.concatenate([joint, marginal]), len(joint), bins)
    scale = math.sqrt(len(joint) / n)  # pairs that share draws count as fewer
    unbalance, error, z_balance = _mean_and_z(1 - joint - marginal, n)
    surplus = (joint - 0.5) * (1 - joint) - (marginal - 0.5) * marginal
    more, _, z_sure = _mean_and_z(surplus, n)
    found = Judgment(math.nan, Verdict.NOT_NORMALIZED)
    if _is_normalized(ranks, who):
        matters = abs(unbalance) > _BALANCE or abs(more) > _SURPLUS
        found = _known(_judge_balance(z_balance, z_sure, matters), ranks)
    distance = float(np.abs(curve["observed"] - curve["predicted"]).mean())
    chance = float(scale * (curve["error"] * math.sqrt(2 / math.pi)).mean())
    summary = (
        f"Probabilities that pairs belong together are {found.verdict}: on average off by "
        f"{distance:.2g} (by chance {chance:.2g}); balance {1 - unbalance:.3g} ± {error:.2g}, "
        f"which should be one ({found.odds}).{_few(found, ranks)}"
    )
    return curve.assign(
        error=scale * curve["error"],
        calibration_error=distance,
        calibration_error_of_chance=chance,
        balance=1 - unbalance,
        balance_error=error,
    ).assign_attrs(told(found.p_value, found.verdict, summary))


def _judge_balance(z_balance: float, z_sure: float, matters: bool) -> Judgment:
    """Of two numbers that are standard normal for an exact ratio, by the one that is further."""
    p_value = min(1.0, 2 * min(_two_sided(z_balance), _two_sided(z_sure)))
    if abs(z_sure) >= abs(z_balance):
        deviation = Verdict.TOO_SURE if z_sure < 0 else Verdict.TOO_UNSURE
    else:
        deviation = Verdict.TOO_HIGH if z_balance < 0 else Verdict.TOO_LOW
    return Judgment(p_value, deviation, matters=matters)


def _by_predicted(d: np.ndarray, n_joint: int, bins: int) -> xr.Dataset:
    """What is predicted and what is so, in bins of as many pairs; the first n_joint belong."""
    # Pairs that are as probable as each other, as many are where data are discrete, come in no
    # order: each stands for the share of them that belongs.
    _, place = np.unique(d.round(6), return_inverse=True)
    share = np.bincount(place, np.arange(len(d)) < n_joint) / np.bincount(place)
    order = np.argsort(place, kind="stable")
    parts = (np.array_split(values[order], bins) for values in (d, share[place]))
    groups = list(zip(*parts, strict=True))
    errors = [np.sqrt((part * (1 - part)).mean() / len(part)) for part, _ in groups]
    return xr.Dataset(
        {
            "predicted": ("bin", [part.mean() for part, _ in groups]),
            "observed": ("bin", [so.mean() for _, so in groups]),
            "error": ("bin", errors),
        }
    )


def _mean_and_z(values: np.ndarray, n: float) -> tuple[float, float, float]:
    """Mean of numbers that count as n, its standard error, and how many of these it is."""
    mean, error = float(values.mean()), float(values.std(ddof=1) / math.sqrt(n))
    return mean, error, mean / max(error, np.finfo(float).tiny)
