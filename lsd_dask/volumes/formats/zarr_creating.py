"""Zarr containers: finding arrays by "container and array in one" paths, and creating arrays in them."""

import os
import re
import tempfile
import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal

import numpy as np
import zarr
import zarr.errors
from filelock import FileLock
from numpy.typing import DTypeLike
from zarr.codecs import ZstdCodec

from ...storage import files
from ...storage.missing import listed, missing_array, missing_path
from ...storage.names import check_key
from ...storage.paths import PRECOMPUTED as PRECOMPUTED
from ...storage.paths import normalise_path as normalise_path
from ...storage.stores import is_remote as is_remote
from ...storage.stores import retried
from ...storage.zarr_stores import opened_with
from ..stored import MARK
from .claims import check_claims

type Node = zarr.Array[Any] | zarr.Group
type ParentAttributes = Callable[[Mapping[str, Any], str, int], Mapping[str, Any]]

#: What zarr raises for metadata that are cut short (they are no JSON then), or do not say what they must.
_BROKEN = (
    *(ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError),
    zarr.errors.ZarrUserWarning,
)


#: What lies in the folder of an array: metadata, chunks in the names of either format, files that are not
#: complete yet, and what systems put into any folder.
_OF_AN_ARRAY = re.compile(
    r"zarr\.json|\.z(array|attrs|group|metadata)|c([./]\d+)*|\d+([./]\d+)*|.*\.partial|\.DS_Store|\.nfs.*"
)


def ancestors(path: str) -> Iterator[str]:
    """Yield the paths above a normalised path, nearest first, up to a container called ``*.zarr``.

    Parameters
    ----------
    path : str

    Yields
    ------
    str

    Examples
    --------
    >>> list(ancestors("s3://bucket/em.zarr/volumes/raw"))
    ['s3://bucket/em.zarr/volumes', 's3://bucket/em.zarr']
    """
    protocol, separator, rest = path.rpartition("://")
    parts = rest.split("/")
    suffixed = (i for i, part in enumerate(parts) if part.lower().endswith(".zarr"))
    for end in range(len(parts) - 1, next(suffixed, 0), -1):
        if any(parts[:end]):
            yield protocol + separator + "/".join(parts[:end])


def open_node(path: str) -> Node | None:
    """Open the zarr array or group at exactly this path for reading.

    Parameters
    ----------
    path : str

    Returns
    -------
    zarr.Array or zarr.Group or None
        None where there is neither.

    Raises
    ------
    ValueError
        If there is one, but its metadata cannot be read.
    """
    try:
        return retried(lambda: zarr.open_array(mode="r", **opened_with(path, "r")), path, "opening it")
    except (FileNotFoundError, NotADirectoryError, zarr.errors.NodeTypeValidationError):
        pass
    except _BROKEN as error:
        raise ValueError(f"{path}: the array's zarr metadata cannot be read: {error}") from error
    try:
        # Consolidated metadata is a copy, and an array added since is not in it.
        return retried(lambda: _open_group(path, "r"), path, "opening it")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except _BROKEN as error:
        raise ValueError(f"{path}: the group's zarr metadata cannot be read: {error}") from error


def _open_group(path: str, mode: Literal["r", "r+"]) -> zarr.Group:
    return zarr.open_group(mode=mode, use_consolidated=False, **opened_with(path, mode))


def find_node(path: str) -> Node:
    """Open the zarr array or group at this path; say what is there instead where there is none.

    Parameters
    ----------
    path : str

    Returns
    -------
    zarr.Array or zarr.Group

    Raises
    ------
    ValueError
        If its metadata claim what cannot be.
    FileNotFoundError
        If the path or its container does not exist. The message tells the nearest names, or those there are.
    """
    node = open_node(path)
    if isinstance(node, zarr.Array):
        # zarr reads chunks of no voxels as some of one, and warns.
        if getattr(node.metadata, "_stored_document", None) is not None and all(node.shape):
            raise ValueError(f"{path}: found chunks of no voxels, expected at least 1 along each axis")
        check_claims(path, node.shape, node.chunks, node.dtype.itemsize)
    if node is not None:
        return node
    for container in ancestors(path):
        above = open_node(container)
        if above is not None:
            names = ["the container itself"]
            if isinstance(above, zarr.Group):
                names = arrays_below(above, container)
            raise FileNotFoundError(missing_array(container, path[len(container) + 1 :], names))
    raise FileNotFoundError(missing_path(path))


def arrays_below(group: zarr.Group, path: str) -> list[str]:
    """Names of all arrays in a group and the groups below it.

    Parameters
    ----------
    group : zarr.Group
    path : str
        Where it was opened, for messages.

    Returns
    -------
    list of str
        Relative to the group, sorted.

    Raises
    ------
    ValueError
        If the metadata of one of them cannot be read.
    """
    try:
        with warnings.catch_warnings():
            # Tables and ledgers lie beside the arrays.
            warnings.filterwarnings("ignore", "Object at .* is not recognized", zarr.errors.ZarrUserWarning)
            members = retried(lambda: group.members(max_depth=None), path, "listing it")
    except _BROKEN as error:
        raise ValueError(
            f"{path}: the zarr metadata of an array or group below cannot be read: {error}"
        ) from error
    return sorted(name for name, member in members if isinstance(member, zarr.Array) and not is_part(name))


