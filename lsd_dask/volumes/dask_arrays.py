"""Stored volumes as lazy arrays, and lazy arrays back to the stored volumes they are a box of."""

import operator
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, cast

import dask.array as da
import numpy as np
import xarray as xr

# Tasks and their references have no public module yet.
from dask._task_spec import Alias, Task, TaskRef
from dask.array import chunk
from dask.blockwise import Blockwise
from dask.highlevelgraph import HighLevelGraph
from dask.layers import ArraySliceDep
from numpy.typing import NDArray

from ..checks.arguments import naming, real_numbers, whole_numbers
from ..space import neighborhoods
from ..space.grids import TOLERANCE, Grid, Region, spatial_dims
from .stored import StoredVolume

type Volume = NDArray[Any] | da.Array | xr.DataArray

#: Of functions whose result is of the same kind as what they are given.
V = TypeVar("V", NDArray[Any], da.Array, xr.DataArray)


def as_volume(stored: StoredVolume, chunks: int | Sequence[int] | None = None) -> xr.DataArray:
    """Wrap a stored volume in a DataArray with world coordinates; every chunk is read by one task.

    Parameters
    ----------
    stored : StoredVolume
    chunks : int or sequence of int, optional
        Spatial chunk shape; by default `StoredVolume.read_shape`. A chunk always holds all channels.

    Returns
    -------
    xarray.DataArray
        Backed by a dask array.

    Raises
    ------
    ValueError
        If `chunks` has another number of axes than the volume has spatial axes.
    """
    volume = label(_dask_array(stored, chunks), stored.grid, name=stored.name)
    stated = stored.neighborhood
    return volume if stated is None or stored.channels is None else neighborhoods.noted(volume, stated)


def label(array: NDArray[Any] | da.Array, grid: Grid, name: str | None = None) -> xr.DataArray:
    """Give an array the axes, coordinates and attributes of a volume.

    Parameters
    ----------
    array : ([C, ]z, y, x) array
    grid : Grid
        Of its spatial axes.
    name : str, optional

    Returns
    -------
    xarray.DataArray
    """
    dims = ("channel",) * (array.ndim - grid.ndim) + grid.dims
    attributes = {"voxel_size": grid.voxel_size, "units": grid.units}
    return xr.DataArray(array, dims=dims, coords=grid.coords(), attrs=attributes, name=name)


def grid_of(volume: Volume) -> Grid:
    """Where the voxels of a volume lie.

    Parameters
    ----------
    volume : ([C, ]z, y, x) ndarray, dask array or DataArray
        The grid of a DataArray follows from its coordinates, so that it holds after cropping and striding.
        Any other array has voxel size 1 and offset 0; with four axes, the first is channels.

    Returns
    -------
    Grid

    Raises
    ------
    ValueError
        If the axes are not ``[channel,] z, y, x`` or ``[channel,] y, x``, or the coordinates are not evenly
        spaced and ascending.

    Examples
    --------
    >>> volume = label(np.zeros((4, 6)), Grid(("y", "x"), (4, 6), voxel_size=(8, 4), offset=(80, 0)))
    >>> grid_of(volume[2:, ::3])
    Grid(dims=('y', 'x'), shape=(2, 2), voxel_size=(8.0, 12.0), offset=(96.0, -4.0), units='nanometer')
    """
    if not isinstance(volume, xr.DataArray):
        dims = spatial_dims(3 if volume.ndim == 4 else volume.ndim)
        return Grid(dims, volume.shape[-len(dims) :], (1.0,) * len(dims), (0.0,) * len(dims), "voxel")
    dims = tuple(str(dim) for dim in volume.dims[volume.dims[:1] == ("channel",) :])
    if dims not in (spatial_dims(2), spatial_dims(3)):
        raise ValueError(f"expected the axes ([channel,] z, y, x) or ([channel,] y, x), found {volume.dims}")
    stated = real_numbers(f"voxel_size of {volume.name!r}", volume.attrs.get("voxel_size", ()))
    if not all(np.isfinite(v) and v > 0 for v in stated):
        raise ValueError(f"voxel_size of {volume.name!r}: found {stated}, expected positive numbers")
    known = dict(zip(reversed(dims), reversed(stated), strict=False))
    axes = [_axis(volume, dim, known.get(dim, 1.0)) for dim in dims]
    voxel_size, offset = zip(*axes, strict=True)
    units = volume.attrs.get("units", "voxel")
    return Grid(dims, tuple(volume.sizes[dim] for dim in dims), voxel_size, offset, units)


