"""The simulations of rounds on disk, so that a killed run does not make them again.

All else follows from them and from the seed: the networks have checkpoints of their own beside
this file, and what is drawn between two rounds takes seconds.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch

from ..runtime.checkpoint import Checkpoint
from ..simulation.simulations import Simulations
from .study import Study

__all__ = ["Records"]


class Records:
    """A file that follows rounds.

    Parameters
    ----------
    path : str, path-like or None
        None writes nothing.
    study : Study
    """

    def __init__(self, path: str | os.PathLike[str] | None, study: Study) -> None:
        self.path, self.study = path, study
        self._file = Checkpoint(path, "run of rounds", "pymc_nre.Rounds")
        self._identity: dict[str, str] = {}
        self._failed: list[int] = []
        self._tensors: dict[str, torch.Tensor] = {}
        self.random_seed = 0

    @contextmanager
    def held(self, identity: dict[str, str], random_seed: int) -> Iterator[None]:
        """Own the file, and know what it has, if it belongs to these rounds."""
        self._identity, self.random_seed = identity, random_seed
        with self._file.held():
            found = self._file.load(identity)
            if found is not None:
                self._failed, self._tensors = found[0]["failed"], found[1]
            yield

    def chosen_seed(self, random_seed: int | None) -> int:
        """The user's seed, else that of the file, else a fresh one."""
        return self._file.chosen_seed(random_seed)

    def training(self, k: int) -> str | None:
        """The checkpoint of round ``k``."""
        return None if self.path is None else f"{os.fspath(self.path)}.{k}"

    def simulations(self, k: int, make: Callable[[], Simulations]) -> Simulations:
        """Those of round ``k``: read, or made and written."""
        if k < len(self._failed):
            return self._read(k)
        made = make()
        self._failed.append(made.n_failed)
        arrays = {"theta": made.theta, "x": made.x}
        arrays |= {f"given/{name}": value for name, value in made.conditions.items()}
        self._tensors |= {f"{k}/{n}": torch.from_numpy(v.astype(float)) for n, v in arrays.items()}
        if self.path is not None:
            facts = {"failed": self._failed}
            self._file.save(self._identity, self.random_seed, facts, self._tensors)
        return made

    def _read(self, k: int) -> Simulations:
        own = {
            name.removeprefix(f"{k}/"): tensor.numpy()
            for name, tensor in self._tensors.items()
            if name.startswith(f"{k}/")
        }
        given = {n.removeprefix("given/"): v for n, v in own.items() if n.startswith("given/")}
        parameters = self.study.known.layout.unpack(np.asarray(own["theta"]))
        made = self.study.simulations(parameters, own["x"], given)
        made.n_failed = self._failed[k]
        return made
