"""All checks of a ratio on one page: what was found, what it means, and what to do."""

from __future__ import annotations

import html
import math
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import xarray as xr

from .. import plots
from ..estimators.checks import finite_observations, fitting, told_of_decades, warn_if_outside
from ..estimators.estimator import RatioEstimator
from ..estimators.trial_budgets.trial_budget import measurement
from ..exceptions import CheckNotApplicable, SimulationError
from ..runtime.arrays import true_or_false, whole_number
from ..runtime.random_streams import seed_sequence
from ..runtime.values import HoldsArrays
from ..simulation.simulations import Simulations
from .adding_up import adding_up
from .calibration import FEW, coverage, normalization, reliability, sbc, tarp
from .classifier_tests.roc import auc
from .classifier_tests.two_sample import lc2st
from .concentration import convergence
from .misspecification import observation_check
from .ranks import posterior_ranks
from .verdicts import Verdict, advice_in, told

__all__ = ["Report", "report"]

_SEEDS = 16  # for the ranks and for each check that draws, more than there are
_NOTHING = (
    "The ratio knows nothing, and its posteriors are the prior, which on average is right: nothing "
    "is known of others."
)
_UNSEEN = "The classifier has not seen data like the observed ones, and knows nothing of them."
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
        if name == "trial_budget" and verdict == Verdict.NOT_KNOWN:
            call = measurement(self.checks[name].attrs["trials"])
            return f"Measure it, {call}; ratio = budget.attach(ratio)."
        return advice_in(name, Verdict(verdict))

    @property
    def headline(self) -> str:
        """The whole in a sentence."""
        pairs = f"{self.ranks.sizes['pair']:,} held-out pairs"
        if self.passed:
            fine = sum(verdict.is_fine for verdict in self._verdicts.values())
            unknown = [k for k, v in self._verdicts.items() if v is Verdict.NOT_KNOWN]
            if len(unknown) > fine:
                most = f"Nothing is known by {len(unknown)} of {len(self.checks)} checks on {pairs}"
                return f"{most}: {', '.join(unknown)}."
            but = f", but nothing is known by {', '.join(unknown)}" if unknown else ""
            return f"Nothing wrong found by {fine} check{'s' * (fine != 1)} on {pairs}{but}."
        if Verdict.KNOWS_NOTHING in self._verdicts.values():
            return f"The ratio knows nothing of its parameters, by {pairs}."
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
    "the documentation has a table of what each can see. And none knows whether the simulator is "
    "right: compare the data with predictions of the posterior."
)


