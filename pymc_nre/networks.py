r"""Networks that map parameters and an observation to a logit.

A network is two functions: ``embed(x)`` turns observations into features, and
``head(theta, features)`` turns parameters and features into logits. Whoever evaluates one
observation against many parameters (contrastive losses, MCMC) embeds it once.

For the family built here the embedding goes as far as it can. The first dense layer is
linear in its input, so its matrix splits, :math:`W\,[\theta, x] = W_\theta\theta + W_x x`:
``embed`` ends with :math:`W_x x + b`, and ``head`` begins by adding :math:`W_\theta\theta`.

Users write *specifications*, small frozen values such as ``MLP((64, 64))``; modules are
built when the sizes are known. A user's own network is any callable
``(theta_size, event_shape) -> nn.Module``. Every network standardizes its inputs by the
moments of the training data, which it keeps as buffers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["MLP", "RatioNetwork", "ResidualMLP", "build", "specification_from_dict"]

ACTIVATIONS: Mapping[str, type[nn.Module]] = {
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "tanh": nn.Tanh,
    "elu": nn.ELU,
    "softplus": nn.Softplus,
    "relu": nn.ReLU,
}

Factory = Callable[[int, tuple[int, ...]], nn.Module]


@dataclass(frozen=True)
class MLP:
    """A multilayer perceptron over standardized parameters and observations.

    Parameters
    ----------
    hidden : tuple of int
        Width of each hidden layer.
    activation : str
        One of ``silu``, ``gelu``, ``tanh``, ``elu``, ``softplus`` (smooth, as NUTS wants
        it) or ``relu``.

    Examples
    --------
    >>> from pymc_nre.networks import MLP
    >>> MLP((32, 32), activation="tanh")
    MLP(hidden=(32, 32), activation='tanh')
    """

    hidden: tuple[int, ...] = (64, 64)
    activation: str = "silu"

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden", tuple(self.hidden))
        if not self.hidden or min(self.hidden) < 1:
            raise ValueError(
                f"MLP needs at least one hidden layer of width >= 1, got hidden={self.hidden}."
            )
        _check_activation(self.activation)

    def build(self, theta_size: int, event_shape: tuple[int, ...]) -> RatioNetwork:
        """An untrained network for ``theta_size`` numbers and observations of that shape."""
        layers: list[nn.Module] = [ACTIVATIONS[self.activation]()]
        for before, after in zip(self.hidden[:-1], self.hidden[1:], strict=True):
            layers += [nn.Linear(before, after), ACTIVATIONS[self.activation]()]
        body = nn.Sequential(*layers, nn.Linear(self.hidden[-1], 1))
        return _SplitNetwork(theta_size, event_shape, self.hidden[0], body)


@dataclass(frozen=True)
class ResidualMLP:
    """Blocks of two dense layers, each added to its input: for harder ratios.

    Parameters
    ----------
    width : int
        Width of every layer.
    blocks : int
        Number of residual blocks.
    activation : str
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

    def __post_init__(self) -> None:
        if self.width < 1 or self.blocks < 1:
            raise ValueError(
                "ResidualMLP needs width >= 1 and blocks >= 1, "
                f"got width={self.width}, blocks={self.blocks}."
            )
        _check_activation(self.activation)

    def build(self, theta_size: int, event_shape: tuple[int, ...]) -> RatioNetwork:
        """An untrained network for ``theta_size`` numbers and observations of that shape."""
        activation = ACTIVATIONS[self.activation]
        blocks = [_ResidualBlock(self.width, activation) for _ in range(self.blocks)]
        body = nn.Sequential(*blocks, activation(), nn.Linear(self.width, 1))
        return _SplitNetwork(theta_size, event_shape, self.width, body)


SPECIFICATIONS = {kind.__name__: kind for kind in (MLP, ResidualMLP)}


