"""From the moments of a label around its voxels to its shape descriptors."""

from typing import Any, NamedTuple

import numpy as np

from .compiling import device
from .descriptor_labels import CELLS, Cells, Lattice, corner_of_column, voxels_of_cell
from .descriptor_lanes import (
    LANES,
    fill,
    largest,
    load,
    multiply_add,
    smallest,
    square_root,
    store,
    where_greater,
)

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


@device
def finish_cell(
    target: Target, z: int, y: int, x: int, moments: np.ndarray, descriptors: np.ndarray, at: int
) -> None:
    """Turn the moments of the cell at sample (z, y, x) into the descriptors wanted, ``descriptors[at:]``.

    Where nothing of the label is in reach (which takes sub-sampling), the mean position counts as the
    volume's first sample and the size as 1, as in the reference implementation.
    """
    if target.lattice.step > 1:
        _place_unreached(moments, target.scaling, (z, y, x))
    _moments_to_descriptors(moments, target.scaling)
    channels = target.channels
    for c in range(channels.size):
        store(descriptors, at + c * LANES, load(moments, channels[c] * LANES))


@device
def write_column(target: Target, cells: Cells, column: int, descriptors: np.ndarray, row: np.ndarray) -> None:
    """Write the descriptors of a column's cells, which are in their order, to the voxels they stand for.

    `row` is room for the descriptors of a row of voxels of one cell.
    """
    lattice, numbers, out = target.lattice, target.numbers, target.out
    cell_label, cell_z, cell_place, starts = cells.label, cells.z, cells.place, cells.starts
    channels = target.channels.size
    width = LANES * lattice.step
    y0, x0 = corner_of_column(lattice, column)
    for cell in range(starts[column], starts[column + 1]):
        label = cell_label[cell]
        y = y0 + cell_place[cell] // CELLS
        x = x0 + cell_place[cell] % CELLS * LANES
        voxel_z, voxel_y, voxel_x = voxels_of_cell(lattice, cell_z[cell], y, x)
        values = descriptors
        first = (cell - starts[column]) * channels * LANES
        if lattice.step > 1:
            _repeat(descriptors, first, lattice.step, row)
            values = row
            first = 0
        first -= lattice.phase[2] + lattice.step * x
        for i in range(voxel_z[0], voxel_z[1]):
            for j in range(voxel_y[0], voxel_y[1]):
                at, out_at, channel_size = _addresses(lattice, i, j)
                begin = voxel_x[0]
                while begin < voxel_x[1]:
                    if numbers[at + begin] != label:
                        begin += 1
                        continue
                    end = begin + 1
                    while end < voxel_x[1] and numbers[at + end] == label:
                        end += 1
                    source = first + begin
                    _copy(values, source, width, out, out_at + begin, channel_size, end - begin, channels)
                    begin = end


@device
def _addresses(lattice: Lattice, z: int, y: int) -> tuple[int, int, int]:
    """Where voxel (z, y, 0) is in the flat label numbers and in a channel of the output; a channel's size."""
    begin_z, begin_y, begin_x = lattice.core_begin
    end_z, end_y, end_x = lattice.core_end
    row = (z * lattice.shape[1] + y) * lattice.shape[2]
    out_row = ((z - begin_z) * (end_y - begin_y) + y - begin_y) * (end_x - begin_x) - begin_x
    return row, out_row, (end_z - begin_z) * (end_y - begin_y) * (end_x - begin_x)


@device
def _copy(
    source: np.ndarray,
    first: int,
    source_stride: int,
    target: np.ndarray,
    at: int,
    target_stride: int,
    count: int,
    channels: int,
) -> None:
    """Copy `count` values of each channel, from ``source[first]`` and on to ``target[at]`` and on."""
    for _ in range(channels):
        done = 0
        while done + LANES <= count:
            store(target, at + done, load(source, first + done))
            done += LANES
        while done < count:
            target[at + done] = source[first + done]
            done += 1
        first += source_stride
        at += target_stride


