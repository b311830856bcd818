"""N5 volumes (extra ``formats``).

The place of an array is written as ``axes``, ``units``, ``resolution`` and ``offset`` (x, y, z: the
convention of funkelab and of n5-viewer), ``pixelResolution``, and, as on Janelia's public buckets,
``transform``. Any of them is read, key by key: from the array, from the groups above it, and from the
``multiscales`` that such a group has. What groups say is of the finest level.

References
----------
.. [1] https://github.com/saalfeldlab/n5
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ...space.grids import Grid
from ...storage import files
from ...storage.files import split_at
from ...storage.missing import missing_array
from ...storage.replacing import left_of, replaced, settle
from ...storage.stores import is_remote
from .attributes import axes_of, shifted_transform, source_from_attributes
from .layouts import Layout, Source, Stated, layout_of
from .levels import factors_of, held_against, level_of, of_level
from .ngff import multiscales_of, paths_of, source_of_multiscale
from .tensorstore_volumes import (
    StoredTensor,
    check_unused,
    check_volume,
    kvstore_of,
    naming_errors,
    open_store,
    read_json,
    stored_tensor,
    write_json,
)

#: What ends the name of an N5 container.
SUFFIXES = (".n5",)

_ATTRIBUTES = "attributes.json"
_TYPES = (
    *("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"),
    *("float32", "float64"),
)

#: Voxels of a block along each axis, where nothing else is said.
_BLOCK = 128


def is_n5(path: str) -> bool:
    """Whether a path leads into an N5 container.

    Parameters
    ----------
    path : str

    Returns
    -------
    bool

    Examples
    --------
    >>> is_n5("s3://bucket/em.n5/volumes/raw")
    True
    """
    return split_at(path, SUFFIXES) is not None


def open_n5(path: str, level: int, stated: Mapping[str, Any]) -> StoredTensor:
    """Open an N5 array.

    Parameters
    ----------
    path : str
        Container and array in one: ``em.n5/volumes/raw``; or a group of the arrays ``s0``, ``s1``, ...
    level : int
        Which of these.
    stated : mapping
        ``voxel_size``, ``offset`` and ``units`` that override what is stored.

    Returns
    -------
    StoredTensor

    Raises
    ------
    ModuleNotFoundError
        Without the extra ``formats``.
    FileNotFoundError
        If there is none; the message lists those of a local container.
    ValueError
        If there is no such level, or axes or attributes cannot be those of a volume.
    """
    attributes = read_json(path, _ATTRIBUTES)
    name = path
    if "dimensions" not in attributes:
        name = f"{path}/s{level}"
        attributes = read_json(name, _ATTRIBUTES)
    elif level != 0:
        raise ValueError(f"{path}: level {level} was asked for, but this is an array, not a group of levels")
    if "dimensions" not in attributes:
        raise FileNotFoundError(_nothing_there(path, level))
    spec = {"driver": "n5", "kvstore": kvstore_of(name)}
    with naming_errors(path):
        store = open_store(spec)
        layout = layout_of(store.shape, _sources(name, attributes), stated, where=name)
        return stored_tensor(name, spec, store, layout, attributes)


@contextmanager
def created_n5(
    path: str,
    grid: Grid,
    dtype: np.dtype[Any],
    channels: int | None,
    more: Mapping[str, Any],
    *,
    block_shape: Sequence[int] | None,
    overwrite: bool,
) -> Iterator[StoredTensor]:
    """Create an N5 array that is to be filled, and put it in place of an old one when it is.

    Parameters
    ----------
    path : str
        Container and array in one.
    grid : Grid
    dtype : dtype
    channels : int or None
    more : mapping
        Attributes of it. A neighborhood has its offsets as z, y, x, unlike what N5 says of its axes.
    block_shape : sequence of int or None
        Shape of a block; by default 128 voxels an axis.
    overwrite : bool
        Whether an array that is there is replaced.

    Yields
    ------
    StoredTensor

    Raises
    ------
    FileExistsError
        If there is one and `overwrite` is False.
    ValueError
        If N5 cannot hold such a volume, or the path names no array in a container.
    """
    check_volume(path, grid, dtype, _TYPES)
    root, name = split_at(path, SUFFIXES) or (path, "")
    if not name:
        raise ValueError(f"{path}: expected a container and the name of an array in it, such as {path}/raw")
    settle(path, _own)
    there = "dimensions" in read_json(path, _ATTRIBUTES)
    if there and not overwrite:
        raise FileExistsError(f"{path}: an array is already there; pass overwrite=True to replace it")
    if not read_json(root, _ATTRIBUTES):
        write_json(root, _ATTRIBUTES, {"n5": "2.0.0"})
    if is_remote(path) and not there:
        # Stores that tensorstore writes to cannot move anything.
        yield _create(path, path, grid, dtype, channels, more, block_shape)
        return
    if not there:
        check_unused(path, path)
    with replaced(path, path, _own) as beside:
        yield _create(path, beside, grid, dtype, channels, more, block_shape)


def _own(where: str) -> set[str]:
    """Names of what is in a folder that belongs to the array: its blocks are numbered."""
    return {_ATTRIBUTES, *(name for name in files.names(where) if name.isdigit())}


def _create(
    path: str,
    where: str,
    grid: Grid,
    dtype: np.dtype[Any],
    channels: int | None,
    more: Mapping[str, Any],
    block_shape: Sequence[int] | None,
) -> StoredTensor:
    lead = [] if channels is None else [channels]
    unit = "" if grid.units == "voxel" else grid.units
    spec = {"driver": "n5", "kvstore": kvstore_of(where)}
    block = block_shape or [min(_BLOCK, max(n, 1)) for n in grid.shape]
    metadata = {
        "dataType": dtype.name,
        "dimensions": [*lead, *grid.shape][::-1],
        "blockSize": [*lead, *block][::-1],
        "compression": {"type": "gzip"},
        "axes": [name for name, _ in axes_of(grid, channels)][::-1],
        "units": [unit] * 3 + [""] * len(lead),
        "resolution": list(grid.voxel_size)[::-1] + [1.0] * len(lead),
    }
    with naming_errors(path):
        open_store({**spec, "metadata": metadata, "create": True})
    # What tensorstore does not know of: attributes of other tools.
    place: dict[str, Any] = {
        "offset": list(grid.offset)[::-1] + [0.0] * len(lead),
        "pixelResolution": {"dimensions": metadata["resolution"], "unit": unit},
    }
    if channels is None:
        place["transform"] = {
            "axes": list(grid.dims),
            "ordering": "C",
            "scale": list(grid.voxel_size),
            "translate": list(grid.offset),
            "units": [unit] * 3,
        }
    write_json(where, _ATTRIBUTES, {**read_json(where, _ATTRIBUTES), **more, **place})
    layout = Layout(grid, ("channel",) * len(lead) + grid.dims)
    return stored_tensor(path, spec, open_store(spec), layout, more)


def _sources(path: str, own: Mapping[str, Any]) -> list[Source]:
    """What is said of an array: by itself, the finest level beside it, the groups above, and multiscales."""
    root, name = split_at(path, SUFFIXES) or (path, "")
    parts = name.split("/") if name else []
    above = ["/".join([root, *parts[:n]]) for n in reversed(range(len(parts)))]
    groups = {where: read_json(where, _ATTRIBUTES) for where in above}
    finest: dict[str, dict[str, Any]] = {}
    if level_of(path) > 0 and above:
        finest[f"{above[0]}/s0"] = read_json(f"{above[0]}/s0", _ATTRIBUTES)
    transforms = [attributes.get("transform") for attributes in finest.values()]
    of_multiscales = []
    for where, attributes in groups.items():
        for multiscale in multiscales_of(attributes, where=where):
            paths = [f"{where}/{below}" for below in paths_of(multiscale)]
            if path in paths:
                of_multiscales.append(_of_multiscale(multiscale, paths.index(path), where))
                transforms.append(multiscale["datasets"][0].get("transform"))
    factors = factors_of(path, own, *groups.values())
    base = {
        where: source_from_attributes(attributes, where=where, x_first=True)
        for where, attributes in {**finest, **groups}.items()
    }
    placed = shifted_transform(own, next(filter(None, transforms), None)) if finest else own
    source = source_from_attributes(placed, where=path, x_first=True)
    above_level = [of_level(finer, factors) for finer in base.values()]
    return [held_against(source, *above_level), *above_level, *of_multiscales]


def _of_multiscale(multiscale: Mapping[str, Any], level: int, where: str) -> Source:
    if "transform" in multiscale["datasets"][level]:
        return source_of_multiscale(multiscale, level, where=where)
    # Writers of OME-NGFF into N5 differ in whether x or z comes first.
    problem = (
        Stated("multiscales", problem="found no transform for each level, expected one, as COSEM has it"),
    )
    return Source(where, voxel_size=problem, offset=problem)


def _nothing_there(path: str, level: int) -> str:
    root, wanted = split_at(path, SUFFIXES) or (path, "")
    if is_remote(root) or not Path(root).is_dir():
        return f"{path}: there is no N5 array, and no group with the level s{level}"
    return missing_array(root, wanted, sorted(_arrays_below(Path(root), ""))) + left_of(path)


def _arrays_below(folder: Path, name: str) -> Iterator[str]:
    # What is below an array are its chunks.
    if "dimensions" in read_json(str(folder), _ATTRIBUTES):
        yield name
        return
    for below in folder.iterdir():
        if below.is_dir():
            yield from _arrays_below(below, f"{name}/{below.name}".strip("/"))
