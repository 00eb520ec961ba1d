"""One worker makes what all need."""

import multiprocessing
import time
from types import SimpleNamespace

import pytest
from once import once


def factory(folder):
    return SimpleNamespace(getbasetemp=lambda: folder)


def make_in(folder, number):
    def make():
        (folder / f"made by {number}").touch()
        time.sleep(0.5)
        return {"a": [1, 2.5, None]}

    assert once(factory(folder), "found", make) == {"a": [1, 2.5, None]}


def test_two_workers_make_it_once(tmp_path, monkeypatch):
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=make_in, args=(tmp_path, k)) for k in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert len(list(tmp_path.glob("made by *"))) == 1


def test_workers_share_a_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw1")
    (tmp_path / "gw1").mkdir()
    assert once(factory(tmp_path / "gw1"), "found", lambda: 1) == 1
    assert once(factory(tmp_path / "gw2"), "found", lambda: 2) == 1


def test_what_failed_is_made_by_the_next(tmp_path, monkeypatch):
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    for error in (ValueError, RuntimeError):
        with pytest.raises(error):
            once(factory(tmp_path), "found", lambda error=error: raise_it(error))
    assert once(factory(tmp_path), "found", lambda: 3) == 3


def raise_it(error):
    raise error("not this time")
