"""A file has one owner, among threads and processes, until it gives it up or dies."""

import multiprocessing
import os
import signal
import threading

import pytest

from pymc_nre.runtime.lock import owned

FORK = multiprocessing.get_context("fork")


def hold(path, line):
    """In another process: own the file until told to leave."""
    with owned(path, "It"):
        line.send("held")
        line.recv()


@pytest.fixture
def another(tmp_path):
    """A process that owns the file, and what lets it end."""
    ours, its = FORK.Pipe()
    process = FORK.Process(target=hold, args=(tmp_path / "a", its))
    process.start()
    assert ours.poll(60)
    yield process, lambda: (ours.send("leave"), process.join())
    process.kill()
    process.join()


def test_a_second_process_is_told(another, tmp_path):
    process, leave = another
    with (
        pytest.raises(RuntimeError, match=rf"^It is in use by process {process.pid}\. Wait until"),
        owned(tmp_path / "a", "It"),
    ):
        pass
    with owned(tmp_path / "b", "It"):  # the twin: another file is free
        pass
    leave()
    with owned(tmp_path / "a", "It"):
        pass


def test_the_dead_own_nothing(another, tmp_path):
    process, _ = another
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    with owned(tmp_path / "a", "It"):
        pass
    assert os.listdir(tmp_path) == []


def test_children_do_not_inherit_it(tmp_path):
    """A worker that outlives the owner does not keep the file from others."""
    ours, its = FORK.Pipe()
    with owned(tmp_path / "a", "It"):
        child = FORK.Process(target=its.recv)
        child.start()
        told = FORK.Process(target=hold, args=(tmp_path / "a", its))
        told.start()
        told.join()
        assert told.exitcode == 1  # and a child is as little an owner as anybody
    with owned(tmp_path / "a", "It"):
        pass
    ours.send("leave")
    child.join()


def test_a_second_thread_is_told(tmp_path):
    errors = []

    def try_it():
        try:
            with owned(tmp_path / "a", "It"):
                pass
        except RuntimeError as error:
            errors.append(str(error))

    with owned(tmp_path / "a", "It"):
        thread = threading.Thread(target=try_it)
        thread.start()
        thread.join()
    assert errors == [
        "It is in use by this process. Wait until that has ended, or give another path."
    ]


def test_one_of_many_gets_it(tmp_path):
    """Whoever comes while the file of the lock is being removed does not own what is no more."""
    counter = tmp_path / "counter"
    counter.write_text("0")

    def count(path):
        done = 0
        while done < 100:
            try:
                with owned(path, "It"):
                    counter.write_text(str(int(counter.read_text()) + 1))
                    done += 1
            except RuntimeError:
                pass

    processes = [FORK.Process(target=count, args=(tmp_path / "a",)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert counter.read_text() == "300"


def test_a_link_and_what_it_points_to_are_one_file(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "a")
    with (
        owned(tmp_path / "a", "It"),
        pytest.raises(RuntimeError, match="in use by this process"),
        owned(tmp_path / "link", "It"),
    ):
        pass


def test_a_planted_link_is_not_followed(tmp_path):
    (tmp_path / "precious").write_text("kept")
    (tmp_path / "a.lock").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match=r"a\.lock"), owned(tmp_path / "a", "It"):
        pass
    assert (tmp_path / "precious").read_text() == "kept"
