r"""Networks that give log densities, trained elsewhere: likelihoods and posteriors as log ratios.

A likelihood :math:`\log p(x \mid \theta)` is a log ratio to nothing at all. A posterior over its
training prior is one to the evidence,

.. math:: \log p(\theta \mid x) - \log p(\theta) = \log \frac{p(x \mid \theta)}{p(x)}.

Such modules come with three manners of being called, and each says by what it has which is its own:
see `log_density_of`.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .base import RatioNetwork

__all__ = ["KINDS", "LogDensity"]

KINDS = ("likelihood", "posterior")


class LogDensity(RatioNetwork):
    """Log ratios by a module of log densities.

    Parameters
    ----------
    module : nn.Module or callable
    theta_size : int
    event_shape : tuple of int
    kind : {"likelihood", "posterior"}
    prior : nn.Module, optional
        Of a posterior the log density of its training prior, up to a constant; by default its own
        method ``log_prior``.
    shape_of_x : tuple of int, optional
        Of one observation, where conditions stand behind its numbers.
    """

    offset: Tensor

    def __init__(
        self,
        module: Any,
        theta_size: int,
        event_shape: tuple[int, ...],
        kind: str,
        prior: nn.Module | None = None,
        shape_of_x: tuple[int, ...] | None = None,
    ) -> None:
        # Modules standardize for themselves; here it only keeps what data they know.
        super().__init__(theta_size, event_shape)
        self.module = module if isinstance(module, nn.Module) else _Function(module)
        self.kind, self.shape_of_x = kind, shape_of_x
        self.prior = prior
        self.register_buffer("offset", torch.zeros(()))

    @property
    def has_own_prior(self) -> bool:
        """Whether the module tells the density of the prior."""
        return self.kind == "posterior" and self.prior is None

    def know_data(self, x: Tensor) -> None:
        """Remember where observations ``(n, *event)`` lie; of a few that cannot be told."""
        self.standardize_x.fit(x)
        if len(x) < _ENOUGH:
            self.standardize_x.scale.fill_(torch.inf)

    def fit_standardization(self, theta: Tensor, x: Tensor) -> None:
        """Nothing: what a module was trained with is its own."""

    def embed(self, x: Tensor) -> Tensor:
        """The numbers of observations, ``(n, F)``."""
        return x.reshape(len(x), -1)

    def head(self, theta: Tensor, features: Tensor) -> Tensor:
        """Log ratios ``(*)`` of parameters ``(*, D)`` with features ``(*, F)``, broadcast."""
        lead = torch.broadcast_shapes(theta.shape[:-1], features.shape[:-1])
        rows = theta.expand(*lead, theta.shape[-1]).reshape(-1, theta.shape[-1])
        x = features.expand(*lead, features.shape[-1]).reshape(-1, *self.event_shape)
        values = log_density_of(self.module, self.kind, rows, x, self.shape_of_x).reshape(lead)
        return values if self.kind == "likelihood" else values - self.log_prior(theta)

    def log_prior(self, theta: Tensor) -> Tensor:
        """Log densities ``(*)`` of the training prior at parameters ``(*, D)``."""
        given = self.module.log_prior if self.prior is None else self.prior
        return given(theta) + self.offset

    def __repr__(self) -> str:
        # Digests of estimators hold it; modules from elsewhere show addresses, which change.
        return f"LogDensity({self.kind}, {name_of(self.module)}, prior={self.prior})"


_ENOUGH = 30  # observations, that tell a mean and a spread


class _Function(nn.Module):
    """A function ``(theta, x)`` as a module."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, theta: Tensor, x: Tensor) -> Tensor:
        return self.function(theta, x)

    @property
    def log_prior(self) -> Callable[[Tensor], Tensor]:
        return self.function.log_prior  # type: ignore[attr-defined]


def name_of(module: nn.Module) -> str:
    """What a module is called."""
    function = getattr(module, "function", None)
    return getattr(function, "__name__", type(module if function is None else function).__name__)


def log_density_of(
    module: nn.Module,
    kind: str,
    theta: Tensor,
    x: Tensor,
    shape_of_x: tuple[int, ...] | None = None,
) -> Tensor:
    """Log densities of parameters ``(n, D)`` and observations ``(n, *event)``, n numbers.

    By ``module.log_prob(inputs, context)``, if it has that, as nflows; in the shapes that it says
    it wants, and with an axis more, if it says so, as sbi. By ``module(context).log_prob(inputs)``,
    if it is called with one thing, as zuko. Else by ``module(theta, x)``. There inputs is what the
    density is of, and context what it is given; both are vectors, also where they hold one number.
    With conditions observations are vectors that end with them, and context ends with them too.
    """
    inputs, context = _apart(theta, x, shape_of_x) if kind == "likelihood" else (theta, x)
    if hasattr(module, "log_prob"):
        shapes = [getattr(module, name, None) for name in ("input_shape", "condition_shape")]
        if None in shapes:
            return module.log_prob(_vectors(inputs), _vectors(context))
        inputs, context = (
            rows.reshape(len(rows), *shape)
            for rows, shape in zip((inputs, context), shapes, strict=True)
        )
        return module.log_prob(inputs[None], context)
    if _takes_one(module):
        return module(_vectors(context)).log_prob(_vectors(inputs))
    return module(theta, x)


def _apart(theta: Tensor, x: Tensor, shape_of_x: tuple[int, ...] | None) -> tuple[Tensor, Tensor]:
    """What a likelihood is of, and what it is given: parameters, and conditions if there are."""
    if shape_of_x is None:
        return x, theta
    size = math.prod(shape_of_x)
    return x[:, :size].reshape(-1, *shape_of_x), torch.cat([theta, x[:, size:]], -1)


def _vectors(rows: Tensor) -> Tensor:
    return rows[:, None] if rows.ndim == 1 else rows


def _takes_one(module: nn.Module) -> bool:
    """Whether it is called with a context alone."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    places = inspect.signature(module.forward).parameters.values()
    several = any(place.kind is inspect.Parameter.VAR_POSITIONAL for place in places)
    return not several and sum(place.kind in kinds for place in places) == 1
