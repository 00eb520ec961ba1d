"""How users say which network: small frozen values, or factories of their own.

Users write *specifications*, such as ``MLP((64, 64))``; modules are built when the sizes are known.
A user's own network is any callable ``(theta_size, event_shape) -> nn.Module``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from ..runtime.arrays import whole_number
from .base import Factory, RatioNetwork, ResidualBlock
from .beside import Beside
from .convolutions import Convolutional, ResNet
from .embeddings import DeepSet, Dense, build_embedding
from .featured import split_network
from .incomplete import Incomplete
from .layers import (
    ACTIVATIONS,
    Specification,
    Standardize,
    check_choices,
    check_value,
    checked_widths,
    dense,
    normalization,
)

__all__ = [
    "MLP",
    "ResidualMLP",
    "build",
    "curved",
    "describes",
    "is_known_network",
    "make_curved",
    "specification_from_dict",
    "without_weights",
]


@dataclass(frozen=True, repr=False)
class MLP(Specification):
    """A multilayer perceptron over standardized parameters and observations.

    Parameters
    ----------
    hidden : tuple of int
        Width of each hidden layer.
    activation : str
        One of ``silu``, ``gelu``, ``tanh``, ``elu``, ``softplus`` (smooth, as NUTS wants
        it) or ``relu``.
    norm : {None, "batch", "layer"}
        Normalization before each activation.
    embedding : Dense, DeepSet, Convolutional, ResNet or callable, optional
        What turns an observation into features before it meets the parameters; by default
        its numbers are taken as they are. A callable is a factory of your own,
        ``(event_shape) -> nn.Module``.
    features : callable, optional
        ``features(theta, x)`` of torch tensors, parameters ``(n, D)`` and observations
        ``(n, *event)`` in their own units, gives ``(n, F)`` features for the first layer: what you
        know that matters, such as ``theta - x``. Parameters are packed in their order, conditions
        stand behind the numbers of an observation, which is one vector then. Such networks are
        loaded by ``load(path, network=MLP(features=...))``.

    Examples
    --------
    >>> from pymc_nre.networks import MLP, DeepSet
    >>> MLP((32, 32), activation="tanh")
    MLP(hidden=(32, 32), activation='tanh')
    >>> network = MLP(embedding=DeepSet((64, 32)))
    """

    hidden: tuple[int, ...] = (64, 64)
    activation: str = "silu"
    norm: str | None = None
    embedding: Any = None
    features: Callable[..., Any] | None = None

    def __post_init__(self) -> None:
        self._take()
        object.__setattr__(self, "hidden", checked_widths("MLP", "hidden", self.hidden))
        check_choices(self.activation, self.norm)
        _check_features(self.features, "MLP")

    def build(self, theta_size: int, event_shape: tuple[int, ...]) -> RatioNetwork:
        """An untrained network for ``theta_size`` numbers and observations of that shape."""
        first = [normalization(self.norm, self.hidden[0])] if self.norm else []
        body = nn.Sequential(
            *first,
            ACTIVATIONS[self.activation](),
            *dense(self.hidden, self.activation, self.norm),
            nn.Linear(self.hidden[-1], 1),
        )
        embedding = build_embedding(self.embedding, event_shape)
        parts = theta_size, event_shape, self.hidden[0], body, embedding
        return split_network(self.features, *parts)


@dataclass(frozen=True, repr=False)
class ResidualMLP(Specification):
    """Blocks of two dense layers, each added to its input: for harder ratios.

    Parameters
    ----------
    width : int
        Width of every layer.
    blocks : int
        Number of residual blocks.
    activation, norm, embedding, features
        As for `MLP`.

    Examples
    --------
    >>> from pymc_nre.networks import ResidualMLP
    >>> ResidualMLP(width=128, blocks=3)
    ResidualMLP(width=128, blocks=3, activation='silu')
    """

    width: int = 64
    blocks: int = 2
    activation: str = "silu"
    norm: str | None = None
    embedding: Any = None
    features: Callable[..., Any] | None = None

    def __post_init__(self) -> None:
        self._take("width", "blocks")
        _check_features(self.features, "ResidualMLP")
        if self.width < 1 or self.blocks < 1:
            raise ValueError(
                "ResidualMLP needs width >= 1 and blocks >= 1, "
                f"got width={self.width}, blocks={self.blocks}."
            )
        check_choices(self.activation, self.norm)

    def build(self, theta_size: int, event_shape: tuple[int, ...]) -> RatioNetwork:
        """An untrained network for ``theta_size`` numbers and observations of that shape."""
        activation = ACTIVATIONS[self.activation]
        blocks = [ResidualBlock(self.width, activation, self.norm) for _ in range(self.blocks)]
        body = nn.Sequential(*blocks, activation(), nn.Linear(self.width, 1))
        embedding = build_embedding(self.embedding, event_shape)
        parts = theta_size, event_shape, self.width, body, embedding
        return split_network(self.features, *parts)


def _check_features(features: Any, kind: str) -> None:
    if features is not None and (not callable(features) or isinstance(features, type)):
        raise TypeError(
            f"{kind}: features must be a function features(theta, x) of torch tensors, got "
            f"{features!r}."
        )


_KINDS = (MLP, ResidualMLP, Dense, DeepSet, Convolutional, ResNet, Beside, Incomplete)
SPECIFICATIONS = {kind.__name__: kind for kind in _KINDS}


class _ForeignNetwork(RatioNetwork):
    """A user's module behind our standardization, with its own ``embed`` if it has one."""

    def __init__(self, theta_size: int, event_shape: tuple[int, ...], module: nn.Module) -> None:
        super().__init__(theta_size, event_shape)
        self.module = module
        # Methods, that is: layers may have these names too.
        self.splits = all(hasattr(type(module), method) for method in ("embed", "head"))

    def embed(self, x: Tensor) -> Tensor:
        x = self.standardize_x(x)
        return self.module.embed(x) if self.splits else x.reshape(len(x), -1)

    def head(self, theta: Tensor, features: Tensor) -> Tensor:
        theta = self.standardize_theta(theta)
        lead = torch.broadcast_shapes(theta.shape[:-1], features.shape[:-1])
        theta = theta.expand(*lead, theta.shape[-1]).reshape(-1, theta.shape[-1])
        features = features.expand(*lead, features.shape[-1]).reshape(-1, features.shape[-1])
        if self.splits:
            return self.module.head(theta, features).reshape(lead)
        x = features.reshape(-1, *self.event_shape)
        return self.module(theta, x).reshape(lead)


