"""Small files beside the arrays, on any fsspec store: written whole or not at all."""

import io
import json
import os
import uuid
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fsspec
import numpy as np


def join(directory: str | os.PathLike[str], *parts: str) -> str:
    """Path of a file in a directory or URL.

    Examples
    --------
    >>> join("s3://bucket/out.zarr/", "rag", "nodes.parquet")
    's3://bucket/out.zarr/rag/nodes.parquet'
    """
    return "/".join([os.fspath(directory).rstrip("/"), *(p.strip("/") for p in parts if p.strip("/"))])


def exists(path: str) -> bool:
    """Whether a file or directory is there."""
    fs, inner = fsspec.core.url_to_fs(path)
    return bool(fs.exists(inner))


def is_file(path: str) -> bool:
    """Whether a file, not a directory, is there."""
    fs, inner = fsspec.core.url_to_fs(path)
    return bool(fs.isfile(inner))


def version(path: str) -> str:
    """Digest of what the store knows of a file, such as size and time: another one when it was replaced."""
    fs, inner = fsspec.core.url_to_fs(path)
    return str(fs.ukey(inner))


def names(directory: str) -> list[str]:
    """Names of the files in a directory; none if it is not there."""
    fs, inner = fsspec.core.url_to_fs(directory)
    fs.invalidate_cache(inner)
    try:
        return sorted(entry.rstrip("/").rsplit("/", 1)[-1] for entry in fs.ls(inner, detail=False))
    except FileNotFoundError:
        return []


def remove(path: str) -> None:
    """Remove a file, or a directory with all that is in it; nothing if it is not there."""
    fs, inner = fsspec.core.url_to_fs(path)
    if fs.exists(inner):
        fs.rm(inner, recursive=True)


def read_bytes(path: str) -> bytes:
    """The content of a file."""
    with fsspec.open(path, "rb") as file:
        content: bytes = file.read()
    return content


def write_bytes(path: str, content: bytes) -> None:
    """Write a file so that nobody ever sees a part of it.

    On a local disk it is written beside its place and moved there; object stores show an object when it is
    complete.
    """
    fs, inner = fsspec.core.url_to_fs(path)
    fs.makedirs(inner.rsplit("/", 1)[0], exist_ok=True)
    if "file" not in (fs.protocol if isinstance(fs.protocol, tuple) else (fs.protocol,)):
        fs.pipe_file(inner, content)
        return
    beside = Path(f"{inner}.{uuid.uuid4().hex}.partial")
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(inner)
    finally:
        beside.unlink(missing_ok=True)


def read_json(path: str) -> Any:
    """The content of a JSON file.

    Raises
    ------
    ValueError
        If it is not JSON, naming the file and the place.
    """
    try:
        return json.loads(read_bytes(path))
    except ValueError as error:
        raise ValueError(f"{path}: not a readable JSON file ({error}); was it cut short?") from error


def write_json(path: str, content: Any) -> None:
    """Write a JSON file, whole or not at all."""
    write_bytes(path, (json.dumps(content, indent=1, sort_keys=True) + "\n").encode())


def read_arrays(path: str) -> dict[str, np.ndarray]:
    """The arrays that `write_arrays` wrote.

    Raises
    ------
    ValueError
        If the file is no such file, naming it.
    """
    try:
        with np.load(io.BytesIO(read_bytes(path)), allow_pickle=False) as arrays:
            return dict(arrays)
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ValueError(f"{path}: not a readable table ({error}); was it cut short?") from error


def write_arrays(path: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Write several arrays as one ``.npz`` file, whole or not at all."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    write_bytes(path, buffer.getvalue())
