"""Paths of volumes: what a user writes, made absolute, and names within a container.

A path that begins with a protocol, such as ``s3://``, is a URL. Every other one is a local path and taken as
it stands: no letter of it is a pattern, a query or a fragment. Below a container, names lead down alone.
"""

import glob
import os
from os import PathLike
from pathlib import Path

import fsspec

from ..checks.arguments import described, shown
from .credentials import check_no_secrets
from .names import check_key, check_length
from .stores import is_remote

#: Begins the path of a Neuroglancer precomputed volume; a path or URL follows.
PRECOMPUTED = "precomputed://"

#: What ends the names of containers. All that follows the last such name of a path is a name within it.
CONTAINERS = (".zarr", ".n5", ".h5", ".hdf", ".hdf5")

#: Bytes of a path that systems take.
LONGEST = 4095

#: Protocols of archives, in which files cannot be replaced.
_ARCHIVES = {"zip", "tar", "libarchive"}

#: What ends the names of archives; a folder may well be called so.
_ARCHIVE_NAMES = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst")


def normalise_path(path: str | PathLike[str]) -> str:
    """Make a path absolute, so that a worker with another working directory finds the same volume.

    Parameters
    ----------
    path : str or PathLike
        Local path or URL. A local path may begin with ``~`` and have parts ``.`` and ``..`` up to its
        container.

    Returns
    -------
    str
        Without a trailing slash; URLs stay URLs, ``file://`` becomes a local path.

    Raises
    ------
    TypeError
        If it is no path.
    ValueError
        If it is empty, a URL of a protocol that fsspec does not know, or within an archive; or if names are
        too long, or lead out of their container.

    Examples
    --------
    >>> normalise_path("s3://bucket/em.zarr/volumes/raw/")
    's3://bucket/em.zarr/volumes/raw'
    >>> normalise_path("/data/run #1/../em[2].zarr/raw")
    '/data/em[2].zarr/raw'
    >>> normalise_path("em.zarr/../raw")
    Traceback (most recent call last):
    ValueError: em.zarr/../raw: found '..' in '../raw', expected names that lead down from the container
    """
    if not isinstance(path, str | PathLike):
        raise TypeError(f"path: found {described(path)}, expected a path or URL of a container and an array")
    text = os.fspath(path)
    if text.startswith(PRECOMPUTED):
        return PRECOMPUTED + normalise_path(text.removeprefix(PRECOMPUTED))
    text = text.removeprefix("file://").removeprefix("local://")
    if not text:
        raise ValueError("path: found '', expected a path or URL of a container and an array in it")
    if is_remote(text):
        _check_url(text)
        check_no_secrets(text)
        return text.rstrip("/")
    key = [part for part in _below_container(text) if part not in ("", ".")]
    if key:
        check_key("/".join(key), text)
    absolute = _absolute(text)
    _check_lengths(absolute)
    _check_no_archive(absolute)
    return absolute


def pattern_of(path: str) -> str:
    """Glob pattern of a normalised local path, of which all that exists is taken as it stands.

    Examples
    --------
    >>> pattern_of("/nowhere[1]/*.png")
    '/nowhere[1]/*.png'
    """
    there, rest = _split_existing(path)
    return glob.escape(there) + rest


def is_pattern(path: str) -> bool:
    """Whether a normalised path is that of several files: not there as it stands, and not in a container.

    Examples
    --------
    >>> is_pattern("/nowhere/*.png"), is_pattern("/nowhere/*.zarr/raw*"), is_pattern("s3://bucket/*.png")
    (True, False, False)
    """
    return not is_remote(path) and not _below_container(path) and glob.has_magic(_split_existing(path)[1])


def _split_existing(path: str) -> tuple[str, str]:
    """The part of a path that exists, and the rest."""
    there = path
    while there and not os.path.lexists(there):
        there = there.rpartition("/")[0]
    return there, path[len(there) :]


def _below_container(text: str) -> list[str]:
    """Names after the last container of a path; none where there is no container."""
    parts = text.split("/")
    ends = [end for end, part in enumerate(parts, 1) if part.lower().endswith(CONTAINERS)]
    return parts[ends[-1] :] if ends else []


def _absolute(text: str) -> str:
    # Not Path.expanduser, which fails without a home, and for which ./~ is a home as well.
    text = os.path.expanduser(text)  # noqa: PTH111
    parts = Path(text).parts
    if ".." in parts:
        # A symbolic link may lead elsewhere: what is above it is above the place that it leads to.
        end = len(parts) - parts[::-1].index("..")
        text = str(Path(os.path.realpath(Path(*parts[:end])), *parts[end:]))
    # POSIX keeps two leading slashes apart from one, Linux does not.
    return "/" + str(Path(text).absolute()).lstrip("/")


def _check_lengths(path: str) -> None:
    if "\0" in path:
        raise ValueError(f"{shown(path)}: found the character '\\x00', which no path can hold")
    for part in path.split("/"):
        check_length(part, shown(path))
    length = len(os.fsencode(path))
    if length > LONGEST:
        raise ValueError(f"{shown(path)}: found a path of {length} bytes, expected at most {LONGEST}")


def _check_no_archive(path: str) -> None:
    """Raise ValueError where a path is that of a zip or tar archive, or leads into one."""
    there = _split_existing(path.rstrip("/"))[0]
    if there.lower().endswith(_ARCHIVE_NAMES) and Path(there).is_file():
        raise ValueError(
            f"{path}: {there} is an archive, and zip and tar archives are not read, expected a folder or a "
            "store; unpack the archive and name the container that it held"
        )


def _check_url(url: str) -> None:
    links = url.split("::")
    protocols = [link.partition("://")[0] for link in links if not link.startswith("/")]
    archive = next((name for name in protocols if name in _ARCHIVES), None)
    if archive:
        raise ValueError(
            f"{url}: {archive} archives are not read, expected a folder or a store; unpack the archive and "
            "name the container that it held"
        )
    unknown = [name for name in protocols if name not in fsspec.available_protocols()]
    if unknown:
        raise ValueError(
            f"{url}: found the protocol {unknown[0]!r}, expected one that fsspec knows, such as s3"
        )
    dots = [part for part in url.split("/") if part in (".", "..")]
    if dots:
        raise ValueError(f"{url}: found {dots[0]!r}, expected a URL without such parts")
