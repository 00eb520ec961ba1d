r"""Densities of common priors, in torch: what a posterior estimate is divided by.

Each is known up to a constant, and inside of its support only: a uniform one is zero everywhere.
So an estimate divided by it goes on smoothly where a sampler steps out, and compiled code has
nothing to branch on; what is outside of the support is outside of an estimator's domain anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

__all__ = ["FAMILIES", "PriorDensity"]


def _normal(t: Tensor, mean: Tensor, scale: Tensor, *_: Tensor) -> Tensor:
    return -(((t - mean) / scale) ** 2) / 2


def _log_normal(t: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    return _normal(t.log(), mean, scale) - t.log()


def _student(t: Tensor, nu: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    return -(nu + 1) / 2 * (((t - mean) / scale) ** 2 / nu).log1p()


def _cauchy(t: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    return -(((t - mean) / scale) ** 2).log1p()


def _logistic(t: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    z = (t - mean) / scale
    return -z - 2 * softplus(-z)


def _joint_normal(t: Tensor, mean: Tensor, precision: Tensor) -> Tensor:
    """Terms that add up to that of a vector."""
    d = t - mean
    return -(d * (d @ precision)) / 2


# By what PyMC calls their random variables: the density of each number, and its arguments.
FAMILIES: dict[str, tuple[Callable[..., Tensor], int]] = {
    "UniformRV": (lambda t, low, high: torch.zeros_like(t), 2),
    "NormalRV": (_normal, 2),
    "HalfNormalRV": (_normal, 2),
    "TruncatedNormalRV": (_normal, 4),
    "LogNormalRV": (_log_normal, 2),
    "ExponentialRV": (lambda t, scale: -t / scale, 1),
    "GammaRV": (lambda t, shape, scale: (shape - 1) * t.log() - t / scale, 2),
    "InvGammaRV": (lambda t, shape, scale: -(shape + 1) * t.log() - scale / t, 2),
    "BetaRV": (lambda t, a, b: (a - 1) * t.log() + (b - 1) * (-t).log1p(), 2),
    "StudentTRV": (_student, 3),
    "HalfStudentTRV": (lambda t, nu, scale: _student(t, nu, torch.zeros_like(nu), scale), 2),
    "CauchyRV": (_cauchy, 2),
    "HalfCauchyRV": (lambda t, scale: _cauchy(t, torch.zeros_like(scale), scale), 1),
    "LaplaceRV": (lambda t, mean, scale: -(t - mean).abs() / scale, 2),
    "LogisticRV": (_logistic, 2),
    "MvNormalRV": (_joint_normal, 2),
}


class PriorDensity(nn.Module):
    """Log density, up to a constant, of parameters that do not depend on each other.

    Parameters
    ----------
    parts : sequence of (str, int)
        A family of `FAMILIES` for each parameter, and how many numbers it has. Their arguments are
        buffers, to be set.
    """

    def __init__(self, parts: Sequence[tuple[str, int]]) -> None:
        super().__init__()
        self.parts = [(name, int(size)) for name, size in parts]
        for i, (name, size) in enumerate(self.parts):
            for j in range(FAMILIES[name][1]):
                matrix = name == "MvNormalRV" and j == 1
                start = torch.eye(size) if matrix else torch.ones(size)
                self.register_buffer(f"of_{i}_{j}", start.double())

    def set_arguments(self, arguments: Sequence[Sequence[np.ndarray]]) -> None:
        """Take those of each part, arrays ``(size,)``, or for a precision ``(size, size)``."""
        for i, own in enumerate(arguments):
            for mine, given in zip(self._arguments(i), own, strict=True):
                mine.copy_(torch.tensor(np.array(given)))

    def forward(self, theta: Tensor) -> Tensor:
        """Log densities ``(*)`` of parameters ``(*, D)``."""
        sizes = [size for _, size in self.parts]
        terms = [
            FAMILIES[name][0](part, *self._arguments(i))
            for i, ((name, _), part) in enumerate(
                zip(self.parts, theta.split(sizes, -1), strict=True)
            )
        ]
        return torch.cat(terms, -1).sum(-1)

    def _arguments(self, i: int) -> list[Tensor]:
        return [getattr(self, f"of_{i}_{j}") for j in range(FAMILIES[self.parts[i][0]][1])]

    def extra_repr(self) -> str:
        """Shown in the ``repr``."""
        return ", ".join(f"{name} ({size})" for name, size in self.parts)