def build(
    network: MLP | ResidualMLP | Factory, theta_size: int, event_shape: tuple[int, ...]
) -> RatioNetwork:
    """Build a specification, or call a user's factory and wrap what it returns.

    Parameters
    ----------
    network : MLP, ResidualMLP or callable
        A specification, or a factory ``(theta_size, event_shape) -> nn.Module`` whose module
        maps standardized theta ``(n, D)`` and x ``(n, *event)`` to ``n`` logits. A module
        with methods ``embed(x) -> (n, F)`` and ``head(theta, features)`` has its embedding
        evaluated once for each observation.
    theta_size : int
        D, the length of the packed parameter vector.
    event_shape : tuple of int
        Shape of one observation.

    Returns
    -------
    RatioNetwork

    Raises
    ------
    TypeError
        If ``network`` is neither, or its factory returns no module.
    ValueError
        If the module's output is not one number for each row.
    """
    check_value("network", network)
    theta_size = whole_number(theta_size, "build: theta_size")
    if isinstance(network, Dense | DeepSet | Convolutional | ResNet):
        raise TypeError(
            f"{type(network).__name__} is an embedding of x, not a network: use "
            f"network=MLP(embedding={network!r})."
        )
    if hasattr(network, "build"):
        return network.build(theta_size, event_shape)
    if isinstance(network, nn.Module) or not callable(network):
        raise TypeError(
            "network must be a specification such as MLP((64, 64)) or a function "
            f"(theta_size, event_shape) -> nn.Module, got {type(network).__name__}. "
            "Wrap a module that you have already built: "
            "network=lambda theta_size, event_shape: module."
        )
    module = network(theta_size, event_shape)
    if isinstance(module, RatioNetwork):
        return module
    if not isinstance(module, nn.Module):
        raise TypeError(
            f"The network factory must return an nn.Module, got {type(module).__name__}."
        )
    foreign = _ForeignNetwork(theta_size, event_shape, module)
    _check_output(foreign, theta_size, event_shape)
    return foreign


