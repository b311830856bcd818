"""Run a kernel over blocks with a halo, as a lazy dask array: the only place that knows halos.

A block's halo is read, not shuffled: where a volume is stored, its block's task reads the haloed region from
storage itself, so that a block costs one task. Any other dask array is gathered, whole chunks at a time, by
the one task of each block that needs them. Both give the kernel the same voxels, and so the same answer,
whether blocks are thicker or thinner than the halo.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import dask.array as da
import dask.bag as db
import numpy as np
import xarray as xr
from dask.base import tokenize
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph

from ..space.grids import Region
from ..space.neighborhoods import without
from .dask_arrays import V, Volume, find_stored
from .stored import StoredVolume
from .voxel_values import sample_regions

type Depth = int | Sequence[int]


class Reader(Protocol):
    """Gives the voxels of any region of one volume, with all their channels."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Spatial shape of the volume, in voxels."""

    @property
    def origin(self) -> tuple[int, ...]:
        """Index of the first voxel in the stored array this was cropped from; zeros where it was not."""

    def read(self, region: Region) -> np.ndarray:
        """The voxels of `region`, which lies inside the volume."""


@dataclass(frozen=True)
class OverlapBlock:
    """Where a block's own voxels (its core) lie.

    Attributes
    ----------
    core
        Place of the core within the haloed array.
    origin
        Index, in the whole volume, of the core's first voxel.
    shape
        Spatial shape of the whole volume.
    """

    core: Region
    origin: tuple[int, ...]
    shape: tuple[int, ...]


def map_overlap(
    kernel: Callable[[np.ndarray, OverlapBlock], np.ndarray],
    volume: V,
    depth: Depth,
    *,
    dtype: Any,
    channels: int | None = None,
    channel_axis: bool = False,
) -> V:
    """Run `kernel` over the blocks of a volume, each with a halo of `depth` voxels.

    Parameters
    ----------
    kernel
        Gets the block with its halo and an `OverlapBlock`; returns the result for the core. The halo is
        clipped where the volume ends. Must be picklable for use on a cluster.
    volume
        NumPy array, dask array or DataArray, ``([channel,] z, y, x)`` or ``([channel,] y, x)``; a NumPy array
        is one block.
    depth
        Voxels of context the kernel needs on each side: one for all axes or one for each spatial axis.
    dtype
        Of the result.
    channels
        Number of channels of the result; None for a result without a channel axis.
    channel_axis
        Whether the first axis of `volume` is a channel axis.

    Returns
    -------
    array
        Of the same kind as `volume`, lazy unless that is a NumPy array.

    Examples
    --------
    A maximum filter over a window of three:

    >>> def kernel(haloed, block):
    ...     return np.array([haloed[max(0, i - 1) : i + 2].max() for i in range(len(haloed))])[block.core]
    >>> map_overlap(kernel, da.from_array(np.array([1, 5, 2, 3]), chunks=2), 1, dtype=int).compute()
    array([5, 5, 5, 3])
    """
    return map_regions(
        Haloed(kernel, depth), [volume], [channel_axis], depth=depth, dtype=dtype, channels=channels
    )


@dataclass(frozen=True)
class Haloed:
    """Reads a region with a halo and runs a kernel on it: what one task of `map_overlap` does.

    Attributes
    ----------
    kernel, depth
        As for `map_overlap`.
    """

    kernel: Callable[[np.ndarray, OverlapBlock], np.ndarray]
    depth: Depth

    def __call__(self, region: Region, reader: Reader) -> np.ndarray:
        """The kernel's result for a region."""
        haloed = grow(region, self.depth, reader.shape)
        block = OverlapBlock(within(region, haloed), tuple(s.start for s in region), reader.shape)
        return self.kernel(reader.read(haloed), block)


