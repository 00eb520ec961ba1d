"""Where torch computes, on how many threads, and in forked processes.

Torch splits work over its threads from sizes at which that hardly pays on an idle machine,
and costs a factor of 5 to 25 where chains or other programs want the cores too (value and
gradient of 1,000 rows: 2.6 ms against 69 ms). The setting belongs to the whole process, so
it is put back.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["differentiable", "one_thread_if", "resolve_device"]


@contextmanager
def differentiable() -> Iterator[None]:
    """Let torch take gradients in the block, or the function that is decorated, whoever calls it.

    Callers, and other libraries, turn that off for all that they call.
    """
    with torch.inference_mode(False), torch.enable_grad():
        yield


@contextmanager
def one_thread_if(small: bool) -> Iterator[None]:
    """Run the block on one torch thread if the work is small."""
    threads = torch.get_num_threads()
    if threads == 1 or not small:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def resolve_device(device: str | torch.device) -> str:
    """``"auto"`` is CUDA where there is one; asking for CUDA where there is none is an error."""
    device = str(device)
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device.split(":")[0] not in ("cpu", "cuda"):
        raise ValueError(f"device must be 'auto', 'cpu' or 'cuda', got {device!r}.")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise RuntimeError(
            f"device={device!r} was asked for, but torch {torch.__version__} sees no CUDA device "
            "here. Use device='cpu' or 'auto', or install a CUDA build of torch and its driver."
        )
    return device


def _one_thread_in_the_child() -> None:
    """A child that inherits torch's pool of threads waits for ever: none of them exists in it."""
    torch.set_num_threads(1)


# At import, since whatever is computed in a forked child would hang: chains that PyMC forks on
# Linux, trainings and diagnostics in a process pool, the user's own code.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_one_thread_in_the_child)
