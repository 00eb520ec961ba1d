"""A file is replaced as a whole, and stays what it was if it cannot be."""

import errno
import os
import stat
import threading

import pytest

from pymc_nre.runtime import replacing
from pymc_nre.runtime.replacing import replace_file


def writes(text):
    return lambda file: file.write(text)


def test_it_is_written_and_nothing_else_is_left(tmp_path):
    replace_file(tmp_path / "a", writes(b"one"))
    replace_file(str(tmp_path / "a"), writes(b"two"))
    assert (tmp_path / "a").read_bytes() == b"two"
    assert os.listdir(tmp_path) == ["a"]


def test_a_new_file_has_the_permissions_of_new_files(tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    replace_file(tmp_path / "a", writes(b"one"))
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664])
def test_an_old_file_keeps_its_permissions(tmp_path, mode):
    (tmp_path / "a").write_bytes(b"one")
    (tmp_path / "a").chmod(mode)
    replace_file(tmp_path / "a", writes(b"two"))
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == mode


def test_a_link_stays_and_its_target_is_replaced(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a").write_bytes(b"one")
    (tmp_path / "link").symlink_to("elsewhere/a")
    replace_file(tmp_path / "link", writes(b"two"))
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "elsewhere" / "a").read_bytes() == b"two"
    assert os.listdir(tmp_path / "elsewhere") == ["a"]


def test_a_planted_link_is_not_written_through(tmp_path, monkeypatch):
    (tmp_path / "precious").write_bytes(b"kept")
    monkeypatch.setattr(replacing.secrets, "token_hex", lambda n: "known")
    (tmp_path / ".a.known.partial").symlink_to(tmp_path / "precious")
    with pytest.raises(FileExistsError):
        replace_file(tmp_path / "a", writes(b"one"))
    assert (tmp_path / "precious").read_bytes() == b"kept"
    assert not (tmp_path / "a").exists()


def test_names_may_be_as_long_as_names_can_be(tmp_path):
    replace_file(tmp_path / ("a" * 255), writes(b"one"))
    assert os.listdir(tmp_path) == ["a" * 255]


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), KeyboardInterrupt(), ValueError()]
)
def test_what_fails_leaves_the_old_file(tmp_path, error):
    (tmp_path / "a").write_bytes(b"one")

    def fails(file):
        file.write(b"two")
        raise error

    with pytest.raises(type(error)) as caught:
        replace_file(tmp_path / "a", fails)
    assert (tmp_path / "a").read_bytes() == b"one"
    assert os.listdir(tmp_path) == ["a"]
    if isinstance(error, OSError):
        assert caught.value.filename == str(tmp_path / "a")  # what the user knows of


def test_readers_see_one_file_or_the_other(tmp_path):
    contents, seen, stop = [b"a" * 50_000, b"b" * 50_000], set(), threading.Event()
    replace_file(tmp_path / "a", writes(contents[0]))

    def write(content):
        while not stop.is_set():
            replace_file(tmp_path / "a", writes(content))

    writers = [threading.Thread(target=write, args=(content,)) for content in contents]
    for writer in writers:
        writer.start()
    for _ in range(500):
        seen.add((tmp_path / "a").read_bytes())
    stop.set()
    for writer in writers:
        writer.join()
    assert seen <= set(contents)
    assert os.listdir(tmp_path) == ["a"]


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"The folder of .*a does not exist\."):
        replace_file(tmp_path / "none" / "a", writes(b"one"))


def test_what_is_no_file_stays(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path, tmp_path / "fifo", "/dev/null"):
        with pytest.raises(FileExistsError, match=r"is there and is no regular file"):
            replace_file(path, writes(b"one"))
    assert stat.S_ISFIFO((tmp_path / "fifo").stat().st_mode)


def test_what_is_read_only_stays(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"one")
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path / "a")  # root may all
    with pytest.raises(PermissionError, match=r"a is read-only\. Make it writable"):
        replace_file(tmp_path / "a", writes(b"two"))
    replace_file(tmp_path / "b", writes(b"two"))  # the twin
    assert (tmp_path / "a").read_bytes() == b"one"
