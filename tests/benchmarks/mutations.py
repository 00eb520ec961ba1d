"""Files of estimators and of trainings, changed at random: bytes, or contents with a new checksum.

A mutation is a function of a random generator and of a file, and the same for the same seed.
"""

import io
import json
import pickle
import struct
import zipfile
import zlib
from contextlib import suppress
from functools import cache

import numpy as np

from pymc_nre.runtime import archive

_VALUES = [
    *(None, True, False, 0, 1, -1, 2, 3, 17, 10**5, 10**9, 2**31, 2**63, 10**30, -(10**30)),
    *(0.5, -0.0, 1e308, float("nan"), float("inf")),
    *("", "x", "mu", "silu", "relu", "batch", "custom", "MLP", "ratios", "\ud800", "é" * 50),
    *([], {}, [1], [0], [-1], [2, 3], [1] * 40, [10**9, 10**9], [[]], [[1], [1, 2]], ["mu"]),
    *(
        {"a": 1},
        {"mu": []},
        {"type": "custom"},
        {"type": "ResNet"},
        {"type": "Dense", "hidden": [2]},
    ),
]
_DTYPES = ("f4", "f2", ">f8", "i8", "u1", "?", "c16", "U3", "M8[s]", "longdouble", "O")


def mutated(rng, content):
    """A changed file, and how it was changed: a third of the files keep their old checksum."""
    if rng.random() < 1 / 3:
        return _raw(rng, bytearray(content)), "raw"
    metadata, arrays = contents(content)
    for _ in range(rng.integers(1, 4)):
        change = _CONTENTS[rng.integers(len(_CONTENTS))]
        with suppress(IndexError, MemoryError, OverflowError, TypeError, ValueError):
            change(rng, metadata, arrays)  # it may not go together with one before it
        arrays = {name: np.asarray(array) for name, array in arrays.items()}
    packed = bytearray(sealed(metadata, arrays))
    if rng.random() < 0.1:
        return _raw(rng, packed), "both"
    return bytes(packed), "with a new checksum"


def contents(content):
    """Metadata and arrays of a file."""
    metadata, arrays = _parsed(content)
    return json.loads(metadata), dict(arrays)


@cache
def _parsed(content):
    with np.load(io.BytesIO(content)) as found:
        arrays = {name: found[name] for name in found.files}
    metadata = json.loads(arrays.pop("metadata").tobytes())
    del metadata["sha256"]
    return json.dumps(metadata), arrays


def sealed(metadata, arrays):
    """A file with that content, and a checksum that fits."""
    try:
        known = json.loads(json.dumps(metadata))
        metadata = metadata | {"sha256": archive.checksum(known, arrays)}
    except (TypeError, ValueError, UnicodeEncodeError):
        metadata = metadata | {"sha256": ""}  # there are no bytes of such a thing to be summed
    text = np.frombuffer(json.dumps(metadata).encode(), np.uint8)
    parts = [_member(name, array) for name, array in {"metadata": text, **arrays}.items()]
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, len(parts), len(parts), 0, 0, 0)
    return b"".join([*parts, b"PK\x01\x02" + bytes(42), end])


def _member(name, array):
    """As `numpy.savez` writes it, ten times faster; of the directory there is only a begin."""
    by_columns = array.flags.f_contiguous and not array.flags.c_contiguous
    descr = array.dtype.str if array.dtype.names is None else array.dtype.descr
    text = f"{{'descr': {descr!r}, 'fortran_order': {by_columns}, 'shape': {array.shape}, }}"
    text = text.ljust(117) + "\n"
    content = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode("latin1")
    if array.dtype.hasobject:
        content += pickle.dumps(array)
    else:
        content += array.tobytes("F" if by_columns else "C")
    name = f"{name}.npy".encode(errors="replace")
    flags = 0 if name.isascii() else 0x800
    numbers = (20, flags, 0, 0, 0, zlib.crc32(content), 2**32 - 1, 2**32 - 1, len(name), 20)
    wide = struct.pack("<2H2Q", 1, 16, len(content), len(content))
    return b"PK\x03\x04" + struct.pack("<5H3L2H", *numbers) + name + wide + content


