"""One file for arrays and a JSON text: what saved estimators and checkpoints are.

It is a NumPy ``.npz`` archive. Nothing in it is a pickle, so reading a stranger's file runs
none of their code; a checksum over all of it tells a file that was changed from one that
was saved.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..exceptions import EstimatorFileError

__all__ = ["read_archive", "write_archive"]

FORMAT, FORMAT_VERSION = "pymc_nre.RatioEstimator", 1


def write_archive(
    path: str | os.PathLike[str],
    metadata: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    file_format: str = FORMAT,
) -> None:
    """Write JSON-ready metadata and arrays; an existing file is replaced."""
    metadata = {"format": file_format, "version": FORMAT_VERSION, **metadata}
    metadata["sha256"] = checksum(metadata, arrays)
    text = np.frombuffer(json.dumps(metadata).encode(), dtype=np.uint8)
    path = Path(path)
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        np.savez(file, metadata=text, **arrays)
    os.replace(partial, path)  # an interrupted save leaves the old file whole


def read_archive(
    path: str | os.PathLike[str], file_format: str = FORMAT
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read what `write_archive` wrote: metadata and arrays."""
    content = Path(path).read_bytes()
    if not content.startswith(b"PK"):
        raise EstimatorFileError(
            f"{path} is not a {file_format}: expected a file written by pymc_nre."
        )
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (zipfile.BadZipFile, ValueError, EOFError, OSError, KeyError) as error:
        raise EstimatorFileError(
            f"{path} is truncated or damaged ({error}). Copy or save it again."
        ) from error
    metadata = _parse_metadata(arrays, path, file_format)
    if metadata["version"] > FORMAT_VERSION:
        raise EstimatorFileError(
            f"{path} has format version {metadata['version']}; this pymc_nre reads up to version "
            f"{FORMAT_VERSION}. Upgrade pymc_nre (the file was written by "
            f"{metadata.get('libraries', {}).get('pymc_nre', 'a later one')})."
        )
    stated = metadata.pop("sha256", None)
    if stated != checksum(metadata, arrays):
        raise EstimatorFileError(
            f"{path} does not match its own checksum: it was changed after it was saved. Get the "
            "original again."
        )
    return metadata, arrays


def _parse_metadata(arrays: dict[str, np.ndarray], path: Any, file_format: str) -> dict[str, Any]:
    try:
        metadata = json.loads(arrays.pop("metadata").tobytes().decode())
        if metadata["format"] == file_format and isinstance(metadata["version"], int):
            return metadata
    except (KeyError, ValueError, TypeError):
        pass
    raise EstimatorFileError(
        f"{path} is an archive, but not a {file_format}: expected a file written by pymc_nre."
    )


def checksum(metadata: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 over everything that is saved."""
    sha = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        sha.update(f"{name} {array.dtype} {array.shape}".encode())
        sha.update(array.tobytes())
    return sha.hexdigest()
