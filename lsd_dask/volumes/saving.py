"""Volumes as labelled, lazy arrays: opening, creating and saving them.

A volume is an `xarray.DataArray` with the axes ``[channel,] z, y, x`` (or ``[channel,] y, x``) over a dask
array. Its coordinates are the world positions of the voxel centres, ``offset + (i + 0.5) * voxel_size``,
where `offset` is the lower corner of the volume; so ``volume.sel(z=slice(a, b))`` crops to the world box from
a up to, but without, b. ``attrs`` hold ``voxel_size`` and ``units``; the offset follows from the coordinates.
"""

import json
import math
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from os import PathLike
from typing import Any, Literal

import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import DTypeLike

from ..checks.arguments import check_array, described, naming, real_numbers, shown, whole_numbers
from ..space import neighborhoods
from ..space.grids import Grid, spatial_dims
from .dask_arrays import Volume, as_volume, find_stored, grid_of, label, sources_of, stated_by
from .formats import attributes, layouts, ngff, zarr_creating
from .opening import check_dtype, created_elsewhere, is_zarr, open_stored, stored_zarr
from .stored import MARK, StoredVolume, chunk_shape_for
from .writing import write_volume, written_beside

__all__ = ["create_volume", "find_stored", "grid_of", "open_volume", "save_volume", "stated_by"]


def open_volume(
    path: str | PathLike[str],
    *,
    chunks: int | Sequence[int] | None = None,
    level: int = 0,
    voxel_size: Sequence[float] | None = None,
    offset: Sequence[float] | None = None,
    units: str | None = None,
) -> xr.DataArray:
    """Open a volume; voxels are read when they are computed.

    Parameters
    ----------
    path : str or PathLike
        Container and array in one, as a path or any URL that fsspec knows:

        - ``em.zarr/volumes/raw``: zarr, format 2 or 3, with funkelab attributes (``offset``, ``resolution``
          or ``voxel_size``, ``units``, ``axis_names``), OME-NGFF 0.4 to 0.6 metadata, or none. A multiscale
          group stands for its level 0.
        - ``sample_A.hdf/volumes/raw``: HDF5, as CREMI ships it.
        - ``em.n5/volumes/raw``: N5; ``precomputed://segmentation``, ``precomputed://gs://bucket/raw``:
          Neuroglancer precomputed. Both need the extra ``formats``.
        - ``sections/`` or ``sections/*.png``: a stack of TIFF or PNG sections; or one TIFF of several pages.
          A section is read whole, however little of it is asked for: save a stack to zarr before working in
          blocks.
    chunks : int or sequence of int, optional
        Spatial chunk shape of the dask array, one task each. By default whole shards of the stored array,
        grouped to about 128 voxels an axis (1024 in 2-D). A chunk always holds all channels.
    level : int, optional
        Resolution level of an OME-NGFF multiscale, of an N5 group, or of a precomputed volume.
    voxel_size, offset : sequence of float, optional
        World units, one number per spatial axis. They override what is stored, and default to 1 and 0 where
        nothing is.
    units : str, optional
        Overrides what is stored; the default is ``"nanometer"``, or ``"voxel"`` where no voxel size is known.

    Returns
    -------
    xarray.DataArray
        ``([channel, ]z, y, x)`` or ``([channel, ]y, x)``, backed by dask; named after the array.

    Raises
    ------
    FileNotFoundError
        If the container or the array does not exist; the message lists the arrays that do.
    ValueError
        If the path is a group of several arrays, or the axes or the metadata cannot be those of a volume.

    Examples
    --------
    >>> voxels = np.arange(24).reshape(2, 3, 4)
    >>> save_volume(voxels, "memory://doc.zarr/raw", voxel_size=(40, 4, 4), overwrite=True)
    >>> raw = open_volume("memory://doc.zarr/raw")
    >>> raw.sel(z=slice(40, 80), x=slice(8, 16)).values
    array([[[14, 15],
            [18, 19],
            [22, 23]]])
    """
    return as_volume(
        open_stored(path, level=level, voxel_size=voxel_size, offset=offset, units=units), chunks
    )