# --- bytes -----------------------------------------------------------------------------------


def _raw(rng, content):
    for _ in range(rng.choice([1, 1, 2, 8])):
        change = _BYTES[rng.integers(len(_BYTES))]
        change(rng, content)
        if not content:
            content += b"PK"
    return bytes(content)


def _place(rng, content):
    """Anywhere, or where the headers are."""
    if rng.random() < 0.5:
        return int(rng.integers(len(content)))
    signature = [b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06", b"\x93NUMPY", b"{'descr'", b'{"']
    places = _found(content, signature[rng.integers(len(signature))])
    start = places[rng.integers(len(places))] if places else 0
    return min(start + int(rng.integers(130)), len(content) - 1)


def _found(content, what):
    places, at = [], content.find(what)
    while at >= 0:
        places.append(at)
        at = content.find(what, at + 1)
    return places


def _flip(rng, content):
    content[_place(rng, content)] ^= 1 << int(rng.integers(8))


def _overwrite(rng, content):
    number = [0, 1, 255, 2**16 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1][rng.integers(8)]
    code = "BHIQ"[rng.integers(4)]
    new = struct.pack(f"<{code}", number & (2 ** (8 * struct.calcsize(code)) - 1))
    at = _place(rng, content)
    content[at : at + len(new)] = new


def _letters(rng, content):
    at = _place(rng, content)
    new = rng.choice([b"-", b"(", b"[", b"9", b"'", b"\x00", b"True", b"{", b"\xff", b"e9"])
    new = bytes(new) * int(rng.choice([1, 2, 50]))
    content[at : at + len(new)] = new


def _insert(rng, content):
    at = _place(rng, content)
    content[at:at] = rng.bytes(int(rng.choice([1, 4, 100])))


def _cut(rng, content):
    at = _place(rng, content)
    del content[at : at + int(rng.choice([1, 4, 100, 5_000, len(content)]))]


def _repeat(rng, content):
    start, length, at = _place(rng, content), int(rng.choice([4, 100, 5_000])), _place(rng, content)
    content[at:at] = content[start : start + length]


def _compress(rng, content):
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as old:
            members = [(name, old.read(name)) for name in old.namelist()]
    except Exception:  # it was changed before
        return
    buffer = io.BytesIO()
    kind = [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA][rng.integers(3)]
    with zipfile.ZipFile(buffer, "w", kind) as new:
        for name, data in members:
            new.writestr(name, data)
    content[:] = buffer.getvalue()


_BYTES = [_flip, _flip, _overwrite, _overwrite, _letters, _insert, _cut, _repeat, _compress]


# --- contents --------------------------------------------------------------------------------


def _value(rng):
    if rng.random() < 0.03:
        deep = []
        for _ in range(int(rng.choice([5, 12, 400]))):
            deep = [deep]
        return deep
    return _VALUES[rng.integers(len(_VALUES))]


def _change_field(rng, metadata, arrays):
    """Replace, remove, add or rename something, at any depth of the description."""
    where = metadata
    while True:
        keys = list(where) if isinstance(where, dict) else list(range(len(where)))
        if not keys:
            break
        key = keys[rng.integers(len(keys))]
        if isinstance(where[key], dict | list) and rng.random() < 0.7:
            where = where[key]
            continue
        action = rng.integers(5)
        if action == 0:
            del where[key]
        elif action == 1 and isinstance(where, dict):
            where[str(_value(rng))] = where.pop(key)
        elif action == 2 and isinstance(where[key], int | float):
            where[key] = type(where[key])(where[key] + rng.choice([-1, 1, 2, 64]))
        else:
            where[key] = _value(rng)
        break
    else:
        return


def _pick(rng, arrays):
    names = list(arrays)
    sections = sorted({name.split("/")[0] for name in names})
    section = sections[rng.integers(len(sections))]
    inside = [name for name in names if name.split("/")[0] == section]
    return inside[rng.integers(len(inside))]


def _change_shape(rng, metadata, arrays):
    if not arrays:
        return
    name = _pick(rng, arrays)
    array = arrays[name]
    new = [
        lambda: array[None],
        lambda: array.ravel(),
        lambda: array.ravel()[:1],
        lambda: array.ravel()[:0],
        lambda: array[: len(array) // 2],
        lambda: np.concatenate([array, array]),
        lambda: array.T,
        lambda: np.asfortranarray(array),
        lambda: array.mean(0, keepdims=True),
        lambda: array.mean(-1, keepdims=True),
        lambda: array.reshape(array.shape + (1,) * int(rng.integers(1, 20))),
        lambda: np.zeros((0, 2**40)),
    ][rng.integers(12)]
    try:
        arrays[name] = new()
    except (IndexError, TypeError, ValueError):  # a scalar has no rows
        arrays[name] = array[None]


def _change_type(rng, metadata, arrays):
    if arrays:
        name = _pick(rng, arrays)
        array = np.asarray(np.nan_to_num(arrays[name]))
        arrays[name] = array.astype(_DTYPES[rng.integers(len(_DTYPES))])


def _change_numbers(rng, metadata, arrays):
    if not arrays:
        return
    name = _pick(rng, arrays)
    array = np.array(arrays[name])
    number = rng.choice([np.nan, np.inf, -np.inf, 0.0, -1.0, 1e308, 1e-320, rng.normal()])
    if array.size and array.dtype.kind == "f":
        share = rng.choice([1.0, 1 / array.size])
        array[rng.random(array.shape) < share] = number
        arrays[name] = array
    elif array.size and array.dtype.kind in "iu":
        arrays[name] = np.asarray(array + array.dtype.type(rng.integers(3)))


def _change_names(rng, metadata, arrays):
    if not arrays:
        return
    name, other = _pick(rng, arrays), _pick(rng, arrays)
    new = ["x", "weights/", "history/é", f"{other}.", "../../x", "a" * 300][rng.integers(6)]
    action = rng.integers(4)
    if action == 0:
        del arrays[name]
    elif action == 1:
        arrays[new] = arrays.pop(name)
    elif action == 2:
        arrays[new] = arrays[name]
    else:
        arrays[name], arrays[other] = arrays[other], arrays[name]


def _broadcast_domain(rng, metadata, arrays):
    """What NumPy would stretch, and compiled code would read beyond."""
    for name in [name for name in arrays if name.startswith("domain/")]:
        array = arrays[name]
        if array.ndim and rng.random() < 0.5:
            axis = int(rng.integers(array.ndim))
            arrays[name] = np.take(array, [0], axis)


def _more_parameters(rng, metadata, arrays):
    """Another description that goes together with itself, with or without its arrays."""
    if "parameters" not in metadata or not isinstance(metadata["parameters"], dict):
        return
    shape = [[], [2], [3, 1], [10**6], [2] * 13][rng.integers(5)]
    metadata["parameters"] = metadata["parameters"] | {"more": shape}
    size = int(np.prod(shape))
    if size > 3:
        return
    for name, array in list(arrays.items()):
        if name.startswith("domain/") and array.ndim and rng.random() < 0.9:
            axis = -1 if name == "domain/draws" else 0
            if name != "domain/log_prior":
                arrays[name] = np.concatenate([array, *[np.take(array, [0], axis)] * size], axis)


def _other_observations(rng, metadata, arrays):
    shape = [[], [1], [2], [3, 2], [50], [1, 1, 1]][rng.integers(6)]
    metadata["event_shape"] = shape
    if "probe/x" in arrays and arrays["probe/x"].ndim:
        arrays["probe/x"] = rng.normal(size=(len(arrays["probe/x"]), *shape))


_CONTENTS = [
    *[_change_field] * 4,
    *(_change_shape, _change_shape, _change_type, _change_numbers, _change_numbers),
    *(_change_names, _broadcast_domain, _more_parameters, _other_observations),
]
