"""Small files beside the arrays, on any fsspec store: written whole or not at all."""

import glob
import io
import itertools
import json
import os
import re
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import psutil

from . import disks
from .stores import StoreError, filesystem, has_folders, is_remote, protocols_of, retried

#: Folders that are listed, and small files that are read, at once.
_LISTED_AT_ONCE = 32

#: The same of files on local disks: for those that are reached over a network, without which one would do.
_READ_AT_ONCE = 4

#: Small files that a thread reads one after the other: handing one over takes longer than reading it.
_READ_IN_TURN = 64

#: Ends the name of a file that is not complete yet: what we write, and what zarr does.
PARTIAL = re.compile(r"\.[0-9a-f]{32}\.partial$")


#: Files that make a folder an array.
_METADATA = ("zarr.json", ".zarray")

#: What is raised for bytes that are no ``.npz`` file, or one whose headers lie.
_NO_ARRAYS = (
    *(ValueError, TypeError, LookupError, EOFError, OSError, RuntimeError, MemoryError, SyntaxError),
    *(zipfile.BadZipFile, zlib.error, OverflowError),
)


def join(directory: str | os.PathLike[str], *parts: str) -> str:
    """Path of a file in a directory or URL.

    Examples
    --------
    >>> join("s3://bucket/out.zarr/", "rag", "nodes.parquet")
    's3://bucket/out.zarr/rag/nodes.parquet'
    """
    return "/".join([os.fspath(directory).rstrip("/"), *(p.strip("/") for p in parts if p.strip("/"))])


def shown(path: str | os.PathLike[str]) -> str:
    """A path as people read it best: from the working directory, for what is below it.

    Examples
    --------
    >>> shown(Path.cwd() / "out.zarr"), shown("out.zarr/rag/"), shown("/data/em.zarr"), shown("s3://bucket/out.zarr")
    ('out.zarr', 'out.zarr/rag', '/data/em.zarr', 's3://bucket/out.zarr')
    """
    text = os.fspath(path)
    if is_remote(text):
        return text
    absolute, here = Path(text).absolute(), Path.cwd()
    return str(absolute.relative_to(here) if absolute.is_relative_to(here) else absolute)


def split_at(path: str, suffixes: tuple[str, ...]) -> tuple[str, str] | None:
    """Split a path after its first part with one of these suffixes, in any case: container and name in it.

    Examples
    --------
    >>> split_at("/data/sample_A.hdf/volumes/raw", (".h5", ".hdf"))
    ('/data/sample_A.hdf', 'volumes/raw')
    >>> split_at("/data/em.zarr/volumes/raw", (".h5", ".hdf")) is None
    True
    """
    parts = path.split("/")
    for end, part in enumerate(parts, 1):
        if part.lower().endswith(suffixes):
            return "/".join(parts[:end]), "/".join(parts[end:])
    return None


def exists(path: str) -> bool:
    """Whether a file or directory is there."""
    fs, inner = filesystem(path)
    return bool(retried(lambda: fs.exists(inner), path, "looking it up"))


def is_file(path: str) -> bool:
    """Whether a file, not a directory, is there."""
    fs, inner = filesystem(path)
    if _is_local(fs):
        return Path(inner).is_file()
    try:
        # `isfile` of some stores says no where they do not answer.
        return bool(retried(lambda: fs.info(inner), path, "looking it up")["type"] == "file")
    except FileNotFoundError:
        return False


def version(path: str) -> str:
    """Digest of what the store knows of a file, such as size and time: another one when it was replaced."""
    fs, inner = filesystem(path)
    return str(retried(lambda: fs.ukey(inner), path, "looking it up"))


def names(directory: str) -> list[str]:
    """Names of the files in a directory; none if it is not there."""
    fs, inner = filesystem(directory)
    try:
        if _is_local(fs):
            # fsspec looks at every single file, which takes its time where there are a million.
            with os.scandir(inner) as entries:
                return sorted(entry.name for entry in entries)
        found = retried(lambda: fs.ls(inner, detail=False), directory, "listing it")
        return sorted(entry.rstrip("/").rsplit("/", 1)[-1] for entry in found)
    except (FileNotFoundError, NotADirectoryError):
        return []


