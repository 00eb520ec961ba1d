r"""Networks that map parameters and an observation to a logit.

A network is two functions: ``embed(x)`` turns observations into features, and
``head(theta, features)`` turns parameters and features into logits. Whoever evaluates one
observation against many parameters (contrastive losses, MCMC) embeds it once.

For the family built here the embedding goes as far as it can. The first dense layer is
linear in its input, so its matrix splits, :math:`W\,[\theta, x] = W_\theta\theta + W_x x`:
``embed`` ends with :math:`W_x x + b`, and ``head`` begins by adding :math:`W_\theta\theta`.
Every network standardizes its inputs by the moments of the training data, which it keeps as
buffers; observations with heavy tails go through a symmetric logarithm before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch import Tensor, nn

from .layers import Embedding, Standardize, normalization

__all__ = ["RatioNetwork"]

Factory = Callable[[int, tuple[int, ...]], nn.Module]


class RatioNetwork(nn.Module):
    """Base of all networks: standardized inputs, then ``embed`` and ``head``.

    Parameters
    ----------
    theta_size : int
        D, the length of the packed parameter vector.
    event_shape : tuple of int
        Shape of one observation.
    standardize_x : nn.Module, optional
        By default each number of an observation is standardized by itself.
    """

    evaluations = 1  # of a small network for each logit; memory is counted by it
    kept_weights: tuple[str, ...] = ()  # names of those that training left as they were

    def __init__(
        self,
        theta_size: int,
        event_shape: tuple[int, ...],
        standardize_x: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.event_shape = tuple(event_shape)
        self.standardize_theta = Standardize((theta_size,))
        self.standardize_x = standardize_x or Standardize(self.event_shape)

    def fit_standardization(self, theta: Tensor, x: Tensor) -> None:
        """Take the moments of the training data, theta ``(n, D)`` and x ``(n, *event)``."""
        self.standardize_theta.fit(theta)
        self.standardize_x.fit(x)
        if hasattr(self.standardize_x, "bear_tails"):
            self.standardize_x.bear_tails(x)

    def embed(self, x: Tensor) -> Tensor:
        """Features ``(n, F)`` of observations ``(n, *event)``."""
        raise NotImplementedError

    def head(self, theta: Tensor, features: Tensor) -> Tensor:
        """Logits ``(*)`` of parameters ``(*, D)`` with features ``(*, F)``, broadcast."""
        raise NotImplementedError

    def forward(self, theta: Tensor, x: Tensor) -> Tensor:
        """Logits ``(n,)`` of parameters ``(1 or n, D)`` and observations ``(n, *event)``."""
        return self.head(theta, self.embed(x))


def keep_in_mind(network: RatioNetwork, names: Iterable[str]) -> None:
    """Note which weights training left as they were; nothing where it trained all of them.

    What a network is, to a checkpoint, depends on whatever is noted in it.
    """
    if names := tuple(names):
        network.kept_weights = names


def floating(network: nn.Module) -> Tensor:
    """A buffer that has the network's precision and device; integers, which count, have none."""
    return next(buffer for buffer in network.buffers() if buffer.is_floating_point())


class SplitNetwork(RatioNetwork):
    """First layer split between theta and features of x; ``body`` maps its sum to the logit."""

    def __init__(
        self,
        theta_size: int,
        event_shape: tuple[int, ...],
        width: int,
        body: nn.Module,
        embedding: Embedding,
    ) -> None:
        super().__init__(theta_size, event_shape, embedding.standardize)
        self.theta_in = nn.Linear(theta_size, width, bias=False)
        self.x_in = nn.Linear(embedding.features, width)
        self.body = body
        self.embedding = embedding.body

    def embed(self, x: Tensor) -> Tensor:
        return self.x_in(self.embedding(self.standardize_x(x)))

    def head(self, theta: Tensor, features: Tensor) -> Tensor:
        return self.body(self.theta_in(self.standardize_theta(theta)) + features).squeeze(-1)


class ResidualBlock(nn.Module):
    def __init__(self, width: int, activation: type[nn.Module], norm: str | None) -> None:
        super().__init__()
        before = [[normalization(norm, width)] if norm else [] for _ in range(2)]
        self.inner = nn.Sequential(
            *before[0],
            activation(),
            nn.Linear(width, width),
            *before[1],
            activation(),
            nn.Linear(width, width),
        )

    def forward(self, h: Tensor) -> Tensor:
        return h + self.inner(h)
