"""Machine code of LLVM's, which is made once and kept on disk."""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from numba.extending import get_cython_function_address

from ...runtime.replacing import replace_file
from ..compilation import code_folder, sources
from .emitter import ALIGNED
from .functions import DIGAMMA

__all__ = ["Code", "code_of", "vector_bytes"]

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
        Bytes that it needs for a block of rows.
    """

    name: str
    address: int
    memory: int
    _engine: Any = field(repr=False, compare=False)

    def run(self, *arrays: np.ndarray, results: Sequence[np.ndarray]) -> None:
        """Call it from Python with theta, x, a direction, moments and weights, all contiguous.

        Results are written into one or two arrays.
        """
        room = np.empty(self.memory + ALIGNED, np.uint8)
        memory = room.ctypes.data + -room.ctypes.data % ALIGNED
        kind = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 2, *[ctypes.c_void_p] * (len(arrays) + 3))
        theta, x, *_ = arrays
        given = [array.ctypes.data for array in arrays]
        out = [results[0].ctypes.data, results[-1].ctypes.data]
        kind(self.address)(len(x), len(theta) == 1, *given, memory, *out)


def code_of(name: str, write: Callable[[], tuple[str, int]]) -> Code:
    """The code of that name; what ``write`` gives, a module's text and the memory, if it is new."""
    with _lock:  # samplers have a thread for each chain
        if name not in _known:
            _known[name] = _made(name, write)
        return _known[name]


def _made(name: str, write: Callable[[], tuple[str, int]]) -> Code:
    text, memory = write()
    target, (cpu, features) = _target(), _host()
    machine = target.create_target_machine(cpu=cpu, features=features, opt=2)
    module = llvm.parse_assembly(text)
    module.triple, module.data_layout = target.triple, str(machine.target_data)
    file = _file(name, text)
    kept = _read(file)
    if kept is None:
        _optimize(module, machine)
    if DIGAMMA in text:  # SciPy's; C has none
        known = get_cython_function_address("scipy.special.cython_special", "__pyx_fuse_1psi")
        llvm.add_symbol(DIGAMMA, known)
    engine = llvm.create_mcjit_compiler(module, machine)
    engine.set_object_cache(lambda _, code: _write(file, code), lambda _: kept)
    engine.finalize_object()
    address = engine.get_function_address(name)
    llvm.add_symbol(name, address)
    return Code(name, address, memory, engine)


def _optimize(module: Any, machine: Any) -> None:
    """Nothing is left to vectorize, and to look for it takes time."""
    options = llvm.create_pipeline_tuning_options(speed_level=2)
    options.loop_vectorization = options.slp_vectorization = False
    passes = llvm.create_pass_builder(machine, options)
    passes.getModulePassManager().run(module, passes)


# On disk: a file for each function, processor, state of this package and version of LLVM.


def _file(name: str, text: str) -> Path | None:
    folder = code_folder()
    if folder is None:
        return None
    described = repr((text, _host(), sources(), llvm.llvm_version_info))
    return folder / f"{name}-{hashlib.sha256(described.encode()).hexdigest()[:16]}.o"


def _read(file: Path | None) -> bytes | None:
    try:
        return file.read_bytes() if file else None
    except OSError:
        return None


def _write(file: Path | None, code: bytes) -> None:
    """A full disk costs another compilation."""
    if file is None:
        return
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        replace_file(file, lambda new: new.write(code))
