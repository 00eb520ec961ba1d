r"""Embeddings: from one observation, whatever its shape, to a vector of features.

An observation may be a set, a series or an image. An embedding is built into a network by
``MLP(embedding=...)``; it sees observations alone, so it is evaluated once for each, in
training (contrastive pairs share it) and in MCMC (once for a data set). Those for series and
images are in `pymc_nre.networks.convolutions`.

Like networks, embeddings are written as small frozen specifications and built when the
shape of an observation is known. Each brings the standardization that suits it: the members
of a set, or the pixels of an image, share their moments.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..runtime.arrays import real_array, true_or_false, whole_number
from .layers import (
    Embedding,
    Specification,
    Standardize,
    check_choices,
    check_value,
    checked_widths,
    dense,
)

__all__ = ["DeepSet", "Dense", "build_embedding", "masked_set"]


@dataclass(frozen=True, repr=False)
class Dense(Specification):
    """Dense layers over all numbers of an observation.

    Parameters
    ----------
    hidden : tuple of int
        Width of each layer; the last is the number of features.
    activation : str
        As for `pymc_nre.networks.MLP`.
    norm : {None, "batch", "layer"}
        Normalization after each layer.

    Examples
    --------
    >>> from pymc_nre.networks import MLP, Dense
    >>> MLP(embedding=Dense((128, 16))).embedding
    Dense(hidden=(128, 16), activation='silu')
    """

    hidden: tuple[int, ...] = (64, 32)
    activation: str = "silu"
    norm: str | None = None

    def __post_init__(self) -> None:
        self._take()
        object.__setattr__(self, "hidden", checked_widths("Dense", "hidden", self.hidden))
        check_choices(self.activation, self.norm)

    def build(self, event_shape: tuple[int, ...]) -> Embedding:
        """An untrained embedding of observations of that shape."""
        size = math.prod(event_shape)
        layers = dense((size, *self.hidden), self.activation, self.norm)
        return Embedding(Standardize(event_shape), nn.Sequential(Rows(), *layers), self.hidden[-1])


@dataclass(frozen=True, repr=False)
class DeepSet(Specification):
    r"""Exchangeable sets: each member through dense layers, then the mean over the set.

    .. math:: f(x) = \bigl[\bar h,\; \tfrac{m}{M}\bar h,\; \log(1 + m)\bigr],
              \quad \bar h = \tfrac1m \textstyle\sum_j h(x_j)

    An observation is a set of M members, shape ``(M,)`` if each is a number and ``(M, d)``
    otherwise. Sets of varying size m have a last column that is 1 for members and 0 for
    padding, shape ``(M, d + 1)``, as `masked_set` makes them; only they have the second and
    third part of the features, which tell how much the set knows.

    Parameters
    ----------
    hidden : tuple of int
        Width of each layer before the mean.
    masked : bool
        Whether the last column says which members are there.
    activation, norm
        As for `Dense`; ``norm="batch"`` would count padding and is refused with a mask.

    References
    ----------
    Zaheer et al. (2017), Deep Sets, arXiv:1703.06114.

    Examples
    --------
    >>> from pymc_nre.networks import MLP, DeepSet
    >>> network = MLP((64, 64), embedding=DeepSet((64, 32), masked=True))
    """

    hidden: tuple[int, ...] = (64, 64)
    masked: bool = False
    activation: str = "silu"
    norm: str | None = None

    def __post_init__(self) -> None:
        self._take()
        object.__setattr__(self, "hidden", checked_widths("DeepSet", "hidden", self.hidden))
        check_choices(self.activation, self.norm)
        true_or_false(self.masked, "DeepSet: masked")
        if self.masked and self.norm == "batch":
            raise ValueError(
                "DeepSet(masked=True, norm='batch') would average over padding; use norm='layer'."
            )

    def build(self, event_shape: tuple[int, ...]) -> Embedding:
        """An untrained embedding of sets of that shape."""
        numbers = (*event_shape, 1, 1)[1] - self.masked
        if len(event_shape) not in ((2,) if self.masked else (1, 2)) or numbers < 1:
            wanted = "(members, numbers + 1)" if self.masked else "(members,) or (members, numbers)"
            raise ValueError(
                f"DeepSet(masked={self.masked}) needs observations of shape {wanted}, got "
                f"{event_shape}. Sets of varying size are made by masked_set(values, members)."
            )
        each = nn.Sequential(*dense((numbers, *self.hidden), self.activation, self.norm))
        if self.masked:
            body = _MaskedMean(each)
            return Embedding(_StandardizeMembers(numbers), body, 2 * self.hidden[-1] + 1)
        return Embedding(Standardize(event_shape, shared=(0,)), _Mean(each), self.hidden[-1])


def build_embedding(specification: Any, event_shape: tuple[int, ...]) -> Embedding:
    """Build a specification, or call a user's factory and wrap what it returns.

    Parameters
    ----------
    specification : Dense, DeepSet, Convolutional, ResNet, callable or None
        None leaves the numbers of an observation as they are. A callable
        ``(event_shape) -> nn.Module`` makes a module from standardized observations
        ``(n, *event)`` to features ``(n, F)``.
    event_shape : tuple of int
        Shape of one observation.

    Returns
    -------
    Embedding

    Raises
    ------
    TypeError
        If it is none of these.
    ValueError
        If the shape does not suit it, or a module's output is not ``(n, F)``.
    """
    if specification is None:
        return Embedding(Standardize(event_shape), Rows(), math.prod(event_shape))
    check_value("embedding", specification)
    # One that holds another embedding says so; a network holds one too.
    if hasattr(specification, "embedding") and not getattr(specification, "is_embedding", False):
        raise TypeError(
            f"{type(specification).__name__} is a network, not an embedding: use Dense(...) for "
            "dense layers over x."
        )
    if hasattr(specification, "build"):
        return specification.build(event_shape)
    built = isinstance(specification, nn.Module) or not callable(specification)
    module = None if built else specification(event_shape)
    if not isinstance(module, nn.Module):
        raise TypeError(
            "embedding must be a specification such as DeepSet() or a function (event_shape) -> "
            f"nn.Module, got {type(specification).__name__}. Wrap a module that you have already "
            "built: embedding=lambda event_shape: module."
        )
    return Embedding(Standardize(event_shape), module, _features_of(module, event_shape))


def masked_set(values: Any, members: int) -> np.ndarray:
    """One set of varying size, as `DeepSet` with ``masked=True`` takes it.

    Parameters
    ----------
    values : array, shape (m,) or (m, d)
        The members that are there; m may be zero if the array is ``(0, d)``.
    members : int
        M, the largest size of a set.

    Returns
    -------
    ndarray, shape (members, d + 1)
        The values, padded with zeros, and a last column that is 1 where there is a member.

    Raises
    ------
    TypeError, ValueError
        If they are no real numbers, there are more than M members, or more than two axes.

    Examples
    --------
    >>> from pymc_nre.networks import masked_set
    >>> masked_set([0.5, -1.0], members=3)
    array([[ 0.5,  1. ],
           [-1. ,  1. ],
           [ 0. ,  0. ]])
    """
    values = real_array(values, "masked_set: values")
    members = whole_number(members, "masked_set: members")
    values = values[:, None] if values.ndim == 1 else values
    if values.ndim != 2 or len(values) > members:
        raise ValueError(
            f"masked_set: values: expected at most {members} members, shape (m,) or (m, d), got "
            f"{values.shape}. Raise members, for all sets alike."
        )
    padded = np.zeros((members, values.shape[1] + 1))
    padded[: len(values), :-1], padded[: len(values), -1] = values, 1.0
    return padded


class Rows(nn.Module):
    """All numbers of an observation in one row; a scalar is a row of one."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) if x.ndim > 1 else x[:, None]


