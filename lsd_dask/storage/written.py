"""What a record says was written, and whether it is still there: files with their size and checksum."""

import posixpath
import zlib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from . import files
from .stores import is_remote

#: Files that are read at once.
AT_ONCE = 8

_PIECE = 1 << 22

type Noted = Mapping[str, Mapping[str, Any]]


def note(paths: Iterable[str], directory: str) -> dict[str, dict[str, Any]]:
    """Size and checksum of files, by their path from a folder, so that both can be moved together.

    What is not there is left out. On object stores, which have checksums of their own, it is the size alone.
    """
    noted = {}
    for path in paths:
        if is_remote(path):
            if (size := files.sizes([path])[path]) is not None:
                noted[_from(directory, path)] = {"bytes": size}
        elif files.is_file(path):
            noted[_from(directory, path)] = _measured(path)
    return noted


def damaged(records: Mapping[str, Noted | None], directory: str, *, verify: bool = False) -> set[str]:
    """Names of the records whose files are not all there as they were noted.

    Parameters
    ----------
    records
        What `note` gave, by any name; None for a record that cannot be read.
    directory
        The folder that the paths are from.
    verify
        Whether to read all files and compare their checksums too; else their sizes are compared, which takes
        one listing of each of their folders.
    """
    found = {name for name, noted in records.items() if noted is None}
    wanted = {
        name: {_resolved(directory, path): facts for path, facts in noted.items()}
        for name, noted in records.items()
        if noted
    }
    sizes = files.sizes(path for noted in wanted.values() for path in noted)
    for name, noted in wanted.items():
        # An empty file holds nothing, whatever was noted.
        if any(not sizes[path] or sizes[path] != facts.get("bytes") for path, facts in noted.items()):
            found.add(name)
    if not verify:
        return found
    summed = {
        path: (name, facts)
        for name, noted in wanted.items()
        if name not in found
        for path, facts in noted.items()
        if "crc32" in facts
    }
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for (name, facts), measured in zip(summed.values(), pool.map(_measured, summed), strict=True):
            if measured != facts:
                found.add(name)
    return found


def _measured(path: str) -> dict[str, Any]:
    size = checksum = 0
    with Path(path).open("rb") as file:
        while piece := file.read(_PIECE):
            size += len(piece)
            checksum = zlib.crc32(piece, checksum)
    return {"bytes": size, "crc32": f"{checksum:08x}"}


def _from(directory: str, path: str) -> str:
    """A path as seen from a folder.

    >>> _from("s3://bucket/a.zarr/runs/one", "s3://bucket/a.zarr/volumes/x/c/0")
    '../../volumes/x/c/0'
    """
    return posixpath.relpath(path, directory)


def _resolved(directory: str, path: str) -> str:
    """What `_from` was given.

    >>> _resolved("s3://bucket/a.zarr/runs/one", "../../volumes/x/c/0")
    's3://bucket/a.zarr/volumes/x/c/0'
    """
    protocol, separator, inner = directory.rpartition("://")
    return protocol + separator + posixpath.normpath(posixpath.join(inner, path))