def map_regions(
    function: Callable[..., np.ndarray],
    volumes: Sequence[Volume],
    channel_axes: Sequence[bool],
    *,
    depth: Depth,
    dtype: Any,
    channels: int | None = None,
    shared: Delayed | None = None,
) -> Any:
    """Run ``function(region, *readers)`` for each block of the first volume; it reads what it needs.

    Parameters
    ----------
    function
        Gets the block's region and a `Reader` for each volume; returns the result for the region.
    volumes
        Volumes of the same spatial shape; the chunks of the first one are the blocks.
    channel_axes
        Whether the first axis of each volume is a channel axis.
    depth
        How far beyond its region the function may read in volumes that are not stored: a stored volume can be
        read anywhere.
    dtype, channels
        As for `map_overlap`.
    shared
        Something that every block needs, such as a table, given to the function after the region. It is one
        key of the graph, not a part of every task. Not for NumPy arrays.
    """
    first = volumes[0]
    if all(isinstance(v, np.ndarray) for v in volumes):
        readers = readers_of(volumes, channel_axes)
        return function(tuple(slice(0, n) for n in readers[0].shape), *readers)
    array = _map_dask(function, volumes, channel_axes, depth, np.dtype(dtype), channels, shared)
    if not isinstance(first, xr.DataArray):
        return array
    axes = [str(d) for d in first.dims[int(channel_axes[0]) :]]
    dims = axes if channels is None else ["channel", *axes]
    coords = {axis: first.coords[axis] for axis in axes if axis in first.coords}
    return xr.DataArray(array, dims=dims, coords=coords, attrs=without(first.attrs))


def readers_of(volumes: Sequence[Volume], channel_axes: Sequence[bool]) -> list[Reader]:
    """A reader for each volume: from storage where it is stored, else from the array in memory."""
    readers: list[Reader] = []
    for volume, channel_axis in zip(volumes, channel_axes, strict=True):
        stored = None if isinstance(volume, np.ndarray) else find_stored(volume)
        if stored is not None:
            readers.append(StoredReader(*stored))
        else:
            array = np.asarray(volume)
            shape = array.shape[int(channel_axis) :]
            readers.append(ArrayReader(array, shape, (0,) * len(shape), shape))
    return readers


def looked_at(volume: Volume, channel_axis: bool) -> Iterator[np.ndarray]:
    """What can be looked at before any work: all of a NumPy array, some places of a stored volume."""
    if isinstance(volume, np.ndarray):
        yield volume
    elif (stored := find_stored(volume)) is not None:
        yield from map(StoredReader(*stored).read, sample_regions(volume.shape[int(channel_axis) :]))


def blocks_of(chunks: Sequence[Sequence[int]]) -> Iterator[tuple[tuple[int, ...], Region]]:
    """Index and region of every block of a chunking.

    Examples
    --------
    >>> list(blocks_of([(2, 1)]))
    [((0,), (slice(0, 2, None),)), ((1,), (slice(2, 3, None),))]
    """
    starts = [np.concatenate([[0], np.cumsum(c)]).tolist() for c in chunks]
    for index in itertools.product(*(range(len(c)) for c in chunks)):
        yield index, tuple(slice(s[i], s[i + 1]) for s, i in zip(starts, index, strict=True))


def grow(region: Region, depth: Depth, shape: Sequence[int]) -> Region:
    """The region with `depth` voxels more on each side, clipped to the volume.

    Examples
    --------
    >>> grow((slice(4, 8), slice(0, 4)), (2, 3), (16, 16))
    (slice(2, 10, None), slice(0, 7, None))
    """
    depths = np.broadcast_to(depth, len(region)).tolist()
    return tuple(
        slice(max(0, s.start - d), min(n, s.stop + d)) for s, d, n in zip(region, depths, shape, strict=True)
    )


def within(region: Region, outer: Region) -> Region:
    """Place of `region` within the array of `outer`.

    Examples
    --------
    >>> within((slice(4, 8),), (slice(2, 10),))
    (slice(2, 6, None),)
    """
    return tuple(slice(s.start - o.start, s.stop - o.start) for s, o in zip(region, outer, strict=True))


