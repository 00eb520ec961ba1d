"""What a file says is looked at before it is believed: headers, sizes, and the description."""

import io
import json
import os
import struct
import time
import tracemalloc
import zipfile

import numpy as np
import pytest

from pymc_nre import EstimatorFileError
from pymc_nre.runtime import archive
from pymc_nre.runtime.archive import checksum, read_archive, write_archive

ARRAYS = {
    "matrix": np.arange(6.0).reshape(2, 3),
    "by columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "scalar": np.array(1.5),
    "empty": np.zeros((0, 3)),
    "integers": np.array([1, -2]),
    "bytes": np.array([1, 2], np.uint8),
    "booleans": np.array([True, False]),
    "single": np.ones(2, np.float32),
    "complex": np.array([1 + 2j]),
    "größe": np.ones(1),
    **{f"axis {n}": np.ones((1,) * n) for n in range(9, 14)},  # the header grows beyond 128 bytes
}


@pytest.fixture
def path(tmp_path):
    write_archive(tmp_path / "a", {"fact": [1, 2.5, "text", None]}, ARRAYS)
    return tmp_path / "a"


def test_reading_is_the_inverse_of_writing(path):
    metadata, arrays = read_archive(path)
    assert metadata["fact"] == [1, 2.5, "text", None]
    assert arrays.keys() == ARRAYS.keys()
    for name, array in arrays.items():
        assert array.dtype == ARRAYS[name].dtype
        np.testing.assert_array_equal(array, ARRAYS[name])
        assert array.flags.writeable


def test_numpy_reads_the_same(path):
    with np.load(path) as found:
        for name, array in ARRAYS.items():
            np.testing.assert_array_equal(found[name], array)


def test_the_forms_are_known_before_anything_is_read(path, monkeypatch):
    seen = []

    def problems(metadata, forms):
        seen.append({name: (form.dtype, form.shape) for name, form in forms.items()})
        return ["one", "two"]

    monkeypatch.setattr(archive, "_arrays", None)  # what would read them
    message = r"a holds what no pymc_nre\.RatioEstimator holds: one; two\. It was changed, or"
    with pytest.raises(EstimatorFileError, match=message):
        read_archive(path, problems=problems)
    assert seen == [{name: (array.dtype, array.shape) for name, array in ARRAYS.items()}]


def test_of_many_problems_some_are_told(path):
    with pytest.raises(EstimatorFileError, match=r"holds: x{400}; .*; and 90 more\. It"):
        read_archive(path, problems=lambda metadata, forms: ["x" * 10_000] * 100)


@pytest.mark.parametrize(
    ("metadata", "arrays", "message"),
    [
        ({}, {"a": np.array([object()])}, r"arrays of plain numbers.*: a is object \(1,\)"),
        ({}, {"a": np.array(["text"])}, r"a is <U4 \(1,\)"),
        ({}, {"a": np.zeros((1,) * 17)}, r"of up to 16 axes: a is"),
        ({}, {"a" * 1_000: np.zeros(1)}, r"names of up to 246 letters, got 1 and 1000"),
        ({"a": [[[[[[[[1]]]]]]]]}, {}, r"8 levels, this one has .* and 9"),
        ({"a": "x" * 2**24}, {}, r"can have 16,777,216 letters"),
    ],
    ids=["objects", "text", "axes", "name", "levels", "letters"],
)
def test_what_could_not_be_read_is_not_written(tmp_path, metadata, arrays, message):
    with pytest.raises(ValueError, match=message):
        write_archive(tmp_path / "a", metadata, arrays)
    assert os.listdir(tmp_path) == []


def test_numpy_numbers_are_written_as_what_they_are(tmp_path):
    write_archive(tmp_path / "a", {"fact": [np.float32(0.5), np.int64(3), np.bool_(True)]}, {})
    assert read_archive(tmp_path / "a")[0]["fact"] == [0.5, 3, True]
    with pytest.raises(TypeError, match="Files cannot hold"):
        write_archive(tmp_path / "b", {"fact": object()}, {})


# --- files that are made to harm -------------------------------------------------------------


def sealed(arrays=None, compression=zipfile.ZIP_STORED, text=None, members=(), format=None):
    """The bytes of a file with a checksum that fits, and with members of other kinds."""
    metadata = {"format": format or archive.FORMAT, "version": 1, "fact": 1}
    metadata["sha256"] = checksum(metadata, arrays or {})
    text = json.dumps(metadata).encode() if text is None else text
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        for name, array in {"metadata": np.frombuffer(text, np.uint8), **(arrays or {})}.items():
            with file.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(array))
        for name, content in members:
            file.writestr(name, content)
    return buffer.getvalue()


def header(text, version=(1, 0), length=None):
    """A .npy file that has a header and no array."""
    text = text.encode("latin1")
    length = len(text) if length is None else length
    return b"\x93NUMPY" + bytes(version) + struct.pack("<H", length) + text


def plain(descr="'<f8'", shape="(1,)", more=""):
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, {more}}}\n"


def encrypted():
    content = bytearray(sealed({"a": np.ones(3)}))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.rfind(signature) + offset] |= 1
    return bytes(content)


def members(names):
    """As many members as there are names, of which no directory tells."""
    array = header(plain() + " " * 10) + bytes(8)
    sizes = struct.pack("<5H3L", 20, 0, 0, 0, 0, 0, len(array), len(array))
    lengths = (struct.pack("<2H", len(name) + 4, 0) + name.encode() + b".npy" for name in names)
    return b"".join(b"PK\x03\x04" + sizes + length + array for length in lengths)


