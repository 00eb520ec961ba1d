r"""Quantiles of a statistic as functions of the parameters, learned from one value at each of many.

A network is fitted by the pinball loss :math:`\rho_\alpha(u) = u\,(\alpha - 1_{u < 0})`, which is
least on average at the conditional :math:`\alpha`-quantile. One network gives the quantiles of all
levels, the first and positive steps to the others, so that they do not cross. Values are made
alike before by a root, which quantiles go along with.

A few thousand values are soon fitted too well: of 2,000 values of a chi-square that does not
depend on three parameters, a single network covered .83 for .90, .49 in the worst tenth of the
parameters. So five networks are fitted, each on four fifths of the values for as long as the loss
of the last fifth falls, and averaged: .900 and .888.

References
----------
R. Koenker, G. Bassett (1978), Regression quantiles, Econometrica 46.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from ..runtime.devices import one_thread_if
from ..runtime.random_streams import RandomStream

__all__ = ["Quantiles"]

_WIDTH = 32
_FOLDS = 5
_STEPS, _RATE = 1_500, 0.01  # of Adam, on all values at once
_PATIENCE, _EVERY = 150, 10  # steps without a better loss; of which one in ten is looked at


@dataclass(frozen=True, eq=False)
class Quantiles:
    """Of values at inputs; make them with `Quantiles.fitted`."""

    networks: tuple[nn.Module, ...]
    center: np.ndarray
    scale: np.ndarray
    least: float
    unit: float

    @classmethod
    def fitted(
        cls, inputs: np.ndarray, values: np.ndarray, levels: np.ndarray, seed: int
    ) -> Quantiles:
        """Quantiles at rising levels ``(L,)`` of values ``(N,)`` at inputs ``(N, D)``."""
        center, scale = inputs.mean(0), inputs.std(0)
        scale = np.where(scale > 0, scale, 1.0)
        least = float(values.min())
        roots = np.sqrt(values - least)
        unit = float(np.median(roots)) or 1.0
        data = torch.tensor((inputs - center) / scale), torch.tensor(roots / unit)[:, None]
        fold = torch.arange(len(values)) % _FOLDS
        with one_thread_if(True), RandomStream(seed).in_place(), torch.enable_grad():
            networks = []
            for k in range(_FOLDS):
                network = _Rising(inputs.shape[1], np.quantile(roots / unit, levels)).double()
                kept, rest = ([part[rows] for part in data] for rows in (fold != k, fold == k))
                networks.append(_fit(network, kept, rest, torch.tensor(levels)))
        return cls(tuple(networks), center, scale, least, unit)

    def at(self, inputs: np.ndarray) -> np.ndarray:
        """Quantiles ``(N, L)`` at inputs ``(N, D)``."""
        with torch.no_grad():
            z = torch.tensor((inputs - self.center) / self.scale)
            roots = torch.stack([network(z) for network in self.networks]).mean(0).numpy()
        return self.least + (np.maximum(roots, 0.0) * self.unit) ** 2


class _Rising(nn.Module):
    """Rising numbers of inputs, which begin as constants."""

    start: torch.Tensor

    def __init__(self, inputs: int, start: np.ndarray) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(nn.Linear(inputs, _WIDTH), nn.SiLU(), nn.Linear(_WIDTH, _WIDTH), nn.SiLU()),
            nn.Linear(_WIDTH, len(start)),
        )
        steps = np.maximum(np.diff(start, prepend=0.0), 1e-3)
        self.register_buffer("start", torch.tensor(np.log(np.expm1(steps))))
        with torch.no_grad():
            self.body[-1].weight.mul_(0.1)
            self.body[-1].bias.zero_()

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return nn.functional.softplus(self.body(z) + self.start).cumsum(-1)


def _fit(
    network: nn.Module, kept: list[torch.Tensor], left_out: list[torch.Tensor], levels: torch.Tensor
) -> nn.Module:
    """The network, as it was when the loss of what was left out was least."""
    optimizer = torch.optim.Adam(network.parameters(), lr=_RATE)
    least, best, when = np.inf, network.state_dict(), 0
    for step in range(_STEPS):
        if step % _EVERY == 0:
            with torch.no_grad():
                loss = _pinball(network, *left_out, levels).item()
            if loss < least:
                least, best, when = loss, copy.deepcopy(network.state_dict()), step
            elif step - when > _PATIENCE:
                break
        optimizer.zero_grad()
        _pinball(network, *kept, levels).backward()
        optimizer.step()
    network.load_state_dict(best)
    return network


def _pinball(
    network: nn.Module, z: torch.Tensor, values: torch.Tensor, levels: torch.Tensor
) -> torch.Tensor:
    off = values - network(z)
    return torch.where(off < 0, (levels - 1) * off, levels * off).mean()
