"""A small volume of synthetic neuropil, made once, for the tests of whole steps."""

import functools

import numpy as np
import xarray as xr

from lsd_dask import synthetic

#: Voxels of 16 nm, so that there are a hundred neurites in few voxels; no multiple of any block.
SHAPE, VOXEL_SIZE = (64, 72, 88), (16.0, 16.0, 16.0)


@functools.cache
def tissue() -> xr.Dataset:
    """Labels and affinities (uint8), in memory."""
    volume = synthetic.neuropil(SHAPE, voxel_size=VOXEL_SIZE, chunks=88)[["labels", "affinities"]]
    return volume.compute(scheduler="synchronous")


@functools.cache
def image() -> tuple[np.ndarray, np.ndarray]:
    """Labels and affinities of one section of the same: 2-D, ``(y, x)`` and ``(channel, y, x)``."""
    volume = tissue().isel(z=20)
    return volume.labels.values, np.ascontiguousarray(volume.affinities.values[1:])
