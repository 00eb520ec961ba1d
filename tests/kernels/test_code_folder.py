"""What is compiled stays on disk, for one state of the package."""

import shutil
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest
from numba.core.caching import IndexDataCacheFile

from pymc_nre import kernels
from pymc_nre.kernels import code_folder as folder
from pymc_nre.kernels.code_folder import digest_of, kept_on_disk
from pymc_nre.kernels.traced import machine

KERNELS = Path(kernels.__file__).parent
ENTRY = """
from numba import njit

from .code_folder import kept_on_disk
from .other import doubled


@kept_on_disk
@njit
def value(x):
    return doubled(x)
"""
OTHER = """
from numba import njit


@njit
def doubled(x):
    return 2 * x
"""
RUN = """
from copied.entry import value

print(value(1.0), sum(value.stats.cache_hits.values()))
"""


def test_an_edit_of_what_is_inlined_is_seen(tmp_path):
    """The file of the compiled function stays as it is; what is edited is one that it calls."""
    copied = tmp_path / "copied"
    copied.mkdir()
    (copied / "__init__.py").touch()
    shutil.copy(KERNELS / "code_folder.py", copied)
    (copied / "entry.py").write_text(ENTRY)
    other = copied / "other.py"
    other.write_text(OTHER)

    def run():
        command = [sys.executable, "-c", RUN]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        return [float(part) for part in done.stdout.split()]

    assert run() == [2, 0]
    assert run() == [2, 1]  # from disk
    other.write_text(OTHER.replace("2 * x", "3 * x"))
    assert run() == [3, 0]
    other.write_text(OTHER)
    assert run() == [2, 0]


def doubled(matrix):
    return 2 * matrix


def compiled():
    return kept_on_disk(numba.njit(doubled))


@pytest.fixture
def told(caplog):
    """What the log says of a cache; each reason once in a process, so forget those before."""
    folder.tell_that_nothing_is_kept.cache_clear()
    yield lambda: [record.getMessage() for record in caplog.records]
    folder.tell_that_nothing_is_kept.cache_clear()


def test_without_a_place_for_a_cache_code_is_compiled_and_that_is_told_once(told, monkeypatch):
    monkeypatch.setattr(folder._Files, "_locator_classes", [])
    for _ in range(2):
        np.testing.assert_array_equal(compiled()(np.ones(3)), 2 * np.ones(3))
    (message,) = told()
    assert "neither the package nor the home can be written" in message
    assert "NUMBA_CACHE_DIR" in message


def full(*_):
    raise OSError(28, "No space left on device")


def test_a_disk_that_fills_up_later_is_told_too(told, monkeypatch, tmp_path):
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(IndexDataCacheFile, "save", full)
    monkeypatch.setattr(IndexDataCacheFile, "load", full)
    for _ in range(2):
        np.testing.assert_array_equal(compiled()(np.ones(3)), 2 * np.ones(3))
    (message,) = told()
    assert "No space left on device" in message


def test_a_file_that_was_cut_off_is_made_again(monkeypatch, tmp_path):
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    compiled()(np.ones(3))
    files = [*tmp_path.rglob("*.nbi"), *tmp_path.rglob("*.nbc")]
    assert len(files) == 2
    for file in files:
        file.write_bytes(b"")
    np.testing.assert_array_equal(compiled()(np.ones(3)), 2 * np.ones(3))


NOTHING = """
@f_memory = constant i64 0
define void @f() {
  ret void
}
"""


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """Nothing is compiled yet, and code is kept in a folder of the test's."""
    monkeypatch.setattr(machine, "_known", {})
    monkeypatch.setattr(machine, "code_folder", lambda: tmp_path)
    return tmp_path


def never():
    raise AssertionError("written again")


def test_code_of_networks_comes_from_disk(fresh, monkeypatch):
    first = machine.code_of("f", lambda: NOTHING)
    assert machine.code_of("f", never) is first
    monkeypatch.setattr(machine, "_known", {})
    assert machine.code_of("f", never).memory == first.memory
    monkeypatch.setattr(machine, "_known", {})
    monkeypatch.setattr(machine, "sources", lambda: "another state of the package")
    with pytest.raises(AssertionError, match="written again"):
        machine.code_of("f", never)


@pytest.mark.parametrize("content", [b"", b"something else", None], ids=["empty", "other", "half"])
def test_code_that_cannot_be_read_is_made_again(fresh, monkeypatch, content):
    machine.code_of("f", lambda: NOTHING)
    (file,) = fresh.glob("*.o")
    file.write_bytes(file.read_bytes()[:200] if content is None else content)
    monkeypatch.setattr(machine, "_known", {})
    assert machine.code_of("f", lambda: NOTHING).memory == 0


def test_a_disk_without_room_for_code_of_networks_is_told(fresh, told, monkeypatch):
    monkeypatch.setattr(machine, "replace_file", full)
    assert machine.code_of("f", lambda: NOTHING).memory == 0
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
