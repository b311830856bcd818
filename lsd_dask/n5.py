"""N5 volumes (extra ``formats``).

The place of an array is written as ``axes``, ``units``, ``resolution`` and ``offset`` (x, y, z: the
convention of funkelab and of n5-viewer), ``pixelResolution``, and, as on Janelia's public buckets,
``transform``. Any of them is read.

References
----------
.. [1] https://github.com/saalfeldlab/n5
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from .files import split_at
from .grids import Grid
from .metadata import Layout, axes_of, layout_from_attributes
from .missing import missing_array
from .stores import is_remote
from .tensorstores import (
    StoredTensor,
    check_unused,
    check_volume,
    kvstore_of,
    naming_errors,
    open_store,
    read_json,
    replaced,
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
        attributes = _of_level(attributes, read_json(name, _ATTRIBUTES))
    elif level != 0:
        raise ValueError(f"{path}: level {level} was asked for, but this is an array, not a group of levels")
    if "dimensions" not in attributes:
        raise FileNotFoundError(_nothing_there(path, level))
    spec = {"driver": "n5", "kvstore": kvstore_of(name)}
    with naming_errors(path):
        store = open_store(spec)
        place = _place_in_n5(attributes, store.ndim)
        layout = layout_from_attributes(store.shape, {**place, **stated}, where=path)
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
    with replaced(path, path) as beside:
        yield _create(path, beside, grid, dtype, channels, more, block_shape)


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


def _of_level(group: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes of a level, which may leave its place to the group and tell factors alone."""
    keys = ("resolution", "pixelResolution", "transform", "voxel_size", "offset")
    if any(key in own for key in keys) or "resolution" not in group:
        return dict(own)
    factors = own.get("downsamplingFactors", [1] * len(group["resolution"]))
    coarser = [v * f for v, f in zip(group["resolution"], factors, strict=True)]
    return {**{k: group[k] for k in ("offset", "units", "axes") if k in group}, **own, "resolution": coarser}


def _place_in_n5(attributes: Mapping[str, Any], ndim: int) -> dict[str, Any]:
    """What the attributes of an N5 array say, as those of a zarr array would."""
    if "transform" in attributes:
        transform = attributes["transform"]
        order = slice(None) if transform.get("ordering", "C") == "C" else slice(None, None, -1)
        given = {
            "axis_names": transform["axes"],
            "voxel_size": transform["scale"],
            "offset": transform["translate"],
            "units": transform["units"],
        }
        return {key: list(values)[order] for key, values in given.items()}
    pixel = attributes.get("pixelResolution") or {}
    pixel = pixel if isinstance(pixel, Mapping) else {"dimensions": pixel}
    size = attributes.get("resolution") or attributes.get("voxel_size") or pixel.get("dimensions")
    units = attributes.get("units") or pixel.get("unit")
    names = attributes.get("axes") or attributes.get("axis_names")
    place = {"voxel_size": size, "offset": attributes.get("offset"), "units": units, "axis_names": names}
    found = {
        key: value if isinstance(value, str) else list(value)[::-1]
        for key, value in place.items()
        if value is not None
    }
    if len(found.get("axis_names", ())) != ndim:
        found.pop("axis_names", None)
    return found


def _nothing_there(path: str, level: int) -> str:
    root, wanted = split_at(path, SUFFIXES) or (path, "")
    if is_remote(root) or not Path(root).is_dir():
        return f"{path}: there is no N5 array, and no group with the level s{level}"
    return missing_array(root, wanted, sorted(_arrays_below(Path(root), "")))


def _arrays_below(folder: Path, name: str) -> Iterator[str]:
    # What is below an array are its chunks.
    if "dimensions" in read_json(str(folder), _ATTRIBUTES):
        yield name
        return
    for below in folder.iterdir():
        if below.is_dir():
            yield from _arrays_below(below, f"{name}/{below.name}".strip("/"))
