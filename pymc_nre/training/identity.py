"""What makes a training this one and no other, so that a checkpoint goes on with nothing else.

A network is what it is made of and what it computes, whatever the function is called that makes it:
its modules, their settings and the shapes of their weights, and the logits that it gives on its
first weights. Settings can hide, in closures and in the code of a user's own module or loss; they
show in the logits and in the loss of a few pairs, computed as training does, with dropout and
moments of the batch.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..losses.base import Loss
from ..networks.base import RatioNetwork
from ..runtime.checkpoint import fingerprint
from ..runtime.random_streams import RandomStream
from .batching.batches import Batch, Batches

__all__ = ["Identity", "described"]

_PAIRS = 16
# Single precision on another processor; settings that matter change more.
_SAME = {"rtol": 1e-4, "atol": 1e-5, "equal_nan": True}
_DEEPEST = 6  # of objects in objects, as settings
_PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device)
_OF_TORCH = set(vars(nn.Module()))  # weights, hooks and the like


@dataclass(frozen=True)
class Identity:
    """Fingerprints of a training, and what its network and loss give at the start.

    Attributes
    ----------
    fingerprints : dict of str to str
        By what a user would have changed.
    formerly : dict of str to str
        Those that version 0.1 wrote.
    given : dict of str to Tensor
        By the same names, logits and the loss of a few pairs; and by "prior", where a loss wants
        candidates near the parameters, log densities of some.
    """

    fingerprints: Mapping[str, str] = field(default_factory=dict)
    formerly: Mapping[str, str] = field(default_factory=dict)
    given: Mapping[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of(
        cls, network: Any, net: RatioNetwork, loss: Loss, batches: Batches, *settings: Any
    ) -> Identity:
        """That of a network ``net`` on its first weights, which the user gave as ``network``."""
        fixed = loss.reference == "fixed"
        held_out = batches.held_out  # drawn, where batches are changed
        reference = (part.cpu().numpy() for part in held_out[2:] if fixed)
        sample, (plan, validation, random_seed, *missing) = batches.simulations, settings
        masks = [each for each in missing if each is not None]
        observed = (sample.points, sample.counts) if sample.iid else (sample.x,)
        own = getattr(network, "__qualname__", None)  # of a factory, in whatever module it is
        fingerprints = {
            "simulations": fingerprint(sample.theta, *observed, batches.size, *reference),
            "loss": fingerprint(loss, *_settings_of(loss)),
            "network": fingerprint(described(net)),
            "settings": fingerprint((plan, validation, *masks)),
            "random_seed": fingerprint(random_seed),
        }
        formerly = {"loss": fingerprint(loss), "network": fingerprint(own or network)}
        return cls(fingerprints, formerly, _given(net, loss, held_out))

    def begun_with(self, net: RatioNetwork) -> Identity:
        """That of a training which goes on from these weights, to the bit."""
        weights = [weight.cpu().numpy() for weight in net.state_dict().values()]
        begun = fingerprint(self.fingerprints["network"], *weights)
        return replace(self, fingerprints={**self.fingerprints, "network": begun})

    def differing(self, given: Mapping[str, Tensor]) -> list[str]:
        """What of ``given``, of a training before, is not what is given now."""
        return [
            name
            for name, value in given.items()
            if value.shape != self.given[name].shape
            or not torch.allclose(value.double(), self.given[name].double(), **_SAME)
        ]


def _given(net: RatioNetwork, loss: Loss, held_out: Batch) -> dict[str, Tensor]:
    """Logits and the loss of the first pairs, in training mode; the same whenever it is asked."""
    net = copy.deepcopy(net).train()
    theta, x, *others = (part[: max(_PAIRS, loss.minimum_batch)].cpu() for part in held_out)
    asked = torch.cat([theta, theta.roll(1, 0)], -1) if loss.reference == "pair" else theta
    with torch.no_grad(), RandomStream(0).in_place():
        logits = net.head(asked, net.embed(x))
        given = {"network": logits.flatten(), "loss": loss(net, theta, x, *others).reshape(1)}
    # Of candidates near the parameters its density, which another processor rounds otherwise.
    return given | ({"prior": others[-1].flatten()} if getattr(loss, "near", 0) else {})


def _settings_of(loss: Loss) -> list[str]:
    """Those of a loss whose ``repr`` tells none, which `fingerprint` is blind to."""
    return [_text(vars(loss))] if type(loss).__repr__ is object.__repr__ else []


def described(net: nn.Module) -> str:
    """All modules of a network, with their settings and the shapes of their weights."""
    lines = []
    for name, module in net.named_modules():
        own = {key: value for key, value in vars(module).items() if key not in _OF_TORCH}
        tensors = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
        shapes = [(key, tuple(value.shape), value.requires_grad) for key, value in tensors]
        extra = module.extra_repr()
        lines.append(f"{name}: {type(module).__name__}({extra}) {_text(own)} {shapes}")
    return "\n".join(lines)


def _text(value: Any, within: tuple[int, ...] = ()) -> str:
    """A setting in words that are the same in every process."""
    kind = type(value).__name__
    if isinstance(value, _PLAIN):
        return repr(value)
    if isinstance(value, type) or (callable(value) and hasattr(value, "__name__")):
        return value.__name__
    if isinstance(value, nn.Parameter) or id(value) in within or len(within) > _DEEPEST:
        return f"{kind} {tuple(getattr(value, 'shape', ()))}"
    if isinstance(value, np.ndarray | np.generic | Tensor):
        array = value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
        return f"{kind} {fingerprint(array)}"
    within = (*within, id(value))
    if isinstance(value, Mapping):
        return f"{kind} {[(_text(key), _text(each, within)) for key, each in value.items()]}"
    if isinstance(value, set | frozenset):
        return f"{kind} {sorted(_text(each, within) for each in value)}"
    if isinstance(value, list | tuple):
        return f"{kind} {[_text(each, within) for each in value]}"
    return f"{kind} {_text(getattr(value, '__dict__', None), within)}"