def find_stored(array: Volume) -> tuple[StoredVolume, Region] | None:
    """Find the stored volume that a lazy array is a box of, so that it can be read directly, with any halo.

    The answer comes from the task graph alone: the array must be an opened volume that was sliced into a box
    and then rechunked, and nothing else. Coordinates are not consulted, for they can be reassigned.

    Parameters
    ----------
    array : ([C, ]z, y, x) DataArray or dask array

    Returns
    -------
    (StoredVolume, tuple of slice) or None
        The stored volume and the spatial region of it which the array holds. None where the array is anything
        but all channels of a contiguous box: computed, strided, flipped, transposed, fancy-indexed.

    Examples
    --------
    >>> from lsd_dask.volumes.saving import create_volume
    >>> raw = as_volume(create_volume("memory://doc.zarr/raw", (100, 90), "uint8", overwrite=True))
    >>> stored, region = find_stored(raw.sel(y=slice(10, 30)))
    >>> stored.name, region
    ('raw', (slice(10, 30, None), slice(0, 90, None)))
    >>> find_stored(raw + 1)
    """
    data = array.data if isinstance(array, xr.DataArray) else array
    if not isinstance(data, da.Array):
        return None
    graph = data.__dask_graph__()
    if not isinstance(graph, HighLevelGraph):
        return None
    name = _below_rechunking(graph, data.name)
    found = _origin(graph, (name, *(0,) * data.ndim))
    if found is None or len(found[1]) != data.ndim:
        return None
    stored = found[0]
    box: list[slice] = []
    for axis, n in enumerate(data.numblocks if name == data.name else _numblocks(graph, name)):
        keys = [(name, *(i if a == axis else 0 for a in range(data.ndim))) for i in range(n)]
        joined = _join([_origin(graph, key) for key in keys], axis)
        if joined is None:
            return None
        box.append(joined)
    if stored.channels is not None and box.pop(0) != slice(0, stored.channels):
        return None
    return stored, tuple(box)


def stated_by(volume: Volume) -> Any:
    """What is said of the neighborhood of affinities: by the attributes of a DataArray or of what is stored.

    Parameters
    ----------
    volume : (C, [z,] y, x) ndarray, dask array or DataArray

    Returns
    -------
    sequence of sequence of int, or None
        As it stands there: not checked.
    """
    if isinstance(volume, xr.DataArray):
        return neighborhoods.stated_by(volume)
    found = find_stored(volume)
    return None if found is None else found[0].neighborhood


def sources_of(array: da.Array) -> list[StoredVolume]:
    """List the stored volumes whose voxels a lazy array is computed from.

    Parameters
    ----------
    array : dask array

    Returns
    -------
    list of StoredVolume
        Found in one task of every layer of the graph, as the tasks of a layer are alike.
    """
    graph = array.__dask_graph__()
    found: list[StoredVolume] = []
    for layer in graph.layers.values() if isinstance(graph, HighLevelGraph) else ():
        sample = (
            (layer.indices, layer.task) if isinstance(layer, Blockwise) else next(iter(layer.values()), None)
        )
        found.extend(_mentioned(sample))
    return found


def _dask_array(stored: StoredVolume, chunks: int | Sequence[int] | None) -> da.Array:
    n_spatial = stored.grid.ndim
    spatial = stored.read_shape if chunks is None else chunks
    with naming(stored.path):
        spatial = (spatial,) * n_spatial if isinstance(spatial, int) else spatial
        spatial = whole_numbers("chunks", spatial, least=1)
    if len(spatial) != n_spatial:
        raise ValueError(
            f"{stored.path}: chunks need {n_spatial} numbers, one per spatial axis, not {spatial}"
        )
    return da.from_array(
        stored,
        chunks=stored.shape[: stored.ndim - n_spatial] + spatial,
        # Not a digest of the path: what is there may change while a cluster still holds results of that name.
        name=f"open-volume-{uuid.uuid4().hex}",
        inline_array=True,
        fancy=False,
        asarray=False,
        meta=np.empty((0,) * stored.ndim, dtype=stored.dtype),
    )


