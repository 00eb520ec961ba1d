"""A run on disk: what it needs, once killed, to go on as if nothing had happened.

A checkpoint is written after an epoch of training, or a data set of a calibration, and replaces
the last one in a single step, so a kill at any moment leaves a whole file. It holds everything
that the next step depends on; for training weights, their average, the optimizer's moments, the
random streams and the losses so far. It also holds fingerprints of what is run, so that it is
never resumed on anything else. It belongs to one run at a time, and where it cannot be written
any more, the run goes on without.
"""

from __future__ import annotations

import hashlib
import operator
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..exceptions import TrainingWarning, warn
from .archive import read_archive, write_archive
from .lock import owned
from .replacing import check_writable
from .stored import Form

__all__ = ["Checkpoint", "CheckpointWriter", "fingerprint"]

_FORMAT = "pymc_nre.Checkpoint"
_SHARE = 0.05  # of the time may go into writing


class Checkpoint:
    """A file that follows one run.

    Parameters
    ----------
    path : str, path-like or None
        None writes nothing.
    what : str
        What kind of run.
    file_format : str
        Its name in the file.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None,
        what: str = "training run",
        file_format: str = _FORMAT,
    ) -> None:
        self.path = None if path is None else Path(path)
        self.what, self.file_format = what, file_format
        if self.path is not None and not self.path.parent.is_dir():
            raise FileNotFoundError(
                f"The folder of the checkpoint {self.path} does not exist. Make it first."
            )
        self._cost, self._written = 0.0, -float("inf")

    @contextmanager
    def held(self) -> Iterator[None]:
        """Own the file while a block runs.

        Raises
        ------
        RuntimeError
            If another run owns it.
        OSError
            If it is known already that it cannot be written.
        """
        if self.path is None:
            yield
            return
        name = f"The checkpoint {self.path}"
        with ExitStack() as until_the_end:
            try:
                check_writable(self.path)
                until_the_end.enter_context(owned(self.path, name))
            except OSError as error:
                raise type(error)(
                    f"{name} cannot be written ({error.strerror or error}). Pass another path."
                ) from error
            yield

    def chosen_seed(self, random_seed: int | None) -> int:
        """The user's seed, else that of the run in the file, else a fresh one."""
        if random_seed is None and self._exists():
            random_seed = self._read()[0]["random_seed"]
        if random_seed is None:
            random_seed = np.random.SeedSequence().generate_state(1)[0]
        return operator.index(random_seed)

    def load(
        self, identity: Mapping[str, Any], formerly: Mapping[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
        """Facts and tensors of the run to resume; None if there is nothing yet.

        Parameters
        ----------
        identity : mapping
            What the run is.
        formerly : mapping, optional
            What older versions would have written of it.

        Raises
        ------
        ValueError
            If the file belongs to another run.
        """
        if not self._exists():
            return None
        metadata, arrays = self._read()
        known, formerly = metadata["identity"], formerly or {}
        self.refuse_if(
            [n for n in identity if known.get(n) not in (identity[n], formerly.get(n, identity[n]))]
        )
        tensors = {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
        return metadata["facts"], tensors

    def refuse_if(self, differing: Sequence[str]) -> None:
        """Raise ValueError if anything differs from what the file was begun with."""
        if differing:
            raise ValueError(
                f"The checkpoint {self.path} belongs to another {self.what}, with other "
                f"{', '.join(differing)}. To resume, give what it was begun with; to begin anew, "
                "delete the file or pass another path."
            )

    def due(self, last: bool) -> bool:
        """Whether to write: not if that was done a moment ago and this is not the ``last`` time."""
        if self.path is None:
            return False
        return last or time.monotonic() - self._written >= self._cost / _SHARE

    def save(
        self,
        identity: Mapping[str, Any],
        random_seed: int,
        facts: Mapping[str, Any],
        tensors: Mapping[str, Tensor],
    ) -> None:
        """Write, and remember what it cost."""
        began = time.monotonic()
        metadata = {"identity": dict(identity), "random_seed": random_seed, "facts": dict(facts)}
        arrays = {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}
        try:
            write_archive(self.path, metadata, arrays, file_format=self.file_format)
        finally:
            self._written = time.monotonic()
            self._cost = self._written - began

    def _exists(self) -> bool:
        return self.path is not None and self.path.exists()

    def _read(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        return read_archive(self.path, file_format=self.file_format, problems=_problems)


def _problems(metadata: dict[str, Any], forms: Mapping[str, Form]) -> list[str]:
    """What is wrong with a checkpoint of any kind of run."""
    identity = metadata.get("identity")
    of_texts = isinstance(identity, dict) and all(isinstance(v, str) for v in identity.values())
    wrong = [] if of_texts else ["identity must be fingerprints by name"]
    if type(metadata.get("random_seed")) is not int or metadata["random_seed"] < 0:
        wrong.append("random_seed must be a seed")
    facts = metadata.get("facts")
    if not isinstance(facts, dict) or type(facts.get("seconds", 0.0)) not in (int, float):
        wrong.append("facts must be facts by name")
    return wrong


class CheckpointWriter:
    """Carries one run to and from its checkpoint, as often as pays, and never backwards.

    Parameters
    ----------
    checkpoint : Checkpoint
    identity : mapping of str to str
        Fingerprints of what must be the same for the run to be resumed.
    random_seed : int
    formerly : mapping of str to str, optional
        Fingerprints that older versions wrote for the same.

    Attributes
    ----------
    known : int
        How much of the run is in the file: epochs, or data sets.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        identity: Mapping[str, str],
        random_seed: int,
        formerly: Mapping[str, str] | None = None,
    ) -> None:
        self.checkpoint, self.identity, self.random_seed = checkpoint, identity, random_seed
        self.formerly = formerly
        self.known, self.told = 0, False
        self.began, self.before = time.monotonic(), 0.0

    @property
    def seconds(self) -> float:
        """Spent on this run, in this process and, where the run counts it, those before."""
        return self.before + time.monotonic() - self.began

    def resume(self) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
        """Facts and tensors that are in the file; None if there is nothing yet."""
        found = self.checkpoint.load(self.identity, self.formerly)
        if found is not None:
            self.before = found[0].pop("seconds", 0.0)
        return found

    def write(
        self,
        done: int,
        state: Callable[[], tuple[Mapping[str, Any], Mapping[str, Tensor]]],
        last: bool = False,
    ) -> None:
        """Write facts and tensors of ``state``, if more is done than is known and it is time.

        Warns
        -----
        TrainingWarning
            Once, if it cannot be written: the run is worth more than its file.
        """
        if done <= self.known or not self.checkpoint.due(last):
            return
        try:
            self.checkpoint.save(self.identity, self.random_seed, *state())
        except (OSError, ValueError) as error:
            self._tell(error)
        else:
            self.known = done

    def _tell(self, error: Exception) -> None:
        if self.told:
            return
        self.told = True
        warn(
            f"The checkpoint {self.checkpoint.path} cannot be written ({error}). The "
            f"{self.checkpoint.what} goes on, and tries again; if it is killed, what the file does "
            "not have is lost.",
            TrainingWarning,
        )


def fingerprint(*parts: Any) -> str:
    """A digest of arrays and of the texts of other values."""
    sha = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            sha.update(f"{part.dtype} {part.shape}".encode())
            sha.update(np.ascontiguousarray(part))
        else:
            # Functions and classes by their names: their addresses change with the process.
            sha.update(re.sub(r" at 0x[0-9a-fA-F]+", "", repr(part)).encode())
    return sha.hexdigest()
