"""Draws of some variables of a PyMC model, given the values of others.

A variable of a model is a simulator of itself: draw what it depends on, then the variable.
The same serves nuisance parameters, which are drawn beside given parameters in predictive
sampling.

Only forward draws are made. A given variable cuts the graph at itself, so nothing that it
depends on may be needed as well: drawing a cause given its effect would take a posterior.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

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
        self._compiled: tuple[Callable[..., Any], list[Any], list[np.dtype]] | None = None
        self._lock = threading.Lock()  # a compiled function serves one caller at a time

    def __getstate__(self) -> dict[str, Any]:
        return {"outputs": self.outputs, "given": self.given}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._set_up()  # compiled again where it is used

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
            if self._compiled is None:
                self._compiled = self._compile()
            function, rngs, dtypes = self._compiled
            reseed_rngs(rngs, int(rng.integers(2**63)))
            columns = [
                as_dtype(given[name], dtype) for name, dtype in zip(self.given, dtypes, strict=True)
            ]
            rows = [function(*(column[i] for column in columns)) for i in range(n)]
        return {
            name: np.stack([row[k] for row in rows]) if rows else np.zeros((0,))
            for k, name in enumerate(self.outputs)
        }

    def __call__(self, rng: np.random.Generator, **given: np.ndarray) -> np.ndarray:
        """Draws ``(n, *own)`` of the only output: a batched simulator."""
        [output] = self.draw(rng, given, len(next(iter(given.values())))).values()
        return output

    def _compile(self) -> tuple[Callable[..., Any], list[Any], list[np.dtype]]:
        from pymc.pytensorf import compile as compile_graph
        from pymc.pytensorf import find_rng_nodes
        from pytensor.graph.replace import clone_replace

        inputs = {name: variable.type(name) for name, variable in self.given.items()}
        replaced = {variable: inputs[name] for name, variable in self.given.items()}
        drawn = clone_replace(list(self.outputs.values()), replaced)
        self._check_direction(drawn)
        # PyTensor's Python linker: nothing to compile, and faster for graphs this small.
        function = compile_graph(
            list(inputs.values()), drawn, on_unused_input="ignore", mode="FAST_COMPILE"
        )
        dtypes = [np.dtype(variable.type.dtype) for variable in inputs.values()]
        return function, find_rng_nodes(drawn), dtypes

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
    return (np.rint(values) if dtype.kind in "iu" else np.asarray(values)).astype(dtype)