class _Mean(nn.Module):
    def __init__(self, each: nn.Module) -> None:
        super().__init__()
        self.each = each

    def forward(self, x: Tensor) -> Tensor:
        return self.each(x if x.ndim == 3 else x[..., None]).mean(-2)


class _MaskedMean(nn.Module):
    def __init__(self, each: nn.Module) -> None:
        super().__init__()
        self.each = each

    def forward(self, x: Tensor) -> Tensor:
        there = x[..., -1:]
        members = there.sum(-2)
        mean = (self.each(x[..., :-1]) * there).sum(-2) / members.clamp(min=1)
        return torch.cat([mean, mean * members / x.shape[-2], members.log1p()], -1)


class _StandardizeMembers(nn.Module):
    """Moments of the members that are there; the mask passes through."""

    def __init__(self, numbers: int) -> None:
        super().__init__()
        self.numbers = Standardize((numbers,))

    def fit(self, values: Tensor) -> None:
        """Take the moments of sets ``(n, M, d + 1)``."""
        _check_mask(values[..., -1])
        members = _members(values)
        if not len(members):
            raise ValueError("All masked sets are empty: there is no member to learn from.")
        self.numbers.fit(members)

    def bear_tails(self, values: Tensor) -> None:
        """After `fit` to the same sets: spread those numbers of members that have heavy tails."""
        self.numbers.bear_tails(_members(values))

    def forward(self, values: Tensor) -> Tensor:
        there = values[..., -1:]
        if not self.training:  # data that training has not seen
            _check_mask(there)
        # Padding may hold any number, also one that would overflow and make 0 * inf.
        numbers = self.numbers(values[..., :-1]).where(there > 0, 0.0)
        return torch.cat([numbers, there], -1)


def _members(sets: Tensor) -> Tensor:
    return sets[..., :-1][sets[..., -1] == 1]


def _check_mask(there: Tensor) -> None:
    bad = (there != 0) & (there != 1)
    if bad.any():
        raise ValueError(
            "The last column of a masked set must be 1 for members and 0 for padding, got "
            f"{there[bad][0].item():.4g}. Make sets by masked_set."
        )


def _features_of(module: nn.Module, event_shape: tuple[int, ...]) -> int:
    rows = 3
    like = next(module.parameters(), torch.zeros(()))
    was_training = module.training
    with torch.no_grad():
        out = module.eval()(like.new_zeros(rows, *event_shape))
    module.train(was_training)
    if out.ndim != 2 or len(out) != rows:
        raise ValueError(
            f"An embedding must map observations (n, {', '.join(map(str, event_shape))}) to "
            f"features (n, F); given {rows} observations it returned shape {tuple(out.shape)}."
        )
    return out.shape[1]
