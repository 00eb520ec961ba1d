"""One file for arrays and a JSON text: what saved estimators and checkpoints are.

It is a NumPy ``.npz`` archive. Nothing in it is a pickle, so reading a stranger's file runs
none of their code; a checksum over all of it tells a file that was changed from one that
was saved. A checksum can be computed by anybody, though, so nothing that a file says is
believed: the form of every array and the type of every field is compared with what the file
should hold before any array is read.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..exceptions import EstimatorFileError
from .replacing import replace_file
from .stored import Form, Stored, check_forms

__all__ = ["Problems", "read_archive", "write_archive"]

FORMAT = "pymc_nre.RatioEstimator"
# The newest that is read; a file says 1 if it holds nothing that 1 does not know.
FORMAT_VERSION = 2

# What is wrong with metadata and with the forms of arrays, in words; nothing if all is right.
Problems = Callable[[dict[str, Any], Mapping[str, Form]], list[str]]

_LONGEST_TEXT = 2**24  # a quarter of a million epochs; lists within lists take twenty times that
_DEEPEST = 8  # fields within fields; there are three
_TOLD, _TOLD_OF_EACH = 10, 400  # problems in an error, and letters
_TEXT = "metadata"  # the array that holds the description


def write_archive(
    path: str | os.PathLike[str],
    metadata: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    file_format: str = FORMAT,
    problems: Problems = lambda metadata, forms: [],
) -> None:
    """Write JSON-ready metadata and arrays; an existing file is replaced in one step.

    The format is version 1, unless the metadata say another ``version``.

    Raises
    ------
    ValueError
        If they could not be read again, for what is wrong with them or with a file of any kind.
    OSError
        If the file cannot be written.
    """
    forms = {name: Form.of(array) for name, array in arrays.items()}
    check_forms(forms)
    metadata = {"format": file_format, "version": 1, **metadata}
    metadata = json.loads(json.dumps(metadata, default=_plain))
    wrong = problems(metadata, forms)
    if wrong:
        raise ValueError(f"{path} is not written, since it could not be read: {_told(wrong)}.")
    metadata["sha256"] = checksum(metadata, arrays)
    json.dumps(metadata, ensure_ascii=False).encode()  # half a letter could not be shown
    text = np.frombuffer(json.dumps(metadata).encode(), dtype=np.uint8)
    if len(text) > _LONGEST_TEXT or _depth(metadata) > _DEEPEST:
        raise ValueError(
            f"The description of a file can have {_LONGEST_TEXT:,} letters and {_DEEPEST} levels, "
            f"this one has {len(text):,} and {_depth(metadata)}."
        )
    replace_file(path, lambda file: np.savez(file, metadata=text, **arrays))


def read_archive(
    path: str | os.PathLike[str],
    file_format: str = FORMAT,
    problems: Problems = lambda metadata, forms: [],
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read what `write_archive` wrote: metadata and arrays.

    Parameters
    ----------
    path : str or path-like
    file_format : str
    problems : callable
        Given metadata and the forms of arrays, tells what is wrong, before arrays are read.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    EstimatorFileError
        If it is not such a file, is damaged, was changed, or is of a newer format.
    """
    with _opened(path, file_format) as (file, size):
        stored = _judged(path, "is truncated or damaged", lambda: Stored(file, size))
        metadata = _metadata(stored, path, file_format)
        wrong = problems(metadata, {n: form for n, form in stored.forms.items() if n != _TEXT})
        if wrong:
            raise EstimatorFileError(
                f"{path} holds what no {file_format} holds: {_told(wrong)}. It was changed, or "
                "written by something else. Get the original again."
            )
        arrays = _judged(path, "is truncated or damaged", lambda: _arrays(stored))
    stated = metadata.pop("sha256", None)
    if stated != checksum(metadata, arrays):
        raise EstimatorFileError(
            f"{path} does not match its own checksum: it was changed after it was saved. Get the "
            "original again."
        )
    return metadata, arrays


def _told(wrong: list[str]) -> str:
    more = f"; and {len(wrong) - _TOLD:,} more" if len(wrong) > _TOLD else ""
    told = "; ".join(each[:_TOLD_OF_EACH] for each in wrong[:_TOLD]) + more
    return told.encode(errors="backslashreplace").decode()  # a name may be no text


@contextmanager
def _opened(path: Any, file_format: str) -> Iterator[tuple[BinaryIO, int]]:
    """An open file and its size; others than regular files are not read from."""
    # A FIFO would wait for a writer otherwise.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    if Path(path).is_dir():
        raise EstimatorFileError(f"{path} is a folder: expected a file written by pymc_nre.")
    with open(os.open(path, flags), "rb") as file:
        facts = os.fstat(file.fileno())
        if not stat.S_ISREG(facts.st_mode) or file.read(2) != b"PK":
            raise EstimatorFileError(
                f"{path} is not a {file_format}: expected a file written by pymc_nre."
            )
        yield file, facts.st_size


def _judged(path: Any, verdict: str, read: Callable[[], Any]) -> Any:
    try:
        return read()
    except ValueError as error:
        raise EstimatorFileError(f"{path} {verdict} ({error}). Copy or save it again.") from error


def _arrays(stored: Stored) -> dict[str, np.ndarray]:
    return {name: stored.read(name) for name in stored.forms if name != _TEXT}


def _metadata(stored: Stored, path: Any, file_format: str) -> dict[str, Any]:
    """The description, of the right format and version."""
    metadata = _parsed(stored)
    if metadata.get("format") != file_format or type(metadata.get("version")) is not int:
        raise EstimatorFileError(
            f"{path} is an archive, but not a {file_format}: expected a file written by pymc_nre."
        )
    if metadata["version"] > FORMAT_VERSION:
        libraries = metadata.get("libraries")
        writer = libraries.get("pymc_nre") if isinstance(libraries, dict) else None
        raise EstimatorFileError(
            f"{path} has format version {metadata['version']}; this pymc_nre reads up to version "
            f"{FORMAT_VERSION}. Upgrade pymc_nre (the file was written by "
            f"{writer if isinstance(writer, str) else 'a later one'})."
        )
    return metadata


def _parsed(stored: Stored) -> dict[str, Any]:
    """The description; empty if there is none."""
    form = stored.forms.get(_TEXT)
    is_text = form is not None and form.dtype == np.uint8 and len(form.shape) == 1
    if not is_text or form.shape[0] > _LONGEST_TEXT:
        return {}
    try:
        metadata = json.loads(stored.read(_TEXT).tobytes().decode())
        json.dumps(metadata, ensure_ascii=False).encode()  # JSON can write letters that are none
    except (ValueError, RecursionError):
        return {}
    is_ours = isinstance(metadata, dict) and _depth(metadata) <= _DEEPEST
    return metadata if is_ours else {}


def _depth(value: Any) -> int:
    """How many levels there are, up to one too many."""
    level, depth = [value], 0
    while level and depth <= _DEEPEST:
        nested = [each for each in level if isinstance(each, dict | list)]
        level = [
            inner for each in nested for inner in (each.values() if type(each) is dict else each)
        ]
        depth += bool(nested)
    return depth


def _plain(value: Any) -> Any:
    """What JSON can write of a NumPy number."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"Files cannot hold {value!r}, a {type(value).__name__}.")


def checksum(metadata: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 over everything that is saved."""
    sha = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        sha.update(f"{name} {array.dtype} {array.shape}".encode())
        sha.update(array)
    return sha.hexdigest()
