r"""Problems with exact answers, for tests, tutorials and users' own checks.

Each task is a simulator with a likelihood that *is* known: the exact log ratio, posterior
and maximum likelihood stand beside what a trained estimator gives. ``task.estimator()`` is
the exact ratio as a `RatioEstimator`; whatever goes wrong with it is not the training's fault.

They are small, and differ in what they try: a smooth ratio of one parameter
(`GaussianMean`), two scales of structure (`LocationScale`), a vector parameter
(`LinearGaussian`), counts (`PoissonRate`), a density with a narrow peak (`GaussianMixture`),
and a latent variable inside a group of numbers (`HierarchicalGaussian`).
"""

from .base import Posterior
from .counts import PoissonRate
from .gaussian import GaussianMean, LinearGaussian, LocationScale
from .latent import GaussianMixture, HierarchicalGaussian

__all__ = [
    "GaussianMean",
    "GaussianMixture",
    "HierarchicalGaussian",
    "LinearGaussian",
    "LocationScale",
    "PoissonRate",
    "Posterior",
]