def check_free(path: str, overwrite: bool) -> bool:
    """Check that an array may be created at this path, before anything is touched.

    Parameters
    ----------
    path : str
    overwrite : bool
        Whether an array that is there may be replaced.

    Returns
    -------
    bool
        Whether there is one.

    Raises
    ------
    FileExistsError
        If an array is there and must stay, or if a group is there.
    """
    node = open_node(path)
    if isinstance(node, zarr.Array) and not overwrite:
        raise FileExistsError(
            f"{path}: an array of shape {node.shape} and dtype {node.dtype} is already there; "
            "pass overwrite=True to replace it"
        )
    if node is None and not is_remote(path) and Path(path).is_file():
        raise FileExistsError(f"{path}: a file is already there, expected the name of an array")
    if isinstance(node, zarr.Array):
        check_only_array(path)
    if isinstance(node, zarr.Group):
        raise FileExistsError(
            f"{path}: a group is already there, with the arrays {listed(arrays_below(node, path))}; "
            "name an array inside it"
        )
    return node is not None


def check_only_array(path: str) -> None:
    """Raise FileExistsError if there is more in the folder of an array than zarr's and our own files."""
    foreign = [name for name in files.names(path) if not _OF_AN_ARRAY.fullmatch(name)]
    if foreign:
        raise FileExistsError(
            f"{path}: found {listed(foreign)} in the folder of the array, expected its own files alone, "
            "as all of it is removed when the array is replaced; move it away"
        )


def container_of(path: str) -> tuple[str, str, Literal[2, 3] | None]:
    """Split the path of an array that is to be created into its container and its name.

    Parameters
    ----------
    path : str

    Returns
    -------
    container : str
        The topmost existing zarr group, or else the first part of the path that ends in ``.zarr``.
    name : str
        The array's name within it.
    zarr_format : 2, 3 or None
        Format of the container; None where it does not exist yet.

    Raises
    ------
    ValueError
        If the path has no container, or names nothing inside it.
    NotADirectoryError
        If it leads through an array or a file.
    """
    above = list(ancestors(path))
    suffixed = [candidate for candidate in reversed([path, *above]) if candidate.lower().endswith(".zarr")]
    existing = {}
    for candidate in above:
        node = open_node(candidate)
        if isinstance(node, zarr.Array):
            raise NotADirectoryError(f"{path}: {candidate} is an array, which cannot hold another one")
        if node is not None:
            existing[candidate] = node.metadata.zarr_format
        elif not is_remote(candidate) and Path(candidate).is_file():
            raise NotADirectoryError(f"{path}: {candidate} is a file, expected a zarr container or a folder")
    container = list(existing)[-1] if existing else next(iter(suffixed), None)
    if container is None or container == path:
        example = f"{container or 'out.zarr'}/volumes/raw"
        raise ValueError(
            f"{path}: expected a container and the name of an array in it, for instance {example}"
        )
    return container, path[len(container) + 1 :], next(iter(existing.values()), None)


def create_array(
    path: str,
    shape: Sequence[int],
    dtype: DTypeLike,
    *,
    chunks: Sequence[int],
    shards: Sequence[int],
    axis_names: Sequence[str],
    zarr_format: Literal[2, 3] | None,
    attributes: Mapping[str, Any],
    parent_attributes: ParentAttributes,
    overwrite: bool,
) -> zarr.Array[Any]:
    """Create an array filled with zeros and describe it in the attributes of its parent group.

    Parameters
    ----------
    path : str
    shape, dtype
        Of the array.
    chunks, shards : sequence of int
        Format 2 has no shards: its chunks are of the shape of the shards.
    axis_names : sequence of str
        One per axis, kept by format 3.
    zarr_format : 2, 3 or None
        None follows the container, and is 3 where that is new.
    attributes : mapping
        Of the array.
    parent_attributes : callable
        Maps the attributes of the parent group, the array's name and the format to what is to be changed in
        the former. Other processes of this user and machine wait meanwhile, where the container is local.
    overwrite : bool
        Whether an array that is already there is replaced.

    Returns
    -------
    zarr.Array

    Raises
    ------
    FileExistsError
        If an array is there and must stay, or if a group is there.
    ValueError
        If the path has no container, or one of another format than asked for.
    """
    container, name, _ = container_of(path)
    check_key(name, path)
    zarr_format = format_for(path, zarr_format)
    with _lock(container):
        # Without an array to replace, the folder must not be emptied: tables may lie in it.
        if check_free(path, overwrite):
            # Not by zarr, which does not notice what an object store failed to delete: old voxels would show.
            _remove_array(path)
        array = retried(
            lambda: zarr.create_array(
                name=name,
                shape=shape,
                dtype=dtype,
                fill_value=0,
                attributes=dict(attributes),
                zarr_format=zarr_format,
                # What is there by now is what an earlier try of this one wrote.
                overwrite=check_free(path, overwrite=True),
                **opened_with(container, "w"),
                **_encoding(zarr_format, dtype, chunks, shards, axis_names),
            ),
            path,
            "creating the array",
        )
        retried(lambda: _describe(path, zarr_format, parent_attributes), path, "describing the array")
    return array


