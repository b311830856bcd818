"""Masks of any coarser resolution, brought to the voxels of another volume."""

from collections.abc import Sequence
from dataclasses import dataclass

import dask.array as da
import numpy as np
import xarray as xr

from ..checks.arguments import check_array, naming
from ..space.grids import Grid, Region
from .dask_arrays import Volume
from .overlap import Reader
from .saving import grid_of
from .voxel_values import as_mask, check_mask_type


@dataclass(frozen=True)
class MaskReader:
    """Reads a mask at the resolution of another volume; outside of its own box the mask is False.

    Attributes
    ----------
    mask
        Reader of the mask.
    mask_grid, grid
        Where the mask and the other volume lie in the world.
    """

    mask: Reader
    mask_grid: Grid
    grid: Grid

    @property
    def shape(self) -> tuple[int, ...]:
        """Spatial shape of the other volume, in voxels."""
        return self.grid.shape

    @property
    def origin(self) -> tuple[int, ...]:
        """The mask is not known to be cropped."""
        return (0,) * len(self.grid.shape)

    def read(self, region: Region) -> np.ndarray:
        """Boolean mask of a region of the other volume."""
        indices = _nearest(self.mask_grid, self.grid, region)
        covered = [(i >= 0) & (i < n) for i, n in zip(indices, self.mask_grid.shape, strict=True)]
        out = np.zeros([len(i) for i in indices], bool)
        if not all(c.any() for c in covered):
            return out
        inner = [i[c] for i, c in zip(indices, covered, strict=True)]
        values = self.mask.read(tuple(slice(int(i.min()), int(i.max()) + 1) for i in inner))
        out[np.ix_(*covered)] = as_mask(values, "mask")[np.ix_(*(i - i.min() for i in inner))]
        return out


def align_mask(mask: Volume, grid: Grid) -> np.ndarray | da.Array:
    """A mask at the resolution of a volume.

    Parameters
    ----------
    mask
        ``(z, y, x)`` or ``(y, x)``, False where it is 0. A DataArray is placed by its coordinates; a bare
        array is taken to cover the same box as the volume, so that its voxels are
        ``ceil(shape / mask shape)`` voxels wide.
    grid
        Where the volume lies.

    Returns
    -------
    mask
        Boolean, of the volume's shape; a dask array if the mask is lazy, else a NumPy array.

    Raises
    ------
    TypeError
        If the mask is no array of booleans or numbers.
    ValueError
        If a mask holds NaN, a bare array's shape does not fit into the volume's, or a DataArray has other
        axes or does not cover the volume.

    Examples
    --------
    >>> grid = Grid(("y", "x"), (2, 5), voxel_size=(1, 1), offset=(0, 0))
    >>> align_mask(np.array([[0, 1, 1]]), grid).astype(int)
    array([[0, 0, 1, 1, 1],
           [0, 0, 1, 1, 1]])
    """
    check_array(mask, "mask")
    check_mask_type(mask.dtype, "mask")
    if isinstance(mask, xr.DataArray):
        if mask.dims != grid.dims:
            found = ", ".join(map(str, mask.dims))
            raise ValueError(f"The mask has the axes ({found}), expected ({', '.join(grid.dims)}).")
        with naming("mask"):
            mask_grid = grid_of(mask).in_units_of(grid)
        array = mask.data
    else:
        mask_grid = _covering(mask.shape, grid)
        array = mask
    indices = _nearest(mask_grid, grid, tuple(slice(0, n) for n in grid.shape))
    for axis, (index, n) in enumerate(zip(indices, mask_grid.shape, strict=True)):
        if index[0] < 0 or index[-1] >= n:
            raise ValueError(
                f"The mask does not cover the volume along {grid.dims[axis]}: it spans "
                f"{mask_grid.offset[axis]:g} to {mask_grid.end[axis]:g}, "
                f"the volume {grid.offset[axis]:g} to {grid.end[axis]:g} {grid.units}."
            )
        if not np.array_equal(index, np.arange(n)):
            array = (np if isinstance(array, np.ndarray) else da).take(array, index, axis)
    if isinstance(array, da.Array):
        return da.map_blocks(as_mask, array, "mask", dtype=bool)
    return as_mask(array, "mask")


def _covering(mask_shape: Sequence[int], grid: Grid) -> Grid:
    if len(mask_shape) != len(grid.shape):
        raise ValueError(
            f"A mask of shape {tuple(mask_shape)} was found for a volume of shape {grid.shape}, "
            "expected as many axes."
        )
    if 0 in mask_shape:
        raise ValueError(f"A mask of shape {tuple(mask_shape)} was found, expected at least one voxel.")
    factors = [-(-n // m) for n, m in zip(grid.shape, mask_shape, strict=True)]
    if any((m - 1) * f >= n for n, m, f in zip(grid.shape, mask_shape, factors, strict=True)):
        raise ValueError(
            f"A mask of shape {tuple(mask_shape)} does not fit a volume of shape {grid.shape}: expected each "
            "axis to be the volume's divided by a whole number, rounded up. Pass a DataArray to place it by "
            "coordinates."
        )
    voxel_size = tuple(v * f for v, f in zip(grid.voxel_size, factors, strict=True))
    return Grid(grid.dims, tuple(mask_shape), voxel_size, grid.offset, grid.units)


def _nearest(mask_grid: Grid, grid: Grid, region: Region) -> list[np.ndarray]:
    """Index, along each axis, of the mask voxel that holds the centre of each voxel of a region.

    For example voxels 0 ... 3 of size 1 in a mask of size 2 give [0, 0, 1, 1].
    """
    mask_grid = mask_grid.in_units_of(grid)
    indices = []
    for axis, s in enumerate(region):
        centres = grid.offset[axis] + (np.arange(s.start, s.stop) + 0.5) * grid.voxel_size[axis]
        steps = (centres - mask_grid.offset[axis]) / mask_grid.voxel_size[axis]
        indices.append(np.floor(steps + 1e-6).astype(np.int64))
    return indices