def create_volume(
    path: str | PathLike[str],
    shape: Sequence[int],
    dtype: DTypeLike,
    *,
    voxel_size: Sequence[float] | None = None,
    offset: Sequence[float] | None = None,
    units: str = "nanometer",
    dims: Sequence[str] | None = None,
    block_shape: Sequence[int] | None = None,
    chunk_shape: Sequence[int] | None = None,
    zarr_format: Literal[2, 3] | None = None,
    overwrite: bool = False,
    attributes: Mapping[str, Any] | None = None,
) -> StoredVolume:
    """Create a volume of zeros in a zarr container, ready to be written block by block.

    Parameters
    ----------
    path : str or PathLike
        Container and array in one, for instance ``out.zarr/volumes/segmentation``.
    shape : sequence of int
        ``([C, ]Z, Y, X)`` or ``([C, ]Y, X)``.
    dtype : dtype-like
        Element type.
    voxel_size, offset : sequence of float, optional
        World units per spatial axis; by default 1 and 0.
    units : str, optional
        Unit of the world coordinates.
    dims : sequence of str, optional
        ``("channel", "y", "x")`` and the like. By default, four axes begin with channels; three do if
        `voxel_size` has two numbers.
    block_shape : sequence of int, optional
        Spatial shape of what is written at once: a shard of format 3, a chunk of format 2. By default 256
        voxels an axis (1024 in 2-D), less for smaller volumes.
    chunk_shape : sequence of int, optional
        Spatial shape of the inner chunks of a shard; by default 64 voxels an axis (512 in 2-D) or a divisor
        of the block near it.
    zarr_format : {2, 3}, optional
        By default that of the container, and 3 for a new one.
    overwrite : bool, optional
        Whether an array that is already there is replaced, at once.
    attributes : mapping, optional
        More attributes for the array.

    Returns
    -------
    StoredVolume

    Raises
    ------
    FileExistsError
        If an array is there and `overwrite` is False, or if a group is there.
    TypeError
        If a shape is not made of whole numbers, or the dtype is none.
    ValueError
        If shapes do not match, the inner chunks do not divide the block, voxels are to be no numbers, the
        container has the other format, or the path does not name an array in a container.

    Notes
    -----
    The array holds the funkelab attributes; its parent group lists it as an OME-NGFF multiscale (0.5 for
    zarr 3, 0.4 for zarr 2): see `lsd_dask.volumes.formats.attributes`.

    Examples
    --------
    >>> labels = create_volume(
    ...     "memory://doc.zarr/labels", (300, 300, 300), "uint64", voxel_size=(40, 4, 4), overwrite=True
    ... )
    >>> labels.write_shape, labels.grid.end
    ((256, 256, 256), (12000.0, 1200.0, 1200.0))
    """
    path = zarr_creating.normalise_path(path)
    if not is_zarr(path):
        raise ValueError(f"{path}: create_volume makes zarr arrays; save_volume writes other formats")
    plan = _plan(
        path,
        shape,
        dtype,
        voxel_size=voxel_size,
        offset=offset,
        units=units,
        dims=dims,
        block_shape=block_shape,
        chunk_shape=chunk_shape,
        zarr_format=zarr_format,
        attributes=attributes,
    )
    return plan.create(path, overwrite=overwrite)


@dataclass(frozen=True)
class _Plan:
    """An array that is to be created, all of it checked."""

    shape: tuple[int, ...]
    dtype: DTypeLike
    grid: Grid
    channels: int | None
    block_shape: tuple[int, ...]
    chunk_shape: tuple[int, ...]
    zarr_format: Literal[2, 3]
    attributes: Mapping[str, Any]

    def create(self, path: str, *, overwrite: bool) -> StoredVolume:
        """Create it."""
        lead = self.shape[: len(self.shape) - self.grid.ndim]
        array = zarr_creating.create_array(
            path,
            self.shape,
            self.dtype,
            chunks=lead + self.chunk_shape,
            shards=lead + self.block_shape,
            axis_names=[name for name, _ in attributes.axes_of(self.grid, self.channels)],
            zarr_format=self.zarr_format,
            attributes={**self.attributes, **attributes.volume_attributes(self.grid, self.channels)},
            parent_attributes=self.parent_attributes,
            overwrite=overwrite,
        )
        layout = layouts.Layout(self.grid, ("channel",) * len(lead) + self.grid.dims)
        return stored_zarr(path, array, layout)

    @property
    def parent_attributes(self) -> zarr_creating.ParentAttributes:
        """What describes it in its parent group."""
        return partial(ngff.add_multiscale, grid=self.grid, channels=self.channels)


