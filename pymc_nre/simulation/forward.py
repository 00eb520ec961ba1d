"""Draws of some variables of a PyMC model, given the values of others.

A variable of a model is a simulator of itself: draw what it depends on, then the variable.
The same serves nuisance parameters, which are drawn beside given parameters in predictive
sampling.

Only forward draws are made. A given variable cuts the graph at itself, so nothing that it
depends on may be needed as well: drawing a cause given its effect would take a posterior.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import cloudpickle
import numpy as np

from .sampler import Sampler

if TYPE_CHECKING:
    from pytensor.tensor import TensorVariable

__all__ = ["ForwardDraw", "as_dtype"]


class ForwardDraw:
    """Joint draws of ``outputs`` for each row of values of ``given``.

    Parameters
    ----------
    outputs : mapping of str to TensorVariable
        What to draw.
    given : mapping of str to TensorVariable
        Variables of the same graph whose values are passed in.
    """

    def __init__(
        self, outputs: Mapping[str, TensorVariable], given: Mapping[str, TensorVariable]
    ) -> None:
        self.outputs, self.given = dict(outputs), dict(given)
        self._set_up()

    def _set_up(self) -> None:
        self._sampler: Sampler | None = None
        self._lock = threading.Lock()  # a sampler serves one thread at a time

    def __getstate__(self) -> dict[str, Any]:
        # Graphs of PyMC hold what plain pickle cannot write, and PyTensor's cache of compiled C
        # writes whatever belongs to the types of a graph.
        graphs = {"outputs": self.outputs, "given": self.given}
        return {"graphs": cloudpickle.dumps(graphs)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(cloudpickle.loads(state["graphs"]))
        self._set_up()  # made again where it is used

    def draw(
        self, rng: np.random.Generator, given: Mapping[str, np.ndarray], n: int
    ) -> dict[str, np.ndarray]:
        """Arrays ``(n, *own)`` by name, for given values ``(n, *own)``.

        Raises
        ------
        ValueError
            If a given variable depends on one that has to be drawn.
        """
        from pymc.pytensorf import reseed_rngs

        with self._lock:
            self._sampler = self._sampler or self._made()
            reseed_rngs(self._sampler.streams, int(rng.integers(2**63)))
            columns = [
                as_dtype(given[name], np.dtype(variable.type.dtype))
                for name, variable in self.given.items()
            ]
            return dict(zip(self.outputs, self._sampler.draw(n, columns), strict=True))

    def __call__(self, rng: np.random.Generator, **given: np.ndarray) -> np.ndarray:
        """Draws ``(n, *own)`` of the only output: a batched simulator."""
        [output] = self.draw(rng, given, len(next(iter(given.values())))).values()
        return output

    def _made(self) -> Sampler:
        from pytensor.graph.replace import clone_replace

        inputs = {name: variable.type(name) for name, variable in self.given.items()}
        replaced = {variable: inputs[name] for name, variable in self.given.items()}
        drawn = clone_replace(list(self.outputs.values()), replaced)
        self._check_direction(drawn)
        return Sampler(drawn, list(inputs.values()))

    def _check_direction(self, drawn: list[TensorVariable]) -> None:
        from pytensor.graph.traversal import ancestors
        from pytensor.tensor.random.type import RandomType

        def streams(variables: Any) -> set[Any]:
            """Every random variable has a stream of its own, which survives replacement."""
            return {
                v for v in ancestors(variables) if isinstance(v.type, RandomType) and not v.owner
            }

        needed = streams(drawn)
        for name, variable in self.given.items():
            if needed & streams([variable]):
                raise ValueError(
                    f"Cannot draw {', '.join(self.outputs)} given {name}: {name} itself depends on "
                    "variables that would have to be drawn, so that would take a posterior. Give "
                    f"those too (leave them in parameters=), or write the prior of {name} without "
                    "them."
                )


def as_dtype(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Values as a variable of that type takes them; integers that travelled as floats."""
    return (np.rint(values) if dtype.kind in "iu" else np.asarray(values)).astype(dtype, copy=False)
