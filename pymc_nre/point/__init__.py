r"""Estimates and confidence sets: what the data say without a prior.

A ratio is the likelihood up to a function of the data, so the parameters that make data likeliest
are known without MCMC, of hundreds of data sets at once: `searches` climb from many starts, and
`maximum_likelihood` and `profile` are what is found.

A `confidence_set` holds the parameters at which a statistic (`statistics`, of which two need
`integrals`) is no larger than its critical value. Wilks' theorem has one for all parameters, right
for many trials of an exact ratio; `wilks_check` asks whether it is here. `critical_values` are
otherwise learned, as `quantiles` of what `simulated` data sets give, and are right whatever is
wrong with the ratio, which costs size alone. `regions` are where the sets are.
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
