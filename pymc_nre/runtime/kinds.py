"""The one refusal of what is something else: expected, got, remedy, under the argument's name."""

from __future__ import annotations

from typing import Any

__all__ = ["check_kind"]


def check_kind(value: Any, kind: Any, name: str, expected: str, remedy: str) -> None:
    """Raise TypeError unless a value is an instance of a kind.

    Parameters
    ----------
    value : Any
    kind : type or tuple of type
    name : str
        What the error calls it, e.g. ``"auc: ratio"``.
    expected, remedy : str
        What it must be, and a sentence on how to get it.

    Examples
    --------
    >>> from pymc_nre.runtime.kinds import check_kind
    >>> try:
    ...     check_kind("one", int, "f: n", "an int", "Pass 1.")
    ... except TypeError as error:
    ...     print(error)
    f: n: expected an int, got str. Pass 1.
    """
    if isinstance(value, type) or not isinstance(value, kind):  # a class has all that values have
        got = f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__
        raise TypeError(f"{name}: expected {expected}, got {got}. {remedy}")
