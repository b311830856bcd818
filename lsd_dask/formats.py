"""From a path to a stored volume, whatever the format."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from os import PathLike
from typing import Any

import zarr

from . import containers, metadata
from .metadata import Layout
from .storage import StoredVolume, fingerprint_of


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
    given = {"voxel_size": voxel_size, "offset": offset, "units": units}
    stated = {key: value for key, value in given.items() if value is not None}
    return _open_zarr(containers.normalise_path(path), level, stated)


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
        shape=tuple(array.shape[layout.dropped_axes :]),
        dtype=array.dtype,
        write_shape=tuple(unit[array.ndim - layout.grid.ndim :]),
        fingerprint=fingerprint_of(array),
        dropped_axes=layout.dropped_axes,
    )


def _open_zarr(path: str, level: int, stated: Mapping[str, Any]) -> StoredVolume:
    node = containers.find_node(path)
    if isinstance(node, zarr.Group):
        multiscales = metadata.multiscales_of(node.attrs)
        if len(multiscales) == 1:
            return _open_level(path, multiscales[0], level, stated)
        arrays = containers.arrays_below(node)
        if len(arrays) == 1:
            return _open_zarr(f"{path}/{arrays[0]}", level, stated)
        raise ValueError(
            f"{path}: this is a group, not an array; name one of its arrays: {containers.listed(arrays)}"
        )
    group, multiscale, own_level = _multiscale_around(path)
    if level > 0:
        if multiscale is None or own_level != 0:
            raise ValueError(
                f"{path}: it has no level {level}: no OME-NGFF group has this array as its level 0"
            )
        return _open_level(group, multiscale, level, stated)
    attributes = dict(node.attrs)
    if multiscale is not None and not metadata.has_geometry(attributes):
        layout = metadata.layout_from_multiscale(node.shape, multiscale, own_level, where=path)
        return stored_zarr(path, node, _override(layout, stated, path))
    names = getattr(node.metadata, "dimension_names", None)
    layout = metadata.layout_from_attributes(node.shape, {**attributes, **stated}, names, where=path)
    return stored_zarr(path, node, layout)


def _open_level(
    group: str, multiscale: Mapping[str, Any], level: int, stated: Mapping[str, Any]
) -> StoredVolume:
    datasets = multiscale["datasets"]
    if not 0 <= level < len(datasets):
        raise ValueError(f"{group}: level {level} was asked for, but the levels are 0 to {len(datasets) - 1}")
    path = f"{group}/{datasets[level]['path']}"
    array = containers.find_node(path)
    if not isinstance(array, zarr.Array):
        raise ValueError(f"{path}: OME-NGFF names this as an array, but it is a group")
    layout = metadata.layout_from_multiscale(array.shape, multiscale, level, where=path)
    return stored_zarr(path, array, _override(layout, stated, path))


def _multiscale_around(path: str) -> tuple[str, Mapping[str, Any] | None, int]:
    """The nearest group above an array whose OME-NGFF metadata names it, and as which level."""
    for group in containers.ancestors(path):
        node = containers.open_node(group)
        if not isinstance(node, zarr.Group):
            break
        for multiscale in metadata.multiscales_of(node.attrs):
            for level, dataset in enumerate(multiscale["datasets"]):
                if f"{group}/{dataset['path']}" == path:
                    return group, multiscale, level
    return "", None, 0


def _override(layout: Layout, stated: Mapping[str, Any], path: str) -> Layout:
    try:
        return replace(layout, grid=replace(layout.grid, **stated))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
