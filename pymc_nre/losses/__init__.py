r"""What to minimize: losses that are least where the logit is a log likelihood ratio.

A ratio estimator is a classifier: it sees *joint* pairs, :math:`\theta \sim p(\theta),
x \sim p(x \mid \theta)`, and *marginal* pairs, in which the two are independent, and the
logit :math:`s(\theta, x)` that separates them best is :math:`\log p(x \mid \theta) / p(x)`.

What a loss must say of itself is in `base`; those that contrast joint with marginal pairs are in
`contrastive`, candidates near the true parameters beside them in `multi_scale`, a penalty on
classifiers that are out of balance in `balanced`, the ratio to a fixed reference in `carl`, and the
ratio of any two parameter vectors in `direct`. `written` reads a loss from its text.
"""

from .balanced import BNRE, Balanced
from .base import Loss
from .carl import CARL
from .contrastive import NREA, NREB, NREC
from .direct import DNRE
from .multi_scale import MultiScale

__all__ = ["BNRE", "CARL", "DNRE", "NREA", "NREB", "NREC", "Balanced", "Loss", "MultiScale"]
