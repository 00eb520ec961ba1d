"""What is known of how many trials a ratio bears: numbers, words and a figure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Protocol, runtime_checkable

import numpy as np

from ...runtime.arrays import real_number
from ...runtime.kinds import check_kind
from ...runtime.values import HoldsArrays

__all__ = ["FEW", "SEEN", "SURE", "Region", "TrialBudget", "counted", "gain", "measurement"]

# Standard errors. Several sizes of cells are looked at, so what is seen by chance needs more.
SEEN = 3.0
SURE = 2.0
# Trials up to which nothing is said of a ratio of which nothing is known.
FEW = 30


@dataclass(frozen=True)
class Region:
    """A fifth of the prior along a parameter that holds more than half of a squared bias.

    Attributes
    ----------
    parameter : str
        Its label.
    low, high : float
        Between which values; infinite at an end of the prior.
    share : float
        Of the mean square of the bias of the parameter that is most biased.
    elsewhere : float
        How many trials the ratio surely bears in the rest of the prior.
    """

    parameter: str
    low: float
    high: float
    share: float
    elsewhere: float

    def in_words(self) -> str:
        """What is where."""
        where = f"between {self.low:.3g} and {self.high:.3g}"
        if math.isinf(self.low):
            where = f"below {self.high:.3g}"
        elif math.isinf(self.high):
            where = f"above {self.low:.3g}"
        return (
            f"{self.share:.0%} of the squared bias is where {self.parameter} is {where}, and "
            f"elsewhere the ratio bears {counted(self.elsewhere)}"
        )


@runtime_checkable
class _WithBudget(Protocol):
    """What an estimator is here, which it is not imported by."""

    budget: TrialBudget | None

    def replace(self, **changes: Any) -> Any: ...


@dataclass(frozen=True, eq=False)
class TrialBudget(HoldsArrays):
    """What `trial_budget` found.

    Attributes
    ----------
    parameters : tuple of str
        A label for each number.
    simulations : int
        How many trials it was measured on.
    share : float
        The bias that is allowed, in posterior standard deviations.
    bias_squared, bias_squared_error : array, shape (D,)
        Mean square, over the parameters that were measured, of the bias of one trial, in posterior
        standard deviations of one trial, and its standard error; below zero by chance.
    bias_squared_limit : array, shape (D,)
        What it surely does not exceed.
    width, width_error : array, shape (D,)
        Posterior standard deviation over what it should be; NaN for networks that are linear
        piece by piece, and where it was not measured.
    positions, curves : array, shape (D, P)
        The bias of one trial along each parameter, averaged over the others.
    curve_errors : array, shape (D, P)
        Standard errors of the curves.
    region : Region or None
        Where most of the bias is, if that is in one part of the prior.
    informed : bool
        Whether the ratio knows anything: without that it bears no trial, whatever its bias.

    Examples
    --------
    >>> import pymc_nre as nre
    >>> task = nre.tasks.GaussianMean()
    >>> budget = nre.trial_budget(task.estimator(), task.simulate(20_000, random_seed=1))
    >>> predicted, error = budget.bias(trials=1_000)
    >>> predicted.shape
    (1,)
    """

    parameters: tuple[str, ...]
    simulations: int
    share: float
    bias_squared: np.ndarray
    bias_squared_error: np.ndarray
    bias_squared_limit: np.ndarray
    width: np.ndarray
    width_error: np.ndarray
    positions: np.ndarray
    curves: np.ndarray
    curve_errors: np.ndarray
    region: Region | None = None
    informed: bool = True

    def bias(self, trials: float) -> tuple[np.ndarray, np.ndarray]:
        """Predicted error of the posterior mean, and the standard error of the prediction.

        Root mean squares over the parameters that were measured, in posterior standard
        deviations, ``(D,)`` each.
        """
        trials = real_number(trials, "bias: trials", above=0)
        square = np.maximum(self.bias_squared, 0)
        low = np.sqrt(np.maximum(self.bias_squared - self.bias_squared_error, 0))
        high = np.sqrt(square + self.bias_squared_error)
        return math.sqrt(trials) * np.sqrt(square), math.sqrt(trials) * (high - low) / 2

    @property
    def is_seen(self) -> bool:
        """Whether any bias can be told from zero."""
        return bool(self._seen.any())

    @property
    def _seen(self) -> np.ndarray:
        return self.bias_squared > SEEN * self.bias_squared_error

    @property
    def trials(self) -> int:
        """The number of trials that the ratio surely bears."""
        return int(self.informed * self.share**2 / self.bias_squared_limit.max())

    @property
    def likely_trials(self) -> float:
        """The most likely number; infinite if no bias was seen."""
        if not self.informed:
            return 0.0
        seen = self.bias_squared[self._seen]
        return self.share**2 / seen.max() if len(seen) else math.inf

    def attach(self, ratio: Any) -> Any:
        """The same ratio, knowing how many trials it bears.

        It is saved with it, and `pymc_nre.RatioLikelihood` warns where more trials share their
        parameters.

        Parameters
        ----------
        ratio : RatioEstimator
            The one that it was measured on.

        Returns
        -------
        RatioEstimator

        Raises
        ------
        ValueError
            If the ratio has other parameters.

        Examples
        --------
        >>> import pymc_nre as nre
        >>> task = nre.tasks.GaussianMean()
        >>> ratio = task.estimator()
        >>> ratio = nre.trial_budget(ratio, task.simulate(20_000, random_seed=1)).attach(ratio)
        >>> ratio.budget.simulations
        20000
        """
        remedy = "Pass the ratio that it was measured on."
        check_kind(ratio, _WithBudget, "attach: ratio", "a RatioEstimator", remedy)
        return ratio.replace(budget=self)

    def check_parameters(self, labels: Sequence[str]) -> None:
        """Raise ValueError unless these are the parameters that it was measured for."""
        if tuple(labels) != tuple(self.parameters):
            raise ValueError(
                f"attach: this budget is that of the parameters {', '.join(self.parameters)}, and "
                f"the ratio has {', '.join(labels)}. Attach it to the ratio it was measured on."
            )

    def in_short(self) -> str:
        """How many trials, in words."""
        if not self.informed:
            return "no trial: it knows nothing of its parameters"
        surely = counted(self.trials)
        if self.is_seen:
            return f"{surely}, most likely {_rounded(self.likely_trials)}"
        return (
            f"{surely} or more: no bias was seen, and a measurement by more simulations would tell "
            "better"
        )

    def bears(self, trials: np.ndarray) -> bool:
        """Whether so many trials of each parameter ``(D,)`` are no more than it surely bears.

        Where no bias was seen that number is one of the simulations, and few trials are not
        doubted.
        """
        if not self.informed:
            return False
        doubted = np.asarray(trials) if self.is_seen else np.where(trials > FEW, trials, 0)
        return bool((doubted * self.bias_squared_limit <= self.share**2).all())

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers, for a file."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        plain = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in values.items()}
        return plain | {"region": None if self.region is None else asdict(self.region)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrialBudget:
        """The inverse of `to_dict`.

        Raises
        ------
        ValueError
            If these are not the values of a budget.
        """
        names = [field.name for field in fields(cls)]
        given = {"region": None, "informed": True} | dict(values)  # older files lack them
        if sorted(given) != sorted(names):
            raise ValueError(f"expected the fields {', '.join(names)}")
        parameters, simulations, share = (values[name] for name in names[:3])
        labels = parameters if isinstance(parameters, list | tuple) else ()
        if not labels or not all(isinstance(label, str) for label in labels):
            raise ValueError("parameters must be labels")
        if type(simulations) is not int or type(share) not in (int, float):
            raise ValueError("simulations and share must be numbers")
        arrays = {name: _numbers(name, values[name]) for name in names[3:-2]}
        if not isinstance(given["informed"], bool):
            raise ValueError("informed must be true or false")
        rest = {"region": _region(given["region"]), "informed": given["informed"]}
        budget = cls(tuple(labels), simulations, share, **arrays, **rest)
        budget._check()
        return budget

    def _check(self) -> None:
        """Raise ValueError unless all arrays are of the same parameters, and trials can be told."""
        count, points = len(self.parameters), self.positions.shape[-1:]
        for name, shape in ((field.name, (count,)) for field in fields(self)[3:-2]):
            along = name in ("positions", "curves", "curve_errors")
            if getattr(self, name).shape != (shape + points if along else shape):
                raise ValueError(f"{name} must be of {count} parameters")
        # Far beyond what is measured, and their quotient is a number: `trials` divides them.
        if not 1e-50 < self.share < 1e50:
            raise ValueError("share must be positive and finite")
        if not 1e-100 < self.bias_squared_limit.max() < 1e100:
            raise ValueError("bias_squared_limit must be positive and finite")

    def __repr__(self) -> str:
        lines = [
            f"TrialBudget: the ratio bears {self.in_short()}",
            f"  (a bias of at most {self.share:g} posterior standard deviations of any parameter, "
            f"root mean square over the prior of {self.simulations:,} simulations)",
        ]
        if self.region is not None:
            lines.append(f"  {self.region.in_words()}")
        return "\n".join([*lines, *map(self._line, range(len(self.parameters)))])

    def _line(self, j: int) -> str:
        bias, error = (part[j] for part in self.bias(1_000))
        most = math.sqrt(1_000 * self.bias_squared_limit[j])
        text = f"{bias:.2g} ± {error:.1g}" if self._seen[j] else f"not seen, below {most:.2g}"
        text = f"  {self.parameters[j]}: bias at 1,000 trials {text}"
        if np.isnan(self.width[j]):
            return f"{text}; the width is not known (not measured, or linear piece by piece)"
        if np.isnan(self.width_error[j]):
            return f"{text}; the width is not known: there the log ratio has no maximum"
        return f"{text}; width {self.width[j]:.3f} ± {self.width_error[j]:.1g} of what it should be"

    def plot(self) -> Any:
        """The bias at the budget's number of trials along each parameter: a figure."""
        import matplotlib.pyplot as plt

        count = len(self.parameters)
        figure, axes = plt.subplots(
            1, count, figsize=(4 * count, 3), squeeze=False, sharey=True, layout="constrained"
        )
        scale = math.sqrt(self.trials)
        for j, axis in enumerate(axes[0]):
            error = SURE * scale * self.curve_errors[j]
            axis.axhspan(-self.share, self.share, color="0.9")
            axis.axhline(0, color="0.6", linewidth=1)
            axis.errorbar(
                self.positions[j], scale * self.curves[j], error, fmt="o", markersize=3, capsize=0
            )
            axis.set_xlabel(self.parameters[j])
        axes[0, 0].set_ylabel(f"bias at {counted(self.trials)}\n(posterior sd)")
        return figure