def overlapping():
    """The directory has one member a thousand times."""
    content = sealed({"a": np.ones(1_000)})
    start = content.find(b"PK\x01\x02")
    entries, end = content[start : content.rfind(b"PK\x05\x06")], content[-22:]
    count = 2 * 1_000
    end = struct.pack("<4s4H2LH", end[:4], 0, 0, count, count, len(entries) * 1_000, start, 0)
    return content[:start] + entries * 1_000 + end


BOMBS = {
    "another compression": lambda: sealed({"a": np.ones(3)}, zipfile.ZIP_LZMA),
    "kilobytes that inflate to megabytes": lambda: sealed(
        {"a": np.zeros(10**6)}, zipfile.ZIP_DEFLATED
    ),
    "an encrypted member": encrypted,
    "a member that is not .npy": lambda: sealed(members=[("README", b"text")]),
    "two members of one name": lambda: members("a" for _ in range(2)),
    "members that overlap": overlapping,
    "100,000 members": lambda: members(str(k) for k in range(100_000)),
    "a header of 74 TB": lambda: sealed(members=[("a.npy", header(plain(shape="(10, 10**13)")))]),
    "a shape of 74 TB": lambda: sealed(
        members=[("a.npy", header(plain(shape="(10, 1000000000000)")))]
    ),
    "a header of dashes": lambda: sealed(members=[("a.npy", header("-" * 60_000))]),
    "a header of brackets": lambda: sealed(members=[("a.npy", header("(" * 60_000))]),
    "a header longer than its file": lambda: sealed(
        members=[("a.npy", header(plain(), length=65_535))]
    ),
    "a header that is code": lambda: sealed(
        members=[("a.npy", header(plain("__import__('os').getcwd()")))]
    ),
    "a later .npy": lambda: sealed(members=[("a.npy", header(plain(), version=(3, 0)))]),
    "a negative length": lambda: sealed(members=[("a.npy", header(plain(shape="(-1,)")))]),
    "an array of 200 axes": lambda: sealed(
        members=[("a.npy", header(plain(shape=f"({'1, ' * 200})")) + b"\0" * 8)]
    ),
    "records": lambda: sealed({"a": np.zeros(1, dtype=[("a", float)])}),
    "a pickle": lambda: sealed(members=[("a.npy", header(plain("'|O'")) + b"\x80\x04N.")]),
    "deep JSON": lambda: sealed(text=b'{"format": ' + b"[" * 10**6),
    "JSON that is deep and whole": lambda: sealed(text=b"[" * 500 + b"]" * 500),
    "a hundred thousand lists": lambda: sealed(text=b'{"a": [' + b"[]," * 10**5 + b"[]]}"),
    "a number of a million digits": lambda: sealed(text=b'{"version": ' + b"9" * 10**6 + b"}"),
    "a version that is none": lambda: sealed(
        text=json.dumps({"format": archive.FORMAT, "version": True}).encode()
    ),
    "libraries that are none": lambda: sealed(
        text=json.dumps({"format": archive.FORMAT, "version": 9, "libraries": []}).encode()
    ),
    "text that is none": lambda: sealed(text=b"\xff\xfe"),
    "booleans that are neither": lambda: sealed(
        members=[("a.npy", header(plain("'|b1'")) + b"\x07")]
    ),
    "nothing": lambda: b"",
    "an empty archive": lambda: b"PK\x05\x06" + b"\0" * 18,
    "a comment": lambda: sealed()[:-2] + b"\x05\x00hello",
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused(name, tmp_path):
    (tmp_path / "a").write_bytes(BOMBS[name]())
    began = time.process_time()
    with pytest.raises(EstimatorFileError, match=r"a "):
        read_archive(tmp_path / "a")
    assert (
        time.process_time() - began < 5
    )  # a tenth of a second, on a machine that does nothing else


def test_what_these_are_made_of_is_good(tmp_path):
    """The twin."""
    (tmp_path / "a").write_bytes(sealed({"a": np.ones(3)}))
    np.testing.assert_array_equal(read_archive(tmp_path / "a")[1]["a"], np.ones(3))


def sparse(path, head):
    with path.open("wb") as file:
        file.write(head)
        file.truncate(50 * 2**30)


@pytest.mark.parametrize("head", [b"", b"PK\x03\x04", sealed({"a": np.ones(3)})])
def test_fifty_gigabytes_of_nothing(tmp_path, head):
    sparse(tmp_path / "a", head)
    with pytest.raises(EstimatorFileError):
        read_archive(tmp_path / "a")


def test_what_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", "/dev/zero"):
        with pytest.raises(EstimatorFileError, match=r"is not a pymc_nre\.RatioEst"):
            read_archive(path)
    with pytest.raises(EstimatorFileError, match="is a folder"):
        read_archive(tmp_path)


def test_the_memory_that_reading_takes(tmp_path):
    """A file of a description says that it has 4 GB of it: none of that is read."""
    text = header(plain("'|u1'", f"({2**32},)"))
    content = bytearray(sealed(members=[("b.npy", text)]))
    (tmp_path / "a").write_bytes(content)
    tracemalloc.start()
    with pytest.raises(EstimatorFileError):
        read_archive(tmp_path / "a")
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()
