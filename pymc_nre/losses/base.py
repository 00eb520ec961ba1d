r"""What a loss is, and what it says of itself.

A loss is a frozen, callable value, ``loss(net, theta, x)``, where ``net.embed(x)`` turns
observations into features, once each, and ``net.head(theta, features)`` gives logits. It
states the facts that the rest of the library reads:

``reference``
    What the likelihood is divided by: ``"evidence"``, or for `CARL` ``"fixed"``, the
    likelihood at fixed parameters, or for `DNRE` ``"pair"``, that at any others. A loss with a
    fixed reference carries ``reference_simulations`` and is called with a third batch, drawn from
    their ``x``. One of pairs is ``antisymmetric`` or not, and its network takes both parameter
    vectors as one, ``(*, 2 D)``.
``normalized``
    Whether the optimal logit is the log ratio itself, or only up to a function of ``x``.
``chance``
    The loss of a network that has learned nothing (logit zero everywhere).
``minimum_batch``
    The smallest batch that the loss can be computed on.
``batch_size``, ``learning_rate``
    What it trains best with (optional: 256 and 0.01), measured in docs/training.md.
``near``, ``scales``
    How many candidates near the true parameters it wants for each pair, and how near, in standard
    deviations of the prior (optional: none). It is then called with two parts more, these
    candidates ``(n, near, D)`` and the log prior densities ``(n, 1 + near)`` of the true
    parameters and of them, up to a constant.
"""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor

from ..runtime.arrays import true_or_false

__all__ = ["Loss", "checked_loss", "is_known_loss"]


class Network(Protocol):
    """What a loss needs of a network."""

    def embed(self, x: Tensor) -> Tensor:
        """Features ``(n, F)`` of observations ``(n, *event)``."""

    def head(self, theta: Tensor, features: Tensor) -> Tensor:
        """Logits ``(*)`` of parameters ``(*, D)`` with features ``(*, F)``."""


class Loss(Protocol):
    """What `pymc_nre.train` needs of a loss."""

    reference: str
    normalized: bool
    chance: float
    minimum_batch: int

    def __call__(self, net: Network, theta: Tensor, x: Tensor, *others: Tensor) -> Tensor:
        """Scalar loss of joint pairs, theta ``(n, D)`` and x ``(n, *event)``."""


_ASKED = ("reference", "normalized", "chance", "minimum_batch")


def checked_loss(loss: Any) -> Any:
    """The same; TypeError unless it is a loss."""
    if isinstance(loss, type):
        kind = loss.__name__
        raise TypeError(f"loss must be a value, got the class {kind}. Make one: loss={kind}().")
    missing = [name for name in _ASKED if not hasattr(loss, name)]
    if missing or not callable(loss):
        raise TypeError(
            f"loss must be one of pymc_nre.losses, such as NREC(), or a callable value with "
            f"{', '.join(_ASKED)}; got {loss!r}, which has no {', '.join(missing) or '__call__'}."
        )
    true_or_false(loss.normalized, f"loss: normalized of {type(loss).__name__}")
    return loss


def is_known_loss(loss: Any) -> bool:
    """Whether it is one of this package; what is a user's own may draw random numbers."""
    parts = loss, getattr(loss, "loss", loss)
    return all(type(one).__module__.rpartition(".")[0] == __package__ for one in parts)
