"""All checks of a ratio on one page: what was found, what it means, and what to do."""

from __future__ import annotations

import html
import math
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import xarray as xr

from .. import plots
from ..estimators.checks import check_fit, finite_observations
from ..estimators.estimator import RatioEstimator
from ..exceptions import CheckNotApplicable, SimulationError
from ..runtime.arrays import whole_number
from ..runtime.random_streams import seed_sequence
from ..runtime.values import HoldsArrays
from ..simulation.simulations import Simulations
from .calibration import FEW, coverage, normalization, reliability, sbc, tarp
from .classifier_tests.roc import auc
from .classifier_tests.two_sample import lc2st
from .concentration import convergence
from .misspecification import observation_check
from .ranks import posterior_ranks
from .verdicts import Verdict, advice_in

__all__ = ["Report", "report"]

_SEEDS = 16  # for the ranks and for each check that draws, more than there are
_TRIALS = "nre.center(ratio, ...) makes a ratio bear more trials; trial_budget tells how many."


@dataclass(frozen=True, eq=False)
class Report(HoldsArrays):
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
        return not self._failed

    @property
    def verdicts(self) -> dict[str, str]:
        """One verdict for each check; of `sbc` that of the worst parameter."""
        return {name: verdict.value for name, verdict in self._verdicts.items()}

    @property
    def _verdicts(self) -> dict[str, Verdict]:
        return {name: Verdict(result.attrs["verdict"]) for name, result in self.checks.items()}

    @property
    def _failed(self) -> list[str]:
        return [name for name, verdict in self._verdicts.items() if not verdict.passes]

    @property
    def rows(self) -> list[tuple[str, str, str, str]]:
        """Check, verdict, summary and advice."""
        return [
            (name, verdict, self.checks[name].attrs["summary"], self._advice(name, verdict))
            for name, verdict in self.verdicts.items()
        ]

    def _advice(self, name: str, verdict: str) -> str:
        few_are_right = name == "convergence" and self.checks[name].attrs["trials"]
        if few_are_right and not Verdict(verdict).passes:
            return _TRIALS
        return advice_in(name, Verdict(verdict))

    @property
    def headline(self) -> str:
        """The whole in a sentence."""
        pairs = f"{self.ranks.sizes['pair']:,} held-out pairs"
        if self.passed:
            fine = sum(verdict.is_fine for verdict in self._verdicts.values())
            return f"Nothing wrong found by {fine} checks on {pairs}."
        names = ", ".join(self._failed)
        return f"{len(self._failed)} of {len(self.checks)} checks on {pairs} failed: {names}."

    def __repr__(self) -> str:
        lines = [self.headline, ""]
        for name, verdict, summary, advice in self.rows:
            lines.append(f"{_mark(Verdict(verdict))} {name:<18} {summary}")
            if advice:
                lines.append(f"{'':<21} {advice}")
        lines += [f"-- {name:<18} not made: {why}" for name, why in self.skipped.items()]
        return "\n".join([*lines, "", _REMARK])

    def _repr_html_(self) -> str:
        rows = [
            _html_row(name, verdict, _mark(Verdict(verdict)), summary, advice)
            for name, verdict, summary, advice in self.rows
        ]
        rows += [_html_row(name, "not made", "--", why) for name, why in self.skipped.items()]
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

        drawn = [(_DRAWN[name], found) for name, found in self.checks.items() if name in _DRAWN]
        drawn += [(plots.log_ratios, self.ranks), (plots.evidence, self.ranks)]
        if self.ratio.history.sizes.get("epoch"):
            drawn.insert(0, (plots.loss, self.ratio))
        shape = math.ceil(len(drawn) / 2), 2  # narrow: to be read on a phone as well
        figure, axes = plt.subplots(*shape, figsize=(7.2, 2.9 * shape[0]), layout="constrained")
        figure.get_layout_engine().set(h_pad=0.1)
        for ax, (draw, result) in zip(axes.flat, drawn, strict=False):
            draw(result, ax)
        for ax in axes.flat[len(drawn) :]:
            ax.axis("off")
        figure.suptitle(textwrap.fill(self.headline, 70))
        return figure


_DRAWN = {
    "coverage": plots.coverage,
    "sbc": plots.sbc,
    "tarp": plots.tarp,
    "reliability": plots.reliability,
    "auc": plots.roc,
    "convergence": plots.convergence,
    "lc2st": plots.lc2st,
    "observation_check": plots.observation_check,
}
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
    random_seed: Any = None,
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
    random_seed : int, Generator or SeedSequence, optional
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
    check_fit(ratio, simulations, "report")
    draws = whole_number(draws, "report: draws", least=FEW)
    if observed is not None:
        observed = finite_observations(ratio, observed, "report")
    seeds = iter(seed_sequence(random_seed).generate_state(_SEEDS).tolist())
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
        try:
            checks[name] = make(seed)
        except (CheckNotApplicable, SimulationError) as reason:
            skipped[name] = str(reason)  # the others count
    if observed is None:
        skipped |= dict.fromkeys(("lc2st", "observation_check"), "no observed= was given.")
    return Report(checks, skipped, ranks, ratio)


def _mark(verdict: Verdict) -> str:
    return "ok" if verdict.is_fine else "--" if verdict.passes else "!!"


_COLORS = {"ok": "green", "--": "gray", "!!": "firebrick"}  # by mark


def _html_row(name: str, verdict: str, mark: str, summary: str, advice: str = "") -> str:
    text = html.escape(summary) + (f"<br><i>{html.escape(advice)}</i>" if advice else "")
    return (
        f"<tr><td>{name}</td><td style='color:{_COLORS[mark]}'><b>{verdict}</b></td>"
        f"<td style='text-align:left'>{text}</td></tr>"
    )
