"""Which fragment lies at each of some points of a volume: one pass over the chunks that hold points."""

import warnings
from collections.abc import Iterator, Sequence

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import compute
from dask.delayed import delayed
from numpy.typing import ArrayLike, NDArray

from ..space.grids import Grid, Region
from ..volumes.dask_arrays import Volume, find_stored, grid_of
from ..volumes.stored import StoredVolume
from ..volumes.voxel_values import as_ids, check_labels
from .placement import crowding, other_unit


def labels_at(volume: Volume, positions: ArrayLike) -> NDArray[np.uint64]:
    """The label of the voxel at each of some positions.

    Parameters
    ----------
    volume : (z, y, x) or (y, x) array of int
        Fragments or a segmentation. Of a lazy one, only the chunks that hold a position are computed, on the
        active dask client if there is one; of a stored one, only the box around the positions of a chunk is
        read.
    positions : (n, 3) or (n, 2) array_like of float
        In world units; in voxels, from corner to corner, where the volume is a bare array.

    Returns
    -------
    (n,) array of uint64

    Raises
    ------
    TypeError
        If labels are not integers.
    ValueError
        If a position lies outside of the volume, or has another number of axes.

    Warns
    -----
    UserWarning
        If positions share so few voxels that they seem to be in another unit than the volume.

    Examples
    --------
    >>> labels_at(np.array([[7, 8], [0, 9]]), [[0.5, 1.5], [1.0, 0.99]])
    array([8, 0], dtype=uint64)
    """
    check_labels(volume, "volume")
    grid = grid_of(volume)
    voxels = voxels_of(positions, grid)
    points = np.asarray(positions, np.float64)
    if (crowded := crowding(points, grid)) and other_unit(points, grid):
        warnings.warn(crowded, stacklevel=2)
    array = volume.data if isinstance(volume, xr.DataArray) else volume
    labels = np.zeros(len(voxels), np.uint64)
    if not len(labels):
        return labels
    if not isinstance(array, da.Array):
        labels[:] = as_ids(np.asarray(array)[tuple(voxels.T)], "volume")
        return labels
    stored = find_stored(volume)
    chunks = list(_by_chunk(voxels, array.chunks))
    if stored is not None:
        source, part = stored
        begins = np.array([s.start for s in part])
        tasks = [delayed(_read)(source, voxels[rows] + begins) for _, rows in chunks]
    else:
        blocks = array.to_delayed()
        ends = [np.cumsum(c) for c in array.chunks]
        tasks = []
        for index, rows in chunks:
            begins = np.array([e[i] - c[i] for e, c, i in zip(ends, array.chunks, index, strict=True)])
            tasks.append(delayed(_pick)(blocks[index], voxels[rows] - begins))
    for (_, rows), found in zip(chunks, compute(*tasks), strict=True):
        labels[rows] = as_ids(found, "volume")
    return labels


def voxels_of(positions: ArrayLike, grid: Grid) -> NDArray[np.int64]:
    """The voxel that holds each of some positions, ``(n, axes)``.

    Raises
    ------
    ValueError
        If a position lies outside of the volume, or has another number of axes; the message says how many
        do.
    """
    points = np.asarray(positions, np.float64)
    if points.ndim != 2 or points.shape[1] != grid.ndim:
        raise ValueError(
            f"positions: found shape {points.shape}, expected (n, {grid.ndim}): {', '.join(grid.dims)}"
        )
    outside = ((points < grid.offset) | (points >= grid.end) | ~np.isfinite(points)).any(axis=1)
    if outside.any():
        first = tuple(points[outside][0].tolist())
        raise ValueError(
            f"positions: {np.count_nonzero(outside)} of {len(points)} lie outside of the volume, {first} is "
            f"the first; the volume fills {grid.box}"
        )
    voxels = np.floor((points - grid.offset) / grid.voxel_size).astype(np.int64)
    # Rounding may bring what lies a hair below the upper face to the voxel above it.
    return np.minimum(voxels, np.array(grid.shape) - 1)


def _by_chunk(
    voxels: np.ndarray, chunks: Sequence[Sequence[int]]
) -> Iterator[tuple[tuple[int, ...], np.ndarray]]:
    """Index of each chunk that holds voxels, and the rows of these."""
    indices = np.stack(
        [np.searchsorted(np.cumsum(c), v, side="right") for c, v in zip(chunks, voxels.T, strict=True)],
        axis=1,
    )
    found, first = np.unique(indices, axis=0, return_inverse=True)
    order = np.argsort(first, kind="stable")
    bounds = np.searchsorted(first[order], np.arange(len(found) + 1))
    for number, index in enumerate(found.tolist()):
        yield tuple(index), order[bounds[number] : bounds[number + 1]]


def _read(stored: StoredVolume, voxels: np.ndarray) -> np.ndarray:
    begin, end = voxels.min(axis=0), voxels.max(axis=0) + 1
    region: Region = tuple(slice(int(b), int(e)) for b, e in zip(begin, end, strict=True))
    return _pick(stored.read(region), voxels - begin)


def _pick(block: np.ndarray, voxels: np.ndarray) -> np.ndarray:
    picked: np.ndarray = block[tuple(voxels.T)]
    return picked
