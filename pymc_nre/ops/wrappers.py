"""When what PyTensor has compiled around our Ops, and keeps on disk, is still good.

Its code holds a bit of ours, of the Ops and, by name, of the kernels.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from .. import kernels
from ..kernels.compilation import digest_of

__all__ = ["version"]


@cache
def version() -> int:
    """A number for one state of both packages, which PyTensor takes for an Op's code."""
    return int(digest_of(Path(__file__).parent, Path(kernels.__file__).parent), 16)
