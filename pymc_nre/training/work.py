"""How much a gradient step computes: small ones are fastest on one thread."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ..runtime.devices import one_thread_if
from .trainer import Trainer

__all__ = ["work_of_a_step"]


def work_of_a_step(run: Trainer) -> float:
    """Multiplications in a forward pass over a batch."""
    least = run.loss.minimum_batch
    rows = 2 * least
    parts = (part[:rows] for part in next(iter(run.batches.validation(rows, least))))
    with torch.no_grad(), one_thread_if(True), run.drawing(), _Counted() as counted:
        theta, *others = parts
        run.loss(copy.deepcopy(run.net).eval(), theta, *others)
    return counted.flops / 2 / len(theta) * run.plan.batch_size


class _Counted(TorchDispatchMode):
    """Counts the floating point operations of this thread.

    Torch's own counter also hooks into all modules of the process, those that other threads train
    among them.
    """

    def __init__(self) -> None:
        from torch.utils.flop_counter import flop_registry  # brings triton, where there is one

        super().__init__()
        self.flops, self._of = 0, flop_registry

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        count = self._of.get(function._overloadpacket)
        if count is not None:
            self.flops += count(*args, **(kwargs or {}), out_val=result)
        return result
