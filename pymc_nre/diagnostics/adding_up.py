"""Do the small errors of each trial add up to one that matters? As a check of a report."""

from __future__ import annotations

import math

import numpy as np
import xarray as xr

from ..estimators.estimator import RatioEstimator
from ..estimators.trial_budgets.measured_budget import FEWEST, measure
from ..estimators.trial_budgets.trial_budget import TrialBudget, counted
from ..exceptions import CheckNotApplicable
from ..simulation.simulations import Simulations
from .verdicts import Verdict, told

__all__ = ["adding_up"]


def adding_up(ratio: RatioEstimator, simulations: Simulations, trials: int) -> xr.Dataset:
    """What a trial budget says of so many trials; the ratio's own if more simulations made it.

    By ``parameter``, the most likely ``bias`` of the posterior mean and the ``limit`` that it
    surely does not exceed, in posterior standard deviations; the attribute ``trials`` says of how
    many.

    Raises
    ------
    CheckNotApplicable
        If there is nothing to add up, or nothing to measure it by.
    """
    if trials == 1:
        raise CheckNotApplicable("trials=1: there is nothing to add up.")
    if ratio.is_locally_centered:
        raise CheckNotApplicable("the ratio was centered for one data set: see what center said.")
    if not len(ratio.layout.continuous):
        raise CheckNotApplicable("an integer has no score that could add up.")
    budget = ratio.budget
    if budget is None or budget.simulations < len(simulations):
        if len(simulations) < FEWEST:
            raise CheckNotApplicable(f"it needs at least {FEWEST:,} simulations.")
        budget = measure(ratio, simulations, width=False)
    limit = np.sqrt(trials * budget.bias_squared_limit)
    return xr.Dataset(
        {"bias": ("parameter", budget.bias(trials)[0]), "limit": ("parameter", limit)},
        coords={"parameter": list(budget.parameters)},
        attrs=told(math.nan, *_judged(budget, trials, float(limit.max()))) | {"trials": trials},
    )


def _judged(budget: TrialBudget, trials: int, limit: float) -> tuple[Verdict, str]:
    by = f"by {budget.simulations:,} simulations"
    if not budget.informed:
        return Verdict.NOT_KNOWN, f"Parameters that belong to data are not told from others, {by}."
    if limit <= budget.share:
        return Verdict.RIGHT, f"The ratio bears {counted(trials)}, {by}."
    off = f"posterior means may be off by up to {limit:.2g} posterior standard deviations"
    if budget.likely_trials < trials:
        return (
            Verdict.TOO_MANY,
            f"The ratio bears {budget.in_short()}, {by}: with {trials:,} {off}.",
        )
    return Verdict.NOT_KNOWN, f"With {counted(trials)} {off}: {by} no less can be told."
