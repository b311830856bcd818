"""From a path to a stored volume, whatever the format."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from os import PathLike
from typing import Any

import numpy as np
import zarr

from ..checks.arguments import naming, real_numbers, whole_number
from ..space.grids import Grid
from ..space.neighborhoods import KEY, frozen, on_coarser_level
from ..storage import missing
from .formats import attributes, hdf5, images, levels, n5, ngff, precomputed, zarr_creating
from .formats.layouts import Layout, layout_of
from .stored import StoredVolume, fingerprint_of, run_in


def open_stored(
    path: str | PathLike[str],
    *,
    level: int = 0,
    voxel_size: Sequence[float] | None = None,
    offset: Sequence[float] | None = None,
    units: str | None = None,
) -> StoredVolume:
    """Find a volume on disk and read what is known of it, but none of its voxels.

    Parameters
    ----------
    path, level, voxel_size, offset, units
        As for `lsd_dask.open_volume`.

    Returns
    -------
    StoredVolume

    Raises
    ------
    FileNotFoundError, ValueError
        As for `lsd_dask.open_volume`.
    """
    path = zarr_creating.normalise_path(path)
    with naming(path):
        level = whole_number("level", level, least=0)
        stated: dict[str, Any] = {}
        for key, value in (("voxel_size", voxel_size), ("offset", offset)):
            if value is not None:
                real_numbers(key, value)
                stated[key] = list(value)
        if units is not None:
            stated["units"] = units
        stored = _open(path, level, stated)
        check_dtype(stored.dtype)
    return stored


def check_dtype(dtype: np.dtype[Any]) -> None:
    """Raise ValueError unless voxels of this type are numbers that any reader of zarr knows."""
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise ValueError(f"expected numbers, but the array holds {dtype}")


def stored_zarr(path: str, array: zarr.Array[Any], layout: Layout) -> StoredVolume:
    """Describe an opened zarr array as a volume.

    Parameters
    ----------
    path : str
        Where it was opened.
    array : zarr.Array
    layout : Layout
        What its metadata says.

    Returns
    -------
    StoredVolume
    """
    unit = array.shards or array.chunks
    return StoredVolume(
        path=path,
        grid=layout.grid,
        dims=layout.dims,
        shape=layout.of_volume(array.shape),
        dtype=array.dtype,
        write_shape=layout.of_volume(unit)[len(layout.dims) - layout.grid.ndim :],
        fingerprint=fingerprint_of(array),
        stored_dims=layout.stored_dims,
        neighborhood=frozen(array.attrs.get(KEY)),
        run=run_in(dict(array.attrs)),
    )


def is_zarr(path: str) -> bool:
    """Whether a volume at this path is, or would be, a zarr array.

    Parameters
    ----------
    path : str
        A normalised path.

    Returns
    -------
    bool

    Examples
    --------
    >>> is_zarr("/data/em.zarr/volumes/raw"), is_zarr("/data/em.n5/volumes/raw")
    (True, False)
    """
    others = (n5.is_n5, precomputed.is_precomputed, hdf5.is_hdf5, images.is_stack)
    return not any(is_one(path) for is_one in others)


@contextmanager
def created_elsewhere(
    path: str,
    grid: Grid,
    dtype: np.dtype[Any],
    channels: int | None,
    *,
    block_shape: Sequence[int] | None,
    chunk_shape: Sequence[int] | None,
    overwrite: bool,
    attributes: Mapping[str, Any],
) -> Iterator[StoredVolume]:
    """Create a volume of another format than zarr, to be filled in the body of a with statement.

    Parameters
    ----------
    path : str
        A normalised path.
    grid : Grid
    dtype : dtype
    channels : int or None
    block_shape, chunk_shape, overwrite
        As for `lsd_dask.save_volume`. A volume that is there is replaced when the body is done.
    attributes : mapping
        More attributes for it.

    Yields
    ------
    StoredVolume

    Raises
    ------
    FileExistsError
        If there is one and `overwrite` is False.
    ValueError
        If the format cannot hold such a volume, or is only read.
    """
    what = (path, grid, dtype, channels, attributes)
    if n5.is_n5(path):
        block = chunk_shape if block_shape is None else block_shape
        creating: Any = n5.created_n5(*what, block_shape=block, overwrite=overwrite)
    elif precomputed.is_precomputed(path):
        creating = precomputed.created_precomputed(
            *what, block_shape=block_shape, chunk_shape=chunk_shape, overwrite=overwrite
        )
    elif hdf5.is_hdf5(path):
        creating = hdf5.created_hdf5(*what, chunk_shape=chunk_shape, overwrite=overwrite)
    else:
        raise ValueError(
            f"{path}: images are only read, expected an array in a container, such as out.zarr/raw"
        )
    with creating as stored:
        yield stored


def _open(path: str, level: int, stated: Mapping[str, Any]) -> StoredVolume:
    if precomputed.is_precomputed(path):
        return precomputed.open_precomputed(path, level, stated)
    if n5.is_n5(path):
        return n5.open_n5(path, level, stated)
    opener: Callable[[str, Mapping[str, Any]], StoredVolume]
    if hdf5.is_hdf5(path):
        opener = hdf5.open_hdf5
    elif images.is_stack(path):
        opener = images.open_stack
    else:
        return _open_zarr(path, level, stated)
    if level != 0:
        raise ValueError(
            f"{path}: level {level} was asked for, but only OME-NGFF, N5 and precomputed volumes have levels"
        )
    return opener(path, stated)


def _open_zarr(path: str, level: int, stated: Mapping[str, Any]) -> StoredVolume:
    node = zarr_creating.find_node(path)
    if isinstance(node, zarr.Group):
        return _open_group(path, node, level, stated)
    if level != 0:
        group, multiscale, own_level = _multiscale_around(path)
        if multiscale is None or own_level != 0:
            raise ValueError(
                f"{path}: there is no level {level}, as no OME-NGFF metadata has this as level 0"
            )
        return _open_level(group, multiscale, level, stated)
    return _open_array(path, node, stated)


def _open_group(path: str, group: zarr.Group, level: int, stated: Mapping[str, Any]) -> StoredVolume:
    multiscales = ngff.multiscales_of(group.attrs, where=path)
    if len(multiscales) == 1:
        return _open_level(path, multiscales[0], level, stated)
    arrays = zarr_creating.arrays_below(group, path)
    if len(arrays) == 1:
        return _open_zarr(f"{path}/{arrays[0]}", level, stated)
    names = missing.listed(arrays)
    raise ValueError(f"{path}: this is a group, not an array; name one of its arrays: {names}")


def _open_level(
    group: str, multiscale: ngff.Multiscale, level: int, stated: Mapping[str, Any]
) -> StoredVolume:
    levels = ngff.paths_of(multiscale)
    if not 0 <= level < len(levels):
        raise ValueError(f"{group}: level {level} was asked for, but the levels are 0 to {len(levels) - 1}")
    path = f"{group}/{levels[level]}"
    array = zarr_creating.find_node(path)
    if isinstance(array, zarr.Group):
        raise FileNotFoundError(f"{path}: OME-NGFF metadata names an array here, but this is a group")
    return _open_array(path, array, stated)


def _open_array(path: str, array: zarr.Array[Any], stated: Mapping[str, Any]) -> StoredVolume:
    """Open an array, and read what is said of it: by itself, by its group, by the multiscale around it."""
    names = getattr(array.metadata, "dimension_names", None)
    own = dict(array.attrs)
    sources = [attributes.source_from_attributes(own, where=path, dimension_names=names)]
    parent = next(zarr_creating.ancestors(path), None)
    above = None if parent is None else zarr_creating.open_node(parent)
    if isinstance(above, zarr.Group):
        factors = levels.factors_of(path, own, above.attrs)
        source = attributes.source_from_attributes(above.attrs, where=str(parent))
        of_group = levels.of_level(source, factors)
        sources = [levels.held_against(sources[0], of_group), of_group]
    group, multiscale, level = _multiscale_around(path)
    if multiscale is not None:
        sources.append(ngff.source_of_multiscale(multiscale, level, where=group))
    stored = stored_zarr(path, array, layout_of(array.shape, sources, stated, where=path))
    if multiscale is not None and stored.neighborhood is None:
        # Offsets are in voxels, those of the finest level where the group tells them.
        said = frozen(zarr_creating.find_node(group).attrs.get(KEY))
        return replace(stored, neighborhood=on_coarser_level(said) if level else said)
    return stored


def _multiscale_around(path: str) -> tuple[str, ngff.Multiscale | None, int]:
    """Group and entry of the OME-NGFF metadata above an array that names it, and as which level."""
    for group in zarr_creating.ancestors(path):
        node = zarr_creating.open_node(group)
        if not isinstance(node, zarr.Group):
            break
        for multiscale in ngff.multiscales_of(node.attrs, where=group):
            paths = [f"{group}/{below}" for below in ngff.paths_of(multiscale)]
            if path in paths:
                return group, multiscale, paths.index(path)
    return "", None, 0
