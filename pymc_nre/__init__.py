"""Neural ratio estimation for PyMC: a simulator where a likelihood should be."""

from importlib.metadata import version

from . import diagnostics, losses, networks, plots, point, steps, tasks
from .amortized.grid import posterior_grid
from .amortized.importance import resample, weighted_draws
from .estimators.arrivals.from_log_density import from_log_density
from .estimators.calibration.calibrate import calibrate
from .estimators.ensemble import ensemble
from .estimators.estimator import RatioEstimator
from .estimators.files import load
from .estimators.trial_budgets.measured_budget import trial_budget
from .estimators.trial_budgets.trial_budget import TrialBudget
from .estimators.whole_series import whole_series
from .exceptions import (
    CoverageWarning,
    DomainWarning,
    EstimatorFileError,
    PosteriorWarning,
    SimulationError,
    SimulationWarning,
    TrainingWarning,
    TrialsWarning,
)
from .likelihood.ratio_likelihood import RatioLikelihood, log_ratio
from .many_trials.centering import center
from .sequential.report import Rounds
from .sequential.rounds import rounds
from .simulation.joint import simulate
from .simulation.online import Online
from .simulation.series.cuts import Transitions, transitions
from .simulation.series.steps import forecast, simulate_series
from .simulation.simulations import Simulations
from .simulation.simulator import Simulator
from .training.members import train
from .training.series import train_series

__version__ = version("pymc_nre")

__all__ = [
    "CoverageWarning",
    "DomainWarning",
    "EstimatorFileError",
    "Online",
    "PosteriorWarning",
    "RatioEstimator",
    "RatioLikelihood",
    "Rounds",
    "SimulationError",
    "SimulationWarning",
    "Simulations",
    "Simulator",
    "TrainingWarning",
    "Transitions",
    "TrialBudget",
    "TrialsWarning",
    "calibrate",
    "center",
    "diagnostics",
    "ensemble",
    "forecast",
    "from_log_density",
    "load",
    "log_ratio",
    "losses",
    "networks",
    "plots",
    "point",
    "posterior_grid",
    "resample",
    "rounds",
    "simulate",
    "simulate_series",
    "steps",
    "tasks",
    "train",
    "train_series",
    "transitions",
    "trial_budget",
    "weighted_draws",
    "whole_series",
]