def _plan(
    path: str,
    shape: Sequence[int],
    dtype: DTypeLike,
    *,
    voxel_size: Sequence[float] | None,
    offset: Sequence[float] | None,
    units: str,
    dims: Sequence[str] | None,
    block_shape: Sequence[int] | None,
    chunk_shape: Sequence[int] | None,
    zarr_format: Literal[2, 3] | None,
    attributes: Mapping[str, Any] | None,
) -> _Plan:
    with naming(path):
        shape = whole_numbers("shape", shape, least=0)
        n_spatial = _n_spatial(len(shape), dims, voxel_size)
        spatial = shape[len(shape) - n_spatial :]
        grid = _grid(spatial, voxel_size, offset, units)
        block = _default_block(spatial) if block_shape is None else block_shape
        block = _checked_shape("block_shape", block, n_spatial)
        chunk = chunk_shape_for(block) if chunk_shape is None else chunk_shape
        chunk = _checked_shape("chunk_shape", chunk, n_spatial)
        if dtype is None:
            raise TypeError("dtype: found None, expected the type of the voxels")
        check_dtype(np.dtype(dtype))
        _check_attributes(attributes)
        if zarr_format not in (None, 2, 3):
            raise ValueError(f"zarr_format: found {shown(zarr_format)}, expected 2 or 3")
    if any(b % c for b, c in zip(block, chunk, strict=True)):
        raise ValueError(
            f"{path}: block_shape {block} must be a multiple of chunk_shape {chunk} in every axis"
        )
    channels = shape[0] if len(shape) > n_spatial else None
    followed = zarr_creating.format_for(path, zarr_format)
    named = {MARK: {"run": uuid.uuid4().hex}, **(attributes or {})}
    return _Plan(shape, dtype, grid, channels, block, chunk, followed, named)


def save_volume(
    volume: Volume,
    path: str | PathLike[str],
    *,
    block_shape: Sequence[int] | None = None,
    chunk_shape: Sequence[int] | None = None,
    zarr_format: Literal[2, 3] | None = None,
    overwrite: bool = False,
    voxel_size: Sequence[float] | None = None,
    offset: Sequence[float] | None = None,
    units: str | None = None,
) -> None:
    """Compute a volume and write it to a container, whole shards at a time.

    Parameters
    ----------
    volume : ([C, ]z, y, x) or ([C, ]y, x) ndarray, dask array or DataArray
        A lazy volume is rechunked to the shards and computed by the active dask client, one task per shard.
    path, block_shape, chunk_shape, zarr_format
        As for `create_volume`; `path` may also be one of HDF5, N5 or precomputed, as for `open_volume`. By
        default, the blocks of a regularly chunked dask array are its chunks. N5 has no shards, its blocks are
        its chunks; shards of a precomputed volume are 1, 2, 4, ... times as long as its chunks; HDF5 is
        written by one process. A precomputed volume gets another scale, where it is of other voxels.
    overwrite : bool, optional
        Whether an array that is already there is replaced, when the new one is complete: if computing or
        writing fails, the old one stays.
    voxel_size, offset, units : optional
        Where the voxels lie, for arrays that do not say so themselves; a DataArray does.

    Raises
    ------
    FileExistsError
        If an array is there and `overwrite` is False.
    TypeError
        If the volume is no array.
    ValueError
        As for `create_volume`; if a place is given for a DataArray; or if the volume is computed from the
        very array it would replace.

    Examples
    --------
    >>> mask = np.ones((2, 3), dtype="uint8")
    >>> save_volume(mask, "memory://doc.zarr/mask", voxel_size=(4, 4), offset=(80, 80), overwrite=True)
    """
    path = zarr_creating.normalise_path(path)
    with naming(path):
        check_array(volume, "volume")
        stated = stated_by(volume)
        volume = _placed(volume, voxel_size, offset, units)
        grid = grid_of(volume)
        attributes = neighborhoods.written(volume, stated)
    data = volume.data
    if overwrite:
        _refuse_own_source(data, path)
    if not is_zarr(path):
        if zarr_format is not None:
            raise ValueError(
                f"{path}: zarr_format: found {zarr_format}, expected none for what is no zarr array"
            )
        n_leading = volume.ndim - grid.ndim
        with created_elsewhere(
            path,
            grid,
            np.dtype(volume.dtype),
            volume.shape[0] if n_leading else None,
            block_shape=_given(path, "block_shape", block_shape, grid),
            chunk_shape=_given(path, "chunk_shape", chunk_shape, grid),
            overwrite=overwrite,
            attributes=attributes,
        ) as stored:
            write_volume(volume, stored)
        return
    plan = _plan(
        path,
        volume.shape,
        volume.dtype,
        voxel_size=grid.voxel_size,
        offset=grid.offset,
        units=grid.units,
        dims=[str(dim) for dim in volume.dims],
        block_shape=_chunks_as_block(data, grid.ndim) if block_shape is None else block_shape,
        chunk_shape=chunk_shape,
        zarr_format=zarr_format,
        attributes=attributes,
    )
    zarr_creating.check_free(path, overwrite)
    zarr_creating.check_only_array(path)
    layout = {
        "shape": plan.shape,
        "dtype": str(np.dtype(plan.dtype)),
        "grid": asdict(plan.grid),
        "blocks": (plan.block_shape, plan.chunk_shape),
        "format": plan.zarr_format,
        "attributes": attributes,
    }
    with written_beside(volume, path, layout, plan.parent_attributes, overwrite=overwrite) as part:
        stored = open_stored(part.path) if part.goes_on else plan.create(part.path, overwrite=False)
        write_volume(volume, stored, part.ledger)