def _axis(volume: xr.DataArray, dim: str, known: float) -> tuple[float, float]:
    """Voxel size and lower corner along one axis, from its coordinates."""
    if dim not in volume.coords or volume.sizes[dim] == 0:
        return known, 0.0
    try:
        centres = np.asarray(volume.coords[dim].values, dtype=np.float64)
    except (TypeError, ValueError):
        kind = volume.coords[dim].dtype
        raise ValueError(
            f"the {dim} coordinates of {volume.name!r} hold {kind}, expected world positions"
        ) from None
    voxel_size = known
    if len(centres) > 1:
        spacing = float(centres[-1] - centres[0]) / (len(centres) - 1)
        # A multiple of the known voxel size where it is one: coordinates carry rounding errors.
        stride = max(round(spacing / known), 1) if np.isfinite(spacing) else 1
        voxel_size = known * stride if abs(spacing - known * stride) <= TOLERANCE * known else spacing
        expected = centres[0] + np.arange(len(centres)) * voxel_size
        # Written so that NaN does not pass.
        if not (voxel_size > 0 and np.max(np.abs(centres - expected)) <= TOLERANCE * voxel_size):
            raise ValueError(f"the {dim} coordinates of {volume.name!r} are not evenly spaced and ascending")
    first = float(centres[0])
    offset = first - 0.5 * voxel_size
    # 0.1 * 3.5 - 0.05 is not 0.3: take the short decimal where it leads to the same coordinate.
    short = float(f"{offset:.12g}")
    return voxel_size, short if short + 0.5 * voxel_size == first else offset


def _below_rechunking(graph: HighLevelGraph, name: str) -> str:
    while name.startswith("rechunk-") and not isinstance(graph.layers[name], Blockwise):
        below = graph.dependencies[name]
        if len(below) != 1:
            break
        name = next(iter(below))
    return name


def _numblocks(graph: HighLevelGraph, name: str) -> tuple[int, ...]:
    found = _source(graph, name)
    if found is not None:
        return tuple(len(sizes) for sizes in found[1])
    indices = [cast("tuple[Any, ...]", key)[1:] for key in graph.layers[name]]
    return tuple(max(along) + 1 for along in zip(*indices, strict=True))


def _source(graph: HighLevelGraph, name: str) -> tuple[StoredVolume, tuple[tuple[int, ...], ...]] | None:
    """Volume and chunks, if this layer is the one that `_dask_array` makes."""
    layer = graph.layers.get(name)
    if not isinstance(layer, Blockwise) or len(layer.indices) != 2:
        return None
    (stored, _), (reference, _) = layer.indices
    slices = layer.io_deps.get(reference) if isinstance(reference, str) else None
    if not isinstance(stored, StoredVolume) or not isinstance(slices, ArraySliceDep):
        return None
    return stored, slices.chunks


def _origin(graph: HighLevelGraph, key: tuple[Any, ...]) -> tuple[StoredVolume, list[range]] | None:
    """Follow one chunk through slicings to its source; one `range` an axis says which voxels it takes."""
    cuts: list[tuple[slice, ...]] = []
    while (found := _source(graph, key[0])) is None:
        task = graph.layers[key[0]].get(key) if key[0] in graph.layers else None
        if isinstance(task, Alias):
            key = cast("tuple[Any, ...]", task.target)
        elif isinstance(task, Task) and task.func in (chunk.getitem, operator.getitem) and _is_cut(task.args):
            key = task.args[0].key
            cuts.append(task.args[1])
        else:
            return None
    stored, chunks = found
    ranges = []
    for sizes, i in zip(chunks, key[1:], strict=True):
        start = sum(sizes[:i])
        ranges.append(range(start, start + sizes[i]))
    for cut in reversed(cuts):
        if len(cut) != len(ranges):
            return None
        ranges = [part[s] for part, s in zip(ranges, cut, strict=True)]
    return stored, ranges


def _is_cut(arguments: tuple[Any, ...]) -> bool:
    return (
        len(arguments) == 2
        and isinstance(arguments[0], TaskRef)
        and isinstance(arguments[1], tuple)
        and all(isinstance(part, slice) for part in arguments[1])
    )


def _join(origins: Sequence[tuple[StoredVolume, list[range]] | None], axis: int) -> slice | None:
    """The box that chunks along an axis make up; None if they skip, flip or reorder voxels.

    >>> _join([(None, [range(3, 5)]), (None, [range(5, 6)])], 0)
    slice(3, 6, None)
    """
    ranges = [origin[1][axis] for origin in origins if origin is not None]
    if len(ranges) != len(origins):
        return None
    start = stop = ranges[0].start
    for part in ranges:
        if part.start != stop or len(part) == 0 or (part.step != 1 and len(part) > 1):
            return None
        stop = part.start + len(part)
    return slice(start, stop)


def _mentioned(value: Any) -> Iterator[StoredVolume]:
    """Stored volumes among the arguments of a task."""
    if isinstance(value, StoredVolume):
        yield value
    elif isinstance(value, Task):
        yield from _mentioned((value.args, list(value.kwargs.values())))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _mentioned(item)
    elif is_dataclass(value) and not isinstance(value, type):
        yield from _mentioned([getattr(value, field.name) for field in fields(value)])