def report(
    ratio: RatioEstimator,
    simulations: Simulations,
    observed: Any = None,
    *,
    conditions: Mapping[str, Any] | None = None,
    trials: int = 100,
    draws: int = 1_000,
    device: str = "auto",
    random_seed: Any = None,
    progressbar: bool = True,
) -> Report:
    """Make all checks of a ratio that can be made, and say what they mean.

    With the defaults it takes less time than the training. It calls the simulator some 11,000
    times, one call after another, for `convergence` and `auc`; if that takes long, ask for fewer
    trials, or make the other checks by themselves.

    Parameters
    ----------
    ratio : RatioEstimator
    simulations : Simulations
        From the training prior, that training has not seen; 2,000 are usual.
    observed : array, optional
        The observed data, ``(*event)`` or ``(n, *event)``, for the checks that look at them.
    conditions : mapping of str to array, shape (*batch, *own), optional
        Known inputs of the observed data, by name, where the ratio was trained with conditions;
        a value for each observation, or one for all.
    trials : int
        How many observations will share their parameters. Posteriors of 1, 10, 100, ... and of so
        many are followed by `convergence`, which is what takes longest, and ``trial_budget`` says
        by how much they may be off, by the budget of the ratio or by these simulations. With 1, as
        where one series is all there is, both are left out.
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

    Warns
    -----
    DomainWarning
        If the ratio was made for one data set, and simulations or these are of others.

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
    simulations = fitting(ratio, simulations, "report")
    draws = whole_number(draws, "report: draws", least=FEW)
    trials = whole_number(trials, "report: trials")
    progressbar = true_or_false(progressbar, "report: progressbar")
    if observed is not None:
        observed = finite_observations(ratio, observed, "report", conditions)
        warn_if_outside(ratio, observed, "report")
        if ratio.conditions is not None:
            observed, conditions = ratio.conditions.split(observed)
    told_of, ratio = ratio, ratio.made_for(None, ratio.domain)  # no check says it once more
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
            ratio,
            simulations,
            n=_numbers(trials),
            device=device,
            random_seed=seed,
            progressbar=progressbar,
        ),
    }
    if observed is not None:
        data = ratio, simulations, observed
        makers["lc2st"] = lambda seed: lc2st(
            *data, conditions=conditions, draws=draws, device=device, random_seed=seed
        )
        makers["observation_check"] = lambda seed: observation_check(
            *data, conditions=conditions, random_seed=seed
        )
    makers["trial_budget"] = lambda _: adding_up(ratio, simulations, trials)
    skipped = {}
    for name, make in makers.items():
        seed = next(seeds)
        try:
            checks[name] = make(seed)
        except (CheckNotApplicable, SimulationError) as reason:
            skipped[name] = str(reason)  # the others count
    if observed is None:
        skipped |= dict.fromkeys(("lc2st", "observation_check"), "no observed= was given.")
    return Report(_weighed(checks, ratio, simulations), skipped, ranks, told_of)


def _weighed(
    checks: dict[str, xr.Dataset], ratio: RatioEstimator, simulations: Simulations
) -> dict[str, xr.Dataset]:
    """The same, where what one check has found tells that another cannot know."""
    if checks["normalization"].attrs["verdict"] == Verdict.KNOWS_NOTHING:
        checks = _overridden(checks, told_of_decades(ratio.network, simulations.x))
    elif _says(checks, "convergence") == Verdict.RIGHT:
        checks["convergence"] = _doubted(checks)
    if _says(checks, "observation_check") == Verdict.FOREIGN and _says(checks, "lc2st") == "right":
        checks["lc2st"] = checks["lc2st"].assign_attrs(told(math.nan, Verdict.NOT_KNOWN, _UNSEEN))
    return checks


def _numbers(trials: int) -> list[int]:
    """1, 10, 100, ..., and the trials that there will be."""
    if trials == 1:
        raise CheckNotApplicable("trials=1: there is nothing to add up.")
    return [10**k for k in range(math.ceil(math.log10(trials)))] + [trials]


def _says(checks: dict[str, xr.Dataset], name: str) -> str | None:
    """The verdict of a check, if it was made."""
    return checks[name].attrs.get("verdict") if name in checks else None


def _overridden(checks: dict[str, xr.Dataset], cause: str) -> dict[str, xr.Dataset]:
    """The same, of a ratio that knows nothing: whatever calls it right has seen the prior."""
    found = {
        name: result.assign_attrs(told(math.nan, Verdict.NOT_KNOWN, _NOTHING))
        if result.attrs["verdict"] == Verdict.RIGHT
        else result
        for name, result in checks.items()
    }
    summary = " ".join(filter(None, [checks["normalization"].attrs["summary"], cause]))
    found["normalization"] = checks["normalization"].assign_attrs(summary=summary)
    if "convergence" in found:
        found["convergence"].attrs["trials"] = 0
    return found


def _doubted(checks: dict[str, xr.Dataset]) -> xr.Dataset:
    """Convergence, which many more pairs may know better: they ask the same of one trial."""
    found = checks["convergence"]
    stronger = ("coverage", "sbc", "tarp")
    wrong = [name for name in stronger if not Verdict(checks[name].attrs["verdict"]).passes]
    if wrong:
        but = f"by many posteriors of a single one are not right ({', '.join(wrong)})"
    elif _says(checks, "coverage") == Verdict.NOT_KNOWN:
        but = "so it is where posteriors are of the prior's kind, far wider than data would allow"
    else:
        return found
    summary = (
        f"By few true parameters nothing wrong is seen up to {found.attrs['trials']:,} trials, but "
        f"{but}."
    )
    return found.assign_attrs(told(math.nan, Verdict.NOT_KNOWN, summary)).assign_attrs(trials=0)


def _mark(verdict: Verdict) -> str:
    return "ok" if verdict.is_fine else "--" if verdict.passes else "!!"


_COLORS = {"ok": "green", "--": "gray", "!!": "firebrick"}  # by mark


def _html_row(name: str, verdict: str, mark: str, summary: str, advice: str = "") -> str:
    text = html.escape(summary) + (f"<br><i>{html.escape(advice)}</i>" if advice else "")
    return (
        f"<tr><td>{name}</td><td style='color:{_COLORS[mark]}'><b>{verdict}</b></td>"
        f"<td style='text-align:left'>{text}</td></tr>"
    )