def sizes(paths: Iterable[str]) -> dict[str, int | None]:
    """Bytes of files, None for those that are not there. Folders are listed, each once."""
    found: dict[str, int | None] = dict.fromkeys(paths)
    folders = {path.rsplit("/", 1)[0] for path in found}
    with ThreadPoolExecutor(_LISTED_AT_ONCE) as pool:
        for folder, there in zip(folders, pool.map(_sizes_in, folders), strict=True):
            for name, size in there.items():
                if (path := f"{folder}/{name}") in found:
                    found[path] = size
    return found


def _sizes_in(folder: str) -> dict[str, int]:
    fs, inner = filesystem(folder)
    try:
        if _is_local(fs):
            with os.scandir(inner) as entries:
                found = {}
                for entry in entries:
                    # Others may be writing there, and files come and go.
                    with suppress(FileNotFoundError):
                        found[entry.name] = entry.stat().st_size
                return found
        listed = retried(lambda: fs.ls(inner, detail=True), folder, "listing it")
        return {
            entry["name"].rsplit("/", 1)[-1]: entry["size"] for entry in listed if entry["type"] == "file"
        }
    except (FileNotFoundError, NotADirectoryError):
        return {}


def read_all_json(directory: str, names: Sequence[str]) -> list[Any]:
    """The contents of many JSON files of a directory; None for one that cannot be read, or is not there."""
    fs, inner = filesystem(directory)
    local = _is_local(fs)

    def read(name: str) -> Any:
        try:
            if not local:
                return read_json(join(directory, name))
            # Not through fsspec, which takes longer than the disk.
            with open(f"{inner}/{name}", "rb", buffering=0) as file:  # noqa: PTH123
                return json.loads(file.read())
        except (ValueError, RecursionError, FileNotFoundError):
            return None

    def read_some(start: int) -> list[Any]:
        return [read(name) for name in names[start : start + _READ_IN_TURN]]

    if len(names) <= 1:
        return read_some(0)
    with ThreadPoolExecutor(_READ_AT_ONCE if local else _LISTED_AT_ONCE) as pool:
        return list(itertools.chain(*pool.map(read_some, range(0, len(names), _READ_IN_TURN))))


def size_of(directory: str) -> int:
    """Bytes of all files in a directory; 0 where there is none."""
    fs, where = filesystem(directory)
    return int(retried(lambda: fs.du(where) if fs.exists(where) else 0, directory, "listing it"))


def remove(path: str) -> None:
    """Remove a file, or a directory with all that is in it; nothing if it is not there."""
    fs, inner = filesystem(path)
    if _is_local(fs):
        disks.remove(inner)
        return

    def remove_all() -> None:
        if not fs.exists(inner):
            return
        if glob.has_magic(inner):
            _remove_each(fs, inner)
        else:
            fs.rm(inner, recursive=True)
        # Object stores delete many at once, and what they could not delete s3fs does not tell.
        if fs.exists(inner):
            raise StillThereError("not everything was deleted")

    retried(remove_all, path, "removing it")


def _remove_each(fs: fsspec.AbstractFileSystem, inner: str) -> None:
    """Remove what lies at a path that `fs.rm` takes for a pattern, which its neighbours match as well."""
    below = fs.find(inner, withdirs=True, detail=True)
    folders = [name for name, entry in below.items() if entry["type"] == "directory"]
    for name in below.keys() - set(folders):
        fs.rm_file(name)
    for name in sorted({inner, *folders}, key=len, reverse=True):
        # Object stores have no folders.
        with suppress(FileNotFoundError, NotImplementedError):
            fs.rmdir(name)


class StillThereError(RuntimeError):
    """A store said that it removed what is still there."""


def move(path: str, to: str) -> None:
    """Move a file or directory to where nothing is; object stores copy it."""
    fs, inner = filesystem(path)
    target = filesystem(to)[1]
    if _is_local(fs):
        disks.rename(inner, target)
        return
    # Not `mv`: if half of a folder is there after a first try, the second copies into it.
    found = retried(lambda: fs.find(inner), path, "listing it")
    if not found:
        raise FileNotFoundError(f"{path}: there is nothing to be moved to {to}")
    # What says that there is an array comes last: one that is copied in part is none.
    found.sort(key=lambda one: one.rsplit("/", 1)[-1] in _METADATA)
    copies = [target + one.removeprefix(inner.rstrip("/")) for one in found]
    retried(lambda: fs.copy(found, copies), path, f"copying it to {to}")
    remove(path)