@dataclass(frozen=True)
class StoredReader:
    """Reads a stored volume, or a cropped part of it."""

    stored: StoredVolume
    part: Region

    @property
    def shape(self) -> tuple[int, ...]:
        """Spatial shape, in voxels."""
        return tuple(s.stop - s.start for s in self.part)

    @property
    def origin(self) -> tuple[int, ...]:
        """Where the part begins in the stored volume."""
        return tuple(s.start for s in self.part)

    def read(self, region: Region) -> np.ndarray:
        """The voxels of `region`, from storage."""
        return self.stored.read(
            tuple(slice(p.start + s.start, p.start + s.stop) for s, p in zip(region, self.part, strict=True))
        )


class OutOfReachError(ValueError):
    """More context was asked for than an array that is not stored can give."""


@dataclass(frozen=True)
class ArrayReader:
    """Reads an array in memory: a whole volume, or the part of it that begins at `start`."""

    array: np.ndarray
    shape: tuple[int, ...]
    start: tuple[int, ...]
    held: tuple[int, ...]

    @property
    def origin(self) -> tuple[int, ...]:
        """An array in memory is not known to be cropped from anything."""
        return (0,) * len(self.shape)

    def read(self, region: Region) -> np.ndarray:
        """The voxels of `region`; `OutOfReachError` where this part does not hold them."""
        local = tuple(slice(s.start - o, s.stop - o) for s, o in zip(region, self.start, strict=True))
        if any(s.start < 0 or s.stop > n for s, n in zip(local, self.held, strict=True)):
            raise OutOfReachError(
                f"A block needs the voxels {_box(region)}, more context than this dask array was asked to "
                "give. Store the volume first (save_volume, then open_volume), or pass a larger context."
            )
        index: Any = (Ellipsis, *local)
        voxels: np.ndarray = self.array[index]
        return voxels


def bag_regions(
    function: Callable[..., Any], volumes: Sequence[Volume], channel_axes: Sequence[bool], *, depth: Depth
) -> db.Bag:
    """Like `map_regions` for results that are not arrays.

    Parameters
    ----------
    function, volumes, channel_axes, depth
        As for `map_regions`.

    Returns
    -------
    dask.bag.Bag
        One element a block, each in a partition of its own, in the order of `blocks_of`.
    """
    first = _spatial_chunks(volumes[0], channel_axes[0])
    name = f"{getattr(function, 'name', 'bag-regions')}-" + tokenize(function, volumes, channel_axes, depth)
    tasks, gathered = _tasks(function, volumes, channel_axes, depth)
    graph: dict[Any, Any] = {(name, i): (_listed, task) for i, (_, task) in enumerate(tasks)}
    layer = HighLevelGraph.from_collections(name, graph, dependencies=gathered)
    return db.Bag(layer, name, npartitions=math.prod(len(c) for c in first))


def _map_dask(
    function: Callable[..., np.ndarray],
    volumes: Sequence[Volume],
    channel_axes: Sequence[bool],
    depth: Depth,
    dtype: np.dtype,
    channels: int | None,
    shared: Delayed | None,
) -> da.Array:
    first = _spatial_chunks(volumes[0], channel_axes[0])
    name = f"{getattr(function, 'name', 'map-regions')}-" + tokenize(
        function, volumes, channel_axes, depth, dtype, channels, shared
    )
    lead: tuple[int, ...] = () if channels is None else (0,)
    tasks, gathered = _tasks(function, volumes, channel_axes, depth, shared)
    graph: dict[Any, Any] = {(name, *lead, *index): task for index, task in tasks}
    layer = HighLevelGraph.from_collections(name, graph, dependencies=gathered)
    return da.Array(layer, name, chunks=first if channels is None else ((channels,), *first), dtype=dtype)


