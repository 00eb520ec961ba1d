"""One torch thread for small work.

Torch splits work over its threads from sizes at which that hardly pays on an idle machine,
and costs a factor of 5 to 25 where chains or other programs want the cores too (value and
gradient of 1,000 rows: 2.6 ms against 69 ms). The setting belongs to the whole process, so
it is put back.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["one_thread_if"]


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
