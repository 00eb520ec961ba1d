"""What PyTensor keeps on disk is good for one state of our sources."""

from pymc_nre.ops import wrappers


def test_kernels_and_ops_count(monkeypatch):
    folders = []
    monkeypatch.setattr(wrappers, "digest_of", lambda *given: folders.extend(given) or "a1")
    assert wrappers.version.__wrapped__() == 0xA1
    assert {folder.name for folder in folders} == {"kernels", "ops"}
    assert all(list(folder.glob("*.py")) for folder in folders)