@device
def _repeat(values: np.ndarray, first: int, times: int, repeated: np.ndarray) -> None:
    """Fill `repeated` with the values from ``values[first]`` on, each of them `times` times in a row."""
    for i in range(repeated.size // times):
        for j in range(times):
            repeated[i * times + j] = values[first + i]


@device
def _place_unreached(moments: np.ndarray, scaling: Scaling, sample: tuple[int, int, int]) -> None:
    """Where the sum of weights is 0, put one sample of weight 1 at the volume's first sample."""
    for lane in range(LANES):
        if moments[lane] != 0:
            continue
        moments[lane] = 1
        z = -np.float32(scaling.origin[0] + sample[0])
        y = -np.float32(scaling.origin[1] + sample[1])
        x = -np.float32(scaling.origin[2] + sample[2] + lane)
        for i, moment in enumerate((z, y, x, z * z, y * y, x * x, z * y, z * x, y * x)):
            moments[(1 + i) * LANES + lane] = moment


@device
def _moments_to_descriptors(moments: np.ndarray, scaling: Scaling) -> None:
    """Turn sums of 1, z, y, x, zz, yy, xx, zy, zx, yx in place into descriptors, in the channels' order."""
    unit_z = fill(np.float32(scaling.unit[0]))
    unit_y = fill(np.float32(scaling.unit[1]))
    unit_x = fill(np.float32(scaling.unit[2]))
    size = load(moments, 0)
    one = fill(np.float32(1))
    share = one / size
    z = load(moments, LANES) * share
    y = load(moments, 2 * LANES) * share
    x = load(moments, 3 * LANES) * share
    zz = _central(load(moments, 4 * LANES) * share, z)
    yy = _central(load(moments, 5 * LANES) * share, y)
    xx = _central(load(moments, 6 * LANES) * share, x)
    zy = (load(moments, 7 * LANES) * share - z * y) * unit_z * unit_y
    zx = (load(moments, 8 * LANES) * share - z * x) * unit_z * unit_x
    yx = (load(moments, 9 * LANES) * share - y * x) * unit_y * unit_x
    zero = fill(np.float32(0))
    zy = where_greater(zz * yy, zero, zy, zero)
    zx = where_greater(zz * xx, zero, zx, zero)
    yx = where_greater(yy * xx, zero, yx, zero)
    zz = largest(zz * unit_z * unit_z, fill(np.float32(scaling.floor[0])))
    yy = largest(yy * unit_y * unit_y, fill(np.float32(scaling.floor[1])))
    xx = largest(xx * unit_x * unit_x, fill(np.float32(scaling.floor[2])))
    half = fill(np.float32(0.5))
    gain = fill(np.float32(scaling.offset))
    store(moments, 0, _clipped(multiply_add(z * unit_z, gain, half)))
    store(moments, LANES, _clipped(multiply_add(y * unit_y, gain, half)))
    store(moments, 2 * LANES, _clipped(multiply_add(x * unit_x, gain, half)))
    store(moments, 3 * LANES, smallest(zz, one))
    store(moments, 4 * LANES, smallest(yy, one))
    store(moments, 5 * LANES, smallest(xx, one))
    store(moments, 6 * LANES, _clipped(multiply_add(zy / square_root(zz * yy), half, half)))
    store(moments, 7 * LANES, _clipped(multiply_add(zx / square_root(zz * xx), half, half)))
    store(moments, 8 * LANES, _clipped(multiply_add(yx / square_root(yy * xx), half, half)))
    store(moments, 9 * LANES, smallest(size, one))


@device
def _central(second: Any, mean: Any) -> Any:
    """Variance from the second moment and the mean; 0 where the difference is rounding noise."""
    difference = second - mean * mean
    return where_greater(difference, second * fill(_NOISE), difference, fill(np.float32(0)))


@device
def _clipped(value: Any) -> Any:
    return smallest(largest(value, fill(np.float32(0))), fill(np.float32(1)))