def remove_partial(path: str) -> None:
    """Remove what killed writers left: of this file, or of all files in this folder, whoever wrote them.

    To be called where nobody else may be writing them. There is nothing of the kind on object stores.
    """
    fs, inner = filesystem(path)
    if not _is_local(fs):
        return
    place = Path(inner)
    below = (Path(folder, name) for folder, _, found in os.walk(place) for name in found)
    beside = place.parent.glob(f"{glob.escape(place.name)}.*.partial")
    for left in itertools.chain([place], beside, below):
        if PARTIAL.search(left.name) and not left.is_dir():
            # Its writer may be alive after all, and be done.
            left.unlink(missing_ok=True)


def read_bytes(path: str) -> bytes:
    """The content of a file."""
    fs, inner = filesystem(path)
    content: bytes = retried(lambda: fs.cat_file(inner), path, "reading it")
    return content


def write_bytes(path: str, content: bytes, *, kept: bool = True) -> None:
    """Write a file so that nobody ever sees a part of it.

    On a local disk it is written beside its place and moved there, and is there after a power cut; object
    stores show an object when it is complete. What need not be kept through a power cut is written sooner.
    """
    fs, inner = filesystem(path)
    if _is_local(fs):
        disks.write(inner, content, kept=kept)
        return
    _make_folder(fs, inner, path)
    retried(lambda: fs.pipe_file(inner, content), path, "writing it")


def create_json(path: str, content: Any) -> bool:
    """Write a JSON file unless there is one, whole or not at all; of several who try, one succeeds.

    What is written should be its writer's alone, with a token in it, say. Object stores decide by a
    conditional put.
    """
    fs, inner = filesystem(path)
    text = _json(content)
    if _is_local(fs):
        return disks.create(inner, text)
    _make_folder(fs, inner, path)
    try:
        retried(lambda: fs.pipe_file(inner, text, mode="create"), path, "writing it")
    except FileExistsError:
        # Of a first try that succeeded without our hearing of it, the second finds the file.
        return read_bytes(path) == text
    return True


def _make_folder(fs: fsspec.AbstractFileSystem, inner: str, path: str) -> None:
    """Make the folder of a file on a store that is not local, where it has folders."""
    if has_folders(fs):
        folder = inner.rsplit("/", 1)[0]
        retried(lambda: fs.makedirs(folder, exist_ok=True), path, "making its folder")


def check_writable(directory: str) -> None:
    """Raise PermissionError, naming the directory, where it cannot be written to.

    A directory that is not there is judged by the one it would be made in. What an object store allows shows
    only when it is written to.
    """
    fs, inner = filesystem(directory)
    if not _is_local(fs):
        return
    there = Path(inner).absolute()
    while not there.exists():
        there = there.parent
    if not os.access(there, os.W_OK):
        raise PermissionError(f"{directory}: cannot be written to; {there} is read-only for this user")


def _is_local(fs: fsspec.AbstractFileSystem) -> bool:
    return "file" in protocols_of(fs)


def read_json(path: str) -> Any:
    """The content of a JSON file.

    Raises
    ------
    ValueError
        If it is not JSON, naming the file and the place.
    """
    try:
        return json.loads(read_bytes(path))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not a readable JSON file ({error}); was it cut short?") from error


def write_json(path: str, content: Any, *, kept: bool = True) -> None:
    """Write a JSON file, whole or not at all; `kept` as for `write_bytes`."""
    write_bytes(path, _json(content), kept=kept)


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
        content = io.BytesIO(read_bytes(path))
        with zipfile.ZipFile(content) as directory:
            size, memory = sum(entry.file_size for entry in directory.infolist()), _memory()
        if size > memory:
            raise ValueError(f"it would be {size:,} bytes, more than the memory of {memory:,}")
        with np.load(content, allow_pickle=False) as arrays:
            tables = dict(arrays)
        if not all(isinstance(table, np.ndarray) for table in tables.values()):
            raise ValueError("it holds files that are no arrays")
    except _NO_ARRAYS as error:
        if isinstance(error, FileNotFoundError | PermissionError | StoreError):
            raise
        raise ValueError(f"{path}: not a readable table ({error}); was it cut short?") from error
    return tables


def _memory() -> int:
    """Bytes of memory that this machine has."""
    return int(psutil.virtual_memory().total)


def write_arrays(path: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Write several arrays as one ``.npz`` file, whole or not at all."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    write_bytes(path, buffer.getvalue())
