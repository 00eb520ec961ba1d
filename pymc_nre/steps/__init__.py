"""Steps of Markov chains that use what a ratio knows, for ``pm.sample(step=...)``.

Ordinary ratios are sampled by every step that PyMC has. A direct ratio compares two parameter
vectors in one evaluation, which is what a Metropolis step asks (`direct_metropolis`).
"""

from .direct_metropolis import DirectRatioMetropolis

__all__ = ["DirectRatioMetropolis"]
