r"""Estimates and confidence sets: what the data say without a prior.

A ratio is the likelihood up to a function of the data, so the parameters that make data likeliest
are known without MCMC, of hundreds of data sets at once: `summed` adds log ratios up over trials,
`search` climbs them by `bfgs` from many starts, in `coordinates` without edges. `maximum_likelihood`
and `profile` are what is found.

A confidence set holds the parameters at which a statistic (`statistics`) is below its critical
value. Wilks' theorem has one for all parameters, right for many trials of an exact ratio.
`critical_values` are learned from simulated data sets otherwise, and are right whatever is wrong
with the ratio, which costs size alone.
"""

from .confidence_set import ConfidenceSet, confidence_set
from .critical_values import CriticalValues, critical_values
from .maximum_likelihood import Estimates, maximum_likelihood
from .profile import profile

__all__ = [
    "ConfidenceSet",
    "CriticalValues",
    "Estimates",
    "confidence_set",
    "critical_values",
    "maximum_likelihood",
    "profile",
]
