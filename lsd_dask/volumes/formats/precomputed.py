"""Neuroglancer precomputed volumes (extra ``formats``).

Sizes are in nanometers, and the lower corner is a whole number of voxels. Volumes of uint32 or uint64 without
channels are segmentations, others are images. Saving a volume with larger voxels to a path that holds a
precomputed volume adds a scale to it: so a pyramid is saved, level by level.

Chunks are collected in shards, so that a large volume is not millions of files. The shards are numbered along
a Morton curve: with a number of chunks that is a power of 8, they are boxes, which tasks write whole.

References
----------
.. [1] https://github.com/google/neuroglancer/tree/master/src/datasource/precomputed
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from ...checks.arguments import shown
from ...space.grids import Grid
from ...space.neighborhoods import KEY, on_coarser_level
from ...space.units import UNKNOWN, is_unit
from ...storage import files
from ...storage.names import check_key
from ...storage.replacing import left_of, replaced, settle
from .layouts import Layout, Source, Stated, layout_of
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
from .zarr_creating import PRECOMPUTED, is_remote

_TYPES = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "float32")

#: Voxels of a chunk and of a shard along each axis, where nothing else is said.
_CHUNK, _SHARD = 64, 256


def is_precomputed(path: str) -> bool:
    """Whether a path names a precomputed volume.

    Parameters
    ----------
    path : str

    Returns
    -------
    bool
    """
    return path.startswith(PRECOMPUTED)


def open_precomputed(path: str, level: int, stated: Mapping[str, Any]) -> StoredTensor:
    """Open a precomputed volume.

    Parameters
    ----------
    path : str
        ``precomputed://`` and a path or URL.
    level : int
        Scale, 0 for the finest one.
    stated : mapping
        ``voxel_size``, ``offset`` and ``units`` that override what is stored.

    Returns
    -------
    StoredTensor

    Raises
    ------
    ModuleNotFoundError
        Without the extra ``formats``.
    FileNotFoundError, ValueError
        If there is no such volume or scale.
    """
    where = path.removeprefix(PRECOMPUTED)
    info = read_json(where, "info")
    scales = info.get("scales")
    if scales is None:
        raise FileNotFoundError(
            f"{path}: there is no precomputed volume: expected a file {where}/info{left_of(where)}"
        )
    if not isinstance(scales, list) or not all(isinstance(scale, dict) for scale in scales):
        raise ValueError(f"{path}: scales in {where}/info: found {shown(scales)}, expected a list of scales")
    if not 0 <= level < len(scales):
        raise ValueError(f"{path}: level {level} was asked for, but the levels are 0 to {len(scales) - 1}")
    spec = {"driver": "neuroglancer_precomputed", "kvstore": kvstore_of(where), "scale_index": level}
    _check_folder(f"{where}/info: scale {level}", scales[level].get("key"))
    with naming_errors(path):
        # What is wrong with the numbers is told by key, before tensorstore tells it in its own words.
        sources = [_source(scales[level], where=f"scale {level} in {where}/info")]
        layout_of((1,) * 4, sources, {}, where=path)
        store = open_store(spec)
        layout = layout_of(store.shape, sources, stated, where=path)
        if store.shape[0] == 1:
            layout = Layout(layout.grid, layout.dims[1:], (None, *layout.dims[1:]))
        said = info.get(KEY)
        return stored_tensor(path, spec, store, layout, {KEY: on_coarser_level(said) if level else said})


def _check_folder(scale: str, key: Any) -> None:
    if not isinstance(key, str):
        raise ValueError(f"{scale}: key: found {shown(key)}, expected the name of a folder")  # noqa: TRY004
    check_key(key, f"{scale}: key")


def _source(scale: Mapping[str, Any], *, where: str) -> Source:
    size, corner = scale.get("resolution"), scale.get("voxel_offset", [0, 0, 0])
    lists = [value[::-1] if isinstance(value, list) else value for value in (size, corner)]
    return Source(
        where,
        names=(Stated("axes", ["c", "z", "y", "x"]),),
        voxel_size=(Stated("resolution", lists[0]),),
        offset=(Stated("voxel_offset", lists[1], factors=lists[0]),),
        units=(Stated("units", "nanometer"),),
    )


@contextmanager
def created_precomputed(
    path: str,
    grid: Grid,
    dtype: np.dtype[Any],
    channels: int | None,
    more: Mapping[str, Any],
    *,
    block_shape: Sequence[int] | None,
    chunk_shape: Sequence[int] | None,
    overwrite: bool,
) -> Iterator[StoredTensor]:
    """Create a precomputed volume, or a scale of one, that is to be filled.

    Parameters
    ----------
    path : str
        ``precomputed://`` and a path or URL.
    grid : Grid
    dtype : dtype
    channels : int or None
    more : mapping
        More that is to stand in its info; of the finest scale.
    block_shape : sequence of int or None
        Shape of a shard: 1, 2, 4, ... times that of a chunk; 1 for no shards. By default 256 voxels an axis.
    chunk_shape : sequence of int or None
        By default 64 voxels an axis.
    overwrite : bool
        Whether a volume that is there is replaced, with all its scales, when the new one is complete.

    Yields
    ------
    StoredTensor

    Raises
    ------
    FileExistsError
        If there is this scale and `overwrite` is False.
    ValueError
        If the format cannot hold such a volume, or it does not go with the scales that are there.
    """
    where = path.removeprefix(PRECOMPUTED)
    check_volume(path, grid, dtype, _TYPES)
    spec = {
        **_multiscale(dtype, channels),
        "scale_metadata": _scale(path, grid, dtype, channels, block_shape, chunk_shape),
    }
    settle(where, _own)
    there = read_json(where, "info")
    if is_remote(where) and not (overwrite and there):
        # Stores that tensorstore writes to cannot move anything.
        yield _create(path, where, spec, grid, channels, more)
    elif there and not overwrite:
        with _another_scale(path, where, there, spec) as beside:
            yield _create(path, beside, spec, grid, channels, more)
    else:
        if not there:
            check_unused(path, where)
        with replaced(path, where, _own) as beside:
            yield _create(path, beside, spec, grid, channels, more)


def _own(where: str) -> set[str]:
    """Names of what is in a folder that belongs to the volume; meshes, skeletons and the like do not."""
    scales = read_json(where, "info").get("scales")
    keys = (
        [scale.get("key") for scale in scales if isinstance(scale, dict)] if isinstance(scales, list) else []
    )
    return {"info", *(key.partition("/")[0] for key in keys if isinstance(key, str))}


@contextmanager
def _another_scale(path: str, where: str, there: Mapping[str, Any], spec: Mapping[str, Any]) -> Iterator[str]:
    """Let a scale be written beside the volume that it is one of, which names it when it is complete.

    Parameters
    ----------
    path : str
        Of the volume, for messages.
    where : str
        Its folder.
    there : mapping
        What it says of itself.
    spec : mapping
        Of the scale.

    Yields
    ------
    str
        The folder of a volume with this scale alone.
    """
    for key in ("data_type", "num_channels", "type"):
        value = spec["multiscale_metadata"][key]
        if there.get(key) != value:
            raise ValueError(f"{path}: {key}: found {there.get(key)!r} in its info, expected {value!r}")
    resolution = spec["scale_metadata"]["resolution"]
    if any(scale.get("resolution") == resolution for scale in there.get("scales", ())):
        raise FileExistsError(
            f"{path}: a volume with these voxels is already there; pass overwrite=True to replace it"
        )
    beside = f"{where}.scale.partial"
    files.remove(beside)
    try:
        yield beside
    except BaseException:
        files.remove(beside)
        raise
    (scale,) = read_json(beside, "info")["scales"]
    files.remove(f"{where}/{scale['key']}")
    files.move(f"{beside}/{scale['key']}", f"{where}/{scale['key']}")
    # Read anew, as another scale may have been added meanwhile.
    info = read_json(where, "info")
    write_json(where, "info", {**info, "scales": [*info["scales"], scale]})
    files.remove(beside)


def _create(
    path: str,
    where: str,
    spec: Mapping[str, Any],
    grid: Grid,
    channels: int | None,
    more: Mapping[str, Any],
) -> StoredTensor:
    opened: dict[str, Any] = {"driver": "neuroglancer_precomputed", "kvstore": kvstore_of(where)}
    with naming_errors(path):
        open_store({**opened, **spec, "create": True})
    info = read_json(where, "info")
    scales = [scale["resolution"] for scale in info["scales"]]
    opened["scale_index"] = scales.index(spec["scale_metadata"]["resolution"])
    if more and opened["scale_index"] == 0:
        write_json(where, "info", {**info, **more})
    lead = () if channels is None else ("channel",)
    layout = Layout(grid, lead + grid.dims, (lead or (None,)) + grid.dims)
    return stored_tensor(path, opened, open_store(opened), layout, more)


def _multiscale(dtype: np.dtype[Any], channels: int | None) -> dict[str, Any]:
    kind = "segmentation" if _is_segmentation(dtype, channels) else "image"
    return {"multiscale_metadata": {"type": kind, "data_type": dtype.name, "num_channels": channels or 1}}


def _is_segmentation(dtype: np.dtype[Any], channels: int | None) -> bool:
    return channels is None and dtype.name in ("uint32", "uint64")


def _scale(
    path: str,
    grid: Grid,
    dtype: np.dtype[Any],
    channels: int | None,
    block_shape: Sequence[int] | None,
    chunk_shape: Sequence[int] | None,
) -> dict[str, Any]:
    if not is_unit(grid.units):
        raise ValueError(f"{path}: units: found {grid.units!r}, expected a unit of length, or none")
    # Precomputed volumes are in nanometers; of what nobody told the unit, the numbers are kept.
    told = grid if grid.units == UNKNOWN else grid.told_in("nanometer")
    corner = [o / v for o, v in zip(grid.offset, grid.voxel_size, strict=True)]
    if any(abs(c - round(c)) > 1e-3 for c in corner):
        raise ValueError(
            f"{path}: the offset {grid.offset} is no multiple of the voxel size {grid.voxel_size}, expected "
            "a whole number of voxels; precomputed volumes hold nothing else"
        )
    chunk = list(chunk_shape or [_CHUNK] * 3)
    bits = _shard_bits(path, chunk, block_shape)
    segmentation = _is_segmentation(dtype, channels)
    metadata: dict[str, Any] = {
        "size": list(grid.shape)[::-1],
        "resolution": list(told.voxel_size)[::-1],
        "voxel_offset": [round(c) for c in corner][::-1],
        "chunk_size": chunk[::-1],
        "encoding": "compressed_segmentation" if segmentation else "raw",
    }
    if segmentation:
        metadata["compressed_segmentation_block_size"] = [8, 8, 8]
    if bits:
        counts = [-(-n // c) for n, c in zip(grid.shape, chunk, strict=True)]
        total = sum(max(count - 1, 0).bit_length() for count in counts)
        metadata["sharding"] = {
            "@type": "neuroglancer_uint64_sharded_v1",
            "hash": "identity",
            "preshift_bits": min(bits, 6),
            "minishard_bits": max(bits - 6, 0),
            "shard_bits": max(total - bits, 0),
            "minishard_index_encoding": "gzip",
            "data_encoding": "gzip",
        }
    return metadata


def _shard_bits(path: str, chunk: Sequence[int], block_shape: Sequence[int] | None) -> int:
    """Logarithm of the number of chunks in a shard; 0 for no shards."""
    if block_shape is None:
        return 3 * max(0, int(math.log2(_SHARD / max(chunk))))
    ratios = {block / size for block, size in zip(block_shape, chunk, strict=True)}
    bits = math.log2(max(ratios))
    if len(ratios) > 1 or bits != int(bits) or bits < 0:
        raise ValueError(
            f"{path}: block_shape: found {tuple(block_shape)}, expected 1, 2, 4, ... times the chunk_shape "
            f"{tuple(chunk)}, the same along each axis"
        )
    return 3 * int(bits)
