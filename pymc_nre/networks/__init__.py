r"""Functions of parameters and an observation, :math:`s(\theta, x)`, to be trained.

Every network is two functions, ``embed(x)`` and ``head(theta, features)``, so that an observation
is embedded once, however many parameters it meets (`base`). Users write small frozen values such
as ``MLP((64, 64))``, and modules are built when sizes are known (`specifications`). Embeddings turn
sets, series and images into features (`embeddings`, `convolutions`), networks are made of other
networks (`composed`), and logits may go through curves (`calibration`). Modules of log densities
that others trained are called in their own manner (`densities`), and posteriors among them divided
by their priors (`prior_density`).
"""

from .base import RatioNetwork
from .convolutions import Convolutional, ResNet
from .embeddings import DeepSet, Dense, masked_set
from .specifications import MLP, ResidualMLP, build, specification_from_dict

__all__ = ["MLP", "RatioNetwork", "ResidualMLP", "build", "specification_from_dict"]
__all__ += ["Convolutional", "DeepSet", "Dense", "ResNet", "masked_set"]