def gain(before: TrialBudget, after: TrialBudget, trials: float) -> str:
    """The bias before and after a ratio was centered, in words."""
    told = []
    for budget in (before, after):
        parts = zip(budget.parameters, *budget.bias(trials), strict=True)
        told.append(", ".join(f"{label} {bias:.2g} ± {error:.1g}" for label, bias, error in parts))
    return (
        f"bias with {trials:,.0f} trials, in posterior standard deviations: {told[0]} before, "
        f"{told[1]} after"
    )


def _numbers(name: str, value: Any) -> np.ndarray:
    try:
        array = np.array(value)
    except ValueError:
        array = np.array(None)
    if array.dtype.kind not in "iuf":
        raise ValueError(f"{name} must be numbers")
    return array.astype(float)


def _rounded(number: float) -> str:
    """Two digits are what it is known to."""
    if number < 100:
        return f"{number:.0f}"
    digits = 1 - math.floor(math.log10(number))
    return f"{round(number, digits):,.0f}"


def counted(trials: float) -> str:
    """With the word: no trial, 1 trial, 2 trials."""
    if trials < 1:
        return "no trial"
    return "1 trial" if trials < 2 else f"{_rounded(math.floor(trials))} trials"


def measurement(trials: int) -> str:
    """The call that measures a budget of so many trials."""
    simulations = min(math.ceil(max(1_000 * trials, 100_000) / 100_000) * 100_000, 10_000_000)
    return f"budget = nre.trial_budget(ratio, nre.simulate(prior, simulator, {simulations:_}))"


def _region(values: Any) -> Region | None:
    """The region of a file."""
    if values is None:
        return None
    known = [field.name for field in fields(Region)]
    if not isinstance(values, Mapping) or sorted(values) != sorted(known):
        raise ValueError(f"region must have the fields {', '.join(known)}")
    label, *numbers = (values[name] for name in known)
    if not isinstance(label, str) or not all(type(each) is float for each in numbers):
        raise ValueError("region must have a label and numbers")
    if not all(map(math.isfinite, numbers[2:])):
        raise ValueError("region must have a finite share and number of trials")
    return Region(label, *numbers)
