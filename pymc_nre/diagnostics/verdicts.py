"""What a check can say of a ratio, when it says so, and what to do then.

A check ends in a p value and in what the strongest deviation would mean. Only where the p value is
below `ALARM`, and the deviation is large enough to matter, it is said; else the ratio is right.
Where there is nothing to judge by, it is NaN, and what is said is why.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

__all__ = ["ALARM", "Judgment", "Verdict", "advice_in", "told", "worst"]

ALARM = 0.01  # p values below it are told

_MORE = "Train on more simulations, with members=5, or by BNRE(), which errs on the wide side."
_WASTEFUL = "Safe, but wasteful: train longer, on more simulations, or a larger network."
_OFF = f"Posterior means are off. {_MORE}"
_NARROWER = (
    "Train with a narrower prior around the data (see the how-to on very informative data), or "
    "give more draws=."
)
_UNNORMALIZED = "Use no evidences. Train longer, or by NREA() or NREC(gamma=1)."


class Verdict(StrEnum):
    """What a check says, with its advice beside it.

    Results hold it as plain text, which `Verdict` reads again.

    Attributes
    ----------
    advice : str
        What to do about it, empty if nothing; a check may know better, see `advice_in`.

    Examples
    --------
    >>> Verdict("too wide").advice
    'Safe, but wasteful: train longer, on more simulations, or a larger network.'
    """

    RIGHT = "right", ""
    USUAL = "usual", ""
    TOO_NARROW = "too narrow", f"Do not trust credible intervals. {_MORE}"
    TOO_WIDE = "too wide", _WASTEFUL
    TOO_LOW = "too low", _OFF
    TOO_HIGH = "too high", _OFF
    TOO_SURE = "too sure", f"The ratio exaggerates. {_MORE}"
    TOO_UNSURE = "too unsure", _WASTEFUL
    TOO_LARGE = "too large", _UNNORMALIZED
    TOO_SMALL = "too small", _UNNORMALIZED
    TOLD_APART = "told apart", f"The ratio is wrong at these parameters. {_MORE}"
    TOO_MANY = "too many trials", "nre.center(ratio, ...) makes a ratio bear more trials."
    WRONG = "wrong", "Train with a narrower prior around the data, or on more simulations."
    FOREIGN = (
        "foreign",
        "Look at these observations and at what the simulator leaves out; widen the prior.",
    )
    NOT_KNOWN = "not known", "Give more simulations."
    KNOWS_NOTHING = (
        "knows nothing",
        "Posteriors are the prior. Check the simulator, whether parameters and observations are in "
        "the same order, and the size of the observations; then train on more simulations.",
    )
    NOT_NORMALIZED = (
        "not normalized",
        "As this loss leaves it: posteriors are not touched, evidences are refused.",
    )

    advice: str

    def __new__(cls, text: str, advice: str) -> Verdict:
        """A string that has advice."""
        verdict = str.__new__(cls, text)
        verdict._value_ = text
        verdict.advice = advice
        return verdict

    @property
    def is_fine(self) -> bool:
        """Whether the check has found that all is well."""
        return self in (Verdict.RIGHT, Verdict.USUAL)

    @property
    def passes(self) -> bool:
        """Whether the check has found nothing wrong: all is well, or it cannot be told."""
        return self.is_fine or self in (Verdict.NOT_KNOWN, Verdict.NOT_NORMALIZED)


_FACTOR = f"The ratio is off by a factor, as evidences are; posteriors need not be. {_MORE}"
_IN_A_CHECK = {
    ("reliability", Verdict.TOO_LOW): _FACTOR,
    ("reliability", Verdict.TOO_HIGH): _FACTOR,
    **{
        (check, Verdict.NOT_KNOWN): _NARROWER
        for check in ("coverage", "sbc", "tarp", "reliability", "normalization")
    },
    ("auc", Verdict.NOT_KNOWN): "Make this check by itself, with more simulations.",
    ("convergence", Verdict.NOT_KNOWN): "Make this check by itself, with more draws=.",
    ("lc2st", Verdict.NOT_KNOWN): "Train with a narrower prior around the data.",
}


def advice_in(check: str, verdict: Verdict) -> str:
    """What to do about a verdict of that check."""
    return _IN_A_CHECK.get((check, verdict), verdict.advice)


@dataclass(frozen=True)
class Judgment:
    """A p value, and what the strongest deviation means if it is small.

    Attributes
    ----------
    p_value : float
        NaN if there is none.
    deviation : Verdict
        Or why there is no p value.
    parameter : str
        Whose deviation it is; empty if it is that of no single one, or nothing is wrong.
    matters : bool
        Whether it is large: of enough pairs a p value tells what nobody would notice.
    """

    p_value: float
    deviation: Verdict
    parameter: str = ""
    matters: bool = True

    @property
    def verdict(self) -> Verdict:
        """What is said."""
        is_right = self.p_value >= ALARM or not self.matters
        return Verdict.RIGHT if is_right else self.deviation

    @property
    def odds(self) -> str:
        """The p value in words."""
        small = self.p_value < ALARM and not self.matters
        return f"p = {self.p_value:.2g}" + ", but too little to matter" * small

    def among(self, tests: int) -> Judgment:
        """The same as one of several tests, any of which may raise the alarm (Bonferroni)."""
        return replace(self, p_value=min(1.0, self.p_value * tests))


def worst(judgments: Sequence[Judgment], labels: Sequence[str]) -> Judgment:
    """Of one judgment for each parameter that with the smallest p value, if it matters."""
    pairs = zip(judgments, labels, strict=True)
    judgment, label = min(pairs, key=lambda pair: (not pair[0].matters, pair[0].p_value))
    return judgment if judgment.verdict.passes else replace(judgment, parameter=str(label))


def told(p_value: float, verdict: Verdict, summary: str) -> dict[str, Any]:
    """Attributes of a result; the verdict as plain text, which any file can hold."""
    return {"p_value": float(p_value), "verdict": verdict.value, "summary": summary}
