"""Numbers that say whether a ratio may be trusted, with a verdict and what to do about it.

If a posterior is right, the true parameters are one more draw of it. So for many held-out pairs the
rank of the truth among the draws of its posterior (`ranks`, from draws of the prior, `prior_draws`)
is uniform, and `calibration` reads off the ranks whether posteriors are too narrow, too wide or
shifted. Others look at one place: `classifier_tests` at the observed data and at fixed parameters,
`pointwise_coverage` at these too, `misspecification` at whether the data are like simulations at
all, `domain` at where posterior draws went. `concentration` adds trials; `evidence` compares models
within one ratio; `model_sbc` calibrates a user's own model with its MCMC. `reports` puts all of it
on a page.
"""

from .calibration import coverage, normalization, reliability, sbc, tarp
from .classifier_tests.roc import auc
from .classifier_tests.two_sample import lc2st
from .concentration import convergence
from .domain import domain_check
from .evidence import compare, log_marginal_ratio
from .misspecification import observation_check
from .model_sbc.run import sbc_model
from .pointwise_coverage import coverage_at
from .ranks import posterior_ranks
from .reports import Report, report

__all__ = [
    "Report",
    "auc",
    "compare",
    "convergence",
    "coverage",
    "coverage_at",
    "domain_check",
    "lc2st",
    "log_marginal_ratio",
    "normalization",
    "observation_check",
    "posterior_ranks",
    "reliability",
    "report",
    "sbc",
    "sbc_model",
    "tarp",
]
