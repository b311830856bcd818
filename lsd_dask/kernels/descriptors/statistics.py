"""From the moments of a label around its voxels to its shape descriptors."""

from typing import Any, NamedTuple

import numpy as np

from ..compiling import inner_device
from .labels import Lattice
from .lanes import LANES, fill, largest, load, multiply_add, smallest, square_root, store, where_greater

#: A second moment's share that float32 sums cannot tell from zero.
_NOISE = np.float32(2.0**-19)


class Scaling(NamedTuple):
    """How moments in samples become descriptors in [0, 1].

    Attributes
    ----------
    unit
        Spacing of the samples along z, y and x, in sigmas.
    offset
        What an offset of one sigma adds to 0.5.
    floor
        The least variance along z, y and x, in squared sigmas.
    origin
        Index of the first sample along z, y and x, counted from the volume's first one.
    """

    unit: tuple[float, float, float]
    offset: float
    floor: tuple[float, float, float]
    origin: tuple[int, int, int]


class Target(NamedTuple):
    """The voxels to describe, and where their descriptors go.

    Attributes
    ----------
    numbers
        Label numbers of all voxels, flat, on the lattice.
    channels
        The descriptors wanted: 0-2 mean offset z, y, x; 3-5 variance; 6-8 Pearson zy, zx, yx; 9 size.
    out
        Flat; one value for each channel and voxel of the lattice's core.
    """

    lattice: Lattice
    scaling: Scaling
    numbers: np.ndarray
    channels: np.ndarray
    out: np.ndarray


@inner_device
def place_unreached(moments: np.ndarray, scaling: Scaling, sample: tuple[int, int, int]) -> None:
    """Where the sum of weights is 0, put one sample of weight 1 at the volume's first sample.

    Nothing of the label is in reach there, which takes sub-sampling. The reference implementation then has
    the mean position at the volume's first sample and a size of 1.
    """
    for lane in range(LANES):
        if moments[lane] != 0:
            continue
        moments[lane] = 1
        z = -np.float32(scaling.origin[0] + sample[0])
        y = -np.float32(scaling.origin[1] + sample[1])
        x = -np.float32(scaling.origin[2] + sample[2] + lane)
        for i, moment in enumerate((z, y, x, z * z, y * y, x * x, z * y, z * x, y * x)):
            moments[(1 + i) * LANES + lane] = moment


@inner_device
def moments_to_descriptors(moments: np.ndarray, at: int, stride: int, scaling: Scaling) -> None:
    """Turn sums of 1, z, y, x, zz, yy, xx, zy, zx, yx in place into descriptors, in the channels' order.

    There are eight of each kind, the first ones from `at` on, the next ones `stride` after them, and so on.
    """
    unit_z = fill(np.float32(scaling.unit[0]))
    unit_y = fill(np.float32(scaling.unit[1]))
    unit_x = fill(np.float32(scaling.unit[2]))
    size = load(moments, at)
    one = fill(np.float32(1))
    share = one / size
    z = load(moments, at + stride) * share
    y = load(moments, at + 2 * stride) * share
    x = load(moments, at + 3 * stride) * share
    zz = _central(load(moments, at + 4 * stride) * share, z)
    yy = _central(load(moments, at + 5 * stride) * share, y)
    xx = _central(load(moments, at + 6 * stride) * share, x)
    zy = (load(moments, at + 7 * stride) * share - z * y) * unit_z * unit_y
    zx = (load(moments, at + 8 * stride) * share - z * x) * unit_z * unit_x
    yx = (load(moments, at + 9 * stride) * share - y * x) * unit_y * unit_x
    zero = fill(np.float32(0))
    zy = where_greater(zz * yy, zero, zy, zero)
    zx = where_greater(zz * xx, zero, zx, zero)
    yx = where_greater(yy * xx, zero, yx, zero)
    zz = largest(zz * unit_z * unit_z, fill(np.float32(scaling.floor[0])))
    yy = largest(yy * unit_y * unit_y, fill(np.float32(scaling.floor[1])))
    xx = largest(xx * unit_x * unit_x, fill(np.float32(scaling.floor[2])))
    half = fill(np.float32(0.5))
    gain = fill(np.float32(scaling.offset))
    store(moments, at, _clipped(multiply_add(z * unit_z, gain, half)))
    store(moments, at + stride, _clipped(multiply_add(y * unit_y, gain, half)))
    store(moments, at + 2 * stride, _clipped(multiply_add(x * unit_x, gain, half)))
    store(moments, at + 3 * stride, smallest(zz, one))
    store(moments, at + 4 * stride, smallest(yy, one))
    store(moments, at + 5 * stride, smallest(xx, one))
    store(moments, at + 6 * stride, _clipped(multiply_add(zy / square_root(zz * yy), half, half)))
    store(moments, at + 7 * stride, _clipped(multiply_add(zx / square_root(zz * xx), half, half)))
    store(moments, at + 8 * stride, _clipped(multiply_add(yx / square_root(yy * xx), half, half)))
    store(moments, at + 9 * stride, smallest(size, one))


@inner_device
def _central(second: Any, mean: Any) -> Any:
    """Variance from the second moment and the mean; 0 where the difference is rounding noise."""
    difference = second - mean * mean
    return where_greater(difference, second * fill(_NOISE), difference, fill(np.float32(0)))


@inner_device
def _clipped(value: Any) -> Any:
    return smallest(largest(value, fill(np.float32(0))), fill(np.float32(1)))
