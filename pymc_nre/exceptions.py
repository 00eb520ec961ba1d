"""The errors and warnings of the package, in one place, so that any room can raise them."""

from __future__ import annotations

__all__ = [
    "CannotDrawError",
    "DomainWarning",
    "EstimatorFileError",
    "PosteriorWarning",
    "SimulationError",
    "SimulationWarning",
    "TrainingWarning",
    "TrialsWarning",
]


class EstimatorFileError(ValueError):
    """A file that does not hold an estimator this version can trust."""


class SimulationError(RuntimeError):
    """No simulation succeeded."""


class SimulationWarning(UserWarning):
    """Some simulations were left out, or not all were made."""


class DomainWarning(UserWarning):
    """Parameters reach, or may reach, outside the region where the ratio was trained."""


class TrialsWarning(UserWarning):
    """There are more trials than a ratio was found to bear."""


class TrainingWarning(UserWarning):
    """Training ended otherwise than planned."""


class PosteriorWarning(UserWarning):
    """A posterior is cut off, not resolved by its grid, or rests on too few draws."""


class CannotDrawError(ValueError):
    """No data set of the model can be drawn, or none would be of its prior."""
