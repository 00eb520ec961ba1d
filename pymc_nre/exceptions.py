"""The errors and warnings of the package, and how it warns; any room can use them."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings

__all__ = [
    "CannotDrawError",
    "CheckNotApplicable",
    "CoverageWarning",
    "DomainWarning",
    "EstimatorFileError",
    "PosteriorWarning",
    "SimulationError",
    "SimulationWarning",
    "TrainingWarning",
    "TrialsWarning",
    "warn",
]

# Not the user's: the package, as frames have it (a Path would drop "./"), and what the standard
# library puts between, where a context manager of the package warns when its block ends.
_NOT_THE_USER = (os.path.dirname(__file__) + os.sep, contextlib.__file__)


class EstimatorFileError(ValueError):
    """A file that does not hold an estimator or simulations that this version can trust."""


class SimulationError(RuntimeError):
    """No simulation succeeded."""


class SimulationWarning(UserWarning):
    """Some simulations were left out, or not all were made."""


class DomainWarning(UserWarning):
    """Parameters reach, or may reach, outside the region where the ratio was trained."""


class TrialsWarning(UserWarning):
    """There are more trials than a ratio is known to bear."""


class TrainingWarning(UserWarning):
    """Training ended otherwise than planned, or a checkpoint cannot be written."""


class PosteriorWarning(UserWarning):
    """A posterior is cut off, not resolved by its grid, or rests on too few draws."""


class CoverageWarning(UserWarning):
    """Confidence sets hold the true parameters less often than they say."""


class CannotDrawError(ValueError):
    """No data set of the model can be drawn, or none would be of its prior."""


class CheckNotApplicable(ValueError):  # noqa: N818, for it is about the check, which has no fault
    """A check cannot be made of this ratio or with these simulations; others can."""


def warn(message: str, category: type[Warning]) -> None:
    """Warn of something, in the name of the user's own line, however deep inside the package."""
    level, frame = 1, sys._getframe()
    while frame is not None and frame.f_code.co_filename.startswith(_NOT_THE_USER):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
