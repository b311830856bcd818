"""Synthetic neuropil of any size: labels, an EM-like image and imperfect affinities, as lazy volumes.

Everything is a function of world coordinates and a seed. So any part of a volume can be made alone, under any
chunking, with the same bits, and the volume never has to exist as a whole.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import DTypeLike

from ..space.grids import TOLERANCE, Grid
from ..space.neighborhoods import default_neighborhood, noted
from ..volumes.dask_arrays import label
from ..volumes.overlap import OverlapBlock
from .degradation import Degradation, degrade_affinities
from .tissue import IMAGE_DEPTH, Tissue

__all__ = ["degrade_affinities", "neuropil"]


def neuropil(
    shape: Sequence[int],
    *,
    voxel_size: Sequence[float] = (8, 8, 8),
    offset: Sequence[float] = (0, 0, 0),
    chunks: int | Sequence[int | Sequence[int]] = 128,
    seed: int = 0,
    somata: bool = True,
    blur: float = 1.0,
    noise: float = 0.2,
    leaks: float = 0.03,
    breaks: float = 0.01,
) -> xr.Dataset:
    """Synthetic neuropil: branching, touching neurites with an EM-like image and affinities.

    Parameters
    ----------
    shape : (3,) sequence of int
        Number of voxels, z, y, x.
    voxel_size : (3,) sequence of float
        In nanometres. Neurites are as thick as real ones, whatever the voxel size: nine of ten between 70 and
        240 nm, dendrites up to 500 nm.
    offset : (3,) sequence of float
        World position of the lower corner, a multiple of the voxel size: a volume is a window on endless
        tissue.
    chunks : int or (3,) sequence of int
        Chunk shape of the arrays; instead of a number, an axis may have the sizes of all its chunks. Values
        do not depend on it.
    seed : int
        Of all randomness.
    somata : bool
        Whether there are cell bodies: one in every other cube of 9 micrometres, none near the origin.
    blur, noise, leaks, breaks
        Of the affinities, see `degrade_affinities`.

    Returns
    -------
    xarray.Dataset
        Lazy, at most two tasks a chunk:

        ``labels`` : (z, y, x) uint64
            Ids below 2**53. Every voxel belongs to a neurite.
        ``raw`` : (z, y, x) uint8
            Dark membranes, textured cytoplasm, mitochondria, noise.
        ``affinities`` : (channel, z, y, x) uint8
            To the neighbours before each voxel along z, y and x; 255 for the same neurite.

    Raises
    ------
    ValueError
        If `shape`, `voxel_size`, `offset` or `chunks` do not have three numbers, if `offset` does not lie on
        the grid of voxels, or if `shape`, `seed` or a parameter of the affinities is out of range.

    Notes
    -----
    A neurite that leaves the volume and comes back has one id for all its parts, as in a crop of real data.
    Apart from that neurites hang together, but for about one voxel in a thousand.

    Examples
    --------
    >>> volume = neuropil((1000, 1000, 1000), chunks=16)
    >>> corner = volume.isel(z=slice(0, 8), y=slice(0, 8), x=slice(0, 8)).compute()
    >>> corner.labels.dtype, corner.affinities.shape
    (dtype('uint64'), (3, 8, 8, 8))
    """
    for name, value in (("shape", shape), ("voxel_size", voxel_size), ("offset", offset)):
        if len(value) != 3:
            raise ValueError(f"{name}: found {tuple(value)}, expected three numbers (z, y, x)")
    if min(shape) < 1:
        raise ValueError(f"shape: found {tuple(shape)}, expected numbers from 1 on")
    grid = Grid(("z", "y", "x"), tuple(shape), tuple(voxel_size), tuple(offset), "nanometer")
    degradation = Degradation(blur, noise, leaks, breaks, seed)
    tissue = Tissue(seed, grid.voxel_size, somata)
    depth = max(IMAGE_DEPTH, degradation.depth)

    indices = _voxel_indices(grid, chunks)
    haloed = _per_chunk(partial(_haloed_labels, tissue, depth), np.uint64, indices, grow=depth)
    arrays = {
        "labels": _per_chunk(partial(_labels, depth), np.uint64, indices, haloed),
        "raw": _per_chunk(partial(_image, tissue, depth), np.uint8, indices, haloed),
        "affinities": _per_chunk(
            partial(_affinities, degradation, depth), np.uint8, indices, haloed, channels=3
        ),
    }
    volumes = {name: label(array, grid) for name, array in arrays.items()}
    volumes["affinities"] = noted(volumes["affinities"], default_neighborhood(3))
    return xr.Dataset(volumes)


def _haloed_labels(tissue: Tissue, depth: int, *indices: np.ndarray) -> np.ndarray:
    """Labels of a chunk and `depth` voxels more on each side."""
    return tissue.labels([i - depth for i in _origin(indices)], [axis.size + 2 * depth for axis in indices])


def _labels(depth: int, *chunk: np.ndarray) -> np.ndarray:
    *_, haloed = chunk
    return _shrunk(haloed, depth)


def _image(tissue: Tissue, depth: int, *chunk: np.ndarray) -> np.ndarray:
    *indices, haloed = chunk
    return tissue.image(_shrunk(haloed, depth - IMAGE_DEPTH), _origin(indices))


def _affinities(degradation: Degradation, depth: int, *chunk: np.ndarray) -> np.ndarray:
    *indices, haloed = chunk
    block = OverlapBlock((slice(depth, -depth),) * 3, _origin(indices), haloed.shape)
    return degradation(haloed, block)


def _origin(indices: Sequence[np.ndarray]) -> tuple[int, ...]:
    return tuple(int(axis[0]) for axis in indices)


def _shrunk(array: np.ndarray, depth: int) -> np.ndarray:
    return array[tuple(slice(depth, n - depth) for n in array.shape)]


def _voxel_indices(grid: Grid, chunks: int | Sequence[int | Sequence[int]]) -> list[da.Array]:
    """Indices of the voxels along each axis, counted from world position 0."""
    sizes = (chunks,) * 3 if isinstance(chunks, int) else tuple(chunks)
    if len(sizes) != 3:
        raise ValueError(f"chunks: found {sizes}, expected one or three numbers (z, y, x)")
    axes = []
    for n, voxel_size, offset, size in zip(grid.shape, grid.voxel_size, grid.offset, sizes, strict=True):
        first = round(offset / voxel_size)
        if abs(first * voxel_size - offset) > TOLERANCE * voxel_size:
            raise ValueError(f"offset: found {grid.offset}, expected a multiple of {grid.voxel_size}")
        axes.append(da.arange(first, first + n, chunks=size, dtype=np.int64))
    return axes


def _per_chunk(
    function: Callable[..., np.ndarray],
    dtype: DTypeLike,
    indices: list[da.Array],
    haloed: da.Array | None = None,
    *,
    grow: int = 0,
    channels: int | None = None,
) -> da.Array:
    """An array of one task a chunk: `function` of the indices of its voxels and, where given, haloed labels.

    Its chunks are `grow` voxels larger on each side than the pieces of the indices.
    """
    arguments: list[Any] = [item for pair in zip(indices, "zyx", strict=True) for item in pair]
    axes = "zyx" if channels is None else "czyx"
    return da.blockwise(
        function,
        axes,
        *arguments,
        *(() if haloed is None else (haloed, "zyx")),
        dtype=dtype,
        meta=np.empty((0,) * len(axes), dtype),
        new_axes=None if channels is None else {"c": channels},
        adjust_chunks={axis: lambda n: n + 2 * grow for axis in "zyx"} if grow else None,
        align_arrays=False,
    )
