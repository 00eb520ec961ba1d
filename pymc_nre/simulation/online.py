"""Fresh simulations for every epoch: where simulating is as cheap as training.

A network that never sees a simulation twice cannot overfit. Training draws a new set for
each epoch, from a stream of its own, so that the same seed trains on the same simulations
and an interrupted training resumes on those that it would have seen.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Executor
from functools import cached_property
from typing import Any

import numpy as np

from ..runtime.arrays import whole_number
from ..runtime.executors import executor_of
from ..runtime.random_streams import seed_sequence
from .joint import JointSimulator
from .simulations import Simulations

__all__ = ["Online"]


class Online:
    """An endless supply of simulations, for `pymc_nre.train`.

    Parameters
    ----------
    prior, simulator, parameters, conditions, batched, iid, executor
        As for `pymc_nre.simulate`. The simulator runs once for every pair that training
        sees, so it should be batched.
    per_epoch : int
        Simulations drawn for each epoch, at least 10.
    random_seed : int, Generator or SeedSequence, optional
        Of the simulations; that of the network is given to `pymc_nre.train`.

    Examples
    --------
    >>> import pymc as pm
    >>> import pymc_nre as nre
    >>> supply = nre.Online(
    ...     {"mu": pm.Uniform.dist(-10, 10)},
    ...     lambda rng, mu: rng.normal(mu, 1.0),
    ...     batched=True,
    ...     per_epoch=1_000,
    ...     random_seed=1,
    ... )
    >>> ratio = nre.train(supply, epochs=3, random_seed=1, progressbar=False)
    >>> ratio.history.sizes["epoch"]
    3
    """

    def __init__(
        self,
        prior: Any,
        simulator: Callable[..., Any] | str,
        *,
        parameters: Collection[str] | None = None,
        conditions: Mapping[str, Any] | Collection[str] | None = None,
        batched: bool = False,
        iid: bool = False,
        executor: Executor | None = None,
        per_epoch: int = 20_000,
        random_seed: Any = None,
    ) -> None:
        executor_of(executor)  # refuses what is none
        self.joint_simulator = JointSimulator.of(
            prior, simulator, parameters, batched, conditions, iid
        )
        self.executor = executor
        self.per_epoch = whole_number(per_epoch, "per_epoch", least=10)
        self._root = seed_sequence(random_seed)

    @cached_property
    def first(self) -> Simulations:
        """Set number 0, by which the others are judged."""
        return self.simulations(0)

    def simulations(self, index: int) -> Simulations:
        """Set number ``index``, the same whenever it is asked for."""
        index = whole_number(index, "simulations: index", least=0)
        return self.joint_simulator.run(
            self.per_epoch,
            executor=self.executor,
            seed=np.random.SeedSequence(
                self._root.entropy, spawn_key=(*self._root.spawn_key, index)
            ),
            progressbar=False,
            partial=False,
        )

    def __repr__(self) -> str:
        names = ", ".join(self.joint_simulator.parameters)
        return f"Online: {self.per_epoch:,} fresh simulations an epoch, parameters {names}"
