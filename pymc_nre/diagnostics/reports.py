"""All checks of a ratio on one page: what was found, what it means, and what to do."""

from __future__ import annotations

import html
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from .. import plots
from ..estimators.estimator import RatioEstimator
from ..exceptions import SimulationError
from ..simulation.simulations import Simulations
from .calibration import coverage, normalization, reliability, sbc, tarp
from .classifier_tests.roc import auc
from .classifier_tests.two_sample import lc2st
from .concentration import convergence
from .misspecification import observation_check
from .ranks import posterior_ranks

__all__ = ["Report", "report"]

_MORE = "Train on more simulations, with members=5, or by BNRE(), which errs on the wide side."
_ADVICE = {
    "too narrow": f"Do not trust credible intervals. {_MORE}",
    "too wide": "Safe, but wasteful: train longer, on more simulations, or a larger network.",
    "too low": f"Posterior means are off. {_MORE}",
    "too high": f"Posterior means are off. {_MORE}",
    "too sure": f"The ratio exaggerates. {_MORE}",
    "too unsure": "Safe, but wasteful: train longer, on more simulations, or a larger network.",
    "too large": "Use no evidences. Train longer, or by NREA() or NREC(gamma=1).",
    "too small": "Use no evidences. Train longer, or by NREA() or NREC(gamma=1).",
    "told apart": f"The ratio is wrong at these parameters. {_MORE}",
    "wrong": "Train with a narrower prior around the data, or on more simulations.",
    "foreign": "Look at these observations and at what the simulator leaves out; widen the prior.",
    "not known": "Give more simulations, or more draws=.",
    "not normalized": "As this loss leaves it: posteriors are not touched, evidences are refused.",
}
_TRIALS = "nre.center(ratio, ...) makes a ratio bear more trials; trial_budget tells how many."


@dataclass(frozen=True)
class Report:
    """What all checks of a ratio found.

    Attributes
    ----------
    checks : dict of str to xarray.Dataset
        Results by the name of the check.
    skipped : dict of str to str
        Why others were not made.
    ranks : xarray.Dataset
        What `posterior_ranks` found, which many rest on.
    ratio : RatioEstimator

    Examples
    --------
    >>> import pymc_nre as nre
    >>> task = nre.tasks.GaussianMean()
    >>> found = nre.diagnostics.report(
    ...     task.estimator(), task.simulate(300, random_seed=1), random_seed=2, progressbar=False
    ... )
    >>> found.verdicts["coverage"]
    'right'
    """

    checks: dict[str, xr.Dataset]
    skipped: dict[str, str]
    ranks: xr.Dataset
    ratio: RatioEstimator

    @property
    def passed(self) -> bool:
        """Whether no check that could be made found anything wrong."""
        return all(verdict in _PASSED for verdict in self.verdicts.values())

    @property
    def verdicts(self) -> dict[str, str]:
        """One verdict for each check; of `sbc` that of the worst parameter."""
        return {name: _verdict(result) for name, result in self.checks.items()}

    @property
    def rows(self) -> list[tuple[str, str, str, str]]:
        """Check, verdict, summary and advice."""
        return [
            (name, verdict, self.checks[name].attrs["summary"], self._advice(name, verdict))
            for name, verdict in self.verdicts.items()
        ]

    def _advice(self, name: str, verdict: str) -> str:
        if verdict in _FINE:
            return ""
        if name == "convergence" and self.checks[name].attrs["trials"]:
            return _TRIALS
        return _ADVICE.get(verdict, _MORE)

    @property
    def headline(self) -> str:
        """The whole in a sentence."""
        failed = [name for name, verdict in self.verdicts.items() if verdict not in _PASSED]
        pairs = f"{self.ranks.sizes['pair']:,} held-out pairs"
        if not failed:
            judged = [verdict for verdict in self.verdicts.values() if verdict in _FINE]
            return f"Nothing wrong found by {len(judged)} checks on {pairs}."
        return f"{len(failed)} of {len(self.checks)} checks on {pairs} failed: {', '.join(failed)}."

    def __repr__(self) -> str:
        lines = [self.headline, ""]
        for name, verdict, summary, advice in self.rows:
            mark = "ok" if verdict in _FINE else "--" if verdict in _PASSED else "!!"
            lines.append(f"{mark} {name:<18} {summary}")
            if advice:
                lines.append(f"{'':<21} {advice}")
        lines += [f"-- {name:<18} not made: {why}" for name, why in self.skipped.items()]
        return "\n".join([*lines, "", _REMARK])

    def _repr_html_(self) -> str:
        rows = [
            _html_row(name, verdict, f"{html.escape(summary)}<br><i>{html.escape(advice)}</i>")
            for name, verdict, summary, advice in self.rows
        ]
        rows += [_html_row(k, "not made", html.escape(why)) for k, why in self.skipped.items()]
        head = "<tr><th>check</th><th>verdict</th><th>what was found, and what to do</th></tr>"
        return (
            f"<p><b>{html.escape(self.headline)}</b></p><table>{head}{''.join(rows)}</table>"
            f"<p><small>{_REMARK}</small></p>"
        )

    def to_xarray(self) -> Any:
        """All numbers as an `xarray.DataTree`, with a group for each check and ``ranks``."""
        return xr.DataTree.from_dict({"ranks": self.ranks, **self.checks})

    def plot(self) -> Any:
        """One figure with an axis for each check.

        Returns
        -------
        matplotlib.figure.Figure
        """
        import matplotlib.pyplot as plt

        drawn = [
            (getattr(plots, _FIGURES.get(k, k)), v) for k, v in self.checks.items() if k in _DRAWN
        ]
        drawn += [(plots.log_ratios, self.ranks), (plots.evidence, self.ranks)]
        if self.ratio.history.sizes.get("epoch"):
            drawn.insert(0, (plots.loss, self.ratio))
        columns = 3
        shape = math.ceil(len(drawn) / columns), columns
        figure, axes = plt.subplots(*shape, figsize=(13, 3.6 * shape[0]), layout="constrained")
        for ax, (draw, result) in zip(axes.flat, drawn, strict=False):
            draw(result, ax)
        for ax in axes.flat[len(drawn) :]:
            ax.axis("off")
        figure.suptitle(self.headline)
        return figure


