"""The errors and warnings of the package, in one place, so that any room can raise them."""

from __future__ import annotations

__all__ = ["EstimatorFileError", "SimulationError", "SimulationWarning"]


class EstimatorFileError(ValueError):
    """A file that does not hold an estimator this version can trust."""


class SimulationError(RuntimeError):
    """No simulation succeeded."""


class SimulationWarning(UserWarning):
    """Some simulations were left out, or not all were made."""