class Standardize(nn.Module):
    """``(v - mean) / scale`` over the trailing axes, with the training data's moments."""

    mean: Tensor
    scale: Tensor

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("scale", torch.ones(shape))

    def fit(self, values: Tensor) -> None:
        """Take the moments of ``(n, *shape)``; what does not vary keeps its scale."""
        values = values.double()
        spread = values.std(0, correction=0)
        # Rounding leaves a spread of about eps times the mean in a constant column.
        varies = spread > 1e-12 * values.abs().amax(0).clamp(min=1e-300)
        self.mean.copy_(values.mean(0))
        self.scale.copy_(torch.where(varies, spread, torch.ones_like(spread)))

    def forward(self, values: Tensor) -> Tensor:
        return (values - self.mean) / self.scale


class RatioNetwork(nn.Module):
    """Base of all networks: standardized inputs, then ``embed`` and ``head``.

    Parameters
    ----------
    theta_size : int
        D, the length of the packed parameter vector.
    event_shape : tuple of int
        Shape of one observation.
    """

    def __init__(self, theta_size: int, event_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.event_shape = tuple(event_shape)
        self.standardize_theta = Standardize((theta_size,))
        self.standardize_x = Standardize(self.event_shape)

    def fit_standardization(self, theta: Tensor, x: Tensor) -> None:
        """Take the moments of the training data, theta ``(n, D)`` and x ``(n, *event)``."""
        self.standardize_theta.fit(theta)
        self.standardize_x.fit(x)

    def embed(self, x: Tensor) -> Tensor:
        """Features ``(n, F)`` of observations ``(n, *event)``."""
        raise NotImplementedError

    def head(self, theta: Tensor, features: Tensor) -> Tensor:
        """Logits ``(*)`` of parameters ``(*, D)`` with features ``(*, F)``, broadcast."""
        raise NotImplementedError

    def forward(self, theta: Tensor, x: Tensor) -> Tensor:
        """Logits ``(n,)`` of parameters ``(1 or n, D)`` and observations ``(n, *event)``."""
        return self.head(theta, self.embed(x))


class _SplitNetwork(RatioNetwork):
    """First layer split between theta and x; ``body`` maps its sum to the logit."""

    def __init__(
        self, theta_size: int, event_shape: tuple[int, ...], width: int, body: nn.Module
    ) -> None:
        super().__init__(theta_size, event_shape)
        self.theta_in = nn.Linear(theta_size, width, bias=False)
        self.x_in = nn.Linear(math.prod(event_shape), width)
        self.body = body

    def embed(self, x: Tensor) -> Tensor:
        return self.x_in(self.standardize_x(x).reshape(len(x), -1))

    def head(self, theta: Tensor, features: Tensor) -> Tensor:
        return self.body(self.theta_in(self.standardize_theta(theta)) + features).squeeze(-1)


class _ResidualBlock(nn.Module):
    def __init__(self, width: int, activation: type[nn.Module]) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            activation(), nn.Linear(width, width), activation(), nn.Linear(width, width)
        )

    def forward(self, h: Tensor) -> Tensor:
        return h + self.inner(h)


class _ForeignNetwork(RatioNetwork):
    """A user's module behind our standardization, with its own ``embed`` if it has one."""

    def __init__(self, theta_size: int, event_shape: tuple[int, ...], module: nn.Module) -> None:
        super().__init__(theta_size, event_shape)
        self.module = module
        self.splits = hasattr(module, "embed") and hasattr(module, "head")

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
    """A JSON-ready description; ``{"type": "custom"}`` for a user's own network."""
    if type(specification) in SPECIFICATIONS.values():
        return {"type": type(specification).__name__, **asdict(specification)}
    return {"type": "custom"}


def specification_from_dict(description: Mapping[str, Any]) -> MLP | ResidualMLP:
    """The specification that `specification_to_dict` described."""
    arguments = dict(description)
    return SPECIFICATIONS[arguments.pop("type")](**arguments)


def _check_activation(name: str) -> None:
    if name not in ACTIVATIONS:
        raise ValueError(f"Unknown activation {name!r}; expected one of {', '.join(ACTIVATIONS)}.")


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