_FINE = ("right", "usual")
_PASSED = (*_FINE, "not known", "not normalized")
_FIGURES = {"auc": "roc"}
_DRAWN = (
    "coverage",
    "sbc",
    "tarp",
    "reliability",
    "auc",
    "convergence",
    "lc2st",
    "observation_check",
)
_REMARK = (
    "Each check gives a false alarm in one of a hundred ratios that are right. None sees all: "
    "the documentation has a table of what each can see."
)


def report(
    ratio: RatioEstimator,
    simulations: Simulations,
    observed: Any = None,
    *,
    draws: int = 1_000,
    device: str = "auto",
    random_seed: int | None = None,
    progressbar: bool = True,
) -> Report:
    """Make all checks of a ratio that can be made, and say what they mean.

    It calls the simulator some 56,000 times, one call after another, for `convergence` and `auc`;
    if that takes long, make the other checks by themselves.

    Parameters
    ----------
    ratio : RatioEstimator
    simulations : Simulations
        From the training prior, that training has not seen; 2,000 are usual.
    observed : array, optional
        The observed data, ``(*event)`` or ``(n, *event)``, for the checks that look at them.
    draws : int
        Of the prior, for each posterior.
    device : {"auto", "cpu", "cuda"}
    random_seed : int, optional
    progressbar : bool

    Returns
    -------
    Report
        Printed, shown in a notebook, drawn by ``plot()``, or read as ``checks`` and ``passed``.

    Raises
    ------
    ValueError
        If the simulations or observations do not fit.

    Examples
    --------
    >>> import pymc_nre as nre
    >>> task = nre.tasks.GaussianMean()
    >>> found = nre.diagnostics.report(
    ...     task.estimator(), task.simulate(500, random_seed=1), random_seed=2, progressbar=False
    ... )
    >>> found.passed
    True
    """
    seeds = iter(np.random.SeedSequence(random_seed).generate_state(5).tolist())
    ranks = posterior_ranks(
        ratio,
        simulations,
        draws=draws,
        device=device,
        random_seed=next(seeds),
        progressbar=progressbar,
    )
    checks = {
        "coverage": coverage(ranks),
        "sbc": sbc(ranks),
        "tarp": tarp(ranks),
        "reliability": reliability(ranks),
        "normalization": normalization(ranks),
    }
    makers: dict[str, Callable[[int], xr.Dataset]] = {
        "auc": lambda seed: auc(ratio, simulations, random_seed=seed),
        "convergence": lambda seed: convergence(
            ratio, simulations, device=device, random_seed=seed, progressbar=progressbar
        ),
    }
    if observed is not None:
        makers["lc2st"] = lambda seed: lc2st(
            ratio, simulations, observed, draws=draws, device=device, random_seed=seed
        )
        makers["observation_check"] = lambda seed: observation_check(
            ratio, simulations, observed, random_seed=seed
        )
    skipped = {}
    for name, make in makers.items():
        seed = next(seeds)
        why = _impossible(name, ratio, simulations)
        try:
            if not why:
                checks[name] = make(seed)
        except (ValueError, NotImplementedError, SimulationError) as error:
            why = str(error)  # of a check that cannot be made here; the others count
        if why:
            skipped[name] = why
    if observed is None:
        skipped |= dict.fromkeys(("lc2st", "observation_check"), "no observed= was given.")
    return Report(checks, skipped, ranks, ratio)


def _impossible(name: str, ratio: RatioEstimator, simulations: Simulations) -> str:
    """Why a check cannot be made; empty if it can."""
    if name in ("auc", "convergence") and not (ratio.simulator or simulations.simulator):
        return "the ratio has no simulator attached: nre.load(path, simulator=simulator)."
    if name == "auc" and not (ratio.normalized and ratio.reference == "evidence"):
        return "the ratio is not normalized over the evidence."
    if name == "convergence" and simulations.known_prior is None:
        return "the simulations do not know their prior: Simulations(..., prior=prior)."
    if name == "convergence" and ratio.layout.integer:
        return "a parameter is an integer."
    return ""


def _verdict(result: xr.Dataset) -> str:
    if "verdict" in result.attrs:
        return result.attrs["verdict"]
    return str(result["verdict"].to_numpy()[result["p_value"].to_numpy().argmin()])


def _html_row(name: str, verdict: str, text: str) -> str:
    color = "firebrick"
    if verdict in _FINE:
        color = "green"
    elif verdict in (*_PASSED, "not made"):
        color = "gray"
    return (
        f"<tr><td>{name}</td><td style='color:{color}'><b>{verdict}</b></td>"
        f"<td style='text-align:left'>{text}</td></tr>"
    )
