"""Turn a trained network into a program and weights that the kernels run.

The networks that `pymc_nre.networks` builds are of this family; the part that embeds an
observation stays in torch, which evaluates it once for each data set. A user's own module has
no program, and is left to torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from ..networks.base import RatioNetwork, ResidualBlock, SplitNetwork
from ..networks.correction import QuadraticCorrection
from ..networks.embeddings import Rows
from ..networks.ensemble import Ensemble
from ..networks.layers import ACTIVATIONS, BatchNorm, Standardize
from .program import Exported, Kind, Program, Step

__all__ = ["export"]

_NAMES = {module: name for name, module in ACTIVATIONS.items()}


def export(network: RatioNetwork, *, features: bool) -> Exported | None:
    """The program and weights of a network; None if it has no such form.

    Parameters
    ----------
    network : RatioNetwork
        In evaluation mode.
    features : bool
        Whether the kernels take ``network.embed(x)`` for x, and not observations. That is the
        only way for networks with an embedding.
    """
    # Types are asked for exactly: a subclass may compute something else.
    if type(network) is QuadraticCorrection:
        inner = export(network.inner, features=features)
        correction = _array(network.to_vector())
        return inner and replace(inner, moments=np.concatenate([inner.moments, correction]))
    if type(network) is Ensemble:
        return _export_ensemble(network, features)
    if type(network) is not SplitNetwork or type(network.standardize_theta) is not Standardize:
        return None
    modules = list(_flat(network.body))
    known = all(type(module) in _WRITERS for module in modules)
    if not known or not (features or takes_numbers(network)):
        return None
    writer = _Writer()
    writer.first(network, features)
    for module in modules:
        _WRITERS[type(module)](writer, module)
    if len(writer.activations) != 1:
        return None
    moments = [network.standardize_theta] + ([] if features else [network.standardize_x])
    (activation,) = writer.activations
    return Exported(
        Program(tuple(writer.steps), activation),
        np.concatenate([_array(part) for m in moments for part in (m.mean, m.scale)]),
        np.concatenate(writer.weights),
    )


def _export_ensemble(network: Ensemble, features: bool) -> Exported | None:
    """One program for all members; None if they have none, or not the same.

    Kernels know neither ensembles of ensembles nor members that are corrected each by itself.
    """
    if any(type(member) is not SplitNetwork for member in network.members):
        return None
    members = [export(member, features=features) for member in network.members]
    if any(member is None or member.program != members[0].program for member in members):
        return None
    program = replace(members[0].program, members=len(members), mean_of=network.mean_of)
    moments, weights = (
        np.concatenate([getattr(member, name) for member in members])
        for name in ("moments", "weights")
    )
    return Exported(program, moments, weights)


def takes_numbers(network: RatioNetwork) -> bool:
    """Whether the numbers of an observation reach the first layer as they are."""
    return (
        type(network) is SplitNetwork
        and type(network.embedding) is Rows
        and type(network.standardize_x) is Standardize
        and not network.standardize_x.shared
        and network.standardize_x.unit is None
    )


class _Keep(nn.Module):
    """Stands for the begin of a residual block."""


class _Add(nn.Module):
    """Stands for its end."""


def _flat(module: nn.Module) -> Iterator[nn.Module]:
    """Modules one after another, those of residual blocks between a _Keep and an _Add."""
    if type(module) is nn.Sequential:
        for child in module:
            yield from _flat(child)
    elif type(module) is ResidualBlock:
        yield _Keep()
        yield from _flat(module.inner)
        yield _Add()
    else:
        yield module


class _Writer:
    """Collects steps and weights."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.activations: set[str] = set()
        self.weights: list[np.ndarray] = []
        self.width = 0

    def _write(self, kind: Kind, after: int, *weights: Tensor) -> None:
        start = sum(len(part) for part in self.weights)
        self.steps.append(Step(kind, self.width, after, start))
        self.weights.extend(_array(part) for part in weights)
        self.width = after

    def first(self, network: SplitNetwork, features: bool) -> None:
        of_theta, of_x = network.theta_in.weight, network.x_in.weight
        self.width = 0 if features else network.x_in.in_features
        if features:
            self._write(Kind.FEATURES, len(of_x), of_theta.T)
        else:
            self._write(Kind.JOIN, len(of_x), of_theta.T, network.x_in.bias, of_x.T)

    def linear(self, module: nn.Linear) -> None:
        self._write(Kind.LINEAR, module.out_features, module.weight, module.bias)

    def batch_norm(self, module: BatchNorm) -> None:
        factor = module.weight / torch.sqrt(module.running_var + module.eps)
        self._write(Kind.AFFINE, self.width, module.running_mean, factor, module.bias)

    def layer_norm(self, module: nn.LayerNorm) -> None:
        epsilon = torch.tensor([module.eps], dtype=torch.float64)
        self._write(Kind.LAYER_NORM, self.width, module.weight, module.bias, epsilon)

    def activation(self, module: nn.Module) -> None:
        self.activations.add(_NAMES[type(module)])
        self._write(Kind.ACTIVATE, self.width)

    def keep(self, module: _Keep) -> None:
        self._write(Kind.KEEP, self.width)

    def add(self, module: _Add) -> None:
        self._write(Kind.ADD, self.width)


_WRITERS: dict[type[nn.Module], Callable[[_Writer, nn.Module], None]] = {
    nn.Linear: _Writer.linear,
    BatchNorm: _Writer.batch_norm,
    nn.LayerNorm: _Writer.layer_norm,
    _Keep: _Writer.keep,
    _Add: _Writer.add,
    **dict.fromkeys(_NAMES, _Writer.activation),
}


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().double().numpy().ravel()
