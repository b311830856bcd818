"""What the browser reads from: voxels of a volume at any resolution, as they are or merged into segments."""

from collections.abc import Callable
from dataclasses import dataclass, field
from os import PathLike
from typing import Any

import numpy as np
import xarray as xr

from ..checks.arguments import check_array
from ..space.grids import TOLERANCE, Grid
from ..volumes.dask_arrays import grid_of
from ..volumes.opening import open_stored
from ..volumes.stored import StoredVolume
from ..volumes.voxel_values import check_not_negative, sample_regions
from .contents import Kind, kind_of

#: Types of voxels that neuroglancer knows, for those that it does not.
_SHOWN_AS = {"b1": "u1", "f2": "f4", "f8": "f4", "i8": "u8"}

#: Contrast is chosen by what is in a box of this many voxels a side, in the middle of the volume.
_SAMPLE = 64


@dataclass(frozen=True)
class Level:
    """A volume at one resolution.

    Attributes
    ----------
    factors
        How many voxels of the finest level one of this has, along each axis.
    voxels
        An array that can be sliced; stored, lazy or in memory.
    """

    factors: tuple[int, ...]
    voxels: Any


@dataclass(frozen=True)
class Source:
    """Voxels of a volume, read where and as finely as they are looked at.

    Attributes
    ----------
    name
        Of the volume.
    kind
        How it is shown.
    grid
        Where its voxels lie.
    levels
        Its resolutions, the finest first.
    change
        Applied to what is read of labels; by default nothing.
    """

    name: str
    kind: Kind
    grid: Grid
    levels: tuple[Level, ...]
    change: Callable[[np.ndarray], np.ndarray] = field(default=np.asarray)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the finest level, with channels where there are any."""
        return tuple(int(n) for n in self.levels[0].voxels.shape)

    @property
    def has_channels(self) -> bool:
        """Whether the first axis is channels."""
        return len(self.shape) > self.grid.ndim

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of what is read."""
        found = np.dtype(self.levels[0].voxels.dtype)
        return np.dtype(_SHOWN_AS.get(found.str[1:], found.str[1:]))

    @property
    def coarsest(self) -> int:
        """Voxels of the finest level in one of the coarsest."""
        return int(np.prod(self.levels[-1].factors))

    def read(self, start: np.ndarray, stop: np.ndarray, factors: np.ndarray) -> np.ndarray:
        """Read a box of the volume, made coarser.

        Parameters
        ----------
        start, stop : (n,) ndarray of int
            Corners of the box, in voxels of the coarser volume; channels included.
        factors : (n,) ndarray of int
            How many voxels one of these has along each axis.

        Returns
        -------
        ndarray
            Means of images; of labels, the first one of each.
        """
        level = next(
            one for one in reversed(self.levels) if not (factors % self._with_channels(one.factors)).any()
        )
        rest = factors // self._with_channels(level.factors)
        ends = np.minimum(stop * rest, level.voxels.shape)
        box = tuple(slice(int(a), int(b)) for a, b in zip(start * rest, ends, strict=True))
        voxels = np.asarray(level.voxels[box])
        if self.kind == "labels":
            return self._labels(voxels[tuple(slice(None, None, int(n)) for n in rest)])
        return _averaged(voxels, tuple(map(int, rest))).astype(self.dtype)

    def transpose(self) -> np.ndarray:
        """All voxels of the finest level, axes reversed: as neuroglancer asks for them to make meshes."""
        return self._labels(np.asarray(self.levels[0].voxels[...])).T

    def contrast(self) -> tuple[float, float]:
        """Values between which nearly all voxels lie, of a sample in the middle; all of [0, 1] for none."""
        middle = tuple(
            slice(max(0, n // 2 - _SAMPLE // 2), max(0, n // 2 - _SAMPLE // 2) + _SAMPLE)
            for n in self.grid.shape
        )
        sample = np.asarray(self.levels[0].voxels[(slice(None),) * self.has_channels + middle], np.float32)
        low, high = np.percentile(sample, (0.5, 99.5)) if sample.size else (0, 1)
        return (float(low), float(high)) if high > low else (float(low), float(low) + 1)

    def _labels(self, voxels: np.ndarray) -> np.ndarray:
        check_not_negative(voxels, self.name)
        return self.change(voxels.astype(self.dtype))

    def _with_channels(self, factors: tuple[int, ...]) -> np.ndarray:
        return np.array((1,) * self.has_channels + factors)


def source_of(name: str, volume: Any) -> Source:
    """Make a source of a volume.

    Parameters
    ----------
    name : str
        What it is called; helps to tell labels from images.
    volume : ([C, ]z, y, x) array, or str or PathLike
        NumPy or dask array, DataArray, or the path of a stored volume, of which all resolutions are used.

    Returns
    -------
    Source

    Raises
    ------
    TypeError
        If it is no array of numbers.
    FileNotFoundError, ValueError
        If there is no such volume, it has other axes, or a look at some places finds a negative label.

    Examples
    --------
    >>> source_of("labels", np.ones((4, 4), np.uint64)).kind
    'labels'
    """
    if isinstance(volume, str | PathLike):
        volume = open_stored(volume)
    if isinstance(volume, StoredVolume):
        grid, levels = volume.grid, _stored_levels(volume)
    else:
        check_array(volume, repr(name))
        if volume.dtype.kind not in "biuf":
            raise TypeError(f"{name!r}: found dtype {volume.dtype}, expected numbers")
        grid = grid_of(volume)
        voxels = volume.data if isinstance(volume, xr.DataArray) else volume
        levels = (Level((1,) * grid.ndim, voxels),)
    finest = levels[0].voxels
    channels = finest.shape[0] if len(finest.shape) > grid.ndim else None
    kind = kind_of(name, finest.dtype, channels, grid.ndim)
    if kind == "labels" and finest.dtype.kind == "i":
        for region in sample_regions(grid.shape):
            check_not_negative(np.asarray(finest[region]), name)
    return Source(name, kind, grid, levels)


def _stored_levels(stored: StoredVolume) -> tuple[Level, ...]:
    """A stored volume and its coarser levels, as far as their voxels are made of whole ones."""
    levels = [Level((1,) * stored.grid.ndim, stored)]
    for number in range(1, 32):
        try:
            level = open_stored(stored.path, level=number)
        except ValueError:
            # There is no further one.
            break
        ratios = np.divide(level.grid.voxel_size, stored.grid.voxel_size)
        beside = np.abs(np.subtract(level.grid.offset, stored.grid.offset)) / stored.grid.voxel_size
        if np.allclose(ratios, np.rint(ratios), atol=TOLERANCE) and (beside < TOLERANCE).all():
            levels.append(Level(tuple(round(r) for r in ratios.tolist()), level))
    return tuple(levels)


def _averaged(voxels: np.ndarray, factors: tuple[int, ...]) -> np.ndarray:
    """Means of boxes of voxels; at the far faces, of what there is of them."""
    for axis, factor in enumerate(factors):
        if factor > 1:
            starts = np.arange(0, voxels.shape[axis], factor)
            sizes = np.diff(np.append(starts, voxels.shape[axis]))
            sums = np.add.reduceat(voxels, starts, axis=axis, dtype=np.float32)
            voxels = sums / sizes.reshape([-1 if i == axis else 1 for i in range(voxels.ndim)])
    return voxels
