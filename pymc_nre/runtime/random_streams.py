"""Random streams of one's own, where torch knows a global one only.

Layers draw their first weights, and dropout its masks, from torch's global generators: there is no
argument for another one. Computations in several threads would take each other's numbers. So a
computation keeps the state of its own stream, and puts it in place for as long as it draws, while
others who do the same wait.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from .arrays import whole_number
from .threads import OneAtATime

__all__ = ["RandomStream", "generator_of", "plain_seed", "seed_sequence"]

_alone = OneAtATime()


def plain_seed(random_seed: Any) -> int | None:
    """What a user gives as a seed, as an int; None stays None.

    Parameters
    ----------
    random_seed : int, numpy.random.Generator, numpy.random.SeedSequence or None
        From a generator one is drawn; a sequence is not used up.

    Raises
    ------
    TypeError, ValueError
        If it is no seed.

    Examples
    --------
    >>> from pymc_nre.runtime.random_streams import plain_seed
    >>> plain_seed(7)
    7
    """
    if random_seed is None:
        return None
    if isinstance(random_seed, np.random.Generator):
        return int(random_seed.integers(2**63))
    if isinstance(random_seed, np.random.SeedSequence):
        return int(random_seed.generate_state(1, np.uint64)[0])
    try:
        return whole_number(random_seed, "random_seed", least=0)
    except TypeError as error:
        raise TypeError(
            "random_seed: expected a whole number that is not negative, a numpy.random.Generator, "
            f"a numpy.random.SeedSequence or None, got {random_seed!r}. One of another kind gives "
            "a number: numpy.random.SeedSequence([1, 2]), random_state.randint(2**31)."
        ) from error


def seed_sequence(random_seed: Any) -> np.random.SeedSequence:
    """The same as a sequence of one's own: spawning from it changes nothing of the user's."""
    if isinstance(random_seed, np.random.SeedSequence):
        return np.random.SeedSequence(random_seed.entropy, spawn_key=random_seed.spawn_key)
    return np.random.SeedSequence(plain_seed(random_seed))


def generator_of(random_seed: Any) -> np.random.Generator:
    """The same as a generator; one that is given moves on as it is drawn from."""
    if isinstance(random_seed, np.random.Generator):
        return random_seed
    return np.random.default_rng(seed_sequence(random_seed))


class RandomStream:
    """One stream of random numbers.

    Parameters
    ----------
    seed : int
    device : str
        Where it is drawn from; the CPU has a part in any case.

    Attributes
    ----------
    states : list of Tensor
        Of the CPU's generator and, if that is the device, of CUDA's.
    """

    def __init__(self, seed: int, device: str = "cpu") -> None:
        self.device = torch.device(device)
        own = (torch.Generator(generator.device) for generator in self._generators())
        self.states = [generator.manual_seed(seed).get_state() for generator in own]

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Within, whoever draws from torch's global generators draws from this stream."""
        with _alone():
            generators = self._generators()
            before = [generator.get_state() for generator in generators]
            _set(generators, self.states)
            try:
                yield
            finally:
                self.states = [generator.get_state() for generator in generators]
                _set(generators, before)

    def _generators(self) -> list[torch.Generator]:
        generators = [torch.default_generator]
        if self.device.type == "cuda":
            index = torch.cuda.current_device() if self.device.index is None else self.device.index
            generators.append(torch.cuda.default_generators[index])
        return generators


def _set(generators: list[torch.Generator], states: list[torch.Tensor]) -> None:
    for generator, state in zip(generators, states, strict=True):
        generator.set_state(state)
