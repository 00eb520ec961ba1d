"""Figures of what `pymc_nre.diagnostics` finds: each takes a result and draws it on axes.

They need matplotlib, and take axes to draw on (``ax=``), so that figures can be put together.
Bands are where a ratio that is right stays: 99 % of the time for each point of a curve, and for
the distribution functions of `sbc` as a whole.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import xarray as xr

__all__ = [
    "confidence_set",
    "convergence",
    "coverage",
    "domain",
    "evidence",
    "lc2st",
    "log_ratios",
    "loss",
    "observation_check",
    "pair",
    "reliability",
    "roc",
    "sbc",
    "tarp",
]

_Z = 2.576  # 99 % of a normal distribution
_KOLMOGOROV = 1.628  # and of the largest distance of distribution functions, times root n
_BINS = 40
_POINTS = 2_000  # of a scatter
_NAMED = 10  # parameters: more make a legend that is larger than the curves


def loss(ratio: Any, ax: Any = None) -> Any:
    """Training and held-out loss by epoch, beside chance.

    Parameters
    ----------
    ratio : RatioEstimator
        As trained.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If it has no history.

    Examples
    --------
    >>> import pymc_nre as nre
    >>> simulations = nre.tasks.GaussianMean().simulate(500, random_seed=1)
    >>> ratio = nre.train(simulations, epochs=3, random_seed=1, progressbar=False)
    >>> nre.plots.loss(ratio).get_xlabel()
    'epoch'
    """
    _check_ratio(ratio, "loss")
    history = ratio.history
    if not history.sizes.get("epoch"):
        raise ValueError("This ratio has no history: it was not trained, or is only evaluated.")
    ax = _axes(ax)
    epochs = 1 + np.arange(history.sizes["epoch"])
    for name, color, label in (
        ("train_loss", "C0", "training"),
        ("validation_loss", "C1", "held out"),
    ):
        values = np.atleast_2d(history[name].transpose(..., "epoch"))
        lines = ax.plot(epochs, values.T, color=color, lw=1)
        lines[0].set_label(label)
    ax.axhline(history.attrs["chance"], color="0.5", ls=":", label="chance")
    ax.set(xlabel="epoch", ylabel="loss", title="training")
    _legend(ax)
    return ax


def log_ratios(ranks: xr.Dataset, ax: Any = None) -> Any:
    """Log ratios of pairs that belong together, and of pairs that do not.

    Parameters
    ----------
    ranks : xarray.Dataset
        From `posterior_ranks`.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Examples
    --------
    >>> import pymc_nre as nre
    >>> task = nre.tasks.GaussianMean()
    >>> pairs = task.simulate(200, random_seed=1)
    >>> ranks = nre.diagnostics.posterior_ranks(
    ...     task.estimator(), pairs, draws=100, random_seed=2, progressbar=False
    ... )
    >>> nre.plots.log_ratios(ranks).get_xlabel()
    'log ratio'
    """
    _check_holds(ranks, "log_ratios", "posterior_ranks", "log_ratio", "log_ratio_marginal")
    ax = _axes(ax)
    joint, marginal = (
        _finite(ranks, "log_ratios", name) for name in ("log_ratio", "log_ratio_marginal")
    )
    low = max(marginal.min(), joint.min() - 2 * np.ptp(joint))  # far tails say nothing
    bins = np.linspace(low, max(joint.max(), marginal.max()), _BINS)
    for values, label in ((joint, "matching"), (marginal.clip(low), "not matching")):
        ax.hist(values, bins, density=True, alpha=0.6, label=label)
    ax.set(xlabel="log ratio", ylabel="density", title="matching and other pairs")
    _legend(ax)
    return ax


def coverage(result: xr.Dataset, ax: Any = None) -> Any:
    """How often credible regions hold the truth, over their level.

    Parameters
    ----------
    result : xarray.Dataset
        From `diagnostics.coverage`, `tarp` or `coverage_at`.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Examples
    --------
    >>> import pymc_nre as nre
    >>> task = nre.tasks.GaussianMean()
    >>> pairs = task.simulate(200, random_seed=1)
    >>> ranks = nre.diagnostics.posterior_ranks(
    ...     task.estimator(), pairs, draws=100, random_seed=2, progressbar=False
    ... )
    >>> nre.plots.coverage(nre.diagnostics.coverage(ranks)).get_title()
    'coverage: right'
    """
    _check_holds(result, "coverage", "coverage, tarp or coverage_at", "level", "coverage", "error")
    ax = _axes(ax)
    level = result["level"].to_numpy()
    if "point" in result.sizes:
        for k in range(result.sizes["point"]):
            one = result.isel(point=k)
            ax.errorbar(
                level, one["coverage"], _Z * one["error"], fmt="o-", ms=3, label=f"point {k}"
            )
        ax.legend(frameon=False, loc="lower right")
    else:
        ax.fill_between(
            level, *_band(level, _Z * result["error"].to_numpy()), color="C0", alpha=0.2
        )
        ax.plot(level, result["coverage"], "C0o-", ms=3)
    ax.plot([0, 1], [0, 1], color="0.5", ls=":")
    ax.set(xlabel="credible level", ylabel="coverage", title=_titled("coverage", result))
    ax.set(xlim=(0, 1), ylim=(0, 1))
    return ax


def tarp(result: xr.Dataset, ax: Any = None) -> Any:
    """How often regions around random points hold the truth.

    Parameters
    ----------
    result : xarray.Dataset
        From `diagnostics.tarp`.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Examples
    --------
    >>> import pymc_nre as nre
    >>> task = nre.tasks.GaussianMean()
    >>> pairs = task.simulate(200, random_seed=1)
    >>> ranks = nre.diagnostics.posterior_ranks(
    ...     task.estimator(), pairs, draws=100, random_seed=2, progressbar=False
    ... )
    >>> nre.plots.tarp(nre.diagnostics.tarp(ranks)).get_title()
    'TARP: right'
    """
    _check_holds(result, "tarp", "tarp", "level", "coverage", "error")
    ax = coverage(result, ax)
    ax.set_title(_titled("TARP", result))
    return ax


def sbc(result: xr.Dataset, ax: Any = None) -> Any:
    """Distribution functions of the ranks of each parameter, less the uniform one.

    A curve that is above first and below then tells of posteriors that are too narrow, all
    above of posteriors that are too high.

    Parameters
    ----------
    result : xarray.Dataset
        From `diagnostics.sbc`.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Examples
    --------
    >>> import pymc_nre as nre
    >>> task = nre.tasks.GaussianMean()
    >>> pairs = task.simulate(200, random_seed=1)
    >>> ranks = nre.diagnostics.posterior_ranks(
    ...     task.estimator(), pairs, draws=100, random_seed=2, progressbar=False
    ... )
    >>> nre.plots.sbc(nre.diagnostics.sbc(ranks)).get_xlabel()
    'rank'
    """
    _check_holds(result, "sbc", "sbc", "pit", "parameter")
    ax = _axes(ax)
    pit = result["pit"].transpose("parameter", "pair")
    pairs = pit.sizes["pair"]
    n = result.attrs.get("effective_pairs", pairs)
    grid = np.linspace(0, 1, 201)
    ax.fill_between(grid, *_band(0 * grid, _KOLMOGOROV / n**0.5), color="0.5", alpha=0.2)
    for label, column in zip(pit["parameter"].to_numpy(), pit.to_numpy(), strict=True):
        shares = np.searchsorted(np.sort(column), grid, side="right") / pairs
        ax.plot(grid, shares - grid, lw=1, label=label)
    ax.set(xlabel="rank", ylabel="ranks below, less rank")
    ax.set_title(_titled("SBC", result))
    if pit.sizes["parameter"] <= _NAMED:
        _legend(ax)
    return ax


def reliability(result: xr.Dataset, ax: Any = None) -> Any:
    """How often pairs belong together, over how often the ratio says so.

    Parameters
    ----------
    result : xarray.Dataset
        From `diagnostics.reliability`.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Examples
    --------
    >>> import pymc_nre as nre
    >>> task = nre.tasks.GaussianMean()
    >>> pairs = task.simulate(200, random_seed=1)
    >>> ranks = nre.diagnostics.posterior_ranks(
    ...     task.estimator(), pairs, draws=100, random_seed=2, progressbar=False
    ... )
    >>> nre.plots.reliability(nre.diagnostics.reliability(ranks)).get_title()
    'reliability: right'
    """
    _check_holds(result, "reliability", "reliability", "predicted", "observed", "error")
    ax = _axes(ax)
    ax.errorbar(result["predicted"], result["observed"], _Z * result["error"], fmt="o-", ms=3)
    ax.plot([0, 1], [0, 1], color="0.5", ls=":")
    ax.set(xlabel="probability by the ratio", ylabel="share that belongs together")
    ax.set_title(_titled("reliability", result))
    return ax


def evidence(ranks: xr.Dataset, ax: Any = None) -> Any:
    """The ratio's mean over the prior for each observation, which is one for a normalized ratio.

    Parameters
    ----------
    ranks : xarray.Dataset
        From `posterior_ranks`.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Examples
    --------
    >>> import pymc_nre as nre
    >>> task = nre.tasks.GaussianMean()
    >>> pairs = task.simulate(200, random_seed=1)
    >>> ranks = nre.diagnostics.posterior_ranks(
    ...     task.estimator(), pairs, draws=100, random_seed=2, progressbar=False
    ... )
    >>> nre.plots.evidence(ranks).get_title()
    'evidence'
    """
    _check_holds(ranks, "evidence", "posterior_ranks", "log_evidence")
    ax = _axes(ax)
    ax.hist(_finite(ranks, "evidence", "log_evidence"), _BINS, density=True)
    ax.axvline(0, color="0.5", ls=":")
    ax.set(xlabel="log of the ratio's mean over the prior", ylabel="density", title="evidence")
    return ax


def roc(result: xr.Dataset, ax: Any = None) -> Any:
    """ROC curves of the classifier between reweighted and simulated observations.

    Parameters
    ----------
    result : xarray.Dataset
        From `diagnostics.auc`.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Examples
    --------
    >>> import pymc_nre as nre
    >>> task = nre.tasks.GaussianMean()
    >>> found = nre.diagnostics.auc(
    ...     task.estimator(), task.simulate(3_000, random_seed=1), at={"mu": 1.0}, random_seed=2
    ... )
    >>> nre.plots.roc(found).get_title()
    'ROC: right'
    """
    _check_holds(result, "roc", "auc", "auc", "ess", "false_positive", "true_positive")
    ax = _axes(ax)
    areas, ess = result["auc"].to_numpy(), result["ess"].to_numpy()
    for k in range(result.sizes["point"]):
        label = f"AUC {areas[k]:.3f}" if np.isfinite(areas[k]) else f"not known (ESS {ess[k]:.0f})"
        one = result.isel(point=k)
        ax.plot(one["false_positive"], one["true_positive"], lw=1, label=label)
    ax.plot([0, 1], [0, 1], color="0.5", ls=":")
    ax.set(xlabel="false positives", ylabel="true positives", title=_titled("ROC", result))
    ax.legend(frameon=False, loc="lower right", fontsize="small")
    return ax


def convergence(result: xr.Dataset, ax: Any = None) -> Any:
    """Errors of posterior means, and how wide posteriors are, as trials are added.

    Both in units of the spread of the truths. Where errors stay above the widths, posteriors
    concentrate beside the truth.

    Parameters
    ----------
    result : xarray.Dataset
        From `diagnostics.convergence`.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Examples
    --------
    >>> import pymc_nre as nre
    >>> task = nre.tasks.GaussianMean()
    >>> found = nre.diagnostics.convergence(
    ...     task.estimator(),
    ...     task.simulate(200, random_seed=1),
    ...     n=(1, 10),
    ...     truths=10,
    ...     random_seed=2,
    ...     progressbar=False,
    ... )
    >>> nre.plots.convergence(found).get_xlabel()
    'trials'
    """
    _check_holds(result, "convergence", "convergence", "true", "error", "spread", "n", "parameter")
    ax = _axes(ax)
    scale = result["true"].std("truth")
    for name in ("error", "true"):
        _finite(result, "convergence", name)
    named = result.sizes["parameter"] <= _NAMED
    for k, label in enumerate(result["parameter"].to_numpy()):
        for name, style in (("error", "o-"), ("spread", "--")):
            values = (result[name] / scale).isel(parameter=k)
            root = np.sqrt((values**2).mean("truth"))
            (line,) = ax.plot(result["n"], root, style, color=f"C{k}", ms=4)
            if named and name == "error":
                line.set_label(label)
    for style, what in (("o-", "error"), ("--", "posterior sd")):
        ax.plot([], [], style, color="0.5", ms=4, label=what)
    ax.set(xscale="log", yscale="log", xlabel="trials", ylabel="in sd of the truths")
    ax.set_title(_titled("convergence", result))
    _legend(ax)
    _few_ticks(ax.xaxis, ax.yaxis)
    return ax


def lc2st(result: xr.Dataset, ax: Any = None) -> Any:
    """The statistic of `diagnostics.lc2st` at each observation, and what it is by chance.

    Parameters
    ----------
    result : xarray.Dataset
        From `diagnostics.lc2st`.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Examples
    --------
    >>> import pymc_nre as nre
    >>> task = nre.tasks.GaussianMean()
    >>> found = nre.diagnostics.lc2st(
    ...     task.estimator(),
    ...     task.simulate(200, random_seed=1),
    ...     2.0,
    ...     draws=50,
    ...     shuffles=20,
    ...     random_seed=2,
    ... )
    >>> nre.plots.lc2st(found).get_xlabel()
    'observation'
    """
    _check_holds(result, "lc2st", "lc2st", "observation", "statistic", "by_chance")
    ax = _axes(ax)
    where = np.arange(result.sizes["observation"])
    middle, low, high = result["by_chance"].quantile([0.5, 0.005, 0.995], "shuffle").to_numpy()
    bar = {"fmt": "none", "color": "0.5", "lw": 4, "alpha": 0.5, "label": "by chance"}
    ax.errorbar(where, middle, [middle - low, high - middle], **bar)
    ax.plot(where, result["statistic"], "C0o", label="this ratio")
    ax.locator_params(axis="x", integer=True, nbins=min(len(where), 8))
    ax.set(xlabel="observation", ylabel="classifier, from 1/2")
    ax.set_title(_titled("L-C2ST", result))
    _legend(ax)
    return ax


def observation_check(result: xr.Dataset, ax: Any = None) -> Any:
    """Distances of observed data from the simulations, beside those of simulations.

    Parameters
    ----------
    result : xarray.Dataset
        From `diagnostics.observation_check`.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Examples
    --------
    >>> import pymc_nre as nre
    >>> task = nre.tasks.GaussianMean()
    >>> found = nre.diagnostics.observation_check(
    ...     task.estimator(), task.simulate(2_000, random_seed=1), [1.0, 50.0], random_seed=2
    ... )
    >>> nre.plots.observation_check(found).get_title()
    'observed data: foreign'
    """
    _check_holds(result, "observation_check", "observation_check", "usual", "distance")
    ax = _axes(ax)
    usual, observed = (_finite(result, "observation_check", name) for name in ("usual", "distance"))
    both = np.concatenate([usual, observed])
    positive = both[both > 0]
    bins, scale = np.linspace(-0.5, 0.5, 3), "linear"  # numbers with few values are all at zero
    if len(positive):
        bins, scale = np.geomspace(positive.min(), 1.05 * positive.max(), _BINS), "log"
    ax.hist(usual, bins, density=True, color="0.7", label="simulations")
    ax.plot(observed, np.full(len(observed), 0.02), "C1|", ms=14, label="observed",
            transform=ax.get_xaxis_transform())  # fmt: skip
    ax.set(xscale=scale, xlabel="distance from the nearest simulations", ylabel="density")
    ax.set_title(_titled("observed data", result))
    _legend(ax)
    _few_ticks(ax.xaxis)
    return ax


def domain(result: xr.Dataset, ax: Any = None) -> Any:
    """Share of posterior values of each parameter beyond its training range.

    Parameters
    ----------
    result : xarray.Dataset
        From `diagnostics.domain_check`.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> import pymc_nre as nre
    >>> ratio = nre.tasks.GaussianMean().estimator()
    >>> draws = {"mu": (("chain", "draw"), np.array([[1.0, 2.0, 30.0, 3.0]]))}
    >>> check = nre.diagnostics.domain_check({"posterior": xr.Dataset(draws)}, ratio)
    >>> nre.plots.domain(check).get_title()
    'domain: 25.0% of draws outside'
    """
    _check_holds(result, "domain", "domain_check", "beyond", "parameter")
    ax = _axes(ax)
    labels = [str(label) for label in result["parameter"].to_numpy()]
    ax.barh(labels, 100 * result["beyond"].to_numpy())
    ax.set(xlabel="% of values beyond the training range", xlim=(0, 100))
    share = result.attrs.get("share", math.nan)
    ax.set_title(f"domain: {share:.1%} of draws outside")
    return ax


def confidence_set(found: Any, ax: Any = None, *, index: int = 0, **options: Any) -> Any:
    """A confidence set of one or two parameters, with the maximum likelihood estimate.

    A value of an integer is drawn as what reaches half a unit to each side of it.

    Parameters
    ----------
    found : ConfidenceSet
        From `pymc_nre.point.confidence_set`.
    ax : matplotlib.axes.Axes, optional
    index : int
        Of the data set.
    **options
        Of the line, such as ``color`` and ``label``.

    Returns
    -------
    matplotlib.axes.Axes

    Examples
    --------
    >>> import numpy as np
    >>> import pymc_nre as nre
    >>> ratio = nre.tasks.GaussianMean().estimator()
    >>> found = nre.point.confidence_set(
    ...     ratio, np.zeros(5), method="wilks", sets=0, progressbar=False
    ... )
    >>> nre.plots.confidence_set(found).get_xlabel()
    'mu'
    """
    if not hasattr(found, "region") or isinstance(found, type):
        raise TypeError(
            "plots.confidence_set: found: expected what point.confidence_set returns, got "
            f"{type(found).__name__}."
        )
    ax, names = _axes(ax), found.parameters
    options = {"color": "C0", "label": f"{found.level:.0%}, {found.method}"} | options
    if len(names) == 1:
        half = 0.5 * len(found.integers)  # as the cell of an integer, in two dimensions
        for low, high in found.region(index):
            ax.plot([low - half, high + half], [index, index], lw=2, **options)
            options["label"] = None
        ax.plot(found.estimate(index), [index], "o", color=options["color"])
        ax.set(xlabel=names[0], ylabel="data set")
        ax.yaxis.get_major_locator().set_params(integer=True)
        return ax
    for line in found.contours(index):
        ax.plot(*line.T, **options)
        options["label"] = None
    ax.plot(*found.estimate(index), "+", color=options["color"])
    ax.set(xlabel=names[0], ylabel=names[1])
    return ax


def pair(idata: Any, ratio: Any, axes: Any = None) -> Any:
    """The posterior over the training prior, for each pair of the ratio's parameters.

    Parameters
    ----------
    idata : InferenceData or DataTree
        With a posterior of variables that are named and shaped as the ratio's parameters.
    ratio : RatioEstimator
    axes : array of matplotlib.axes.Axes, shape (D, D), optional

    Returns
    -------
    ndarray of matplotlib.axes.Axes, shape (D, D)

    Raises
    ------
    ValueError
        If the posterior has no such variables.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> import pymc_nre as nre
    >>> draws = {"mu": (("chain", "draw"), np.random.default_rng(1).normal(size=(2, 100)))}
    >>> ratio = nre.tasks.GaussianMean().estimator()
    >>> nre.plots.pair({"posterior": xr.Dataset(draws)}, ratio).shape
    (1, 1)
    """
    import matplotlib.pyplot as plt

    _check_ratio(ratio, "pair")
    theta, prior, labels = _posterior(idata, ratio), ratio.domain.draws, ratio.layout.labels
    size = len(labels)
    if axes is None:
        shape = {"figsize": (2.4 * size + 1, 2.4 * size + 1), "layout": "constrained"}
        axes = plt.subplots(size, size, squeeze=False, **shape)[1]
    samples = ((prior, "0.7", "training prior"), (theta, "C0", "posterior"))
    for i, row in enumerate(axes):
        for j, ax in enumerate(row):
            if j > i:
                ax.axis("off")
                continue
            for sample, color, label in samples:
                if i == j:
                    ax.hist(sample[:, i], _BINS, density=True, color=color, alpha=0.7, label=label)
                else:
                    some = sample[:: max(1, len(sample) // _POINTS)]
                    ax.plot(some[:, j], some[:, i], ".", ms=2, color=color, alpha=0.4)
            if i == size - 1:
                ax.set_xlabel(labels[j])
            if j == 0:
                ax.set_ylabel(labels[i] if i else "density")
    axes[0, 0].legend(frameon=False, fontsize="small")
    return axes


def _posterior(idata: Any, ratio: Any) -> np.ndarray:
    """Draws ``(n, D)`` of variables with the names of the parameters."""
    try:
        posterior = idata["posterior"]
        sizes = posterior.sizes
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise ValueError(
            "plots.pair: idata: expected an InferenceData or DataTree with a group posterior, got "
            f"{type(idata).__name__}. Pass what pm.sample returns."
        ) from error
    if "chain" not in sizes or "draw" not in sizes:
        raise ValueError(
            "plots.pair: idata: expected a posterior with the dimensions chain and draw, got "
            f"{', '.join(map(str, sizes)) or 'none'}. Pass what pm.sample returns."
        )
    if not sizes["chain"] * sizes["draw"]:
        raise ValueError(
            "plots.pair: idata: expected a posterior with draws, got none. Pass what pm.sample "
            "returns."
        )
    columns = []
    for name, shape in ratio.parameters.items():
        if name in posterior:
            values = posterior[name].transpose("chain", "draw", ..., missing_dims="ignore")
        if name not in posterior or values.shape[2:] != shape or values.dims[:1] != ("chain",):
            raise ValueError(
                f"The posterior has no variable {name!r} of shape {shape}, as the ratio's "
                "parameters are. Rename: {'posterior': xr.Dataset({'mu': ...})}. What the model "
                f"computes from other variables it must keep: pm.Deterministic({name!r}, ...). "
                "Added to a model that was sampled already, it comes of these draws: {'posterior': "
                f"pm.compute_deterministics(idata.posterior, model=model, var_names=[{name!r}])}}."
            )
        columns.append(values.to_numpy().reshape(-1, int(np.prod(shape))))
    return np.concatenate(columns, axis=1)


def _check_ratio(ratio: Any, who: str) -> None:
    """Raise TypeError unless it is an estimator, by what is drawn of it."""
    lacks = [name for name in ("history", "domain", "layout") if not hasattr(ratio, name)]
    if lacks or isinstance(ratio, type):
        raise TypeError(
            f"plots.{who}: ratio: expected a RatioEstimator, got {type(ratio).__name__}. Pass "
            "what nre.train or nre.load gives."
        )


def _check_holds(result: Any, who: str, source: str, *names: str) -> None:
    """Raise TypeError unless a result has these variables."""
    lacks = [name for name in names if not isinstance(result, xr.Dataset) or name not in result]
    if lacks:
        raise TypeError(
            f"plots.{who}: expected what diagnostics.{source} returns, got "
            f"{type(result).__name__} without {', '.join(lacks)}."
        )
    empty = [name for name in names if not result[name].size]
    if empty:
        raise ValueError(f"plots.{who}: {', '.join(empty)} holds no numbers: nothing to draw.")


def _finite(result: xr.Dataset, who: str, name: str) -> np.ndarray:
    """Values that have a place on an axis; an impossible pair has a log ratio that has none."""
    values = result[name].to_numpy()
    values = values[np.isfinite(values)]
    if not values.size:
        raise ValueError(
            f"plots.{who}: {name} holds no finite numbers, so there is nothing to draw."
        )
    return values


def _axes(ax: Any) -> Any:
    if ax is None:
        import matplotlib.pyplot as plt

        ax = plt.subplots(layout="constrained")[1]
    return ax


def _legend(ax: Any) -> None:
    """A legend in a room of its own, above all that is drawn."""
    rows = math.ceil(len(ax.get_legend_handles_labels()[1]) / 2)
    share = 0.06 + 0.09 * rows  # of the height: a line is 0.09 of the panels of a report
    scale = ax.yaxis.get_transform()
    low, high = scale.transform(np.array(ax.get_ylim()))
    ax.set_ylim(*scale.inverted().transform(np.array([low, low + (high - low) / (1 - share)])))
    ax.legend(frameon=False, loc="upper center", ncols=2, fontsize="small")


def _few_ticks(*axes: Any) -> None:
    """Labels that do not overlap on a logarithmic axis, however few or many decades it spans."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    for axis in axes:
        if axis.get_scale() != "log":
            continue
        low, high = axis.get_view_interval()
        decades = math.log10(high / low)
        steps = (1, 2, 5) if decades < 1.5 else (1,)
        axis.set_major_locator(
            MaxNLocator(4) if decades < 0.7 else LogLocator(subs=steps, numticks=6)
        )
        axis.set_minor_formatter(NullFormatter())
        if decades < 3:
            axis.set_major_formatter(FuncFormatter("{:g}".format))


def _band(middle: Any, half: Any) -> tuple[Any, Any]:
    return middle - half, middle + half


def _titled(title: str, result: xr.Dataset) -> str:
    said = (result.attrs.get(name) for name in ("parameter", "verdict"))
    said = " ".join(filter(None, said))
    return f"{title}: {said}" if said else title