def put_in_place(beside: str, path: str, parent_attributes: ParentAttributes, *, overwrite: bool) -> None:
    """Move an array that was written beside its place there; an old one stays until then.

    Parameters
    ----------
    beside : str
        Of an array that is complete.
    path : str
        Its place.
    parent_attributes : callable
        As for `create_array`.
    overwrite : bool
        Whether an array that is there is replaced.

    Raises
    ------
    FileExistsError
        If an array is there and `overwrite` is False.
    """
    container, _, found = container_of(path)
    with _lock(container):
        if check_free(path, overwrite):
            _remove_array(path)
        elif not is_remote(path):
            check_only_array(path)
            # Of an array that a power cut left without its metadata.
            files.remove(path)
        files.move(beside, path)
        retried(lambda: _describe(path, found or 3, parent_attributes), path, "describing the array")


def is_part(name: str) -> bool:
    """Whether a name is that of a file or folder which is not complete yet.

    Examples
    --------
    >>> is_part("raw.0123456789abcdef0123456789abcdef.partial"), is_part("raw")
    (True, False)
    """
    return any(files.PARTIAL.search(part) for part in name.split("/"))


def _remove_array(path: str) -> None:
    """Remove an array, and the coarser levels that `build_pyramid` made of it."""
    levels = f"{path}_levels"
    group = open_node(levels)
    made = dict(group.arrays()) if isinstance(group, zarr.Group) else {}
    aside = f"{path}.{uuid.uuid4().hex}.partial"
    if is_remote(path):
        files.remove(path)
    else:
        # Not bit by bit: a folder that lost its metadata first would show its old voxels in a new array.
        files.move(path, aside)
        files.remove(aside)
    for name, level in made.items():
        mark = level.attrs.get(MARK)
        if isinstance(mark, Mapping) and mark.get("step") == "build_pyramid":
            files.remove(files.join(levels, name))


def discard(folder: str) -> None:
    """Remove a folder that tasks may still write to: those at work when another one failed."""
    for _ in range(20):
        # What was written meanwhile keeps a folder from being removed.
        with suppress(OSError):
            files.remove(folder)
        time.sleep(0.1)
        if not files.exists(folder):
            return


def format_for(path: str, zarr_format: Literal[2, 3] | None) -> Literal[2, 3]:
    """Zarr format of an array that is to be created: what was asked for, or that of its container.

    Parameters
    ----------
    path : str
    zarr_format : 2, 3 or None

    Returns
    -------
    2 or 3

    Raises
    ------
    ValueError
        If the container has another one than asked for.
    """
    container, _, found = container_of(path)
    if zarr_format is not None and found is not None and zarr_format != found:
        raise ValueError(
            f"{path}: the container {container} has zarr format {found}, and cannot hold arrays of format "
            f"{zarr_format}; leave zarr_format out to follow it, or name another container"
        )
    return zarr_format or found or 3


def _describe(path: str, zarr_format: Literal[2, 3], parent_attributes: ParentAttributes) -> None:
    """Describe an array in the attributes of its parent group."""
    parent = _open_group(next(ancestors(path)), "r+")
    parent.update_attributes(
        dict(parent_attributes(dict(parent.attrs), path.rsplit("/", 1)[-1], zarr_format))
    )


def _encoding(
    zarr_format: int, dtype: Any, chunks: Sequence[int], shards: Sequence[int], axis_names: Sequence[str]
) -> dict[str, Any]:
    # Measured by benchmarks/compression.py: ids are a sixth smaller at level 3, for the same time; affinities
    # as small at level 1, for a third of it. blosc's shuffling makes ids up to three times as large.
    level = 3 if np.dtype(dtype).itemsize == 8 else 1
    if zarr_format == 2:
        return {
            "chunks": shards,
            "chunk_key_encoding": {"name": "v2", "separator": "/"},
            "compressors": {"id": "zstd", "level": level},
        }
    return {
        "chunks": chunks,
        "shards": shards,
        "dimension_names": axis_names,
        "compressors": ZstdCodec(level=level),
    }


def _lock(container: str) -> AbstractContextManager[Any]:
    if is_remote(container):
        return nullcontext()
    digest = blake2b(str(Path(container).resolve()).encode(), digest_size=8).hexdigest()
    return FileLock(Path(tempfile.gettempdir()) / f"lsd_dask-{os.getuid()}-{digest}.lock")
