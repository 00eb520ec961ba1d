"""Machine code of LLVM's, which is made once and kept on disk."""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from numba.extending import get_cython_function_address

from ...runtime.replacing import replace_file
from ..code_folder import code_folder, sources, tell_that_nothing_is_kept
from .functions import DIGAMMA

__all__ = ["Code", "code_of", "vector_bytes"]

_STAMP = hashlib.sha256().digest_size
_known: dict[str, Code] = {}
_lock = Lock()


@cache
def _target() -> Any:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.Target.from_default_triple()


@cache
def _host() -> tuple[str, str]:
    """The processor, and what it can."""
    return llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()


@cache
def vector_bytes() -> int:
    """How much a register of this processor holds."""
    features = llvm.get_host_cpu_features()
    if features.get("avx512f"):
        return 64
    return 32 if features.get("avx2") else 16


@dataclass(frozen=True)
class Code:
    """A function in memory.

    Attributes
    ----------
    name : str
        Under which other compiled code finds it.
    address : int
    memory : int
        Bytes that it needs.
    """

    name: str
    address: int
    memory: int
    _engine: Any = field(repr=False, compare=False)

    def run(self, *arrays: np.ndarray, results: Sequence[np.ndarray]) -> None:
        """Call it with theta, x, a direction, moments and weights, all contiguous.

        Results are written into one or two arrays. Nothing is compiled for it, unlike for `run` of
        `pymc_nre.kernels.entries`, which takes a third of the time.
        """
        room = np.empty(self.memory, np.uint8)
        kind = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 2, *[ctypes.c_void_p] * (len(arrays) + 3))
        theta, x, *_ = arrays
        given = [array.ctypes.data for array in (*arrays, room, results[0], results[-1])]
        kind(self.address)(len(x), len(theta) == 1, *given)


def code_of(name: str, write: Callable[[], str]) -> Code:
    """The code of that name, which tells all of it; ``write`` gives the text if it is new."""
    with _lock:  # samplers have a thread for each chain
        if name not in _known:
            _known[name] = _made(name, write)
        return _known[name]


def _made(name: str, write: Callable[[], str]) -> Code:
    target, (cpu, features) = _target(), _host()
    machine = target.create_target_machine(cpu=cpu, features=features, opt=2)
    file = _file(name)
    kept = _read(file)
    text = write() if kept is None else ""
    module = llvm.parse_assembly(text)
    module.triple, module.data_layout = target.triple, str(machine.target_data)
    if DIGAMMA.encode() in (text.encode() if kept is None else kept):  # SciPy's; C has none
        known = get_cython_function_address("scipy.special.cython_special", "__pyx_fuse_1psi")
        llvm.add_symbol(DIGAMMA, known)
    engine = llvm.create_mcjit_compiler(module, machine)
    if kept is None:
        engine.set_object_cache(lambda _, code: _write(file, code))
    else:
        engine.add_object_file(llvm.ObjectFileRef.from_data(kept))
    engine.finalize_object()
    address = engine.get_function_address(name)
    told = engine.get_global_value_address(f"{name}_memory")  # zero if it needs none
    memory = ctypes.c_int64.from_address(told).value if told else 0
    llvm.add_symbol(name, address)
    return Code(name, address, memory, engine)


# On disk: a file for each function, processor, state of this package and version of LLVM, which
# begins with the digest of what follows.


def _file(name: str) -> Path | None:
    folder = code_folder()
    if folder is None:
        return None
    described = repr((_host(), sources(), llvm.llvm_version_info))
    return folder / f"{name}-{hashlib.sha256(described.encode()).hexdigest()[:16]}.o"


def _read(file: Path | None) -> bytes | None:
    """What was written; None if there is nothing, or something else: LLVM would crash with it."""
    try:
        content = file.read_bytes() if file else b""
    except OSError:
        return None
    stamp, code = content[:_STAMP], content[_STAMP:]
    return code if stamp == hashlib.sha256(code).digest() else None


def _write(file: Path | None, code: bytes) -> None:
    """A full disk costs another compilation."""
    if file is None:
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        replace_file(file, lambda new: new.write(hashlib.sha256(code).digest() + code))
    except OSError as error:
        tell_that_nothing_is_kept(error.strerror or "an error of the disk")