def specification_to_dict(specification: Any) -> dict[str, Any]:
    """A JSON-ready description; ``{"type": "custom"}`` where any part is a user's own."""
    if type(specification) not in SPECIFICATIONS.values():
        return {"type": "custom"}
    description: dict[str, Any] = {"type": type(specification).__name__}
    for field in fields(specification):
        value = getattr(specification, field.name)
        if callable(value) and field.name == "features":
            return {"type": "custom"}
        if value is None and field.name == "features":
            continue  # older versions do not know it
        if field.name == "embedding" and value is not None:
            value = specification_to_dict(value)
            if value["type"] == "custom":
                return value
        description[field.name] = value
    return description


def is_known_network(network: Any) -> bool:
    """Whether all of a network is built here; what is a user's own may draw random numbers."""
    return specification_to_dict(network)["type"] != "custom"


def specification_from_dict(description: Mapping[str, Any]) -> Any:
    """The specification that `specification_to_dict` described.

    Raises
    ------
    ValueError
        If it describes none that this version knows.
    """
    arguments = dict(description)
    named = arguments.pop("type", None)
    if arguments.get("embedding") is not None:
        if not isinstance(arguments["embedding"], Mapping):
            raise ValueError(f"an embedding is described by fields, not {arguments['embedding']!r}")
        arguments["embedding"] = specification_from_dict(arguments["embedding"])
    if named not in tuple(SPECIFICATIONS):
        raise ValueError(f"there is no network or embedding {named!r}")
    try:
        return SPECIFICATIONS[named](**arguments)
    except TypeError as error:
        raise ValueError(f"there is no such {named}: {error}") from error


def describes(specification: Any, network: RatioNetwork, theta_size: int) -> bool:
    """Whether a specification builds networks as this one, but for their weights.

    One with parts of the user's own is believed.
    """
    if specification_to_dict(specification)["type"] == "custom":
        return True
    built = without_weights(specification)(theta_size, network.event_shape)
    try:
        make_curved(built, curved(network))
    except ValueError:
        return False
    of_built, of_network = built.state_dict(), network.state_dict()
    same = repr(built) == repr(network) and of_built.keys() == of_network.keys()
    return same and all(of_built[name].shape == of_network[name].shape for name in of_built)


def curved(network: nn.Module) -> list[str]:
    """Names of the modules that spread heavy tails before they standardize."""
    modules = network.named_modules()
    return [n for n, part in modules if isinstance(part, Standardize) and part.unit is not None]


def make_curved(network: nn.Module, names: Iterable[str]) -> None:
    """Give modules the buffers of curves.

    Raises
    ------
    ValueError
        If a name is not that of a module that standardizes.
    """
    modules = dict(network.named_modules())
    for name in names:
        if not isinstance(modules.get(name), Standardize):
            raise ValueError(f"there is no {name!r} that standardizes")
        modules[name].make_curved()


def without_weights(specification: Any) -> Callable[[int, tuple[int, ...]], RatioNetwork]:
    """A builder of networks on a device that keeps no numbers, and draws none."""

    def build_it(theta_size: int, event_shape: tuple[int, ...]) -> RatioNetwork:
        with torch.device("meta"):
            return specification.build(theta_size, event_shape)

    return build_it


def _check_output(network: _ForeignNetwork, theta_size: int, event_shape: tuple[int, ...]) -> None:
    rows = 3
    like = next(network.module.parameters(), torch.zeros(()))
    theta, x = like.new_zeros(rows, theta_size), like.new_zeros(rows, *event_shape)
    was_training = network.module.training
    with torch.no_grad():
        module = network.module.eval()
        out = module.head(theta, module.embed(x)) if network.splits else module(theta, x)
    module.train(was_training)
    if out.numel() != rows:
        raise ValueError(
            f"The network must return one logit for each row: given theta {tuple(theta.shape)} "
            f"and x {tuple(x.shape)} it returned shape {tuple(out.shape)}, expected ({rows},) or "
            f"({rows}, 1)."
        )