def _placed(
    volume: Volume, voxel_size: Sequence[float] | None, offset: Sequence[float] | None, units: str | None
) -> xr.DataArray:
    if isinstance(volume, xr.DataArray):
        if voxel_size is None and offset is None and units is None:
            return volume
        raise ValueError(
            "a DataArray knows its place; voxel_size, offset and units are for NumPy and dask arrays"
        )
    n_spatial = _n_spatial(volume.ndim, None, voxel_size)
    units = units or ("voxel" if voxel_size is None else "nanometer")
    return label(volume, _grid(volume.shape[volume.ndim - n_spatial :], voxel_size, offset, units))


def _grid(
    shape: tuple[int, ...], voxel_size: Sequence[float] | None, offset: Sequence[float] | None, units: str
) -> Grid:
    n = len(shape)
    sizes = (1.0,) * n if voxel_size is None else real_numbers("voxel_size", voxel_size)
    corner = (0.0,) * n if offset is None else real_numbers("offset", offset)
    return Grid(spatial_dims(n), shape, sizes, corner, units)


def _n_spatial(ndim: int, dims: Sequence[str] | None, voxel_size: Sequence[float] | None) -> int:
    if dims is not None:
        n_spatial = sum(dim != "channel" for dim in dims)
        if len(dims) == ndim and tuple(dims) in _all_dims():
            return n_spatial
        raise ValueError(
            f"expected dims ([channel,] z, y, x) or ([channel,] y, x) for {ndim} axes, not {tuple(dims)}"
        )
    if ndim not in (2, 3, 4):
        raise ValueError(f"a volume has the axes ([channel,] z, y, x) or ([channel,] y, x), not {ndim} axes")
    stated = None if voxel_size is None else len(real_numbers("voxel_size", voxel_size))
    return 2 if ndim == 2 or (ndim == 3 and stated == 2) else 3


def _all_dims() -> list[tuple[str, ...]]:
    return [lead + spatial_dims(n) for lead in ((), ("channel",)) for n in (2, 3)]


def _checked_shape(name: str, shape: Sequence[int], n_spatial: int) -> tuple[int, ...]:
    numbers = whole_numbers(name, shape, least=0)
    if len(numbers) != n_spatial or 0 in numbers:
        raise ValueError(f"{name} needs {n_spatial} positive numbers, one per spatial axis, not {numbers}")
    return numbers


def _check_attributes(attributes: Mapping[str, Any] | None) -> None:
    """Raise TypeError, before an array is made, for what cannot be written beside it."""
    if attributes is not None and not isinstance(attributes, Mapping):
        raise TypeError(f"attributes: found {described(attributes)}, expected a mapping")
    try:
        json.dumps(dict(attributes or {}))
    except TypeError as error:
        raise TypeError(f"attributes: found {shown(attributes)}, expected plain data ({error})") from None


def _given(path: str, name: str, shape: Sequence[int] | None, grid: Grid) -> tuple[int, ...] | None:
    with naming(path):
        return None if shape is None else _checked_shape(name, shape, grid.ndim)


def _default_block(spatial: Sequence[int]) -> tuple[int, ...]:
    """Shards of 256 voxels an axis; a smaller volume is one shard, no larger than it needs to be."""
    side, unit = (1024, 512) if len(spatial) == 2 else (256, 64)
    return tuple(min(side, max(-(-n // unit) * unit, 1)) if n > unit else max(n, 1) for n in spatial)


def _chunks_as_block(data: Any, n_spatial: int) -> tuple[int, ...] | None:
    """Chunks that all have the same shape, apart from the last ones, and are neither tiny nor huge."""
    if not isinstance(data, da.Array):
        return None
    spatial = data.chunks[data.ndim - n_spatial :]
    block = tuple(sizes[0] for sizes in spatial)
    regular = all(set(sizes[:-1]) <= {sizes[0]} and 0 < sizes[-1] <= sizes[0] for sizes in spatial)
    sensible = all(n >= 64 or len(sizes) == 1 for n, sizes in zip(block, spatial, strict=True))
    if regular and sensible and math.prod(block) <= 2**27:
        return block
    return None


def _refuse_own_source(data: Any, path: str) -> None:
    if isinstance(data, da.Array) and any(source.path == path for source in sources_of(data)):
        raise ValueError(
            f"{path}: the volume is computed from the array it would replace; save it under another name"
        )
