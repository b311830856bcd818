"""Small files beside the arrays, on any fsspec store: written whole or not at all."""

import glob
import io
import itertools
import json
import os
import re
import uuid
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec
import numpy as np

#: Ends the name of a file that is not complete yet: what we write, and what zarr does.
_PARTIAL = re.compile(r"\.[0-9a-f]{32}\.partial$")


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
    fs.invalidate_cache(inner)
    return str(fs.ukey(inner))


def names(directory: str) -> list[str]:
    """Names of the files in a directory; none if it is not there."""
    fs, inner = fsspec.core.url_to_fs(directory)
    fs.invalidate_cache(inner)
    try:
        return sorted(entry.rstrip("/").rsplit("/", 1)[-1] for entry in fs.ls(inner, detail=False))
    except FileNotFoundError:
        return []


def size_of(directory: str) -> int:
    """Bytes of all files in a directory; 0 where there is none."""
    fs, where = fsspec.core.url_to_fs(directory)
    return int(fs.du(where)) if fs.exists(where) else 0


def remove(path: str) -> None:
    """Remove a file, or a directory with all that is in it; nothing if it is not there."""
    fs, inner = fsspec.core.url_to_fs(path)
    if fs.exists(inner):
        fs.rm(inner, recursive=True)


def move(path: str, to: str) -> None:
    """Move a file or directory to where nothing is; object stores copy it."""
    fs, inner = fsspec.core.url_to_fs(path)
    fs.mv(inner, fsspec.core.url_to_fs(to)[1], recursive=True)


def remove_partial(path: str) -> None:
    """Remove what killed writers left: of this file, or of all files in this folder, whoever wrote them.

    To be called where nobody else may be writing them. There is nothing of the kind on object stores.
    """
    fs, inner = fsspec.core.url_to_fs(path)
    if not _is_local(fs):
        return
    place = Path(inner)
    below = (Path(folder, name) for folder, _, found in os.walk(place) for name in found)
    beside = place.parent.glob(f"{glob.escape(place.name)}.*.partial")
    for left in itertools.chain([place], beside, below):
        if _PARTIAL.search(left.name) and not left.is_dir():
            # Its writer may be alive after all, and be done.
            left.unlink(missing_ok=True)


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
    if not _is_local(fs):
        fs.pipe_file(inner, content)
        return
    with _written_beside(inner, content) as beside:
        beside.replace(inner)


def create_json(path: str, content: Any) -> bool:
    """Write a JSON file unless there is one, whole or not at all; of several who try, one succeeds."""
    fs, inner = fsspec.core.url_to_fs(path)
    fs.makedirs(inner.rsplit("/", 1)[0], exist_ok=True)
    try:
        if _is_local(fs):
            with _written_beside(inner, _json(content)) as beside:
                os.link(beside, inner)
        else:
            fs.pipe_file(inner, _json(content), mode="create")
    except FileExistsError:
        return False
    return True


def check_writable(directory: str) -> None:
    """Raise PermissionError, naming the directory, where it cannot be written to.

    A directory that is not there is judged by the one it would be made in. What an object store allows shows
    only when it is written to.
    """
    fs, inner = fsspec.core.url_to_fs(directory)
    if not _is_local(fs):
        return
    there = Path(inner).absolute()
    while not there.exists():
        there = there.parent
    if not os.access(there, os.W_OK):
        raise PermissionError(f"{directory}: cannot be written to; {there} is read-only for this user")


def _is_local(fs: fsspec.AbstractFileSystem) -> bool:
    return "file" in (fs.protocol if isinstance(fs.protocol, tuple) else (fs.protocol,))


@contextmanager
def _written_beside(path: str, content: bytes) -> Iterator[Path]:
    """A file with this content beside `path`; it is gone afterwards, unless it was moved."""
    beside = Path(f"{path}.{uuid.uuid4().hex}.partial")
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        yield beside
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
    write_bytes(path, _json(content))


def _json(content: Any) -> bytes:
    return (json.dumps(content, indent=1, sort_keys=True) + "\n").encode()


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
