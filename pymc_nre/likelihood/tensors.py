"""What users give to a model, numbers or graphs, as tensors."""

from __future__ import annotations

from typing import Any

import pytensor.tensor as pt
from pytensor.graph.basic import Variable
from pytensor.tensor import TensorVariable

from ..runtime.arrays import real_array

__all__ = ["as_tensor", "holds_graph"]


def as_tensor(value: Any, name: str) -> TensorVariable:
    """A graph, or what holds graphs, as it is; of anything else the numbers."""
    return pt.as_tensor_variable(value if holds_graph(value) else real_array(value, name))


def holds_graph(value: Any) -> bool:
    """Whether it is symbolic, or a list of what is."""
    if isinstance(value, list | tuple):
        return any(map(holds_graph, value))
    return isinstance(value, Variable) or hasattr(value, "_as_TensorVariable")