def _tasks(
    function: Callable[..., Any],
    volumes: Sequence[Volume],
    channel_axes: Sequence[bool],
    depth: Depth,
    shared: Delayed | None = None,
) -> tuple[Iterator[tuple[tuple[int, ...], tuple[Any, ...]]], list[Any]]:
    """One task a block, with the block's index, and the collections that the tasks depend on."""
    chunks = _spatial_chunks(volumes[0], channel_axes[0])
    shape = tuple(sum(c) for c in chunks)
    inputs = [_input(v, axis, chunks) for v, axis in zip(volumes, channel_axes, strict=True)]
    needed: list[Any] = [i for i in inputs if isinstance(i, da.Array)]
    constants: tuple[str, ...] = ()
    if shared is not None:
        needed.append(shared)
        constants = (shared.key,)

    def tasks() -> Iterator[tuple[tuple[int, ...], tuple[Any, ...]]]:
        for index, region in blocks_of(chunks):
            readers = [i if isinstance(i, StoredReader) else _gather(i, region, depth, shape) for i in inputs]
            yield index, (_run, function, region, *constants, *readers)

    return tasks(), needed


def _listed(element: Any) -> list[Any]:
    return [element]


def _run(function: Callable[..., Any], region: Region, *rest: Any) -> Any:
    return function(region, *rest)


def _spatial_chunks(volume: Volume, channel_axis: bool) -> tuple[tuple[int, ...], ...]:
    chunks: tuple[tuple[int, ...], ...] | None = getattr(volume, "chunks", None)
    if chunks is None:
        chunks = tuple((n,) for n in volume.shape)
    return chunks[int(channel_axis) :]


def _input(
    volume: Volume, channel_axis: bool, chunks: tuple[tuple[int, ...], ...]
) -> "StoredReader | da.Array":
    stored = None if isinstance(volume, np.ndarray) else find_stored(volume)
    if stored is not None:
        return StoredReader(*stored)
    array = volume.data if isinstance(volume, xr.DataArray) else volume
    if channel_axis:
        chunks = ((array.shape[0],), *chunks)
    if not isinstance(array, da.Array):
        return da.from_array(array, chunks=chunks)
    return array.rechunk({0: -1}) if channel_axis else array


def _gather(array: da.Array, region: Region, depth: Depth, shape: tuple[int, ...]) -> tuple[Any, ...]:
    """The task that joins the chunks of `array` which a region with its halo touches, and reads from them."""
    haloed = grow(region, depth, shape)
    lead = array.ndim - len(shape)
    picked: list[list[int]] = []
    start: list[int] = []
    held: list[int] = []
    for chunks, s in zip(array.chunks[lead:], haloed, strict=True):
        ends = np.cumsum(chunks)
        indices = np.flatnonzero((ends > s.start) & (ends - chunks < s.stop))
        if not indices.size:  # a region without voxels, which lies somewhere all the same
            indices = np.searchsorted(ends, [s.start])
        picked.append(indices.tolist())
        start.append(int(ends[indices[0]] - chunks[indices[0]]))
        held.append(int(ends[indices[-1]]) - start[-1])

    def keys(index: tuple[int, ...], rest: Sequence[Sequence[int]]) -> Any:
        if not rest:
            return (array.name, *(0,) * lead, *index)
        return [keys((*index, i), rest[1:]) for i in rest[0]]

    return (_join, keys((), picked), shape, tuple(start), tuple(held))


def _join(
    chunks: list[Any], shape: tuple[int, ...], start: tuple[int, ...], held: tuple[int, ...]
) -> ArrayReader:
    return ArrayReader(_concatenate(chunks, len(shape)), tuple(shape), tuple(start), tuple(held))


def _concatenate(chunks: Any, ndim: int) -> np.ndarray:
    if not isinstance(chunks, list):
        return chunks
    parts = [_concatenate(c, ndim - 1) for c in chunks]
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-ndim)


def _box(region: Region) -> str:
    return "[" + ", ".join(f"{s.start}:{s.stop}" for s in region) + "]"
