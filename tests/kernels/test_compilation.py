"""Functions that compiled code calls by name."""

import shutil
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest
from numba import types
from numba.core.caching import IndexDataCacheFile
from numba.core.errors import TypingError
from numba.core.runtime import _nrt_python, rtsys

from pymc_nre import kernels
from pymc_nre.kernels import compilation
from pymc_nre.kernels.compilation import call_by_name, digest_of, jit_entry

KERNELS = Path(kernels.__file__).parent

MATRIX = types.float64[:, ::1]


@jit_entry
def halves(matrix, by):
    """Something with a tuple of arrays and an error."""
    if by == 0:
        raise ValueError("by must not be zero")
    return matrix / by, matrix.sum(axis=1)


CALL = call_by_name(halves, (MATRIX, types.int64))


@numba.njit
def through_a_name(matrix, by):
    return CALL((matrix, by))


def test_the_same_results():
    matrix = np.arange(6.0).reshape(2, 3)
    read_only = matrix.copy()
    read_only.flags.writeable = False
    for argument in (matrix, read_only):
        for mine, its in zip(through_a_name(argument, 4), halves(matrix, 4), strict=True):
            np.testing.assert_array_equal(mine, its)


def test_errors_come_through():
    with pytest.raises(ValueError, match="by must not be zero"):
        through_a_name(np.ones((2, 2)), 0)


@pytest.fixture
def alive():
    """A function that counts the arrays that Numba has made and not yet freed."""

    def count():
        stats = rtsys.get_allocation_stats()
        return stats.mi_alloc - stats.mi_free

    _nrt_python.memsys_enable_stats()
    yield count
    _nrt_python.memsys_disable_stats()


def test_nothing_leaks(alive):
    matrix = np.ones((3, 2))
    before = alive()
    kept = [through_a_name(matrix, 2) for _ in range(10)]
    assert alive() == before + 20  # two arrays each
    del kept
    assert alive() == before


@pytest.mark.parametrize("matrix", [np.ones((2, 4))[:, ::2], np.ones(2), np.ones((2, 2), int)])
def test_arrays_of_another_layout_are_refused(matrix):
    with pytest.raises(TypingError, match="pymc_nre_"):
        through_a_name(matrix, 2)


def test_the_caller_has_no_code_of_it():
    through_a_name(np.ones((2, 2)), 2)
    code = max(through_a_name.inspect_llvm().values(), key=len)
    assert "pymc_nre_" in code
    linked = numba.njit(lambda matrix, by: halves(matrix, by))
    linked(np.ones((2, 2)), 2)
    (with_it,) = linked.inspect_llvm().values()
    assert len(code) < len(with_it)


ENTRY = """
import numpy as np

from .compilation import jit_entry
from .wall import confined


@jit_entry
def values(theta):
    return confined(theta, np.empty(0))[1]
"""
RUN = """
import numpy as np
from copied.entry import values

print(*values(np.ones((2, 1))), sum(values.stats.cache_hits.values()))
"""


def test_an_edit_of_what_is_inlined_is_seen(tmp_path):
    """The file of the compiled function stays as it is; what is edited is one that it calls."""
    copied = tmp_path / "copied"
    shutil.copytree(KERNELS, copied, ignore=shutil.ignore_patterns("__pycache__"))
    (copied / "entry.py").write_text(ENTRY)

    def run():
        command = [sys.executable, "-c", RUN]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        *found, loaded = map(float, done.stdout.split())
        return found, loaded

    assert run() == ([0, 0], 0)
    assert run() == ([0, 0], 1)  # from disk
    wall = copied / "wall.py"
    before = wall.read_text()
    wall.write_text(before.replace("np.zeros(rows), theta", "np.full(rows, 1000.0), theta"))
    assert wall.read_text() != before
    assert run() == ([1000, 1000], 0)
    wall.write_text(before)
    assert run() == ([0, 0], 0)


def doubled(matrix):
    return 2 * matrix


@pytest.fixture
def told(caplog):
    """What the log says of a cache; each reason once in a process, so forget those before."""
    compilation._tell_that_nothing_is_kept.cache_clear()
    yield lambda: [record.getMessage() for record in caplog.records]
    compilation._tell_that_nothing_is_kept.cache_clear()


def test_without_a_place_for_a_cache_code_is_compiled_and_that_is_told_once(told, monkeypatch):
    monkeypatch.setattr(compilation._CacheFiles, "_locator_classes", [])
    for _ in range(2):
        np.testing.assert_array_equal(jit_entry(doubled)(np.ones(3)), 2 * np.ones(3))
    (message,) = told()
    assert "neither the package nor the home can be written" in message
    assert "NUMBA_CACHE_DIR" in message


def test_a_disk_that_fills_up_later_is_told_too(told, monkeypatch, tmp_path):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(IndexDataCacheFile, "save", full)
    monkeypatch.setattr(IndexDataCacheFile, "load", full)
    for _ in range(2):
        np.testing.assert_array_equal(jit_entry(doubled)(np.ones(3)), 2 * np.ones(3))
    (message,) = told()
    assert "No space left on device" in message


def test_sources_in_folders_below_count(tmp_path):
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "code.py").write_text("x = 1")
    first = digest_of(tmp_path)
    (tmp_path / "below" / "notes.txt").write_text("nothing")
    assert digest_of(tmp_path) == first
    (tmp_path / "below" / "code.py").write_text("x = 2")
    assert digest_of(tmp_path) != first
    (tmp_path / "below" / "code.py").write_text("x = 1")
    (tmp_path / "code.py").write_text("")
    assert digest_of(tmp_path) != first
